"""The rules about axes, dtypes, masks and temperatures that all backends share.

Pure Python over shapes and names. This module knows and imports no framework, so the backends cannot differ in a rule.
A size may be a framework's symbolic integer, or None for an unknown dimension.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from polylogit.errors import AxisError, AxisTypeError, DifferentiationError, DTypeError, MaskError, TemperatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_floating", "check_logits_dtype", "check_mask", "check_mask_shape", "foreign_dtype", "normalize_axis"]
__all__ += [
    "check_temperature",
    "check_temperature_dtype",
    "check_temperature_shape",
    "constant_along",
    "no_dtype",
    "wrong_direction",
]


# The normal float64 numbers: below the smallest, processors may see 0.
_SMALLEST, _LARGEST = 2.0**-1022, math.ldexp(2.0 - 2.0**-52, 1023)


def _one_axis(axis: Any, ndim: int, given: Any) -> int:
    # bool is an int to Python; as an axis it is a mistake (often a misplaced keepdims).
    try:
        if isinstance(axis, bool) or type(axis).__name__ in ("bool", "bool_"):
            raise TypeError
        index = operator.index(axis)
    except TypeError:
        message = (
            f"axis={given!r} has the type {type(axis).__name__}; an axis is an integer, a tuple of integers or None. "
            "Pass for example axis=-1 or axis=(0, 1)."
        )
        raise AxisTypeError(message) from None
    # A 0-d array is treated as one row of one element, as NumPy's reductions do.
    rank = ndim or 1
    if not -rank <= index < rank:
        message = (
            f"axis={given!r} is out of range for an array of {ndim} dimension{'' if ndim == 1 else 's'}; "
            f"an axis lies between {-rank} and {rank - 1}. Pass one of those, or axis=None for all."
        )
        raise AxisError(message)
    return index % rank


def normalize_axis(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes to normalise over, non-negative and ascending; ``()`` if every element is a row of its own.

    Parameters
    ----------
    axis : int, tuple of int, or None
        The axis as the caller passed it; None means all axes.
    ndim : int
        The number of dimensions of the logits.

    Returns
    -------
    tuple of int
        Ascending; ``()`` for a 0-d array and for ``axis=()``.

    Raises
    ------
    AxisTypeError
        For a bool, a float or anything else that is not an integer.
    AxisError
        For an axis out of range or given twice.

    Examples
    --------
    >>> normalize_axis((-1, 0), 3)
    (0, 2)
    """
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        index = _one_axis(axis, ndim, axis)
        return (index,) if ndim else ()
    axes = [_one_axis(one, ndim, axis) for one in axis]
    if len(set(axes)) != len(axes):
        message = f"axis={axis!r} names an axis of a {ndim}-dimensional array twice; name each axis once."
        raise AxisError(message)
    return tuple(sorted(axes)) if ndim else ()


# The beginning of a dtype's name, as any framework spells it -> how to make real numbers of it.
_REAL = (
    (("complex", "torch.complex"), "Pass the magnitude, abs(x), or the real part"),
    (("object", "<u", ">u", "|s", "stringdtype"), "Pass x.astype(float)"),
    (("string",), "Pass tf.strings.to_number(x)"),
    (("timedelta", "m8"), "Pass x / numpy.timedelta64(1, 's'), or another unit"),
    (("datetime",), "Pass (x - x.min()) / numpy.timedelta64(1, 's'), or another unit"),
    (("torch.q", "qint", "quint"), "Pass x.dequantize()"),
    (("[", "{"), "Pass one of its fields, as in x[name]"),
)


def check_logits_dtype(name: str, kind: str, remedy: str = "") -> None:
    """Raise an error unless the logits are real floating-point numbers, integers or bool.

    Parameters
    ----------
    name : str
        The name of the dtype as the framework spells it, for the message.
    kind : str
        "floating", "integer" or "bool"; any other kind is refused.
    remedy : str, optional
        What to pass instead, if the backend knows better than the name of the dtype tells.
    """
    if kind not in ("floating", "integer", "bool"):
        by_name = next((words for begin, words in _REAL if name.lower().startswith(begin)), "Convert them first")
        message = (
            f"softmax and sigmoid are not defined for {name} logits, only for real numbers (floating, integer or "
            f"bool). {remedy or by_name}."
        )
        raise DTypeError(message)


def check_floating(given: Any, kind: str) -> None:
    """Raise an error unless ``dtype=`` is a real floating dtype; `kind` as in `check_logits_dtype`, or "unknown"."""
    if kind != "floating":
        if foreign := foreign_dtype(given):
            raise foreign
        if kind == "unknown":
            raise no_dtype(given)
        message = (
            f"dtype={given!r} is not a real floating dtype; probabilities are fractions. Pass for example "
            'dtype="float32", or leave dtype out to keep that of the logits.'
        )
        raise DTypeError(message)


# The libraries whose floating dtypes every backend accepts, besides names.
_COMMON = ("builtins", "numpy", "ml_dtypes")

# How else floating dtypes are written -> their names here.
_SPELLINGS = {
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("fp32", "f32", "single", "float"), "float32"),
    **dict.fromkeys(("fp64", "f64", "double", "float128", "longdouble"), "float64"),
}


def _called(dtype: Any) -> str:
    """What a dtype is called, without its library, as any library would write it."""
    name = getattr(dtype, "__name__" if isinstance(dtype, type) else "name", "") or getattr(dtype, "__name__", "")
    name = str(name or dtype).rpartition(".")[2].lower()
    return _SPELLINGS.get(name, name)


def foreign_dtype(given: Any) -> DTypeError | None:
    """The error for a floating dtype of another library than the array's; None for any other value."""
    library = type(given).__module__.partition(".")[0]
    if library == "builtins" and isinstance(given, type):
        library = given.__module__.partition(".")[0]
    name = _called(given)
    if library in _COMMON or not name.startswith(("float", "bfloat")) or name.endswith("tensor"):
        return None
    message = f"dtype={given!r} is a dtype of {library}, which is not taken here; pass its name, dtype={name!r}."
    return DTypeError(message)


def no_dtype(given: Any) -> DTypeError:
    """The error for a ``dtype=`` that is no dtype, with the one that was meant where that can be told."""
    import difflib  # only for an error

    if hasattr(given, "dtype") and not isinstance(given, type):
        said, name = f"dtype= is an array of {type(given).__module__.partition('.')[0]}", _called(given.dtype)
    else:
        said, name = f"dtype={given!r} is no dtype that is known here", _called(given)
    name = _SPELLINGS.get(name.removesuffix("tensor"), name.removesuffix("tensor"))
    close = difflib.get_close_matches(name, sorted({*_SPELLINGS.values()}), n=1, cutoff=0.7)
    if close:
        return DTypeError(f'{said}; pass dtype="{close[0]}".')
    return DTypeError(f'{said}; pass for example dtype="float32", or leave it out to keep that of the logits.')


def check_mask(name: str, is_bool: bool, mask: Any = None) -> None:
    """Raise an error unless a mask is of bool; `name` is its dtype as the framework spells it."""
    if not is_bool:
        message = f"where= has dtype {name}; a mask is an array of bool, True where an entry takes part. "
        if _holds_lengths(mask):
            message += "To make one from lengths, write "
            message += "where=(numpy.arange(x.shape[-1]) < numpy.asarray(where)[:, None]).tolist()."
        else:
            message += "Compare to make one: where=(where != 0) of ones and zeros"
            message += ", where=(where == 0) of zeros and -inf." if "float" in name else "."
        raise DTypeError(message)


def _holds_lengths(mask: Any) -> bool:
    """Whether a mask has one dimension and a number above 1 among the first, as far as its values can be seen."""
    try:
        return len(mask.shape) == 1 and any(bool(one > 1) for one in mask[:100])
    except Exception:  # noqa: BLE001  no mask, or one without values (a tracer): each framework raises another error
        return False


def _broadcasts(given: Sequence[Any], shape: Sequence[Any]) -> bool:
    return len(given) <= len(shape) and all(
        have is None or want is None or have == 1 or have == want
        for have, want in zip(given, shape[len(shape) - len(given) :], strict=True)
    )


def check_mask_shape(mask_shape: Sequence[Any], shape: Sequence[Any]) -> None:
    """Raise an error unless a mask broadcasts to exactly the shape of the logits; unknown sizes (None) pass."""
    if not _broadcasts(mask_shape, shape):
        message = (
            f"where= has the shape {tuple(mask_shape)}, which does not broadcast to the shape {tuple(shape)} of the "
            "logits; give each of its trailing dimensions that size or 1"
        )
        places = _places(mask_shape, shape)
        message += f": where=where[{places}]." if places else "."
        raise MaskError(message)


def _places(mask_shape: Sequence[Any], shape: Sequence[Any]) -> str:
    """The index that makes a mask broadcast to the logits, if there is exactly one; else empty."""
    from itertools import combinations  # only for an error

    fitting = [
        chosen
        for chosen in combinations(range(len(shape)), len(mask_shape))
        if all(size in (1, shape[place]) for size, place in zip(mask_shape, chosen, strict=True))
    ]
    if len(fitting) != 1 or not mask_shape:
        return ""
    return ", ".join(":" if place in fitting[0] else "None" for place in range(len(shape)))


def check_temperature_dtype(name: str, kind: str) -> None:
    """Raise an error unless a temperature is floating or integer; `kind` is as in `check_logits_dtype`."""
    if kind not in ("floating", "integer"):
        message = (
            f"temperature= has dtype {name}; a temperature is a positive real number, or an array of them. Pass for "
            "example temperature=2.0, and leave it out for 1."
        )
        raise DTypeError(message)


def check_temperature(value: float) -> None:
    """Raise an error unless a temperature is positive, finite and not subnormal."""
    if not _SMALLEST <= value <= _LARGEST:
        message = (
            f"temperature= is {value!r}, and logits are divided by it: it has to be positive, finite and at least "
            f"{_SMALLEST:.3g}. Less than 1 sharpens the probabilities, more flattens them; for the limit at 0 take the "
            "argmax."
        )
        raise TemperatureError(message)


def check_temperature_shape(given: Sequence[Any], shape: Sequence[Any]) -> None:
    """Raise an error unless temperatures broadcast to exactly the shape of the logits; unknown sizes (None) pass."""
    if not _broadcasts(given, shape):
        message = (
            f"temperature= has the shape {tuple(given)}, which does not broadcast to the shape {tuple(shape)} of the "
            "logits; give each of its trailing dimensions that size or 1, for one a row for example "
            "temperature[:, None]."
        )
        raise TemperatureError(message)


def constant_along(shape: Sequence[Any], ndim: int, axes: Sequence[int]) -> bool:
    """Whether an array of this shape, broadcast to `ndim` dimensions, is known to be constant along the axes."""
    added = ndim - len(shape)
    return all(axis < added or shape[axis - added] == 1 for axis in axes)


def wrong_direction(argument: str, given: Sequence[Any], shape: Sequence[Any], broadcast: str) -> DifferentiationError:
    """Return the error for a tangent or cotangent of another shape; `broadcast` is the function that corrects it."""
    message = (
        f"the {argument} has the shape {tuple(given)} and must have the shape {tuple(shape)}; broadcast it, for "
        f"example with {broadcast}({argument}, {tuple(shape)})."
    )
    return DifferentiationError(message)
