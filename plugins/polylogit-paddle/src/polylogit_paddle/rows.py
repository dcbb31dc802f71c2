"""softmax and log_softmax along the last axis, and sigmoid, each with its derivatives, in float32 or float64.

Paddle's own clip the distance to the maximum at 64 and have no second derivative. What is taken from Paddle here are
elementwise functions, a maximum and sums of a few terms; every function says what its derivative is, made of these
functions again, so that it can be differentiated again. Knows Paddle, and nothing of polylogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paddle
from paddle.autograd import PyLayer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cast", "log_softmax", "sigmoid", "softmax"]

_CHUNK = 32  # the length of the sums that Paddle makes by itself
# Below these Paddle's vector instructions give a quarter of the smallest normal number as the exponential, of -inf too.
_LOWEST = {paddle.float32: -87.0, paddle.float64: -708.0}


def _with(vjp: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function of one tensor with its derivative, of the tensor, a cotangent and what else the function takes."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        class Function(PyLayer):
            @staticmethod
            def forward(ctx: Any, x: Any, *others: Any) -> Any:
                ctx.save_for_backward(x)
                ctx.others = others
                return function(x, *others)

            @staticmethod
            def backward(ctx: Any, cotangent: Any) -> Any:
                (x,) = ctx.saved_tensor()
                return vjp(x, cotangent, *ctx.others)

        return Function.apply

    return decorate


def _exp(x: Any) -> Any:
    half = paddle.exp(0.5 * x)
    return paddle.where(x < _LOWEST[x.dtype], half * half, paddle.exp(x))


@_with(lambda x, g, _: cast(g, x.dtype))
def _converted(x: Any, dtype: Any) -> Any:
    if dtype == paddle.float16:
        # Paddle makes 1.2e-4 of some numbers far below the smallest; all below half of that are 0.
        x = paddle.where(paddle.abs(x) <= 2.0**-25, paddle.zeros_like(x), x)
    return x.astype(dtype)


def cast(x: Any, dtype: Any) -> Any:
    """`x` in another dtype."""
    return x if x.dtype == dtype else _converted(x, dtype)


# --- sums along the last axis, which is kept, and their transpose --------------------------------------------------


def _chunks(x: Any) -> Any:
    """The sums of chunks, of their sums, and so on."""
    while (length := x.shape[-1]) > _CHUNK:
        count = -(-length // _CHUNK)
        rest = paddle.zeros([*x.shape[:-1], count * _CHUNK - length], x.dtype)
        padded = paddle.concat([x, rest], axis=-1) if rest.shape[-1] else x
        x = padded.reshape([*x.shape[:-1], count, _CHUNK]).sum(-1)
    return x.sum(-1, keepdim=True)


@_with(lambda x, g: _spread(g, x.shape[-1]))
def _sum(x: Any) -> Any:
    return _chunks(x)


@_with(lambda _, g, __: _sum(g))
def _spread(total: Any, length: int) -> Any:
    return paddle.broadcast_to(total, [*total.shape[:-1], length])


# --- the functions -------------------------------------------------------------------------------------------------


def _softmax_derivative(x: Any, g: Any) -> Any:
    y = softmax(x)
    return y * (g - _spread(_sum(y * g), x.shape[-1]))


@_with(_softmax_derivative)
def _softmax(x: Any) -> Any:
    e = _exp(x - x.max(-1, keepdim=True))
    return e / _chunks(e)


def softmax(x: Any) -> Any:
    """softmax along the last axis."""
    return _softmax(x) if x.size else x


def _log_softmax_derivative(x: Any, g: Any) -> Any:
    return g - softmax(x) * _spread(_sum(g), x.shape[-1])


@_with(_log_softmax_derivative)
def _log_softmax(x: Any) -> Any:
    shifted = x - x.max(-1, keepdim=True)
    return shifted - paddle.log(_chunks(_exp(shifted)))


def log_softmax(x: Any) -> Any:
    """log_softmax along the last axis."""
    return _log_softmax(x) if x.size else x


@_with(lambda x, g: g * _slope(x) * (_sigmoid(-x) - _sigmoid(x)))
def _slope(x: Any) -> Any:
    """The derivative of sigmoid."""
    e = _exp(-paddle.abs(x))
    return e / (1 + e) / (1 + e)


@_with(lambda x, g: g * _slope(x))
def _sigmoid(x: Any) -> Any:
    e = _exp(-paddle.abs(x))
    return paddle.where(x < 0, e / (1 + e), 1 / (1 + e))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return _sigmoid(x) if x.size else x
