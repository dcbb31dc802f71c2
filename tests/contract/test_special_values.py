"""Rows 12 to 14, 19 and the ends of 21: infinities, NaN, subnormal numbers and signed zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from .exact import Reference, check

if TYPE_CHECKING:
    from .conftest import Subject

nan, inf = np.nan, np.inf

# Around the widths of the vector registers, at which kernels change from one path to another.
LENGTHS = (1, 2, 3, 8, 16, 17, 33)


def rows_with(value: float, length: int) -> Any:
    """Rows with the value at each position in turn, and an ordinary row after each of them."""
    drawn = np.random.default_rng(length).normal(size=(2 * length, length)) * 3
    drawn[2 * np.arange(length), np.arange(length)] = value
    return drawn


@pytest.mark.processor
@pytest.mark.contract(12)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_minus_infinity_among_finite_logits_has_probability_zero(
    subject: Subject, row_operation: str, dtype: str
) -> None:
    batches = [rows_with(-inf, length).astype(dtype) for length in LENGTHS[1:]]
    for value in subject.check_values(row_operation, *batches):
        assert not np.isnan(value).any()
        assert (value == {"softmax": 0.0, "log_softmax": -inf}[row_operation]).sum() == value.shape[1]


@pytest.mark.contract(12)
@pytest.mark.contract(22)
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_the_gradients_beside_minus_infinity_are_finite(
    eager: Subject, row_operation: str, dtype: str, axis: int
) -> None:
    x = rows_with(-inf, 5).astype(dtype)
    x[0] = [-inf, -inf, 1, -inf, -inf]
    x[1] = [-inf, -inf, 1, -inf, 1]
    x = x if axis == -1 else np.ascontiguousarray(x.T)
    with eager.all64():
        if row_operation == "softmax":
            eager.check_derivatives(row_operation, x, axis=axis)
            eager.check_second(row_operation, x, axis=axis)
        else:
            cotangent = np.random.default_rng(0).normal(size=x.shape).astype(dtype)
            got = eager.derivative("vjp", row_operation, x, cotangent, axis=axis)
            assert np.isfinite(got).all()
            check(got, Reference(x, (axis,)).log_softmax_vjp(cotangent))


@pytest.mark.processor
@pytest.mark.contract(12)
def test_all_but_one_logit_minus_infinity(subject: Subject, row_operation: str) -> None:
    cases = []
    for length in LENGTHS:
        x = np.full((length, length), -inf, "float32")
        np.fill_diagonal(x, np.linspace(-1e30, 1e30, length))
        cases.append(x)
    cases.append(np.concatenate([np.full((2, 64), -inf), np.ones((2, 3))], 1).astype("float32"))  # a whole block first
    cases.append(np.concatenate([np.full((2, 1024), -inf), np.ones((2, 3))], 1).astype("float32"))
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(13)
@pytest.mark.parametrize(("dtype", "axis"), [("float32", -1), ("float32", 0), ("float16", -1)])
def test_a_row_of_minus_infinity_is_nan_and_no_other(
    subject: Subject, row_operation: str, dtype: str, axis: int
) -> None:
    cases = []
    for length in (1, 3, 16, 33, 129, 1025):
        x = np.random.default_rng(length).normal(size=(5, length))
        x[[1, 4]] = -inf
        x = x.astype(dtype)
        cases.append(x if axis == -1 else np.ascontiguousarray(x.T))
    for value in subject.check_values(row_operation, *cases, axis=axis):
        rows = value if axis == -1 else value.T
        assert np.isnan(rows[[1, 4]]).all()
        assert not np.isnan(rows[[0, 2, 3]]).any()


@pytest.mark.contract(13)
def test_minus_infinity_everywhere_is_nan_along_all_axes(subject: Subject, row_operation: str) -> None:
    subject.check_values(
        row_operation,
        (np.full((2, 3), -inf, "float32"), {"axis": None}),
        (np.full((2, 3, 2), -inf, "float32"), {"axis": (0, 2)}),
        np.array(-inf, "float32"),
    )


@pytest.mark.processor
@pytest.mark.contract(14)
@pytest.mark.parametrize(("dtype", "axis"), [("float32", -1), ("float32", 0), ("float64", -1), ("bfloat16", -1)])
def test_nan_and_infinity_spread_over_their_row_and_no_other(
    subject: Subject, row_operation: str, dtype: str, axis: int
) -> None:
    cases = []
    for length in LENGTHS:
        x = np.concatenate([rows_with(nan, length), rows_with(inf, length)])
        cases.append(np.concatenate([x, np.where(np.isfinite(x), -inf, x)]))  # beside -inf, too
    with subject.all64():
        arrays = [subject.numpy(subject.array(x, dtype)) for x in cases]
        arrays = [x if axis == -1 else np.ascontiguousarray(x.T) for x in arrays]
        for x, value in zip(arrays, subject.check_values(row_operation, *arrays, axis=axis), strict=True):
            spread = (np.isnan(x) | (x == inf)).any(axis, keepdims=True) | (x == -inf).all(axis, keepdims=True)
            np.testing.assert_array_equal(np.isnan(value), np.broadcast_to(spread, x.shape))


@pytest.mark.contract(14)
def test_nan_and_infinity_spread_over_long_rows(subject: Subject, row_operation: str) -> None:
    cases: list[Any] = []
    for length in (65, 513, 5000):
        for bad in (nan, inf):
            x = np.zeros((3, length), "float32")
            x[1, length // 2] = bad
            cases += [(x, {}), (np.ascontiguousarray(x.T), {"axis": 0})]
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(14)
def test_nan_and_infinity_spread_over_joint_axes(subject: Subject, row_operation: str) -> None:
    x = np.zeros((2, 3, 4), "float32")
    x[0, 1, 2] = nan
    subject.check_values(row_operation, *((x, {"axis": axis}) for axis in (0, 1, 2, (0, 2), (1, 2), None)))


@pytest.mark.contract(14)
@pytest.mark.parametrize("bad", [nan, inf])
def test_the_gradients_of_the_rows_beside_a_nan_are_untouched(eager: Subject, row_operation: str, bad: float) -> None:
    x = np.random.default_rng(0).normal(size=(6, 9)).astype("float32")
    x[2, 4] = bad
    cotangent = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    clean = np.delete(np.arange(6), 2)
    for kind in ("vjp", "jvp"):
        got = eager.derivative(kind, row_operation, x, cotangent)[clean]
        reference = Reference(x[clean])
        exact = {
            "softmax": reference.softmax_derivative,
            "log_softmax": reference.log_softmax_vjp if kind == "vjp" else reference.log_softmax_jvp,
        }[row_operation](cotangent[clean])
        check(got, exact, f"{eager}, {kind}")


@pytest.mark.processor
@pytest.mark.contract(14)
@pytest.mark.contract(21)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_sigmoid_of_infinities_is_exact_and_of_nan_is_nan(subject: Subject, dtype: str) -> None:
    with subject.all64():
        for length in LENGTHS:
            x = subject.array([-inf, inf, nan, 0.0, -0.0, 1.0] * length, dtype)
            value = subject.numpy(subject.compiled(subject.function("sigmoid"))(x), dtype).astype("float64")
            np.testing.assert_array_equal(value.reshape(length, 6)[:, :5], [[0.0, 1.0, nan, 0.5, 0.5]] * length)


@pytest.mark.contract(21)
@pytest.mark.contract(22)
def test_the_slope_of_sigmoid_is_zero_at_the_infinities(eager: Subject) -> None:
    x = np.array([-inf, inf, -200.0, 200.0, -1e38, 1e38], "float32")
    for kind in ("vjp", "jvp"):
        np.testing.assert_array_equal(eager.derivative(kind, "sigmoid", x, np.ones_like(x)), np.zeros(6))


@pytest.mark.processor
@pytest.mark.contract(19)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_results_below_the_smallest_normal_may_be_flushed_and_nothing_else(
    subject: Subject, row_operation: str, dtype: str
) -> None:
    reach = {"float32": 110.0, "float64": 760.0, "float16": 20.0}[dtype]
    with subject.all64():
        subject.check_values(row_operation, np.linspace(-reach, 0, 257).astype(dtype))


@pytest.mark.contract(19)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_subnormal_logits_and_signed_zeros_are_zeros(subject: Subject, operation: str, dtype: str) -> None:
    smallest = float(np.finfo(dtype).smallest_subnormal)
    with subject.all64():
        subject.check_values(
            operation,
            np.array([-0.0, 0.0, smallest, -smallest], dtype), np.array([[-0.0], [0.0]], dtype),
            np.full(17, -0.0, dtype),
        )  # fmt: skip
