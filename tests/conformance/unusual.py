"""Correct implementations, however unusual: the kit must pass every one.

`UNUSUAL`: name -> (operation, implementation, vjp or None).
"""

import math

import numpy as np

from .faults import (
    lanes,
    log_softmax,
    right_log_softmax,
    right_sigmoid,
    right_softmax,
    right_vjp_log_softmax,
    right_vjp_sigmoid,
    right_vjp_softmax,
    softmax,
    top,
    total,
    wide,
)


def exp_of_log_softmax(x):
    return np.exp(right_log_softmax(x))


def base_two(x):
    e = np.exp2((x - top(x)) * x.dtype.type(1.4426950408889634))
    return e / total(e)


def online(size):
    def kernel(x):
        m = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
        s = np.zeros_like(m)
        for start in range(0, x.shape[-1], size):
            block = x[:, start : start + size]
            new = np.maximum(m, top(block))
            safe = np.where(np.isneginf(new), 0, new).astype(x.dtype)
            s = s * np.exp(m - safe) + total(np.exp(block - safe))
            m = new
        return np.exp(x - np.where(np.isneginf(m), 0, m).astype(x.dtype)) / s

    return kernel


def tree(e):
    while e.shape[-1] > 1:
        if e.shape[-1] % 2:
            e = np.concatenate([e, np.zeros_like(e[:, :1])], axis=-1)
        e = e[:, ::2] + e[:, 1::2]
    return e


def tree_sum(x):
    e = np.exp(x - top(x))
    return e / tree(e)


def compensated_sum(x):
    e = np.exp(x - top(x))
    s, c = np.zeros_like(e[:, :1]), np.zeros_like(e[:, :1])
    for start in range(0, e.shape[-1], 512):
        y = total(e[:, start : start + 512]) - c
        t = s + y
        c = (t - s) - y
        s = t
    return e / s


def float64_inside(x):
    return right_softmax(x.astype(np.float64)).astype(x.dtype)


def padded(x):
    n = 1 << (x.shape[-1] - 1).bit_length()
    full = np.pad(x, ((0, 0), (0, n - x.shape[-1])), constant_values=-np.inf)
    return right_softmax(full)[:, : x.shape[-1]]


def flushing(x, axis=-1):
    y = softmax(x, axis)
    if y.dtype.kind not in "fV":
        return y
    tiny = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(y.dtype.name, 2.0**-126)
    return np.where(np.abs(y.astype(np.float64)) < tiny, 0, y).astype(y.dtype)


def log1p_without_maximum(x):
    at = np.expand_dims(np.argmax(x, -1), -1)
    m = np.take_along_axis(x, at, -1)
    e = np.exp(x - m)
    np.put_along_axis(e, at, 0, -1)
    return (x - m) - np.log1p(total(e))


def tanh_with_corrected_tail(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    w = wide(x)
    work = x.astype(w)
    with np.errstate(all="ignore"):
        e = np.exp(np.minimum(work, 0))
        return np.where(work < -1, e / (1 + e), w(0.5) + w(0.5) * np.tanh(w(0.5) * work)).astype(x.dtype)


def position_dependent(x):
    y = right_softmax(x)
    off = np.where(np.arange(x.shape[-1]) % 8 < 3, 1 + 2 * np.finfo(x.dtype).eps, 1).astype(x.dtype)
    return y if x.shape[-1] == 1 else y * off


def reciprocal(x):
    if x.shape[-1] == 1:
        return np.where(np.isfinite(x), 1, np.nan).astype(x.dtype)
    e = np.exp(x - top(x))
    return e * (1 / total(e))


def halves(x):
    """The exponential of a half, squared."""
    e = np.exp((x - top(x)) / 2) ** 2
    return e / total(e)


def plain(x, axis=-1):
    """What everybody writes, for float32 and float64; says so for the rest."""
    if x.dtype not in (np.float32, np.float64):
        raise NotImplementedError("float32 and float64 alone")
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def last_axis_only(x):
    return softmax(x, -1)


def rows_one_by_one(x, axis=-1):
    """As a loop in C would: two dimensions, the last axis, contiguous, nothing else."""
    if x.ndim != 2 or axis not in (-1, 1) or not x.flags.c_contiguous or x.dtype not in (np.float32, np.float64):
        raise NotImplementedError("contiguous matrices of float32 or float64, along the last axis")
    y = np.empty_like(x)
    for i, row in enumerate(x.astype(np.float64)):
        with np.errstate(all="ignore"):
            e = np.exp(row - row.max()) if row.size else row
            y[i] = e / (math.fsum(e) if np.isfinite(e).all() else e.sum())
    return y


def sigmoid_by_logistic(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float32)
    with np.errstate(all="ignore"):
        return (1 / (1 + np.exp(-x.astype(wide(x))))).astype(x.dtype)


def sigmoid_as_softmax(x):
    pair = np.stack([x, np.zeros_like(x)], axis=-1)
    y = softmax(pair, -1)[..., 0]
    return np.where(np.isposinf(x), 1, y).astype(y.dtype)


def vjp_sigmoid_by_value(x, g):
    w = wide(x)
    y = right_sigmoid(x.astype(w))
    return (g.astype(w) * y * (1 - y)).astype(x.dtype)


def vjp_softmax_by_jacobian(x, g, axis=-1):
    if axis not in (-1, x.ndim - 1) or x.shape[-1] > 600:
        raise NotImplementedError("short rows on the last axis")
    y = softmax(x.astype(np.float64), -1)
    jacobian = y[..., :, None] * (np.eye(x.shape[-1]) - y[..., None, :])
    return np.einsum("...ij,...j->...i", jacobian, g.astype(np.float64)).astype(x.dtype)


def vjp_log_softmax_in_logs(x, g, axis=-1):
    w = wide(x)
    y = np.exp(log_softmax(x.astype(w), axis))
    return (g.astype(w) - y * g.astype(w).sum(axis, keepdims=True)).astype(x.dtype)


UNUSUAL = {
    "the usual softmax": ("softmax", softmax, right_vjp_softmax),
    "the usual log_softmax": ("log_softmax", log_softmax, right_vjp_log_softmax),
    "the usual sigmoid": ("sigmoid", right_sigmoid, right_vjp_sigmoid),
    "exp of log_softmax": ("softmax", lanes(exp_of_log_softmax), None),
    "base two": ("softmax", lanes(base_two), None),
    "online, blocks of 32": ("softmax", lanes(online(32)), None),
    "online, blocks of 1000": ("softmax", lanes(online(1000)), None),
    "sum as a tree": ("softmax", lanes(tree_sum), None),
    "compensated sum": ("softmax", lanes(compensated_sum), None),
    "float64 inside": ("softmax", lanes(float64_inside), None),
    "padded with -inf": ("softmax", lanes(padded), None),
    "flushing subnormals": ("softmax", flushing, None),
    "log1p without one maximum": ("log_softmax", lanes(log1p_without_maximum), None),
    "tanh with a corrected tail": ("sigmoid", tanh_with_corrected_tail, None),
    "position-dependent last bits": ("softmax", lanes(position_dependent), None),
    "reciprocal": ("softmax", lanes(reciprocal), None),
    "squared half exponentials": ("softmax", lanes(halves), None),
    "plain NumPy": ("softmax", plain, None),
    "last axis only": ("softmax", last_axis_only, None),
    "rows one by one": ("softmax", rows_one_by_one, None),
    "sigmoid by its formula": ("sigmoid", sigmoid_by_logistic, vjp_sigmoid_by_value),
    "sigmoid as a softmax of two": ("sigmoid", sigmoid_as_softmax, None),
    "gradient by the Jacobian": ("softmax", softmax, vjp_softmax_by_jacobian),
    "gradient from logarithms": ("log_softmax", log_softmax, vjp_log_softmax_in_logs),
}
