"""Five classes of faults that tolerances let through: where the answer is exact, far from everything, or 16 bits wide.

`CLASSES`: name -> (operation, implementation, vjp or None), as in `faults`; `TWINS` the same: right implementations
that look like them. `CLASS_OF` says to which class a fault belongs.
"""

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


def floats(x):
    return x.astype(np.float64) if x.dtype.kind in "iub" else x


def is_narrow(x):
    """Whether it has 16 bits."""
    return x.dtype.name in ("float16", "bfloat16")


def narrow(kernel, otherwise=right_softmax):
    """``kernel(rows, rounded)`` for 16-bit logits, where `rounded` rounds float32 to their dtype; right otherwise."""

    def implementation(x, axis=-1):
        x = np.asarray(x)
        if not is_narrow(x):
            return lanes(otherwise)(x, axis)
        return lanes(lambda rows: kernel(rows, lambda v: v.astype(x.dtype).astype(np.float32)))(x, axis)

    return implementation


# --- a leak where the answer is exactly 0, 1 or -inf --------------------


def leaks(amount, dtypes=("float16", "bfloat16", "float32", "float64"), shortest=1, only_last=False):
    """Probability `amount` at logits of -inf."""

    def implementation(x, axis=-1):
        x = np.asarray(x)
        y = softmax(x, axis)
        reached = x.ndim and x.dtype.name in dtypes and isinstance(axis, int) and x.size and x.shape[axis] >= shortest
        if not reached or (only_last and axis % x.ndim != x.ndim - 1):
            return y
        return np.where(np.isneginf(x) & (y == 0), np.float64(amount), y).astype(y.dtype)

    return implementation


def leaks_where_masked(amount):
    def implementation(x, axis=-1, where=None):
        x = floats(np.asarray(x))
        if where is None:
            return softmax(x, axis)
        kept = np.broadcast_to(where, x.shape)
        y = softmax(np.where(kept, x, -np.inf).astype(x.dtype), axis)
        some = kept.any(axis, keepdims=True) & np.ones_like(kept)
        return np.where(kept, np.where(some, y, 0), np.where(some, np.float64(amount), 0)).astype(y.dtype)

    return implementation


def sigmoid_leaks(amount):
    def implementation(x):
        y = right_sigmoid(np.asarray(x))
        return np.where(np.isneginf(floats(np.asarray(x))), np.float64(amount), y).astype(y.dtype)

    return implementation


def sigmoid_short_of_one(x):
    """The largest number below 1 at an infinite logit."""
    y = right_sigmoid(np.asarray(x))
    below = np.nextafter(np.ones_like(y), np.zeros_like(y))
    return np.where(np.isposinf(floats(np.asarray(x))), below, y).astype(y.dtype)


def epsilon_in_numerator(x):
    """Every exponential is 1e-12 too large."""
    if x.shape[-1] == 1:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return (e + x.dtype.type(1e-12)) / total(e)


def log_of_floored(x):
    """The logarithm of probabilities floored at the smallest normal number, where they should be 0."""
    y = right_log_softmax(x)
    return np.where(np.isneginf(y), np.log(np.finfo(x.dtype).tiny), y).astype(x.dtype)


def one_left_short(x):
    """Where all other logits are -inf, the probability is 1 less one rounding."""
    y = right_softmax(x)
    alone = (y == 1) & (np.isneginf(x).sum(-1, keepdims=True) == x.shape[-1] - 1) & (x.shape[-1] > 1)
    return np.where(alone, 1 - np.finfo(x.dtype).epsneg, y).astype(x.dtype)


def vjp_leaks(amount):
    """The gradient at a logit of -inf is `amount` times the cotangent."""

    def vjp(x, g, axis=-1):
        y = right_vjp_softmax(x, g, axis)
        return np.where(np.isneginf(x), np.float64(amount) * g.astype(np.float64), y).astype(y.dtype)

    return vjp


# --- a finite number in place of -inf --------------------


def finite_for_infinite(number, log=False, keeps_rows=True):
    """Logits of -inf are lowered to `number`, or to the dtype's lowest where that is higher."""
    right = right_log_softmax if log else right_softmax

    def kernel(x):
        low = max(number, np.finfo(x.dtype).min)
        y = right(np.where(np.isneginf(x), x.dtype.type(low), x))
        return np.where(np.isneginf(top(x)), np.nan, y).astype(x.dtype) if keeps_rows else y

    return kernel


def finite_for_infinite_in_storage(x, axis=-1):
    """The lowest number of the logits' own dtype in place of -inf."""
    x = np.asarray(x)
    if x.dtype.kind in "iub" or not x.size or not x.ndim:
        return softmax(x, axis)
    lowest = {"float16": -65504.0, "bfloat16": -3.3895313892515355e38}.get(x.dtype.name)
    lowest = np.finfo(x.dtype).min if lowest is None else lowest
    y = softmax(np.where(np.isneginf(x), x.dtype.type(lowest), x).astype(x.dtype), axis)
    gone = np.isneginf(x).all(axis, keepdims=True)
    return np.where(gone, np.nan, y).astype(y.dtype)


def mask_lowers_to(number):
    """Masked logits are `number`; rows masked out entirely are right."""

    def implementation(x, axis=-1, where=None):
        x = floats(np.asarray(x))
        if where is None:
            return softmax(x, axis)
        kept = np.broadcast_to(where, x.shape)
        y = softmax(np.where(kept, x.astype(np.float64), number).astype(wide(x)), axis)
        return np.where(kept.any(axis, keepdims=True) & np.ones_like(kept), y, 0).astype(x.dtype)

    return implementation


# --- a running maximum of -inf that becomes 0 and stays --------------------


def zero_kept(tile, backward=False, log=False):
    """Online softmax over tiles; a running maximum of -inf is replaced by 0, so that exp is defined, and kept."""

    def kernel(x):
        rows = x[:, ::-1] if backward else x
        m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
        for start in range(0, x.shape[-1], tile):
            block = rows[:, start : start + tile]
            new = np.maximum(m, top(block))
            new = np.where(np.isneginf(new), 0, new).astype(x.dtype)
            s = s * np.exp(m - new) + total(np.exp(block - new))
            m = new
        lost = np.isneginf(top(x))
        y = (x - m) - np.log(s) if log else np.exp(x - m) / s
        return np.where(lost, np.nan, y).astype(x.dtype)

    return kernel


def zero_kept_when_merged(parts):
    """The same of states (maximum, sum) that are merged over so many splits."""

    def kernel(x):
        m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
        for block in np.array_split(x, min(parts, x.shape[-1]), axis=-1):
            part = np.where(np.isneginf(top(block)), 0, top(block)).astype(x.dtype)
            new = np.maximum(m, part)
            s = s * np.exp(m - new) + total(np.exp(block - part)) * np.exp(part - new)
            m = new
        return np.where(np.isneginf(top(x)), np.nan, np.exp(x - m) / s).astype(x.dtype)

    return kernel


# --- 16 bits: what is rounded before the end --------------------


def shift_and_exponential(rows, rounded):
    e = rounded(np.exp(rounded(rows - top(rows))))
    return e / total(e)


def shift_alone(rows, rounded):
    e = np.exp(rounded(rows - top(rows)))
    return e / total(e)


def scaled_shift(rows, rounded):
    """Of base two: the shift times log2(e) is rounded."""
    e = np.exp2(rounded((rows - top(rows)) * np.float32(1.442695)))
    return e / total(e)


def shift_exponential_and_reciprocal(rows, rounded):
    e = rounded(np.exp(rounded(rows - top(rows))))
    return e * rounded(1 / total(e))


def log_shift_and_exponential(rows, rounded):
    shifted = rounded(rows - top(rows))
    return shifted - np.log(total(rounded(np.exp(shifted))))


def log_sum_rounded(rows, rounded):
    """The logarithm of the sum is rounded before it is subtracted."""
    shifted = rows - top(rows)
    return shifted - rounded(np.log(total(np.exp(shifted))))


def tiles_rounded(tile):
    """The sum of each tile is rounded, and the running sum after it."""

    def kernel(rows, rounded):
        e = np.exp(rows - top(rows))
        s = np.zeros((len(rows), 1), np.float32)
        for start in range(0, rows.shape[-1], tile):
            s = rounded(s + rounded(total(e[:, start : start + tile])))
        return e / s

    return kernel


def sigmoid_in_16_bits(x):
    """Each step of e / (1 + e) is rounded."""
    x = np.asarray(x)
    if not is_narrow(x):
        return right_sigmoid(x)
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x.astype(np.float32))).astype(x.dtype)
        one = x.dtype.type(1)
        return np.where(x < 0, e / (one + e), one / (one + e)).astype(x.dtype)


def one_dtype(name, implementation, otherwise):
    """A fault of one dtype alone."""
    return lambda x, axis=-1: implementation(x, axis) if np.asarray(x).dtype.name == name else otherwise(x, axis)


# --- 16 bits: what is rounded before a gradient's difference --------------------


def vjp_log_softmax_rounded_p(x, g, axis=-1):
    """The probability is rounded to the logits' dtype before ``g - p * sum(g)``."""
    w = wide(x)
    p = softmax(x, axis).astype(w)
    g = g.astype(w)
    return (g - p * g.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_log_softmax_in_storage(x, g, axis=-1):
    """The whole of ``g - p * sum(g)`` in the logits' dtype, but for the sum."""
    p = softmax(x, axis)
    s = g.astype(wide(x)).sum(axis, keepdims=True).astype(x.dtype)
    return (g - (p * s).astype(x.dtype)).astype(x.dtype)


def vjp_log_softmax_rounded_product(x, g, axis=-1):
    """The product of probability and sum is rounded, then subtracted."""
    w = wide(x)
    g = g.astype(w)
    product = (softmax(x.astype(w), axis) * g.sum(axis, keepdims=True)).astype(x.dtype).astype(w)
    return (g - product).astype(x.dtype)


def vjp_log_softmax_rounded_shift(x, g, axis=-1):
    """The probabilities are those of a shift that was rounded."""
    if not is_narrow(x):
        return right_vjp_log_softmax(x, g, axis)
    g = g.astype(np.float32)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        shifted = (w - w.max(axis, keepdims=True)).astype(x.dtype).astype(np.float32)
        e = np.exp(shifted)
        return (g - e / e.sum(axis, keepdims=True) * g.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_sigmoid_rounded_y(x, g):
    """``y * (1 - y)`` of a y that was rounded: 0 where the sigmoid rounds to 1."""
    w = wide(x)
    y = right_sigmoid(x).astype(w)
    return (g.astype(w) * y * (1 - y)).astype(x.dtype)


def vjp_of(name, vjp, right):
    """A gradient's fault of one dtype alone."""
    return lambda x, g, axis=-1: vjp(x, g, axis) if x.dtype.name == name else right(x, g, axis)


_EXACT = {
    "leak_1e-30": ("softmax", leaks(1e-30), None),
    "leak_1e-12": ("softmax", leaks(1e-12), None),
    "leak_1e-6_float32": ("softmax", leaks(1e-6, ("float32",)), None),
    "leak_1e-2_float16": ("softmax", leaks(1e-2, ("float16",)), None),
    "leak_1e-2_bfloat16": ("softmax", leaks(1e-2, ("bfloat16",)), None),
    "leak_1e-17_float64": ("softmax", leaks(1e-17, ("float64",)), None),
    "leak_smallest_float16": ("softmax", leaks(6e-8, ("float16",)), None),
    "leak_in_rows_of_64": ("softmax", leaks(1e-9, shortest=64), None),
    "leak_on_last_axis": ("softmax", leaks(1e-9, only_last=True), None),
    "leak_where_masked_1e-12": ("softmax", leaks_where_masked(1e-12), None),
    "leak_where_masked_1e-4": ("softmax", leaks_where_masked(1e-4), None),
    "sigmoid_leak_1e-12": ("sigmoid", sigmoid_leaks(1e-12), None),
    "sigmoid_leak_1e-38": ("sigmoid", sigmoid_leaks(1e-38), None),
    "sigmoid_short_of_one": ("sigmoid", sigmoid_short_of_one, None),
    "epsilon_in_numerator": ("softmax", lanes(epsilon_in_numerator), None),
    "log_of_floored": ("log_softmax", lanes(log_of_floored), None),
    "one_left_short": ("softmax", lanes(one_left_short), None),
    "vjp_leak_1e-12": ("softmax", softmax, vjp_leaks(1e-12)),
}
_FINITE = {
    **{
        f"finite_{number:g}": ("softmax", lanes(finite_for_infinite(number)), None)
        for number in (-30, -50, -1e4, -65504, -1e9, -1e30)
    },
    "finite_lowest_float32": ("softmax", lanes(finite_for_infinite(-3.4028234663852886e38)), None),
    "finite_lowest_of_dtype": ("softmax", finite_for_infinite_in_storage, None),
    "finite_log_-1e9": ("log_softmax", lanes(finite_for_infinite(-1e9, log=True)), None),
    "mask_is_-1e9": ("softmax", mask_lowers_to(-1e9), None),
    "mask_is_-30": ("softmax", mask_lowers_to(-30), None),
}
_KEPT = {
    **{f"zero_kept_{tile}": ("softmax", lanes(zero_kept(tile)), None) for tile in (8, 16, 32, 48, 64, 128, 256)},
    **{
        f"zero_kept_{tile}_backward": ("softmax", lanes(zero_kept(tile, backward=True)), None)
        for tile in (8, 64, 100, 128, 256)
    },
    "zero_kept_log_64": ("log_softmax", lanes(zero_kept(64, log=True)), None),
    "zero_kept_merged_4": ("softmax", lanes(zero_kept_when_merged(4)), None),
}
_ROUNDED = {
    "16_bit_shift_and_exponential": ("softmax", narrow(shift_and_exponential), None),
    "float16_shift_and_exponential": ("softmax", one_dtype("float16", narrow(shift_and_exponential), softmax), None),
    "bfloat16_shift_and_exponential": ("softmax", one_dtype("bfloat16", narrow(shift_and_exponential), softmax), None),
    "16_bit_shift": ("softmax", narrow(shift_alone), None),
    "16_bit_scaled_shift": ("softmax", narrow(scaled_shift), None),
    "16_bit_shift_exponential_and_reciprocal": ("softmax", narrow(shift_exponential_and_reciprocal), None),
    "16_bit_log_shift_and_exponential": ("log_softmax", narrow(log_shift_and_exponential, right_log_softmax), None),
    "16_bit_log_of_sum": ("log_softmax", narrow(log_sum_rounded, right_log_softmax), None),
    "16_bit_sums_of_tiles": ("softmax", narrow(tiles_rounded(64)), None),
    "16_bit_sigmoid": ("sigmoid", sigmoid_in_16_bits, None),
}
_GRADIENT = {
    "vjp_log_softmax_rounded_p": ("log_softmax", log_softmax, vjp_log_softmax_rounded_p),
    **{
        f"vjp_log_softmax_rounded_p_{name}": (
            "log_softmax",
            log_softmax,
            vjp_of(name, vjp_log_softmax_rounded_p, right_vjp_log_softmax),
        )
        for name in ("float16", "bfloat16")
    },
    "vjp_log_softmax_in_storage": ("log_softmax", log_softmax, vjp_log_softmax_in_storage),
    "vjp_log_softmax_rounded_product": ("log_softmax", log_softmax, vjp_log_softmax_rounded_product),
    "vjp_log_softmax_rounded_shift": ("log_softmax", log_softmax, vjp_log_softmax_rounded_shift),
    "vjp_sigmoid_rounded_y": ("sigmoid", right_sigmoid, vjp_sigmoid_rounded_y),
}
_GROUPS = {"exact": _EXACT, "finite": _FINITE, "kept": _KEPT, "rounded": _ROUNDED, "gradient": _GRADIENT}
CLASSES = {name: fault for group in _GROUPS.values() for name, fault in group.items()}
CLASS_OF = {name: word for word, group in _GROUPS.items() for name in group}


# --- right twins --------------------


def finite_inside_exact_outside(x):
    """A finite number in place of -inf, less far down than nothing is, and exponentials of 0 where it stood."""
    gone = np.isneginf(x)
    safe = np.where(
        gone.all(-1, keepdims=True), np.nan, np.max(np.where(gone, np.finfo(x.dtype).min, x), -1, keepdims=True)
    )
    e = np.where(gone, 0 * safe, np.exp(np.where(gone, 0, x - safe)))
    return (e / total(e)).astype(x.dtype)


def zero_used_not_kept(tile, backward=False):
    """Online softmax in which 0 stands for a running maximum of -inf in exponents alone."""

    def kernel(x):
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


def rounded_once(rows, rounded):
    shifted = rows - top(rows)
    e = np.exp(shifted)
    return rounded(e / total(e))


def vjp_log_softmax_by_complement(x, g, axis=-1):
    """``g (1 - p)`` and the others apart, in float32 or wider; rounded once."""
    w = wide(x)
    p, g = softmax(x.astype(w), axis), g.astype(w)
    return (g - p * g.sum(axis, keepdims=True)).astype(x.dtype)


def sigmoid_exact_at_infinity(x):
    """Half of a tangent above, the exponential below, infinities set apart."""
    x = floats(np.asarray(x))
    y = right_sigmoid(np.where(np.isinf(x), 0, x).astype(x.dtype))
    return np.where(np.isneginf(x), 0, np.where(np.isposinf(x), 1, y)).astype(x.dtype)


def tiles_of_nothing_left_out(tile):
    """Online softmax that passes over tiles without a finite entry."""

    def kernel(x):
        m, s = top(x[:, :1]), np.ones((len(x), 1), x.dtype)
        for start in range(1, x.shape[-1], tile):
            block = x[:, start : start + tile]
            new = np.maximum(m, top(block))
            with_first = s * np.where(np.isneginf(m), 0, np.exp(m - new)) + total(np.exp(block - new))
            s = np.where(np.isneginf(top(block)), s, with_first)
            m = new
        return np.exp(x - m) / s

    return kernel


TWINS = {
    "finite inside, exact outside": ("softmax", lanes(finite_inside_exact_outside), None),
    "0 used, not kept": ("softmax", lanes(zero_used_not_kept(128)), None),
    "0 used, not kept, backward": ("softmax", lanes(zero_used_not_kept(64, backward=True)), None),
    "tiles of nothing left out": ("softmax", lanes(tiles_of_nothing_left_out(64)), None),
    "16 bits, rounded once": ("softmax", narrow(rounded_once), right_vjp_softmax),
    "gradient in float32, rounded once": ("log_softmax", log_softmax, vjp_log_softmax_by_complement),
    "exact at infinity": ("sigmoid", sigmoid_exact_at_infinity, right_vjp_sigmoid),
}
