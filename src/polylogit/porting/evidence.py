"""What is known about a pair of outputs: what the reference holds, and over which axes it is normalised.

Plain NumPy in float64; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.spec.formulas import exp, log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.porting.diagnosis.agreement import Precision
    from polylogit.spec.formulas import Array, Axes

__all__ = ["Evidence"]

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
