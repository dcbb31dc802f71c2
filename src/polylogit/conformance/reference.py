"""Exact values of what the operations are made of, row by row.

Values come in double-double arithmetic with a relative error below `doubledouble.RADIUS`, small against every bound;
for formats of at most 24 bits in float64, which is as small against theirs.
`rounded` makes correctly rounded results of them, and asks mpmath (`truth`) where the error could decide the rounding.
Knows the rows' arithmetic and no operation's name.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np

from polylogit.conformance import doubledouble as dd
from polylogit.conformance.doubledouble import DD

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.conformance.formats import Array, Format

__all__ = ["Points", "Rows", "rounded", "state_of", "truth"]

_DIGITS = 60


class Rows:
    """Rows of logits along the last axis, and what their softmax is made of.

    Parameters
    ----------
    x : array of float64, two-dimensional
        Where it holds NaN or +inf, or a row nothing but -inf, that row is not `regular` and its values mean nothing.
    plain : bool
        Whether float64 will do.
    """

    def __init__(self, x: Array, *, plain: bool = False) -> None:
        self.x, self._plain = x, plain
        self.length = x.shape[-1]
        finite_or_low = np.isfinite(x) | np.isneginf(x)
        self.regular: Array = np.asarray(finite_or_low.all(-1, keepdims=True) & np.isfinite(x).any(-1, keepdims=True))
        self._x = np.where(self.regular, x, 0.0)

    @functools.cached_property
    def top(self) -> Array:
        """Index of one maximum in each row, for indexing along the last axis."""
        return np.expand_dims(self._x.argmax(-1), -1)

    @functools.cached_property
    def shifted(self) -> DD:
        """Logits less the maximum of their row, exactly; -inf where that overflows float64."""
        top = np.take_along_axis(self._x, self.top, -1)
        with np.errstate(all="ignore"):
            if self._plain:
                return DD(self._x - top)
            high, low = dd.two_sum(self._x, -top)
        return DD(high, np.where(np.isfinite(high), low, 0.0))

    @property
    def distance(self) -> Array:
        """How far each logit lies below the maximum."""
        return -self.shifted.hi

    @functools.cached_property
    def _exponentials(self) -> DD:
        return dd.exp(self.shifted)

    @functools.cached_property
    def _others(self) -> DD:
        """Sum of the exponentials without that of one maximum."""
        rest = DD(*(part if part is dd.NOTHING else part.copy() for part in self._exponentials))
        for part in rest:
            if part is not dd.NOTHING:
                np.put_along_axis(part, self.top, 0.0, -1)
        return dd.total(rest)

    @functools.cached_property
    def probabilities(self) -> DD:
        """Softmax."""
        return dd.div(self._exponentials, dd.add(self._others, dd.from_float(np.ones_like(self._others.hi))))

    @functools.cached_property
    def log_probabilities(self) -> DD:
        """log_softmax."""
        high, low = dd.add(self.shifted, dd.neg(dd.log1p(self._others)))
        lost = ~np.isfinite(self.shifted.hi)
        return DD(np.where(lost, -np.inf, high), np.where(lost, 0.0, low))

    def mean(self, values: DD) -> DD:
        """Expectation under the probabilities."""
        return dd.dot(self.probabilities, values)

    def mean_size(self, values: Array, weight: Array | float = 1.0) -> Array:
        """Expectation of absolute values times a weight, in plain float64: for bounds."""
        with np.errstate(all="ignore"):
            terms = self.probabilities.hi * np.abs(values) * weight
        return np.asarray(np.where(np.isfinite(terms), terms, 0.0).sum(-1, keepdims=True))


class Points:
    """Elements each for itself, and what their sigmoid is made of; NaN is not `regular`."""

    length = 1

    def __init__(self, x: Array, *, plain: bool = False) -> None:
        self.x, self._plain = x, plain
        self.regular: Array = ~np.isnan(x)
        self._x = np.where(self.regular, x, 0.0)

    @property
    def distance(self) -> Array:
        """How far a negative logit lies below 0."""
        return np.maximum(0.0, -self._x)

    @functools.cached_property
    def _small(self) -> DD:
        sizes = -np.abs(self._x)
        return dd.exp(DD(sizes) if self._plain else dd.from_float(sizes))

    @functools.cached_property
    def _whole(self) -> DD:
        return dd.add(self._small, dd.from_float(np.ones_like(self._x)))

    @functools.cached_property
    def probabilities(self) -> DD:
        """Sigmoid."""
        high, low = self._small
        positive = ~(self._x < 0)
        top = DD(np.where(positive, 1.0, high), low if self._plain else np.where(positive, 0.0, low))
        return dd.div(top, self._whole)

    @functools.cached_property
    def slopes(self) -> DD:
        """First derivative."""
        return dd.div(dd.div(self._small, self._whole), self._whole)

    @functools.cached_property
    def curvatures(self) -> DD:
        """Second derivative."""
        one = dd.from_float(np.ones_like(self._x))
        tilt = dd.div(dd.add(one, dd.neg(self._small)), self._whole)
        sign = dd.from_float(np.where(self._x < 0, 1.0, -1.0))
        return dd.mul(dd.mul(self.slopes, tilt), sign)


def truth(formula: Callable[[list[Any], int], Any], row: Array, index: int) -> Any:
    """A formula's value for one element, with mpmath and many digits; the formula is one of `operations`."""
    with mpmath.workdps(_DIGITS + 2 * int(np.log10(np.nanmax(np.abs(row[np.isfinite(row)]), initial=1.0)) + 1)):
        return +formula([mpmath.mpf(float(value)) for value in row], index)


def rounded(value: DD, fmt: Format, exactly: Callable[[tuple[int, ...]], Any] | None = None) -> Array:
    """Correctly rounded to a format.

    Parameters
    ----------
    value : DD
        With a relative error of at most `doubledouble.RADIUS`.
    fmt : Format
    exactly : callable, optional
        ``exactly(index) -> mpf``, asked where that error could decide; without it the pair is believed.

    Returns
    -------
    array of float64
    """
    with np.errstate(all="ignore"):
        out = value.hi.copy() if fmt.precision == 53 else fmt.round(value.hi)  # noqa: PLR2004
        half = 0.5 * fmt.ulp(value.hi)
        off = np.abs((value.hi - out) + value.lo)
        unsure = np.isfinite(out) & (np.abs(off - half) <= np.abs(value.hi) * dd.RADIUS + half * 2.0**-50)
        unsure |= (np.abs(value.hi) < 2.0**-960) & (value.hi != 0)
    if exactly is not None:
        for position in zip(*np.nonzero(unsure), strict=True):
            out[position] = _round_one(exactly(position), fmt)
    return out


def _round_one(value: Any, fmt: Format) -> float:
    if value == 0:
        return 0.0
    _, exponent = mpmath.frexp(value)
    spacing = max(int(exponent) - 1, fmt.low) - (fmt.precision - 1)
    scaled = mpmath.nint(mpmath.ldexp(value, -spacing))  # ties to even
    return float(np.ldexp(float(scaled), spacing))


_CACHED = 1 << 22  # numbers kept in all


class _Cache:
    """The states made last, and how many numbers they hold."""

    def __init__(self) -> None:
        self.states: dict[tuple[Any, ...], Any] = {}
        self.size = 0

    def add(self, key: tuple[Any, ...], state: Any) -> None:
        self.size += state.x.size
        while self.states and self.size > _CACHED:
            self.size -= self.states.pop(next(iter(self.states))).x.size
        self.states[key] = state


_CACHE = _Cache()


def state_of(kind: type, x: Array, fmt: Format | None = None) -> Any:
    """`Rows` or `Points` of these logits, exact enough for a format, of which None is the widest.

    They are kept, since operations and checks ask for the same ones.
    """
    plain = fmt is not None and fmt.precision <= dd.PLAIN
    key = (kind, plain, x.shape, hashlib.blake2b(np.ascontiguousarray(x).data, digest_size=16).digest())
    state = _CACHE.states.get(key)
    if state is None:
        state = kind(x, plain=plain)
        _CACHE.add(key, state)
    return state
