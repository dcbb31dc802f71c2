"""The table that compares libraries shows what was found, and what was found is found again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("why_not", ROOT / "tools" / "why_not.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["why_not"] = module
    specification.loader.exec_module(module)
    return module


why_not = tool()
STORED = json.loads(why_not.FOUND.read_text(encoding="utf-8"))
HERE = [name for name in why_not.LIBRARIES if name == "polylogit" or importlib.util.find_spec(name)]


def test_the_page_shows_what_was_found() -> None:
    text = why_not.PAGE.read_text(encoding="utf-8")
    assert why_not.table(STORED) in text, "run python tools/why_not.py --page"
    assert text == why_not.page(text, STORED)
    assert list(STORED["answers"]) == [question.words for question in why_not.QUESTIONS]
    assert f"same {len(why_not.QUESTIONS)} questions" in text


@pytest.mark.parametrize("name", HERE)
def test_a_library_answers_as_it_did(name: str) -> None:
    today = why_not.answers([name])
    for question in why_not.QUESTIONS:
        if name == "polylogit" or not question.kernel:
            assert today[question.words][name] == STORED["answers"][question.words][name], question.words


def test_polylogit_gives_no_wrong_number() -> None:
    ours = {answers["polylogit"] for answers in STORED["answers"].values()}
    assert ours == {"right", "refused", "missing"}


@pytest.mark.parametrize(("got", "verdict"), [([0.25, 0.75], "right"), ([0.25, np.nan], "wrong: [0.25, nan]")])
def test_an_answer_is_compared_with_the_exact_one(got: list[float], verdict: str) -> None:
    assert why_not.judged(np.array(got, dtype="float32"), [0.25, 0.75]) == verdict


def test_an_answer_just_beyond_the_bound_is_wrong() -> None:
    one = np.array([0.25], dtype="float32")
    step = np.spacing(one)
    assert why_not.judged(one + why_not.ULP * step, [0.25]) == "right"
    assert why_not.judged(one + (why_not.ULP + 1) * step, [0.25]).startswith("wrong")
