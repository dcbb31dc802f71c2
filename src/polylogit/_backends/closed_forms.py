"""Derivatives by the closed forms, for arrays without autodiff.

A backend passes its rows: an object that holds the logits in the precision to compute in, with the methods `sum`,
`masked`, `softmax` and `sigmoid`. Knows these names and the rules of `polylogit._contract`, and no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from polylogit._contract import wrong_direction
from polylogit._operations import OPERATIONS
from polylogit.errors import DifferentiationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["closed_form", "like"]


class Rows(Protocol):
    """The interface of a backend's rows; `xp` is the library, `shape` that of the logits."""

    xp: Any
    shape: tuple[Any, ...]

    def take(self, array: Any) -> Any:
        """An array in the shape of the logits, converted to the form of the rows."""

    def sum(self, values: Any) -> Any:
        """The sums along the rows, keeping the axes."""

    def masked(self, values: Any, fill: float) -> Any:
        """`values` with `fill` at masked entries."""

    def softmax(self) -> tuple[Any, Any]:
        """The probabilities and their logarithms."""
        raise NotImplementedError

    def sigmoid(self) -> tuple[Any, Any]:
        """The probabilities of x and of -x."""
        raise NotImplementedError


# --- operation -> f(rows) -> (pullback of a cotangent, pushforward of a tangent) -------------------------------------


def _softmax_derivatives(rows: Rows) -> tuple[Any, Any]:
    y, _ = rows.softmax()

    def both(g: Any) -> Any:
        return y * (g - rows.sum(y * g))

    return both, both


def _log_softmax_derivatives(rows: Rows) -> tuple[Any, Any]:
    y, _ = rows.softmax()
    return (
        lambda g: rows.masked(rows.masked(g, 0.0) - y * rows.sum(rows.masked(g, 0.0)), 0.0),
        lambda t: rows.masked(t - rows.sum(y * t), 0.0),
    )


def _sigmoid_derivatives(rows: Rows) -> tuple[Any, Any]:
    y, complement = rows.sigmoid()
    return (lambda g: g * y * complement), (lambda t: t * y * complement)


# The Hessian of <g, f(x)> is symmetric, so vjp and jvp of the gradient are the same function: f(rows, g) -> (v -> Hv).


def _softmax_second(rows: Rows, g: Any) -> Any:
    y, _ = rows.softmax()

    def second(v: Any) -> Any:
        dy = y * (v - rows.sum(y * v))
        return dy * (g - rows.sum(g * y)) - y * rows.sum(g * dy)

    return second


def _log_softmax_second(rows: Rows, g: Any) -> Any:
    y, _ = rows.softmax()
    total = rows.sum(rows.masked(g, 0.0))
    return lambda v: -(y * (v - rows.sum(y * v))) * total


def _sigmoid_second(rows: Rows, g: Any) -> Any:
    y, complement = rows.sigmoid()
    return lambda v: g * v * y * complement * (complement - y)


_FIRST = {
    "softmax": _softmax_derivatives,
    "log_softmax": _log_softmax_derivatives,
    "sigmoid": _sigmoid_derivatives,
}
_SECOND = {
    "softmax": _softmax_second,
    "log_softmax": _log_softmax_second,
    "sigmoid": _sigmoid_second,
}


def closed_form(
    make: Callable[..., Rows], function: Any, x: Any, kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, Any]]:
    """The rows, ``make(x, axis, where, dtype)``, and the pullback and the pushforward of a function on them."""
    second = hasattr(function, "__polylogit_gradient__")
    operation = function.operation if second else function
    options = function.kwargs if second else kwargs
    name = getattr(operation, "__polylogit_operation__", None)
    if name not in _FIRST:
        message = (
            f"{function!r} cannot be differentiated on a {type(x).__module__}.{type(x).__qualname__}, which has no "
            f"autodiff; pass polylogit.{', '.join(_FIRST)} or a polylogit.gradient of them, with their "
            "arguments after x: polylogit.vjp(polylogit.softmax, x, axis=0)."
        )
        raise DifferentiationError(message)
    axis = options.get("axis", -1) if OPERATIONS[name].takes_axis else ()
    rows = make(x, axis, options.get("where"), options.get("dtype"))
    if not second:
        return rows, _FIRST[name](rows)
    both = _SECOND[name](rows, like(rows, function.cotangent, "cotangent"))
    return rows, (both, both)


def like(rows: Rows, given: Any, argument: str) -> Any:
    """A tangent or cotangent in the form of the rows; raises an error unless it has the shape of the logits."""
    if given.shape != rows.shape:
        raise wrong_direction(argument, given.shape, rows.shape, f"{rows.xp.__name__}.broadcast_to")
    return rows.take(given)
