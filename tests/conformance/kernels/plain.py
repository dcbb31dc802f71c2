"""Right kernels that stand alone, each in the few lines that everybody knows: what `mutants.py` changes.

`PLAIN`: name of a function -> the operation that it computes or, where the name ends so, whose vjp.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple


def softmax(x, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def log_softmax(x, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    shifted = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def sigmoid(x):
    wide = x.astype(np.result_type(x, np.float32))
    z = np.exp(-np.abs(wide))
    y = np.where(wide >= 0, 1 / (1 + z), z / (1 + z))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def softmax_vjp(x, cotangent, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    g = cotangent.astype(wide.dtype)
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
    y = e / np.sum(e, axis=axis, keepdims=True)
    mean = np.sum(g * y, axis=axis, keepdims=True)
    return (y * (g - mean)).astype(x.dtype)


def log_softmax_vjp(x, cotangent, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    g = cotangent.astype(wide.dtype)
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return (g - y * np.sum(g, axis=axis, keepdims=True)).astype(x.dtype)


def sigmoid_vjp(x, cotangent):
    wide = x.astype(np.result_type(x, np.float32))
    z = np.exp(-np.abs(wide))
    return (cotangent.astype(wide.dtype) * z / ((1 + z) * (1 + z))).astype(x.dtype)


def masked_softmax(x, axis=-1, where=None):
    wide = x.astype(np.result_type(x, np.float32))
    kept = np.broadcast_to(True if where is None else where, x.shape)
    wide = np.where(kept, wide, -np.inf)
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
    y = np.where(kept, e / np.sum(e, axis=axis, keepdims=True), 0)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def online_softmax(x, axis=-1):
    """A running maximum and a running sum over blocks of 64."""
    wide = np.moveaxis(x, axis, -1).astype(np.result_type(x, np.float32))
    m = np.full(wide.shape[:-1], -np.inf, wide.dtype)
    s = np.zeros(wide.shape[:-1], wide.dtype)
    for start in range(0, wide.shape[-1], 64):
        block = wide[..., start : start + 64]
        new = np.maximum(m, np.max(block, axis=-1))
        safe = np.where(new == -np.inf, 0, new)
        s = s * np.exp(m - safe) + np.sum(np.exp(block - safe[..., None]), axis=-1)
        m = new
    m = np.where(m == -np.inf, 0, m)
    y = np.moveaxis(np.exp(wide - m[..., None]) / s[..., None], -1, axis)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def online_log_softmax(x, axis=-1):
    """The same from the end to the beginning, in blocks of 100; the first block comes before the loop."""
    wide = np.moveaxis(x, axis, -1).astype(np.result_type(x, np.float32))
    last = wide[..., -100:]
    m = np.max(last, axis=-1, keepdims=True, initial=-np.inf)
    safe = np.where(m > -np.inf, m, 0)
    s = np.sum(np.exp(last - safe), axis=-1, keepdims=True)
    for stop in range(wide.shape[-1] - 100, 0, -100):
        block = wide[..., max(0, stop - 100) : stop]
        top = np.max(block, axis=-1, keepdims=True)
        new = np.where(np.isnan(top) | (top > m), top, m)
        safe = np.where(new > -np.inf, new, 0)
        s = s * np.exp(m - safe) + np.sum(np.exp(block - safe), axis=-1, keepdims=True)
        m = new
    y = np.moveaxis((wide - m) - np.log(s), -1, axis)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def merged_softmax(x, axis=-1):
    """Maximum and sum of eight interleaved lanes, then merged."""
    wide = np.moveaxis(x, axis, -1).astype(np.result_type(x, np.float32))
    tops, sums = [], []
    for lane in range(min(8, wide.shape[-1])):
        part = wide[..., lane::8]
        top = np.max(part, axis=-1)
        safe = np.where(np.isneginf(top), 0, top)
        tops.append(top)
        sums.append(np.sum(np.exp(part - safe[..., None]), axis=-1))
    m = np.max(tops, axis=0)
    safe = np.where(np.isneginf(m), 0, m)
    s = np.sum(np.array(sums) * np.exp(np.array(tops) - safe), axis=0)
    y = np.moveaxis(np.exp(wide - safe[..., None]) / s[..., None], -1, axis)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def rowwise_softmax(x, axis=-1):
    """Any axes, several of them too: brought to the end and joined; then 32 rows at a time into the result."""
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    kept = [one for one in range(x.ndim) if one not in axes]
    moved = x.transpose(*kept, *axes)
    rows = moved.reshape(math.prod(moved.shape[: len(kept)]), math.prod(moved.shape[len(kept) :]))
    out = np.empty(rows.shape, np.float64 if x.dtype.kind in "biu" else x.dtype)
    for start in range(0, len(rows), 32):
        block = rows[start : start + 32].astype(np.result_type(out, np.float32))
        e = np.exp(block - np.max(block, axis=1, keepdims=True, initial=-np.inf))
        out[start : start + 32] = e / np.sum(e, axis=1, keepdims=True)
    return out.reshape(moved.shape).transpose(np.argsort([*kept, *axes]))


def base_two_softmax(x, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    shifted = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    e = np.exp2(shifted * 1.4426950408889634)
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def exp_of_log_softmax(x, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    shifted = wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    y = np.exp(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def log1p_log_softmax(x, axis=-1):
    """The sum without one of the largest, which is 1."""
    wide = x.astype(np.result_type(x, np.float32))
    at = np.argmax(wide, axis=axis, keepdims=True)
    shifted = wide - np.take_along_axis(wide, at, axis=axis)
    e = np.exp(shifted)
    np.put_along_axis(e, at, 0, axis=axis)
    y = shifted - np.log1p(np.sum(e, axis=axis, keepdims=True))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def tree_softmax(x, axis=-1):
    """The sum as a tree of halves."""
    wide = np.moveaxis(x, axis, -1).astype(np.result_type(x, np.float32))
    e = np.exp(wide - np.max(wide, axis=-1, keepdims=True, initial=-np.inf))
    s = e
    while s.shape[-1] > 1:
        half = s.shape[-1] // 2
        s = np.concatenate([s[..., :half] + s[..., half : 2 * half], s[..., 2 * half :]], axis=-1)
    y = np.moveaxis(e / s, -1, axis)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def tanh_sigmoid(x):
    """Through tanh, which has no relative accuracy for negative numbers: through exp there."""
    wide = x.astype(np.result_type(x, np.float32))
    z = np.exp(np.minimum(wide, 0))
    y = np.where(wide < -1, z / (1 + z), 0.5 + 0.5 * np.tanh(0.5 * wide))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def polynomial_sigmoid(x):
    """Elementary operations alone, in float64: the exponential by a constant in two parts and a polynomial."""
    wide = x.astype(np.float64)
    a = np.maximum(-np.abs(wide), -746)
    k = np.rint(a * 1.4426950408889634)
    r = (a - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    p = np.ones_like(r)
    for n in range(14, 0, -1):
        p = 1 + p * r / n
    z = np.ldexp(p, np.where(np.isnan(k), 0, k).astype(int))
    y = np.where(wide < 0, z, 1) / (1 + z)
    y = np.where(wide == -np.inf, 0, y)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def chain_softmax_vjp(x, cotangent, axis=-1):
    """The gradient step by step, as automatic differentiation goes through exponentials, sum and quotient."""
    wide = x.astype(np.result_type(x, np.float32))
    g = cotangent.astype(wide.dtype)
    e = np.exp(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
    s = np.sum(e, axis=axis, keepdims=True)
    to_sum = -np.sum(g * (e / s), axis=axis, keepdims=True) / s
    return (e * (g / s + to_sum)).astype(x.dtype)


# The operation that each computes, or whose gradient.
_OPERATIONS = {
    "softmax": (
        *("softmax", "masked_softmax", "online_softmax", "merged_softmax", "rowwise_softmax", "base_two_softmax"),
        *("exp_of_log_softmax", "tree_softmax", "softmax_vjp", "chain_softmax_vjp"),
    ),
    "log_softmax": ("log_softmax", "online_log_softmax", "log1p_log_softmax", "log_softmax_vjp"),
    "sigmoid": ("sigmoid", "tanh_sigmoid", "polynomial_sigmoid", "sigmoid_vjp"),
}
PLAIN = {name: operation for operation, names in _OPERATIONS.items() for name in names}
