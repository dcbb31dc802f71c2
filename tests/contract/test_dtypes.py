"""Rows 1 to 4: what is cast, what is refused, and in which precision a result is computed."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import polylogit
from frameworks import enable_x64, older

from .conftest import Subject, expected_derivative
from .exact import check

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SMALL_FLOATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def every_value(name: str) -> Any:
    """All the numbers that an 8-bit or 16-bit floating dtype has, NaN and the infinities among them."""
    bits = dtype_of(name).itemsize * 8
    return np.arange(2**bits, dtype=f"uint{bits}").view(dtype_of(name))


# --- row 1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.contract(1)
def test_integers_are_cast_before_anything_is_computed(subject: Subject, operation: str) -> None:
    cases: list[Any] = [np.array([[1, 2, 3], [3, 3, 0]], dtype) for dtype in INTEGERS]
    cases += [np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1], dtype) for dtype in INTEGERS]
    cases += [np.array([0, 255, 254, 250], "uint8"), np.array([-128, 127, 126], "int8")]
    cases += [np.array([True, False, True]), np.array([[False], [False]])]
    with subject.all64():
        subject.check_values(operation, *cases)


@pytest.mark.contract(1)
def test_the_result_of_integers_has_the_default_floating_dtype(subject: Subject, operation: str) -> None:
    subject.check_values(operation, *(np.array([1, 2, 3], dtype) for dtype in ("int8", "uint8", "int32", "bool")))


@pytest.mark.contract(1)
def test_integers_along_any_axis_and_under_a_mask(subject: Subject, row_operation: str) -> None:
    x = np.array([[1, 200, 3], [4, 0, 255]], "uint8")
    mask = np.array([[True, False, True], [True, True, True]])
    cases = [
        (x, {"axis": 0}),
        (x, {"axis": None}),
        (x, {"axis": ()}),
        (x, {"where": mask}),
        (x, {"where": mask[:, :1]}),
    ]
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(1)
@pytest.mark.requires("torch")
def test_pytorchs_default_dtype_is_honoured(operation: str) -> None:
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        assert getattr(polylogit, operation)(torch.tensor([1, 2, 3], dtype=torch.uint8)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.contract(1)
@pytest.mark.requires("torch")
def test_a_16_bit_default_dtype_of_pytorch_is_honoured_with_a_float32_sum(row_operation: str) -> None:
    import torch

    torch.set_default_dtype(torch.float16)
    try:
        got = getattr(polylogit, row_operation)(torch.zeros(65520, dtype=torch.int32))
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float16
    expected = {"softmax": np.float16(1 / 65520), "log_softmax": np.float16(-np.log(65520))}[row_operation]
    assert (got == float(expected)).all()


@pytest.mark.contract(1)
def test_integers_are_differentiated_as_the_floats_they_are_cast_to(eager: Subject, operation: str) -> None:
    function = getattr(polylogit, operation)
    x, direction = np.array([1, 2, 3], "uint8"), np.array([1.0, -2.0, 0.5], eager.default_float())
    _, pullback = polylogit.vjp(function, eager.array(x))
    _, exact = polylogit.vjp(function, eager.array(x.astype(eager.default_float())))
    np.testing.assert_array_equal(
        eager.numpy(pullback(eager.array(direction))), eager.numpy(exact(eager.array(direction)))
    )


# --- row 2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.contract(2)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_logits_are_refused_by_name(refusing: Subject, operation: str, dtype: str) -> None:
    with refusing.all64(), pytest.raises(TypeError, match=dtype) as caught:
        refusing.call(operation, np.array([1 + 2j, 3], dtype))
    assert isinstance(caught.value, polylogit.errors.PolylogitError)


@pytest.mark.contract(2)
def test_complex_logits_are_refused_with_masks_dtypes_and_derivatives(eager: Subject, row_operation: str) -> None:
    x = np.array([1 + 2j, 3], "complex64")
    for kwargs in ({"where": np.array([True, False])}, {"dtype": "float32"}, {"axis": None}, {"axis": ()}):
        with pytest.raises(polylogit.errors.DTypeError, match="complex64"):
            eager.call(row_operation, x, **kwargs)
    for kind in ("vjp", "jvp"):
        with pytest.raises(TypeError):
            eager.derivative(kind, row_operation, x, x)


@pytest.mark.contract(2)
@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "b"]), np.array([b"a"]), np.array([1, "x", None], object), np.array([1.0, 2.0], object),
        np.array(["2020-01-01"], "datetime64[D]"), np.array([1], "timedelta64[s]"), np.array([(1, 2.0)], "i4,f4"),
        np.array("a"), np.array([], object), np.array([1, 2], dtype=np.clongdouble),
    ],
    ids=lambda value: str(value.dtype),
)  # fmt: skip
def test_numpy_arrays_that_hold_no_real_numbers_are_refused_by_name(operation: str, value: Any) -> None:
    with pytest.raises(polylogit.errors.DTypeError) as caught:
        getattr(polylogit, operation)(value)
    assert str(value.dtype) in str(caught.value)


@pytest.mark.contract(2)
@pytest.mark.parametrize("value", [["a", "b"], [[1.0, "b"]], [None, 1.0], [1j, 2.0], 1j, [{}], [b"1"]])
def test_sequences_that_hold_no_real_numbers_are_refused(eager: Subject, operation: str, value: Any) -> None:
    for name in (None, eager.name):
        with pytest.raises(TypeError) as caught:
            getattr(polylogit, operation)(value, backend=name)
        assert isinstance(caught.value, polylogit.errors.PolylogitError), value


@pytest.mark.contract(2)
@pytest.mark.requires("tensorflow")
def test_tensorflows_strings_and_quantised_tensors_are_refused(operation: str) -> None:
    import tensorflow as tf

    for tensor in (tf.constant(["a"]), tf.zeros([2], tf.qint8), tf.constant([1 + 1j])):
        with pytest.raises(polylogit.errors.DTypeError, match=tensor.dtype.name):
            getattr(polylogit, operation)(tensor)


@pytest.mark.contract(2)
@pytest.mark.requires("torch")
@pytest.mark.filterwarnings("ignore:.*quantized.*")
def test_pytorchs_quantised_tensors_are_refused(operation: str) -> None:
    import torch

    quantised = torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)
    with pytest.raises(polylogit.errors.DTypeError, match="qint8"):
        getattr(polylogit, operation)(quantised)


# --- row 3 -----------------------------------------------------------------------------------------------------------


def long_rows(dtype: str) -> list[Any]:
    kind = dtype_of(dtype)
    drawn = np.random.default_rng(3).normal(size=4097) * 4
    return [
        np.zeros(65_520, kind), np.ones(2**17, kind), np.zeros(512, kind), np.full(300, -3, kind), drawn.astype(kind),
        np.zeros((3, 4096), kind), np.linspace(-8, 8, 1000).astype(kind),
    ]  # fmt: skip


@pytest.mark.contract(3)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_of_16_bits_are_summed_in_32_and_rounded_once(subject: Subject, row_operation: str, dtype: str) -> None:
    cases = [(x, {}) for x in long_rows(dtype)]
    cases += [
        (np.zeros((66_000, 2), dtype_of(dtype)), {"axis": 0}),
        (np.zeros((300, 300), dtype_of(dtype)), {"axis": None}),
    ]
    subject.check_values(row_operation, *cases)


@pytest.mark.contract(3)
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_rows_of_8_bits_are_summed_in_32_and_rounded_once(subject: Subject, operation: str, dtype: str) -> None:
    if dtype in subject.backend.dtypes():
        x = (np.random.default_rng(0).normal(size=(3, 17)) * 3).astype(dtype_of(dtype))
        subject.check_values(operation, x, np.zeros(64, dtype_of(dtype)))


@pytest.mark.contract(3)
@pytest.mark.contract(21)
@pytest.mark.parametrize("dtype", SMALL_FLOATS)
def test_the_sigmoid_of_every_number_of_a_small_dtype_is_rounded_once(subject: Subject, dtype: str) -> None:
    # XLA rounded twice on the way to 8 bits: one value of 256 is a spacing off (docs/versions.md).
    since = {("tensorflow", "xla"): "2.21", ("jax", subject.mode): "0.10"}.get((subject.name, subject.mode))
    twice = dtype == "float8_e4m3fn" and since is not None and older(subject.name, since)
    if dtype in subject.backend.dtypes() and not twice:
        subject.check_values("sigmoid", every_value(dtype))


@pytest.mark.contract(3)
@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_gradients_of_long_16_bit_rows_do_not_overflow(eager: Subject, row_operation: str, dtype: str) -> None:
    kind = dtype_of(dtype)
    for x in (np.ones(2**17, kind), np.zeros(65_520, kind)):
        for cotangent in (np.ones_like(x), np.linspace(-2, 2, x.size).astype(kind)):
            for which in ("vjp", "jvp"):
                got = eager.derivative(which, row_operation, x, cotangent)
                assert got.dtype == kind
                check(got, expected_derivative(which, row_operation, x, cotangent), f"{eager}, {which}")


@pytest.mark.contract(3)
@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", SMALL_FLOATS)
def test_the_gradients_of_small_dtypes_are_rounded_once(eager: Subject, operation: str, dtype: str) -> None:
    if dtype in eager.backend.dtypes():
        eager.check_derivatives(operation, (np.random.default_rng(0).normal(size=(3, 17)) * 3).astype(dtype_of(dtype)))


# --- row 4 -----------------------------------------------------------------------------------------------------------

TELLING = np.array([2049.0, 2048.0, 2047.5])  # float16 cannot tell these apart
CLOSE = np.array([1e8 + 0.5, 1e8, 1e8 - 0.25])  # nor float32 these


@pytest.mark.contract(4)
def test_a_narrower_result_is_computed_before_it_is_rounded(subject: Subject, row_operation: str) -> None:
    with subject.all64():
        subject.check_values(
            row_operation,
            (CLOSE, {"dtype": "float32"}), (CLOSE, {"dtype": "float16"}), (CLOSE, {"dtype": "bfloat16"}),
            (TELLING.astype("float32"), {"dtype": "float16"}), (TELLING.astype("float32"), {"dtype": "bfloat16"}),
            (CLOSE, {"dtype": "float32", "axis": None, "where": np.array([True, True, False])}),
        )  # fmt: skip


@pytest.mark.contract(4)
def test_a_wider_result_is_computed_in_its_precision(subject: Subject, operation: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 33)) * 4
    with subject.all64():
        subject.check_values(
            operation,
            (x.astype("float16"), {"dtype": "float32"}), (x.astype("float16"), {"dtype": "float64"}),
            (x.astype("float32"), {"dtype": "float64"}), (x.astype(ml_dtypes.bfloat16), {"dtype": "float32"}),
            (x.astype("float32"), {"dtype": "float32"}), (x, {"dtype": "float64"}),
        )  # fmt: skip


@pytest.mark.contract(4)
def test_a_long_row_with_a_wider_result_is_within_the_wider_bound(subject: Subject, row_operation: str) -> None:
    x = (np.random.default_rng(1).normal(size=(2, 5000)) * 3).astype("float16")
    with subject.all64():
        subject.check_values(row_operation, (x, {"dtype": "float64"}), (x, {"dtype": "float32"}))


@pytest.mark.contract(4)
def test_sigmoid_with_a_narrower_result(subject: Subject) -> None:
    x = np.array([-20.0, -9.123456789, 0.0, 1e-9, 3.3])
    with subject.all64():
        subject.check_values("sigmoid", *((x, {"dtype": name}) for name in ("float32", "float16", "bfloat16")))


@pytest.mark.contract(4)
def test_integers_take_any_floating_dtype(subject: Subject, operation: str) -> None:
    x = np.array([3, 1, 2], "int32")
    with subject.all64():
        subject.check_values(
            operation, *((x, {"dtype": name}) for name in ("float64", "float32", "float16", "bfloat16"))
        )


@pytest.mark.contract(4)
def test_integers_too_large_for_float32_are_exact_in_float64(subject: Subject, row_operation: str) -> None:
    with subject.all64():
        subject.check_values(row_operation, np.array([2**24 + 1, 2**24, 2**24 - 1], "int32"), dtype="float64")


@pytest.mark.contract(4)
def test_a_dtype_may_be_a_name_a_numpy_dtype_or_the_frameworks_own(eager: Subject, operation: str) -> None:
    own = {
        "numpy": np.dtype, "torch": lambda name: getattr(__import__("torch"), name),
        "tensorflow": lambda name: getattr(__import__("tensorflow"), name),
        "jax": lambda name: getattr(__import__("jax").numpy, name),
    }[eager.name]  # fmt: skip
    x = np.array([1.0, 2.0], "float32")
    for name in ("float16", "float32"):
        for dtype in (name, np.dtype(name), getattr(np, name), own(name)):
            eager.call(operation, x, dtype=dtype, result=name)
    for dtype in ("bfloat16", np.dtype(ml_dtypes.bfloat16), ml_dtypes.bfloat16):
        eager.call(operation, x, dtype=dtype, result="bfloat16")


@pytest.mark.contract(4)
@pytest.mark.parametrize(
    "dtype",
    ["int32", "bool", "complex64", np.int8, np.dtype("uint8"), "str", "nonsense", 5, np.complex128, object, "O", int],
)
def test_a_dtype_that_is_not_floating_is_a_type_error(refusing: Subject, operation: str, dtype: Any) -> None:
    with pytest.raises(TypeError, match="dtype") as caught:
        refusing.call(operation, np.array([1.0, 2.0], "float32"), dtype=dtype)
    assert isinstance(caught.value, polylogit.errors.DTypeError)
    assert repr(dtype) in str(caught.value)


@pytest.mark.contract(4)
@pytest.mark.contract(22)
@pytest.mark.parametrize(("given", "dtype"), [("float16", "float32"), ("float32", "float16"), ("float64", "float32")])
def test_derivatives_through_a_dtype(eager: Subject, operation: str, given: str, dtype: str) -> None:
    x = (np.random.default_rng(0).normal(size=(3, 5)) * 3).astype(given)
    cotangent = np.random.default_rng(1).normal(size=(3, 5)).astype(dtype)
    with eager.all64():
        got = eager.derivative("vjp", operation, x, cotangent, dtype=dtype)
        assert got.dtype == given
        check(got, expected_derivative("vjp", operation, x, cotangent, dtype=dtype))
        tangent = np.random.default_rng(1).normal(size=(3, 5)).astype(given)
        got = eager.derivative("jvp", operation, x, tangent, dtype=dtype)
        assert got.dtype == dtype
        check(got, expected_derivative("jvp", operation, x, tangent, dtype=dtype))


@pytest.mark.contract(4)
@pytest.mark.requires("jax")
def test_float64_without_jaxs_64_bit_mode_is_refused_with_the_remedy(operation: str) -> None:
    import jax

    with enable_x64(False), pytest.raises(polylogit.errors.DTypeError, match="jax_enable_x64"):
        getattr(polylogit, operation)(jax.numpy.ones(3), dtype="float64")
