"""The arithmetic of the NumPy backend: softmax, log_softmax and sigmoid from one array into another.

It knows NumPy alone: no contract, no wrapping of types. Axes arrive normalised, masks with the logits' shape.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

__all__ = ["log_softmax", "set_num_threads", "sigmoid", "softmax"]

AnyArray: TypeAlias = np.ndarray[Any, Any]
AnyDType: TypeAlias = np.dtype[Any]


def set_num_threads(count: int, /) -> None:
    """On how many threads to run large arrays."""


def _rows(array: AnyArray, axes: tuple[int, ...]) -> tuple[AnyArray, tuple[int, ...]]:
    """A view with the reduced axes last, and their numbers from the end."""
    if not axes:
        return array[..., None], (-1,)
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    return array.transpose(*kept, *axes), tuple(range(-len(axes), 0))


def softmax(
    x: AnyArray, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None, work: AnyDType, kept: AnyArray | None = None
) -> None:
    """Softmax of `x` into `out`, and into `kept` (in the dtype `work`) if given."""
    if not x.size:
        return
    with np.errstate(all="ignore"):
        rows, last = _rows(x, axes)
        y = rows.astype(work)
        hidden = None if mask is None else ~_rows(mask, axes)[0]
        if hidden is not None:
            y[hidden] = -np.inf
        y -= y.max(axis=last, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=last, keepdims=True)
        if hidden is not None:
            y[hidden] = 0
        _rows(out, axes)[0][...] = y
        if kept is not None:
            _rows(kept, axes)[0][...] = y


def log_softmax(
    x: AnyArray, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None, work: AnyDType, kept: AnyArray | None = None
) -> None:
    """Its logarithm into `out`, and softmax into `kept` (in the dtype `work`) if given."""
    if not x.size:
        return
    with np.errstate(all="ignore"):
        rows, last = _rows(x, axes)
        y = rows.astype(work)
        hidden = None if mask is None else ~_rows(mask, axes)[0]
        if hidden is not None:
            y[hidden] = -np.inf
        shape = y.shape
        flat = y.reshape(*shape[: len(shape) - len(last)], -1)
        where = flat.argmax(axis=-1, keepdims=True)
        flat = flat - np.take_along_axis(flat, where, -1)
        # log1p of the sum without the maximum keeps relative accuracy where the sum is close to 1.
        e = np.exp(flat)
        top = np.take_along_axis(e, where, -1)
        np.put_along_axis(e, where, top - 1, -1)
        rest = e.sum(axis=-1, keepdims=True)
        r = flat - np.log1p(rest)
        r, probability = r.reshape(shape), np.exp(r).reshape(shape)
        if hidden is not None:
            r[hidden] = -np.inf
            probability[hidden] = 0
        _rows(out, axes)[0][...] = r
        if kept is not None:
            _rows(kept, axes)[0][...] = probability


def sigmoid(x: AnyArray, out: AnyArray, work: AnyDType, kept: AnyArray | None = None) -> None:
    """Sigmoid of `x` into `out`, and its derivative into `kept` (in the dtype `work`) if given."""
    with np.errstate(all="ignore"):
        # exp(-x) overflows only where the result is below the smallest normal number.
        w = x.astype(work)
        y = 1 / (1 + np.exp(-w))
        out[...] = y
        if kept is not None:
            e = np.exp(-np.abs(w))
            kept[...] = e / ((1 + e) * (1 + e))
