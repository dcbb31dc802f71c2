"""The operations and their pullbacks as in textbooks, in plain float64.

For tools that compute with other implementations' outputs: accurate to a few ulp of float64, over any axes, with masks.
The kit's references are in `polylogit._spec.exact`. Needs only NumPy; knows no framework and no bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Axes = tuple[int, ...]

__all__ = ["FORMULAS", "Formula", "exp", "log", "log_softmax", "sigmoid", "softmax"]


def exp(x: Array) -> Array:
    """The exponential, without warnings."""
    with np.errstate(all="ignore"):
        return np.exp(x)


def log(x: Array) -> Array:
    """The logarithm, without warnings: -inf at 0 and NaN below."""
    with np.errstate(all="ignore"):
        return np.log(x)


def log_softmax(x: Array, axes: Axes) -> Array:
    """The logarithm of softmax over these axes jointly; -inf stays -inf, even in rows of only -inf."""
    with np.errstate(all="ignore"):
        top = np.max(x, axis=axes, keepdims=True)
        shifted = x - np.where(np.isfinite(top), top, 0.0)
        result: Array = shifted - np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))
        return np.where(np.isneginf(x), -np.inf, result)


def softmax(x: Array, axes: Axes) -> Array:
    """Softmax over these axes jointly."""
    return exp(log_softmax(x, axes))


def sigmoid(x: Array, _axes: Axes = ()) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, 1.0) / (1.0 + small)


class Formula(NamedTuple):
    """One operation.

    Attributes
    ----------
    value : callable
        ``value(x, axes)``; sigmoid ignores the axes.
    pullback : callable
        ``pullback(y, g, axes)``: the gradient for the cotangent `g`, from the operation's own output `y`.
    """

    value: Callable[[Array, Axes], Array]
    pullback: Callable[[Array, Array, Axes], Array]


FORMULAS = {
    "softmax": Formula(softmax, lambda y, g, axes: y * (g - np.sum(g * y, axis=axes, keepdims=True))),
    "log_softmax": Formula(log_softmax, lambda y, g, axes: g - exp(y) * np.sum(g, axis=axes, keepdims=True)),
    "sigmoid": Formula(sigmoid, lambda y, g, axes: g * y * (1.0 - y)),
}
