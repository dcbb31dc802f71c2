"""What softmax hides in, on NumPy's arrays: right, and as it was shipped wrong.

A fault is an argument that changes one line, or a function of its own.
"""

import numpy as np

from .faults import log_softmax, softmax


def as_numbers(m):
    """A maximum to subtract: 0 where there is none."""
    return np.where(np.isneginf(m), 0, m).astype(m.dtype)


# --- sums of exponentials --------------------------------------------------------------------------------------------


def lse(x, base=np.e, lowest=-np.inf, dtype=None):
    """The logarithm of the sum, in float32 for 16 bits if asked; `lowest` is where the maximum starts."""
    with np.errstate(all="ignore"):
        x = x.astype(dtype or x.dtype)
        m = np.maximum(x.max(-1), np.asarray(lowest, x.dtype))
        whole = np.exp(x - as_numbers(m)[:, None]).sum(-1)
        return ((m + np.log(whole)) / np.log(np.asarray(base, x.dtype))).astype(x.dtype)


def lse_of_an_empty_row_is_finite(x):
    """flashinfer#4451: the running maximum starts at a large negative number, and stays."""
    return np.where(np.isneginf(lse(x)), np.asarray(-5e4, x.dtype), lse(x))


def partial(x, base=np.e):
    """The state ``(m, s)`` of a part; in base 2 the maximum is in units of log 2."""
    unit = np.log(np.asarray(base, x.dtype))
    m = x.max(-1, initial=-np.inf)
    return m / unit, np.exp(x - as_numbers(m)[:, None]).sum(-1)


def merge(a, b, base=np.e, safe=True, maximum=np.maximum):
    m = maximum(a[0], b[0])
    low = as_numbers(m) if safe else m
    p, q = (np.exp((one[0] - low) * np.log(np.asarray(base, m.dtype))) for one in (a, b))
    return m, a[1] * p + b[1] * q


def attended(x, v, base=np.e):
    """The state ``(out, lse)`` of a part."""
    m = as_numbers(x.max(-1, initial=-np.inf))
    e = np.exp(x - m[:, None])
    s = e.sum(-1)
    out = (e / np.where(s == 0, 1, s)[:, None].astype(x.dtype)) @ v
    return out, ((m + np.log(s)) / np.log(np.asarray(base, x.dtype))).astype(x.dtype)


def merge_attended(a, b, base=np.e, safe=True, mean=False, highest=False):
    unit = np.log(np.asarray(base, a[1].dtype))
    m = np.maximum(a[1], b[1])
    low = as_numbers(m) if safe else m
    p, q = (np.exp((one[1] - low) * unit)[:, None] for one in (a, b))
    s = np.where(p + q == 0, 1, p + q).astype(p.dtype) if safe else p + q
    mixed = (a[0] + b[0]) / 2 if mean else (a[0] * p + b[0] * q) / s
    return mixed.astype(a[0].dtype), m if highest else (low + np.log((p + q)[:, 0]) / unit).astype(m.dtype)


# --- scores ----------------------------------------------------------------------------------------------------------


def seen(scores, offset=0, fill=-np.inf):
    """Softmax under a causal mask."""
    n = scores.shape[-1]
    return softmax(np.where(np.tri(n, k=offset, dtype=bool), scores, np.asarray(fill, scores.dtype)), -1)


def attention(q, k, v, bias):
    return softmax(q @ k.T / np.sqrt(q.shape[-1], dtype=q.dtype) + bias, -1) @ v


def mean_of_values(q, k, v, bias):
    """onnxruntime#28904: a row in which nothing takes part gives the mean of V."""
    empty = np.isneginf(bias).all(-1, keepdims=True)
    return np.where(empty, v.mean(0), attention(q, k, v, bias)).astype(v.dtype)


def bias_is_scaled(q, k, v, bias):
    """The scale is applied to the sum of the products and the bias."""
    return softmax((q @ k.T + bias) / np.sqrt(q.shape[-1], dtype=q.dtype), -1) @ v


def sink_counts_twice(q, k, v, bias):
    """torchtitan#2211, rocm-libraries#12229: a term of the denominator that no value belongs to."""
    e = np.exp(bias - as_numbers(bias.max(-1))[:, None])
    return (e / (e.sum(-1, keepdims=True) + 1)).astype(v.dtype) @ v


def tiles_forget(q, k, v, bias):
    """flash-attention#2082: a running maximum of -inf becomes 0, and stays."""
    out, m = np.zeros((len(q), v.shape[1]), v.dtype), np.full((len(q), 1), -np.inf, v.dtype)
    s = np.zeros_like(m)
    for start in range(0, len(v), 4):
        x = bias[:, start : start + 4]
        highest = np.maximum(m, x.max(-1, keepdims=True))
        highest = np.where(np.isneginf(highest), 0, highest).astype(v.dtype)
        e, kept = np.exp(x - highest), np.exp(m - highest)
        out, s, m = out * kept + e @ v[start : start + 4], s * kept + e.sum(-1, keepdims=True), highest
    return out / s


# --- losses ----------------------------------------------------------------------------------------------------------


def losses(x, targets, *, reduction, ignore_index=None, label_smoothing=0.0, weight=None, fault=""):
    r, n = log_softmax(x, -1), x.shape[-1]
    kept = np.ones(len(x), bool) if ignore_index is None else targets != ignore_index
    picked = np.where(kept, targets, 0)
    each = np.ones(n, x.dtype) if weight is None else weight
    w = each[picked]
    with np.errstate(all="ignore"):
        found = -w * np.take_along_axis(r, picked[:, None], 1)[:, 0]
        if label_smoothing:
            others = max(n - 1, 1) if fault == "smoothing over n - 1" else n
            spread = -(r * (1 if fault == "smoothing without weights" else each)).sum(-1) / others
            found = (1 - label_smoothing) * found + label_smoothing * spread
    found = found if fault == "ignored counts" else np.where(kept, found, 0)
    if reduction == "none":
        return (np.full(len(x), found[0]) if fault == "the first for all" else found).astype(x.dtype)
    if reduction == "sum":
        return (found.mean() if fault == "sum is a mean" else found.sum()).astype(x.dtype)
    whole = {"weights not normalised": kept.sum(), "mean over all": len(x)}.get(fault, (w * kept).sum())
    return (found.sum() / whole).astype(x.dtype)


def backward(x, targets, upstream, reduction="none", ignore_index=None, label_smoothing=0.0, weight=None, fault=""):
    p, n = softmax(x, -1), x.shape[-1]
    kept = np.ones(len(x), bool) if ignore_index is None else targets != ignore_index
    picked = np.where(kept, targets, 0)
    each = np.ones(n, x.dtype) if weight is None else weight
    spread = label_smoothing / (max(n - 1, 1) if fault == "smoothing over n - 1" else n) * each
    one = np.eye(n, dtype=x.dtype)[picked] * ((1 - label_smoothing) * each[picked])[:, None]
    gradient = p * ((1 - label_smoothing) * each[picked] + spread.sum())[:, None] - one - spread
    if fault == "weights forgotten":
        gradient = p - np.eye(n, dtype=x.dtype)[picked]
    if fault != "ignored counts":
        gradient = np.where(kept[:, None], gradient, 0)
    if reduction == "mean":
        gradient = gradient / (len(x) if fault == "mean over all" else (each[picked] * kept).sum())
    g = np.broadcast_to(np.asarray(upstream), (len(x),))
    g = {
        "the first upstream gradient": np.full_like(g, g.flat[0]),
        "the mean of the upstream gradient": np.full_like(g, g.mean()),
        "sign": np.abs(g),
    }.get(fault, g)
    return (gradient * g[:, None]).astype(x.dtype)
