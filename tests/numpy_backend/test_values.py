"""The values lie within the bounds, on every shape, layout and range."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

import polylogit

from .rows import BOTH, FLOATS, RNG, SHAPES, assert_within, axes_of, call, exact


@BOTH
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", ">f4"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_values_lie_within_the_bound_on_every_shape(name: str, dtype: str, shape: tuple[int, ...], axis: Any) -> None:
    x = (RNG(0).standard_normal(shape) * 5).astype(np.dtype(dtype))
    y = call(name, x, axis=axis)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    assert_within(name, y, x, axes_of(shape, axis))


@BOTH
@FLOATS
@pytest.mark.parametrize("scale", [0.1, 30.0, 1000.0])
@pytest.mark.parametrize(("shape", "axis"), [((4, 9), 1), ((2000, 9), 1), ((9, 2000), 0), ((3, 2000), 1)])
@pytest.mark.parametrize("offset", [0.0, -50.0, 100.0])
def test_values_lie_within_the_bound_whatever_the_range(
    name: str, dtype: Any, scale: float, shape: tuple[int, ...], axis: int, offset: float
) -> None:
    x = (RNG(1).standard_normal(shape) * scale + offset).astype(dtype)
    assert_within(name, call(name, x, axis=axis), x, (axis,))


@BOTH
@FLOATS
@pytest.mark.parametrize("layout", ["transposed", "F", "reversed", "strided", "broadcast", "readonly", "memmap", "odd"])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), None])
@pytest.mark.contract(20)
def test_every_layout_is_served_and_left_as_it_was(
    name: str, dtype: Any, layout: str, axis: Any, tmp_path: Any
) -> None:
    x = RNG(2).standard_normal((30, 40, 50)).astype(dtype)
    if layout == "memmap":
        path = tmp_path / "logits"
        x.tofile(path)
        x = np.memmap(path, dtype, "r", shape=x.shape)
    elif layout == "odd":  # not aligned
        x = np.frombuffer(b"\0" + x.tobytes(), dtype, offset=1).reshape(x.shape)
    else:
        x = {
            "transposed": lambda x: x.transpose(2, 0, 1),
            "F": np.asfortranarray,
            "reversed": lambda x: x[::-1, :, ::-1],
            "strided": lambda x: x[::2, :, ::3],
            "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
            "readonly": lambda x: x,
        }[layout](x)
        x.flags.writeable = False
    before = x.tobytes()
    y = call(name, x, axis=axis)
    assert type(y) is np.ndarray
    assert x.tobytes() == before
    assert_within(name, y, x, axes_of(x.shape, axis))


@FLOATS
@pytest.mark.contract(18)
@pytest.mark.parametrize(("shape", "axis"), [((4_000_000,), 0), ((4_000_000, 1), 0), ((2, 2_000_000), 1)])
def test_long_rows_sum_to_one(dtype: Any, shape: tuple[int, ...], axis: int) -> None:
    x = (RNG(3).standard_normal(shape) * 5).astype(dtype)
    sums = polylogit.softmax(x, axis).astype(np.longdouble).sum(axis=axis)
    assert (np.abs(sums - 1) <= 4 * np.finfo(dtype).eps).all()


@FLOATS
@pytest.mark.contract(18)
@pytest.mark.parametrize("shape", [(300, 3), (3, 300), (1000,), (3_000_000,), (1_000_000, 3), (3, 1_000_000)])
def test_equal_entries_share_evenly_however_many(dtype: Any, shape: tuple[int, ...]) -> None:
    # All errors of a naive sum would have the same sign here.
    axis = int(np.argmax(shape))
    x = np.full(shape, 0.1, dtype)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(polylogit.softmax(x, axis) * shape[axis], 1, rtol=8 * eps)
    np.testing.assert_allclose(polylogit.log_softmax(x, axis), -np.log(shape[axis]), rtol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 6), (3000, 6), (40, 200)])
@pytest.mark.parametrize("axis", [0, 1])
def test_log_softmax_keeps_relative_accuracy_near_zero(dtype: Any, shape: tuple[int, int], axis: int) -> None:
    rng = RNG(4)
    x = rng.uniform(-1, 1, shape)
    x[:, 0] = np.abs(x).max() + rng.uniform(0, 80, shape[0])  # by how much one probability is close to 1
    x[: shape[0] // 2, 1] = x[: shape[0] // 2, 0] - rng.uniform(0, 1e-3, shape[0] // 2)  # two near the top
    x = np.moveaxis(x.astype(dtype), 1, axis)
    y = np.moveaxis(polylogit.log_softmax(x, axis), axis, 1)
    for row, got in list(zip(np.moveaxis(x, axis, 1), y, strict=True))[:: max(1, shape[0] // 40)]:
        for value, want, entry in zip(got, exact("log_softmax", row), row, strict=True):
            if row.max() - entry <= 1:
                assert abs(mpmath.mpf(float(value)) - want) <= 8 * abs(mpmath.mpf(float(np.spacing(value))))


def test_log_softmax_of_a_probability_of_almost_one_is_not_zero() -> None:
    y = polylogit.log_softmax(np.array([0.0, -30.0]))
    assert y[0] == pytest.approx(-9.357622968840174e-14, rel=1e-15)


@FLOATS
@pytest.mark.parametrize("size", [100, 5000])  # the short way and the blocks
@pytest.mark.contract(21)
def test_sigmoid_is_accurate_in_the_tails(dtype: Any, size: int) -> None:
    low = np.log(np.finfo(dtype).smallest_normal) + 0.01
    x = np.linspace(low, 40, size).astype(dtype)
    y = polylogit.sigmoid(x)
    want = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    assert (np.abs(y - want) <= 4 * np.spacing(y)).all()
    assert polylogit.sigmoid(np.array([-np.inf, np.inf], dtype)).tolist() == [0, 1]
    assert np.isnan(polylogit.sigmoid(np.full(size, np.nan, dtype))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.contract(21)
def test_sigmoid_of_16_bits_is_rounded_once(dtype: str) -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.dtype(dtype))
    with np.errstate(invalid="ignore"):
        x = x[np.isfinite(x.astype(np.float64))]
    y = polylogit.sigmoid(x)
    with np.errstate(over="ignore"):
        want = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32).astype(x.dtype)
    # float32 differs from float64 next to a tie, and may give 0 for subnormal numbers.
    assert (y == want).mean() > 0.9998
    info = ml_dtypes.finfo(x.dtype)
    np.testing.assert_allclose(y.astype(float), want.astype(float), float(info.eps), float(info.smallest_normal))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_errs_by_less_than_two_units(dtype: Any) -> None:
    rng = RNG(24)
    x = np.concatenate([rng.uniform(-80, 20, 2000), rng.uniform(-1, 1, 2000) * 1e-3, rng.uniform(-4, 4, 2000)])
    x = x.astype(dtype)
    with mpmath.workdps(40):
        exact = [1 / (1 + mpmath.exp(-mpmath.mpf(float(value)))) for value in x]
        for y in (polylogit.sigmoid(x), np.concatenate([polylogit.sigmoid(part) for part in np.split(x, 12)])):
            units = [abs(mpmath.mpf(float(a)) - b) / float(np.spacing(dtype(b))) for a, b in zip(y, exact, strict=True)]
            assert max(units) < 2


def test_arrays_whose_dtype_is_not_the_shared_one_are_served() -> None:
    x = pickle.loads(pickle.dumps(np.array([0.0, -20.0], np.float32)))
    x = x.astype(np.dtype(np.float32, metadata={"of": "mine"}))
    assert polylogit.log_softmax(x)[0] == pytest.approx(-2.0611537e-9, rel=1e-6)
