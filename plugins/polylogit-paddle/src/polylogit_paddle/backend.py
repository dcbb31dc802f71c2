"""The backend: what polylogit asks of a framework, for PaddlePaddle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import ml_dtypes
import numpy as np
import paddle

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
from polylogit_paddle import rows

if TYPE_CHECKING:
    from collections.abc import Callable

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_FLOATS = ("float64", "float32", "float16", "bfloat16")
# The integers that tensors are made of; Paddle takes NumPy's uint16 for the bits of bfloat16, and has no wider ones
# without a sign.
_INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
_DTYPES = {name: getattr(paddle, name) for name in (*_FLOATS, *_INTEGERS, "bool", "complex64", "complex128")}


def _plain(dtype: Any) -> str:
    """`paddle.float32` as "float32"."""
    return str(dtype).rpartition(".")[2]


def _dtype(given: Any) -> Any:
    """What a name, a dtype of Paddle or one of NumPy means to Paddle; None where it has none."""
    if isinstance(given, paddle.dtype):
        given = _plain(given)
    elif not isinstance(given, str):
        try:
            given = np.dtype(given).name
        except TypeError:
            return None
    return _DTYPES.get(given)


class _Primitives(Primitives):
    narrow, wide = paddle.float32, paddle.float64

    @staticmethod
    def name(dtype: Any) -> str:
        return _plain(dtype)

    @staticmethod
    def kind(dtype: Any) -> str:
        name = _plain(dtype)
        return {**dict.fromkeys(_FLOATS, "floating"), **dict.fromkeys(_INTEGERS, "integer"), "bool": "bool"}.get(
            name, "other"
        )

    @staticmethod
    def default_float() -> Any:
        return _DTYPES[paddle.get_default_dtype()]

    @staticmethod
    def dtype(given: Any) -> Any:
        return _dtype(given)

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        return rows.cast(x, dtype)

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        return paddle.broadcast_to(mask, x.shape) if x.size else mask

    @staticmethod
    def moves(x: Any, axes: tuple[int, ...], masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        if not x.size:  # a 0 means something else to Paddle's reshape, and nothing is computed
            return (lambda t: t), (lambda t: t), -1
        # The rows lie along the last axis, which the joined ones become.
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        order = [*kept, *axes]
        back = [order.index(axis) for axis in range(x.ndim)]
        moved = [x.shape[axis] for axis in order]
        joined = [*moved[: len(kept)], math.prod(moved[len(kept) :])]
        return (
            lambda t: paddle.transpose(t, order).reshape(joined),
            lambda t: paddle.transpose(t.reshape(moved), back),
            -1,
        )

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        return mask.any(axis, keepdim=True) if mask.size else mask

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        if not x.size:
            return x
        other = other if isinstance(other, paddle.Tensor) else paddle.full([1], other, x.dtype)
        return paddle.where(mask, x, paddle.broadcast_to(other, x.shape))

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        low, zero = (paddle.full(some.shape, value, dtype) for value in (-math.inf, 0.0))
        return paddle.where(some, low, zero) if some.size else zero


class PaddleBackend(Backend):
    """PaddlePaddle; see `polylogit.extend.Backend`."""

    name = "paddle"
    version = paddle.__version__
    spelling: ClassVar[dict[str, str]] = {
        "softmax": "paddle.nn.functional.softmax(x, axis={axis})",
        "log_softmax": "paddle.nn.functional.log_softmax(x, axis={axis})",
        "sigmoid": "paddle.nn.functional.sigmoid(x)",
        "exp": "paddle.exp(p)",
        "log": "paddle.log(p)",
        "exp2": "paddle.exp(x)",
        "take": "p = paddle.index_select(p, paddle.to_tensor({inverse}), axis={axis})",
        "transpose": "x = paddle.transpose(x, {back})",
        "float32": 'x = x.astype("float32")',
        "two classes": "paddle.nn.functional.softmax(paddle.stack([paddle.zeros_like(x), x], axis=-1))",
        "import": "import paddle",
        "array": 'paddle.to_tensor({values}, dtype="{dtype}", stop_gradient=False)',
        "pullback": "paddle.grad([{call}], [x], [g])[0]",
    }

    def owns(self, cls: type) -> bool:
        """Tensors and parameters."""
        return issubclass(cls, paddle.Tensor)

    # --- the operations ---

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """By the rows of this package; see there for what is wrong with Paddle's."""
        return along_axes(_Primitives, lambda r, _: rows.softmax(r), 0.0, x, axis, where, dtype)

    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """As softmax."""
        return along_axes(_Primitives, lambda r, _: rows.log_softmax(r), -math.inf, x, axis, where, dtype)

    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """Likewise, since Paddle's has no second derivative that is right."""
        return elementwise(_Primitives, rows.sigmoid, x, dtype)

    # --- arrays in and out ---

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Values as a tensor, in the dtype that they have; Python's floats in Paddle's default."""
        target = None if dtype is None else _dtype(dtype)
        if dtype is not None and target is None:
            message = f'Paddle has no tensors of dtype {dtype!r}; pass one that it has, for example "float32".'
            raise DTypeError(message)
        if isinstance(value, paddle.Tensor):
            return value if target is None else rows.cast(value, target)
        array = host_array(value)
        own = _DTYPES.get(array.dtype.name)
        if own is None:
            message = (
                f"Paddle has no tensors of dtype {array.dtype.name}; cast the array first, for example to float32."
            )
            raise DTypeError(message)
        if target is None and not (hasattr(value, "dtype") or holds_numpy(value)) and own == paddle.float64:
            target = _Primitives.default_float()
        if array.dtype == _BFLOAT16:
            array = array.view(np.uint16)  # which is how Paddle takes it
        made = paddle.to_tensor(array, place=None if device is None else _place(device))
        return made if target is None else rows.cast(made, target)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values on the host."""
        array: np.ndarray[Any, Any] = x.detach().numpy()
        return array.view(_BFLOAT16) if x.dtype == paddle.bfloat16 else array

    def lend(self, x: Any) -> Loan:
        """A copy, dense."""
        if not isinstance(x, paddle.Tensor):
            raise no_values(x, "no tensor with values", "pass tensors, or containers of them")
        if not x.is_dense():
            raise no_values(x, "a sparse tensor", "call its to_dense() first")
        return Loan(self.to_numpy(x).copy(), True, False, "Paddle's memory is not shared with other frameworks")

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """A copy in the same dtype."""
        if array.dtype.name not in _DTYPES:
            raise unknown_dtype("Paddle", array.dtype.name)
        return self.asarray(array)

    # --- derivatives ---

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
        """By ``paddle.grad``; what `x` itself was made of stays connected, so that pullbacks can be differentiated."""
        connected = not x.stop_gradient
        with paddle.enable_grad():
            x = floating(_Primitives, x)
            x = x if connected else _fresh(x)
            y = function(x, **kwargs)

        def pullback(cotangent: Any) -> Any:
            g = self._like(cotangent, y, "cotangent")
            with paddle.enable_grad():
                return _grad(y, x, g, again=connected or not g.stop_gradient)

        return y if connected else y.detach(), pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Paddle has no forward mode: the derivative of the pullback, which is linear, along its cotangent."""
        x = floating(_Primitives, x)
        along = self._like(tangent, x, "tangent")
        connected = not x.stop_gradient
        with paddle.enable_grad():
            x = x if connected else _fresh(x)
            y = function(x, **kwargs)
            u = _fresh(paddle.zeros_like(y))
            pulled = _grad(y, x, u, again=True)
            out = _grad(pulled, u, along, again=connected)
        return (y, out) if connected else (y.detach(), out.detach())

    def _like(self, given: Any, like: Any, argument: str) -> Any:
        if not isinstance(given, paddle.Tensor):
            given = self.asarray(given)
        if given.shape != like.shape:
            raise wrong_direction(argument, given.shape, like.shape, "paddle.broadcast_to")
        return rows.cast(given, like.dtype)

    # --- for the kit ---

    def devices(self) -> tuple[str, ...]:
        """The CPU, and the GPUs where Paddle was built for them."""
        count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
        return ("cpu", *(f"gpu:{index}" for index in range(count)))

    def dtypes(self) -> tuple[str, ...]:
        """Tensors have them all; few of the CPU's kernels take 16 bits, and none is asked to here."""
        return _FLOATS

    def capabilities(self) -> dict[str, str]:
        """Where Paddle computes."""
        return {"device": paddle.get_device()}

    def prepare(self, device: str | None) -> None:
        """Compute where the kit is asked to, on the CPU by default."""
        paddle.set_device(device or "cpu")


def _place(device: Any) -> Any:
    kind, _, index = str(device).partition(":")
    if kind == "cpu":
        return paddle.CPUPlace()
    if kind == "gpu" and paddle.is_compiled_with_cuda():
        return paddle.CUDAPlace(int(index or 0))
    message = f'device={device!r} is none of Paddle\'s here; pass for example "cpu".'
    raise ConversionError(message)


def _fresh(x: Any) -> Any:
    """`x` as a tensor that nothing else depends on, to be differentiated by."""
    made = x.detach()
    made.stop_gradient = False
    return made


def _grad(y: Any, x: Any, cotangent: Any, *, again: bool) -> Any:
    """The pullback; zeros where `y` does not depend on `x`."""
    if y.stop_gradient:
        return paddle.zeros_like(x)
    (found,) = paddle.grad([y], [x], [cotangent], retain_graph=True, create_graph=again, allow_unused=True)
    return paddle.zeros_like(x) if found is None else found
