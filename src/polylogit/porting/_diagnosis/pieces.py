"""Passes over large arrays in pieces, so that none is ever copied whole: cuts, sums, extremes, samples of rows.

The result is that of a pass over the whole array; small arrays are a single piece. Plain NumPy, each piece in float64;
knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.formulas import Array, Axes

    Place = tuple[slice, ...]

__all__ = ["PIECE", "extremes", "is_finite", "mean_square", "pieces", "some_rows", "sums", "wide"]

PIECE = 1 << 15  # entries; a quarter of a MiB in float64


def wide(values: Any) -> Array:
    """The array in float64, without a copy if it has that dtype."""
    return np.asarray(values, np.float64)


def pieces(shape: tuple[int, ...], whole: Axes = ()) -> Iterator[Place]:
    """The places of the pieces of an array; axes in `whole` are not cut, however long they are."""
    steps, size = list(shape), math.prod(shape)
    for axis, length in enumerate(shape):
        if size > PIECE and axis not in whole:
            steps[axis] = max(1, PIECE * length // size)
            size = size // length * steps[axis]
    cuts = [
        [slice(start, start + step) for start in range(0, length, step)] if step < length else [slice(None)]
        for length, step in zip(shape, steps, strict=True)
    ]
    yield from itertools.product(*cuts)


def some_rows(shape: tuple[int, ...], whole: Axes, most: int) -> Place:
    """Evenly spaced places along all axes except those in `whole`, with about this number of entries in total."""
    rows = [axis for axis in range(len(shape)) if axis not in whole]
    steps, size = [1] * len(shape), math.prod(shape)
    for axis in sorted(rows, key=lambda one: -shape[one]):
        steps[axis] = max(1, min(shape[axis], -(-size // most)))
        size = -(-size // steps[axis])
    return tuple(slice(None, None, step) for step in steps)


def extremes(values: Array) -> tuple[float, float]:
    """The smallest and the largest entry, ignoring NaN and +inf; infinite and in reverse order if there is none."""
    low, high = np.inf, -np.inf
    for place in pieces(values.shape):
        one = wide(values[place])
        one = one[one < np.inf]
        if one.size:
            low, high = min(low, float(one.min())), max(high, float(one.max()))
    return low, high


def is_finite(values: Array) -> bool:
    """Whether all entries are finite."""
    return all(bool(np.isfinite(wide(values[place])).all()) for place in pieces(values.shape))


def mean_square(values: Array) -> float:
    """The mean square of all entries; 0 if there is none."""
    return sum(float(np.sum(wide(values[place]) ** 2)) for place in pieces(values.shape)) / max(1, values.size)


def sums(values: Array, axes: Axes, function: Callable[[Array], Array] = wide) -> Iterator[Array]:
    """The sums over some axes of a function of each entry, computed for one piece of the other axes at a time."""
    for place in pieces(values.shape, axes):
        rows = values[place]
        if rows.size <= PIECE:
            yield np.sum(function(wide(rows)), axis=axes)
            continue
        # One row, and longer than a piece.
        inner = pieces(tuple(rows.shape))
        yield np.asarray(sum(float(np.sum(function(wide(rows[part])))) for part in inner))
