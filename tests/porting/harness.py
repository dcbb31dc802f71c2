"""Pairs of outputs with a known fault, in hundreds, and what `diagnose` makes of them.

Run it for the figures:  python tests/porting/harness.py --pairs 40 --seed 0

Nothing of polylogit makes the pairs: each fault is plain NumPy in float32 as a person porting a model would write it,
so that the diagnosis is not tested against its own arithmetic.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
from typing import Any

import numpy as np

NOISES = (0.0, 1e-7, 1e-6, 1e-5, 1e-4)
SHAPES = ((8, 5), (16, 10), (4, 100), (32, 3), (64, 2), (5, 1000), (2, 6, 7), (3, 8, 20), (2, 3, 5, 9))


@dataclasses.dataclass
class Pair:
    reference: Any
    candidate: Any
    logits: Any = None
    gives: tuple[str, ...] = ()  # names that are right; empty for the fault's own
    undecidable: bool = False  # from the outputs alone
    most_noise: float = 1.0  # above which the fault does not show
    earlier: dict[str, Any] = dataclasses.field(default_factory=dict)  # activations on which both sides agree


def softmax(x: Any, axis: Any = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    s = x - x.max(axis=axis, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=axis, keepdims=True))


def sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def draw(rng: Any, shape: Any, spread: float | None = None) -> Any:
    spread = rng.choice([1.0, 2.0, 4.0]) if spread is None else spread
    return (spread * rng.standard_normal(shape)).astype(np.float32)


def either(rng: Any) -> Any:
    """Softmax or its logarithm."""
    return softmax if rng.random() < 0.6 else log_softmax


# --- one function a fault: (rng, shape) -> Pair, or None where the shape does not allow it ----------------------------


def wrong_axis(rng: Any, shape: Any) -> Pair | None:
    x, f = draw(rng, shape), either(rng)
    axis = int(rng.integers(len(shape)))
    wrong = int(rng.choice([a for a in range(len(shape)) if a != axis]))
    if min(shape[axis], shape[wrong]) < 3:
        return None
    return Pair(f(x, axis), f(x, wrong), x)


def all_axes(rng: Any, shape: Any) -> Pair | None:
    x, f = draw(rng, shape), either(rng)
    return Pair(f(x), f(x, tuple(range(len(shape)))), x)


def flattened_axes(rng: Any, shape: Any) -> Pair | None:
    if len(shape) < 3:
        return None
    x, f = draw(rng, shape), either(rng)
    if rng.random() < 0.5:
        return Pair(f(x), f(x, (-2, -1)), x)
    return Pair(f(x, 1), f(x, tuple(range(1, len(shape)))), x)


def double_softmax(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    if rng.random() < 0.7:
        return Pair(softmax(x), softmax(softmax(x)), x)
    return Pair(log_softmax(x), log_softmax(softmax(x)), x)


def double_sigmoid(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    return Pair(sigmoid(x), sigmoid(sigmoid(x)), x)


def log_of_reference(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    return Pair(softmax(x), log_softmax(x), x) if rng.random() < 0.7 else Pair(sigmoid(x), np.log(sigmoid(x)), x)


def exp_of_reference(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    if rng.random() < 0.5:
        return Pair(log_softmax(x), softmax(x), x, ("exp-of-reference", "missing-log"))
    return Pair(x, np.exp(x)) if rng.random() < 0.5 else Pair(np.log(sigmoid(x)), sigmoid(x))


def missing_softmax(rng: Any, shape: Any) -> Pair | None:
    x, f = draw(rng, shape), either(rng)
    return Pair(f(x), x, x if rng.random() < 0.5 else None)


def missing_log(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    return Pair(log_softmax(x), softmax(x), x)


def sigmoid_for_softmax(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    return Pair(softmax(x), sigmoid(x), x) if rng.random() < 0.7 else Pair(log_softmax(x), np.log(sigmoid(x)), x)


def binary_sigmoid(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, (*shape[:-1], 2))
    p = softmax(x)
    one = sigmoid(x[..., 1:] - x[..., :1])
    choice = rng.integers(4)
    if choice == 0:
        return Pair(p, one)
    if choice == 1:
        return Pair(p, one[..., 0])
    if choice == 2:
        return Pair(one, p)
    s = sigmoid(x[..., 1:])
    return Pair(p, np.concatenate([1 - s, s], -1), x, undecidable=True)


def one_class_softmax(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, (*shape[:-1], 1))
    return Pair(sigmoid(x), softmax(x), x)


def scaled_logits(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    factor = rng.choice([0.5, 2.0, 1 / np.sqrt(64), 1 / np.sqrt(48), np.sqrt(32), 0.1, 1.3, 0.7, 3.0, 0.95])
    choice = rng.random()
    f = sigmoid if choice < 0.25 else either(rng)
    if choice > 0.9:
        return Pair(x, x * np.float32(factor))
    return Pair(f(x), f(x * np.float32(factor)), x)


def base_2(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    f = sigmoid if rng.random() < 0.25 else either(rng)
    return Pair(f(x), f(x * np.float32(np.log(2))), x)


def negated(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    f = sigmoid if rng.random() < 0.25 else either(rng)
    return Pair(f(x), f(-x), x)


def class_permutation(rng: Any, shape: Any) -> Pair | None:
    if shape[-1] < 3:
        return None
    x = draw(rng, shape)
    order = rng.permutation(shape[-1])
    if np.array_equal(order, np.arange(shape[-1])):
        return None
    f = [softmax, log_softmax, sigmoid, lambda x: x][rng.integers(4)]
    return Pair(f(x), f(x)[..., order], x)


def batch_permutation(rng: Any, shape: Any) -> Pair | None:
    if shape[0] < 3:
        return None
    x = draw(rng, shape)
    order = rng.permutation(shape[0])
    if np.array_equal(order, np.arange(shape[0])):
        return None
    f = [softmax, log_softmax, sigmoid, lambda x: x][rng.integers(4)]
    return Pair(f(x), f(x)[order], x)


def transposed(rng: Any, shape: Any) -> Pair | None:
    if rng.random() < 0.5:
        shape = (*shape[:-2], shape[-1], shape[-1]) if shape[-1] < 50 else shape
    x = draw(rng, shape)
    f = [softmax, log_softmax, sigmoid, lambda x: x][rng.integers(4)]
    if rng.random() < 0.3 and min(shape[-2:]) > 2:
        return Pair(f(x), f(np.swapaxes(x, -1, -2)))
    return Pair(f(x), np.swapaxes(f(x), -1, -2))


def half(dtype: Any) -> Any:
    def fault(rng: Any, shape: Any) -> Pair | None:
        x = draw(rng, shape)
        f = [softmax, softmax, log_softmax, sigmoid][rng.integers(4)]
        choice = rng.integers(3)
        if choice == 0:
            c = f(x).astype(dtype).astype(np.float32)
        elif choice == 1:
            c = f(x.astype(dtype).astype(np.float32)).astype(dtype).astype(np.float32)
        else:
            c = f(x).astype(dtype)
        return Pair(f(x), c, x)

    return fault


def bfloat16_type() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16


def epsilon_in_denominator(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    eps = np.float32(10.0 ** rng.integers(-5, -1))
    e = np.exp(x - x.max(-1, keepdims=True))
    choice = rng.integers(3)
    if choice == 0:
        c = e / (e.sum(-1, keepdims=True) + eps)
    elif choice == 1:
        c = softmax(x) / (softmax(x).sum(-1, keepdims=True) + eps)
    else:
        c = np.exp(x) / (np.exp(x).sum(-1, keepdims=True) + eps)
        if np.median(eps / np.exp(x).sum(-1)) < 1e-5:
            return None
    r = softmax(x)
    if rng.random() < 0.3:
        r, c = np.log(r), np.log(c)
    return Pair(r, c, x)


def epsilon_in_log(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape, 4.0)
    eps = np.float32(10.0 ** rng.integers(-7, -2))
    r = log_softmax(x)
    if (softmax(x) < eps).sum() < 3:
        return None
    clip = rng.random() < 0.3
    return Pair(r, np.log(np.maximum(softmax(x), eps)) if clip else np.log(softmax(x) + eps), x)


def underflow(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape, 40.0)
    with np.errstate(divide="ignore"):
        r, c = log_softmax(x), np.log(softmax(x))
        if rng.random() < 0.3:
            c = np.log(softmax(x).astype(np.float16).astype(np.float32))
    return Pair(r, c, x) if np.isinf(c).any() and not np.isinf(c).mean() > 0.9 else None


def dropout(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    p = float(rng.choice([0.1, 0.2, 0.3, 0.5]))
    keep = rng.random(shape) >= p
    f = [softmax, softmax, sigmoid, lambda x: x][rng.integers(4)]
    if (~keep).sum() < 2 or keep.sum() < 6:
        return None
    return Pair(f(x), (f(x) * keep / np.float32(1 - p)).astype(np.float32), x)


def mask(rng: Any, shape: Any, empty_rows: bool = False) -> Any:
    if len(shape) > 2 and shape[-1] == shape[-2] and rng.random() < 0.5:
        return np.broadcast_to(np.tril(np.ones(shape[-2:], bool)), shape)
    m = rng.random(shape) < 0.6
    m[..., 0] |= ~m.any(-1)
    if empty_rows:
        rows = m.reshape(-1, shape[-1])
        rows[rng.integers(len(rows))] = False
    return m


def masked_softmax(x: Any, m: Any, empty: Any = 0.0) -> Any:
    with np.errstate(invalid="ignore"):
        p = softmax(np.where(m, x, -np.inf))
    return np.where(m.any(-1, keepdims=True), p, empty).astype(np.float32)


def mask_missing(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    m = mask(rng, shape, rng.random() < 0.3)
    if m.all():
        return None
    r, c = masked_softmax(x, m), softmax(x)
    if rng.random() < 0.3:
        with np.errstate(divide="ignore"):
            r, c = np.log(r), np.log(c)
    return Pair(r, c, x if rng.random() < 0.5 else None)


def mask_inverted(rng: Any, shape: Any) -> Pair | None:
    if shape[-1] < 4:
        return None
    x = draw(rng, shape)
    m = mask(rng, shape, rng.random() < 0.3)
    if m.all():
        return None
    return Pair(masked_softmax(x, m), masked_softmax(x, ~m), x if rng.random() < 0.5 else None)


def masked_row_policy(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    m = mask(rng, shape, True)
    if not m.any():
        return None
    policies = [0.0, np.nan, 1.0 / shape[-1]]
    a, b = rng.choice(3, 2, replace=False)
    return Pair(masked_softmax(x, m, policies[a]), masked_softmax(x, m, policies[b]), x)


def missing_bias(rng: Any, shape: Any) -> Pair | None:
    if np.prod(shape[:-1]) < 4:
        return None
    x = draw(rng, shape)
    bias = draw(rng, shape[-1:], rng.choice([0.05, 0.5, 1.0]))
    f = [softmax, log_softmax, sigmoid, lambda x: x][rng.integers(4)]
    return Pair(f(x + bias), f(x), x)


def hard_argmax(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, shape)
    r = softmax(x)
    if rng.random() < 0.2:
        return Pair(r, r.argmax(-1))
    return Pair(r, (r == r.max(-1, keepdims=True)).astype(np.float32), x)


# --- attention: weights of (batch, heads, queries, keys), causal and padded ------------------------------------------

ATTENTION = ((2, 4, 12, 12), (3, 2, 8, 8), (1, 4, 16, 16), (4, 9, 9))
MASKED = (-np.inf, -np.inf, -1e9, np.finfo(np.float32).min)  # what frameworks fill in


class Attention:
    """Scores and the masks that go with them."""

    def __init__(self, rng: Any) -> None:
        self.rng = rng
        shape = ATTENTION[rng.integers(len(ATTENTION))]
        self.x = draw(rng, shape)
        self.n = n = shape[-1]
        self.causal = np.tril(np.ones((n, n), bool))
        self.everything = np.ones((n, n), bool)
        lengths = rng.integers(n // 2 + 1, n, shape[0])
        self.padding = np.arange(n) < lengths.reshape(-1, *(1,) * (len(shape) - 1))
        self.fill = MASKED[rng.integers(len(MASKED))]

    def weights(self, mask: Any, axis: int = -1) -> Any:
        """Softmax of the masked scores, as a framework does it."""
        with np.errstate(invalid="ignore"):
            return softmax(np.where(mask, self.x, np.float32(self.fill)), axis)

    def pair(self, right: Any, wrong: Any) -> Pair:
        r, c = self.weights(right), self.weights(wrong)
        if self.rng.random() < 0.2:
            r = np.where(np.isnan(r), 0, r)
        return Pair(r, c, self.x)


def causal_off_by_one(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    wrong = np.tril(one.everything, int(rng.choice([-1, 1])))
    pad = one.padding if rng.random() < 0.5 else True
    return one.pair(one.causal & pad, wrong & pad)


def causal_missing(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    return one.pair(one.causal & one.padding, one.everything & one.padding)


def padding_missing(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    pad = one.padding if rng.random() < 0.5 else one.padding[..., ::-1]
    return one.pair(one.causal & pad, one.causal)


def padding_side(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    causal = one.causal if rng.random() < 0.5 else one.everything
    sides = [one.padding, one.padding[..., ::-1]]
    if rng.random() < 0.5:
        sides.reverse()
    return one.pair(causal & sides[0], causal & sides[1])


def sliding_window(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    width, other = rng.choice(np.arange(2, one.n - 1), 2, replace=False)
    pad = one.padding if rng.random() < 0.5 else True
    windows = [one.causal & ~np.tril(one.everything, -int(w)) for w in (width, other)]
    if rng.random() < 0.3:
        both = np.abs(np.subtract.outer(np.arange(one.n), np.arange(one.n))) <= width
        return one.pair(one.everything & pad, both & pad)
    choice = rng.integers(3)
    if choice == 0:
        return one.pair(one.causal & pad, windows[0] & pad)
    return one.pair(windows[0] & pad, (one.causal if choice == 1 else windows[1]) & pad)


def mask_added_twice(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    mask = one.causal if rng.random() < 0.5 else one.everything & one.padding
    added = np.where(mask, np.float32(0), np.float32(rng.choice([-5.0, -8.0, -10.0])))
    return Pair(softmax(one.x + added), softmax(one.x + 2 * added), one.x)


def mask_fill(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    one.x /= np.float32(2)
    mask = one.causal if rng.random() < 0.5 else one.everything & one.padding
    fill = np.float32(-10)
    if rng.random() < 0.5:
        return Pair(one.weights(mask), softmax(np.where(mask, one.x, fill)), one.x)
    # Added to scores that lie far apart, it is hard to tell from no mask at all.
    c = softmax(one.x + np.where(mask, 0, fill))
    return Pair(one.weights(mask), c, one.x, gives=("mask-fill", "mask-missing"))


def padded_wrong_axis(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    mask = one.padding if rng.random() < 0.5 else one.causal & one.padding
    axis = -2 if one.x.ndim == 3 or rng.random() < 0.6 else 1
    if one.x.shape[axis] < 3:
        return None
    return Pair(one.weights(mask), one.weights(mask, axis), one.x)


def relative_bias(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    distance = np.subtract.outer(np.arange(one.n), np.arange(one.n))
    heads = one.x.shape[1] if one.x.ndim == 4 and one.x.shape[0] > 1 else 1
    table = draw(rng, (heads, 2 * one.n - 1), 1.0)
    bias = table[:, distance + one.n - 1]
    mask = one.padding if rng.random() < 0.5 else one.everything
    c = one.weights(mask)
    one.x = one.x + (bias if one.x.ndim == 4 else bias[0])
    r = one.weights(mask)
    return Pair(r, c) if rng.random() < 0.7 else Pair(c, r)


def extra_sink(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    mask = one.causal if rng.random() < 0.5 else one.everything
    sink = draw(rng, (one.x.shape[1], 1, 1), 1.0) if one.x.ndim == 4 else np.float32(0)
    one.x *= np.float32(0.5)
    with_sink = np.concatenate([np.where(mask, one.x, -np.inf), sink + 0 * one.x[..., :1]], -1)
    c = softmax(with_sink.astype(np.float32))[..., :-1]
    if np.median(c.sum(-1)) > 0.97:
        return None  # as small as an epsilon
    return Pair(one.weights(mask), c)


def missing_sink(rng: Any, shape: Any) -> Pair | None:
    pair = extra_sink(rng, shape)
    return Pair(pair.candidate, pair.reference) if pair else None


def softcap(rng: Any, shape: Any) -> Pair | None:
    one = Attention(rng)
    one.x *= np.float32(3)
    cap = np.float32(rng.choice([5.0, 10.0, 20.0, 50.0]))
    capped = cap * np.tanh(one.x / cap)
    choice = rng.integers(4)
    if choice < 2:
        pair = [one.x, capped]
        return Pair(*(pair if choice else pair[::-1]))
    pair = [softmax(one.x), softmax(capped)]
    return Pair(*(pair if choice == 2 else pair[::-1]), one.x, undecidable=True)


def scores_in(dtype: Any) -> Any:
    def fault(rng: Any, shape: Any) -> Pair | None:
        one = Attention(rng)
        mask = one.causal if rng.random() < 0.5 else one.everything
        r = one.weights(mask)
        one.x = one.x.astype(dtype).astype(np.float32)
        return Pair(r, one.weights(mask), most_noise=1e-6 if dtype is np.float16 else 1e-5)

    return fault


def rows_of_padding(rng: Any, shape: Any) -> Pair | None:
    """Rows without entries: the mean over all keys here, over the first i+1 there."""
    one = Attention(rng)
    pad = one.padding[..., ::-1]
    with np.errstate(invalid="ignore"):
        r = softmax(np.where(one.causal & pad, one.x, -np.inf))
    empty = np.isnan(r)
    n = one.n
    part = one.causal / np.arange(1, n + 1, dtype=np.float32)[:, None]
    policies = [np.full_like(r, 1 / n), part.astype(np.float32), np.float32(0), np.float32(np.nan)]
    a, b = rng.choice(2, 2, replace=False) if rng.random() < 0.5 else rng.choice(4, 2, replace=False)
    return Pair(*(np.where(empty, policies[i], r).astype(np.float32) for i in (a, b)))


# --- hidden activations of (batch, positions, channels), with what they were computed from ---------------------------

HIDDEN = ((2, 12, 64), (4, 9, 32), (3, 16, 48), (16, 64))


def hidden(rng: Any, scale: float = 1.0) -> Any:
    return draw(rng, HIDDEN[rng.integers(len(HIDDEN))], scale)


def after(rng: Any, before: dict[str, Any], r: Any, c: Any, always: bool = False, **kwargs: Any) -> Pair:
    """A pair, with or without what it was computed from."""
    r, c = r.astype(np.float32), c.astype(np.float32)
    return Pair(r, c, earlier=before if always or rng.random() < 0.6 else {}, **kwargs)


def erf(x: Any) -> Any:
    import math

    return np.vectorize(math.erf, otypes=[np.float32])(x)


GELUS = (
    lambda x: x * np.float32(0.5) * (1 + erf(x / np.float32(np.sqrt(2)))),
    lambda x: np.float32(0.5) * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3))),
    lambda x: x * sigmoid(np.float32(1.702) * x),
)
ACTIVATIONS = (
    GELUS[0],
    lambda x: np.maximum(x, 0),
    lambda x: x * sigmoid(x),
    np.tanh,
    lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
)


def gelu_approximation(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng)
    a, b = rng.choice(3, 2, replace=False)
    return after(rng, {"before": x}, GELUS[a](x), GELUS[b](x), most_noise=1e-6)


def wrong_activation(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng)
    a, b = rng.choice(len(ACTIVATIONS), 2, replace=False)
    return after(rng, {"before": x}, ACTIVATIONS[a](x), ACTIVATIONS[b](x), always=a > 2, most_noise=1e-5)


def layer_norm(x: Any, weight: Any = 1, bias: Any = 0, epsilon: float = 1e-5) -> Any:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(epsilon)) * weight + bias


def rms_norm(x: Any, weight: Any = 1, bias: Any = 0, epsilon: float = 1e-5) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(epsilon)) * weight


def norm_of(rng: Any, n: int) -> tuple[Any, Any, Any]:
    weight = 1 + draw(rng, (n,), 0.2)
    return (layer_norm if rng.random() < 0.6 else rms_norm), weight, draw(rng, (n,), 0.2)


def norm_epsilon(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng, float(rng.choice([0.05, 0.2, 1.0])))
    x *= np.exp(draw(rng, (*x.shape[:-1], 1), 0.3))
    norm, weight, bias = norm_of(rng, x.shape[-1])
    a, b = rng.choice([1e-12, 1e-6, 1e-5, 1e-3], 2, replace=False)
    r, c = norm(x, weight, bias, a), norm(x, weight, bias, b)
    if np.sqrt(np.mean((c - r) ** 2)) < 1e-5:
        return None  # as small as rounding
    return after(rng, {"before": x}, r, c, most_noise=0.0)


def norm_weight_missing(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng)
    norm, weight, bias = norm_of(rng, x.shape[-1])
    wrong = bias if rng.random() < 0.6 else 0
    return after(rng, {"before": x}, norm(x, weight, bias), norm(x, 1, wrong), most_noise=1e-5)


def norm_placement(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng)
    x *= np.exp(draw(rng, (*x.shape[:-1], 1), 0.5))
    norm, weight, bias = norm_of(rng, x.shape[-1])
    y = norm(x, weight, bias)
    return Pair(x, y, most_noise=1e-5) if rng.random() < 0.5 else Pair(y, x, most_noise=1e-5)


def missing_residual(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng)
    y = draw(rng, x.shape, 1.0)
    before = {"h.0": x, "h.0.dense": y}
    choice = rng.integers(3)
    if choice < 2:
        return after(rng, before, x + y, y if choice else x + x + y, always=True)
    norm, weight, bias = norm_of(rng, x.shape[-1])
    return after(rng, before, norm(x + y, weight, bias), norm(y, weight, bias), always=True, most_noise=1e-5)


def weight_transposed(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, (8, 16, 32), 1.0)
    weight, bias = draw(rng, (32, 32), 0.2), draw(rng, (32,), 0.2)
    return after(rng, {"before": x}, x @ weight + bias, x @ weight.T + bias, always=True, most_noise=1e-5)


def embedding_scale(rng: Any, shape: Any) -> Pair | None:
    x = hidden(rng, 0.1)
    if x.ndim < 3:
        return None
    root = np.float32(np.sqrt(x.shape[-1]))
    pair = (x, x * root) if rng.random() < 0.5 else (x * root, x)
    return after(rng, {"words": x}, *pair)


def position_offset(rng: Any, shape: Any) -> Pair | None:
    words = hidden(rng)
    if words.ndim < 3:
        return None
    table, offset = draw(rng, (words.shape[1] + 2, words.shape[2]), 0.5), int(rng.integers(1, 3))
    right, wrong = table[: words.shape[1]], table[offset : offset + words.shape[1]]
    if rng.random() < 0.5:
        right, wrong = wrong, right
    if rng.random() < 0.5:
        return Pair(right, wrong, most_noise=1e-5)
    return after(rng, {"words": words}, words + right, words + wrong, always=True, most_noise=1e-5)


def layout(rng: Any, shape: Any) -> Pair | None:
    x = draw(rng, (2, 5, 8, 8) if rng.random() < 0.5 else (3, 4, 6, 7))
    return Pair(x, np.moveaxis(x, 1, -1)) if rng.random() < 0.5 else Pair(x, np.moveaxis(x, -1, 1))


def flatten_order(rng: Any, shape: Any) -> Pair | None:
    image = draw(rng, (8, 4, 3, 5), 1.0)
    last = np.moveaxis(image, 1, -1)
    pair = (image, last) if rng.random() < 0.5 else (last, image)
    return after(rng, {"pool": pair[0]}, *(one.reshape(8, -1) for one in pair), always=True)


def head_layout(rng: Any, shape: Any) -> Pair | None:
    b, t, h, d = 2, 6, 4, 8
    flat = draw(rng, (b, t, h * d), 1.0)
    heads = flat.reshape(b, t, h, d).transpose(0, 2, 1, 3)
    wrong = flat.reshape(b, t, d, h).transpose(0, 3, 1, 2)
    choice = rng.integers(4)
    if choice == 0:
        return Pair(heads, wrong)
    if choice == 1:
        return Pair(heads.transpose(0, 2, 1, 3).reshape(flat.shape), wrong.transpose(0, 2, 1, 3).reshape(flat.shape))
    if choice == 2:  # merged without moving the heads back
        return Pair(flat, heads.reshape(flat.shape))
    other = draw(rng, flat.shape, 1.0)
    wrong_other = other.reshape(b, t, d, h).transpose(0, 3, 1, 2)
    other_heads = other.reshape(b, t, h, d).transpose(0, 2, 1, 3)
    scale = np.float32(1 / np.sqrt(d))
    r = softmax(heads @ other_heads.swapaxes(-1, -2) * scale)
    c = softmax(wrong @ wrong_other.swapaxes(-1, -2) * scale)
    return after(rng, {"query": flat, "key": other}, r, c, always=True, most_noise=1e-5)


FAULTS: dict[str, Any] = {
    "wrong-axis": wrong_axis,
    "all-axes": all_axes,
    "flattened-axes": flattened_axes,
    "double-softmax": double_softmax,
    "double-sigmoid": double_sigmoid,
    "log-of-reference": log_of_reference,
    "exp-of-reference": exp_of_reference,
    "missing-softmax": missing_softmax,
    "missing-log": missing_log,
    "sigmoid-for-softmax": sigmoid_for_softmax,
    "binary-sigmoid": binary_sigmoid,
    "one-class-softmax": one_class_softmax,
    "scaled-logits": scaled_logits,
    "base-2-exponential": base_2,
    "negated-logits": negated,
    "class-permutation": class_permutation,
    "batch-permutation": batch_permutation,
    "transposed": transposed,
    "float16-rounding": half(np.float16),
    "bfloat16-rounding": half(bfloat16_type()),
    "epsilon-in-denominator": epsilon_in_denominator,
    "epsilon-in-log": epsilon_in_log,
    "underflow-to-log-zero": underflow,
    "dropout-active": dropout,
    "mask-missing": mask_missing,
    "mask-inverted": mask_inverted,
    "masked-row-policy": masked_row_policy,
    "missing-bias": missing_bias,
    "hard-argmax": hard_argmax,
    "causal-off-by-one": causal_off_by_one,
    "causal-missing": causal_missing,
    "padding-missing": padding_missing,
    "padding-side": padding_side,
    "sliding-window": sliding_window,
    "mask-added-twice": mask_added_twice,
    "mask-fill": mask_fill,
    "relative-bias": relative_bias,
    "extra-sink": extra_sink,
    "missing-sink": missing_sink,
    "softcap": softcap,
    "wrong-axis (padded)": padded_wrong_axis,
    "masked-row-policy (padded)": rows_of_padding,
    "float16-rounding (scores)": scores_in(np.float16),
    "bfloat16-rounding (scores)": scores_in(bfloat16_type()),
    "gelu-approximation": gelu_approximation,
    "wrong-activation": wrong_activation,
    "norm-epsilon": norm_epsilon,
    "norm-weight-missing": norm_weight_missing,
    "norm-placement": norm_placement,
    "missing-residual": missing_residual,
    "weight-transposed": weight_transposed,
    "embedding-scale": embedding_scale,
    "position-offset": position_offset,
    "layout": layout,
    "flatten-order": flatten_order,
    "head-layout": head_layout,
}

# Faults that act on logits, so that a second one can follow the first.
ON_LOGITS: dict[str, Any] = {
    "scaled-logits": lambda rng, x: x * np.float32(rng.choice([0.5, 2.0, 0.7])),
    "base-2-exponential": lambda rng, x: x * np.float32(np.log(2)),
    "negated-logits": lambda rng, x: -x,
    "missing-bias": lambda rng, x: x - draw(rng, x.shape[-1:], 0.7),
    "class-permutation": lambda rng, x: x[..., shuffled(rng, x.shape[-1])],
    "batch-permutation": lambda rng, x: x[shuffled(rng, x.shape[0])],
}
ON_PROBABILITIES: dict[str, Any] = {
    "wrong-axis": lambda rng, x: softmax(x, 0),
    "all-axes": lambda rng, x: softmax(x, tuple(range(x.ndim))),
    "double-softmax": lambda rng, x: softmax(softmax(x)),
    "sigmoid-for-softmax": lambda rng, x: sigmoid(x),
    "missing-softmax": lambda rng, x: x,
    "log-of-reference": lambda rng, x: log_softmax(x),
    "float16-rounding": lambda rng, x: softmax(x).astype(np.float16).astype(np.float32),
    "dropout-active": lambda rng, x: softmax(x) * (rng.random(x.shape) > 0.3) / np.float32(0.7),
    "hard-argmax": lambda rng, x: (x == x.max(-1, keepdims=True)).astype(np.float32),
}
# The second fault has no effect, or the two together are one that is known by name.
HARMLESS = {("missing-bias", "wrong-axis")}


def two_faults(rng: Any, shape: Any) -> tuple[Pair, set[str]]:
    first, second = rng.choice(list(ON_LOGITS)), rng.choice(list(ON_PROBABILITIES))
    x = draw(rng, shape)
    changed = ON_LOGITS[first](rng, x)
    return Pair(softmax(x), ON_PROBABILITIES[second](rng, changed), x), {str(first), str(second)}


def unrelated(rng: Any, shape: Any) -> Pair:
    f, g = ([softmax, log_softmax, sigmoid, lambda x: x][i] for i in rng.integers(4, size=2))
    g = f if rng.random() < 0.7 else g
    return Pair(f(draw(rng, shape)), g(draw(rng, shape)))


def correct(rng: Any, shape: Any) -> Pair:
    """The same in another order of operations, or in float64: honest noise."""
    x = draw(rng, shape, rng.choice([1.0, 4.0, 20.0]))
    exact = x.astype(np.float64)
    choice = rng.integers(5)
    if choice == 0:
        return Pair(softmax(x), softmax(exact).astype(np.float32), x)
    if choice == 1:
        return Pair(softmax(x), np.exp(log_softmax(x)), x)
    if choice == 2:
        return Pair(log_softmax(x), log_softmax(exact).astype(np.float32), x)
    if choice == 3:
        return Pair(sigmoid(x), (1 / (1 + np.exp(-exact))).astype(np.float32), x)
    hidden = draw(rng, (*shape[:-1], 64), 1.0)
    weight = draw(rng, (64, shape[-1]), rng.choice([0.1, 0.5]))
    one = hidden @ weight
    other = (hidden[..., ::-1] @ weight[::-1]).astype(np.float32)
    return Pair(softmax(one), softmax(other)) if rng.random() < 0.5 else Pair(one, other)


def noisy(rng: Any, candidate: Any, noise: float) -> Any:
    if not noise or candidate.dtype.kind != "f" or candidate.dtype.itemsize == 2:
        return candidate
    return (candidate * (1 + noise * rng.standard_normal(candidate.shape))).astype(candidate.dtype)


def drowned(pair: Pair, noise: float) -> bool:
    """Whether the fault is smaller than the noise on top of it, or than what correct float32 ports differ by."""
    if pair.reference.shape != pair.candidate.shape:
        return False
    r, c = pair.reference.astype(np.float64), pair.candidate.astype(np.float64)
    with np.errstate(all="ignore"):
        errors = np.abs(c - r) / np.abs(r)
    return bool(np.median(np.where(np.isfinite(errors), errors, 1.0)) < max(noise, 3e-6))


def shuffled(rng: Any, n: int) -> Any:
    """A permutation that is not the identity."""
    while n > 1:
        order = rng.permutation(n)
        if not np.array_equal(order, np.arange(n)):
            return order
    return np.arange(n)


LAST: list[str] = []  # what the last verdict said


# --- figures ---------------------------------------------------------------------------------------------------------


def verdict(pair: Pair, with_logits: bool) -> tuple[bool, str | None]:
    from polylogit.porting._compare import compare

    before = {"x": pair.logits} if with_logits and pair.logits is not None else {}
    before |= pair.earlier
    if before:
        result = compare({**before, "y": pair.reference}, {**before, "y": pair.candidate})
    else:
        result = compare(pair.reference, pair.candidate)
    if result.cause:
        LAST[:] = [result.cause.explanation, *(f"{name} {level:.2g}" for name, level in result.cause.evidence)]
    return result.agrees, result.cause.name if result.cause else None


def run(pairs: int, seed: int, only: str | None = None, verbose: bool = False) -> dict[str, Any]:
    """Counts over all faults, shapes and noise levels."""
    counts: collections.Counter[str] = collections.Counter()
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    failures = []
    for name, make in FAULTS.items():
        if only and only not in (name, name.split()[0]):
            continue
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        made = tries = 0
        while made < pairs and tries < 50 * pairs:
            tries += 1
            shape = SHAPES[rng.integers(len(SHAPES))]
            pair = make(rng, shape)
            if pair is None:
                continue
            noise = min(float(rng.choice(NOISES)), pair.most_noise)
            if name == "epsilon-in-denominator" and drowned(pair, noise):
                continue
            pair.candidate = noisy(rng, pair.candidate, noise)
            with_logits = pair.undecidable or bool(rng.random() < 0.4)
            agrees, got = verdict(pair, with_logits)
            made += 1
            right = got in (pair.gives or (name.split()[0],))
            outcome = "right" if right else "passed" if agrees else "unknown" if got == "unknown" else "wrong"
            table[name][outcome] += 1
            counts[outcome] += 1
            if not right:
                failures.append((name, got, shape, noise, with_logits, *LAST))
    if only is None:
        _others(pairs, seed, counts, failures)
    return {"counts": counts, "table": table, "failures": failures}


def _others(pairs: int, seed: int, counts: Any, failures: Any) -> None:
    rng = np.random.default_rng([seed, 1])
    for _ in range(8 * pairs):
        shape = SHAPES[rng.integers(len(SHAPES))]
        pair, names = two_faults(rng, shape)
        pair.candidate = noisy(rng, pair.candidate, float(rng.choice(NOISES)))
        agrees, got = verdict(pair, bool(rng.random() < 0.4))
        outcome = "passed" if agrees else "unknown" if got == "unknown" else "one of two" if got in names else "WRONG"
        counts[f"two faults: {outcome}"] += 1
        if outcome != "unknown":
            failures.append((f"two faults {sorted(names)}", got, shape, *LAST))
        shape = SHAPES[rng.integers(len(SHAPES))]
        pair = unrelated(rng, shape)
        agrees, got = verdict(pair, False)
        outcome = "passed" if agrees else "unknown" if got == "unknown" else "WRONG"
        counts[f"unrelated: {outcome}"] += 1
        if outcome != "unknown":
            failures.append(("unrelated", got, shape, *LAST))
        pair = correct(rng, shape)
        noise = float(rng.choice([0.0, 0.0, 1e-7, 1e-6]))
        pair.candidate = noisy(rng, pair.candidate, noise)
        agrees, got = verdict(pair, bool(rng.random() < 0.4))
        counts["correct: agrees" if agrees else "correct: ACCUSED"] += 1
        if not agrees:
            failures.append(("correct", got, shape, noise))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    found = run(arguments.pairs, arguments.seed, arguments.only)
    for name, row in found["table"].items():
        print(f"{name:26s}", dict(row))
    for failure in found["failures"]:
        print("  ", *failure)
    print(dict(found["counts"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
