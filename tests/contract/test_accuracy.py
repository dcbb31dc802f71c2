"""Rows 17, 18 and 21, and section 4 of the design: how near to the exact values, for whatever finite logits."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit
from frameworks import INSTALLED

from .conftest import Subject, expected_derivative, reduced
from .exact import Reference, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = np.ndarray[Any, Any]


def drawn(*shape: int, scale: float = 5.0, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape) * scale


def check_sums(value: Array, axis: int, what: str) -> None:
    """Rows of probabilities sum to one, to within the rounding of their entries and of one sum of them."""
    length = value.shape[axis]
    eps = float(np.finfo(value.dtype).eps)
    excess = np.abs(value.astype(np.longdouble).sum(axis) - 1).max()
    assert excess <= (2 + np.log2(length)) * eps, f"{what}: rows of {length} sum to 1 ± {excess:.3g}"


# --- row 17 ----------------------------------------------------------------------------------------------------------


def huge_rows(dtype: str) -> list[Array]:
    top = float(np.finfo(dtype).max)
    shift = {"float16": 6e4, "float32": 1e30, "float64": 1e300}[dtype]
    rows = [
        [top, top], [top, 0, -top], [-top, -top], [-top, top], [top, top * 0.999],
        [shift, shift, shift], [-shift, -shift, 0], [shift, -shift, 1], [top] * 17, [-top] * 33,
        [1e4, 1e4 + 8, 1e4 - 8],
        [-1e4, -1e4 - 8, -1e4 - 16], [88, 0, -88], [90, 0, -30], [120, 0], [104, 0, 1], [0, -104], [710, 0, -35][:3],
        np.linspace(-top / 2, top / 2, 65),
    ]  # fmt: skip
    return [np.array(row).astype(dtype) for row in rows]


@pytest.mark.contract(17)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_huge_finite_logits_do_not_overflow(subject: Subject, operation: str, dtype: str) -> None:
    with subject.all64():
        for value in subject.check_values(operation, *huge_rows(dtype)):
            assert not np.isnan(value).any()


@pytest.mark.contract(17)
@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_gradients_at_huge_logits_are_finite(eager: Subject, operation: str, dtype: str) -> None:
    with eager.all64():
        for x in huge_rows(dtype)[:8]:
            eager.check_derivatives(operation, x)


@pytest.mark.contract(17)
def test_a_shift_of_all_logits_changes_nothing(subject: Subject, row_operation: str) -> None:
    steps = np.arange(-8, 9) * 8.0
    subject.check_values(row_operation, *((steps + shift).astype("float32") for shift in (0, 1e4, -1e4, 1e7, -1e7)))


@pytest.mark.processor
@pytest.mark.contract(17)
@pytest.mark.contract(28)
def test_logits_made_by_a_product_inside_what_is_compiled_do_not_overflow(subject: Subject, row_operation: str) -> None:
    # Recomputed by a fused multiply-add, the largest logit differs from the maximum and its exponential overflows.
    function = getattr(polylogit, row_operation)
    scale = np.float32(1 / 0.7)
    for shape, axis in [((8, 64), -1), ((64, 8), 0), ((8, 2000), -1)]:
        x = (np.random.default_rng(0).normal(size=shape) * 1e10).astype("float32")
        made = subject.compiled(lambda x, axis=axis: function(x * scale, axis))(subject.array(x))
        check(subject.numpy(made, "float32"), getattr(Reference(x * scale, (axis,)), row_operation)(), str(subject))


# --- row 21 ----------------------------------------------------------------------------------------------------------


def tails(dtype: str) -> Array:
    lowest = float(np.log(np.finfo(dtype).tiny))
    points = [np.linspace(lowest * 1.02, 0, 1001), -np.linspace(lowest * 1.02, 0, 1001), -np.logspace(-30, 2, 200)]
    named = [-18, -45, -90, -104, -11.09, -11.1, -16.6, -17.3, -87.3, -88.7, -103.9, -709, -745, 18, 37, 90, 710]
    return np.concatenate([*points, named]).astype(dtype)


@pytest.mark.processor
@pytest.mark.contract(21)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_sigmoid_keeps_its_relative_accuracy_in_the_tails(subject: Subject, dtype: str) -> None:
    with subject.all64():
        x = subject.numpy(subject.array(tails("float64" if dtype == "float64" else "float32"), dtype))
        subject.check_values("sigmoid", x, x[::-1].copy(), x[: x.size // 2 * 2].reshape(2, -1))


@pytest.mark.processor
@pytest.mark.contract(21)
@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_slope_of_sigmoid_keeps_its_accuracy_in_the_tails(eager: Subject, dtype: str) -> None:
    with eager.all64():
        x = eager.numpy(eager.array(tails("float64" if dtype == "float64" else "float32"), dtype))
        eager.check_derivatives("sigmoid", x)
        eager.check_second("sigmoid", x)


# --- rows of every length --------------------------------------------------------------------------------------------

LENGTHS = (
    1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 191, 250, 255, 257, 383, 500, 511, 513,
    517, 1000, 1023, 1025, 2049, 3001, 5000,
)  # fmt: skip
# A compiler takes long for each length: those on both sides of a register's width, of a block and of a level of sums.
COMPILED = (1, 2, 3, 7, 8, 9, 16, 17, 31, 33, 65, 129, 257, 517, 1000, 1025, 3001)


# With less of the processor two of them will do: one along registers, one across.
FORMATS = [
    pytest.param("float32", -1, marks=pytest.mark.processor),
    ("float32", 0),
    ("float64", -1),
    pytest.param("float64", 0, marks=pytest.mark.processor),
]


def lengths(subject: Subject) -> tuple[int, ...]:
    return COMPILED if subject.mode != "eager" or subject.backend.always_compiles else LENGTHS


@pytest.mark.contract(18)
@pytest.mark.parametrize(("dtype", "axis"), FORMATS)
def test_rows_of_every_length_are_within_the_bound(subject: Subject, row_operation: str, dtype: str, axis: int) -> None:
    cases = []
    for length in lengths(subject):
        x = np.stack([drawn(length, seed=length), np.full(length, -0.1), drawn(length, seed=length, scale=30)])
        x[1, 0] = 0
        x = x.astype(dtype)
        cases.append(x if axis == -1 else np.ascontiguousarray(x.T))
    with subject.all64():
        values = subject.check_values(row_operation, *cases, axis=axis)
    if row_operation == "softmax":
        for value in values:
            check_sums(value, axis, str(subject))


def losing(length: int, dtype: str) -> Array:
    """Rows whose sum loses half an eps with each addition to the leading term: first, last or in between."""
    rows = np.full((4, length), np.log(0.49 * np.finfo(dtype).eps))
    rows[0, 0] = rows[1, -1] = rows[2, length // 2] = 0
    rows[3, ::32] = 0
    return rows.astype(dtype)


@pytest.mark.contract(18)
@pytest.mark.parametrize(("dtype", "axis"), FORMATS)
def test_no_chain_of_additions_is_longer_than_32(subject: Subject, dtype: str, axis: int) -> None:
    several = [length for length in lengths(subject) if length > 1]
    cases = [losing(length, dtype) for length in several]
    arrays = [x if axis == -1 else np.ascontiguousarray(x.T) for x in cases]
    with subject.all64():
        found = subject.calls([("softmax", x, {"axis": axis}) for x in arrays])
        values = [subject.numpy(value, dtype) for value in found]
    for length, value in zip(several, values, strict=True):
        levels = np.ceil(np.log(length) / np.log(32) - 1e-9)
        roundings = max(2 * np.log2(length), min(length - 1, 31 * levels))
        off = np.abs(value.astype(np.longdouble).sum(axis) - 1).max() / float(np.finfo(dtype).eps)
        # Those of the sum, and of what the terms are divided by or multiplied with.
        assert off <= roundings / 2 + 2, f"{subject}: rows of {length} sum to 1 ± {off:.3g} eps"


def adversarial(length: int, dtype: str) -> Iterator[tuple[str, Array]]:
    """Rows whose running sums drift: equal terms, and those that rounding always sends the same way."""
    yield "N(0, 5)", drawn(length, seed=1).astype(dtype)
    yield "uniform", np.random.default_rng(2).uniform(-1, 1, length).astype(dtype)
    constant = np.full(length, -0.1, dtype)
    constant[0] = 0
    yield "constant", constant
    yield "zeros", np.zeros(length, dtype)
    yield "falling", np.linspace(0, -20, length).astype(dtype)


@pytest.mark.processor
@pytest.mark.contract(18)
@pytest.mark.parametrize(("length", "dtype"), [(5_000, "float64"), (128_256, "float32")])
def test_long_rows_are_within_the_bound_on_every_axis(
    subject: Subject, row_operation: str, dtype: str, length: int
) -> None:
    rows = np.stack([x for _, x in adversarial(length, dtype)])
    columns, middle = np.ascontiguousarray(rows.T), np.ascontiguousarray(rows.T[None, :, :2])
    with subject.all64():
        values = subject.check_values(row_operation, (rows, {}), (columns, {"axis": 0}), (middle, {"axis": 1}))
    if row_operation == "softmax":
        for value, axis in zip(values, (-1, 0, 1), strict=True):
            check_sums(value, axis, str(subject))


@pytest.mark.processor
@pytest.mark.contract(18)
@pytest.mark.contract(22)
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradients_of_long_rows_are_within_the_bound(
    eager: Subject, row_operation: str, dtype: str, axis: int
) -> None:
    x = np.stack([x for _, x in adversarial(40_000, dtype)])
    direction = np.stack([np.ones(40_000), *drawn(4, 40_000, scale=1)]).astype(dtype)
    if axis == 0:
        x, direction = np.ascontiguousarray(x.T), np.ascontiguousarray(direction.T)
    with eager.all64():
        for kind in ("vjp", "jvp"):
            got = eager.derivative(kind, row_operation, x, direction, axis=axis)
            check(got, expected_derivative(kind, row_operation, x, direction, axis=axis), f"{eager}, {kind}")


# Four million elements in each way that they can lie along the axes of an array, each with another filling.
LAYOUTS = [
    ((4_000_000,), -1, "float32", 2), ((1, 4_000_000), 1, "float64", 2), ((4_000_000, 1), 0, "float32", 0),
    ((2, 2_000_000, 1), 1, "float32", 2), ((1_000_000, 2, 2), 0, "float32", 2), ((2_000_000, 2), 0, "float64", 0),
    ((2000, 2000), None, "float32", 4), ((2, 4, 500_000), (1, 2), "float32", 1),
]  # fmt: skip


@pytest.mark.contract(18)
@pytest.mark.parametrize(("shape", "axis", "dtype", "filling"), LAYOUTS, ids=str)
def test_four_million_elements_are_within_the_bound(
    shape: tuple[int, ...], axis: Any, dtype: str, filling: int
) -> None:
    name, x = next(itertools.islice(adversarial(4_000_000, dtype), filling, None))
    x = x.reshape(shape)
    reference = Reference(x, reduced(shape, axis))
    exact = {"softmax": reference.softmax(), "log_softmax": reference.log_softmax()}
    for subject in (Subject(backend, "eager") for backend in INSTALLED):
        for operation, expected in exact.items():
            what = f"{subject}, {operation} of {name}"
            with subject.all64():
                value = subject.call(operation, x, axis=axis, result=dtype)
            check(value, expected, what)
            if operation == "softmax" and isinstance(axis, int):
                check_sums(value, axis, what)


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.processor
@pytest.mark.contract(18)
@pytest.mark.requires("torch")
@pytest.mark.parametrize("threads", [1, 2])
def test_pytorch_is_within_the_bound_with_any_number_of_threads(row_operation: str, threads: int) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        subject = Subject("torch", "eager")
        for length in (1024, 1025, 200_000):
            rows = np.stack([x for _, x in adversarial(length, "float32")])
            subject.check_values(row_operation, rows, (np.ascontiguousarray(rows.T), {"axis": 0}))
    finally:
        torch.set_num_threads(before)


# --- PyTorch's Inductor, which writes and compiles C++ ---------------------------------------------------------------


@pytest.mark.processor
@pytest.mark.contract(28)
@pytest.mark.requires("torch")
def test_what_inductor_makes_of_the_operations_is_within_the_bound() -> None:
    subject = Subject("torch", "inductor")
    for operation in ("softmax", "log_softmax"):
        cases: list[Any] = [
            (drawn(3, 40).astype("float32"), {}), (drawn(40, 3).astype("float32"), {"axis": 0}),
            (np.float32([[0, np.nan, 1], [np.inf, 0, 1], [-np.inf] * 3, [-np.inf, 0, 1]]), {}),
            (drawn(3, 5000).astype("float32"), {}), (np.zeros(65_520, "float16"), {}),
            (np.float32([[np.nan, 1, 2], [3, 4, 5]]), {"where": np.array([[False, True, True], [False] * 3])}),
            (np.uint8([1, 2, 255]), {}), (drawn(2, 3, 4).astype("float32"), {"axis": (0, 2)}),
            (drawn(5, 1).astype("float32"), {}), (np.float32([1e30, -1e30, 3.4e38]), {}),
        ]  # fmt: skip
        subject.check_values(operation, *cases)
    subject.check_values("sigmoid", tails("float32"), tails("float32").astype("float16"), np.int8([-128, 0, 127]))
