"""Double-double arithmetic: pairs of float64 whose unevaluated sum carries about 104 bits.

The reference uses it where mpmath would take minutes: it computes whole arrays, with a relative error below `RADIUS`
for every function here. The methods are the classical error-free transformations (Dekker 1971, Knuth). Knows no
operation.

A pair whose low part is `NOTHING` is a plain float64, and so are results computed from it. This takes a fraction of the
time, and suffices for results of at most `PLAIN` bits, whose rounding error is 2**28 times larger.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import mpmath
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.dtypes import Array

__all__ = [
    "DD", "NOTHING", "PLAIN", "RADIUS", "add", "div", "dot", "exp", "from_float", "log1p", "mul", "neg", "total",
]  # fmt: skip

# Bound on the relative error of each function; measured against mpmath they stay below 2**-97.
RADIUS = 2.0**-94

PLAIN = 24
NOTHING = np.zeros(())

_SPLITTER = 134217729.0  # 2**27 + 1
_OCTAVE = 8
_STEPS = 1 << _OCTAVE  # exp is tabulated at this many points of an octave,
_FINE = 1 << 16  # and at this many points of a unit around 0
_CHUNK = 1 << 13  # elements of a block
_LOWEST = -800.0  # below this, exp is 0 in float64


class DD(NamedTuple):
    """An unevaluated sum, ``abs(lo)`` at most half a unit in the last place of ``hi``."""

    hi: Array
    lo: Array = NOTHING


def _or_plainly(plainly: Callable[..., Array]) -> Callable[[Callable[..., DD]], Callable[..., DD]]:
    """A function of pairs that uses `plainly` on the high parts if one of the pairs is a plain float64."""

    def decorate(function: Callable[..., DD]) -> Callable[..., DD]:
        @functools.wraps(function)
        def run(*pairs: DD) -> DD:
            if any(pair.lo is NOTHING for pair in pairs):
                return DD(np.asarray(plainly(*(pair.hi for pair in pairs))))
            return function(*pairs)

        return run

    return decorate


def _in_blocks(function: Callable[..., DD]) -> Callable[..., DD]:
    """A function of each element, applied to large arrays block by block, so that temporaries stay in the cache."""

    @functools.wraps(function)
    def run(*pairs: DD) -> DD:
        if max(pair.hi.size for pair in pairs) <= _CHUNK:
            return function(*pairs)
        shape = np.broadcast_shapes(*(pair.hi.shape for pair in pairs))
        axis = int(np.argmax(shape))
        out = DD(np.empty(shape), np.empty(shape))
        step = max(1, _CHUNK * shape[axis] // out.hi.size)
        for start in range(0, shape[axis], step):
            block = (*[slice(None)] * axis, slice(start, start + step))
            whole = (DD(*(part if part.shape[axis] == 1 else part[block] for part in pair)) for pair in pairs)
            out.hi[block], out.lo[block] = function(*whole)
        return out

    return run


def from_float(values: Array) -> DD:
    """The pair with an empty low part."""
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


@_or_plainly(np.add)
@_in_blocks
def add(a: DD, b: DD) -> DD:
    """The sum, accurate even under cancellation."""
    s, t = two_sum(a.hi, b.hi)
    u, v = two_sum(a.lo, b.lo)
    s, t = _quick(s, t + u)
    return _quick(s, t + v)


def neg(a: DD) -> DD:
    """Negative."""
    return DD(-a.hi, a.lo if a.lo is NOTHING else -a.lo)


@_or_plainly(np.multiply)
@_in_blocks
def mul(a: DD, b: DD) -> DD:
    """Product."""
    p, e = _two_product(a.hi, b.hi)
    return _quick(p, e + (a.hi * b.lo + a.lo * b.hi))


@_or_plainly(np.divide)
@_in_blocks
def div(a: DD, b: DD) -> DD:
    """Quotient."""
    first = a.hi / b.hi
    rest = add(a, neg(mul(b, from_float(first))))
    return _quick(first, rest.hi / b.hi)


@_or_plainly(lambda a: a.sum(-1, keepdims=True))
def total(a: DD) -> DD:
    """Sum along the last axis, kept with size 1; in pairs."""
    hi, lo = a
    while (length := hi.shape[-1]) > 1:
        half = length // 2
        kept = length - half  # of an odd number the middle one waits for the next turn
        s = add(DD(hi[..., :half], lo[..., :half]), DD(hi[..., kept:], lo[..., kept:]))
        if kept > half:
            s = DD(*(np.concatenate(pair, -1) for pair in ((s.hi, hi[..., half:kept]), (s.lo, lo[..., half:kept]))))
        hi, lo = s
    return DD(hi, lo) if hi.shape[-1] else from_float(np.zeros((*hi.shape[:-1], 1)))


def dot(a: DD, b: DD) -> DD:
    """Sum of products along the last axis, kept with size 1."""
    return total(mul(a, b))


def _constant(value: Any, bits: int = 53) -> float:
    mantissa, exponent = mpmath.frexp(value)
    return float(mpmath.ldexp(mpmath.floor(mpmath.ldexp(mantissa, bits)), int(exponent) - bits))


def _pair(value: Any) -> tuple[float, float]:
    high = float(value)
    return high, float(value - mpmath.mpf(high))


def _split(values: list[Any]) -> DD:
    pairs = np.array([_pair(value) for value in values])
    return DD(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))


with mpmath.workprec(240):
    _STEP = mpmath.log(2) / _STEPS
    # Three parts: products of the first two with an integer below 2**20 are exact.
    _STEP_1 = _constant(_STEP, 33)
    _STEP_2 = _constant(_STEP - _STEP_1, 33)
    _STEP_3 = float(_STEP - _STEP_1 - _STEP_2)
    _PER_UNIT = float(1 / _STEP)
    _COARSE = _split([mpmath.exp(j * _STEP) for j in range(_STEPS)])
    # Within half a step, either way.
    _MOST = int(_FINE * _STEP / 2) + 1
    _NEARBY = _split([mpmath.exp(mpmath.mpf(j) / _FINE) for j in range(-_MOST, _MOST + 1)])


@_or_plainly(np.exp)
@_in_blocks
def exp(a: DD) -> DD:
    """The exponential of numbers up to 709; 0 below -800. Loses relative accuracy only if the result underflows."""
    hi, lo = a
    gone = None
    if not (hi > _LOWEST).all():
        gone = ~(hi > _LOWEST)
        hi, lo = np.where(gone, 0.0, hi), np.where(gone, 0.0, lo)
    steps = np.rint(hi * _PER_UNIT)
    r, rest = two_sum(hi - steps * _STEP_1, -steps * _STEP_2)
    r, rest = _quick(r, rest + (lo - steps * _STEP_3))
    fine = np.rint(r * _FINE)
    r = r - fine * (1.0 / _FINE)  # exact: the leading bits cancel
    # exp(r) - 1 for r below 2**-17: terms from the third on are below 2**-53 of r, and float64 is enough for them.
    square, error = _two_product(r, r)
    more = r * square * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0)))
    p, q = _quick(r, 0.5 * square)
    growth = _quick(p, q + (rest + r * rest + 0.5 * error + more))
    whole = steps.astype(np.int32)
    index, nearby = whole & (_STEPS - 1), fine.astype(np.int32) + _MOST
    acc = mul(DD(_COARSE.hi[index], _COARSE.lo[index]), DD(_NEARBY.hi[nearby], _NEARBY.lo[nearby]))
    acc = add(acc, mul(acc, growth))
    octave = whole >> _OCTAVE
    hi, lo = np.ldexp(acc.hi, octave), np.ldexp(acc.lo, octave)
    if gone is not None:
        hi[gone] = lo[gone] = 0.0
    return DD(hi, lo)


@_or_plainly(np.log1p)
def log1p(a: DD) -> DD:
    """Logarithm of ``1 + a`` for non-negative `a`, with full relative accuracy near 0."""
    near = a.hi < _NEAR
    if near.all():
        return _log1p_near(a)
    out = DD(np.empty_like(a.hi), np.empty_like(a.lo))
    for chosen, function in ((near, _log1p_near), (~near, _log1p_far)):
        out.hi[chosen], out.lo[chosen] = function(DD(a.hi[chosen], a.lo[chosen]))
    return out


def _log1p_near(a: DD) -> DD:
    """By the series of 2 artanh(a / (2 + a))."""
    u = div(a, add(a, from_float(np.full_like(a.hi, 2.0))))
    square = mul(u, u)
    # Of the terms from the sixth on, below 2**-50 of the sum, float64 is enough.
    high = np.zeros_like(u.hi)
    for first, _ in reversed(_ODD[5:]):
        high = high * square.hi + first
    acc = from_float(high)
    for first, second in reversed(_ODD[:5]):
        acc = add(mul(acc, square), DD(np.full_like(u.hi, first), np.full_like(u.hi, second)))
    return mul(u, acc)


def _log1p_far(a: DD) -> DD:
    """By one step of Newton's method from the logarithm in float64."""
    one = np.ones_like(a.hi)
    s = add(a, from_float(one))
    guess = np.log(s.hi)
    off = add(mul(s, exp(from_float(-guess))), from_float(-one))
    return add(from_float(guess), add(off, from_float(-0.5 * off.hi * off.hi)))


_NEAR = 2.0**-4
with mpmath.workprec(240):
    _ODD = [_pair(mpmath.mpf(2) / (2 * k + 1)) for k in range(12)]
