"""Rows 15 and 16: entries that take no part, whatever they hold, and rows without any that do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit

from .conftest import Subject, expected_derivative, expected_second, expected_value
from .exact import check

if TYPE_CHECKING:
    from collections.abc import Callable

nan, inf = np.nan, np.inf
MASKED = {"softmax": 0.0, "log_softmax": -inf}

# What an entry may hold that takes no part.
HELD = {
    "nan": nan,
    "inf": inf,
    "-inf": -inf,
    "largest": float(np.finfo("float32").max),
    "lowest": float(np.finfo("float32").min),
    "ordinary": 3.0,
}


def half(*shape: int, seed: int = 0) -> Any:
    """A mask of about half the entries."""
    return np.random.default_rng(seed).random(shape) < 0.5


def filled(shape: tuple[int, ...], mask: Any, held: float, dtype: str = "float32") -> Any:
    x = (np.random.default_rng(7).normal(size=shape) * 4).astype(dtype)
    return np.where(np.broadcast_to(mask, shape), x, np.asarray(held, dtype))


@pytest.fixture(params=HELD, ids=str)
def held(request: pytest.FixtureRequest) -> float:
    """Each thing in turn that a masked entry may hold."""
    return HELD[request.param]


@pytest.mark.contract(15)
def test_masked_entries_take_no_part_whatever_they_hold(subject: Subject, row_operation: str) -> None:
    cases = []
    for value in HELD.values():
        for length in (1, 3, 17):
            mask = half(6, length, seed=length)
            mask[0] = False  # a row without any, among others
            cases.append((filled((6, length), mask, value), {"where": mask}))
    for got, (_, kwargs) in zip(subject.check_values(row_operation, *cases), cases, strict=True):
        assert (got[~kwargs["where"]] == MASKED[row_operation]).all()


@pytest.mark.contract(15)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_masks_in_every_precision(subject: Subject, row_operation: str, dtype: str) -> None:
    mask = half(4, 9)
    with subject.all64():
        cases = [
            (subject.numpy(subject.array(filled((4, 9), mask, value), dtype)), {"where": mask})
            for value in (nan, inf, -inf, 65504.0)
        ]
        subject.check_values(row_operation, *cases)


MASK_SHAPES = [(), (1,), (4,), (1, 4), (3, 1), (3, 4), (2, 1, 1), (2, 3, 1), (1, 1, 4), (2, 1, 4), (1, 3, 4), (2, 3, 4)]


@pytest.mark.contract(15)
@pytest.mark.contract(16)
def test_masks_broadcast_along_every_axis(subject: Subject, row_operation: str) -> None:
    cases = []
    for number, shape in enumerate(MASK_SHAPES):
        mask = half(*shape, seed=number)
        axis = (-1, 0, 1, (0, 2), None, ())[number % 6]
        cases += [(filled((2, 3, 4), mask, nan), {"where": mask, "axis": axis})]
    cases += [
        (filled((2, 3, 4), half(3, 1), inf), {"where": half(3, 1), "axis": axis}) for axis in (0, 1, 2, (1, 2), None)
    ]
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(15)
def test_a_mask_of_true_changes_nothing(subject: Subject, row_operation: str) -> None:
    x = filled((3, 5), True, 0.0)
    subject.check_values(row_operation, (x, {"where": np.array(True)}), (x, {"where": np.ones((3, 5), bool)}))


@pytest.mark.contract(15)
def test_entries_that_take_part_are_not_excused(subject: Subject, row_operation: str) -> None:
    x = np.array([[nan, 1, 2], [inf, 1, 2], [-inf, 1, 2], [-inf, -inf, nan], [1, nan, 2]], "float32")
    mask = np.array([True, True, False])
    got = subject.check_values(row_operation, (x, {"where": mask}))[0]
    np.testing.assert_array_equal(np.isnan(got[:, :2]).all(1), [True, True, False, True, True])
    assert (got[:, 2] == MASKED[row_operation]).all()


@pytest.mark.contract(15)
def test_a_mask_over_a_long_row(subject: Subject, row_operation: str) -> None:
    mask = half(2, 5000)
    cases = [(filled((2, 5000), mask, value), {"where": mask}) for value in (nan, 1e38)]
    cases += [(np.ascontiguousarray(x.T), {"where": np.ascontiguousarray(mask.T), "axis": 0}) for x, _ in cases]
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(16)
def test_a_row_masked_out_entirely_is_zero(subject: Subject, row_operation: str, held: float) -> None:
    x = np.full((3, 4), held, "float32")
    x[1] = [1, 2, 3, 4]
    rows = np.array([[False], [True], [False]])
    got, everything = subject.calls(
        [(row_operation, x, {"where": rows}), (row_operation, x, {"where": np.array(False), "axis": None})]
    )
    masked = MASKED[row_operation]
    np.testing.assert_array_equal(subject.numpy(got)[[0, 2]], np.full((2, 4), masked))
    np.testing.assert_array_equal(subject.numpy(everything), np.full((3, 4), masked))


# --- gradients: zero where masked, never NaN -----------------------------------------------------------------------


def masked_case(held: float, dtype: str = "float32") -> tuple[Any, Any]:
    mask = half(5, 7, seed=3)
    mask[2] = False
    mask[3] = True
    return filled((5, 7), mask, held, dtype), mask


@pytest.mark.contract(15)
@pytest.mark.contract(16)
@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_the_gradient_is_zero_where_masked_and_never_nan(
    eager: Subject, row_operation: str, held: float, dtype: str
) -> None:
    with np.errstate(over="ignore"), eager.all64():
        x, mask = masked_case(held, dtype)
        direction = np.random.default_rng(1).normal(size=x.shape).astype(dtype)
        for kind in ("vjp", "jvp"):
            got = eager.derivative(kind, row_operation, x, direction, where=mask)
            check(got, expected_derivative(kind, row_operation, x, direction, where=mask), f"{eager}, {kind}")
            assert (got[~mask] == 0).all()


@pytest.mark.contract(15)
@pytest.mark.contract(16)
@pytest.mark.contract(22)
def test_the_second_derivative_is_zero_where_masked_and_never_nan(
    eager: Subject, row_operation: str, held: float
) -> None:
    x, mask = masked_case(held)
    c, u = (np.random.default_rng(seed).normal(size=x.shape).astype("float32") for seed in (1, 2))
    slope = polylogit.gradient(getattr(polylogit, row_operation), eager.array(c), where=eager.array(mask))
    expected = expected_second(row_operation, x, c, u, where=mask)
    for kind in ("vjp", "jvp"):
        got = eager.derivative(kind, slope, x, u)
        check(got, expected, f"{eager}, {kind} of the gradient")
        assert (got[~mask] == 0).all()


@pytest.mark.contract(15)
@pytest.mark.contract(22)
@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_cotangent_that_is_not_finite_where_masked_is_not_seen(
    eager: Subject, row_operation: str, bad: float
) -> None:
    x, mask = masked_case(nan)
    cotangent = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    spoiled = np.where(mask, cotangent, np.float32(bad))
    got = eager.derivative("vjp", row_operation, x, spoiled, where=mask)
    check(got, expected_derivative("vjp", row_operation, x, cotangent, where=mask), str(eager))


@pytest.mark.contract(15)
@pytest.mark.contract(16)
@pytest.mark.parametrize("axis", [0, None, (0, 1), ()])
def test_masked_gradients_along_other_axes(eager: Subject, row_operation: str, axis: Any) -> None:
    x, mask = masked_case(nan)
    mask[:, 2] = False
    x[:, 2] = inf
    direction = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    for kind in ("vjp", "jvp"):
        got = eager.derivative(kind, row_operation, x, direction, where=mask, axis=axis)
        check(got, expected_derivative(kind, row_operation, x, direction, where=mask, axis=axis), f"{eager}, {kind}")


@pytest.mark.contract(15)
@pytest.mark.contract(16)
@pytest.mark.contract(22)
def test_masked_gradients_of_long_rows(eager: Subject, row_operation: str) -> None:
    mask = half(3, 3000)
    mask[1] = False
    x = filled((3, 3000), mask, nan)
    direction = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    for kind in ("vjp", "jvp"):
        got = eager.derivative(kind, row_operation, x, direction, where=mask)
        check(got, expected_derivative(kind, row_operation, x, direction, where=mask), f"{eager}, {kind}")


def compiled_gradient(subject: Subject, operation: str, mask: Any, cotangent: Any) -> Callable[[Any, Any, Any], Any]:
    """The gradient by the framework's own means inside what is compiled."""
    function = getattr(polylogit, operation)
    if subject.name == "torch":
        import torch

        return lambda x, mask, g: torch.func.vjp(lambda x: function(x, where=mask), x)[1](g)[0]
    if subject.name == "tensorflow":
        import tensorflow as tf

        def gradient(x: Any, mask: Any, g: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x, where=mask)
            return tape.gradient(y, x, output_gradients=g)

        return gradient
    import jax

    return lambda x, mask, g: jax.vjp(lambda x: function(x, where=mask), x)[1](g)[0]


@pytest.mark.contract(15)
@pytest.mark.contract(16)
@pytest.mark.contract(22)
def test_compiled_gradients_are_zero_where_masked_and_never_nan(subject: Subject, row_operation: str) -> None:
    if subject.name == "numpy":
        return
    x, mask = masked_case(nan)
    x[:, 0], mask[:, 0] = inf, False
    cotangent = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    gradient = subject.compiled(compiled_gradient(subject, row_operation, mask, cotangent))
    got = subject.numpy(gradient(*map(subject.array, (x, mask, cotangent))))
    check(got, expected_derivative("vjp", row_operation, x, cotangent, where=mask), str(subject))


# --- what is no mask -------------------------------------------------------------------------------------------------


@pytest.mark.contract(15)
@pytest.mark.parametrize("mask", [np.ones(3), np.ones(3, "int32"), np.ones(3, "uint8"), np.ones(3, "float16")])
def test_a_mask_that_is_not_bool_is_a_type_error(refusing: Subject, row_operation: str, mask: Any) -> None:
    with refusing.all64(), pytest.raises(polylogit.errors.DTypeError, match=r"where=.*bool") as caught:
        refusing.call(row_operation, np.zeros((2, 3), "float32"), where=mask)
    assert mask.dtype.name in str(caught.value)


@pytest.mark.contract(15)
@pytest.mark.parametrize("shape", [(2,), (4, 3), (3, 2), (1, 2, 3), (2, 2, 3), (0,), (0, 3)])
def test_a_mask_that_does_not_broadcast_to_the_logits_is_an_error(
    refusing: Subject, row_operation: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(polylogit.errors.MaskError, match="does not broadcast") as caught:
        refusing.call(row_operation, np.zeros((2, 3), "float32"), where=np.ones(shape, bool))
    assert isinstance(caught.value, ValueError)
    assert str(shape) in str(caught.value)
    assert "(2, 3)" in str(caught.value)


@pytest.mark.contract(15)
def test_a_mask_may_be_a_python_sequence_or_bool(eager: Subject, row_operation: str) -> None:
    function, x = getattr(polylogit, row_operation), np.array([[1.0, 2.0], [3.0, nan]], "float32")
    for mask in ([True, False], [[True, False], [False, False]], False, True):
        got = eager.numpy(function(eager.array(x), where=mask))
        check(got, expected_value(row_operation, x, where=np.asarray(mask)), f"{eager}, {mask}")
    with pytest.raises(TypeError, match="bool"):
        function(eager.array(x), where=[1, 0])


@pytest.mark.contract(15)
def test_neither_the_logits_nor_the_mask_are_written_to(eager: Subject, row_operation: str) -> None:
    x, mask = masked_case(nan)
    given, given_mask = eager.array(x), eager.array(mask)
    getattr(polylogit, row_operation)(given, where=given_mask)
    np.testing.assert_array_equal(eager.numpy(given), x)
    np.testing.assert_array_equal(eager.numpy(given_mask), mask)
