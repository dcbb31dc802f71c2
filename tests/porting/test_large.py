"""Large arrays: what agrees is seen piece by piece, and what hides in noise is found in some of the rows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from polylogit.porting import compare
from polylogit.porting._diagnosis.glance import LARGE, glance

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((8, 125, 600)).astype(np.float32)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WEIGHTS = softmax(HIDDEN)


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS, np.log(WEIGHTS)])
def test_last_digits_agree_at_a_glance(values: Any) -> None:
    other = np.nextafter(values, np.float32(np.inf))
    seen = glance(values, other, 1e-38)
    assert seen is not None
    assert seen[0].agrees
    assert 0 < seen[0].peak < 1.2e-7
    assert compare(values, other).agrees


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS])
def test_one_wrong_entry_is_not_overlooked(values: Any) -> None:
    wrong = values.copy()
    wrong[3, 7, 9] *= 1.01
    assert glance(values, wrong, 1e-38) is None
    assert not compare(values, wrong).agrees


def test_what_is_small_or_not_finite_or_of_16_bits_is_looked_at_as_a_whole() -> None:
    small = HIDDEN.reshape(-1)[: LARGE - 1]
    broken = HIDDEN.copy()
    broken[0, 0, 0] = np.nan
    for values in (small, broken, HIDDEN.astype(np.float16)):
        assert glance(values, values.copy(), 1e-38) is None
    assert compare(broken, broken.copy()).agrees


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
