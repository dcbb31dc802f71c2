"""The judge of split arrays finds what goes wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit import conformance, errors
from polylogit.conformance._sharded.cases import Outcome, Question, judged, questions
from polylogit.conformance._sharded.launch import ENGINES, split_subject

SHORT = Question("softmax", "values", "short", shape=(4, 64))


def answered(question: Question, **said: Any) -> Outcome:
    """As NumPy answers, of the whole array."""
    x, mask, direction = question.arrays()
    function = getattr(polylogit, question.operation)
    x = x.astype(question.dtype)
    options = {"axis": question.axis, "where": mask}
    if question.check == "values":
        y = function(x, **options)
    else:
        slopes = polylogit.vjp(function, x, **options)[1]
        direction = direction.astype(question.dtype)
        if mask is not None:
            direction = np.where(mask, direction, 0)
        y = slopes(direction) if question.check == "vjp" else polylogit.jvp(function, x, direction, **options)[1]
        y = y if mask is None else np.where(mask, y, 0)
    return Outcome(y.astype(np.float64), y.dtype.name, **{"kept": True, **said})


@pytest.mark.parametrize(
    "question",
    [one for one in questions(1) if one.dtype == "float32" and not one.large],
    ids=lambda one: f"{one.operation}, {one.check} {one.case}",
)
def test_what_is_right_passes(question: Question) -> None:
    found = judged(question, answered(question, exchanged=0))
    assert found.verdict == "passed", found.message


@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
def test_the_part_in_the_place_of_the_whole_fails(operation: str) -> None:
    question = replace(SHORT, operation=operation)
    x, _, _ = question.arrays()
    halves = [getattr(polylogit, operation)(half.astype(np.float32)) for half in np.split(x, 2, 1)]
    found = judged(question, Outcome(np.concatenate(halves, 1).astype(np.float64), "float32", kept=True))
    assert found.verdict == "failed"
    assert found.error is not None
    assert found.error > 100


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kept": False}, "not split as the logits are"),
        ({"exchanged": 4 * 64 * 4}, "a rank sent 1,024 bytes; 96 are enough"),
        ({"wrong": "the program has an all-gather"}, "all-gather"),
    ],
)
def test_what_is_moved_about_fails(said: dict[str, Any], message: str) -> None:
    found = judged(SHORT, answered(SHORT, **said))
    assert found.verdict == "failed"
    assert message in found.message


def test_a_row_that_is_whole_may_cost_nothing() -> None:
    question = replace(SHORT, split=(0,))
    assert judged(question, answered(question, exchanged=4)).verdict == "failed"


def test_what_engines_there_are() -> None:
    assert set(ENGINES) == {"jax", "tensorflow", "torch"}
    with pytest.raises(errors.UnknownBackendError, match="those that do are jax, tensorflow, torch"):
        conformance.sharded(["numpy"])


def test_one_part_is_none() -> None:
    with pytest.raises(errors.ConformanceError, match="two parts or more"):
        conformance.sharded(parts=(1,))


def test_the_subject_of_a_result_can_be_asked_again() -> None:
    assert split_subject("torch+2 parts") == ("torch", 2)
    assert split_subject("numpy+kernels:softmax") is None
