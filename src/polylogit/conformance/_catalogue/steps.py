"""Building blocks of the implementations in the catalogue: right kernels, and rows along any axis.

They need only NumPy, sum in at least float32, and keep the dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polylogit._spec.dtypes import Array

Kernel = Callable[[Array], Array]
Function = Callable[..., Any]


def wide(x: Array) -> Any:
    return np.float64 if x.dtype == np.float64 else np.float32


def lanes(kernel: Kernel) -> Function:
    """Turn a kernel of rows (along the last axis, in a wide dtype) into a function of any axis; keeps the dtype."""

    def implementation(x: Array, axis: Any = -1) -> Array:
        x = np.asarray(x)
        if x.dtype.kind in "iub":
            x = x.astype(np.float64)
        work = x.astype(wide(x))
        axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis))
        axes = tuple(sorted(np.lib.array_utils.normalize_axis_index(int(a), x.ndim or 1) for a in axes))
        if len(set(axes)) != len(axes):
            raise ValueError("an axis is named twice")
        if x.ndim == 0:
            return kernel(work.reshape(1, 1)).reshape(()).astype(x.dtype)
        last = tuple(range(x.ndim - len(axes), x.ndim))
        moved = np.moveaxis(work, axes, last)
        n = int(np.prod([x.shape[a] for a in axes], dtype=int))
        if x.size == 0:
            return np.empty(x.shape, x.dtype)
        rows = np.ascontiguousarray(moved.reshape(-1, n))
        with np.errstate(all="ignore"):
            y = kernel(rows)
            return np.ascontiguousarray(np.moveaxis(y.reshape(moved.shape), last, axes)).astype(x.dtype)

    return implementation


def total(e: Array) -> Array:
    return e.sum(-1, keepdims=True)


def top(x: Array) -> Array:
    return x.max(-1, keepdims=True)


def right_softmax(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e / total(e)


def right_log_softmax(x: Array) -> Array:
    shifted = x - top(x)
    return shifted - np.log(total(np.exp(shifted)))


def right_sigmoid(x: Array) -> Array:
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    work = x.astype(wide(x))
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(work))
        return np.where(work < 0, e / (1 + e), 1 / (1 + e)).astype(x.dtype)


softmax, log_softmax = lanes(right_softmax), lanes(right_log_softmax)


def right_vjp_softmax(x: Array, g: Array, axis: Any = -1) -> Array:
    w = wide(x)
    y, g = softmax(x.astype(w), axis), g.astype(w)
    return (y * (g - (g * y).sum(axis, keepdims=True))).astype(x.dtype)


def right_vjp_log_softmax(x: Array, g: Array, axis: Any = -1) -> Array:
    w = wide(x)
    g = g.astype(w)
    return (g - softmax(x.astype(w), axis) * g.sum(axis, keepdims=True)).astype(x.dtype)


def right_vjp_sigmoid(x: Array, g: Array) -> Array:
    w = wide(x)
    e = np.exp(-np.abs(x.astype(w)))
    return (g.astype(w) * (e / (1 + e)) / (1 + e)).astype(x.dtype)


def floats(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind in "iub" else x


def one_axis(x: Array, axis: Any) -> bool:
    """Whether the axis is a single one that exists."""
    return isinstance(axis, int) and x.ndim > 0 and -x.ndim <= axis < x.ndim and x.size > 0


def last(x: Array, axis: Any) -> bool:
    return one_axis(x, axis) and axis % x.ndim == x.ndim - 1


def along(x: Array, axis: Any, kernel: Function) -> Array:
    """`kernel` on the working copy of `x`, for a fault that depends on more than rows; keeps the dtype."""
    with np.errstate(all="ignore"):
        return kernel(floats(x).astype(wide(floats(x))), axis).astype(floats(x).dtype)


def packed(x: Array) -> Array:
    """The memory from the first entry on, as if the array were contiguous, padded with zeros."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    start = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    raw = np.frombuffer(np.ascontiguousarray(base).tobytes()[start:], dtype=np.uint8)
    raw = np.concatenate([raw, np.zeros(max(0, x.nbytes - raw.size), np.uint8)])[: x.nbytes]
    return raw.view(x.dtype).reshape(x.shape).copy()


def widened(x: Array, g: Array) -> tuple[Array, Array]:
    return x.astype(wide(x)), g.astype(wide(x))


# The right implementation and its gradient, of each operation.
RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax": (softmax, right_vjp_softmax),
    "log_softmax": (log_softmax, right_vjp_log_softmax),
    "sigmoid": (right_sigmoid, right_vjp_sigmoid),
}
