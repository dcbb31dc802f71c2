"""The reference is exact: against mpmath, written down as plainly as can be."""

import mpmath
import numpy as np
import pytest

from polylogit._spec import doubledouble as dd
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.exact import Rows
from polylogit._spec.operations import DEFINITIONS

from .witness import FORMULAS, rounded, truth

ROWS = {
    "moderate": [0.5, -3.25, 2.0, 1.0],
    "far apart": [0.0, -700.0, -30.0, 3.0],
    "shifted": [1e16, 1e16 - 4.0, 1e16 - 20.0],
    "one of two": [0.0, -60.0],
    "equal": [0.1] * 7,
    "alone": [-3.5],
    "lowest": [-1.7e308, -1.7e308],
}


def pair(value, at):
    return mpmath.mpf(float(value.hi[at])) + mpmath.mpf(float(value.lo[at]))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_values_agree_with_mpmath_to_the_certified_radius(name, row):
    operation = DEFINITIONS[name]
    value = operation.value(operation.exact(np.array([row])))
    for i in range(len(row)):
        with mpmath.workdps(80):
            exact = truth(operation.name, np.array(row), i)
            if exact < mpmath.mpf(2) ** -900 and name != "log_softmax":
                assert abs(pair(value, (0, i)) - exact) < 2.0**-1070
            else:
                assert abs(pair(value, (0, i)) - exact) <= abs(exact) * dd.RADIUS


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("kind", ["vjp", "jvp", "second"])
def test_derivatives_agree_with_differences_of_exact_values(name, kind):
    operation = DEFINITIONS[name]
    row, g, h = [0.3, -1.0, 2.5], [1.0, -2.0, 0.5], [0.25, 3.0, -1.0]
    directions = [np.array([g]), np.array([h])][: 2 if kind == "second" else 1]
    got = getattr(operation, kind).value(operation.exact(np.array([row])), *directions)
    with mpmath.workdps(80):
        step = mpmath.mpf(10) ** -30

        def value(x):
            return [FORMULAS[name](x, i) for i in range(3)]

        def loss(x):
            return mpmath.fsum(a * b for a, b in zip(g, value(x), strict=True))

        def moved(x, direction, size):
            return [a + size * b for a, b in zip(x, direction, strict=True)]

        def unit(i):
            return [1.0 if j == i else 0.0 for j in range(3)]

        def slope(f, x, direction):
            return (f(moved(x, direction, step)) - f(moved(x, direction, -step))) / (2 * step)

        x = [mpmath.mpf(v) for v in row]
        for i in range(3):
            if kind == "vjp":
                exact = slope(loss, x, unit(i))
            elif kind == "jvp":
                exact = slope(lambda y, i=i: value(y)[i], x, g)
            else:
                exact = slope(lambda y, i=i: slope(loss, y, unit(i)), x, h)
            assert abs(pair(got, (0, i)) - exact) < mpmath.mpf(10) ** -20


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_rounding_is_correct_and_asks_mpmath_only_where_it_must(dtype):
    x = dtype.round(np.random.default_rng(0).normal(size=(20, 5)) * 4)
    operation, asked = DEFINITIONS["softmax"], []

    def exactly(at):
        asked.append(at)
        return truth(operation.name, x[at[0]], at[1])

    got = rounded(Rows(x).probabilities, dtype, exactly)
    for at in np.ndindex(x.shape):
        with mpmath.workdps(60):
            exact = truth(operation.name, x[at[0]], at[1])
            assert abs(mpmath.mpf(float(got[at])) - exact) <= mpmath.mpf(float(dtype.ulp(got[at]))) / 2
    assert len(asked) < 3


def test_a_tie_is_decided_by_mpmath():
    dtype = DTYPES["float32"]
    half = 1.0 + 2.0**-24  # between two float32
    above = dd.DD(np.array([half]), np.array([2.0**-140]))
    with mpmath.workprec(300):
        little = mpmath.mpf(2) ** -140
        assert rounded(above, dtype, lambda _: mpmath.mpf(half) + little)[0] == 1.0 + 2.0**-23
        assert rounded(above, dtype, lambda _: mpmath.mpf(half) - little)[0] == 1.0


def test_rows_that_are_no_rows_of_numbers_are_told():
    x = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf], [-np.inf, 0.0]])
    assert Rows(x).regular[:, 0].tolist() == [True, False, False, False, True]
