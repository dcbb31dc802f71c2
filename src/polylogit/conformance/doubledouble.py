"""Double-double arithmetic: pairs of float64 whose unevaluated sum carries about 104 bits.

What the reference computes with where mpmath would take minutes: whole arrays at a time, with a relative error below
`RADIUS` for every function here. Classical error-free transformations (Dekker 1971, Knuth); knows no operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import mpmath
import numpy as np

if TYPE_CHECKING:
    from polylogit.conformance.formats import Array

__all__ = ["DD", "RADIUS", "absolute", "add", "div", "dot", "exp", "from_float", "log1p", "mul", "neg", "total"]

# Bound on the relative error of each function; measured against mpmath they stay below 2**-99.
RADIUS = 2.0**-94

_SPLITTER = 134217729.0  # 2**27 + 1
_STEPS = 256  # exp is tabulated at this many points of an octave
_CHUNK = 1 << 14
_LOWEST = -800.0  # below this, exp is 0 in float64


class DD(NamedTuple):
    """An unevaluated sum, ``abs(lo)`` at most half a unit in the last place of ``hi``."""

    hi: Array
    lo: Array


def from_float(values: Array) -> DD:
    """The pair with nothing in its low part."""
    values = np.asarray(values, dtype=np.float64)
    return DD(values, np.zeros_like(values))


def two_sum(a: Array, b: Array) -> DD:
    """``a + b`` exactly."""
    s = a + b
    t = s - a
    return DD(s, (a - (s - t)) + (b - t))


def _quick(a: Array, b: Array) -> DD:
    s = a + b
    return DD(s, b - (s - a))


def _two_product(a: Array, b: Array) -> DD:
    p = a * b
    t = _SPLITTER * a
    a_high = t - (t - a)
    t = _SPLITTER * b
    b_high = t - (t - b)
    a_low, b_low = a - a_high, b - b_high
    return DD(p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low)


def add(a: DD, b: DD) -> DD:
    """Sum, accurate also where the two cancel."""
    s, t = two_sum(a.hi, b.hi)
    u, v = two_sum(a.lo, b.lo)
    s, t = _quick(s, t + u)
    return _quick(s, t + v)


def neg(a: DD) -> DD:
    """Negative."""
    return DD(-a.hi, -a.lo)


def absolute(a: DD) -> DD:
    """Absolute value."""
    sign = np.where(a.hi < 0, -1.0, 1.0)
    return DD(a.hi * sign, a.lo * sign)


def mul(a: DD, b: DD) -> DD:
    """Product."""
    p, e = _two_product(a.hi, b.hi)
    return _quick(p, e + (a.hi * b.lo + a.lo * b.hi))


def div(a: DD, b: DD) -> DD:
    """Quotient."""
    first = a.hi / b.hi
    rest = add(a, neg(mul(b, from_float(first))))
    second = rest.hi / b.hi
    rest = add(rest, neg(mul(b, from_float(second))))
    s, t = _quick(first, second)
    return add(DD(s, t), from_float(rest.hi / b.hi))


def total(a: DD) -> DD:
    """Sum along the last axis, kept with size 1; in pairs."""
    hi, lo = a
    while hi.shape[-1] > 1:
        if hi.shape[-1] % 2:
            pad = [(0, 0)] * (hi.ndim - 1) + [(0, 1)]
            hi, lo = np.pad(hi, pad), np.pad(lo, pad)
        hi, lo = add(DD(hi[..., ::2], lo[..., ::2]), DD(hi[..., 1::2], lo[..., 1::2]))
    return DD(hi, lo) if hi.shape[-1] else from_float(np.zeros((*hi.shape[:-1], 1)))


def dot(a: DD, b: DD) -> DD:
    """Sum of products along the last axis, kept with size 1."""
    return total(mul(a, b))


def _constant(value: mpmath.mpf, bits: int = 53) -> float:
    mantissa, exponent = mpmath.frexp(value)
    return float(mpmath.ldexp(mpmath.floor(mpmath.ldexp(mantissa, bits)), int(exponent) - bits))


def _pair(value: mpmath.mpf) -> tuple[float, float]:
    high = float(value)
    return high, float(value - mpmath.mpf(high))


with mpmath.workprec(240):
    _STEP = mpmath.log(2) / _STEPS
    # Three parts: products of the first two with an integer below 2**20 are exact.
    _STEP_1 = _constant(_STEP, 33)
    _STEP_2 = _constant(_STEP - _STEP_1, 33)
    _STEP_3 = float(_STEP - _STEP_1 - _STEP_2)
    _PER_UNIT = float(1 / _STEP)
    _TABLE = np.array([_pair(mpmath.exp(j * _STEP)) for j in range(_STEPS)])
    _FACTORIALS = [_pair(1 / mpmath.factorial(k)) for k in range(11)]


def exp(a: DD) -> DD:
    """Exponential of numbers at most 709; 0 below -800. Loses relative accuracy only where the result underflows."""
    hi, lo = np.broadcast_arrays(*a)
    out_hi, out_lo = np.empty(hi.size), np.empty(hi.size)
    flat_hi, flat_lo = hi.ravel(), lo.ravel()
    for start in range(0, hi.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        out_hi[part], out_lo[part] = _exp(flat_hi[part], flat_lo[part])
    return DD(out_hi.reshape(hi.shape), out_lo.reshape(hi.shape))


def _exp(hi: Array, lo: Array) -> DD:
    gone = ~(hi > _LOWEST)
    hi, lo = np.where(gone, 0.0, hi), np.where(gone, 0.0, lo)
    steps = np.rint(hi * _PER_UNIT)
    r, rest = two_sum(hi - steps * _STEP_1, -steps * _STEP_2)
    r, rest = _quick(r, rest + (lo - steps * _STEP_3))
    # Terms from the sixth on are below 2**-54 of the sum: float64 is enough for them.
    acc = from_float(np.full_like(r, _FACTORIALS[10][0]))
    high = acc.hi
    for k in (9, 8, 7, 6):
        high = high * r + _FACTORIALS[k][0]
    acc = from_float(high)
    argument = DD(r, rest)
    for k in (5, 4, 3, 2, 1, 0):
        acc = add(mul(acc, argument), DD(*(np.full_like(r, part) for part in _FACTORIALS[k])))
    octave, index = np.divmod(steps.astype(np.int64), _STEPS)
    acc = mul(acc, DD(_TABLE[index, 0], _TABLE[index, 1]))
    octave = np.clip(octave, -2000, 1023).astype(np.int32)
    return DD(*(np.where(gone, 0.0, np.ldexp(part, octave)) for part in acc))


def log1p(a: DD) -> DD:
    """Logarithm of ``1 + a`` for non-negative `a`, with full relative accuracy near 0."""
    one = from_float(np.ones_like(a.hi))
    s = add(a, one)
    guess = np.log(s.hi)
    off = add(mul(s, exp(from_float(-guess))), neg(one))
    far = add(from_float(guess), add(off, from_float(-0.5 * off.hi * off.hi)))
    # Near 0 by the series of 2 artanh(a / (2 + a)).
    small = DD(*(np.where(a.hi < _NEAR, part, 0.0) for part in a))
    u = div(small, add(small, add(one, one)))
    square = mul(u, u)
    acc = from_float(np.zeros_like(u.hi))
    for high, low in _ODD:
        acc = add(mul(acc, square), DD(np.full_like(u.hi, high), np.full_like(u.hi, low)))
    near = mul(u, acc)
    return DD(*(np.where(a.hi < _NEAR, n, f) for n, f in zip(near, far, strict=True)))


_NEAR = 2.0**-4
with mpmath.workprec(240):
    _ODD = [_pair(mpmath.mpf(2) / (2 * k + 1)) for k in range(11, -1, -1)]
