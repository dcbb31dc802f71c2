"""The evidence about a pair of outputs: what kind of values the reference holds, and over which axes it is normalised.

Plain NumPy in float64; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._spec import bounds
from polylogit._spec.formulas import FORMULAS, exp, log
from polylogit.porting._diagnosis.pieces import PIECE, extremes, some_rows, sums, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polylogit._spec.formulas import Array, Axes
    from polylogit.porting._diagnosis.agreement import Precision
    from polylogit.porting._diagnosis.noise import Measured

__all__ = ["KINDS", "Evidence", "Kind", "Layer"]

# Rows that sum to one to within this are probabilities; ports that add an epsilon to the sum must be recognised too.
SUM_TOLERANCE = 2e-3


class Kind(NamedTuple):
    """The kind of values in an output."""

    operation: str  # that made it, a key of `polylogit._operations.OPERATIONS`; empty where it is not known
    measure: str  # the unit of its differences; see `agreement`
    vjp_bound: Callable[..., Array] | None = None  # of `polylogit._spec.bounds`


KINDS = {
    "probabilities": Kind("softmax", "relative", bounds.softmax_first),
    "log-probabilities": Kind("log_softmax", "log", bounds.log_softmax_vjp),
    "sigmoids": Kind("sigmoid", "relative", bounds.sigmoid_first),
    "logits": Kind("", "scale"),
}


class Layer(NamedTuple):
    """The inputs of a layer, which are the same on both sides, and the weights of each side."""

    inputs: tuple[Array, ...]
    weights: Callable[[], tuple[list[Array], list[Array]]]  # the reference's and the candidate's


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """A reference and a candidate, and what the reference's values reveal.

    The two may have any dtypes when they are compared; for the search of causes they are float64, see `widened`.
    """

    reference: Array
    candidate: Array
    precision: Precision  # of the coarser of the two dtypes
    logits: Array | None = None  # what both were computed from, where it is known
    dtypes: tuple[str, str] = ("float32", "float32")
    # The pair is what another fault has left; a fault that fits a number for each row would explain any noise there.
    remainder: bool = False
    # Names and values of what the reference computed shortly before, where both sides agree; the latest last.
    earlier: Sequence[tuple[str, Array]] = ()
    # Finds the logits for these places of the reference, which are given in float64; None if none are known.
    find_logits: Callable[[Array, Any], Array | None] | None = None
    measured: Measured | None = None  # how far right computations of this activation are from exact values
    layer: Layer | None = None  # that both come from, where it is known
    _computed: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def widened(self, places: Any = ...) -> Evidence:
        """The evidence in float64 with the logits, optionally at some places only, without earlier activations."""
        here, there = (np.asarray(one[places], np.float64) for one in (self.reference, self.candidate))
        if self.find_logits is not None:
            logits = self.find_logits(here, places)
        elif places is ... or self.logits is None:
            logits = self.logits
        else:
            logits = self.logits[places] if self.logits.shape == self.reference.shape else None
        earlier, layer = (self.earlier, self.layer) if places is ... else ((), None)
        return dataclasses.replace(
            self, reference=here, candidate=there, logits=logits, earlier=earlier, layer=layer, find_logits=None
        )

    def once(self, compute: Callable[[Evidence], Any]) -> Any:
        """The result of a function of this evidence, computed only on the first call."""
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        return self._computed[compute]

    @functools.cached_property
    def kind(self) -> str:
        """The kind of values in the reference, a key of `KINDS`."""
        low, high = extremes(self.reference)
        if low > high:
            return "logits"
        if low >= 0 and high <= 1 + self._tolerance:
            return "probabilities" if next(self._normalized(self.reference), None) else "sigmoids"
        if high <= self._tolerance and next(self._normalized(self.reference, exp), None):
            return "log-probabilities"
        return "logits"

    @property
    def _tolerance(self) -> float:
        return max(SUM_TOLERANCE, 4 * self.precision.eps)

    @functools.cached_property
    def axes(self) -> Axes:
        """The axes over which the reference is normalised; for other kinds the last one, that of classes."""
        if self.is_distribution:
            return next(self._normalized(self.reference, exp if self.as_log else wide))
        return (self.reference.ndim - 1,) if self.reference.ndim else ()

    @property
    def measure(self) -> str:
        """The unit for differences of this kind."""
        return KINDS[self.kind].measure

    @property
    def as_log(self) -> bool:
        """Whether the reference holds logarithms of probabilities."""
        return self.kind == "log-probabilities"

    @property
    def is_distribution(self) -> bool:
        """Whether rows of the reference are (logarithms of) probabilities that sum to one."""
        return self.kind in ("probabilities", "log-probabilities")

    @property
    def normalized_axes(self) -> Axes:
        """The axes over which the reference is normalised; none for other kinds."""
        return self.axes if self.is_distribution else ()

    @property
    def rows(self) -> int:
        """The number of rows of the reference, each normalised separately."""
        return self.reference.size // max(1, self.classes)

    @property
    def classes(self) -> int:
        """The length of a row."""
        return int(np.prod([self.reference.shape[axis] for axis in self.axes])) if self.axes else 1

    @functools.cached_property
    def log_reference(self) -> Array:
        """The logarithm of the reference, or the reference itself if it is one."""
        return self.reference if self.as_log else log(self.reference)

    @functools.cached_property
    def log_candidate(self) -> Array:
        """The candidate's logarithm, if it is of the reference's kind."""
        return self.candidate if self.as_log else log(self.candidate)

    @functools.cached_property
    def usable(self) -> Any:
        """Where both logarithms are finite and exact enough to compute with."""
        limit = -np.inf if self.as_log else np.log(self.precision.floor)
        with np.errstate(all="ignore"):
            both = np.isfinite(self.log_reference) & np.isfinite(self.log_candidate)
            return both & (self.log_reference > limit) & (self.log_candidate > limit)

    def where_usable(self, values: Array) -> Array:
        """The values where both logarithms are usable, NaN elsewhere."""
        return np.where(self.usable, values, np.nan)

    def from_log(self, values: Array) -> Array:
        """Convert logarithms of probabilities to the kind of the reference."""
        return values if self.as_log else exp(values)

    def apply(self, x: Array, axes: Axes | None = None) -> Array:
        """Apply the reference's operation to logits; return the logits if it is unknown."""
        operation = KINDS[self.kind].operation
        return FORMULAS[operation].value(x, self.axes if axes is None else axes) if operation else x

    def candidate_axes(self) -> list[Axes]:
        """The sets of axes over which the candidate is normalised, if it is of the reference's kind."""
        return list(self._normalized(self.log_candidate, exp))

    def _normalized(self, values: Array, function: Callable[[Array], Array] = wide) -> Iterator[Axes]:
        """The sets of axes over which all rows with any mass sum to one, the likeliest first."""
        for subset in _subsets([axis for axis in range(values.ndim) if values.shape[axis] > 1]):
            some = values[some_rows(values.shape, subset, PIECE)]
            # Most sets are out of the question after a few rows.
            if some.size < values.size and self._sum_to_one(sums(some, subset, function)) is False:
                continue
            if self._sum_to_one(sums(values, subset, function)):
                yield subset

    def _sum_to_one(self, totals: Iterator[Array]) -> bool | None:
        """Whether these sums are one, ignoring those of empty rows; None if there are no others."""
        found = None
        with np.errstate(all="ignore"):
            for total in totals:
                told = total[np.isfinite(total) & (total != 0)]
                if not np.all(np.abs(told - 1) <= self._tolerance):
                    return False
                found = True if told.size else found
        return found


def _subsets(axes: list[int]) -> Iterator[Axes]:
    """Single axes from the last to the first, then larger sets."""
    yield from ((axis,) for axis in reversed(axes))
    for size in range(2, len(axes) + 1):
        yield from itertools.combinations(axes, size)
