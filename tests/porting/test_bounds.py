"""Porting judges by the bounds of `polylogit._spec`, read off the outputs in place of exact values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit._spec import bounds
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.exact import Elements, Rows
from polylogit._spec.formulas import FORMULAS
from polylogit.porting._diagnosis.agreement import BOTH_SIDES, OutputRows, Precision, agreement

FLOAT32 = Precision.of("float32")
X = 3 * np.random.default_rng(0).standard_normal((7, 4, 11))
G = np.random.default_rng(1).standard_normal(X.shape)


@pytest.mark.parametrize(
    ("operation", "value", "vjp"),
    [
        ("softmax", bounds.softmax, bounds.softmax_first),
        ("log_softmax", bounds.log_softmax, bounds.log_softmax_vjp),
        ("sigmoid", bounds.sigmoid, bounds.sigmoid_first),
    ],
)
def test_a_pair_may_be_twice_the_bound_apart(operation: str, value: Any, vjp: Any) -> None:
    axes = () if operation == "sigmoid" else (1,)
    rows = np.moveaxis(X, 1, -1)
    exact = (Rows if axes else Elements)(rows)
    found = OutputRows(FORMULAS[operation].value(X, (1,)), axes, logarithms=operation == "log_softmax")
    # A power of two more or less where the last bit decides in which binade a probability lies.
    expected = BOTH_SIDES * np.moveaxis(value(exact, FLOAT32.dtype), -1, 1)
    np.testing.assert_allclose(found.bound(value, FLOAT32), expected, rtol=1e-9)
    expected = BOTH_SIDES * np.moveaxis(vjp(exact, FLOAT32.dtype, np.moveaxis(G, 1, -1)), -1, 1)
    np.testing.assert_allclose(found.bound(vjp, FLOAT32, G), expected, rtol=1e-9)


def test_several_axes_are_one_row() -> None:
    y = FORMULAS["softmax"].value(X, (0, 2))
    flat = np.moveaxis(y, 1, 0).reshape(4, -1)
    expected = OutputRows(flat, (1,)).bound(bounds.softmax, FLOAT32)
    found = OutputRows(y, (0, 2)).bound(bounds.softmax, FLOAT32)
    np.testing.assert_array_equal(np.moveaxis(found, 1, 0).reshape(4, -1), expected)


@pytest.mark.parametrize("beyond", [False, True])
def test_one_entry_beyond_the_bound_is_seen(beyond: bool) -> None:
    # Among so many entries that one is an outlier, and so no noise.
    y = FORMULAS["softmax"].value(5 * np.random.default_rng(2).standard_normal((7, 40, 11)), (1,))
    other = y.copy()
    place = np.unravel_index(np.argmin(y), y.shape)
    other[place] += (1.01 if beyond else 0.99) * OutputRows(y, (1,)).bound(bounds.softmax, FLOAT32)[place]
    found = agreement(y, other, "relative", FLOAT32, (1,))
    assert found.agrees != beyond


def test_the_precision_is_that_of_the_coarser_dtype_and_float64_is_no_finer_than_float32() -> None:
    assert Precision.of("float64", "float64").dtype is DTYPES["float32"]
    assert Precision.of("float64", "bfloat16").dtype is DTYPES["bfloat16"]
    assert Precision.of("float32", "int64").dtype is DTYPES["float32"]
    mixed = Precision.of("float16", "bfloat16")
    assert (mixed.dtype, mixed.floor) == (DTYPES["bfloat16"], DTYPES["float16"].smallest_normal)
    assert mixed.slack == 1.0


@pytest.mark.parametrize("operation", list(FORMULAS))
def test_the_plain_formulas_are_those_of_the_library(operation: str) -> None:
    function = getattr(polylogit, operation)
    keywords = {} if operation == "sigmoid" else {"axis": (0, 2)}
    y, pullback = polylogit.vjp(function, X, **keywords)
    np.testing.assert_allclose(FORMULAS[operation].value(X, (0, 2)), y, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(FORMULAS[operation].pullback(y, G, (0, 2)), pullback(G), rtol=1e-10, atol=1e-15)


def test_masked_rows_stay_masked_in_the_plain_formulas() -> None:
    x = np.array([[-np.inf, 0.0], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(FORMULAS["log_softmax"].value(x, (1,)), [[-np.inf, 0.0], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(FORMULAS["softmax"].value(x, (1,)), [[0.0, 1.0], [0.0, 0.0]])
