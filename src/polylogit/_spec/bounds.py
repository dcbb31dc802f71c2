"""The bounds of the accuracy page: how far a right implementation may be from the exact value.

Each function takes exact quantities of the rows and the dtype of the result, and returns absolute errors. The terms are
the roundings of the subtraction (which grow with the distance d from the maximum), the exponential, the sum (S(n), see
`additions`) and the division, with a factor of two to four for other right algorithms. Knows no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit._spec.dtypes import Array, Finfo
    from polylogit._spec.exact import Elements, Rows

__all__ = [
    "additions",
    "allowed",
    "flushable",
    "gradient_flushable",
    "log_softmax",
    "log_softmax_jvp",
    "log_softmax_second",
    "log_softmax_vjp",
    "rounded_once",
    "row_sum",
    "sigmoid",
    "sigmoid_first",
    "sigmoid_second",
    "softmax",
    "softmax_first",
    "softmax_second",
    "through_maximum",
]

_FLUSHED_GRADIENTS = 16.0

# Additions in a row, as XLA's sums have them on each level: what a sum may do and be right.
CHAIN = 32


def additions(n: int, dtype: Finfo | None = None) -> float:
    """S(n): the error of the sum of `n` positive terms, in roundings of half an eps each.

    A chain of k terms rounds k - 1 times, and a row with a large term first and small ones after it shows all of these
    roundings. A right sum adds up to 32 terms in order, then such sums in the same way, on as many levels as necessary;
    pairwise sums need less, for which ``2 log2 n`` suffices. If the dtype declares a number of terms for sums in any
    order, that many may be added one by one, in at least float32.
    """
    levels = int(np.ceil(np.log(max(n, 1)) / np.log(CHAIN) - 1e-9))
    roundings = max(2.0 * float(np.log2(max(n, 1))), float(min(n - 1, (CHAIN - 1) * levels)))
    if dtype is not None and n <= dtype.in_order:
        return max(roundings, (n - 1) * min(1.0, DTYPES["float32"].eps / dtype.eps))
    return roundings


def flushable(dtype: Finfo) -> float:
    """Values below this may be flushed to 0."""
    return dtype.flushed * dtype.smallest_normal


def gradient_flushable(dtype: Finfo) -> float:
    """Gradients below this may be flushed to 0."""
    return _FLUSHED_GRADIENTS * dtype.smallest_normal if dtype.flushed else 0.0


def allowed(
    bound: Callable[..., Array], exact: Rows | Elements, value: Array, dtype: Finfo, *directions: Array
) -> Array:
    """A bound below; for a storage dtype, the bound of the dtype to compute in plus one rounding."""
    if not dtype.computed_in:
        return bound(exact, dtype, *directions)
    return _rounded(bound, exact, value, DTYPES[dtype.computed_in], dtype, *directions)


def rounded_once(
    bound: Callable[..., Array], exact: Rows | Elements, value: Array, dtype: Finfo, *directions: Array
) -> Array:
    """The bound for computing in the wider dtype that the contract requires, with a single rounding at the end."""
    return _rounded(bound, exact, value, dtype.wide, dtype, *directions)


def _rounded(
    bound: Callable[..., Array], exact: Rows | Elements, value: Array, wide: Finfo, dtype: Finfo, *directions: Array
) -> Array:
    computed = bound(exact, wide, *directions)
    return np.where(computed == 0, 0.0, computed + 0.5 * dtype.ulp(value))


def _distance(exact: Rows | Elements, dtype: Finfo) -> Array:
    """The distance from the maximum, up to where every probability has underflowed."""
    limit = -np.log(dtype.smallest_subnormal) + np.log(exact.length) + 2.0
    return np.asarray(np.minimum(np.where(np.isnan(exact.distance), 0.0, exact.distance), limit))


def _units(exact: Rows, dtype: Finfo) -> Array:
    """The error of a probability in units of eps: 4 + 2 d + S(n)."""
    return np.asarray(4.0 + 2.0 * _distance(exact, dtype) + additions(exact.length, dtype))


def softmax(exact: Rows, dtype: Finfo) -> Array:
    """``(4 + 2 d + S(n))`` ulp; exact if a row has one entry."""
    if exact.length == 1:
        return np.zeros_like(exact.x)
    return _units(exact, dtype) * dtype.ulp(exact.probabilities.hi)


def row_sum(exact: Rows, dtype: Finfo) -> Array:
    """The bound on the sum of a row of probabilities: an average, without the roundings that average out."""
    spread = exact.mean_size(_distance(exact, dtype))
    y = exact.probabilities.hi
    lost = np.where(y < flushable(dtype), y, 0.0).sum(-1, keepdims=True)
    coarse = np.count_nonzero(y < dtype.smallest_normal, axis=-1, keepdims=True) * dtype.smallest_subnormal
    n = exact.length
    return np.asarray(
        dtype.eps * (4.0 + max(2.0 * np.log2(n), additions(n, dtype) / 2.0) + spread) + np.maximum(lost, coarse)
    )


def log_softmax(exact: Rows, dtype: Finfo) -> Array:
    """``eps (1 + |r|) (2 + S(n) / 2)``; exact if a row has one entry."""
    if exact.length == 1:
        return np.zeros_like(exact.x)
    size = np.abs(exact.log_probabilities.hi)
    return np.asarray(dtype.eps * (1.0 + size) * (2.0 + additions(exact.length, dtype) / 2.0))


def sigmoid(exact: Elements, dtype: Finfo) -> Array:
    """``(8 + 2 d)`` ulp, where d is the distance of a negative logit from 0, the other logit of a softmax of two."""
    return _elements(exact, dtype) * dtype.ulp(exact.probabilities.hi)


def _elements(exact: Elements, dtype: Finfo) -> Array:
    """The error of a sigmoid in ulp: 4 more than for a softmax of two entries."""
    return 8.0 + 2.0 * _distance(exact, dtype)


def _lost(exact: Rows | Elements, dtype: Finfo) -> Array:
    """The probabilities that may have been flushed to 0 before a gradient was computed from them."""
    y = exact.probabilities.hi
    return np.where(y < flushable(dtype), 2.0 * y, 0.0)


def _lost_sum(exact: Rows, dtype: Finfo, weight: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray((_lost(exact, dtype) * np.abs(weight)).sum(-1, keepdims=True))


def softmax_first(exact: Rows, dtype: Finfo, g: Array) -> Array:
    """``eps y_i (|g_i| + sum |g| y) (4 + 2 d + S(n))``, d of both entries in the sum."""
    units = _units(exact, dtype)
    size = np.abs(g)
    y = exact.probabilities.hi
    mean = exact.mean_size(g)
    weighted = exact.mean_size(g, 2.0 * _distance(exact, dtype))
    slack = _lost(exact, dtype) * (size + mean) + y * _lost_sum(exact, dtype, g) + flushable(dtype)
    return np.asarray(dtype.eps * y * ((size + mean) * units + weighted) + slack)


def log_softmax_vjp(exact: Rows, dtype: Finfo, g: Array) -> Array:
    """``eps (2 |g_i| + y_i sum |g| (4 + 2 d + S(n)))``.

    For 16-bit dtypes, eps is that of float32, in which y is subtracted. In addition, both the result and the
    log-probabilities it is computed from may be rounded to 16 bits, with an error relative to 1 - y if y is near 1:
    ``eps (2 |value_i| + min(y_i, 1 - y_i) sum |g| (4 + 2 d + S(n)))``.
    """
    size = np.abs(g)
    whole = size.sum(-1, keepdims=True)
    y, wide = exact.probabilities.hi, dtype.wide
    slack = _lost(exact, dtype) * whole + flushable(dtype)
    bound = wide.eps * (2.0 * size + y * whole * _units(exact, wide)) + slack
    if wide.precision > dtype.precision:
        value = np.abs(g - y * g.sum(-1, keepdims=True))
        bound = bound + dtype.eps * (2.0 * value + np.minimum(y, 1.0 - y) * whole * _units(exact, dtype))
    return np.asarray(bound)


def log_softmax_jvp(exact: Rows, dtype: Finfo, t: Array) -> Array:
    """``eps (2 |t_i| + sum_j y_j |t_j| (4 + 2 d_j + S(n)))``."""
    weighted = exact.mean_size(t, _units(exact, dtype))
    return np.asarray(dtype.eps * (2.0 * np.abs(t) + weighted) + _lost_sum(exact, dtype, t) + flushable(dtype))


def through_maximum(exact: Rows, dtype: Finfo, bound: Array, directions: Sequence[Array]) -> Array:
    """The increase of a derivative's bound if ``x - max(x)`` is differentiated step by step.

    In reverse mode, the maximum receives the sum of all gradients of its row, which is 0 up to rounding; in forward
    mode, its tangent is subtracted from all others. Both cancel, and leave errors of the size of the cancelled terms.
    """
    highest = exact.distance == 0
    roundings = 4.0 + additions(exact.length, dtype)
    backwards = np.where(highest, 4.0 * bound.sum(-1, keepdims=True) / roundings, 0.0)
    size = np.ones_like(exact.x)
    for direction in directions:
        size = size * np.where(highest, np.abs(direction), 0.0).max(-1, keepdims=True)
    return np.asarray(backwards + 4.0 * dtype.eps * exact.probabilities.hi * size)


def softmax_second(exact: Rows, dtype: Finfo, g: Array, h: Array) -> Array:
    """Like the first derivative, with the error of each factor."""
    weight = 2.0 * _distance(exact, dtype)
    units = _units(exact, dtype)
    sizes = [np.abs(one) + exact.mean_size(one) for one in (g, h)]
    drift = [exact.mean_size(one, weight) for one in (g, h)]
    product = sizes[0] * sizes[1]
    mixed = sizes[0] * drift[1] + sizes[1] * drift[0]
    mean = exact.mean_size(product)
    inner = (product + mean) * units * 2.0 + mixed + exact.mean_size(mixed) + exact.mean_size(product, weight)
    y = exact.probabilities.hi
    slack = 2.0 * (_lost(exact, dtype) * (product + mean) + y * _lost_sum(exact, dtype, product)) + flushable(dtype)
    return np.asarray(dtype.eps * y * inner + slack)


def log_softmax_second(exact: Rows, dtype: Finfo, g: Array, h: Array) -> Array:
    """The bound of softmax's first derivative times the sum of the cotangent, plus the error of that sum."""
    whole = np.abs(g).sum(-1, keepdims=True)
    return np.asarray(2.0 * whole * softmax_first(exact, dtype, h) + flushable(dtype))


def _slack(exact: Elements, dtype: Finfo, scale: Array) -> Array:
    y = exact.slopes.hi
    return np.asarray(np.where(y < flushable(dtype), 2.0 * y, 0.0) * scale + flushable(dtype))


def sigmoid_first(exact: Elements, dtype: Finfo, g: Array) -> Array:
    """``(8 + 2 d)`` ulp if x is at most 0; above, plus ``eps |g|``, because 1 - y cancels."""
    near = _elements(exact, dtype) * np.abs(dtype.ulp(exact.slopes.hi * g))
    return np.asarray(
        np.where(exact.x > 0, np.maximum(near, dtype.eps * np.abs(g)), near) + _slack(exact, dtype, np.abs(g))
    )


def sigmoid_second(exact: Elements, dtype: Finfo, g: Array, h: Array) -> Array:
    """Relative to the slope, because 1 - 2 y cancels at 0."""
    scale = np.abs(g * h)
    near = 4.0 * _elements(exact, dtype) * dtype.eps * exact.slopes.hi * scale
    return np.asarray(np.where(exact.x > 0, near + 4.0 * dtype.eps * scale, near) + _slack(exact, dtype, scale))
