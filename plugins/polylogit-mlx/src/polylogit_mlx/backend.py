"""The backend: what polylogit asks of a framework, for MLX."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import ml_dtypes
import mlx.core as mx
import numpy as np

from polylogit.errors import ConversionError, DTypeError
from polylogit.extend import (
    Backend,
    Loan,
    Primitives,
    along_axes,
    elementwise,
    floating,
    holds_numpy,
    host_array,
    no_values,
    unknown_dtype,
    wrong_direction,
)
from polylogit_mlx import rows

if TYPE_CHECKING:
    from collections.abc import Callable

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def _plain(dtype: Any) -> str:
    """`mlx.core.float32` as "float32"."""
    return str(dtype).rpartition(".")[2]


def _dtype(given: Any) -> Any:
    """What a name, a dtype of MLX or one of NumPy means to MLX; None where it has none."""
    if not isinstance(given, (str, mx.Dtype)):
        try:
            given = np.dtype(given).name
        except TypeError:
            return None
    found = getattr(mx, "bool_" if given == "bool" else given, None) if isinstance(given, str) else given
    return found if isinstance(found, mx.Dtype) else None


class _Primitives(Primitives):
    narrow, wide = mx.float32, mx.float64

    @staticmethod
    def name(dtype: Any) -> str:
        return _plain(dtype)

    @staticmethod
    def kind(dtype: Any) -> str:
        if dtype == mx.bool_:
            return "bool"
        for kind, group in (("floating", mx.floating), ("integer", mx.integer)):
            if mx.issubdtype(dtype, group):
                return kind
        return "other"

    @staticmethod
    def default_float() -> Any:
        return mx.float32

    @staticmethod
    def dtype(given: Any) -> Any:
        return _dtype(given)

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        return x if x.dtype == dtype else x.astype(dtype)

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        return mx.broadcast_to(mask, x.shape)

    @staticmethod
    def moves(x: Any, axes: tuple[int, ...], masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        # The rows lie along the last axis, which the joined ones become.
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        order = [*kept, *axes]
        back = [order.index(axis) for axis in range(x.ndim)]
        moved = tuple(x.shape[axis] for axis in order)
        joined = (*moved[: len(kept)], math.prod(moved[len(kept) :]))
        return (
            lambda t: t.transpose(order).reshape(joined) if x.ndim else t.reshape(joined),
            lambda t: t.reshape(moved).transpose(back) if x.ndim else t.reshape(()),
            -1,
        )

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        return mask.any(axis, keepdims=True)

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        return mx.where(mask, x, other)

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        return mx.where(some, -math.inf, 0.0).astype(dtype)


class MlxBackend(Backend):
    """MLX; see `polylogit.extend.Backend`."""

    name = "mlx"
    version = mx.__version__
    namespace = "mlx.core"
    spelling: ClassVar[dict[str, str]] = {
        "softmax": "mx.softmax(x, axis={axis})",
        "log_softmax": "x - mx.logsumexp(x, axis={axis}, keepdims=True)",
        "sigmoid": "mx.sigmoid(x)",
        "exp": "mx.exp(p)",
        "log": "mx.log(p)",
        "exp2": "mx.exp(x)",
        "take": "p = mx.take(p, mx.array({inverse}), axis={axis})",
        "transpose": "x = mx.transpose(x, {back})",
        "float32": "x = x.astype(mx.float32)",
        "two classes": "mx.softmax(mx.stack([mx.zeros_like(x), x], axis=-1), axis=-1)",
        "import": "import mlx.core as mx",
        "array": "mx.array({values}, dtype=mx.{dtype})",
        "pullback": "mx.vjp(lambda x: {call}, (x,), (g,))[1][0]",
    }

    def owns(self, cls: type) -> bool:
        """Arrays; those that a transformation traces have the same type."""
        return issubclass(cls, mx.array)

    # --- the operations ---

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """By the rows of this package, since MLX's own adds one term after another."""
        return along_axes(_Primitives, lambda r, _: rows.softmax(r), 0.0, x, axis, where, dtype)

    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """As softmax; ``mlx.nn.log_softmax`` ends the process on arrays of the shape (n, 1)."""
        return along_axes(_Primitives, lambda r, _: rows.log_softmax(r), -math.inf, x, axis, where, dtype)

    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """By the rows of this package, since MLX's own has the digits of float32 in float64."""
        return elementwise(_Primitives, rows.sigmoid, x, dtype)

    # --- arrays in and out ---

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Values as an array; memory is the same on all devices of MLX, so `device` must only exist."""
        if device is not None and device not in self.devices():
            message = f"device={device!r} is none of MLX's here; it has {', '.join(self.devices())}."
            raise ConversionError(message)
        target = None if dtype is None else _dtype(dtype)
        if dtype is not None and target is None:
            message = f'MLX has no dtype {dtype!r}; pass one of its own, for example "float32".'
            raise DTypeError(message)
        if isinstance(value, mx.array):
            return value if target is None else value.astype(target)
        array = host_array(value)
        if target is None and not (hasattr(value, "dtype") or holds_numpy(value)) and array.dtype == np.float64:
            target = mx.float32  # Python's floats become the framework's default
        own = _dtype(array.dtype.name)
        if own is None:
            message = f"MLX has no dtype {array.dtype.name}; cast the array first, for example to float32."
            raise DTypeError(message)
        # Without dtype= MLX makes float32 of float64.
        return _Primitives.cast(mx.array(array, dtype=own), own if target is None else target)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values; bfloat16, which NumPy's protocol lacks, by its bits."""
        if x.dtype == mx.bfloat16:
            return np.array(x.view(mx.uint16)).view(_BFLOAT16)
        return np.array(x)

    def lend(self, x: Any) -> Loan:
        """A copy: writing to an array of MLX leaves its memory to whoever else holds it."""
        if not isinstance(x, mx.array):
            raise no_values(x, "no array with values", "pass arrays, or containers of them")
        try:
            return Loan(self.to_numpy(x), True, False, "MLX's arrays change by getting other memory")
        except ValueError as error:
            raise no_values(x, "a tracer", "convert outside of compile, grad and vmap") from error

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """A copy in the same dtype."""
        if _dtype(array.dtype.name) is None:
            raise unknown_dtype("MLX", array.dtype.name)
        return self.asarray(array)

    # --- derivatives ---

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
        """By ``mx.vjp``, which runs the function again for every cotangent."""
        x = floating(_Primitives, x)
        y = function(x, **kwargs)

        def pullback(cotangent: Any) -> Any:
            return mx.vjp(lambda one: function(one, **kwargs), (x,), (self._like(cotangent, y, "cotangent"),))[1][0]

        return y, pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``mx.jvp``."""
        x = floating(_Primitives, x)
        y, along = mx.jvp(lambda one: function(one, **kwargs), (x,), (self._like(tangent, x, "tangent"),))
        return y[0], along[0]

    def _like(self, given: Any, like: Any, argument: str) -> Any:
        if not isinstance(given, mx.array):
            given = self.asarray(given)
        if given.shape != like.shape:
            raise wrong_direction(argument, given.shape, like.shape, "mx.broadcast_to")
        return _Primitives.cast(given, like.dtype)

    # --- for the kit ---

    def devices(self) -> tuple[str, ...]:
        """The CPU, and the GPU where MLX was built for one."""
        return ("cpu", "gpu") if mx.is_available(mx.gpu) else ("cpu",)

    def dtypes(self) -> tuple[str, ...]:
        """float64 on the CPU alone."""
        wide = ("float64",) if mx.default_device().type == mx.DeviceType.cpu else ()
        return (*wide, "float32", "float16", "bfloat16")

    def capabilities(self) -> dict[str, str]:
        """Where MLX computes."""
        return {"device": _plain(mx.default_device().type)}

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """``mx.compile``."""
        return {"compile": mx.compile}

    def prepare(self, device: str | None) -> None:
        """Compute where the kit is asked to, on the CPU by default."""
        mx.set_default_device(mx.gpu if device == "gpu" else mx.cpu)
