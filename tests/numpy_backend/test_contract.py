"""The NumPy backend keeps the contract, row by row."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import polylogit
from polylogit import errors

from .rows import ALL, BOTH, FLOATS, OPERATIONS, RNG, axes_of, call, wide


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
    for x in (1.5, 3, True):
        assert type(call(name, x)) is np.float64
    assert type(call(name, np.array(1.5))) is np.ndarray
