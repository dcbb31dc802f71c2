"""Exact values of the quantities that the operations consist of, for each row or element.

Values are in double-double arithmetic, with a relative error below `doubledouble.RADIUS`, which is small against every
bound; for dtypes of at most 24 bits they are in float64, whose error is equally small against their bounds. Knows the
arithmetic of rows, and no operation by name.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec import doubledouble as dd
from polylogit._spec.doubledouble import DD

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array, Finfo

__all__ = ["Elements", "Rows", "exact"]


class Rows:
    """Rows of logits along the last axis, and the exact quantities of their softmax.

    Parameters
    ----------
    x : array of float64, two-dimensional
        A row that holds NaN or +inf, or only -inf, is not `regular`, and its values are meaningless.
    plain : bool
        Whether float64 is accurate enough.
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
        """Logits minus the maximum of their row, exactly; -inf if that overflows float64."""
        top = np.take_along_axis(self._x, self.top, -1)
        with np.errstate(all="ignore"):
            if self._plain:
                return DD(self._x - top)
            high, low = dd.two_sum(self._x, -top)
        return DD(high, np.where(np.isfinite(high), low, 0.0))

    @property
    def distance(self) -> Array:
        """The distance of each logit from the maximum."""
        return -self.shifted.hi

    @functools.cached_property
    def _exponentials(self) -> DD:
        return dd.exp(self.shifted)

    @functools.cached_property
    def _others(self) -> DD:
        """The sum of the exponentials without that of one maximum."""
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
        """The expectation of absolute values times a weight, in plain float64, for bounds."""
        with np.errstate(all="ignore"):
            terms = self.probabilities.hi * np.abs(values) * weight
        return np.asarray(np.where(np.isfinite(terms), terms, 0.0).sum(-1, keepdims=True))


class Elements:
    """Elements, each on its own, and the exact quantities of their sigmoid; NaN is not `regular`."""

    length = 1

    def __init__(self, x: Array, *, plain: bool = False) -> None:
        self.x, self._plain = x, plain
        self.regular: Array = ~np.isnan(x)
        self._x = np.where(self.regular, x, 0.0)

    @property
    def distance(self) -> Array:
        """The distance of a negative logit from 0."""
        return np.maximum(0.0, -self._x)

    @functools.cached_property
    def small(self) -> DD:
        """exp(-|x|)."""
        sizes = -np.abs(self._x)
        return dd.exp(DD(sizes) if self._plain else dd.from_float(sizes))

    @functools.cached_property
    def whole(self) -> DD:
        """1 + exp(-|x|)."""
        return dd.add(self.small, dd.from_float(np.ones_like(self._x)))

    @functools.cached_property
    def probabilities(self) -> DD:
        """Sigmoid."""
        high, low = self.small
        positive = ~(self._x < 0)
        top = DD(np.where(positive, 1.0, high), low if self._plain else np.where(positive, 0.0, low))
        return dd.div(top, self.whole)

    @functools.cached_property
    def slopes(self) -> DD:
        """First derivative."""
        return dd.div(dd.div(self.small, self.whole), self.whole)

    @functools.cached_property
    def curvatures(self) -> DD:
        """Second derivative."""
        one = dd.from_float(np.ones_like(self._x))
        tilt = dd.div(dd.add(one, dd.neg(self.small)), self.whole)
        sign = dd.from_float(np.where(self._x < 0, 1.0, -1.0))
        return dd.mul(dd.mul(self.slopes, tilt), sign)


_CACHED = 1 << 22  # numbers kept in all


class _Cache:
    """The latest results, and the amount of numbers that they hold."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Any, ...], Any] = {}
        self.size = 0

    def add(self, key: tuple[Any, ...], made: Any) -> None:
        self.size += made.x.size
        while self.kept and self.size > _CACHED:
            self.size -= self.kept.pop(next(iter(self.kept))).x.size
        self.kept[key] = made


_CACHE = _Cache()


def exact(kind: type, x: Array, dtype: Finfo | None = None) -> Any:
    """`Rows` or `Elements` of these logits, exact enough for a dtype; None means the widest.

    The latest ones are cached, because operations and checks ask for the same ones.
    """
    plain = dtype is not None and dtype.precision <= dd.PLAIN
    key = (kind, plain, x.shape, hashlib.blake2b(np.ascontiguousarray(x).data, digest_size=16).digest())
    found = _CACHE.kept.get(key)
    if found is None:
        found = kind(x, plain=plain)
        _CACHE.add(key, found)
    return found
