"""Arrays of any other library that follows the array API standard, found by their ``__array_namespace__``.

Nothing is known of such a library beyond the standard, so nothing is left to it but elementwise functions and short
sums: 32 bits and fewer are computed in float64, long rows are added up in chunks, and derivatives are the closed
forms. This module may know the standard (through array-api-compat) and the shared rules, and no library.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from polylogit._backends.base import Backend, host_array
from polylogit._backends.rows import Primitives, checked, dtypes
from polylogit._contract import wrong_direction
from polylogit._operations import OPERATIONS
from polylogit.errors import DifferentiationError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

# The length of the sums that the library makes by itself, one addition after another at worst: as the bound of sums
# (docs/contract.md) allows a level of them.
_CHUNK = 32


# Libraries made of NumPy warn where the contract asks for a NaN.
_quiet = np.errstate(all="ignore")


@functools.cache
def _primitives(xp: Any) -> type[Primitives]:
    """The primitives of one library."""

    class Library(Primitives):
        narrow = wide = xp.float64

        @staticmethod
        def kind(dtype: Any) -> str:
            for kind, group in (("floating", "real floating"), ("integer", "integral"), ("bool", "bool")):
                if xp.isdtype(dtype, group):
                    return kind
            return "other"

        @staticmethod
        def default_float() -> Any:
            return xp.__array_namespace_info__().default_dtypes()["real floating"]

        @staticmethod
        def dtype(given: Any) -> Any:
            found = getattr(xp, given, None) if isinstance(given, str) else given
            try:
                Library.kind(found)
            except (TypeError, ValueError):
                return None
            return found

    return Library


class _Rows:
    """Logits with the normalised axes joined into the last, in the precision to compute in, and the way back."""

    def __init__(self, x: Any, axis: Any, where: Any, dtype: Any) -> None:
        self.xp = xp = array_api_compat.array_namespace(x)
        primitives = _primitives(xp)
        self.result, self.compute = dtypes(primitives, x.dtype, dtype)
        self.shape, self.axes = x.shape, checked(primitives, x, axis, where)
        others = [one for one in range(x.ndim) if one not in self.axes]
        self.order = (*others, *self.axes)
        self.x = self.take(x)
        self.mask = None
        if where is not None:
            self.mask = self._joined(xp.broadcast_to(where, x.shape))

    def take(self, array: Any) -> Any:
        """An array of the logits' shape, as `x` is held here."""
        return self.xp.astype(self._joined(array), self.compute)

    def _joined(self, array: Any) -> Any:
        moved = self.xp.permute_dims(array, self.order)
        kept = moved.shape[: moved.ndim - len(self.axes)]
        return self.xp.reshape(moved, (*kept, math.prod(moved.shape[len(kept) :])))

    def give(self, rows: Any) -> Any:
        """The way back: the logits' shape, the dtype of the result."""
        moved = self.xp.reshape(rows, tuple(self.shape[one] for one in self.order))
        back = tuple(self.order.index(one) for one in range(len(self.order)))
        return self.xp.astype(self.xp.permute_dims(moved, back), self.result)

    def sum(self, values: Any) -> Any:
        """The sums along the rows, in chunks of chunks; keeps the axis."""
        xp = self.xp
        while (length := values.shape[-1]) > _CHUNK:
            chunks = -(-length // _CHUNK)
            rest = xp.zeros((*values.shape[:-1], chunks * _CHUNK - length), dtype=values.dtype)
            padded = xp.concat([values, rest], axis=-1)
            values = xp.sum(xp.reshape(padded, (*values.shape[:-1], chunks, _CHUNK)), axis=-1)
        return xp.sum(values, axis=-1, keepdims=True)

    def masked(self, values: Any, fill: float) -> Any:
        """`values` with `fill` where an entry takes no part."""
        if self.mask is None:
            return values
        return self.xp.where(self.mask, values, self.xp.full_like(values, fill))

    def softmax(self) -> tuple[Any, Any]:
        """The probabilities, and the logarithms of them."""
        if self.x.shape[-1] == 0:
            return self.x, self.x
        xp, x = self.xp, self.x
        if self.mask is not None:
            # A row with no entry left is filled with zeros: no NaN arises.
            some = xp.any(self.mask, axis=-1, keepdims=True)
            zero = xp.zeros(some.shape, dtype=x.dtype)
            fill = xp.broadcast_to(xp.where(some, xp.full_like(zero, -math.inf), zero), x.shape)
            x = xp.where(self.mask, x, fill)
        shifted = x - xp.max(x, axis=-1, keepdims=True)
        e = xp.exp(shifted)
        total = self.sum(e)
        return self.masked(e / total, 0.0), self.masked(shifted - xp.log(total), -math.inf)

    def sigmoid(self) -> tuple[Any, Any]:
        """The probabilities of x and of -x."""
        e = self.xp.exp(-self.xp.abs(self.x))
        small, large = e / (1 + e), 1 / (1 + e)
        negative = self.x < 0
        return self.xp.where(negative, small, large), self.xp.where(negative, large, small)


# --- derivatives by the closed forms: operation -> f(rows) -> (pullback of a cotangent, pushforward of a tangent) ----


def _softmax_derivatives(rows: _Rows) -> tuple[Any, Any]:
    y, _ = rows.softmax()

    def both(g: Any) -> Any:
        return y * (g - rows.sum(y * g))

    return both, both


def _log_softmax_derivatives(rows: _Rows) -> tuple[Any, Any]:
    y, _ = rows.softmax()
    return (
        lambda g: rows.masked(rows.masked(g, 0.0) - y * rows.sum(rows.masked(g, 0.0)), 0.0),
        lambda t: rows.masked(t - rows.sum(y * t), 0.0),
    )


def _sigmoid_derivatives(rows: _Rows) -> tuple[Any, Any]:
    y, complement = rows.sigmoid()
    return (lambda g: g * y * complement), (lambda t: t * y * complement)


# The Hessian of <g, f(x)> is symmetric, so that vjp and jvp of the gradient are one function: f(rows, g) -> (v -> Hv).


def _softmax_second(rows: _Rows, g: Any) -> Any:
    y, _ = rows.softmax()

    def second(v: Any) -> Any:
        dy = y * (v - rows.sum(y * v))
        return dy * (g - rows.sum(g * y)) - y * rows.sum(g * dy)

    return second


def _log_softmax_second(rows: _Rows, g: Any) -> Any:
    y, _ = rows.softmax()
    total = rows.sum(rows.masked(g, 0.0))
    return lambda v: -(y * (v - rows.sum(y * v))) * total


def _sigmoid_second(rows: _Rows, g: Any) -> Any:
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


# --- the backend -----------------------------------------------------------------------------------------------------


class ArrayApiBackend(Backend):
    """The array API standard; see `polylogit.extend.Backend`."""

    name = "array_api"
    differentiates = False

    def owns(self, cls: type) -> bool:
        """Whatever names its namespace."""
        return hasattr(cls, "__array_namespace__")

    @_quiet
    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """See `polylogit.softmax`."""
        rows = _Rows(x, axis, where, dtype)
        return rows.give(rows.softmax()[0])

    @_quiet
    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """See `polylogit.log_softmax`."""
        rows = _Rows(x, axis, where, dtype)
        return rows.give(rows.softmax()[1])

    @_quiet
    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """See `polylogit.sigmoid`."""
        rows = _Rows(x, (), None, dtype)
        return rows.give(rows.sigmoid()[0])

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Refused but for arrays: the standard is no library, so there is none in which to make one."""
        if hasattr(value, "__array_namespace__") and not isinstance(value, np.ndarray):
            xp = array_api_compat.array_namespace(value)
            target = getattr(xp, dtype, dtype) if isinstance(dtype, str) else dtype
            return xp.asarray(value, dtype=target, device=device)
        host_array(value)
        message = (
            "backend 'array_api' cannot tell which library to make an array in; make it with that library's asarray."
        )
        raise DTypeError(message)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        return np.from_dlpack(array_api_compat.to_device(x, "cpu")).copy()

    @_quiet
    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By the closed forms."""
        rows, (pull, _) = _closed_form(function, x, kwargs)
        return function(x, **kwargs), lambda cotangent: rows.give(pull(_like(rows, cotangent, "cotangent")))

    @_quiet
    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By the closed forms."""
        rows, (_, push) = _closed_form(function, x, kwargs)
        return function(x, **kwargs), rows.give(push(_like(rows, tangent, "tangent")))

    def dtypes(self) -> tuple[str, ...]:
        """The floating dtypes of the standard."""
        return ("float64", "float32")


def _closed_form(function: Any, x: Any, kwargs: dict[str, Any]) -> tuple[_Rows, tuple[Any, Any]]:
    second = hasattr(function, "__polylogit_gradient__")
    operation = function.operation if second else function
    options = function.kwargs if second else kwargs
    name = getattr(operation, "__polylogit_operation__", None)
    if name not in _FIRST:
        message = (
            f"{function!r} cannot be differentiated on arrays of the array API standard, which has no autodiff; pass "
            f"polylogit.{', '.join(_FIRST)} or a polylogit.gradient of them."
        )
        raise DifferentiationError(message)
    axis = options.get("axis", -1) if OPERATIONS[name].takes_axis else ()
    rows = _Rows(x, axis, options.get("where"), options.get("dtype"))
    if not second:
        return rows, _FIRST[name](rows)
    both = _SECOND[name](rows, _like(rows, function.cotangent, "cotangent"))
    return rows, (both, both)


def _like(rows: _Rows, given: Any, argument: str) -> Any:
    if given.shape != rows.shape:
        raise wrong_direction(argument, given.shape, rows.shape, f"{rows.xp.__name__}.broadcast_to")
    return rows.take(given)
