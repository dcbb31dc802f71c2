"""How far a right implementation may be from the exact value: the bounds of the accuracy page, in one place.

Each takes the exact state of the rows and the format of the result, and returns absolute errors. The terms are the
roundings of subtraction (grows with the distance d from the maximum), exponential, sum (S(n), see `additions`) and
division, with a factor of two to four of room for implementations that are right in another way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.conformance.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit.conformance.formats import Array, Format
    from polylogit.conformance.reference import Points, Rows

__all__ = [
    "additions",
    "allowed",
    "any_order",
    "flushable",
    "gradient_flushable",
    "log_softmax",
    "log_softmax_jvp",
    "log_softmax_second",
    "log_softmax_vjp",
    "row_sum",
    "sigmoid",
    "sigmoid_first",
    "sigmoid_second",
    "softmax",
    "softmax_first",
    "softmax_second",
    "through_maximum",
]

_SIGMOID_ULPS = 8.0
_FLUSHED_GRADIENTS = 16.0

# Additions in a row, as XLA's sums have them on each level: what a sum may do and be right.
CHAIN = 32


def additions(n: int) -> float:
    """S(n): by how many roundings, each of half an eps, the sum of `n` positive terms may be off.

    A chain of k terms rounds k - 1 times, and a row in which a large term comes first and small ones follow shows all
    of them. Right is a sum in order of up to 32 terms, and one made of such sums on as many levels as it takes;
    pairwise sums need less, and ``2 log2 n`` is room for theirs.
    """
    levels = max(1, int(np.ceil(np.log(max(n, 2)) / np.log(CHAIN) - 1e-9)))
    return max(2.0 * float(np.log2(max(n, 1))), float(min(n - 1, (CHAIN - 1) * levels)))


def flushable(fmt: Format) -> float:
    """Values below this may come out as 0."""
    return fmt.flushed * fmt.tiny


def gradient_flushable(fmt: Format) -> float:
    """Gradients below this may come out as 0."""
    return _FLUSHED_GRADIENTS * fmt.tiny if fmt.flushed else 0.0


def allowed(bound: Callable[..., Array], state: Rows | Points, exact: Array, fmt: Format, *directions: Array) -> Array:
    """One of the bounds below; for a storage format, that of the format it is computed in and one rounding."""
    if not fmt.through:
        return bound(state, fmt, *directions)
    computed = bound(state, FORMATS[fmt.through], *directions)
    return np.where(computed == 0, 0.0, computed + 0.5 * fmt.ulp(exact))


def any_order(state: Rows | Points, fmt: Format) -> float:
    """By what factor a bound grows where the terms of a sum may be added in any order, one by one at the worst.

    A search finds the rows in which every addition rounds the same way, up to ``eps (n - 1) / 2`` in float32 at least;
    the bounds themselves leave room for `additions`.
    """
    n = max(state.length, 1)
    return float(1.0 + (n - 1) * min(1.0, 2.0**-23 / fmt.eps) / (4.0 + additions(n)))


def _distance(state: Rows | Points, fmt: Format) -> Array:
    """The distance from the maximum, up to where every probability has underflowed."""
    limit = -np.log(fmt.smallest) + np.log(max(state.length, 1)) + 2.0
    return np.asarray(np.minimum(np.where(np.isnan(state.distance), 0.0, state.distance), limit))


def _units(state: Rows, fmt: Format) -> Array:
    """The error of a probability in units of eps: 4 + 2 d + S(n)."""
    return np.asarray(4.0 + 2.0 * _distance(state, fmt) + additions(state.length))


def softmax(state: Rows, fmt: Format) -> Array:
    """``(4 + 2 d + S(n))`` ulp; exact where a row has one entry."""
    if state.length == 1:
        return np.zeros_like(state.x)
    return _units(state, fmt) * fmt.ulp(state.probabilities.hi)


def row_sum(state: Rows, fmt: Format) -> Array:
    """The sum of a row of probabilities: the average bound, without the roundings that average out."""
    spread = state.mean_size(_distance(state, fmt))
    y = state.probabilities.hi
    lost = np.where(y < flushable(fmt), y, 0.0).sum(-1, keepdims=True)
    coarse = np.count_nonzero(y < fmt.tiny, axis=-1, keepdims=True) * fmt.smallest
    n = max(state.length, 1)
    return np.asarray(fmt.eps * (4.0 + max(2.0 * np.log2(n), additions(n) / 2.0) + spread) + np.maximum(lost, coarse))


def log_softmax(state: Rows, fmt: Format) -> Array:
    """``eps (1 + |r|) (2 + S(n) / 2)``; exact where a row has one entry."""
    if state.length == 1:
        return np.zeros_like(state.x)
    size = np.abs(state.log_probabilities.hi)
    return np.asarray(fmt.eps * (1.0 + size) * (2.0 + additions(state.length) / 2.0))


def sigmoid(state: Points, fmt: Format) -> Array:
    """8 ulp."""
    return _SIGMOID_ULPS * fmt.ulp(state.probabilities.hi)


def _lost(state: Rows | Points, fmt: Format) -> Array:
    """The probabilities that may have been flushed to 0 before a gradient was made of them."""
    y = state.probabilities.hi
    return np.where(y < flushable(fmt), 2.0 * y, 0.0)


def _lost_sum(state: Rows, fmt: Format, weight: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray((_lost(state, fmt) * np.abs(weight)).sum(-1, keepdims=True))


def softmax_first(state: Rows, fmt: Format, g: Array) -> Array:
    """``eps y_i (|g_i| + sum |g| y) (4 + 2 d + S(n))``, d of both entries in the sum."""
    units = _units(state, fmt)
    size = np.abs(g)
    y = state.probabilities.hi
    mean = state.mean_size(g)
    weighted = state.mean_size(g, 2.0 * _distance(state, fmt))
    slack = _lost(state, fmt) * (size + mean) + y * _lost_sum(state, fmt, g) + flushable(fmt)
    return np.asarray(fmt.eps * y * ((size + mean) * units + weighted) + slack)


def log_softmax_vjp(state: Rows, fmt: Format, g: Array) -> Array:
    """``eps (2 |g_i| + y_i sum |g| (4 + 2 d + S(n)))``."""
    size = np.abs(g)
    whole = size.sum(-1, keepdims=True)
    y = state.probabilities.hi
    slack = _lost(state, fmt) * whole + flushable(fmt)
    return np.asarray(fmt.eps * (2.0 * size + y * whole * _units(state, fmt)) + slack)


def log_softmax_jvp(state: Rows, fmt: Format, t: Array) -> Array:
    """``eps (2 |t_i| + sum_j y_j |t_j| (4 + 2 d_j + S(n)))``."""
    weighted = state.mean_size(t, _units(state, fmt))
    return np.asarray(fmt.eps * (2.0 * np.abs(t) + weighted) + _lost_sum(state, fmt, t) + flushable(fmt))


def through_maximum(state: Rows, fmt: Format, bound: Array, directions: Sequence[Array]) -> Array:
    """What differentiating ``x - max(x)`` step by step adds to a bound of a derivative.

    Backwards, the maximum receives the sum of all gradients of its row, which is 0 but for their roundings; forwards,
    its own tangent is subtracted from every other. Both cancel, and leave errors of the size of what cancelled.
    """
    highest = state.distance == 0
    roundings = 4.0 + additions(state.length)
    backwards = np.where(highest, 4.0 * bound.sum(-1, keepdims=True) / roundings, 0.0)
    size = np.ones_like(state.x)
    for direction in directions:
        size = size * np.where(highest, np.abs(direction), 0.0).max(-1, keepdims=True)
    return np.asarray(backwards + 4.0 * fmt.eps * state.probabilities.hi * size)


def softmax_second(state: Rows, fmt: Format, g: Array, h: Array) -> Array:
    """As the first derivative, each factor with its own error."""
    weight = 2.0 * _distance(state, fmt)
    units = _units(state, fmt)
    sizes = [np.abs(one) + state.mean_size(one) for one in (g, h)]
    drift = [state.mean_size(one, weight) for one in (g, h)]
    product = sizes[0] * sizes[1]
    mixed = sizes[0] * drift[1] + sizes[1] * drift[0]
    mean = state.mean_size(product)
    inner = (product + mean) * units * 2.0 + mixed + state.mean_size(mixed) + state.mean_size(product, weight)
    y = state.probabilities.hi
    slack = 2.0 * (_lost(state, fmt) * (product + mean) + y * _lost_sum(state, fmt, product)) + flushable(fmt)
    return np.asarray(fmt.eps * y * inner + slack)


def log_softmax_second(state: Rows, fmt: Format, g: Array, h: Array) -> Array:
    """The bound of softmax's first derivative times the sum of the cotangent, whose sum has an error too."""
    whole = np.abs(g).sum(-1, keepdims=True)
    return np.asarray(2.0 * whole * softmax_first(state, fmt, h) + flushable(fmt))


def _slack(state: Points, fmt: Format, scale: Array) -> Array:
    y = state.slopes.hi
    return np.asarray(np.where(y < flushable(fmt), 2.0 * y, 0.0) * scale + flushable(fmt))


def sigmoid_first(state: Points, fmt: Format, g: Array) -> Array:
    """8 ulp where x is at most 0; above, ``eps |g|`` too, since 1 - y cancels."""
    near = _SIGMOID_ULPS * np.abs(fmt.ulp(state.slopes.hi * g))
    return np.asarray(
        np.where(state.x > 0, np.maximum(near, fmt.eps * np.abs(g)), near) + _slack(state, fmt, np.abs(g))
    )


def sigmoid_second(state: Points, fmt: Format, g: Array, h: Array) -> Array:
    """Relative to the slope, since 1 - 2 y cancels at 0."""
    scale = np.abs(g * h)
    near = 4.0 * _SIGMOID_ULPS * fmt.eps * state.slopes.hi * scale
    return np.asarray(np.where(state.x > 0, near + 4.0 * fmt.eps * scale, near) + _slack(state, fmt, scale))
