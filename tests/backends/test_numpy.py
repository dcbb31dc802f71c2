"""The NumPy backend keeps the contract, on every layout, within the bounds.

References are exact: sums of exponentials in mpmath for few numbers, in long double (whose rounding is 2^-11 of
float64's) for many.
"""

from __future__ import annotations

import os
import pickle
import threading
import tracemalloc
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import polylogit
from polylogit import errors
from polylogit.backends import numpy as backend_module
from polylogit.backends import numpy_arithmetic, numpy_geometry
from polylogit.backends.numpy_small import SIZE

OPERATIONS = ("softmax", "log_softmax")
BOTH = pytest.mark.parametrize("name", OPERATIONS)
ALL = pytest.mark.parametrize("name", [*OPERATIONS, "sigmoid"])
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])

RNG = np.random.default_rng


def call(name: str, x: Any, **kwargs: Any) -> Any:
    return getattr(polylogit, name)(x, **kwargs)


def exact(name: str, row: np.ndarray) -> list[mpmath.mpf]:
    """The operation on one row of finite numbers, to 60 digits."""
    with mpmath.workdps(60):
        values = [mpmath.mpf(float(value)) for value in row]
        top = max(values)
        terms = [mpmath.exp(value - top) for value in values]
        total = mpmath.fsum(terms)
        if name == "softmax":
            return [term / total for term in terms]
        return [value - top - mpmath.log(total) for value in values]


def wide(x: np.ndarray, axes: tuple[int, ...], mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, Any]:
    """softmax, log_softmax and the distances to the maximum in long double, of rows with finite numbers in them."""
    with np.errstate(all="ignore"):
        x = np.asarray(x).astype(np.longdouble)
        if mask is not None:
            x = np.where(mask, x, -np.inf)
        distance = x - x.max(axis=axes, keepdims=True)
        order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
        turned = np.exp(distance).transpose(order)
        kept = turned.shape[: x.ndim - len(axes)]
        # Contiguous, so that NumPy adds in pairs.
        total = np.ascontiguousarray(turned).reshape(*kept, -1).sum(axis=-1)
        total = total.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
        return np.exp(distance) / total, distance - np.log(total), -distance


def assert_within(name: str, y: np.ndarray, x: np.ndarray, axes: tuple[int, ...], mask: Any = None) -> None:
    """`y` lies within the bounds of the design, section 4, of the exact value."""
    info = ml_dtypes.finfo(y.dtype)
    eps, tiny = float(info.eps), float(info.smallest_normal)
    length = np.prod([x.shape[axis] for axis in axes])
    p, log_p, distance = wide(x, axes, mask)
    got = y.astype(np.longdouble)
    if name == "softmax":
        ulp = np.exp2(np.floor(np.log2(np.maximum(p, tiny)))) * eps
        bound = (4 + 2 * np.minimum(distance, 1e5) + 2 * np.log2(length)) * ulp + np.where(p < 4 * tiny, p, 0)
        error = np.abs(got - p)
    else:
        impossible = np.isneginf(log_p)
        assert (got[impossible] == -np.inf).all()
        got, log_p = got[~impossible], log_p[~impossible]
        bound = eps * (1 + np.abs(log_p)) * (2 + np.log2(length))
        error = np.abs(got - log_p)
    assert (error <= bound).all(), f"{(error / bound).max():.3g} of the bound"


# --- values ----------------------------------------------------------------------------------------------------------

SHAPES = [
    ((8,), 0),
    ((300, 3), 0),
    ((3000,), 0),
    ((200_000,), 0),  # longer than a block
    ((500, 7), 1),  # short rows: class-major blocks
    ((500, 7), 0),
    ((40, 300), 1),
    ((3, 70_000), 1),
    ((70_000, 3), 0),  # long columns, several side by side
    ((70_001, 3), 0),  # ... and some over
    ((65_536, 2), 0),  # ... in a single chunk
    ((300, 2000), 0),
    ((40, 70_000), 0),
    ((6, 5, 400), 1),
    ((7, 3000, 5), 1),
    ((5, 6, 7, 8), (0, 2)),
    ((5, 6, 7, 8), (1, 3)),
    ((20, 300, 40), (0, 2)),
    ((4, 5, 6), None),
    ((1, 400), 0),
    ((400, 1), 1),
]


def axes_of(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    return tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)


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


# --- the contract, row by row ----------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "bool", "int4"])
@pytest.mark.contract(1)
def test_integers_and_bool_become_float64(name: str, dtype: str) -> None:
    x = np.array([1, 0, 1]).astype(getattr(ml_dtypes, dtype, dtype))
    y = call(name, x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, call(name, x.astype(np.float64)), rtol=1e-15)


@ALL
@pytest.mark.parametrize(
    "x",
    [
        np.zeros(2, complex),
        np.array(["a"]),
        np.array([None]),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "V3"),
    ],
    ids=lambda x: str(x.dtype),
)
@pytest.mark.contract(2)
def test_what_is_no_real_number_is_refused_by_its_dtype(name: str, x: np.ndarray) -> None:
    with pytest.raises(errors.DTypeError) as caught:
        call(name, x)
    assert str(x.dtype) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.contract(3)
def test_sums_of_16_bits_neither_overflow_nor_stagnate(dtype: Any) -> None:
    x = np.zeros(1 << 17, dtype)
    assert (polylogit.softmax(x) == dtype(2.0**-17)).all()
    assert (polylogit.log_softmax(x) == dtype(np.log(2.0**-17))).all()


@ALL
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "longdouble", ">f8", "<f4"])
@pytest.mark.contract(3, 4)
def test_floating_dtypes_are_kept(name: str, dtype: str) -> None:
    x = np.array([1.0, 2.0, 4.0]).astype(np.dtype(dtype))
    y = call(name, x)
    assert y.dtype == x.dtype
    want = call(name, x.astype(np.float64)).astype(x.dtype)
    eps = max(4 * np.finfo(float).eps, 2 * float(ml_dtypes.finfo(x.dtype).eps))
    np.testing.assert_allclose(y.astype(float), want.astype(float), rtol=eps)


@ALL
@pytest.mark.contract(4)
def test_dtype_is_that_of_the_result_and_computed_in_at_least_it(name: str) -> None:
    x = RNG(5).standard_normal(50).astype(np.float32)
    wider = call(name, x, dtype="float64")
    np.testing.assert_allclose(wider, call(name, x.astype(np.float64)), rtol=1e-15)
    narrow = call(name, x.astype(np.float64), dtype=np.float16)
    np.testing.assert_array_equal(narrow, call(name, x.astype(np.float64)).astype(np.float16))
    assert call(name, x, dtype="bfloat16").dtype == ml_dtypes.bfloat16
    assert call(name, [1, 2], dtype=">f4").dtype == np.dtype(">f4")
    for bad in ("int32", bool, complex, "no dtype", object()):
        with pytest.raises(errors.DTypeError):
            call(name, x, dtype=bad)


def test_a_missing_ml_dtypes_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(errors.BackendUnavailableError, match="pip install ml_dtypes"):
        polylogit.softmax(np.zeros(2), dtype="float8_no_such")


@BOTH
@pytest.mark.parametrize("axis", [-1, 0, None, ()])
@pytest.mark.contract(5)
def test_no_dimensions(name: str, axis: Any) -> None:
    y = call(name, np.array(7.0), axis=axis)
    assert type(y) is np.ndarray
    assert (y.shape, y.item()) == ((), 1 - OPERATIONS.index(name))
    assert type(call(name, np.float32(7), axis=axis)) is np.float32


@BOTH
@FLOATS
@pytest.mark.contract(6)
def test_a_single_entry_has_probability_one(name: str, dtype: Any) -> None:
    big = np.finfo(dtype).max
    for rows in (1, 5000):
        x = np.resize(np.array([0, 1, -3e3, big, -big, 1e-40], dtype), (rows, 6))
        for shape, axis in (((rows, 6, 1), -1), ((rows, 1, 6), 1)):
            assert (call(name, x.reshape(shape), axis=axis) == 1 - OPERATIONS.index(name)).all()
    assert np.isnan(call(name, np.array([[np.nan], [np.inf], [-np.inf]], dtype))).all()


@BOTH
@pytest.mark.contract(7)
@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((3, 0), 1), ((0, 3), 1), ((0, 3), None), ((2, 0), ())])
def test_empty_arrays_give_empty_arrays(name: str, shape: tuple[int, ...], axis: Any) -> None:
    assert call(name, np.zeros(shape, np.float32), axis=axis).shape == shape
    mask = np.zeros(shape, bool)
    assert call(name, np.zeros(shape, np.float32), axis=axis, where=mask).dtype == np.float32


@BOTH
@pytest.mark.contract(9)
def test_no_axes_at_all_make_every_entry_a_row(name: str) -> None:
    assert (call(name, np.ones((3, 2)), axis=()) == 1 - OPERATIONS.index(name)).all()


@BOTH
@pytest.mark.contract(10, 11)
def test_wrong_axes_are_refused_on_the_short_way_too(name: str) -> None:
    for shape in ((3,), (3, 3), (3000,)):
        for axis in (len(shape), -len(shape) - 1, (0, 0)):
            with pytest.raises(errors.AxisError):
                call(name, np.ones(shape), axis=axis)
        for axis in (True, 1.0, "0"):
            with pytest.raises(errors.AxisTypeError):
                call(name, np.ones(shape), axis=axis)
    assert call(name, np.ones((3, 3)), axis=np.int64(1)).shape == (3, 3)


@FLOATS
@pytest.mark.parametrize("length", [4, 40, 400, 100_000])
@pytest.mark.parametrize("rows", [8, 2000])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.contract(12, 13, 14)
def test_infinities_and_nan_stay_in_their_rows(dtype: Any, length: int, rows: int, first: bool) -> None:
    if length * rows > 10**7:
        rows = 20
    x = RNG(6).standard_normal((rows, length)).astype(dtype)
    clean = x.copy()
    x[0, 1] = np.nan
    x[1, 2] = np.inf
    x[2] = -np.inf
    x[3, 1:] = -np.inf
    x[4] = np.inf
    arrange = np.ascontiguousarray if first else lambda array: np.ascontiguousarray(array.T).T
    for name, certain, impossible in (("softmax", 1, 0), ("log_softmax", 0, -np.inf)):
        y = call(name, arrange(x), axis=1)
        assert np.isnan(y[[0, 1, 2, 4]]).all()
        assert y[3, 0] == certain
        assert (y[3, 1:] == impossible).all()
        np.testing.assert_array_equal(y[5:], call(name, arrange(clean), axis=1)[5:])


@BOTH
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), None])
@pytest.mark.parametrize("mask_shape", [(30, 40, 50), (40, 1), (50,), (30, 1, 1), ()])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.contract(15, 16)
def test_what_a_mask_leaves_out_takes_no_part(name: str, axis: Any, mask_shape: tuple[int, ...], dtype: str) -> None:
    rng = RNG(7)
    mask = rng.random(mask_shape) < 0.6
    everywhere = np.broadcast_to(mask, (30, 40, 50))
    x = rng.standard_normal((30, 40, 50)).astype(dtype)
    x[~everywhere] = np.resize(np.array([np.nan, np.inf, -np.inf, np.finfo(dtype).max], dtype), (~everywhere).sum())
    y = call(name, x, axis=axis, where=mask)
    assert (y[~everywhere] == (0 if name == "softmax" else -np.inf)).all()
    if everywhere.any():
        axes = axes_of(x.shape, axis)
        some = np.broadcast_to(everywhere.any(axis=axes, keepdims=True), x.shape)
        got, logits = np.where(some, y, 0), np.where(some, x, 0)
        unmasked = everywhere | ~some  # rows without any entry are looked at above
        with np.errstate(invalid="ignore"):
            p, log_p, _ = wide(np.where(unmasked, logits, 0), axes, unmasked)
        want = p if name == "softmax" else log_p
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(got[everywhere].astype(float), want[everywhere].astype(float), 30 * eps, eps)


@BOTH
@pytest.mark.contract(13, 15)
def test_only_impossible_entries_under_a_mask_are_nan_and_the_others_are_not(name: str) -> None:
    y = call(name, np.array([-np.inf, 3.0, -np.inf]), where=[True, False, True])
    assert np.isnan(y[[0, 2]]).all()
    assert y[1] == (0 if name == "softmax" else -np.inf)


@BOTH
@pytest.mark.contract(15)
def test_masks_that_are_no_masks_are_refused(name: str) -> None:
    with pytest.raises(errors.DTypeError, match="int64"):
        call(name, np.ones(3), where=np.ones(3, np.int64))
    for shape in ((2,), (2, 3), (3, 3)):
        with pytest.raises(errors.MaskError):
            call(name, np.ones(3), where=np.ones(shape, bool))


@BOTH
@FLOATS
@pytest.mark.contract(17)
@pytest.mark.parametrize("size", [3, 300, 100_000])
def test_the_largest_floats_do_not_overflow(name: str, dtype: Any, size: int) -> None:
    big = np.finfo(dtype).max
    x = np.full(size, -big, dtype)
    x[[0, -1]] = big
    y = call(name, x)
    assert (y[[0, -1]] == (0.5 if name == "softmax" else dtype(-np.log(2.0)))).all()
    assert (y[1:-1] == (0 if name == "softmax" else -np.inf)).all()


@ALL
@pytest.mark.parametrize("size", [4, 5000])
def test_no_floating_point_warning_escapes_whatever_the_caller_has_set(name: str, size: int) -> None:
    x = np.resize(np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, -745.0, -700, 5e-324]), size)
    with np.errstate(all="raise"):
        call(name, x)
        call(name, x.reshape(-1, 2))
        call(name, x, dtype="float16")
        _, pullback = polylogit.vjp(getattr(polylogit, name), x)
        pullback(x)
        slope = polylogit.gradient(getattr(polylogit, name), x)
        polylogit.jvp(slope, x, x)
        assert np.geterr() == dict.fromkeys(("divide", "over", "under", "invalid"), "raise")
        assert np.getbufsize() == 8192


class Tagged(np.ndarray):
    """A user's array with something on it."""

    def __array_finalize__(self, obj: Any) -> None:
        self.tag = getattr(obj, "tag", None)


class TaggedAsInNumPy1(np.ndarray):
    def __array_wrap__(self, array: Any, context: Any = None) -> Any:
        return np.asarray(array).view(type(self))


@ALL
@pytest.mark.contract(26)
def test_subclasses_are_kept_as_ufuncs_keep_them(name: str) -> None:
    x = np.zeros((2, 3)).view(Tagged)
    x.tag = "mine"
    y = call(name, x)
    assert (type(y), y.tag) == (Tagged, "mine")
    assert type(call(name, np.zeros(3).view(TaggedAsInNumPy1))) is TaggedAsInNumPy1


@ALL
@pytest.mark.contract(27)
@pytest.mark.parametrize("make", [np.asmatrix, np.ma.masked_array])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices_and_masked_arrays_are_refused_with_a_way_out(name: str, make: Any) -> None:
    x = make([[1.0, 2]])
    with pytest.raises(errors.UnsupportedArrayError, match=r"numpy.asarray\(x\)|x.filled"):
        call(name, x)
    with pytest.raises(errors.UnsupportedArrayError):
        call(name, [x, x])


@ALL
def test_scalars_give_scalars(name: str) -> None:
    for x in (np.float16(1), np.float64(1), np.longdouble(1)):
        assert type(call(name, x)) is type(x)
    assert type(call(name, np.int8(1))) is np.float64
    assert type(call(name, 1.5)) is np.ndarray


# --- from Python values ----------------------------------------------------------------------------------------------


@pytest.fixture
def numpy_backend() -> Any:
    return polylogit.get_backend("numpy")


def test_sequences_become_arrays(numpy_backend: Any) -> None:
    assert numpy_backend.asarray([[1, 2], (3, 4)]).tolist() == [[1, 2], [3, 4]]
    assert numpy_backend.asarray([np.float32(1), np.float32(2)]).dtype == np.float32
    assert numpy_backend.asarray([10**30, 1]).dtype == np.float64
    assert numpy_backend.asarray([1, 2], dtype="bfloat16").dtype == ml_dtypes.bfloat16
    x = np.ones(3)
    assert numpy_backend.asarray(x) is x


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([[1, 2], [3]], errors.ConversionError),
        ([10**400], errors.ConversionError),
        (["a"], errors.DTypeError),
        ([None], errors.DTypeError),
        ([1, {}], errors.DTypeError),
        ([1j], errors.DTypeError),
    ],
)
def test_sequences_of_anything_else_are_refused(numpy_backend: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        numpy_backend.asarray(value)


@pytest.mark.requires("torch")
def test_arrays_of_another_framework_are_not_gathered(numpy_backend: Any) -> None:
    import torch

    with pytest.raises(errors.MixedBackendsError, match="Stack them"):
        numpy_backend.asarray([[1.0], [torch.ones(())]])


def test_there_is_one_device(numpy_backend: Any) -> None:
    assert numpy_backend.asarray(1.0, device="cpu").shape == ()
    with pytest.raises(errors.ConversionError, match="cuda"):
        numpy_backend.asarray(1.0, device="cuda")


def test_dtype_names_are_plain(numpy_backend: Any) -> None:
    assert numpy_backend.dtype_name(np.ones(2, ">f4")) == "float32"
    assert numpy_backend.dtypes()[:4] == ("float64", "float32", "float16", "bfloat16")
    assert {"float8_e4m3fn", "float8_e5m2"} < set(numpy_backend.dtypes())


def test_every_dtype_it_names_is_served(numpy_backend: Any) -> None:
    for name in numpy_backend.dtypes():
        y = polylogit.softmax(numpy_backend.asarray([0.0, 1.0], dtype=name))
        assert numpy_backend.dtype_name(y) == name


# --- derivatives -----------------------------------------------------------------------------------------------------


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
    with pytest.raises(errors.DifferentiationError, match="axes"):
        polylogit.vjp(polylogit.softmax, np.ones(3), axes=0)


# --- the machinery ---------------------------------------------------------------------------------------------------

LARGE = [
    ((300_000, 7), -1),
    ((300_000, 7), 0),
    ((2_000_000,), 0),
    ((3, 700_000), 1),
    ((400, 5000), 0),
    ((400, 5000), 1),
]


@pytest.fixture
def four_threads() -> Any:
    polylogit.set_num_threads(4)
    yield
    polylogit.set_num_threads(1)


@BOTH
@FLOATS
@pytest.mark.parametrize(("shape", "axis"), LARGE)
def test_threads_give_the_same_bits(name: str, dtype: Any, shape: tuple[int, ...], axis: int) -> None:
    x = (RNG(13).standard_normal(shape) * 20).astype(dtype)
    one = call(name, x, axis=axis)
    polylogit.set_num_threads(3)
    try:
        three = call(name, x, axis=axis)
    finally:
        polylogit.set_num_threads(1)
    np.testing.assert_array_equal(one, three)


@pytest.mark.usefixtures("four_threads")
def test_several_threads_may_call_at_once() -> None:
    x = RNG(14).standard_normal((50_000, 9)).astype(np.float32)
    want = polylogit.softmax(x)
    wrong = []

    def work() -> None:
        for _ in range(20):
            if not (polylogit.softmax(x) == want).all() or not np.isclose(polylogit.softmax(x[0]).sum(), 1):
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("four_threads")
def test_a_forked_child_computes_too() -> None:
    x = RNG(15).standard_normal((100_000, 9))
    want = polylogit.softmax(x)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, b"ok" if (polylogit.softmax(x) == want).all() else b"no")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 2) == b"ok"
    os.close(reader)


def test_the_number_of_threads_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_geometry, "_threads", None)
    monkeypatch.setenv("POLYLOGIT_NUM_THREADS", "3")
    assert numpy_geometry.get_num_threads() == 3
    monkeypatch.setattr(numpy_geometry, "_threads", None)
    monkeypatch.setenv("POLYLOGIT_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="many"):
        polylogit.softmax(np.ones((3000, 300)))
    for count in (0, True, 1.0):
        with pytest.raises(ValueError, match="integer of at least 1"):
            polylogit.set_num_threads(count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5000,), 0), ((300, 20), -1), ((30, 700), 0), ((9, 30, 40), 2), ((30, 20, 10), 0)]
)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_an_array_of_one_block_gives_the_bits_of_one_in_blocks(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, shape: tuple[int, ...], axis: int, scale: float
) -> None:
    x = (np.random.default_rng(0).standard_normal(shape) * scale).astype(dtype)
    assert x.size > SIZE
    for name, arguments in (("softmax", (axis,)), ("log_softmax", (axis,)), ("sigmoid", ())):
        function = getattr(polylogit, name)
        at_once = function(x, *arguments)
        with monkeypatch.context() as patch:
            patch.setattr(backend_module, "as_block", lambda *_: None)
            np.testing.assert_array_equal(function(x, *arguments), at_once)


@pytest.mark.parametrize(
    ("dtype", "shape", "axis", "where"),
    [
        ("f4", (10**6, 6), 1, False),
        ("f4", (10**6, 6), 0, False),
        ("f4", (10**6, 6), 1, True),
        ("f2", (6, 10**6), 0, False),
        ("f2", (2000, 3000), 0, False),
        ("f8", (60, 100, 1000), (0, 2), False),
        ("f8", (1000, 6000), 0, False),
        ("f8", (6 * 10**6,), 0, False),
    ],
)
@BOTH
def test_memory_beyond_the_result_does_not_grow(name: str, dtype: str, shape: Any, axis: Any, where: bool) -> None:
    x = (RNG(16).standard_normal(shape) * 10).astype(dtype)
    kwargs = {"where": np.ones(shape, bool)} if where else {}
    tracemalloc.start()
    try:
        result = call(name, x, axis=axis, **kwargs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes <= 4 * 2**20


@BOTH
def test_scalar_exponentials_serve_where_the_processor_has_no_vector_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_arithmetic, "VECTOR_EXP2", False)
    x = (RNG(17).standard_normal((300, 20)) * 5).astype(np.float32)
    assert_within(name, call(name, x), x, (1,))


def test_the_short_way_and_the_blocks_agree() -> None:
    for shape in ((7,), (40, 20), (5, 6, 7)):
        for dtype in (np.float32, np.float64):
            x = (RNG(18).standard_normal(shape) * 10).astype(dtype)
            for name in OPERATIONS:
                for axis in range(len(shape)):
                    blocks = call(name, x, axis=axis, dtype=dtype)
                    np.testing.assert_allclose(call(name, x, axis=axis), blocks, rtol=40 * np.finfo(dtype).eps)
            np.testing.assert_allclose(
                polylogit.sigmoid(x), polylogit.sigmoid(x, dtype=dtype), rtol=4 * np.finfo(dtype).eps
            )


def test_arrays_whose_dtype_is_not_the_shared_one_are_served() -> None:
    x = pickle.loads(pickle.dumps(np.array([0.0, -20.0], np.float32)))
    x = x.astype(np.dtype(np.float32, metadata={"of": "mine"}))
    assert polylogit.log_softmax(x)[0] == pytest.approx(-2.0611537e-9, rel=1e-6)


# --- laws ------------------------------------------------------------------------------------------------------------

logits = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(max_dims=4, max_side=6),
    elements=st.floats(-100, 100, width=16),
)


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_every_row_is_a_distribution(x: np.ndarray, data: st.DataObject) -> None:
    axes = data.draw(st.sets(st.integers(0, x.ndim - 1)).map(tuple))
    y = polylogit.softmax(x, axes)
    assert ((y >= 0) & (y <= 1)).all()
    n = np.prod([x.shape[axis] for axis in axes], initial=1)
    assert (np.abs(y.astype(float).sum(axis=axes) - 1) <= (n + 4) * np.finfo(x.dtype).eps).all()
    assert (polylogit.log_softmax(x, axes) <= 0).all()


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_the_order_of_entries_does_not_matter(x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    order = data.draw(st.permutations(range(x.shape[axis])))
    for name in OPERATIONS:
        turned = call(name, x.take(order, axis), axis=axis)
        np.testing.assert_allclose(
            turned.astype(float),
            call(name, x, axis=axis).take(order, axis).astype(float),
            rtol=8 * float(np.finfo(x.dtype).eps),
            atol=float(np.finfo(x.dtype).smallest_normal),
        )


@settings(max_examples=200, deadline=None)
@given(x=logits)
def test_sigmoid_is_softmax_of_two(x: np.ndarray) -> None:
    pair = np.stack([x, np.zeros_like(x)], -1)
    np.testing.assert_allclose(
        polylogit.sigmoid(x).astype(float),
        polylogit.softmax(pair)[..., 0].astype(float),
        rtol=250 * float(np.finfo(x.dtype).eps) if x.dtype != np.float16 else 2e-3,
        atol=4 * float(np.finfo(x.dtype).smallest_normal),
    )


@settings(max_examples=200, deadline=None)
@given(x=logits, data=st.data())
def test_a_mask_is_the_same_as_leaving_entries_out(x: np.ndarray, data: st.DataObject) -> None:
    x = x.ravel()
    mask = data.draw(hnp.arrays(bool, x.shape))
    for name in OPERATIONS:
        masked = call(name, x, where=mask)
        left = call(name, x[mask])
        np.testing.assert_allclose(
            masked[mask].astype(float), left.astype(float), 8 * float(np.finfo(x.dtype).eps), 1e-7
        )


# --- which way a row goes --------------------------------------------------------------------------------------------


MIXED = {
    "tame": lambda rng, n: rng.standard_normal(n),
    "peaked": lambda rng, n: np.where(np.arange(n) == n // 3, 25.0, rng.standard_normal(n)),
    "large": lambda rng, n: rng.standard_normal(n) * 200,
    "far below 0": lambda rng, n: rng.standard_normal(n) - 70,
    "infinite": lambda rng, n: np.where(np.arange(n) == 1, np.inf, rng.standard_normal(n)),
    "nan": lambda rng, n: np.where(np.arange(n) == 2, np.nan, rng.standard_normal(n)),
    "masked out": lambda rng, n: np.full(n, -np.inf),
}


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [3, 10, 40, 100, 700])
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(name: str, dtype: Any, axis: int, length: int) -> None:
    rng = RNG(21)
    rows = np.stack([draw(rng, length) for draw in MIXED.values() for _ in range(60)]).astype(dtype)
    rows = rows[rng.permutation(len(rows))]
    together = call(name, np.ascontiguousarray(rows.T) if axis == 0 else rows, axis=axis)
    together = together.T if axis == 0 else together
    for row, found in list(zip(rows, together, strict=True))[:40]:
        same = np.tile(row, (len(rows), 1))
        alone = call(name, np.ascontiguousarray(same.T) if axis == 0 else same, axis=axis)
        np.testing.assert_array_equal(found, alone.T[5] if axis == 0 else alone[5])
    finite = np.isfinite(rows).all(1)
    assert_within(name, together[finite], rows[finite], (1,))


@BOTH
@pytest.mark.parametrize(("shape", "axis"), [((3, 300_000), 1), ((5000, 40), 0), ((700, 900), 0), ((2000, 7), 1)])
def test_a_jvp_is_that_of_the_pullback_and_keeps_nothing(name: str, shape: tuple[int, ...], axis: int) -> None:
    x, tangent = RNG(22).standard_normal((2, *shape)) * 3
    mask = RNG(23).random(shape) < 0.9
    tangent[~mask] = np.nan
    function = getattr(polylogit, name)
    tracemalloc.start()
    try:
        y, pushed = polylogit.jvp(function, x, tangent, axis=axis, where=mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - y.nbytes - pushed.nbytes <= 4 * 2**20
    np.testing.assert_array_equal(y, function(x, axis, where=mask))
    p = polylogit.softmax(x, axis, where=mask)
    centred = np.where(mask, tangent, 0) - (p * np.where(mask, tangent, 0)).sum(axis, keepdims=True)
    expected = np.where(mask, p * centred if name == "softmax" else centred, 0)
    np.testing.assert_allclose(pushed, expected, rtol=1e-10, atol=1e-13)


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
