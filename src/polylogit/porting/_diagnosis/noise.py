"""Measured noise: the distance of one side from exact values, and the ratio of the other side's distance to it.

A right port is about as far from the same model in float64 as its original is. Both distances are computed over the
whole array, at each index of each axis (so that a channel with values a thousand times larger hides nothing in the
others), and at the worst entry. Plain NumPy in float64; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.porting._diagnosis.agreement import unit_of

if TYPE_CHECKING:
    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.agreement import Precision

__all__ = ["BEYOND", "LEFT", "LIMIT", "Measured", "root_mean_square"]

# A side so many times farther from the exact values than the other is beyond rounding. Two right computations have
# errors of one size and another sign; orders of addition and fused kernels change that size by a small factor.
LIMIT = 8.0
# Up to so many times, without a cause, it is less accurate and may be the same function: four limits, as in the kit.
BEYOND = 4.0 * LIMIT
# What is left once a fault is undone holds the errors of both sides; those of one are a level.
LEFT = 2.0
# Over fewer entries a root mean square is no level of noise.
ENOUGH = 16
# The root mean square of an error that is uniform over an ulp, an ulp being half an eps to an eps of its number.
ROUNDED = 0.25
# The largest of many normal errors over their root mean square.
PEAK = 5.0


class Measured(NamedTuple):
    """The measurement of one activation by a run in higher precision."""

    exact: Array  # in float64
    error: Array  # how far a right computation in the precision of the port is from it: absolute, entry by entry
    other: Array  # what is judged by that: the candidate, or the reference where the port was run in float64

    def level(self, measure: str, precision: Precision) -> float:
        """The root mean square of the error, in units of the measure."""
        with np.errstate(all="ignore"):
            unit = unit_of(self.exact, measure, precision.floor)
            return max(_over(_finite(self.error / unit), self.exact != 0), ROUNDED * precision.eps)

    def times(self, measure: str, precision: Precision) -> float:
        """The ratio of the other side's distance from the exact values; infinite if infinities differ."""
        exact, error, other = self
        finite = np.isfinite(exact) & np.isfinite(other)
        if not np.all(finite | (np.isnan(exact) & np.isnan(other)) | (exact == other)):
            return np.inf
        distance = np.where(finite, np.abs(other - exact), 0.0)
        error = np.where(finite & np.isfinite(error), error, 0.0)
        if measure == "relative":  # what underflows may be 0 on one side
            lost = np.maximum(np.abs(exact), np.abs(other)) <= 2 * precision.floor
            distance, error = np.where(lost, 0.0, distance), np.where(lost, 0.0, error)
        unit = unit_of(exact, measure, precision.floor)
        least = ROUNDED * precision.eps
        a, b = distance / unit, error / unit
        active = (a != 0) | (b != 0) | (finite & (exact != 0))
        level = max(_over(b, active), least)
        count = max(1, int(active.sum()))
        peak = float(np.max(a, initial=0.0)) / max(float(np.max(b, initial=0.0)), PEAK * level)
        found = [_over(a, active) / level / _doubt(count), peak]
        if measure == "scale":
            a, b, size = distance, error, np.abs(np.where(finite, exact, 0.0))
        else:
            size = np.where(finite & (exact != 0), 1.0, 0.0)
        for axis, length in enumerate(exact.shape):
            if length > 1 and exact.size // length >= ENOUGH:
                found.append(_worst_index(axis, a, b, size, least))
        return float(max(found))


def _worst_index(axis: int, a: Array, b: Array, size: Array, least: float) -> float:
    """The ratio of the distances at the worst index of an axis, over all other axes.

    If few of its entries are large, as after an activation function, those few decide, and their level is less certain.
    """
    others = tuple(other for other in range(a.ndim) if other != axis)
    far, near, scale = (root_mean_square(one, others) for one in (a, b, size))
    usual = float(np.median(scale))
    with np.errstate(all="ignore"):
        typical = np.median(_finite(near / scale))
    # An index may be lucky: what the others lose of their size, and what rounding the result takes, is lost there too.
    noise = np.maximum(np.maximum(near, typical * scale), least * np.maximum(scale, usual))
    power = scale * scale
    with np.errstate(all="ignore"):
        share = np.mean((size * size) ** 2, axis=others) / (power * power)
        count = a.size / a.shape[axis] / np.where(np.isfinite(share), share, 1.0)
        return float(np.max(np.where(far > 0, far / noise / _doubt(count), 0.0), initial=0.0))


def _doubt(count: Any) -> Any:
    """The uncertainty of a level over so few entries, as a factor."""
    return 1.0 + 2.0 / np.sqrt(count)


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def _over(values: Array, active: Any) -> float:
    return float(np.sqrt(np.sum(values * values, where=active) / max(1, int(active.sum()))))


def root_mean_square(values: Array, axes: tuple[int, ...]) -> Array:
    """The root mean square over some axes."""
    return np.asarray(np.sqrt(np.mean(values * values, axis=axes)))
