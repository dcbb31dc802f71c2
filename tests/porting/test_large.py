"""Large arrays: what agrees is seen piece by piece, and what hides in noise is found in some of the rows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from polylogit.porting import compare

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((8, 125, 600)).astype(np.float32)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WEIGHTS = softmax(HIDDEN)


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS, np.log(WEIGHTS)])
def test_last_digits_agree(values: Any) -> None:
    found = compare(values, np.nextafter(values, np.float32(np.inf)))
    assert found.agrees
    assert 0 < found.activations[0].verdict.agreement.peak < 1.2e-7


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS])
def test_one_wrong_entry_is_not_overlooked(values: Any) -> None:
    wrong = values.copy()
    wrong[3, 7, 9] *= 1.01
    assert not compare(values, wrong).agrees


def test_a_constant_is_inconclusive() -> None:
    constant = np.full((300, 300), 0.25, np.float32)
    assert compare(constant, constant.copy()).status == "inconclusive"


def test_a_fault_that_hides_in_noise_is_found_in_some_of_the_rows() -> None:
    noise = 1 + 2e-6 * RNG.standard_normal(HIDDEN.shape)
    e = np.exp(HIDDEN - HIDDEN.max(-1, keepdims=True))
    found = compare(WEIGHTS, (e / (e.sum(-1, keepdims=True) + 1e-3) * noise).astype(np.float32))
    assert found.cause is not None
    assert found.cause.name == "epsilon-in-denominator"
    assert compare(WEIGHTS, (WEIGHTS * noise).astype(np.float32)).agrees


def test_arrays_that_agree_take_no_memory_of_their_own_size() -> None:
    other = HIDDEN.copy()
    tracemalloc.start()
    compare({"a": HIDDEN, "b": WEIGHTS}, {"a": other, "b": WEIGHTS.copy()})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < WEIGHTS.nbytes + 2 * HIDDEN.nbytes
