"""Prepares two arrays for comparison: which shapes can correspond, and which values are meaningless.

Plain NumPy; knows no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import finfo
from polylogit.porting._diagnosis.pieces import pieces, wide
from polylogit.porting._names import ROOT, is_output, operation_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    Array = np.ndarray[Any, Any]

__all__ = ["alike", "can_correspond", "squeezed", "turn"]

# A score from here on is a mask's fill: those in use are -1e4, -1e9, the smallest number of a dtype, and -inf.
_FILL = -9e3
# A mask covers more of an array than a massive activation does, which is one channel or two.
LEAST_MASKED = 0.05
# Channels from first to last, and back.
_TURNS = ((1, -1), (-1, 1))


def can_correspond(r: tuple[int, ...], c: tuple[int, ...]) -> bool:
    """Whether some fault turns an array of one shape into one of the other."""
    if r == c:
        return True
    size, other = (int(np.prod(shape, dtype=np.int64)) for shape in (r, c))
    if not size or not other:
        return False
    return (
        sorted(squeezed(r)) == sorted(squeezed(c))  # transposed
        or (max(size, other) == 2 * min(size, other) and 2 in (*r, *c))  # one column for two
        or any(squeezed(r[:axis] + r[axis + 1 :]) == squeezed(c) for axis in range(len(r)))  # indices
    )


def squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without axes of size one."""
    return tuple(int(size) for size in shape if size != 1)


def alike(name: str, r: Array, c: Array) -> tuple[Array, Array]:
    """The two arrays without meaningless differences between the frameworks.

    These are axes of size one; a batch of equal entries, such as position embeddings, which is kept once; channels
    first or last; and the fill values of masks in scores.
    """
    if r.ndim != c.ndim and squeezed(r.shape) == squeezed(c.shape):
        c = c.reshape(r.shape)
    if r.shape != c.shape:
        if _is_batch_of(r.shape, c.shape):
            c = np.broadcast_to(c, r.shape)
        elif _is_batch_of(c.shape, r.shape):
            r = np.broadcast_to(r, c.shape)
        elif r.ndim == c.ndim > 2 and not is_output(name):
            moved = (np.moveaxis(c, *axes) for axes in ((-1, 1), (1, -1)))
            c = next((one for one in moved if one.shape == r.shape), c)
    elif r.ndim > 3 and not (operation_of(name) or is_output(name) or name == ROOT):
        # Of the result of a whole model, what has as many channels as rows and columns is taken as it is.
        c = np.moveaxis(c, *(turn(c, r) or (0, 0)))
    if operation_of(name) and name.endswith(".scores"):
        return _masked_alike(r, c)
    if r.shape == c.shape and (fills := _fills(r, c)) is not None:
        return tuple(np.where(fills, -np.inf, one).astype(one.dtype) for one in (r, c))  # type: ignore[return-value]
    return r, c


def turn(own: Array, other: Array) -> tuple[int, int] | None:
    """The move of channels, as `numpy.moveaxis` takes it, that leads from an array to the layout of another.

    (0, 0) for none. Where the shapes do not tell, with as many channels as rows and columns, the values do; None where
    they do not either, since no layout is clearly nearer, and where no move leads from one shape to the other.
    """
    moves = [(0, 0), *_TURNS[: own.ndim - 2]]  # of three axes, both are the same
    moves = [move for move in moves if np.moveaxis(own, *move).shape == other.shape] if own.ndim > 2 else moves[:1]
    if len(moves) < 2:
        return next(iter(moves), None)
    distances = {move: _distance(np.moveaxis(own, *move), other) for move in moves}
    best, second = sorted(distances, key=lambda move: distances[move])[:2]
    # What has nothing to do with another is as far from it in every layout, give or take the chance of a few entries.
    return best if 4 * distances[best] < distances[second] else None


def _distance(a: Array, b: Array) -> float:
    """The sum of squared differences, where both are finite."""
    total = 0.0
    for place in pieces(a.shape):
        with np.errstate(all="ignore"):
            difference = wide(a[place]) - wide(b[place])
        total += float(np.sum(np.square(difference), where=np.isfinite(difference)))
    return total


def _fills(r: Array, c: Array) -> Any:
    """The fill values of a mask in both arrays, if they are scores that were recorded under another name.

    A fill is one number, plus whatever was added to it, at many entries, and a thousand times as large as all others,
    which it would hide. A massive activation is confined to few channels.
    """
    if r.ndim < 2 or not r.size or "f" not in r.dtype.kind + c.dtype.kind:
        return None
    if all(np.min(one, initial=0.0, where=one > -np.inf) > _FILL for one in (r, c)):
        return None  # none, or -inf, which hides nothing
    fills = (r <= _FILL) & (c <= _FILL)
    if fills.mean() < LEAST_MASKED or fills.all():
        return None
    for one in (r, c):
        others, finite = one[~fills], one[fills & np.isfinite(one)]
        if finite.size:
            largest = float(np.max(np.abs(others), initial=0.0, where=np.isfinite(others)))
            low, high = float(finite.min()), float(finite.max())
            precision = finfo(one.dtype.name)  # of bfloat16 too, which NumPy does not know
            if -high < 1e3 * largest or high - low > 4 * (largest - low * (precision.eps if precision else 0.0)):
                return None
    return fills


def _is_batch_of(whole: tuple[int, ...], one: tuple[int, ...]) -> bool:
    return len(whole) > 2 and one in (whole[1:], (1, *whole[1:]))


def _masked_alike(r: Array, c: Array) -> tuple[Array, Array]:
    """The two arrays of scores without the fill values of masks, which say nothing about the scores.

    Entries that both mask are -inf on both sides, whatever the fills; entries that one masks get the value of the other
    on both sides, because the weights show whether an entry is masked.
    """
    if r.shape != c.shape or "f" not in r.dtype.kind + c.dtype.kind:
        return r, c
    here, there = r <= _FILL, c <= _FILL
    both = here & there
    if not (here | there).any():
        return r, c
    return (
        np.where(both, -np.inf, np.where(here, c, r)).astype(r.dtype),
        np.where(both, -np.inf, np.where(there, r, c)).astype(c.dtype),
    )
