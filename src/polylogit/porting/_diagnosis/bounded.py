"""The largest difference of an output in multiples of its operation's bound, for reports.

Plain NumPy in float64; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.agreement import residual, rounding, unit_of
from polylogit.porting._diagnosis.evidence import KINDS

if TYPE_CHECKING:
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["in_bounds"]


@np.errstate(all="ignore")  # NaN and infinities are data here
def in_bounds(evidence: Evidence) -> float:
    """The largest difference in multiples of the allowed rounding at its entry; NaN for an unknown operation."""
    r, c = (one.astype(np.float64) for one in (evidence.reference, evidence.candidate))
    measure, precision = evidence.measure, evidence.precision
    if not KINDS[evidence.kind].operation or r.shape != c.shape:
        return math.nan
    errors = np.abs(residual(r, c, measure, precision.floor)) * unit_of(r, measure, precision.floor)
    times = errors / rounding(r, measure, precision, evidence.normalized_axes)
    return float(np.max(times, where=errors != 0, initial=0.0))
