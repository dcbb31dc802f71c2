"""The common activation functions by name, and the inverses of the increasing ones. Plain NumPy."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.formulas import sigmoid

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.formulas import Array

    Function = Callable[[Array], Array]

__all__ = ["ACTIVATIONS", "GELUS", "RISING", "inverse"]


@functools.cache
def _erf() -> Any:
    return np.vectorize(math.erf, otypes=[float])


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + _normal_integral(x)))


def _normal_integral(x: Array) -> Array:
    """The error function of x / sqrt(2), from a table if there are many values."""
    if x.size < 20_000:
        return np.asarray(_erf()(x / np.sqrt(2.0)))
    grid, values, slopes = _table()
    place = np.clip(np.abs(x), 0.0, grid[-1])
    left = np.minimum((place / grid[1]).astype(int), len(grid) - 2)
    t = place / grid[1] - left
    # Hermite's cubic: its error is below 1e-12 on this grid.
    h00, h10 = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2
    h01, h11 = t * t * (3 - 2 * t), t * t * (t - 1)
    found = h00 * values[left] + h01 * values[left + 1] + grid[1] * (h10 * slopes[left] + h11 * slopes[left + 1])
    return np.asarray(np.sign(x) * found)


@functools.cache
def _table() -> tuple[Array, Array, Array]:
    grid = np.linspace(0.0, 8.0, 8001)
    return grid, _erf()(grid / np.sqrt(2.0)), np.sqrt(2.0 / np.pi) * np.exp(-grid * grid / 2.0)


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, x))


GELUS: dict[str, Function] = {
    "GELU": _gelu,
    "GELU by tanh": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "GELU by sigmoid(1.702 x)": lambda x: x * sigmoid(1.702 * x),
}
ACTIVATIONS: dict[str, Function] = {
    **GELUS,
    "ReLU": lambda x: np.maximum(x, 0.0),
    "SiLU": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "leaky ReLU (0.01)": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky ReLU (0.2)": lambda x: np.where(x > 0, x, 0.2 * x),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "SELU": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0.0))),
    "softplus": _softplus,
    "sigmoid": sigmoid,
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
    "squared ReLU": lambda x: np.maximum(x, 0.0) ** 2,
    "hard swish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "no activation": lambda x: x,
}
# These rise wherever they are positive, so that a positive output tells its input.
RISING = ("GELU", "GELU by tanh", "GELU by sigmoid(1.702 x)", "SiLU", "ReLU", "Mish")


def inverse(f: Function, y: Array) -> Array:
    """The positive x of an increasing function with f(x) <= x, by bisection and Newton's method with differences."""
    low, high = np.zeros_like(y), y + 1.0
    for _ in range(12):
        middle = (low + high) / 2.0
        below = f(middle) < y
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    x = (low + high) / 2.0
    for _ in range(4):
        slope = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
        x = x - (f(x) - y) / np.where(slope != 0, slope, 1.0)
    return np.asarray(x)
