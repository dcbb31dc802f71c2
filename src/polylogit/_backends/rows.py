"""Row-wise work, written once: dtypes, axes and masks around a framework's own softmax.

A framework brings its primitives as a class of static methods. What a traced program holds is what they do and no more.
NumPy does not use this module: there it all happens in one pass over a row, in C. The array API backend uses the first
half, since its derivatives need the rows that the second would hide. Knows the rules of `polylogit._contract`, and no
framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polylogit._contract import check_floating, check_logits_dtype, check_mask, check_mask_shape, normalize_axis

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Primitives", "along_axes", "checked", "compute", "dtypes", "elementwise", "floating"]


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
        check_floating(asked, "other" if result is None else primitives.kind(result))
    return result, primitives.working(inherited, result)


def checked(primitives: type[Primitives], x: Any, axis: Any, where: Any) -> Any:
    """The axes, normalised; a mask that does not fit is refused."""
    rank = primitives.rank(x)
    if where is not None:
        name = primitives.name(where.dtype)
        check_mask(name, primitives.kind(where.dtype) == "bool")
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
) -> Any:
    """What `checked` and `dtypes` had nothing against: ``normalised(rows, axis)`` between joining and splitting.

    Masked entries are replaced before, so that what they hold reaches neither the sum nor a gradient, and after. A row
    with no entry left is filled with zeros: no NaN arises that a derivative could carry.
    """
    join, split, axis = primitives.moves(x, axes, where is not None)
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
) -> Any:
    """softmax or log_softmax, by ``normalised(rows, axis)``, with everything that a call may ask for."""
    result, working = dtypes(primitives, x.dtype, dtype)
    axes = checked(primitives, x, axis, where)
    return compute(primitives, normalised, masked_value, x, where, axes, result, working)


def elementwise(primitives: type[Primitives], function: Callable[[Any], Any], x: Any, dtype: Any) -> Any:
    """A function of each element, with ``dtype=``."""
    result, working = dtypes(primitives, x.dtype, dtype)
    return primitives.cast(function(primitives.cast(x, working)), result)


def floating(primitives: type[Primitives], x: Any) -> Any:
    """`x`, integers and bool in the framework's default dtype, in which they are differentiated."""
    return primitives.cast(x, primitives.default_float()) if primitives.kind(x.dtype) in ("integer", "bool") else x
