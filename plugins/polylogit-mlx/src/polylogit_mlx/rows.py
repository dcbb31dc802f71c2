"""softmax and log_softmax along the last axis, and sigmoid, each with its derivatives, in float32 or float64.

MLX differentiates what it is given, but adds up a long row one term after another, in the gradient too; so the sums are
made here, and every function says what its derivatives are. They are made of these functions again, and so can be
differentiated again. Knows MLX, and nothing of polylogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from polylogit_mlx import double

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["log_softmax", "sigmoid", "softmax"]

_CHUNK = 32  # the length of the sums that MLX makes by itself


def _exp(x: mx.array) -> mx.array:
    return double.exp(x) if x.dtype == mx.float64 else mx.exp(x)


def _log(x: mx.array) -> mx.array:
    return double.log(x) if x.dtype == mx.float64 else mx.log(x)


def _with(vjp: Callable[..., mx.array], jvp: Callable[..., mx.array]) -> Callable[..., Callable[..., mx.array]]:
    """A function of one array with its derivatives, each of the array and of a cotangent or a tangent."""

    def decorate(function: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
        made = mx.custom_function(function)
        made.vjp(lambda x, cotangent, _: vjp(x, cotangent))
        made.jvp(lambda x, tangent: jvp(x, tangent))
        return made

    return decorate


# --- sums along the last axis, which is kept, and their transpose --------------------------------------------------


def _chunks(x: mx.array) -> mx.array:
    """The sums of chunks, of their sums, and so on."""
    while (length := x.shape[-1]) > _CHUNK:
        count = -(-length // _CHUNK)
        padding = [(0, 0)] * (x.ndim - 1) + [(0, count * _CHUNK - length)]
        x = mx.pad(x, padding).reshape(*x.shape[:-1], count, _CHUNK).sum(-1)
    return x.sum(-1, keepdims=True)


def _sum(x: mx.array) -> mx.array:
    length = x.shape[-1]
    return _with(lambda _, g: _spread(g, length), lambda _, t: _sum(t))(_chunks)(x)


def _spread(total: mx.array, length: int) -> mx.array:
    shape = (*total.shape[:-1], length)
    function = _with(lambda _, g: _sum(g), lambda _, t: _spread(t, length))(lambda one: mx.broadcast_to(one, shape))
    return function(total)


def _mean_taken(y: mx.array, g: mx.array) -> mx.array:
    """``y * (g - sum(y * g))``, the derivative of softmax, which is its own transpose."""
    return y * (g - _spread(_sum(y * g), y.shape[-1]))


# --- the functions -------------------------------------------------------------------------------------------------


def _softmax_derivative(x: mx.array, g: mx.array) -> mx.array:
    return _mean_taken(softmax(x), g)


@_with(_softmax_derivative, _softmax_derivative)
def _softmax(x: mx.array) -> mx.array:
    e = _exp(x - x.max(-1, keepdims=True))
    return e / _chunks(e)


def softmax(x: mx.array) -> mx.array:
    """softmax along the last axis."""
    return _softmax(x) if x.size else x


@_with(
    lambda x, g: g - softmax(x) * _spread(_sum(g), x.shape[-1]),
    lambda x, t: t - _spread(_sum(softmax(x) * t), x.shape[-1]),
)
def _log_softmax(x: mx.array) -> mx.array:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - _log(_chunks(_exp(shifted)))


def log_softmax(x: mx.array) -> mx.array:
    """log_softmax along the last axis."""
    return _log_softmax(x) if x.size else x


def _slope_derivative(x: mx.array, g: mx.array) -> mx.array:
    return g * _slope(x) * (sigmoid(-x) - sigmoid(x))


@_with(_slope_derivative, _slope_derivative)
def _slope(x: mx.array) -> mx.array:
    """The derivative of sigmoid."""
    e = _exp(-mx.abs(x))
    return e / (1 + e) / (1 + e)


def _sigmoid_derivative(x: mx.array, g: mx.array) -> mx.array:
    return g * _slope(x)


@_with(_sigmoid_derivative, _sigmoid_derivative)
def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(-x))."""
    e = _exp(-mx.abs(x))
    return mx.where(x < 0, e / (1 + e), 1 / (1 + e))
