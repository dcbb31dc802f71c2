"""Decides when two arrays agree: the units of a difference, the allowed rounding, and the signs of noise.

The unit follows the rounding of each kind of output. The error of a probability is relative to itself, that of a
logarithm to ``1 + |r|``, and that of everything else (logits, hidden activations, gradients) to the scale of the whole
array, because sums cancel. Two arrays agree if every difference is within the bounds of `polylogit._spec.bounds`, or if
the differences look like noise: small, and without outliers.

Plain NumPy in float64, a piece at a time; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._spec import bounds
from polylogit._spec.dtypes import DTYPES, Finfo, finfo
from polylogit._spec.formulas import exp, log
from polylogit.porting._diagnosis.pieces import PIECE, pieces, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.formulas import Array, Axes

__all__ = [
    "NOISE_LIMIT",
    "Agreement",
    "OutputRows",
    "Precision",
    "agreement",
    "residual",
    "rounding",
    "scale_of",
    "unit_of",
    "within_rounding",
]

# Where noise was not measured, a difference up to this, in the units above, may be noise if it looks like noise: a
# model adds rounding errors of its own before the output. Rounding to float16 makes 2e-4, which must be seen.
NOISE_LIMIT = 1.2e-4
# Noise has no outliers; noise in the logits, which grows with them, has some.
PEAK_OVER_LEVEL = 20.0
# The bounds hold for one side against the exact values. Here both sides are inexact, each within its bound.
BOTH_SIDES = 2.0


class Precision(NamedTuple):
    """The resolution of the coarser dtype of a pair."""

    dtype: Finfo  # the one with the widest spacing
    floor: float  # relative accuracy is lost below this
    noise: float = NOISE_LIMIT  # the root mean square up to which a difference may be noise
    measured: bool = False  # that comes from a run; the rounding of a sum that nobody knows is not asked then

    @classmethod
    def of(cls, *names: str) -> Precision:
        """The coarsest of the dtypes of these names; integers and bools are exact.

        float64 counts as float32: outputs are often widened before they are saved, and no two implementations are told
        apart below 1e-7.
        """
        known = [found for name in names if (found := finfo(name)) and name != "float64"] or [DTYPES["float32"]]
        return cls(max(known, key=lambda one: one.eps), max(map(bounds.flushable, known)))

    @property
    def eps(self) -> float:
        """The relative spacing of its numbers."""
        return self.dtype.eps

    @property
    def slack(self) -> float:
        """The factor by which a pair may exceed the bound of one side.

        16-bit outputs are usually computed in float32 and rounded once, with an error far below a bound for arithmetic
        entirely in 16 bits, so the bound of one side allows for both.
        """
        return BOTH_SIDES if self.dtype.precision >= DTYPES["float32"].precision else 1.0


class Agreement(NamedTuple):
    """The difference of two arrays, in units of their kind."""

    level: float  # root mean square
    peak: float  # largest
    counted: int  # finite entries
    agrees: bool  # the differences are noise (small, and without outliers), or each is within what rounding may do


class Whole(NamedTuple):
    """The properties of an array that one piece of it does not show."""

    size: int  # entries
    scale: float = 0.0  # root mean square of what is finite
    length: int = 1  # of a row
    top: float | None = None  # the largest probability of the row, where a piece is a part of one


# --- what rounding may do --------------------------------------------------------------------------------------------


class OutputRows:
    """The rows of an output, in the form that the bounds of `polylogit._spec` expect, instead of exact values.

    `values` are probabilities or their logarithms, normalised over `axes`, or sigmoids with no axes; `whole` describes
    the row if they are only a part of one.
    """

    def __init__(self, values: Array, axes: Axes, *, logarithms: bool = False, whole: Whole | None = None) -> None:
        self._shape, self._axes = values.shape, axes
        self._top = None if whole is None else whole.top
        laid = self._laid = self.lay(values)
        self.length = whole.length if whole is not None else laid.shape[-1] if axes else 1
        self.probabilities, self.log_probabilities = _Value(exp(laid) if logarithms else laid), _Value(laid)
        self.slopes = _Value(laid * (1.0 - laid))
        self.x = laid if axes else laid - 0.5  # of logits, the bounds of elements ask the sign alone

    @functools.cached_property
    def distance(self) -> Array:
        """The distance of each logit from the largest of its row; for a sigmoid, from 0 if it is below."""
        with np.errstate(all="ignore"):
            y = np.where(np.isfinite(self.probabilities.hi), self.probabilities.hi, 0.0)
            if not self._axes:
                return np.maximum(0.0, log((1.0 - y) / y))
            return -log(y / (np.max(y, axis=-1, keepdims=True, initial=0.0) if self._top is None else self._top))

    def mean_size(self, values: Array, weight: Array | float = 1.0) -> Array:
        """As `polylogit._spec.exact.Rows.mean_size`."""
        with np.errstate(all="ignore"):
            terms = self.probabilities.hi * np.abs(values) * weight
        return np.asarray(np.where(np.isfinite(terms), terms, 0.0).sum(-1, keepdims=True))

    def lay(self, values: Array) -> Array:
        """An array of the output's shape with each row along the last axis."""
        last = range(-len(self._axes), 0)
        moved = np.moveaxis(values, self._axes, last)
        return moved.reshape(*moved.shape[: moved.ndim - len(self._axes)], -1) if self._axes else moved

    def bound(self, formula: Callable[..., Array], precision: Precision, *directions: Array) -> Array:
        """A bound of `polylogit._spec.bounds` for a pair, in the shape of the output."""
        with np.errstate(all="ignore"):
            laid = [self.lay(one) for one in directions]
            found = bounds.allowed(formula, self, self._laid, precision.dtype, *laid)  # type: ignore[arg-type]
        others = [size for axis, size in enumerate(self._shape) if axis not in self._axes]
        found = found.reshape((*others, *(self._shape[axis] for axis in self._axes)))  # of a single number ()
        return precision.slack * np.moveaxis(found, range(-len(self._axes), 0), self._axes)


class _Value(NamedTuple):
    """A number in the form of a double-double number."""

    hi: Array


def rounding(expected: Array, measure: str, precision: Precision, axes: Axes, *, whole: Whole | None = None) -> Array:
    """The largest difference that rounding alone causes between two right outputs, entry by entry.

    For a piece of an output, `whole` describes the output.
    """
    if measure == "relative":
        formula = bounds.softmax if axes else bounds.sigmoid
        return OutputRows(expected, axes, whole=whole if axes else None).bound(formula, precision)
    if measure == "log":
        axes = axes or tuple(range(expected.ndim))
        return OutputRows(expected, axes, logarithms=True, whole=whole).bound(bounds.log_softmax, precision)
    # An operation that is not known: what a sum of so many terms loses, besides a few roundings before and after it.
    units = 8.0 + bounds.additions(expected.size if whole is None else whole.size)
    unit = unit_of(expected, measure, precision.floor, scale=None if whole is None else whole.scale)
    return np.asarray(precision.slack * precision.eps * units * unit)


# --- differences -----------------------------------------------------------------------------------------------------


def unit_of(expected: Array, measure: str, floor: float, finite: Any = None, *, scale: float | None = None) -> Array:
    """The unit in which a difference from each entry is measured.

    `finite` marks the entries that set the scale; for a piece of an array, pass the scale of the whole array.
    """
    finite = np.isfinite(expected) if finite is None else finite
    size = np.abs(np.where(finite, expected, 0.0))
    if measure == "relative":
        return np.maximum(size, floor)
    if measure == "log":
        return 1.0 + size
    if scale is None:
        scale = float(np.sqrt(np.mean(size[finite] ** 2))) if finite.any() else 0.0
    unit = np.sqrt(size**2 + scale * scale)
    return np.where(unit > 0, unit, 1.0)


def residual(expected: Array, observed: Array, measure: str, floor: float, *, scale: float | None = None) -> Array:
    """The difference of each entry in units of its kind; infinite if NaN or infinities do not match by position."""
    finite = np.isfinite(expected) & np.isfinite(observed)
    with np.errstate(all="ignore"):
        difference = observed - expected
        if measure == "relative":
            difference = np.where(np.maximum(np.abs(expected), np.abs(observed)) <= 2 * floor, 0.0, difference)
        result = difference / unit_of(expected, measure, floor, finite, scale=scale)
    same = (np.isnan(expected) & np.isnan(observed)) | (expected == observed)
    return np.where(finite, result, np.where(same, 0.0, np.inf))


def agreement(
    expected: Array,
    observed: Array,
    measure: str,
    precision: Precision,
    axes: Axes = (),
    *,
    free: int = 0,
    gain: float | None = None,
) -> Agreement:
    """Whether two arrays agree, in units of `measure` ("relative", "log" or "scale").

    Both have the same shape, and any dtypes. `axes` are the normalised axes, for the bound. `free` is the number of
    parameters that were fitted to make the two alike, and `gain` the factor by which that fit amplifies noise (None
    without a fit).
    """
    if not expected.size:
        return Agreement(0.0, 0.0, 0, True)
    scale = scale_of(expected, observed) if measure == "scale" else 0.0
    counted = nonzero = 0
    peak = total = 0.0
    for place in pieces(expected.shape):
        here, there = wide(expected[place]), wide(observed[place])
        errors = residual(here, there, measure, precision.floor, scale=scale)
        counted += int(np.isfinite(here).sum())
        # Exact zeros on both sides make no noise.
        nonzero += int(((here != 0) | (there != 0)).sum())
        peak = max(peak, float(np.max(np.abs(errors, out=errors))))
        total += float(np.sum(np.square(errors, out=errors)))
    level = math.sqrt(total / max(1, counted - free)) if math.isfinite(peak) else math.inf
    active = max(1, nonzero)
    limit = max(precision.noise, precision.eps)
    if gain is not None:
        # What explains a difference may leave a little more, and few entries may be noisier than many.
        limit *= 1.25 * gain * (1.0 + 2.0 / math.sqrt(active))
    typical = level * math.sqrt(expected.size / active)
    agrees = typical <= limit and peak <= max(PEAK_OVER_LEVEL * typical, limit / PEAK_OVER_LEVEL)
    if not agrees and math.isfinite(peak) and not (precision.measured and measure == "scale"):
        agrees = within_rounding(expected, observed, measure, precision, axes, scale)
    return Agreement(level, peak, counted, agrees)


def scale_of(expected: Array, observed: Array) -> float:
    """The root mean square of the entries that are finite on both sides."""
    total, count = 0.0, 0
    for place in pieces(expected.shape):
        here = wide(expected[place])
        here = here[np.isfinite(here) & np.isfinite(wide(observed[place]))]
        total, count = total + float(np.sum(np.square(here))), count + here.size
    return math.sqrt(total / count) if count else 0.0


def within_rounding(
    expected: Array, observed: Array, measure: str, precision: Precision, axes: Axes, scale: float = 0.0
) -> bool:
    """Whether each difference is within the allowed rounding; both have the same shape and the same infinities."""
    length = math.prod(expected.shape[axis] for axis in axes) if axes else expected.size
    for place in pieces(expected.shape, axes if measure == "relative" else ()):
        here, there = expected[place], observed[place]
        # A row that is longer than a piece is cut, and its largest entry kept for all of its parts.
        long = here.size > PIECE
        top = max(_largest(wide(here[part])) for part in pieces(here.shape)) if long else None
        whole = Whole(expected.size, scale, length, top)
        for part in pieces(here.shape):
            one, other = wide(here[part]), wide(there[part])
            errors = np.abs(residual(one, other, measure, precision.floor, scale=scale))
            errors *= unit_of(one, measure, precision.floor, scale=scale)
            if np.any((errors != 0) & (errors > rounding(one, measure, precision, axes, whole=whole))):
                return False
    return True


def _largest(values: Array) -> float:
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))
