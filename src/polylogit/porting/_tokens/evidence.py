"""The evidence about the numbers of two engines, and how much right ones may differ.

The entries are those that both sides hold: whole rows if both have them, the shared part of the top k, or else the
chosen tokens. Knows no fault and no framework.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._spec import bounds
from polylogit._spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Finfo
    from polylogit.porting._tokens.sides import Side

    Array = np.ndarray[Any, Any]

__all__ = ["Evidence", "Left", "Noise", "View"]

# So many entries of whole rows are looked at for a cause; all chosen tokens always.
MOST_ENTRIES = 2**21
WORST = 16
# What is computed before the logits is rounded too. In float32 a deep model's logits are about 1e-6 of their size off,
# four times that at the worst; in 16 bits, where sums are made in float32, so many units in the last place.
TRUNK, TRUNK_OF_16_BITS = 32.0, 6.0
# Where no logits are given, they may be so large.
UNKNOWN_SIZE = 8.0
# The bounds hold for one side against the exact value. Here both sides are inexact.
BOTH_SIDES = 2.0
# Probabilities below e to this one are 0 for any purpose: engines fill what they exclude with different numbers.
NEGLIGIBLE = -100.0


class _Value(NamedTuple):
    hi: Array


class _Rows(NamedTuple):
    """Log-probabilities in the form that `polylogit._spec.bounds` expects of exact ones."""

    log_probabilities: _Value
    x: Array
    length: int


class Noise(NamedTuple):
    """How much two correct engines may differ.

    Attributes
    ----------
    dtype : Finfo
        The coarser of the dtypes in which they compute.
    stored : Finfo
        The coarser of the dtypes in which the numbers are given.
    length : int
        The length of the vocabulary.
    """

    dtype: Finfo
    stored: Finfo
    length: int

    def allowed(self, expected: Array, size: Array) -> Array:
        """The largest difference that rounding causes, by entry; `size` is that of the logits, NaN if unknown.

        Log-softmax is computed in at least float32, whose bound applies to each side; values stored in fewer bits are
        rounded once more; and the logits carry the rounding of the layers before them.
        """
        finite = np.where(np.isfinite(expected), expected, 0.0)
        rows = _Rows(_Value(finite), finite, max(self.length, 2))
        wide, narrow = self.dtype.wide, self.dtype
        allowed = BOTH_SIDES * bounds.log_softmax(rows, wide)  # type: ignore[arg-type]
        if self.stored.precision < DTYPES["float32"].precision:
            allowed = allowed + self.stored.ulp(finite)
        allowed = allowed + TRUNK * wide.eps * (1.0 + np.abs(finite) + np.where(np.isnan(size), UNKNOWN_SIZE, size))
        if narrow.precision < wide.precision:
            allowed = allowed + TRUNK_OF_16_BITS * narrow.eps * (1.0 + np.abs(finite) + np.nan_to_num(size))
        return np.asarray(allowed)


class Left(NamedTuple):
    """The difference of two sets of entries."""

    level: float  # root mean square, relative to 1 + |log-probability|
    times: float  # the largest, in units of what rounding allows
    counted: int  # entries that were compared


class View(NamedTuple):
    """One side's distribution, and the other side's part of it, which it should explain."""

    faulty: str  # the side to be explained
    rows: Array  # log-probabilities, (positions, vocabulary)
    logits: Array | None
    columns: Array | None  # of the entries in the rows; None for all
    observed: Array  # what the other side has there
    whole: bool  # the other side has whole rows, or its top k
    sums: bool  # ... that are normalised over what is listed

    def pick(self, rows: Array) -> Array:
        """The entries of whole rows that the other side has, too."""
        if self.columns is None:
            return rows
        return np.take_along_axis(rows, np.clip(self.columns, 0, rows.shape[1] - 1), axis=1)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The two sides, the tokens, and the positions that count.

    Attributes
    ----------
    tokens : ndarray of int
        The tokens, in shape (batch, time).
    counted : ndarray of bool
        Whether each position counts; masked positions do not.
    masked : bool
        Whether the user said which positions count.
    """

    reference: Side
    candidate: Side
    tokens: Array
    counted: Array
    noise: Noise
    masked: bool = False

    def of(self, side: str) -> Side:
        """A side by its name."""
        return self.reference if side == "reference" else self.candidate

    @functools.cached_property
    def apart(self) -> Array:
        """By position, the difference of the chosen tokens in multiples of the allowed rounding; 0 if not counted."""
        with np.errstate(all="ignore"):
            times = self._times(self.reference.chosen, self.candidate.chosen, self._size(np.arange(self.tokens.size)))
        return np.where(self.compared, times, 0.0)

    @property
    def compared(self) -> Array:
        """By position, whether the chosen token counts and both sides list it."""
        return np.asarray(self.counted & self.reference.listed & self.candidate.listed)

    @functools.cached_property
    def positions(self) -> Array:
        """The positions to look for a cause at: all that count, or as many whole rows as fit, with the worst."""
        counted = np.flatnonzero(self.counted)
        widths = [one.whole.shape[1] for one in (self.reference, self.candidate) if one.whole is not None]
        most = max(32, MOST_ENTRIES // max(widths, default=1))
        if counted.size <= most or not widths:
            return counted
        worst = counted[np.argsort(-self.apart[counted], kind="stable")[:WORST]]
        spread = counted[np.linspace(0, counted.size - 1, most - WORST).astype(int)]
        return np.union1d(worst, spread)

    @property
    def chosen_ids(self) -> Array:
        """The tokens of the positions looked at."""
        return np.asarray(self.tokens.ravel()[self.positions])

    def rows(self, side: str) -> Array:
        """The whole rows of a side at these positions."""
        return self._rows[side]

    @functools.cached_property
    def _rows(self) -> dict[str, Array]:
        named = (("reference", self.reference), ("candidate", self.candidate))
        return {name: one.rows(self.positions) for name, one in named if one.whole is not None}

    @functools.cached_property
    def entries(self) -> tuple[Array, Array]:
        """The common entries, (positions, entries), of the reference and of the candidate."""
        r, c = self.reference, self.candidate
        at = self.positions
        if r.whole is not None and c.whole is not None:
            return self.rows("reference"), self.rows("candidate")
        if r.whole is not None and c.ids is not None and c.tops is not None:
            return _listed(self.rows("reference"), c.ids[at]), c.tops[at]
        if c.whole is not None and r.ids is not None and r.tops is not None:
            return r.tops[at], _listed(self.rows("candidate"), r.ids[at])
        if r.ids is not None and c.ids is not None and r.tops is not None and c.tops is not None:
            same = c.ids[at][:, :, None] == r.ids[at][:, None, :]
            found = np.take_along_axis(r.tops[at], np.argmax(same, axis=2), axis=1)
            shared = same.any(axis=2)
            return np.where(shared, found, np.nan), np.where(shared, c.tops[at], np.nan)
        listed = self.compared[at]
        left, right = (np.where(listed, one.chosen[at], np.nan) for one in (r, c))
        return left[:, None], right[:, None]

    @functools.cached_property
    def raw(self) -> Left:
        """The difference of the two sides without undoing anything."""
        left = self.left(*self.entries)
        return left._replace(times=max(left.times, float(np.max(self.apart, initial=0.0))))

    def left(self, expected: Array, observed: Array, positions: Array | None = None) -> Left:
        """The difference of two sets of entries at these positions, or at given ones."""
        with np.errstate(all="ignore"):
            size = self._size(self.positions if positions is None else positions)
            several = expected.ndim > 1
            times = self._times(expected, observed, size[:, None] if several else size, negligible=several)
            relative = (observed - expected) / (1.0 + np.abs(expected))
        finite = np.isfinite(relative) & np.isfinite(times)
        level = float(np.sqrt(np.mean(relative[finite] ** 2))) if finite.any() else 0.0
        if np.isinf(times).any():
            level = np.inf
        return Left(level, float(np.max(times, initial=0.0)), int(finite.sum()))

    def _times(self, expected: Array, observed: Array, size: Array, *, negligible: bool = False) -> Array:
        times = np.abs(observed - expected) / self.noise.allowed(expected, size)
        same = (expected == observed) | (np.isnan(expected) & np.isnan(observed))
        if negligible and expected.shape[1] > 1:
            same |= (expected < NEGLIGIBLE) & (observed < NEGLIGIBLE)
        return np.where(same, 0.0, np.where(np.isnan(times), np.inf, times))

    @functools.cached_property
    def _sizes(self) -> Array:
        """The size of the logits by position, if a side has them."""
        whole = next((one.whole for one in (self.reference, self.candidate) if one.form == "logits"), None)
        if whole is None:
            return np.full(self.tokens.size, np.nan)
        top = np.abs(whole.max(axis=1).astype(np.float64))
        return np.where(np.isfinite(top), top, 0.0)

    def _size(self, positions: Array) -> Array:
        return np.asarray(self._sizes[positions])

    def views(self) -> Iterator[View]:
        """Each side with whole rows, as an explanation of the other."""
        for faulty, whole, other in (
            ("candidate", self.reference, self.candidate),
            ("reference", self.candidate, self.reference),
        ):
            if not whole.is_distribution:
                continue
            rows = self.rows("reference" if faulty == "candidate" else "candidate")
            logits = whole.logits(self.positions)
            if other.whole is not None:
                yield View(faulty, rows, logits, None, self.rows(faulty), whole=True, sums=True)
            elif other.ids is not None and other.tops is not None:
                tops = other.tops[self.positions]
                sums = bool(np.all(np.abs(np.exp(tops).sum(axis=1) - 1.0) < 1e-3))
                yield View(faulty, rows, logits, other.ids[self.positions], tops, whole=True, sums=sums)
            else:
                chosen = np.where(self.compared, other.chosen, np.nan)[self.positions][:, None]
                yield View(faulty, rows, logits, self.chosen_ids[:, None], chosen, whole=False, sums=False)


def _listed(rows: Array, ids: Array) -> Array:
    known = (ids >= 0) & (ids < rows.shape[1])
    return np.where(known, np.take_along_axis(rows, np.where(known, ids, 0), axis=1), np.nan)
