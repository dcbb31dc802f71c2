"""The exponential and the logarithm in float64, of which MLX computes no more than float32's digits.

MLX adds, multiplies and divides in float64 as it should. The exponential is that of a number within half a logarithm of
2 around 0, by its series, and a power of two made from its bits; the logarithm is MLX's own, improved by one step of
Halley's method, which triples its digits.
"""

from __future__ import annotations

import math

import mlx.core as mx

__all__ = ["exp", "log"]

# log(2) in two parts, the first with so few digits that a multiple of it by 11 bits is exact.
_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_DEGREE = 13  # what follows is below 5e-18 of the result
_BIAS, _BITS = 1023, 52  # how float64 holds a power of two


def exp(x: mx.array) -> mx.array:
    """exp(x) in float64."""
    # Beyond these the result is 0 or inf whatever x is; NaN is put back at the end.
    inside = mx.clip(x, -750.0, 710.0)
    k = mx.round(inside * math.log2(math.e))
    r = (inside - k * _HIGH) - k * _LOW
    y = mx.full(r.shape, 1 / math.factorial(_DEGREE), dtype=mx.float64)
    for power in range(_DEGREE - 1, -1, -1):
        y = y * r + 1 / math.factorial(power)
    # MLX follows what a function with derivatives of its own is made of, and cannot differentiate bits.
    k = mx.stop_gradient(mx.where(mx.isnan(x), 0, k).astype(mx.int64))
    half = k // 2  # a power of two that float64 has, where 2^k may be none
    y = y * _power_of_two(half) * _power_of_two(k - half)
    return mx.where(mx.isnan(x), x, mx.where(x > 709.9, math.inf, y))


def _power_of_two(k: mx.array) -> mx.array:
    return ((k + _BIAS) << _BITS).view(mx.float64)


def log(x: mx.array) -> mx.array:
    """log(x) in float64, for sums of exponentials: finite and at least 1, or NaN."""
    y = mx.log(x)
    e = exp(y)
    return y + 2.0 * (x - e) / (x + e)
