"""Row-wise operations, written once for all frameworks: dtypes, axes, masks and temperatures around a native softmax.

A framework passes its primitives as a class of static methods; a traced program contains only what they do. NumPy does
not use this module, because its kernels do everything in one pass over a row. The array API backend uses only `dtypes`
and `checked`, since its derivatives need the rows themselves. Knows the rules of `polylogit._contract`, and no
framework.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from polylogit._contract import (
    check_floating,
    check_logits_dtype,
    check_mask,
    check_mask_shape,
    check_temperature_dtype,
    check_temperature_shape,
    constant_along,
    normalize_axis,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Primitives", "along_axes", "check_temperature", "checked", "compute", "dtypes", "elementwise", "floating"]
__all__ += ["quotient", "tempered"]


class Primitives:
    """The operations that each framework performs in its own way; `normalised` below is its softmax or log_softmax."""

    narrow: Any  # the dtype to compute in for at most 32 bits
    wide: Any  # and for 64 bits

    @staticmethod
    def name(dtype: Any) -> str:
        """The dtype as the framework spells it, for messages."""
        return str(dtype)

    @staticmethod
    def kind(dtype: Any) -> str:
        """One of "floating", "integer" and "bool", or anything else for a dtype that is refused."""
        raise NotImplementedError

    @staticmethod
    def default_float() -> Any:
        """The dtype of the result for integers and bool."""
        raise NotImplementedError

    @staticmethod
    def dtype(given: Any) -> Any:
        """The dtype that ``dtype=`` names; None if the framework has no such dtype."""
        raise NotImplementedError

    @classmethod
    def working(cls, inherited: Any, result: Any) -> Any:
        """The dtype to compute in, given that of the logits (the default for integers) and that of the result."""
        return cls.wide if cls.wide in (inherited, result) else cls.narrow

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        """`x` in another dtype; `x` itself if it has that dtype, so that no trace contains a needless cast."""
        raise NotImplementedError

    @staticmethod
    def rank(x: Any) -> int | None:
        """The number of dimensions; None if it is known only when a graph runs."""
        rank: int = x.ndim
        return rank

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        """`mask` in the shape of `x`."""
        raise NotImplementedError

    @staticmethod
    def moves(x: Any, axes: Any, masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        """A function that joins the axes of an array in the shape of `x`, its inverse, and the joined axis."""
        raise NotImplementedError

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        """Whether any entry of a row is True, keeping the axis."""
        raise NotImplementedError

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        """`x` where the mask is True and `other` elsewhere, an array or a number."""
        raise NotImplementedError

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        """-inf where `some` is True and 0 elsewhere."""
        raise NotImplementedError

    # --- only for ``temperature=`` ----------------------------------------------------------------------------

    @classmethod
    def precise(cls, working: Any) -> Any:
        """The dtype for the division by a temperature: the widest available."""
        return cls.wide

    @staticmethod
    def constant(x: Any) -> Any:
        """`x` as a constant, which no derivative passes through."""
        raise NotImplementedError

    @staticmethod
    def top(rows: Any, axis: Any) -> Any:
        """The largest entry of each row; keeps the axis."""
        raise NotImplementedError


def dtypes(primitives: type[Primitives], given: Any, asked: Any) -> tuple[Any, Any]:
    """The dtype of the result and the one to compute in, given that of the logits and ``dtype=``.

    Dtypes of less than 32 bits are computed in 32: sums in 16 bits overflow at 65,504 or stop growing at 256.
    """
    kind = primitives.kind(given)
    check_logits_dtype(primitives.name(given), kind)
    inherited = given if kind == "floating" else primitives.default_float()
    result = inherited
    if asked is not None:
        result = primitives.dtype(asked)
        check_floating(asked, "unknown" if result is None else primitives.kind(result))
    return result, primitives.working(inherited, result)


def checked(primitives: type[Primitives], x: Any, axis: Any, where: Any) -> Any:
    """The normalised axes; raises an error for a mask that does not fit."""
    rank = primitives.rank(x)
    if where is not None:
        name = primitives.name(where.dtype)
        check_mask(name, primitives.kind(where.dtype) == "bool", where)
        if rank is not None and primitives.rank(where) is not None:
            check_mask_shape(where.shape, x.shape)
    return axis if rank is None else normalize_axis(axis, rank)


def compute(
    primitives: type[Primitives],
    normalised: Callable[[Any, Any], Any],
    masked_value: float,
    x: Any,
    where: Any,
    axes: Any,
    result: Any,
    working: Any,
    temperature: Any = None,
) -> Any:
    """Compute ``normalised(rows, axis)`` between joining and splitting the axes; the arguments are already checked.

    Masked entries are replaced before, so that their values reach neither the sum nor a gradient, and again after. A
    fully masked row is filled with zeros, so that no NaN arises that a derivative could carry.
    """
    join, split, axis = primitives.moves(x, axes, where is not None)
    if temperature is not None:
        normalised = tempered(primitives, normalised, x, axes, join, working, temperature)
        working = primitives.precise(working)
    rows = join(primitives.cast(x, working))
    if where is None:
        y = normalised(rows, axis)
    else:
        mask = join(primitives.broadcast(where, x))
        fill = primitives.fill(primitives.any(mask, axis), working)
        y = primitives.where(mask, normalised(primitives.where(mask, rows, fill), axis), masked_value)
    return primitives.cast(split(y), result)


def along_axes(
    primitives: type[Primitives],
    normalised: Callable[[Any, Any], Any],
    masked_value: float,
    x: Any,
    axis: Any,
    where: Any,
    dtype: Any,
    temperature: Any = None,
) -> Any:
    """softmax or log_softmax, computed by ``normalised(rows, axis)``, with every argument that a call may have."""
    result, working = dtypes(primitives, x.dtype, dtype)
    axes = checked(primitives, x, axis, where)
    if temperature is not None:
        check_temperature(primitives, x, temperature)
    return compute(primitives, normalised, masked_value, x, where, axes, result, working, temperature)


def elementwise(
    primitives: type[Primitives], function: Callable[[Any], Any], x: Any, dtype: Any, temperature: Any = None
) -> Any:
    """A function of each element, with ``dtype=`` and ``temperature=``."""
    result, working = dtypes(primitives, x.dtype, dtype)
    if temperature is None:
        return primitives.cast(function(primitives.cast(x, working)), result)
    check_temperature(primitives, x, temperature)
    precise = primitives.precise(working)
    if not isinstance(temperature, float):
        temperature = primitives.cast(temperature, precise)
    over = quotient(primitives, primitives.cast(x, precise), temperature)
    return primitives.cast(function(primitives.cast(over, working)), result)


# --- temperatures ----------------------------------------------------------------------------------------------------


def check_temperature(primitives: type[Primitives], x: Any, temperature: Any) -> None:
    """Raise an error for an array of temperatures whose dtype or shape does not fit; numbers are checked before."""
    if not isinstance(temperature, float):
        check_temperature_dtype(primitives.name(temperature.dtype), primitives.kind(temperature.dtype))
        if primitives.rank(temperature) is not None and primitives.rank(x) is not None:
            check_temperature_shape(temperature.shape, x.shape)


def tempered(
    primitives: type[Primitives],
    normalised: Callable[[Any, Any], Any],
    x: Any,
    axes: Any,
    join: Callable[[Any], Any],
    working: Any,
    temperature: Any,
) -> Callable[[Any, Any], Any]:
    """`normalised` in the dtype `working`, for rows in the precise dtype that are first divided by a temperature.

    A rounded quotient x / T has an error of |x / T| roundings, which may exceed all digits of a distance. So if a row
    has a single temperature, its maximum is subtracted first. A distance d then has an error of 2 d roundings, as the
    bounds allow, or of those in the precise dtype plus the final one to the narrow dtype. If a row has several
    temperatures, there is no common maximum to subtract, and everything stays in the precise dtype.
    """
    shared, shape, precise = True, (), primitives.precise(working)
    if not isinstance(temperature, float):
        temperature = primitives.cast(temperature, precise)
        shape, rank = temperature.shape, primitives.rank(x)
        known = primitives.rank(temperature) is not None
        shared = known and (not len(shape) or (rank is not None and constant_along(shape, rank, axes)))
        if not (known and not len(shape)):
            temperature = join(primitives.broadcast(temperature, x))

    def divided(rows: Any, axis: Any) -> Any:
        if not shared:
            return normalised(quotient(primitives, rows, temperature), axis)
        top = primitives.top(rows, axis)
        top = primitives.where(top != -math.inf, top, 0.0)
        if working == precise:
            distances = quotient(primitives, *_halved(primitives, rows, top, temperature))
        else:
            distances = quotient(primitives, rows - top, temperature)
        return normalised(primitives.cast(distances, working), axis)

    return divided


def _halved(primitives: type[Primitives], rows: Any, top: Any, temperature: Any) -> tuple[Any, Any]:
    """Numerator and denominator of ``(rows - top) / temperature``, if there is no wider dtype to divide in.

    For temperatures above 1, all three are halved, which is exact, because the distance of two large logits may
    overflow although its quotient does not.
    """
    if isinstance(temperature, float):
        if temperature <= 1.0:
            return rows - top, temperature
        return rows * 0.5 - top * 0.5, temperature * 0.5
    half = primitives.where(temperature > 1.0, primitives.constant(temperature) * 0.0 + 0.5, 1.0)
    return rows * half - top * half, temperature * half


def quotient(primitives: type[Primitives], x: Any, temperature: Any) -> Any:
    """``x / temperature``, where an infinite quotient gives an array of temperatures the derivative 0 rather than NaN.

    That is right: the derivative is the quotient times the cotangent, which is 0 if the result is 0 or 1.
    """
    if isinstance(temperature, float):
        return x / temperature
    fixed = x / primitives.constant(temperature)
    finite = abs(fixed) != math.inf
    return primitives.where(finite, primitives.where(finite, x, 0.0) / temperature, fixed)


def floating(primitives: type[Primitives], x: Any) -> Any:
    """`x`, with integers and bool cast to the framework's default floating dtype, in which they are differentiated."""
    return primitives.cast(x, primitives.default_float()) if primitives.kind(x.dtype) in ("integer", "bool") else x
