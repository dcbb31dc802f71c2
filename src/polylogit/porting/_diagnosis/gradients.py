"""The evidence about a pair of gradients, and whether the candidate's gradient belongs to its own values.

The closed form of the operation, applied to the candidate's output, decides that; for other functions, finite
differences do. Plain NumPy in float64; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.formulas import FORMULAS
from polylogit.porting._diagnosis.agreement import Agreement, OutputRows, Precision, agreement
from polylogit.porting._diagnosis.evidence import KINDS
from polylogit.porting._diagnosis.pieces import mean_square, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.formulas import Array, Axes

__all__ = ["GradientEvidence"]

# A gradient below so many eps of its cotangent is what is left of a sum that cancels.
CANCELLED = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class GradientEvidence:
    """Two gradients, and the output that they belong to, if known.

    The two may have any dtypes when they are compared; for the search of causes they are float64.
    """

    reference: Array
    candidate: Array
    precision: Precision
    output: Array | None = None  # the candidate's own
    cotangent: Array | None = None
    kind: str = "logits"  # of the output, as `Evidence.kind`
    axes: Axes = (-1,)
    # Derivatives of the candidate's function by differences, and by its gradient, in some directions.
    slopes: Callable[[], tuple[Array, Array]] | None = None

    def widened(self) -> GradientEvidence:
        """The evidence in float64."""
        return dataclasses.replace(self, reference=wide(self.reference), candidate=wide(self.candidate))

    @property
    def vacuous(self) -> bool:
        """Whether both gradients are zero, or only the remainder of a cancelled sum."""
        scale = _rms(self.cotangent) if self.cotangent is not None else 0.0
        return all(_rms(one) <= CANCELLED * self.precision.eps * scale for one in (self.reference, self.candidate))

    @functools.cached_property
    def difference(self) -> Agreement:
        """The difference of the two gradients."""
        return self.compare(self.reference, self.candidate)

    def compare(self, a: Array, b: Array, free: int = 0) -> Agreement:
        """Whether two gradients agree, if each entry is allowed the rounding of the sum from which it remains."""
        slack = self._rounding
        if slack is not None and slack.shape == a.shape:
            a, b = wide(a), wide(b)
            b = b - np.clip(np.nan_to_num(b - a), -slack, slack)
        return agreement(a, b, "scale", self.precision, free=free)

    @functools.cached_property
    def _rounding(self) -> Array | None:
        """The allowed rounding of each entry, if the operation is known."""
        y, g, bound = self.output, self.cotangent, KINDS[self.kind].vjp_bound
        if bound is None or y is None or g is None or y.shape != g.shape or not np.all(np.isfinite(g)):
            return None
        axes = () if self.kind == "sigmoids" else self.axes
        return OutputRows(y, axes, logarithms=self.kind == "log-probabilities").bound(bound, self.precision, g)

    @functools.cached_property
    def expected(self) -> Array | None:
        """The gradient of the candidate's output by the closed form; None if there is none."""
        operation, y, g = KINDS[self.kind].operation, self.output, self.cotangent
        if not operation or y is None or g is None or y.shape != self.candidate.shape:
            return None
        return FORMULAS[operation].pullback(y, g, self.axes)

    def consistent(self) -> bool | None:
        """Whether the candidate's gradient belongs to its own values; None if that is unknown."""
        if self.expected is not None and self.compare(self.expected, self.candidate).agrees:
            return True
        if self.slopes is not None:
            numeric, claimed = self.slopes()
            size = max(_rms(numeric), _rms(claimed))
            error = _rms(numeric - claimed) / size if size > 0 else 0.0
            return True if error < 0.03 else False if error > 0.1 else None
        return None


def _rms(values: Array) -> float:
    return math.sqrt(mean_square(values))
