"""Right implementations that are unusual, and right twins of the faults: no test may reject one.

`UNUSUAL` and `TWINS` map a name to (operation, implementation, vjp or None). Some refuse inputs that they do not
support. Knows only NumPy and the catalogue.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._catalogue.classes import Rounding, narrow
from polylogit.conformance._catalogue.steps import (
    Function,
    Kernel,
    floats,
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

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array

Entries = dict[str, tuple[str, Function, Function | None]]


def exp_of_log_softmax(x: Array) -> Array:
    return np.exp(right_log_softmax(x))


def base_two(x: Array) -> Array:
    e = np.exp2((x - top(x)) * x.dtype.type(1.4426950408889634))
    return e / total(e)


def online(size: int) -> Kernel:
    def kernel(x: Array) -> Array:
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


def tree(e: Array) -> Array:
    while e.shape[-1] > 1:
        if e.shape[-1] % 2:
            e = np.concatenate([e, np.zeros_like(e[:, :1])], axis=-1)
        e = e[:, ::2] + e[:, 1::2]
    return e


def tree_sum(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e / tree(e)


def compensated_sum(x: Array) -> Array:
    e = np.exp(x - top(x))
    s, c = np.zeros_like(e[:, :1]), np.zeros_like(e[:, :1])
    for start in range(0, e.shape[-1], 512):
        y = total(e[:, start : start + 512]) - c
        t = s + y
        c = (t - s) - y
        s = t
    return e / s


def float64_inside(x: Array) -> Array:
    return right_softmax(x.astype(np.float64)).astype(x.dtype)


def padded(x: Array) -> Array:
    n = 1 << (x.shape[-1] - 1).bit_length()
    full = np.pad(x, ((0, 0), (0, n - x.shape[-1])), constant_values=-np.inf)
    return right_softmax(full)[:, : x.shape[-1]]


def flushing(x: Array, axis: Any = -1) -> Array:
    y = softmax(x, axis)
    if y.dtype.kind not in "fV":
        return y
    tiny = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(y.dtype.name, 2.0**-126)
    return np.where(np.abs(y.astype(np.float64)) < tiny, 0, y).astype(y.dtype)


def log1p_without_maximum(x: Array) -> Array:
    at = np.expand_dims(np.argmax(x, -1), -1)
    m = np.take_along_axis(x, at, -1)
    e = np.exp(x - m)
    np.put_along_axis(e, at, 0, -1)
    return (x - m) - np.log1p(total(e))


def tanh_with_corrected_tail(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    w = wide(x)
    work = x.astype(w)
    with np.errstate(all="ignore"):
        e = np.exp(np.minimum(work, 0))
        return np.where(work < -1, e / (1 + e), w(0.5) + w(0.5) * np.tanh(w(0.5) * work)).astype(x.dtype)


def position_dependent(x: Array) -> Array:
    y = right_softmax(x)
    off = np.where(np.arange(x.shape[-1]) % 8 < 3, 1 + 2 * np.finfo(x.dtype).eps, 1).astype(x.dtype)
    return y if x.shape[-1] == 1 else y * off


def reciprocal(x: Array) -> Array:
    if x.shape[-1] == 1:
        return np.where(np.isfinite(x), 1, np.nan).astype(x.dtype)
    e = np.exp(x - top(x))
    return e * (1 / total(e))


def halves(x: Array) -> Array:
    """The square of the exponential of one half of the argument."""
    e = np.exp((x - top(x)) / 2) ** 2
    return e / total(e)


def plain(x: Array, axis: Any = -1) -> Array:
    """The common implementation, for float32 and float64; refuses other dtypes."""
    if x.dtype not in (np.float32, np.float64):
        raise NotImplementedError("float32 and float64 alone")
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def last_axis_only(x: Array) -> Array:
    return softmax(x, -1)


def rows_one_by_one(x: Array, axis: Any = -1) -> Array:
    """Like a loop in C: two dimensions, the last axis, contiguous, nothing else."""
    if x.ndim != 2 or axis not in (-1, 1) or not x.flags.c_contiguous or x.dtype not in (np.float32, np.float64):
        raise NotImplementedError("contiguous matrices of float32 or float64, along the last axis")
    y = np.empty_like(x)
    for i, row in enumerate(x.astype(np.float64)):
        with np.errstate(all="ignore"):
            e = np.exp(row - row.max()) if row.size else row
            y[i] = e / (math.fsum(e) if np.isfinite(e).all() else e.sum())
    return y


def sigmoid_by_logistic(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float32)
    with np.errstate(all="ignore"):
        return (1 / (1 + np.exp(-x.astype(wide(x))))).astype(x.dtype)


def sigmoid_as_softmax(x: Array) -> Array:
    pair = np.stack([x, np.zeros_like(x)], axis=-1)
    y = softmax(pair, -1)[..., 0]
    return np.where(np.isposinf(x), 1, y).astype(y.dtype)


def vjp_sigmoid_by_value(x: Array, g: Array) -> Array:
    w = wide(x)
    y = right_sigmoid(x.astype(w))
    return (g.astype(w) * y * (1 - y)).astype(x.dtype)


def vjp_softmax_by_jacobian(x: Array, g: Array, axis: Any = -1) -> Array:
    if axis not in (-1, x.ndim - 1) or x.shape[-1] > 600:
        raise NotImplementedError("short rows on the last axis")
    y = softmax(x.astype(np.float64), -1)
    jacobian = y[..., :, None] * (np.eye(x.shape[-1]) - y[..., None, :])
    return np.einsum("...ij,...j->...i", jacobian, g.astype(np.float64)).astype(x.dtype)


def vjp_log_softmax_in_logs(x: Array, g: Array, axis: Any = -1) -> Array:
    w = wide(x)
    y = np.exp(log_softmax(x.astype(w), axis))
    return (g.astype(w) - y * g.astype(w).sum(axis, keepdims=True)).astype(x.dtype)


def split_and_merged(x: Array) -> Array:
    """Maximum and sum of each half, merged; halves of halves down to 16 entries."""

    def parts(block: Array) -> tuple[Array, Array]:
        if block.shape[-1] <= 16:
            m = top(block)
            return m, total(np.exp(block - np.where(np.isneginf(m), 0, m).astype(x.dtype)))
        half = block.shape[-1] // 2
        (m1, s1), (m2, s2) = parts(block[:, :half]), parts(block[:, half:])
        m = np.maximum(m1, m2)
        safe = np.where(np.isneginf(m), 0, m).astype(x.dtype)
        return m, s1 * np.exp(m1 - safe) + s2 * np.exp(m2 - safe)

    m, s = parts(x)
    return np.exp(x - np.where(np.isneginf(m), 0, m).astype(x.dtype)) / s


def smallest_first(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e / total(np.sort(e, axis=-1))


def extended(x: Array) -> Array:
    return right_softmax(x.astype(np.longdouble)).astype(x.dtype)


def sum_as_product(x: Array) -> Array:
    """The sum as a matrix product with ones, which adds in a few lanes."""
    e = np.exp(x - top(x))
    return e / (e @ np.ones((x.shape[-1], 1), x.dtype))


def polynomial(x: Array) -> Array:
    """The exponential of float32 by reduction with a constant in two parts and a polynomial of degree 7."""
    if x.dtype != np.float32:
        return right_softmax(x)
    shifted = x - top(x)
    k = np.where(shifted > -200, np.rint(shifted * np.float32(1.44269504)), 0).astype(np.float32)
    r = np.where(shifted > -200, (shifted - k * np.float32(0.693359375)) - k * np.float32(-2.12194440e-4), 0)
    p = np.full_like(x, 1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + np.float32(c)
    e = np.ldexp((p * r * r + r + np.float32(1)).astype(np.float32), k.astype(int))
    e = np.where(shifted > -200, e, np.where(np.isnan(shifted), np.nan, 0)).astype(np.float32)
    return e / total(e)


def newton(x: Array) -> Array:
    """The reciprocal of the sum by Newton's iteration from a rough start."""
    if x.shape[-1] == 1:
        return np.where(np.isfinite(x), 1, np.nan).astype(x.dtype)
    e = np.exp(x - top(x))
    s = total(e)
    r = (1 / s) * x.dtype.type(1.001)
    for _ in range(3):
        r = r * (2 - s * r)
    return e * r


def rounding_towards_zero(x: Array, axis: Any = -1) -> Array:
    if x.dtype.name != "bfloat16":
        return softmax(x, axis)
    y = softmax(x.astype(np.float32), axis)
    return (y.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(x.dtype)


def half_exponentials(x: Array, axis: Any = -1) -> Array:
    """Exponentials in 16 bits, summed in a wider dtype."""
    if x.dtype.itemsize != 2 or x.dtype.kind in "iu" or not x.size:
        return softmax(x, axis)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(w - w.max(axis, keepdims=True)).astype(x.dtype).astype(np.float32)
        return (e / e.sum(axis, keepdims=True, dtype=np.float64).astype(np.float32)).astype(x.dtype)


def subnormals_are_zero(x: Array, axis: Any = -1) -> Array:
    if x.dtype.kind == "f":
        x = np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x).astype(x.dtype)
    return softmax(x, axis)


def spread_result(x: Array, axis: Any = -1) -> Array:
    """A result with gaps in memory, which must not be written to."""
    y = softmax(x, axis)
    if y.ndim == 0:
        return y
    out = np.zeros((*y.shape[:-1], 2 * y.shape[-1]), y.dtype)[..., ::2]
    out[...] = y
    out.flags.writeable = False
    return out


def by_keyword(x: Array, *, axis: Any = -1) -> Array:
    return softmax(x, axis)


def by_position(x: Array, axis: Any = -1, /) -> Array:
    return softmax(x, axis)


def matrices_of_float32(x: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float32 or x.ndim != 2:
        raise TypeError("matrices of float32 alone")
    return softmax(x, axis)


def with_mask(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
    if where is None:
        return softmax(x, axis)
    x = x.astype(np.float64) if x.dtype.kind in "iub" else x
    kept = np.broadcast_to(where, x.shape)
    y = softmax(np.where(kept, x, -np.inf).astype(x.dtype), axis)
    return np.where(kept & kept.any(axis, keepdims=True), y, 0).astype(x.dtype)


def with_dtype(x: Array, axis: Any = -1, dtype: Any = None) -> Array:
    return softmax(x, axis) if dtype is None else softmax(x.astype(np.float64), axis).astype(dtype)


def on_two_threads(x: Array, axis: Any = -1) -> Array:
    if x.ndim != 2 or axis not in (-1, 1) or len(x) < 4:
        return softmax(x, axis)
    with ThreadPoolExecutor(2) as pool:
        return np.concatenate(list(pool.map(softmax, np.array_split(x, 2))))


def sigmoid_by_halves(x: Array) -> Array:
    """Through the exponential of half the argument, squared."""
    x = x.astype(np.float64) if x.dtype.kind in "iub" else x
    h = np.exp(-np.abs(x.astype(wide(x))) / 2)
    y = 1 / (1 + h * h)
    return np.where(x < 0, h * h * y, y).astype(x.dtype)


def vjp_softmax_from_result(x: Array, g: Array, axis: Any = -1) -> tuple[Array]:
    """From the returned, rounded probabilities; in a tuple, like automatic differentiation."""
    w = wide(x)
    y, g = softmax(x, axis).astype(w), g.astype(w)
    return ((y * (g - (g * y).sum(axis, keepdims=True))).astype(x.dtype),)


def vjp_softmax_two_products(x: Array, grad_output: Array, dim: Any = -1) -> Array:
    products = softmax(x.astype(wide(x)), dim) * grad_output.astype(wide(x))
    return (products - softmax(x.astype(wide(x)), dim) * products.sum(dim, keepdims=True)).astype(x.dtype)


def vjp_sigmoid_by_reflection(x: Array, g: Array) -> Array:
    w = wide(x)
    return (g.astype(w) * right_sigmoid(x.astype(w)) * right_sigmoid(-x.astype(w))).astype(x.dtype)


def finite_inside_exact_outside(x: Array) -> Array:
    """A finite number replaces -inf inside, and exponentials of such entries are set to 0."""
    gone = np.isneginf(x)
    safe = np.where(
        gone.all(-1, keepdims=True), np.nan, np.max(np.where(gone, np.finfo(x.dtype).min, x), -1, keepdims=True)
    )
    e = np.where(gone, 0 * safe, np.exp(np.where(gone, 0, x - safe)))
    return (e / total(e)).astype(x.dtype)


def zero_used_not_kept(tile: int, backward: bool = False) -> Kernel:
    """Online softmax in which 0 replaces a running maximum of -inf only in exponents."""

    def kernel(x: Array) -> Array:
        rows = x[:, ::-1] if backward else x
        m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
        for start in range(0, x.shape[-1], tile):
            block = rows[:, start : start + tile]
            new = np.maximum(m, top(block))
            safe = np.where(np.isneginf(new), 0, new).astype(x.dtype)
            s = s * np.exp(m - safe) + total(np.exp(block - safe))
            m = new
        return np.exp(x - np.where(np.isneginf(m), 0, m).astype(x.dtype)) / s

    return kernel


def rounded_once(rows: Array, rounded: Rounding) -> Array:
    shifted = rows - top(rows)
    e = np.exp(shifted)
    return rounded(e / total(e))


def vjp_log_softmax_by_complement(x: Array, g: Array, axis: Any = -1) -> Array:
    """``g (1 - p)`` and the other terms separately, in at least float32; rounded once."""
    w = wide(x)
    p, g = softmax(x.astype(w), axis), g.astype(w)
    return (g - p * g.sum(axis, keepdims=True)).astype(x.dtype)


def sigmoid_exact_at_infinity(x: Array) -> Array:
    """Half a tangent above 0, the exponential below, with infinities treated separately."""
    x = floats(np.asarray(x))
    y = right_sigmoid(np.where(np.isinf(x), 0, x).astype(x.dtype))
    return np.where(np.isneginf(x), 0, np.where(np.isposinf(x), 1, y)).astype(x.dtype)


def tiles_of_nothing_left_out(tile: int) -> Kernel:
    """Online softmax that skips tiles without a finite entry."""

    def kernel(x: Array) -> Array:
        m, s = top(x[:, :1]), np.ones((len(x), 1), x.dtype)
        for start in range(1, x.shape[-1], tile):
            block = x[:, start : start + tile]
            new = np.maximum(m, top(block))
            with_first = s * np.where(np.isneginf(m), 0, np.exp(m - new)) + total(np.exp(block - new))
            s = np.where(np.isneginf(top(block)), s, with_first)
            m = new
        return np.exp(x - m) / s

    return kernel


UNUSUAL: Entries = {
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
    "online, blocks of 8": ("softmax", lanes(online(8)), None),
    "split and merged": ("softmax", lanes(split_and_merged), None),
    "smallest first": ("softmax", lanes(smallest_first), None),
    "extended precision": ("softmax", lanes(extended), None),
    "sum as a product": ("softmax", lanes(sum_as_product), None),
    "polynomial exponential": ("softmax", lanes(polynomial), None),
    "Newton's reciprocal": ("softmax", lanes(newton), None),
    "rounding towards zero": ("softmax", rounding_towards_zero, None),
    "16-bit exponentials": ("softmax", half_exponentials, None),
    "subnormal logits are zero": ("softmax", subnormals_are_zero, None),
    "result with gaps": ("softmax", spread_result, None),
    "axis by keyword": ("softmax", by_keyword, None),
    "axis by position": ("softmax", by_position, None),
    "matrices of float32": ("softmax", matrices_of_float32, None),
    "with a mask": ("softmax", with_mask, None),
    "with a dtype": ("softmax", with_dtype, None),
    "on two threads": ("softmax", on_two_threads, None),
    "sigmoid by halves": ("sigmoid", sigmoid_by_halves, None),
    "gradient from the result": ("softmax", softmax, vjp_softmax_from_result),
    "gradient by two products": ("softmax", softmax, vjp_softmax_two_products),
    "gradient by reflection": ("sigmoid", right_sigmoid, vjp_sigmoid_by_reflection),
    "gradient from logarithms": ("log_softmax", log_softmax, vjp_log_softmax_in_logs),
}

TWINS: Entries = {
    "finite inside, exact outside": ("softmax", lanes(finite_inside_exact_outside), None),
    "0 used, not kept": ("softmax", lanes(zero_used_not_kept(128)), None),
    "0 used, not kept, backward": ("softmax", lanes(zero_used_not_kept(64, backward=True)), None),
    "tiles of nothing left out": ("softmax", lanes(tiles_of_nothing_left_out(64)), None),
    "16 bits, rounded once": ("softmax", narrow(rounded_once), right_vjp_softmax),
    "gradient in float32, rounded once": ("log_softmax", log_softmax, vjp_log_softmax_by_complement),
    "exact at infinity": ("sigmoid", sigmoid_exact_at_infinity, right_vjp_sigmoid),
}
