"""What is right passes, what is wrong fails, and what is neither is called by its name."""

import numpy as np
import pytest

from polylogit import conformance
from polylogit._spec.bounds import additions
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._catalogue.steps import lanes, log_softmax, right_sigmoid, right_softmax, softmax, top, total
from polylogit.conformance._checks import CHECKS
from polylogit.errors import ConformanceError

from .kernels import plain
from .test_cases import setting


def check(kernel, operation="softmax", dtypes=("float32",), **options):
    return conformance.check(kernel, operation, level="quick", dtypes=list(dtypes), name="kernel", **options)


def findings(report):
    return {result.finding for result in report.results if result.finding}


# --- where the answer is exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_the_spacing_at_0_is_the_smallest_subnormal_number(name):
    dtype = DTYPES[name]
    assert float(dtype.ulp(np.array(0.0))) == dtype.smallest_subnormal
    assert float(dtype.ulp(np.array(0.5))) == dtype.eps / 2


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("leak", [1e-30, 1e-6])
def test_whatever_comes_out_at_minus_infinity_but_0_is_wrong(name, leak):
    def leaking(x, axis=-1):
        return np.where(np.isneginf(x), np.asarray(leak).astype(x.dtype), softmax(x, axis)).astype(x.dtype)

    report = check(leaking, dtypes=[name])
    if np.asarray(leak).astype(DTYPES[name].dtype) != 0:
        assert report.status == 1
        assert findings(report) == {"wrong"}


def test_a_number_that_stands_for_minus_infinity_shows_where_all_others_lie_lower():
    for lowest in (-1e4, -1e9):

        def finite(x, axis=-1, lowest=lowest):
            return softmax(np.where(np.isneginf(x), np.asarray(lowest, x.dtype), x), axis)

        assert check(finite).status == 1


@pytest.mark.parametrize("tile", [8, 64, 200, 256])
@pytest.mark.parametrize("backward", [False, True])
def test_a_running_maximum_that_becomes_0_in_an_empty_tile_is_found_at_every_tile_size(tile, backward):
    def kernel(x):
        rows = x[:, ::-1] if backward else x
        m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
        for start in range(0, x.shape[-1], tile):
            block = rows[:, start : start + tile]
            new = np.maximum(m, top(block))
            new = np.where(np.isneginf(new), 0, new).astype(x.dtype)
            s = s * np.exp(m - new) + total(np.exp(block - new))
            m = new
        return np.exp(x - m) / s

    found = [result for result in check(lanes(kernel)).failures if "emptied" in result.case]
    assert found


# --- how far off is right ---------------------------------------------------------------------------------------------


def test_a_sum_in_order_is_right_up_to_4096_terms_and_a_fault_beyond():
    def in_order(x):
        e = np.exp(x - top(x))
        return e / np.cumsum(e, axis=-1, dtype=x.dtype)[:, -1:]

    report = check(lanes(in_order))
    assert report.status == 1
    assert {result.case for result in report.failures} == {"drifting-n8193"}
    assert max(result.error for result in report.results if result.error and result.length <= 4096) < 1
    kernel, backend = DTYPES["float32"].summed_in_any_order(), DTYPES["float32"]
    assert additions(4096, kernel) == 4095
    assert additions(4097, kernel) == additions(4097, backend) == 93
    # Of 16-bit logits it is float32 in which so many may be added.
    half = DTYPES["float16"].summed_in_any_order()
    assert additions(4096, half) == additions(4096, DTYPES["float16"])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sigmoid_by_base_two_exponentials_is_as_right_as_a_softmax_by_them(dtype):
    def base_two(x):
        if x.dtype.kind in "iub":
            return right_sigmoid(x)
        with np.errstate(all="ignore"):
            work = x.astype(np.result_type(x, np.float32))
            e = np.exp2(-np.abs(work) * work.dtype.type(np.log2(np.e)))
            return np.where(work < 0, e / (1 + e), 1 / (1 + e)).astype(x.dtype)

    report = check(base_two, "sigmoid", [dtype], strict=True)
    assert report.passed, report.summary()


def test_near_underflow_anything_from_0_to_what_a_flushed_number_leaves_is_right():
    tiny = np.finfo(np.float32).tiny

    def scaled_there(factor):
        def kernel(x, axis=-1):
            y = softmax(x, axis)
            near = (y < 3 * tiny) & (x.dtype == np.float32)
            return np.where(near, (y * np.float64(factor)).astype(y.dtype), y)

        return check(kernel, strict=True)

    for factor in (0.0, 0.5, 1.02, 1.3):
        report = scaled_there(factor)
        assert report.passed, report.summary()
    assert scaled_there(4.0).status == 1


def test_twice_the_bound_is_less_accurate_and_ten_times_is_wrong():
    def off(bounds):
        def kernel(x):
            y = right_softmax(x)
            return y if x.shape[-1] != 3 else y * x.dtype.type(1 + bounds * 6.2 * np.finfo(x.dtype).eps)

        return lanes(kernel)

    report = check(off(2.0))
    assert report.passed
    assert findings(report) == {"less accurate"}
    assert {result.verdict for result in report.results if result.finding} == {"inaccurate"}
    assert check(off(2.0), strict=True).status == 1
    assert findings(check(off(30.0))) >= {"wrong"}


def test_a_value_that_is_gone_is_wrong_however_small_its_bound():
    def no_subnormals(x, axis=-1):
        y = softmax(x, axis)
        return np.where((x.dtype == np.float16) & (y < 1e-5) & (np.asarray(x).shape[-1] > 60000), 0, y).astype(y.dtype)

    assert check(no_subnormals, dtypes=["float16"]).status == 1


# --- computed in float32, rounded once --------------------------------------------------------------------------------


def shifted_in_16_bits(x, axis=-1):
    if x.dtype.itemsize != 2:
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        e = np.exp((x - x.max(axis, keepdims=True, initial=-np.inf)).astype(np.float32)).astype(x.dtype)
        return (e / e.sum(axis, keepdims=True, dtype=np.float32)).astype(x.dtype)


def test_arithmetic_in_16_bits_is_reported_and_fails_where_that_was_asked():
    report = check(lambda x, axis=-1: shifted_in_16_bits(x, axis), dtypes=["bfloat16"])
    assert report.rounded_once is False
    strict = check(lambda x, axis=-1: shifted_in_16_bits(x, axis), dtypes=["bfloat16"], rounded_once=True)
    assert strict.status == 1
    assert any("rounded once" in result.message for result in strict.failures)
    right = check(softmax, dtypes=["bfloat16", "float16"], rounded_once=True)
    assert right.passed, right.summary()
    assert right.rounded_once is True
    assert check(softmax).rounded_once is None


def test_a_probability_rounded_to_16_bits_before_it_is_subtracted_is_wrong():
    def rounded(x, g, axis=-1):
        y = softmax(x, axis)  # in the dtype of x
        wide = np.result_type(x, np.float32)
        g = g.astype(wide)
        return (g - y.astype(wide) * g.sum(axis, keepdims=True)).astype(x.dtype)

    for name in ("float16", "bfloat16"):
        assert check(log_softmax, "log_softmax", [name], vjp=rounded).status == 1
    assert check(log_softmax, "log_softmax", ["float32"], vjp=rounded).passed


# --- another convention -----------------------------------------------------------------------------------------------


def over_all_by_default(x, axis=None):
    return softmax(x, axis)


def test_another_default_axis_is_named_once_and_passes_where_it_is_declared():
    report = check(over_all_by_default)
    assert report.status == 1
    assert list(report.conventions) == ["default-axis=None"]
    assert findings(report) == {"another convention"}
    declared = check(over_all_by_default, conventions={"default-axis": None})
    assert declared.passed, declared.summary()
    # What is declared is held to.
    assert check(softmax, conventions={"default-axis": None}).status == 1


def test_a_declared_convention_of_axes_holds_for_gradients_too():
    from .kernels.plain import softmax_vjp

    def last(x, axis=-1):
        return softmax(x, -1 if axis is None else axis)

    def pull(x, cotangent, axis=-1):
        return softmax_vjp(x, cotangent, -1 if axis is None else axis)

    declared = {"conventions": {"axis-none": "last"}}
    assert check(last, vjp=pull, **declared).passed
    assert "wrong" in findings(check(last, vjp=softmax_vjp, **declared))


def test_a_kernel_may_carry_its_conventions():
    def kernel(x, axis=None):
        return softmax(x, axis)

    kernel.conventions = {"default-axis": None}
    assert check(kernel).passed


@pytest.mark.parametrize("value", ["zeros", "uniform"])
def test_what_a_row_of_minus_infinity_gives_is_a_convention(value):
    def kernel(x):
        empty = np.isneginf(x).all(-1, keepdims=True)
        return np.where(empty, 0.0 if value == "zeros" else 1.0 / x.shape[-1], right_softmax(x)).astype(x.dtype)

    report = check(lanes(kernel))
    assert list(report.conventions) == [f"empty-row={value}"]
    declared = check(lanes(kernel), conventions={"empty-row": value})
    assert declared.passed, declared.summary()


def test_a_convention_that_does_not_exist_is_refused():
    with pytest.raises(ConformanceError, match="convention 'axes' does not exist; the conventions are default"):
        check(softmax, conventions={"axes": 1})
    with pytest.raises(ConformanceError, match="empty-row='ones' does not exist; the values of empty-row are"):
        check(softmax, conventions={"empty-row": "ones"})


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_rows_and_columns_of_millions_are_asked_for_at_full():
    names = {case.name for case in CHECKS["values"](setting(level="full", function=softmax))}
    assert names >= {"longest-1x4000000", "longest-4000000x1-axis-0", "longest-1000000x1-axis-0"}


def test_a_law_that_puts_logits_in_rows_of_its_own_shows_those():
    def pairs_off(x, axis=-1):
        y = softmax(x, axis)
        return (y * np.float64(1.001)).astype(y.dtype) if x.ndim == 2 and x.shape[-1] == 2 else y

    found = [one for one in check(pairs_off).results if one.check == "laws" and one.verdict != "passed"]
    assert {result.verdict for result in found} == {"failed"}
    assert all(len(result.details["inputs"]) == 2 for result in found if "two-entries" in result.case)


PULLBACKS = {
    "another default axis": lambda x, g, axis=0: plain.softmax_vjp(x, g, axis),
    "a NaN of the cotangent that is lost": lambda x, g, axis=-1: plain.softmax_vjp(x, np.nan_to_num(g), axis),
    "another shape for nothing": lambda x, g, axis=-1: plain.softmax_vjp(x, g, axis) if x.size else x.ravel(),
}


@pytest.mark.parametrize("fault", PULLBACKS)
def test_a_pullback_of_its_own_is_asked_without_its_axis_with_nan_and_of_nothing(fault):
    assert check(plain.softmax, vjp=plain.softmax_vjp, checks=["vjp"]).passed
    assert not check(plain.softmax, vjp=PULLBACKS[fault], checks=["vjp"]).passed
