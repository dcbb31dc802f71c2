"""Diagnosis: every named fault is named, no other name is given, and no correct port is accused.

The pairs come from `harness.py`, which makes them without polylogit; run that file for larger figures.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polylogit.porting import compare
from polylogit.porting._diagnosis.faults import FAULTS, GRADIENT_FAULTS
from polylogit.porting._diagnosis.faults.fault import recognize


def sibling(name: str) -> Any:
    """A module of this folder, whatever the way in which pytest imports tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


harness = sibling("harness")


@pytest.mark.parametrize("fault", harness.FAULTS)
def test_each_fault_is_named_and_never_by_another_name(fault: str) -> None:
    found = harness.run(25, seed=11, only=fault)
    counts = found["counts"]
    assert counts["wrong"] == 0, found["failures"]
    assert counts["passed"] == 0, found["failures"]
    # Negating two logits is the same as swapping them: with two classes nobody can tell which it was.
    tolerated = 6 if fault == "negated-logits" else 2
    assert counts["right"] >= 25 - tolerated, found["failures"]


def test_all_faults_together_are_named_in_at_least_97_percent() -> None:
    found = harness.run(6, seed=5)
    counts = found["counts"]
    total = sum(counts[name] for name in ("right", "unknown", "wrong", "passed"))
    assert counts["right"] >= 0.97 * total, found["failures"]
    assert counts["wrong"] == 0
    assert counts["passed"] == 0
    assert counts["two faults: WRONG"] == 0
    assert counts["two faults: passed"] == 0
    assert counts["unrelated: WRONG"] == 0
    assert counts["unrelated: passed"] == 0
    assert counts["correct: ACCUSED"] == 0


def test_every_fault_has_a_sentence_and_a_fix() -> None:
    gradients = {"gradient-scale", "gradient-missing", "gradient-masked-nan", "wrong-backward"}
    assert {name.split()[0] for name in harness.FAULTS} <= set(FAULTS)
    assert gradients == set(GRADIENT_FAULTS)
    for fault in (*FAULTS.values(), *GRADIENT_FAULTS.values()):
        assert fault.explanation.endswith((".", "}."))
        assert fault.fix


def test_a_diagnosis_shows_its_evidence() -> None:
    x = harness.draw(np.random.default_rng(0), (16, 10), 2.0)
    cause = compare(harness.softmax(x), harness.softmax(x / np.float32(8))).cause
    assert cause is not None
    assert cause.name == "scaled-logits"
    assert cause.parameters["factor"] == pytest.approx(1 / 8, rel=1e-5)
    assert "1/sqrt(64)" in cause.explanation
    assert cause.fix == "x = x / 0.125"
    assert cause.residual < 1e-6 < 0.1 < cause.difference
    assert cause.runner_up is not None
    assert cause.runner_up.residual > 100 * cause.residual


def test_a_recovered_bias_is_the_bias() -> None:
    rng = np.random.default_rng(1)
    x, bias = harness.draw(rng, (32, 6), 2.0), harness.draw(rng, (6,), 1.0)
    cause = compare(harness.sigmoid(x + bias), harness.sigmoid(x)).cause
    assert cause is not None
    np.testing.assert_allclose(cause.parameters["bias"], bias, rtol=1e-3, atol=1e-4)


def test_a_recovered_permutation_mends_the_candidate() -> None:
    rng = np.random.default_rng(2)
    p = harness.softmax(harness.draw(rng, (9, 12), 2.0))
    order = rng.permutation(12)
    cause = compare(p, p[:, order]).cause
    assert cause is not None
    mended = eval(cause.fix.removeprefix("p = "), {"np": np, "p": p[:, order]})
    np.testing.assert_array_equal(mended, p)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.25, "2**-2"), (1 / np.sqrt(48), "1/sqrt(48)"), (np.sqrt(50), "sqrt(50)"), (0.777, ""), (8.0, "2**3")],
)
def test_factors_are_recognised(factor: float, words: str) -> None:
    assert words in recognize(factor, 1e-7)
    assert recognize(0.777, 1e-7) == ""


def test_a_factor_that_is_not_known_well_enough_is_not_called_a_square_root() -> None:
    assert "sqrt" not in recognize(1 / np.sqrt(5000), 1e-4)


def test_two_classes_swapped_or_negated_is_said_to_be_undecidable() -> None:
    x = harness.draw(np.random.default_rng(3), (20, 2), 1.0)
    cause = compare(harness.softmax(x), harness.softmax(-x)).cause
    assert cause is not None
    assert cause.name == "unknown"
    assert "class-permutation" in cause.explanation
    assert "negated-logits" in cause.explanation
