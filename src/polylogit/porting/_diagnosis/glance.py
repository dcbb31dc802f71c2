"""Large arrays that agree to the last digits, seen piece by piece: nothing more is asked of them.

Plain NumPy in float64, a piece at a time; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.porting._diagnosis.agreement import PEAK_OVER_LEVEL, Agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    Array = np.ndarray[Any, Any]

__all__ = ["LARGE", "glance"]

LARGE = 1 << 16  # entries; below that, the whole is looked at at once
# A difference up to so many float32 eps has no cause: rounding to 16 bits, the least of them, makes a hundred times it.
FEW = 4.0
# Values on both sides of zero by more than this are neither probabilities nor their logarithms.
BOTH = 0.01


def glance(r: Array, c: Array, floor: float) -> tuple[Agreement, bool] | None:
    """How far two large arrays of one shape are apart if they agree, and whether they are one value all over.

    None where they may differ. Unless the values are on both sides of zero, differences are relative to each entry,
    which is the strictest unit that there is.
    """
    wide = r.dtype.kind == "f" and r.dtype.itemsize >= 4
    if r.shape != c.shape or r.size < LARGE or not wide or c.dtype != r.dtype:
        return None
    low, high, power = np.inf, -np.inf, 0.0
    for one in _pieces(r):
        low, high, power = min(low, float(one.min())), max(high, float(one.max())), power + float(one @ one)
    if not np.isfinite(power):
        return None
    scale = np.sqrt(power / r.size) if low < -BOTH and high > BOTH else 0.0
    peak = total = 0.0
    for here, there in zip(_pieces(r), _pieces(c), strict=True):
        unit = np.hypot(here, scale) if scale else np.maximum(np.abs(here), floor)
        there -= here
        np.abs(there, out=there)
        there /= unit
        peak, total = max(peak, float(there.max())), total + float(there @ there)
    level, eps = float(np.sqrt(total / r.size)), DTYPES["float32"].eps
    if not (level <= FEW * eps and peak <= PEAK_OVER_LEVEL * max(level, eps)):
        return None
    return Agreement(level, peak, r.size, True), high - low <= 1e-12 * max(abs(low), abs(high))


def _pieces(values: Array) -> Iterator[Array]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, LARGE):
        yield flat[start : start + LARGE].astype(np.float64)
