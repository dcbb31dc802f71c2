"""The page of audits says what was found, and what was found is found again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._audit import rules

ROOT = Path(__file__).resolve().parents[2]


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("audit_page", ROOT / "tools" / "audit_page.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["audit_page"] = module
    specification.loader.exec_module(module)
    return module


page = tool()
FOUND = json.loads(page.FOUND.read_text())


def found_of(test: Any) -> Any:
    (one,) = (one for one in FOUND if all(one[name] == getattr(test, name) for name in ("project", "what", "dtype")))
    return one


def test_the_table_is_made_from_what_was_found() -> None:
    text = page.PAGE.read_text()
    assert page.table(FOUND) in text, "run python tools/audit_page.py"
    assert text == page.page(text, FOUND)


def test_every_test_was_audited() -> None:
    assert len(FOUND) == len(page.TESTS)
    assert [found_of(test)["as_of"] for test in page.TESTS] == [test.as_of for test in page.TESTS]
    assert len({test.project for test in page.TESTS}) >= 8


# Those that take a second or two; the others take as long as their rows are.
SHORT = [test for test in page.TESTS if test.project in ("Megatron-LM", "Triton") or "longest" in test.what]


@pytest.mark.parametrize("test", SHORT, ids=lambda test: f"{test.project}-{test.dtype}")
def test_what_was_found_is_found_again(test: Any) -> None:
    found, before = page.figures(test), found_of(test)
    assert {name: passes(found[name]) for name in ("zeros", "constant", "input", "reordered")} == {
        name: passes(before[name]) for name in ("zeros", "constant", "input", "reordered")
    }
    assert {name: found[name] for name in ("hidden", "unseen", "accused")} == {
        name: before[name] for name in ("hidden", "unseen", "accused")
    }


def passes(margin: float | str) -> bool:
    return float(margin) <= 1


def test_what_the_page_leads_with_is_what_was_found() -> None:
    def rows(project: str, what: str) -> list[Any]:
        return [one for one in FOUND if one["project"] == project and one["what"].startswith(what)]

    assert all(passes(one["zeros"]) for one in rows("KernelBench", "softmax"))
    assert all(passes(one["zeros"]) for one in rows("BackendBench", "softmax"))
    assert all(passes(one["zeros"]) for one in rows("PaddleAPITest", "softmax"))
    sixteen = [one for one in rows("flash-attention", "cross-entropy") if one["dtype"] != "float32"]
    assert len(sixteen) == 2
    assert all(passes(one["zeros"]) for one in sixteen)
    narrow = [one for one in rows("KernelBench", "log_softmax") if one["dtype"] != "float32"]
    assert all(passes(one["constant"]) and not one["growing"] for one in narrow)


def test_a_loss_a_quarter_too_large_passes_where_it_is_rounded() -> None:
    (test,) = (test for test in page.TESTS if test.project == "Megatron-LM")
    terms = rules.Terms(test.atol, test.rtol, equal_nan=False, digits=0, dtype=DTYPES["float32"])
    losses = np.log(np.exp(np.arange(8.0)).sum() * 16) - np.arange(0.0, 8.0, 2.0)
    assert rules.margin(test.more["compare"], losses + 0.25, losses, terms) <= 1
    assert rules.margin(test.more["compare"], losses + 0.5, losses, terms) > 1
