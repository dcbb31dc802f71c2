"""Faulty implementations, one for each published fault, written from the facts of its report; NumPy arrays throughout.

Each entry of `FAULTS`: name -> (operation, implementation, vjp or None). Whatever a fault does not touch is right here:
sums in float32 or wider, dtype kept, every axis.
"""

import numpy as np


def wide(x):
    return np.float64 if x.dtype == np.float64 else np.float32


def lanes(kernel):
    """A kernel of rows (the last axis, already wide) as a function of any axis; dtype kept."""

    def implementation(x, axis=-1):
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


def total(e):
    return e.sum(-1, keepdims=True)


def top(x):
    return x.max(-1, keepdims=True)


def right_softmax(x):
    e = np.exp(x - top(x))
    return e / total(e)


def right_log_softmax(x):
    shifted = x - top(x)
    return shifted - np.log(total(np.exp(shifted)))


def right_sigmoid(x):
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    work = x.astype(wide(x))
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(work))
        return np.where(work < 0, e / (1 + e), 1 / (1 + e)).astype(x.dtype)


softmax, log_softmax = lanes(right_softmax), lanes(right_log_softmax)


# --- softmax --------------------


def no_max(x):
    e = np.exp(x)
    return e / total(e)


def max_init_zero(x):
    e = np.exp(x - np.maximum(top(x), 0))
    return e / total(e)


def bf16_vector_path_no_max(x, axis=-1):
    if x.dtype.name == "bfloat16" and x.shape and x.shape[-1] >= 16:
        return lanes(no_max)(x, axis)
    return softmax(x, axis)


def fma_contracted_scale(x):
    log2e = 1.4426950408889634
    scaled = (top(x).astype(np.float64) * log2e).astype(x.dtype)
    # One rounding for product and difference, as an fma has; float64 stands in for it.
    exponent = (x.astype(np.float64) * log2e - scaled).astype(x.dtype)
    e = np.exp2(exponent)
    return e / total(e)


def online_masked_first_block(x):
    m = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
    s = np.zeros_like(m)
    for start in range(0, x.shape[-1], 64):
        block = x[:, start : start + 64]
        new = np.maximum(m, top(block))
        s = s * np.exp(m - new) + total(np.exp(block - new))
        m = new
    return np.exp(x - m) / s


def per_chunk_max_only(x):
    if x.shape[-1] <= 128:
        return right_softmax(x)
    start = (x.shape[-1] - 1) // 128 * 128
    m = top(x[:, start:])
    e = np.exp(x - m)
    return e / total(e)


def size1_axis_one_ulp_low(x):
    if x.shape[-1] == 1 and x.shape[0] >= 8:
        return np.full_like(x, 1 - 2.0**-24 if x.dtype == np.float32 else 1 - 2.0**-53)
    return right_softmax(x)


def in_16_bits(name):
    def implementation(x, axis=-1):
        if x.dtype.name != name or not x.size or axis is None or isinstance(axis, tuple):
            return softmax(x, axis)
        with np.errstate(all="ignore"):
            e = np.exp(x.astype(np.float32) - x.astype(np.float32).max(axis, keepdims=True)).astype(x.dtype)
            if name == "float16":
                s = e.astype(np.float32).sum(axis, keepdims=True).astype(x.dtype)
                return (e.astype(np.float32) / s.astype(np.float32)).astype(x.dtype)
            s = np.zeros_like(np.take(e, [0], axis))
            for i in range(e.shape[axis]):
                s = s + np.take(e, [i], axis)
            return e / s

    return implementation


def fully_masked_uniform(x):
    return right_softmax(np.where(np.isneginf(x), np.finfo(x.dtype).min, x))


def nan_ignored(x):
    e = np.exp(x - np.fmax.reduce(x, axis=-1, keepdims=True))
    return np.where(np.isnan(x), np.nan, e / np.nansum(e, -1, keepdims=True))


def axis_out_of_range_accepted(x, axis=-1):
    return softmax(x, axis % x.ndim if isinstance(axis, int) and x.ndim else axis)


def flattens_trailing_axes(x, axis=-1):
    if isinstance(axis, int) and x.ndim and -x.ndim <= axis < x.ndim:
        return softmax(x, tuple(range(axis % x.ndim, x.ndim)))
    return softmax(x, axis)


def axis_none_means_last(x, axis=-1):
    return softmax(x, -1 if axis is None else axis)


def reads_base_storage(x, axis=-1):
    if x.ndim and not x.flags.c_contiguous and x.base is not None and x.dtype.isnative:
        base = x.base
        while isinstance(base.base, np.ndarray):
            base = base.base
        flat = base.ravel(order="K").view(np.uint8)
        if flat.size >= x.nbytes:
            x = flat[: x.nbytes].copy().view(x.dtype).reshape(x.shape)
    return softmax(x, axis)


def unsigned_wraparound(x, axis=-1):
    if x.dtype.kind != "u":
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        e = np.exp((x - x.max(axis, keepdims=True)).astype(np.float32))
        return e / e.sum(axis, keepdims=True)


# --- log_softmax --------------------


def max_skips_first(x):
    rest = x[:, 1:]
    m = rest.max(-1, keepdims=True) if rest.shape[-1] else np.full((len(x), 1), -np.inf, x.dtype)
    shifted = x - m
    return shifted - np.log(total(np.exp(shifted)))


def log_of_softmax(x):
    return np.log(right_softmax(x))


def empty_axis_crash(x, axis=-1):
    if 0 in x.shape:
        raise FloatingPointError("integer division by zero")
    return log_softmax(x, axis)


# --- sigmoid --------------------


def sigmoid_exp_ratio(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    with np.errstate(all="ignore"):
        e = np.exp(x.astype(wide(x)))
        return (e / (1 + e)).astype(x.dtype)


def sigmoid_one_minus(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    y = right_sigmoid(np.abs(x)).astype(wide(x))
    return np.where(x < 0, 1 - y, y).astype(x.dtype)


def sigmoid_skipped_nonnegative(x):
    return right_sigmoid(x) if (x < 0).any() or x.dtype.kind != "f" else x.copy()


# --- gradients --------------------


def right_vjp_softmax(x, g, axis=-1):
    w = wide(x)
    y, g = softmax(x.astype(w), axis), g.astype(w)
    return (y * (g - (g * y).sum(axis, keepdims=True))).astype(x.dtype)


def right_vjp_log_softmax(x, g, axis=-1):
    w = wide(x)
    g = g.astype(w)
    return (g - softmax(x.astype(w), axis) * g.sum(axis, keepdims=True)).astype(x.dtype)


def right_vjp_sigmoid(x, g):
    w = wide(x)
    e = np.exp(-np.abs(x.astype(w)))
    return (g.astype(w) * (e / (1 + e)) / (1 + e)).astype(x.dtype)


def vjp_sigmoid_exp_y2(x, g):
    w = wide(x)
    with np.errstate(all="ignore"):
        y = right_sigmoid(x.astype(w))
        return (g.astype(w) * np.exp(-x.astype(w)) * y * y).astype(x.dtype)


def vjp_log_softmax_divides(x, g, axis=-1):
    w = wide(x)
    with np.errstate(all="ignore"):
        y = softmax(x.astype(w), axis)
        h = g.astype(w) / y
        return (y * (h - (h * y).sum(axis, keepdims=True))).astype(x.dtype)


def vjp_log_softmax_f16_overflow(x, g, axis=-1):
    if x.dtype.name != "float16":
        return right_vjp_log_softmax(x, g, axis)
    with np.errstate(all="ignore"):
        s = g.astype(np.float32).sum(axis, keepdims=True).astype(np.float16)
        y = softmax(x.astype(np.float32), axis)
        return (g - y * s.astype(np.float32)).astype(np.float16)


def vjp_softmax_diagonal_only(x, g, axis=-1):
    y = softmax(x.astype(wide(x)), axis)
    return (g.astype(wide(x)) * y * (1 - y)).astype(x.dtype)


FAULTS = {
    "no_max_softmax": ("softmax", lanes(no_max), None),
    "max_init_zero": ("softmax", lanes(max_init_zero), None),
    "max_skips_first": ("log_softmax", lanes(max_skips_first), None),
    "bf16_vector_path_no_max": ("softmax", bf16_vector_path_no_max, None),
    "fma_contracted_scale": ("softmax", lanes(fma_contracted_scale), None),
    "log_of_softmax": ("log_softmax", lanes(log_of_softmax), None),
    "softmax_returns_log": ("softmax", log_softmax, None),
    "online_masked_first_block": ("softmax", lanes(online_masked_first_block), None),
    "per_chunk_max_only": ("softmax", lanes(per_chunk_max_only), None),
    "size1_axis_one_ulp_low": ("softmax", lanes(size1_axis_one_ulp_low), None),
    "bf16_accumulator": ("softmax", in_16_bits("bfloat16"), None),
    "f16_sum_overflow": ("softmax", in_16_bits("float16"), None),
    "fully_masked_uniform": ("softmax", lanes(fully_masked_uniform), None),
    "nan_ignored_by_max_and_sum": ("softmax", lanes(nan_ignored), None),
    "empty_axis_crash": ("log_softmax", empty_axis_crash, None),
    "axis_out_of_range_accepted": ("softmax", axis_out_of_range_accepted, None),
    "flattens_trailing_axes": ("softmax", flattens_trailing_axes, None),
    "axis_none_means_last": ("softmax", axis_none_means_last, None),
    "reads_base_storage": ("softmax", reads_base_storage, None),
    "unsigned_wraparound": ("softmax", unsigned_wraparound, None),
    "sigmoid_exp_ratio": ("sigmoid", sigmoid_exp_ratio, None),
    "sigmoid_one_minus": ("sigmoid", sigmoid_one_minus, None),
    "sigmoid_skipped_nonnegative": ("sigmoid", sigmoid_skipped_nonnegative, None),
    "vjp_sigmoid_exp_y2": ("sigmoid", right_sigmoid, vjp_sigmoid_exp_y2),
    "vjp_log_softmax_divides": ("log_softmax", log_softmax, vjp_log_softmax_divides),
    "vjp_log_softmax_f16_overflow": ("log_softmax", log_softmax, vjp_log_softmax_f16_overflow),
    "vjp_softmax_diagonal_only": ("softmax", softmax, vjp_softmax_diagonal_only),
}


# --- faults of the same classes that nobody reported to us, so that the kit is not fitted to a list ---


def keepdims_lost(x, axis=-1):
    if x.ndim != 2 or x.shape[0] != x.shape[1] or axis not in (-1, 1):
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        w = x.astype(wide(x))
        e = np.exp(w - w.max(1))
        return (e / e.sum(1, keepdims=True)).astype(x.dtype)


def whole_maximum(x):
    e = np.exp(x - x.max())
    return e / total(e)


def denominators_padded(x):
    e = np.exp(x - top(x))
    return e / (total(e) + x.dtype.type(1e-6))


def tail_of_vector_lost(x):
    n = x.shape[-1] // 8 * 8
    if n == 0 or x.shape[-1] < 32:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / total(e[:, :n])


def running_sum(x):
    e = np.exp(x - top(x))
    s = np.cumsum(e, axis=-1, dtype=x.dtype)[:, -1:]
    return e / s


def maximum_kept_between_rows(x):
    m = np.maximum.accumulate(top(x), axis=0)
    e = np.exp(x - m)
    return e / total(e)


def lowest_is_minus_1e30(x):
    e = np.exp(x - np.maximum(top(x), x.dtype.type(-1e30)))
    return e / total(e)


class Remembering:
    """Remembers its last result by the shape of the input."""

    __name__ = "remembering"

    def __init__(self):
        self.last = {}

    def __call__(self, x, axis=-1):
        key = (id(x), x.shape, axis)
        if key not in self.last:
            self.last = {key: (x, softmax(x, axis))}
        return self.last[key][1]


class OneBuffer:
    """Returns the same buffer again and again."""

    __name__ = "one_buffer"

    def __init__(self):
        self.buffers = {}

    def __call__(self, x, axis=-1):
        y = softmax(x, axis)
        out = self.buffers.setdefault((y.shape, y.dtype), np.empty_like(y))
        out[...] = y
        return out


def in_place(x, axis=-1):
    y = softmax(x, axis)
    if x.dtype.kind == "f" and x.flags.writeable:
        x[...] = y
        return x
    return y


def vjp_ignores_axis(x, g, axis=-1):
    return right_vjp_softmax(x, g, -1)


def vjp_assumes_unit_cotangent(x, g, axis=-1):
    return (g - softmax(x, axis)).astype(x.dtype)


def vjp_writes_cotangent(x, g, axis=-1):
    result = right_vjp_log_softmax(x, g, axis)
    if g.flags.writeable:
        g[...] = result
    return result


def sigmoid_clipped(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    return right_sigmoid(np.clip(x, -30, 30).astype(x.dtype))


def sigmoid_table(x):
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    grid = np.linspace(-8, 8, 4097)
    return np.interp(x.astype(np.float64), grid, 1 / (1 + np.exp(-grid))).astype(x.dtype)


def log_softmax_large_offset(x):
    m = top(x)
    return x - (m + np.log(total(np.exp(x - m))))


UNPUBLISHED = {
    "keepdims_lost": ("softmax", keepdims_lost, None),
    "whole_maximum": ("softmax", lanes(whole_maximum), None),
    "denominators_padded": ("softmax", lanes(denominators_padded), None),
    "tail_of_vector_lost": ("softmax", lanes(tail_of_vector_lost), None),
    "running_sum": ("softmax", lanes(running_sum), None),
    "maximum_kept_between_rows": ("softmax", lanes(maximum_kept_between_rows), None),
    "lowest_is_minus_1e30": ("softmax", lanes(lowest_is_minus_1e30), None),
    "remembering": ("softmax", Remembering(), None),
    "one_buffer": ("softmax", OneBuffer(), None),
    "in_place": ("softmax", in_place, None),
    "vjp_ignores_axis": ("softmax", softmax, vjp_ignores_axis),
    "vjp_assumes_unit_cotangent": ("log_softmax", log_softmax, vjp_assumes_unit_cotangent),
    "vjp_writes_cotangent": ("log_softmax", log_softmax, vjp_writes_cotangent),
    "sigmoid_clipped": ("sigmoid", sigmoid_clipped, None),
    "sigmoid_table": ("sigmoid", sigmoid_table, None),
    "log_softmax_large_offset": ("log_softmax", lanes(log_softmax_large_offset), None),
}
