"""Rows 5 to 11: along which axes, and what an empty, a size-1 and a 0-d array are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit

if TYPE_CHECKING:
    from .conftest import Subject

IDENTITY = {"softmax": 1.0, "log_softmax": 0.0}
MASKED = {"softmax": 0.0, "log_softmax": -np.inf}


def normal(*shape: int, dtype: str = "float32") -> Any:
    return (np.random.default_rng(len(shape)).normal(size=shape) * 5).astype(dtype)


def ones(operation: str, x: Any, **kwargs: Any) -> tuple[str, Any, dict[str, Any]]:
    return operation, x, kwargs


@pytest.mark.contract(5)
def test_a_0d_array_is_a_row_of_one(subject: Subject, row_operation: str) -> None:
    cases = [
        ones(row_operation, np.array(value, dtype), axis=axis)
        for value, axis, dtype in [
            (3, -1, "float32"), (3, 0, "float32"), (3, None, "float32"), (3, (), "float32"), (-1e30, -1, "float32"),
            (3, -1, "float16"), (3, -1, "int32"), (3, None, "uint8"), (True, 0, "bool"),
        ]
    ]  # fmt: skip
    for got in map(subject.numpy, subject.calls(cases)):
        assert got.shape == ()
        assert got == IDENTITY[row_operation]


@pytest.mark.contract(5)
def test_a_0d_array_of_no_number_is_nan(subject: Subject, row_operation: str) -> None:
    for got in subject.calls([ones(row_operation, np.float32(bad)) for bad in (np.nan, np.inf, -np.inf)]):
        assert np.isnan(subject.numpy(got))


@pytest.mark.contract(5)
def test_the_gradients_at_a_0d_array_are_zero(eager: Subject, row_operation: str) -> None:
    eager.check_derivatives(row_operation, np.array(3.0, "float32"))
    eager.check_second(row_operation, np.array(3.0, "float32"))


@pytest.mark.contract(5)
def test_a_0d_sigmoid_keeps_its_shape(subject: Subject) -> None:
    subject.check_values("sigmoid", np.array(-3.0, "float32"), np.array(2, "int32"))


@pytest.mark.contract(5)
def test_a_0d_mask_on_a_0d_array(subject: Subject, row_operation: str) -> None:
    x = np.array(3.0, "float32")
    held, out = subject.calls([ones(row_operation, x, where=np.array(there), axis=None) for there in (True, False)])
    assert subject.numpy(held) == IDENTITY[row_operation]
    assert subject.numpy(out) == MASKED[row_operation]


@pytest.mark.contract(6)
def test_a_row_of_one_is_exactly_one(subject: Subject, row_operation: str) -> None:
    cases = [
        ones(row_operation, normal(*shape, dtype=dtype) * 20, axis=axis)
        for shape, axis in [((100, 1), -1), ((1, 100), 0), ((7, 1, 9), 1), ((50, 1, 1), (1, 2)), ((1,), 0)]
        for dtype in ("float32", "float16", "float64")
    ]
    with subject.all64():
        for got, (_, x, _) in zip(subject.calls(cases), cases, strict=True):
            value = subject.numpy(got, x.dtype.name)
            assert value.shape == x.shape
            assert (value == IDENTITY[row_operation]).all()


@pytest.mark.contract(6)
def test_the_gradient_of_a_row_of_one_is_zero(eager: Subject, row_operation: str) -> None:
    eager.check_derivatives(row_operation, normal(100, 1))


EMPTY = [
    (shape, axis)
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 3), (0, 0)]
    for axis in [*range(-len(shape), len(shape)), None, (), tuple(range(len(shape)))]
]


@pytest.mark.contract(7)
def test_empty_arrays_stay_empty(subject: Subject, row_operation: str) -> None:
    cases = [ones(row_operation, np.zeros(shape, "float32"), axis=axis) for shape, axis in EMPTY]
    cases += [
        ones(row_operation, np.zeros((3, 0), dtype), axis=axis) for dtype in ("float16", "int8") for axis in (0, 1)
    ]
    cases += [
        ones(row_operation, np.zeros((3, 0), "float32"), where=np.ones(mask, bool)) for mask in ((), (3, 1), (3, 0))
    ]
    cases += [ones(row_operation, np.zeros((3, 0), "float32"), dtype="float16", axis=axis) for axis in (0, 1, None)]
    for got, (_, x, kwargs) in zip(subject.calls(cases), cases, strict=True):
        value = subject.numpy(got)
        assert value.shape == x.shape, kwargs
        assert value.dtype.kind == "f"


@pytest.mark.contract(7)
@pytest.mark.parametrize(
    ("shape", "axis"), [((0,), -1), ((3, 0), -1), ((3, 0), 0), ((2, 0, 3), (0, 1)), ((0, 3), None)]
)
def test_the_derivatives_of_empty_arrays_are_empty(
    eager: Subject, row_operation: str, shape: tuple[int, ...], axis: Any
) -> None:
    x = np.zeros(shape, "float32")
    for kind in ("vjp", "jvp"):
        assert eager.derivative(kind, row_operation, x, x, axis=axis).shape == shape


@pytest.mark.contract(7)
def test_an_empty_sigmoid_is_empty(subject: Subject) -> None:
    subject.check_values("sigmoid", *(np.zeros(shape, "float32") for shape in ((0,), (0, 3), (2, 0, 3))))


@pytest.mark.contract(7)
def test_empty_python_sequences_are_empty(row_operation: str) -> None:
    for empty in ([], [[]], [[], []], ()):
        assert getattr(polylogit, row_operation)(empty).shape == np.asarray(empty).shape


@pytest.mark.contract(8)
def test_no_axis_means_all_axes(subject: Subject, row_operation: str) -> None:
    shapes = [(5,), (4, 5), (2, 3, 4), (2, 2, 2, 2), (2, 1, 2, 1, 2, 2), (2,) * 7]
    subject.check_values(row_operation, *(normal(*shape) for shape in shapes), axis=None)


@pytest.mark.contract(8)
def test_derivatives_along_all_axes(eager: Subject, row_operation: str) -> None:
    eager.check_derivatives(row_operation, normal(2, 3, 4), axis=None)


@pytest.mark.contract(9)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_set_of_axes_is_normalised_jointly(subject: Subject, row_operation: str, dimensions: int) -> None:
    every: list[Any] = []
    for count in range(1, dimensions + 1):
        for axes in itertools.permutations(range(dimensions), count):
            every += [axes, tuple(axis - dimensions for axis in axes), (axes[0] - dimensions, *axes[1:])]
    every += range(-dimensions, dimensions)
    x = normal(*(2, 3, 4)[:dimensions])
    subject.check_values(row_operation, *((x, {"axis": axis}) for axis in [(), *every]))


@pytest.mark.contract(9)
@pytest.mark.parametrize("axis", [0, 1, (0, 2), ()])
def test_derivatives_along_any_axes(eager: Subject, row_operation: str, axis: Any) -> None:
    eager.check_derivatives(row_operation, normal(2, 3, 4), axis=axis)


@pytest.mark.contract(9)
@pytest.mark.parametrize("dimensions", [5, 6, 8])
def test_arrays_of_many_dimensions(subject: Subject, row_operation: str, dimensions: int) -> None:
    x = normal(*(2,) * dimensions)
    subject.check_values(row_operation, *((x, {"axis": axis}) for axis in (-1, 0, dimensions // 2, (0, -1))))


@pytest.mark.contract(9)
def test_no_axes_at_all_makes_every_entry_a_row(subject: Subject, row_operation: str) -> None:
    x = np.array([[1.0, np.nan], [np.inf, -np.inf], [0.0, 5.0]], "float32")
    got, masked = subject.calls(
        [ones(row_operation, x, axis=()), ones(row_operation, x, axis=(), where=np.array([True, False]))]
    )
    one, none = IDENTITY[row_operation], MASKED[row_operation]
    np.testing.assert_array_equal(subject.numpy(got), [[one, np.nan], [np.nan, np.nan], [one, one]])
    np.testing.assert_array_equal(subject.numpy(masked), [[one, none], [np.nan, none], [one, none]])


# Dynamo puts exceptions of its own in the place of all others, and is left out of what is refused.


@pytest.mark.contract(9)
@pytest.mark.parametrize("axis", [(0, 0), (0, -2), (-1, 1), (1, 1, 0)])
def test_an_axis_named_twice_is_an_error(refusing: Subject, row_operation: str, axis: Any) -> None:
    with pytest.raises(ValueError, match="once") as caught:
        refusing.call(row_operation, normal(2, 3), axis=axis)
    assert repr(axis) in str(caught.value)


@pytest.mark.contract(9)
def test_numpy_integers_are_axes(eager: Subject, row_operation: str) -> None:
    function, x = getattr(polylogit, row_operation), eager.array(normal(3, 4))
    for axis in (np.int64(0), np.uint8(0), (np.int32(0),), np.array(0)):
        np.testing.assert_array_equal(eager.numpy(function(x, axis)), eager.numpy(function(x, 0)))


@pytest.mark.contract(9)
def test_the_axis_may_be_given_by_position_or_by_name(eager: Subject, row_operation: str) -> None:
    function, x = getattr(polylogit, row_operation), eager.array(normal(3, 4))
    np.testing.assert_array_equal(eager.numpy(function(x, 0)), eager.numpy(function(x, axis=0)))


@pytest.mark.contract(10)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3,), 1),
        ((3,), -2),
        ((2, 3), (0, 2)),
        ((), 1),
        ((), -2),
        ((0,), 1),
        ((2,) * 6, 6),
        ((2, 3), 2**63),
        ((3,), -(10**30)),
    ],
)
def test_an_axis_out_of_range_is_an_axis_error(
    refusing: Subject, row_operation: str, shape: tuple[int, ...], axis: Any
) -> None:
    for dtype in ("float32", "int32"):
        with pytest.raises(polylogit.errors.AxisError, match="out of range") as caught:
            refusing.call(row_operation, np.zeros(shape, dtype), axis=axis)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, IndexError)
        assert repr(axis) in str(caught.value)
        assert f"{len(shape)} dimension" in str(caught.value)


@pytest.mark.contract(10)
def test_an_axis_out_of_range_is_an_axis_error_with_masks_dtypes_and_derivatives(
    eager: Subject, row_operation: str
) -> None:
    x = normal(2, 3)
    with pytest.raises(polylogit.errors.AxisError):
        eager.call(row_operation, x, axis=2, where=np.ones(3, bool))
    with pytest.raises(polylogit.errors.AxisError):
        eager.call(row_operation, x, axis=2, dtype="float16")
    for kind in ("vjp", "jvp"):
        with pytest.raises(polylogit.errors.AxisError):
            eager.derivative(kind, row_operation, x, x, axis=-3)


@pytest.mark.contract(11)
@pytest.mark.parametrize(
    "axis", [True, False, 0.0, 1.5, "0", (True,), (0, 1.0), (0, False), b"0", 1j, (None,), ((0,),)]
)
def test_an_axis_that_is_no_integer_is_a_type_error(refusing: Subject, row_operation: str, axis: Any) -> None:
    with pytest.raises(TypeError, match="an axis is") as caught:
        refusing.call(row_operation, normal(2, 3), axis=axis)
    assert repr(axis) in str(caught.value)


@pytest.mark.contract(11)
@pytest.mark.parametrize("axis", [np.bool_(True), np.float64(0), np.array([True]), np.array([0.0])])
def test_numpy_bools_and_floats_are_no_axes(eager: Subject, row_operation: str, axis: Any) -> None:
    with pytest.raises(TypeError, match="an axis is"):
        eager.call(row_operation, normal(2, 3), axis=axis)
