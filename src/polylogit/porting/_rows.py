"""The rows in which two arrays differ most, as plain data for reports.

Plain NumPy, a piece at a time; knows nothing of verdicts and reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.porting._diagnosis.pieces import pieces, wide

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

__all__ = ["Row", "worst_rows"]

MOST_ROWS, MOST_COLUMNS = 5, 12


class Row(NamedTuple):
    """One row, along the last axis.

    Attributes
    ----------
    place : tuple of int
        The indices of the row along the other axes.
    columns : tuple of int
        The columns where it differs most, in ascending order.
    reference, candidate, difference : ndarray
        The values in these columns and their difference, in float64.
    of : int
        The number of columns in the row.
    """

    place: tuple[int, ...]
    columns: tuple[int, ...]
    reference: Array
    candidate: Array
    difference: Array
    of: int


def worst_rows(reference: Array, candidate: Array) -> tuple[Row, ...]:
    """The rows that differ most, the worst first; none if the shapes differ."""
    if reference.shape != candidate.shape or not reference.size:
        return ()
    r, c = (one if one.ndim > 1 else one.reshape(1, -1) for one in (reference, candidate))
    apart = np.zeros(r.shape[:-1])
    for place in pieces(r.shape):
        here = apart[place[:-1]]
        np.maximum(here, _difference(r[place], c[place]).max(axis=-1), out=here)
    worst = np.argsort(-apart, axis=None, kind="stable")[:MOST_ROWS]
    places = [tuple(int(part) for part in np.unravel_index(int(index), apart.shape)) for index in worst]
    return tuple(_row(r[at], c[at], at if reference.ndim > 1 else ()) for at in places if apart[at])


def _row(r: Array, c: Array, place: tuple[int, ...]) -> Row:
    difference = _difference(r, c)
    columns = np.sort(np.argsort(-difference, kind="stable")[:MOST_COLUMNS])
    return Row(place, tuple(map(int, columns)), wide(r)[columns], wide(c)[columns], difference[columns], r.size)


def _difference(r: Array, c: Array) -> Array:
    here, there = wide(r), wide(c)
    with np.errstate(all="ignore"):
        difference = np.where((here == there) | (np.isnan(here) & np.isnan(there)), 0.0, np.abs(there - here))
    return np.nan_to_num(difference, nan=np.inf, posinf=np.inf)
