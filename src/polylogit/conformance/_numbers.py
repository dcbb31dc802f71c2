"""Formats numbers for reports: with as few digits as identify them, and large ones as distances.

Knows dtypes; no operation, no framework and no report format.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit._spec.dtypes import Finfo

__all__ = ["below", "shortest", "side_by_side", "times", "ulps"]

_FAR = 1e3  # times the spread of a row that its maximum is away from 0: then distances say more than logits


def shortest(value: float, dtype: Finfo | None = None) -> str:
    """The shortest decimal that rounds to this number of the dtype, as Python reads it."""
    value = float(value)
    if dtype is None or dtype.precision > 24 or not math.isfinite(value) or dtype.round(value) != value:
        return _plain(value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if dtype.round(float(text)) == value:
            return _plain(float(text))
    return _plain(value)


def _plain(value: float) -> str:
    text = repr(value)
    return text if text == "-0.0" else text.removesuffix(".0")  # a whole number would lose its sign


def side_by_side(right: float, got: float, dtype: Finfo | None) -> tuple[str, str]:
    """The right value and the result, with as many digits as show the difference."""
    came = shortest(got, dtype)
    if dtype is not None and math.isfinite(right):
        nearest = shortest(float(dtype.round(right)), dtype)
        if nearest != came and math.isfinite(float(nearest)):
            return nearest, came
    return shortest(right), came if shortest(right) != came else shortest(got)


def ulps(right: float, got: float, dtype: Finfo | None) -> float | None:
    """The error in spacings of the dtype at the right value; None if that is meaningless, as at 0."""
    if dtype is None or right == 0 or not (math.isfinite(right) and math.isfinite(got)):
        return None
    off = abs(got - right) / float(dtype.ulp(np.asarray(right)))
    return off if math.isfinite(off) else None


def times(value: float) -> str:
    """A count or a ratio, formatted for people."""
    if math.isinf(value) or math.isnan(value):
        return "∞"
    return f"{value:.3g}" if 0.01 <= abs(value) < 1e6 or value == 0 else f"{value:.1e}"


def below(row: Sequence[float]) -> tuple[float, list[float]] | None:
    """A row as its maximum and the distances from it, if that is clearer and exact; else None."""
    finite = [float(value) for value in row if math.isfinite(value)]
    if len(finite) < 2:
        return None
    top, spread = max(finite), max(finite) - min(finite)
    if not 0 < spread < math.inf or abs(top) < _FAR * spread:
        return None
    distances = [float(value) - top for value in row]
    exact = all(top + off == float(value) or value != value for off, value in zip(distances, row, strict=True))
    return (top, distances) if exact else None
