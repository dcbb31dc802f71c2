"""What is known about a pair of outputs, and when two arrays agree.

Plain NumPy in float64: this module knows nothing of frameworks, causes or reports.

The unit in which a difference is measured follows what rounding does to each kind of output. Probabilities carry an
error relative to themselves; their logarithms one relative to ``1 + |r|``; everything else (logits, hidden
activations, gradients) one relative to the whole array's scale, since sums cancel. In these units two arrays agree
when they are within the bounds of the operations, or within noise: small, and without outliers. How much noise there
is nobody tells, so it is measured from the difference itself.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Axes = tuple[int, ...]

__all__ = ["Agreement", "Evidence", "Precision", "agreement", "log_softmax", "residual", "sigmoid"]

# A difference up to this, in the units above, may be noise if it looks like noise. Rounding to float16 makes 2e-4.
NOISE_LIMIT = 1.2e-4
# Noise has no outliers; noise in the logits, which grows with them, has some.
PEAK_OVER_LEVEL = 20.0
# Rounding within the bound of one operation; models add a little more before and after it.
BOUND_MARGIN = 4.0


class Precision(NamedTuple):
    """What the coarser dtype of a pair can resolve."""

    eps: float  # the relative spacing of its numbers
    floor: float  # below this, relative accuracy is lost

    @classmethod
    def of(cls, *names: str) -> Precision:
        """The coarsest of the dtypes of these names; integers and bools count as exact."""
        known = [_PRECISIONS[name] for name in names if name in _PRECISIONS] or [_PRECISIONS["float64"]]
        return cls(max(one.eps for one in known), max(one.floor for one in known))


# What comes in float64 is often float32 work that was widened for the comparison, and nothing says so; no two
# implementations are told apart below 1e-7.
_PRECISIONS = {
    "float64": Precision(2.0**-23, 2.0**-122),
    "float32": Precision(2.0**-23, 2.0**-122),
    "bfloat16": Precision(2.0**-7, 2.0**-122),
    "float16": Precision(2.0**-10, 2.0**-14),
}


# --- exact enough functions in float64 -------------------------------------------------------------------------------


def log_softmax(x: Array, axes: Axes) -> Array:
    """The logarithm of softmax over these axes; rows that are all -inf stay so."""
    with np.errstate(all="ignore"):
        top = np.max(x, axis=axes, keepdims=True)
        shifted = x - np.where(np.isfinite(top), top, 0.0)
        result: Array = shifted - np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))
        return np.where(np.isneginf(x), -np.inf, result)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, 1.0) / (1.0 + small)


def log(x: Array) -> Array:
    """The logarithm, -inf at 0 and NaN below, without warnings."""
    with np.errstate(all="ignore"):
        return np.log(x)


def exp(x: Array) -> Array:
    """The exponential, without warnings."""
    with np.errstate(all="ignore"):
        return np.exp(x)


# --- differences -----------------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """How far two arrays are apart, in units of their kind."""

    level: float  # root mean square
    peak: float  # largest
    counted: int  # finite entries
    within_bound: bool  # every entry is within what rounding alone may do
    within_noise: bool  # small, and without outliers

    @property
    def agrees(self) -> bool:
        """Within the bound or within noise."""
        return self.within_bound or self.within_noise


def residual(expected: Array, observed: Array, measure: str, floor: float) -> Array:
    """The difference of each entry in units of its kind; infinite where NaN or infinities do not match by position."""
    finite = np.isfinite(expected) & np.isfinite(observed)
    with np.errstate(all="ignore"):
        difference = observed - expected
        size = np.abs(np.where(finite, expected, 0.0))
        if measure == "relative":
            unit = np.maximum(size, floor)
            difference = np.where(np.maximum(size, np.abs(observed)) <= 2 * floor, 0.0, difference)
        elif measure == "log":
            unit = 1.0 + size
        else:
            scale = np.sqrt(np.mean(size[finite] ** 2)) if finite.any() else 0.0
            unit = np.sqrt(size**2 + scale**2)
        result = difference / np.where(unit > 0, unit, 1.0)
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
    """Whether two arrays agree.

    Parameters
    ----------
    expected, observed : ndarray of float64
        Of one shape.
    measure : {"relative", "log", "scale"}
        The unit; see the module.
    precision : Precision
        Of the coarser of the two.
    axes : tuple of int
        Normalised over, for the bound.
    free : int
        How many numbers were fitted to make the two alike.
    gain : float or None
        By how much the way from one to the other amplifies noise; None for the two as they are.
    """
    errors = residual(expected, observed, measure, precision.floor)
    counted = int(np.isfinite(expected).sum())
    if not errors.size:
        return Agreement(0.0, 0.0, 0, True, True)
    peak = float(np.max(np.abs(errors)))
    level = float(np.sqrt(np.sum(errors**2) / max(1, counted - free))) if np.isfinite(peak) else np.inf
    # Exact zeros on both sides make no noise.
    active = max(1, int(((expected != 0) | (observed != 0)).sum()))
    limit = max(NOISE_LIMIT, precision.eps)
    if gain is not None:
        # What explains a difference may leave a little more, and few entries may be noisier than many.
        limit *= 1.25 * gain * (1.0 + 2.0 / np.sqrt(active))
    typical = level * np.sqrt(errors.size / active)
    within_noise = typical <= limit and peak <= max(PEAK_OVER_LEVEL * typical, limit / PEAK_OVER_LEVEL)
    within_bound = bool(np.all(np.abs(errors) <= _bound(expected, measure, precision, axes)))
    return Agreement(level, peak, counted, within_bound, bool(within_noise))


def _bound(expected: Array, measure: str, precision: Precision, axes: Axes) -> Any:
    n = float(np.prod([expected.shape[axis] for axis in axes])) if axes else float(expected.size)
    margin = BOUND_MARGIN if precision.eps < 1e-4 else 1.0  # 16-bit rounding drowns what comes before and after
    width = 2.0 * np.log2(max(n, 2.0))
    if measure == "relative" and axes:
        # The bound of softmax grows with the distance from the row's largest entry.
        size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
        with np.errstate(all="ignore"):
            distance = np.log(np.max(size, axis=axes, keepdims=True) / size)
        distance = np.where(np.isfinite(distance), distance, 0.0)
        return margin * precision.eps * (4.0 + 2.0 * distance + width)
    return margin * precision.eps * (8.0 + width)


# --- the pair --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A reference and a candidate in float64, and what the reference's values say it is.

    Attributes
    ----------
    reference, candidate : ndarray of float64
    precision : Precision
        Of the coarser of the two dtypes.
    logits : ndarray or None
        What both were computed from, where it is known.
    dtypes : tuple of str
        The names of the two dtypes.
    """

    reference: Array
    candidate: Array
    precision: Precision
    logits: Array | None = None
    dtypes: tuple[str, str] = ("float32", "float32")

    @functools.cached_property
    def kind(self) -> str:
        """What the reference holds: "probabilities", "log-probabilities", "unit" (sigmoids) or "logits"."""
        r = self.reference[np.isfinite(self.reference) | np.isneginf(self.reference)]
        if not r.size:
            return "logits"
        tolerance = self._tolerance
        if r.min() >= 0 and r.max() <= 1 + tolerance:
            return "probabilities" if self._normalized(self.reference) else "unit"
        if r.max() <= tolerance and self._normalized(exp(self.reference)):
            return "log-probabilities"
        return "logits"

    @property
    def _tolerance(self) -> float:
        return max(2e-3, 4 * self.precision.eps)

    @functools.cached_property
    def axes(self) -> Axes:
        """The axes over which the reference is normalised; for other kinds the last one, of classes."""
        if self.kind == "probabilities":
            return self._normalized(self.reference)[0]
        if self.kind == "log-probabilities":
            return self._normalized(exp(self.reference))[0]
        return (self.reference.ndim - 1,) if self.reference.ndim else ()

    @property
    def measure(self) -> str:
        """The unit for differences of this kind."""
        return {"log-probabilities": "log", "logits": "scale"}.get(self.kind, "relative")

    @property
    def is_distribution(self) -> bool:
        """Whether rows of the reference are (logarithms of) probabilities that sum to one."""
        return self.kind in ("probabilities", "log-probabilities")

    @property
    def rows(self) -> int:
        """How many rows the reference has, each normalised by itself."""
        return self.reference.size // max(1, self.classes)

    @property
    def classes(self) -> int:
        """The length of a row."""
        return int(np.prod([self.reference.shape[axis] for axis in self.axes])) if self.axes else 1

    @functools.cached_property
    def log_reference(self) -> Array:
        """The reference's logarithm, or itself where it is one."""
        return self.reference if self.kind == "log-probabilities" else log(self.reference)

    @functools.cached_property
    def log_candidate(self) -> Array:
        """The candidate's logarithm, if it is of the reference's kind."""
        return self.candidate if self.kind == "log-probabilities" else log(self.candidate)

    @functools.cached_property
    def usable(self) -> Any:
        """Where both logarithms are finite and exact enough to compute with."""
        limit = np.log(self.precision.floor)
        with np.errstate(all="ignore"):
            both = np.isfinite(self.log_reference) & np.isfinite(self.log_candidate)
            if self.kind == "log-probabilities":
                return both
            return both & (self.log_reference > limit) & (self.log_candidate > limit)

    def from_log(self, values: Array) -> Array:
        """Logarithms of probabilities as what the reference holds."""
        return values if self.kind == "log-probabilities" else exp(values)

    def candidate_axes(self) -> list[Axes]:
        """The sets of axes over which the candidate is normalised as the reference's kind is."""
        return self._normalized(exp(self.log_candidate))

    def _normalized(self, p: Array) -> list[Axes]:
        """Sets of axes over which all rows with any mass sum to one, the likeliest first."""
        axes = [axis for axis in range(p.ndim) if p.shape[axis] > 1]
        found = []
        for subset in _subsets(axes):
            with np.errstate(all="ignore"):
                sums = np.sum(p, axis=subset)
            sums = sums[np.isfinite(sums) & (sums != 0)]
            if sums.size and np.all(np.abs(sums - 1) <= self._tolerance):
                found.append(subset)
        return found


def _subsets(axes: list[int]) -> Iterator[Axes]:
    """Single axes from the last to the first, then larger sets."""
    yield from ((axis,) for axis in reversed(axes))
    for size in range(2, len(axes) + 1):
        yield from itertools.combinations(axes, size)
