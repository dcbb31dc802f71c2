"""The closed-form derivatives, first and second order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit import errors

from .rows import ALL, BOTH, FLOATS, OPERATIONS, RNG, exact


def jacobian(name: str, row: list[float]) -> Any:
    """The exact Jacobian of an operation on one row."""
    p = exact("softmax", np.array(row))
    size = range(len(row))
    if name == "softmax":
        return [[p[i] * ((i == j) - p[j]) for j in size] for i in size]
    return [[(i == j) - p[j] for j in size] for i in size]


@BOTH
@FLOATS
@pytest.mark.parametrize("rows", [1, 400])
@pytest.mark.contract(22)
def test_first_derivatives_are_those_of_the_exact_jacobian(name: str, dtype: Any, rows: int) -> None:
    rng = RNG(8)
    x, g = (rng.standard_normal((rows, 6)) * 4).astype(dtype), rng.standard_normal((rows, 6)).astype(dtype)
    function = getattr(polylogit, name)
    y, pullback = polylogit.vjp(function, x)
    np.testing.assert_allclose(y, function(x), rtol=8 * np.finfo(dtype).eps)
    back, (_, forth) = pullback(g), polylogit.jvp(function, x, g)
    assert back.dtype == forth.dtype == dtype
    scale = float(np.abs(g[0]).sum()) * 40 * np.finfo(dtype).eps
    matrix = jacobian(name, x[0].tolist())
    for j in range(6):
        assert abs(float(sum(float(g[0, i]) * matrix[i][j] for i in range(6))) - back[0, j]) <= scale
        assert abs(float(sum(float(g[0, i]) * matrix[j][i] for i in range(6))) - forth[0, j]) <= scale


@pytest.mark.contract(22)
@FLOATS
@pytest.mark.parametrize("size", [50, 70_000])
def test_the_derivative_of_sigmoid_is_accurate_for_negative_logits(dtype: Any, size: int) -> None:
    x = np.linspace(np.log(np.finfo(dtype).smallest_normal) * 0.95, 40, size).astype(dtype)
    got = polylogit.vjp(polylogit.sigmoid, x)[1](np.ones_like(x))
    e = np.exp(-np.abs(x.astype(np.longdouble)))
    want = e / (1 + e) ** 2
    assert (np.abs(got - want) <= 8 * np.spacing(got)).all()
    assert polylogit.vjp(polylogit.sigmoid, np.array([-104, np.inf, -np.inf], dtype))[1](np.ones(3)).tolist()[1:] == [
        0,
        0,
    ]


@ALL
@pytest.mark.parametrize("shape", [(5,), (300, 5), (5, 300)])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.contract(22)
def test_second_derivatives_are_differences_of_first_ones(name: str, shape: tuple[int, ...], axis: int) -> None:
    rng = RNG(9)
    x, g, t = (rng.standard_normal(shape) for _ in range(3))
    kwargs = {} if name == "sigmoid" else {"axis": axis}
    slope = polylogit.gradient(getattr(polylogit, name), g, **kwargs)
    step = 1e-5
    want = (slope(x + step * t) - slope(x - step * t)) / (2 * step)
    value, got = polylogit.jvp(slope, x, t)
    np.testing.assert_array_equal(value, slope(x))
    np.testing.assert_allclose(got, want, atol=1e-9)
    # The Hessian is symmetric.
    np.testing.assert_allclose(polylogit.vjp(slope, x)[1](t), got, rtol=1e-14, atol=1e-15)


@BOTH
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.contract(15, 16, 22)
def test_what_a_mask_leaves_out_gets_no_gradient_and_gives_none(name: str, axis: Any) -> None:
    rng = RNG(10)
    mask = rng.random((60, 70)) < 0.5
    mask[3] = mask[:, 4] = False
    x, g, t = (rng.standard_normal((60, 70)) for _ in range(3))
    function = getattr(polylogit, name)
    slope = polylogit.gradient(function, g, axis=axis, where=mask)
    clean = [
        polylogit.vjp(function, x, axis=axis, where=mask)[1](g),
        polylogit.jvp(function, x, t, axis=axis, where=mask)[1],
        polylogit.jvp(slope, x, t)[1],
    ]
    for array in (x, g, t):
        array[~mask] = np.resize([np.nan, np.inf, 1e308], (~mask).sum())
    _, pullback = polylogit.vjp(function, x, axis=axis, where=mask)
    slope = polylogit.gradient(function, g, axis=axis, where=mask)
    dirty = [
        pullback(g),
        polylogit.jvp(function, x, t, axis=axis, where=mask)[1],
        polylogit.jvp(slope, x, t)[1],
    ]
    for was, now in zip(clean, dirty, strict=True):
        assert (now[~mask] == 0).all()
        np.testing.assert_array_equal(was, now)


@ALL
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", ">f8", "longdouble", "int32", "float8_e5m2"])
@pytest.mark.contract(22)
def test_gradients_have_the_dtype_of_the_logits(name: str, dtype: str) -> None:
    x = np.ones((4, 3)).astype(np.dtype(dtype))
    y, pullback = polylogit.vjp(getattr(polylogit, name), x, dtype="float64")
    gradient = pullback(np.ones((4, 3)))
    assert (y.dtype, gradient.dtype) == (np.float64, np.float64 if dtype == "int32" else x.dtype)
    slope = polylogit.gradient(getattr(polylogit, name), np.ones((4, 3)))
    assert polylogit.vjp(slope, x)[1](np.ones((4, 3))).dtype == gradient.dtype


@pytest.mark.contract(22)
def test_gradients_are_finite_wherever_the_value_is() -> None:
    x = np.ones(1 << 17, np.float16)
    for name in OPERATIONS:
        y, pullback = polylogit.vjp(getattr(polylogit, name), x)
        assert np.isfinite(y).all()
        assert np.isfinite(pullback(np.ones_like(x))).all()
    x = np.array([-np.inf, 0.0, 1.0])
    for name in OPERATIONS:
        gradient = polylogit.vjp(getattr(polylogit, name), x)[1](np.arange(3.0))
        assert np.isfinite(gradient).all()
        assert gradient.sum() == pytest.approx(0, abs=1e-15)


@ALL
def test_pullbacks_may_be_called_again_and_forget_nothing(name: str) -> None:
    x = RNG(11).standard_normal((4, 5))
    g = RNG(12).standard_normal((4, 5))
    y, pullback = polylogit.vjp(getattr(polylogit, name), x)
    slope = polylogit.vjp(polylogit.gradient(getattr(polylogit, name), g), x)[1]
    first, bent = pullback(g).copy(), slope(g).copy()
    x[:], y[:] = np.nan, np.nan
    np.testing.assert_array_equal(pullback(g), first)
    np.testing.assert_array_equal(slope(g), bent)


def test_directions_of_another_shape_are_refused() -> None:
    _, pullback = polylogit.vjp(polylogit.softmax, np.ones(3))
    assert pullback([1, 2, 3]).shape == (3,)
    for direction in (np.ones(2), np.ones((1, 3)), 1.0):
        with pytest.raises(errors.DifferentiationError, match="shape"):
            pullback(direction)
        with pytest.raises(errors.DifferentiationError, match="shape"):
            polylogit.jvp(polylogit.softmax, np.ones(3), direction)


def test_what_has_no_closed_form_is_refused_with_a_way_out() -> None:
    with pytest.raises(errors.DifferentiationError, match="torch"):
        polylogit.vjp(np.tanh, np.ones(3))
    slope = polylogit.gradient(polylogit.sigmoid, np.ones(3))
    with pytest.raises(errors.DifferentiationError):
        polylogit.vjp(polylogit.gradient(slope, np.ones(3)), np.ones(3))
    with pytest.raises(errors.ArgumentError, match="axes"):
        polylogit.vjp(polylogit.softmax, np.ones(3), axes=0)


def test_a_gradient_is_shown_as_it_was_written() -> None:
    slope = polylogit.gradient(polylogit.softmax, np.ones(2), axis=0)
    assert repr(slope) == "polylogit.gradient(softmax, array([1., 1.]), axis=0)"
