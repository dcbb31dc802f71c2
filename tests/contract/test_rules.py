"""The rules on axes, dtypes, masks and temperatures by themselves: no array, no framework."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from polylogit import _contract as rules
from polylogit.errors import AxisError, AxisTypeError, DTypeError, MaskError, TemperatureError


def text(call, *given):
    with pytest.raises((AxisError, AxisTypeError, DTypeError, MaskError, TemperatureError)) as caught:
        call(*given)
    return str(caught.value)


# --- axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "ndim", "axes"),
    [
        (-1, 1, (0,)),
        (0, 1, (0,)),
        (-2, 3, (1,)),
        (2, 3, (2,)),
        ((-1, 0), 3, (0, 2)),
        ([1], 2, (1,)),
        ((), 2, ()),
        (None, 3, (0, 1, 2)),
        (None, 0, ()),
        (0, 0, ()),
        (-1, 0, ()),
        ((0,), 0, ()),
    ],
)
def test_axes_are_counted_from_the_first_and_in_order(axis, ndim, axes):
    assert rules.normalize_axis(axis, ndim) == axes


@pytest.mark.parametrize(
    ("axis", "ndim", "words"),
    [
        (1, 1, "axis=1 is out of range for an array of 1 dimension; an axis lies between -1 and 0."),
        (-4, 3, "axis=-4 is out of range for an array of 3 dimensions; an axis lies between -3 and 2."),
        (3, 3, "axis=3 is out of range for an array of 3 dimensions; an axis lies between -3 and 2."),
        (1, 0, "axis=1 is out of range for an array of 0 dimensions; an axis lies between -1 and 0."),
        ((0, 5), 2, "axis=(0, 5) is out of range for an array of 2 dimensions; an axis lies between -2 and 1."),
        ((0, -2), 2, "axis=(0, -2) names an axis of a 2-dimensional array twice"),
        (True, 2, "axis=True has the type bool; an axis is an integer"),
        (1.0, 2, "axis=1.0 has the type float; an axis is an integer"),
        ((0, "1"), 2, "axis=(0, '1') has the type str; an axis is an integer"),
    ],
)
def test_a_wrong_axis_is_named_as_it_was_given(axis, ndim, words):
    assert text(rules.normalize_axis, axis, ndim).startswith(words)


def test_whatever_counts_as_an_integer_is_an_axis_unless_it_is_called_bool():
    one = type("int7", (), {"__index__": lambda _: 1})
    assert rules.normalize_axis(one(), 2) == (1,)
    for name in ("bool", "bool_"):
        truth = type(name, (), {"__index__": lambda _: 1})
        assert f"has the type {name};" in text(rules.normalize_axis, truth(), 2)


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["floating", "integer", "bool"])
def test_real_numbers_are_logits(kind):
    rules.check_logits_dtype("x", kind)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("complex64", "Pass the magnitude, abs(x), or the real part."),
        ("torch.complex32", "Pass the magnitude, abs(x), or the real part."),
        ("object", "Pass x.astype(float)."),
        ("<U3", "Pass x.astype(float)."),
        ("StringDType()", "Pass x.astype(float)."),
        ("string", "Pass tf.strings.to_number(x)."),
        ("timedelta64[ns]", "Pass x / numpy.timedelta64(1, 's'), or another unit."),
        ("datetime64[s]", "Pass (x - x.min()) / numpy.timedelta64(1, 's'), or another unit."),
        ("torch.qint8", "Pass x.dequantize()."),
        ("quint8", "Pass x.dequantize()."),
        ("[('a', '<f4')]", "Pass one of its fields, as in x[name]."),
        ("unheard-of", "Convert them first."),
    ],
)
def test_a_dtype_that_is_refused_has_its_own_remedy(name, remedy):
    message = text(rules.check_logits_dtype, name, "other")
    assert message.startswith(f"softmax and sigmoid are not defined for {name} logits, ")
    assert message.endswith(remedy)


def made(library, **attributes):
    """A dtype object whose class a library defines."""
    return type("dtype", (), {"__module__": library, **attributes, "__str__": lambda _: "somelib.float16"})()


@pytest.mark.parametrize(
    ("given", "library", "name"),
    [
        (made("tensorflow.python", name="bfloat16"), "tensorflow", "bfloat16"),
        (made("torch", name=""), "torch", "float16"),  # by what it prints, without its library
        (made("jax.numpy", __name__="float32"), "jax", "float32"),
        (type("float32", (), {"__module__": "jax.numpy"}), "jax", "float32"),
    ],
)
def test_a_floating_dtype_of_another_library_is_called_that(given, library, name):
    assert f"is a dtype of {library}, which is not taken here; pass its name, dtype='{name}'" in text(
        rules.check_floating, given, "other"
    )


@pytest.mark.parametrize(
    "given", [made("numpy", name="float32"), made("ml_dtypes", name="bfloat16"), made("torch", name="int8"), float, 3]
)
def test_what_is_no_floating_dtype_of_another_library_is_no_floating_dtype(given):
    assert rules.foreign_dtype(given) is None
    assert "is not a real floating dtype" in text(rules.check_floating, given, "other")


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ("fp16", 'pass dtype="float16".'),
        ("torch.bfloat16", 'pass dtype="bfloat16".'),
        ("flaot32", 'pass dtype="float32".'),
        (SimpleNamespace(dtype="float64"), 'is an array of types; pass dtype="float64".'),
        (3, 'pass for example dtype="float32", or leave it out to keep that of the logits.'),
    ],
)
def test_what_is_no_dtype_is_answered_with_the_one_that_was_meant(given, end):
    assert text(rules.check_floating, given, "unknown").endswith(end)


def test_a_floating_dtype_is_taken():
    rules.check_floating("float32", "floating")


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_mask_is_bool_and_of_numbers_one_is_made_by_comparing():
    rules.check_mask("bool", True)
    assert text(rules.check_mask, "torch.float32", False).endswith(
        "of ones and zeros, where=(where == 0) of zeros and -inf."
    )
    assert text(rules.check_mask, "int8", False).endswith("where=(where != 0) of ones and zeros.")


@pytest.mark.parametrize(
    ("mask", "lengths"),
    [([2, 1], True), ([0, 3], True), ([1, 0], False), ([-1, 0], False), ([[2, 1]], False), (None, False)],
)
def test_numbers_above_1_in_a_row_are_lengths(mask, lengths):
    message = text(rules.check_mask, "int64", False, None if mask is None else np.array(mask))
    assert ("numpy.arange(x.shape[-1]) < numpy.asarray(where)[:, None]" in message) is lengths
    assert ("where=(where != 0)" in message) is not lengths


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((2, 3), (2, 3)),
        ((1, 3), (2, 3)),
        ((3,), (2, 3)),
        ((), (2, 3)),
        ((2, 1), (2, 3)),
        ((None, 3), (2, 3)),
        ((2,), (None,)),
    ],
)
def test_what_broadcasts_to_the_shape_of_the_logits(given, shape):
    rules.check_mask_shape(given, shape)
    rules.check_temperature_shape(given, shape)


@pytest.mark.parametrize(
    ("given", "shape", "end"),
    [
        ((2,), (2, 3), "that size or 1: where=where[:, None]."),
        ((2, 4), (2, 3, 4), "that size or 1: where=where[:, None, :]."),
        ((2, 1, 3), (2, 4, 3, 5), "that size or 1: where=where[:, :, :, None]."),
        ((2,), (2, 3, 2, 3), "that size or 1."),  # in two ways
        ((4,), (2, 3), "that size or 1."),
        ((1, 2, 3), (2, 3), "that size or 1."),
        ((3, 1), (2, 3), "that size or 1."),
        ((2, 1), (2, 3, 4), "that size or 1."),  # in two ways
    ],
)
def test_what_does_not_broadcast_is_refused_and_spread_where_one_way_fits(given, shape, end):
    message = text(rules.check_mask_shape, given, shape)
    assert message.startswith(f"where= has the shape {given}, which does not broadcast to the shape {shape}")
    assert message.endswith(end)
    assert f"temperature= has the shape {given}" in text(rules.check_temperature_shape, given, shape)


# --- temperatures, directions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2.0**-1022, 1e-300, 1.0, 1.7976931348623157e308])
def test_every_normal_positive_number_is_a_temperature(value):
    rules.check_temperature(value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nextafter(2.0**-1022, 0), math.inf, math.nan])
def test_no_other_number_is(value):
    assert text(rules.check_temperature, value).startswith(f"temperature= is {value!r}, and logits are divided by it")
    assert "at least 2.23e-308" in text(rules.check_temperature, value)


@pytest.mark.parametrize(("kind", "taken"), [("floating", True), ("integer", True), ("bool", False), ("other", False)])
def test_a_temperature_is_a_real_number(kind, taken):
    if taken:
        rules.check_temperature_dtype("x", kind)
    else:
        assert text(rules.check_temperature_dtype, "x", kind).startswith("temperature= has dtype x; ")


@pytest.mark.parametrize(
    ("shape", "ndim", "axes", "constant"),
    [
        ((), 2, (0, 1), True),
        ((3,), 2, (0,), True),
        ((3,), 2, (1,), False),
        ((3,), 2, (0, 1), False),
        ((3, 1), 2, (1,), True),
        ((3, 1), 2, (0,), False),
        ((2, 1, 3), 3, (1,), True),
        ((2, 1, 3), 3, (), True),
        ((1, 3), 3, (0, 1), True),
    ],
)
def test_what_is_constant_along_the_axes_once_it_is_broadcast(shape, ndim, axes, constant):
    assert rules.constant_along(shape, ndim, axes) is constant


def test_a_direction_of_another_shape_gets_the_call_that_broadcasts_it():
    error = rules.wrong_direction("cotangent", [3], [2, 3], "numpy.broadcast_to")
    assert str(error) == (
        "the cotangent has the shape (3,) and must have the shape (2, 3); broadcast it, for example with "
        "numpy.broadcast_to(cotangent, (2, 3))."
    )


def test_a_size_may_be_a_symbol_that_is_equal_to_a_number():
    symbol = SimpleNamespace(size=3)
    rules.check_mask_shape((symbol,), (symbol,))
