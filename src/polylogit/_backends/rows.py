"""Row-wise work, written once: dtypes, axes and masks around a framework's own softmax.

A framework brings its primitives as a class of static methods. What a traced program holds is what they do and no more.
NumPy does not use this module: there it all happens in one pass over a row, in C. The array API backend uses the first
half, since its derivatives need the rows that the second would hide. Knows the rules of `polylogit._contract`, and no
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
    """What a framework does in its own way. `normalised` below is by its softmax or log_softmax."""

    narrow: Any  # the dtype to compute in, for 32 bits and fewer
    wide: Any  # and for 64

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
        """What ``dtype=`` names; None where it is no dtype of the framework."""
        raise NotImplementedError

    @classmethod
    def working(cls, inherited: Any, result: Any) -> Any:
        """The dtype to compute in, from that of the logits (the default for integers) and that of the result."""
        return cls.wide if cls.wide in (inherited, result) else cls.narrow

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        """`x` in another dtype, and `x` itself where it has it, so that no trace holds a cast for nothing."""
        raise NotImplementedError

    @staticmethod
    def rank(x: Any) -> int | None:
        """The number of dimensions; None where it is known only when a graph runs."""
        rank: int = x.ndim
        return rank

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        """`mask` in the shape of `x`."""
        raise NotImplementedError

    @staticmethod
    def moves(x: Any, axes: Any, masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        """How to join the axes of an array of the shape of `x`, how to split them again, and what is joined."""
        raise NotImplementedError

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        """Whether any entry of a row is True; keeps the axis."""
        raise NotImplementedError

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        """`x` where the mask is True and `other` elsewhere, an array or a number."""
        raise NotImplementedError

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        """-inf where `some` is True and 0 elsewhere."""
        raise NotImplementedError

    # --- for ``temperature=`` alone ---------------------------------------------------------------------------

    @classmethod
    def precise(cls, working: Any) -> Any:
        """The dtype to divide by a temperature in: the widest that there is."""
        return cls.wide

    @staticmethod
    def constant(x: Any) -> Any:
        """`x`, as what no derivative goes through."""
        raise NotImplementedError

    @staticmethod
    def top(rows: Any, axis: Any) -> Any:
        """The largest entry of each row; keeps the axis."""
        raise NotImplementedError


def dtypes(primitives: type[Primitives], given: Any, asked: Any) -> tuple[Any, Any]:
    """The dtype of the result and the one to compute in, from that of the logits and from ``dtype=``.

    Fewer than 32 bits are computed in 32: sums in 16 bits overflow at 65,504 or stop growing at 256.
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
    """The axes, normalised; a mask that does not fit is refused."""
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
    """What `checked` and `dtypes` had nothing against: ``normalised(rows, axis)`` between joining and splitting.

    Masked entries are replaced before, so that what they hold reaches neither the sum nor a gradient, and after. A row
    with no entry left is filled with zeros: no NaN arises that a derivative could carry.
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
    """softmax or log_softmax, by ``normalised(rows, axis)``, with everything that a call may ask for."""
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
    """Refuse an array of temperatures of another kind of numbers, or that does not fit the logits.

    Numbers have been checked when they come here.
    """
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
    """`normalised` in `working`, of rows that come in the precise dtype and are divided by a temperature first.

    A rounded quotient x / T is off by |x / T| roundings, which may be more than all digits of a distance. So where a
    row has one temperature its maximum is subtracted first. A distance d is then off by 2 d roundings, as the bounds
    allow, or by those of the precise dtype and the one that makes it narrow. Where a row has several there is nothing
    to subtract, and all stays precise.
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
    """Numerator and denominator of ``(rows - top) / temperature``, which the precise dtype is no wider than.

    Above 1, all three are halved, which is exact: the distance of two large logits may overflow where that over the
    temperature does not.
    """
    if isinstance(temperature, float):
        if temperature <= 1.0:
            return rows - top, temperature
        return rows * 0.5 - top * 0.5, temperature * 0.5
    half = primitives.where(temperature > 1.0, primitives.constant(temperature) * 0.0 + 0.5, 1.0)
    return rows * half - top * half, temperature * half


def quotient(primitives: type[Primitives], x: Any, temperature: Any) -> Any:
    """``x / temperature``; to temperatures in an array an infinite quotient gives no derivative, rather than NaN.

    The derivative is the quotient times what comes from above, which is 0 where the result is 0 or 1.
    """
    if isinstance(temperature, float):
        return x / temperature
    fixed = x / primitives.constant(temperature)
    finite = abs(fixed) != math.inf
    return primitives.where(finite, primitives.where(finite, x, 0.0) / temperature, fixed)


def floating(primitives: type[Primitives], x: Any) -> Any:
    """`x`, integers and bool in the framework's default dtype, in which they are differentiated."""
    return primitives.cast(x, primitives.default_float()) if primitives.kind(x.dtype) in ("integer", "bool") else x
