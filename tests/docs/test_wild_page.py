"""The page of what the kit says of others: made from what was stored, and its program says the same of SciPy again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mpmath
import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    """A module of tools, which is no package."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


adapters, findings, wild, page = (tool(name) for name in ("wild_adapters", "wild_findings", "wild", "wild_page"))
STORED = json.loads(page.STORED.read_text())
BY_NAME = {one.name: one for one in findings.FINDINGS}


def test_the_page_is_made_from_what_was_stored() -> None:
    text = page.PAGE.read_text()
    assert text == page.page(text, STORED), "run python tools/wild_page.py"


def test_every_implementation_was_run_or_is_missing() -> None:
    assert set(STORED["implementations"]) == set(adapters.ADAPTERS)
    for one in STORED["implementations"].values():
        assert one.get("verdicts") or one.get("missing") or one.get("ended")


def test_every_finding_was_shown_to_hold() -> None:
    assert {name for name, one in STORED["findings"].items() if one["holds"]} == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_lines_of_a_finding_need_nobody_but_its_authors(name: str) -> None:
    code = BY_NAME[name].code
    assert "polylogit" not in code
    assert len(code.splitlines()) <= 4
    compile(code, name, "exec")


def test_a_right_implementation_passes_and_is_told_so() -> None:
    found = wild.run(adapters.ADAPTERS["scipy.special.expit"])
    assert set(found["verdicts"]) <= {"passed", "unsupported"}
    assert found["versions"]["scipy"]


def test_unsigned_logits_are_found_in_scipy_and_verified() -> None:
    found = wild.shown(BY_NAME["SciPy: unsigned logits wrap"])
    assert found["holds"]
    assert "nan" in found["printed"]


def test_what_is_not_installed_is_said_to_be_missing() -> None:
    adapter = adapters.Adapter("none", ("no-such-package",), "softmax", "numpy", lambda: np.exp)
    assert wild.run(adapter)["missing"] == ["no-such-package"]


@pytest.mark.parametrize("name", [one.name for one in findings.FINDINGS if not one.crashes])
def test_no_finding_holds_against_what_is_exact(name: str) -> None:
    finding = BY_NAME[name]
    values, _ = findings.exact(finding, 3)
    dtype = {"float64": np.float64}.get(finding.dtype, np.float32)
    right = [float(dtype(float(value))) if mpmath.isfinite(value) else float(value) for value in values]
    assert not findings.judged(finding, right)["holds"]
