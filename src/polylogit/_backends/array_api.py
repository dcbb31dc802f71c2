"""The backend for arrays of any other library that follows the array API standard (``__array_namespace__``).

It assumes nothing beyond the standard, and leaves only elementwise functions and short sums to the library: dtypes of
at most 32 bits are computed in float64, long rows are summed in chunks, and derivatives use the closed forms. If a size
is unknown (the standard allows None in a shape), nothing is reshaped and the library's own sums are used. This module
may know the standard (through array-api-compat) and the shared rules, and no library.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from polylogit._backends.base import Backend, host_array
from polylogit._backends.closed_forms import closed_form, like
from polylogit._backends.rows import Primitives, checked, dtypes
from polylogit.errors import DTypeError, UnknownBackendError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

# The length of the sums that the library makes by itself, one addition after another at worst: as the bound of sums
# (docs/contract.md) allows a level of them.
_CHUNK = 32


_OTHER_DTYPES = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))

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
                try:
                    if xp.isdtype(dtype, group):
                        return kind
                except TypeError:  # a dtype that the library holds and does not know, as NumPy those of ml_dtypes
                    break
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
    """Logits in the precision to compute in, with the normalised axes joined into the last, and the inverse.

    If a size is unknown, the axes stay in place, in `along`.
    """

    def __init__(self, x: Any, axis: Any, where: Any, dtype: Any) -> None:
        self.xp = xp = array_api_compat.array_namespace(x)
        primitives = _primitives(xp)
        self.result, self.compute = dtypes(primitives, x.dtype, dtype)
        self.shape, self.axes = x.shape, checked(primitives, x, axis, where)
        self.known = self.sizes_known(x)
        self.along: Any = -1 if self.known else self.axes
        others = [one for one in range(x.ndim) if one not in self.axes]
        self.order = (*others, *self.axes)
        self.x = self.take(x)
        self.mask = None
        if where is not None:
            same = xp.broadcast_to(where, x.shape) if self.known else where & xp.ones_like(x, dtype=xp.bool)
            self.mask = self._joined(same)

    @staticmethod
    def sizes_known(x: Any) -> bool:
        """Whether every size is a number; the standard allows None for sizes known only when a graph runs."""
        return None not in x.shape

    def take(self, array: Any) -> Any:
        """An array in the shape of the logits, converted to the layout of `x`."""
        return self.xp.astype(self._joined(array), self.compute)

    def _joined(self, array: Any) -> Any:
        if not self.known:
            return array
        moved = self.xp.permute_dims(array, self.order)
        kept = moved.shape[: moved.ndim - len(self.axes)]
        return self.xp.reshape(moved, (*kept, math.prod(moved.shape[len(kept) :])))

    def give(self, rows: Any) -> Any:
        """The inverse: the shape of the logits and the dtype of the result."""
        if not self.known:
            return self.xp.astype(rows, self.result)
        moved = self.xp.reshape(rows, tuple(self.shape[one] for one in self.order))
        back = tuple(self.order.index(one) for one in range(len(self.order)))
        return self.xp.astype(self.xp.permute_dims(moved, back), self.result)

    def _reduced(self, function: Callable[..., Any], values: Any) -> Any:
        """`values` reduced along the rows, keeping the axis; unchanged if each element is a row of its own."""
        return values if self.along == () else function(values, axis=self.along, keepdims=True)

    def sum(self, values: Any) -> Any:
        """The sums along the rows, in chunks of chunks if their length is known; keeps the axis."""
        xp = self.xp
        while self.known and (length := values.shape[-1]) > _CHUNK:
            chunks = -(-length // _CHUNK)
            if missing := chunks * _CHUNK - length:
                rest = xp.zeros((*values.shape[:-1], missing), dtype=values.dtype)
                values = xp.concat([values, rest], axis=-1)
            values = xp.sum(xp.reshape(values, (*values.shape[:-1], chunks, _CHUNK)), axis=-1)
        return self._reduced(xp.sum, values)

    def masked(self, values: Any, fill: float) -> Any:
        """`values` with `fill` at masked entries."""
        if self.mask is None:
            return values
        return self.xp.where(self.mask, values, self.xp.full_like(values, fill))

    def softmax(self) -> tuple[Any, Any]:
        """The probabilities and their logarithms."""
        if self.known and self.x.shape[-1] == 0:
            return self.x, self.x
        xp, x = self.xp, self.x
        if self.mask is not None:
            # A row with no entry left is filled with zeros: no NaN arises.
            some = self._reduced(xp.any, self.mask)
            zero = xp.zeros_like(some, dtype=x.dtype)
            x = xp.where(self.mask, x, xp.where(some, xp.full_like(zero, -math.inf), zero))
        shifted = x - self._reduced(xp.max, x)
        e = xp.exp(shifted)
        total = self.sum(e)
        return self.masked(e / total, 0.0), self.masked(shifted - xp.log(total), -math.inf)

    def sigmoid(self) -> tuple[Any, Any]:
        """The probabilities of x and of -x."""
        e = self.xp.exp(-self.xp.abs(self.x))
        small, large = e / (1 + e), 1 / (1 + e)
        negative = self.x < 0
        return self.xp.where(negative, small, large), self.xp.where(negative, large, small)


class ArrayApiBackend(Backend):
    """The array API standard; see `polylogit.extend.Backend`.

    Parameters
    ----------
    module : str, optional
        A library, in which to make arrays; without it there are none but those that arrive.
    """

    name = "array_api"
    differentiates = False

    def __init__(self, module: str = "") -> None:
        self._library = None
        if module:
            made = importlib.import_module(module).zeros(1)
            home = type(made).__module__.partition(".")[0] == module.partition(".")[0]
            if not (home and self.owns(type(made))):
                message = (
                    f"backend='array_api:{module}': {module}.zeros(1) is a {type(made).__module__}."
                    f"{type(made).__qualname__}; name a library whose own arrays have __array_namespace__, for example "
                    "array_api:array_api_strict."
                )
                raise UnknownBackendError(message)
            self._library = array_api_compat.array_namespace(made)

    def owns(self, cls: type) -> bool:
        """Any type that names its array namespace, except sparse ones, whose absent entries have no clear meaning."""
        if hasattr(cls, "nnz"):
            message = (
                f"{cls.__module__}.{cls.__qualname__} is sparse: an absent entry is a logit of 0 to one reader and no "
                "entry to another. Pass x.todense(), and where an absent entry takes no part where= besides."
            )
            raise UnsupportedArrayError(message)
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
        """Call the library's own function; without a library, accept only its arrays."""
        xp = self._library
        if xp is None and hasattr(value, "__array_namespace__") and not isinstance(value, np.ndarray):
            xp = array_api_compat.array_namespace(value)
        if xp is None or not hasattr(value, "__array_namespace__"):
            value = host_array(value)
        if xp is None:
            message = (
                "backend 'array_api' cannot tell which library to make an array in; make it with that library's "
                'asarray, or name the library: backend="array_api:MODULE".'
            )
            raise DTypeError(message)
        target = getattr(xp, dtype, dtype) if isinstance(dtype, str) else dtype
        return xp.asarray(value, dtype=target, device=device)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`; through DLPack, or as NumPy reads the array if the library has no DLPack."""
        try:
            return np.from_dlpack(array_api_compat.to_device(x, "cpu")).copy()
        except (AttributeError, BufferError, TypeError, ValueError):
            return np.array(x.unwrap_numpy() if hasattr(x, "unwrap_numpy") else x)

    def dtype_name(self, x: Any) -> str:
        """See `Backend.dtype_name`; the standard's name for the dtype."""
        xp = array_api_compat.array_namespace(x)
        named = (one for one in (*self.dtypes(), *_OTHER_DTYPES) if getattr(xp, one, None) == x.dtype)
        return next(named, str(x.dtype))

    @_quiet
    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By the closed forms."""
        rows, (pull, _) = closed_form(_Rows, function, x, kwargs)
        return function(x, **kwargs), lambda cotangent: rows.give(pull(like(rows, cotangent, "cotangent")))

    @_quiet
    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By the closed forms."""
        rows, (_, push) = closed_form(_Rows, function, x, kwargs)
        return function(x, **kwargs), rows.give(push(like(rows, tangent, "tangent")))

    def dtypes(self) -> tuple[str, ...]:
        """The real floating dtypes of the standard."""
        return ("float64", "float32")
