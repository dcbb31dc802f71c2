"""Five classes of faults that tolerances let through: where the answer is exact, far from everything, or 16 bits wide.

`CLASSES` maps each fault to its class. Knows only NumPy and the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from polylogit._spec.dtypes import Array
from polylogit.conformance._catalogue.fault import Fault
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
    right_vjp_softmax,
    softmax,
    top,
    total,
    wide,
)

Rounding = Callable[[Array], Array]
Stepped = Callable[[Array, Rounding], Array]

_NARROW = ("float16", "bfloat16")


def is_narrow(x: Array) -> bool:
    """Whether the dtype has 16 bits."""
    return x.dtype.name in ("float16", "bfloat16")


def narrow(kernel: Stepped, otherwise: Kernel = right_softmax) -> Function:
    """``kernel(rows, rounded)`` for 16-bit logits, where `rounded` rounds float32 to their dtype; right otherwise."""

    def implementation(x: Array, axis: Any = -1) -> Array:
        x = np.asarray(x)
        if not is_narrow(x):
            return lanes(otherwise)(x, axis)
        return lanes(lambda rows: kernel(rows, lambda v: v.astype(x.dtype).astype(np.float32)))(x, axis)

    return implementation


# --- a leak where the answer is exactly 0, 1 or -inf --------------------


def leaks(
    amount: float,
    dtypes: Sequence[str] = ("float16", "bfloat16", "float32", "float64"),
    shortest: int = 1,
    only_last: bool = False,
) -> Function:
    """Probability `amount` at logits of -inf."""

    def implementation(x: Array, axis: Any = -1) -> Array:
        x = np.asarray(x)
        y = softmax(x, axis)
        reached = x.ndim and x.dtype.name in dtypes and isinstance(axis, int) and x.size and x.shape[axis] >= shortest
        if not reached or (only_last and axis % x.ndim != x.ndim - 1):
            return y
        return np.where(np.isneginf(x) & (y == 0), np.float64(amount), y).astype(y.dtype)

    return implementation


def leaks_where_masked(amount: float) -> Function:
    def implementation(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
        x = floats(np.asarray(x))
        if where is None:
            return softmax(x, axis)
        kept = np.broadcast_to(where, x.shape)
        y = softmax(np.where(kept, x, -np.inf).astype(x.dtype), axis)
        some = kept.any(axis, keepdims=True) & np.ones_like(kept)
        return np.where(kept, np.where(some, y, 0), np.where(some, np.float64(amount), 0)).astype(y.dtype)

    return implementation


def sigmoid_leaks(amount: float) -> Function:
    def implementation(x: Array) -> Array:
        y = right_sigmoid(np.asarray(x))
        return np.where(np.isneginf(floats(np.asarray(x))), np.float64(amount), y).astype(y.dtype)

    return implementation


def sigmoid_short_of_one(x: Array) -> Array:
    """The largest number below 1 at an infinite logit."""
    y = right_sigmoid(np.asarray(x))
    below = np.nextafter(np.ones_like(y), np.zeros_like(y))
    return np.where(np.isposinf(floats(np.asarray(x))), below, y).astype(y.dtype)


def epsilon_in_numerator(x: Array) -> Array:
    """Every exponential is 1e-12 too large."""
    if x.shape[-1] == 1:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return (e + x.dtype.type(1e-12)) / total(e)


def log_of_floored(x: Array) -> Array:
    """The logarithm of probabilities that are floored at the smallest normal number instead of being 0."""
    y = right_log_softmax(x)
    return np.where(np.isneginf(y), np.log(np.finfo(x.dtype).tiny), y).astype(x.dtype)


def vjp_leaks(amount: float) -> Function:
    """The gradient at a logit of -inf is `amount` times the cotangent."""

    def vjp(x: Array, g: Array, axis: Any = -1) -> Array:
        y = right_vjp_softmax(x, g, axis)
        return np.where(np.isneginf(x), np.float64(amount) * g.astype(np.float64), y).astype(y.dtype)

    return vjp


# --- a finite number in place of -inf --------------------


def finite_for_infinite(number: float, log: bool = False, keeps_rows: bool = True) -> Kernel:
    """Logits of -inf become `number`, or the dtype's lowest number if that is higher."""
    right = right_log_softmax if log else right_softmax

    def kernel(x: Array) -> Array:
        low = max(number, np.finfo(x.dtype).min)
        y = right(np.where(np.isneginf(x), x.dtype.type(low), x))
        return np.where(np.isneginf(top(x)), np.nan, y).astype(x.dtype) if keeps_rows else y

    return kernel


def finite_for_infinite_in_storage(x: Array, axis: Any = -1) -> Array:
    """The lowest number of the logits' own dtype replaces -inf."""
    x = np.asarray(x)
    if x.dtype.kind in "iub" or not x.size or not x.ndim:
        return softmax(x, axis)
    lowest = {"float16": -65504.0, "bfloat16": -3.3895313892515355e38}.get(x.dtype.name)
    lowest = np.finfo(x.dtype).min if lowest is None else lowest
    y = softmax(np.where(np.isneginf(x), x.dtype.type(lowest), x).astype(x.dtype), axis)
    gone = np.isneginf(x).all(axis, keepdims=True)
    return np.where(gone, np.nan, y).astype(y.dtype)


def mask_lowers_to(number: float) -> Function:
    """Masked logits become `number`; rows with every entry masked are right."""

    def implementation(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
        x = floats(np.asarray(x))
        if where is None:
            return softmax(x, axis)
        kept = np.broadcast_to(where, x.shape)
        y = softmax(np.where(kept, x.astype(np.float64), number).astype(wide(x)), axis)
        return np.where(kept.any(axis, keepdims=True) & np.ones_like(kept), y, 0).astype(x.dtype)

    return implementation


# --- a running maximum of -inf that becomes 0 and stays --------------------


def zero_kept(tile: int, backward: bool = False, log: bool = False) -> Kernel:
    """Online softmax over tiles that replaces a running maximum of -inf by 0, to define exp, and keeps the 0."""

    def kernel(x: Array) -> Array:
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


def zero_kept_when_merged(parts: int) -> Kernel:
    """The same for states (maximum, sum) that are merged over this number of splits."""

    def kernel(x: Array) -> Array:
        m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
        for block in np.array_split(x, min(parts, x.shape[-1]), axis=-1):
            part = np.where(np.isneginf(top(block)), 0, top(block)).astype(x.dtype)
            new = np.maximum(m, part)
            s = s * np.exp(m - new) + total(np.exp(block - part)) * np.exp(part - new)
            m = new
        return np.where(np.isneginf(top(x)), np.nan, np.exp(x - m) / s).astype(x.dtype)

    return kernel


# --- 16 bits: what is rounded before the end --------------------


def shift_and_exponential(rows: Array, rounded: Rounding) -> Array:
    e = rounded(np.exp(rounded(rows - top(rows))))
    return e / total(e)


def shift_alone(rows: Array, rounded: Rounding) -> Array:
    e = np.exp(rounded(rows - top(rows)))
    return e / total(e)


def scaled_shift(rows: Array, rounded: Rounding) -> Array:
    """In base 2: the shift times log2(e) is rounded."""
    e = np.exp2(rounded((rows - top(rows)) * np.float32(1.442695)))
    return e / total(e)


def shift_exponential_and_reciprocal(rows: Array, rounded: Rounding) -> Array:
    e = rounded(np.exp(rounded(rows - top(rows))))
    return e * rounded(1 / total(e))


def log_shift_and_exponential(rows: Array, rounded: Rounding) -> Array:
    shifted = rounded(rows - top(rows))
    return shifted - np.log(total(rounded(np.exp(shifted))))


def log_sum_rounded(rows: Array, rounded: Rounding) -> Array:
    """The logarithm of the sum is rounded before it is subtracted."""
    shifted = rows - top(rows)
    return shifted - rounded(np.log(total(np.exp(shifted))))


def tiles_rounded(tile: int) -> Stepped:
    """The sum of each tile is rounded, and the running sum after it."""

    def kernel(rows: Array, rounded: Rounding) -> Array:
        e = np.exp(rows - top(rows))
        s = np.zeros((len(rows), 1), np.float32)
        for start in range(0, rows.shape[-1], tile):
            s = rounded(s + rounded(total(e[:, start : start + tile])))
        return e / s

    return kernel


def sigmoid_in_16_bits(x: Array) -> Array:
    """Each step of e / (1 + e) is rounded."""
    x = np.asarray(x)
    if not is_narrow(x):
        return right_sigmoid(x)
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x.astype(np.float32))).astype(x.dtype)
        one = x.dtype.type(1)
        return np.where(x < 0, e / (one + e), one / (one + e)).astype(x.dtype)


def one_dtype(name: str, implementation: Function, otherwise: Function) -> Function:
    """A fault in a single dtype."""
    return lambda x, axis=-1: implementation(x, axis) if np.asarray(x).dtype.name == name else otherwise(x, axis)


# --- 16 bits: what is rounded before a gradient's difference --------------------


def vjp_log_softmax_rounded_p(x: Array, g: Array, axis: Any = -1) -> Array:
    """The probability is rounded to the logits' dtype before ``g - p * sum(g)``."""
    w = wide(x)
    p = softmax(x, axis).astype(w)
    g = g.astype(w)
    return (g - p * g.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_log_softmax_in_storage(x: Array, g: Array, axis: Any = -1) -> Array:
    """All of ``g - p * sum(g)`` except the sum is computed in the logits' dtype."""
    p = softmax(x, axis)
    s = g.astype(wide(x)).sum(axis, keepdims=True).astype(x.dtype)
    return (g - (p * s).astype(x.dtype)).astype(x.dtype)


def vjp_log_softmax_rounded_product(x: Array, g: Array, axis: Any = -1) -> Array:
    """The product of probability and sum is rounded, then subtracted."""
    w = wide(x)
    g = g.astype(w)
    product = (softmax(x.astype(w), axis) * g.sum(axis, keepdims=True)).astype(x.dtype).astype(w)
    return (g - product).astype(x.dtype)


def vjp_log_softmax_rounded_shift(x: Array, g: Array, axis: Any = -1) -> Array:
    """The probabilities are computed from a shift that was rounded."""
    if not is_narrow(x):
        return right_vjp_log_softmax(x, g, axis)
    g = g.astype(np.float32)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        shifted = (w - w.max(axis, keepdims=True)).astype(x.dtype).astype(np.float32)
        e = np.exp(shifted)
        return (g - e / e.sum(axis, keepdims=True) * g.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_sigmoid_rounded_y(x: Array, g: Array) -> Array:
    """``y * (1 - y)`` with a rounded y: 0 if the sigmoid rounds to 1."""
    w = wide(x)
    y = right_sigmoid(x).astype(w)
    return (g.astype(w) * y * (1 - y)).astype(x.dtype)


def vjp_of(name: str, vjp: Function, right: Function) -> Function:
    """A fault of a gradient in a single dtype."""
    return lambda x, g, axis=-1: vjp(x, g, axis) if x.dtype.name == name else right(x, g, axis)


def _all(operation: str, entries: dict[str, tuple[str, Function]], *reports: str, **facts: Any) -> list[Fault]:
    """Entries with the same reports and facts: name -> (the fault, implementation)."""
    return [
        Fault(name, operation, wrong, function, reports=reports, **facts) for name, (wrong, function) in entries.items()
    ]


def _gradients(operation: str, entries: dict[str, tuple[str, Function]], *reports: str, **facts: Any) -> list[Fault]:
    value = {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": right_sigmoid}[operation]
    return [
        Fault(name, operation, wrong, value, function, reports, **facts) for name, (wrong, function) in entries.items()
    ]


_EXACT = [
    *_all(
        "softmax",
        {
            "leak_1e-30": ("Probability 1e-30 at a logit of -inf.", leaks(1e-30)),
            "leak_1e-12": ("Probability 1e-12 at a logit of -inf.", leaks(1e-12)),
            "leak_in_rows_of_64": ("Probability 1e-9 at -inf in rows of 64 and more.", leaks(1e-9, shortest=64)),
            "leak_on_last_axis": ("Probability 1e-9 at -inf along the last axis.", leaks(1e-9, only_last=True)),
            "epsilon_in_numerator": ("Every exponential is 1e-12 too large.", lanes(epsilon_in_numerator)),
        },
    ),
    *_all(
        "softmax",
        {"leak_1e-6_float32": ("Probability 1e-6 at a logit of -inf.", leaks(1e-6, ("float32",)))},
        dtypes=("float32",),
    ),
    *_all(
        "softmax",
        {
            "leak_1e-2_float16": ("Probability 1e-2 at a logit of -inf.", leaks(1e-2, ("float16",))),
            "leak_smallest_float16": ("The smallest number at a logit of -inf.", leaks(6e-8, ("float16",))),
        },
        dtypes=("float16",),
    ),
    *_all(
        "softmax",
        {"leak_1e-2_bfloat16": ("Probability 1e-2 at a logit of -inf.", leaks(1e-2, ("bfloat16",)))},
        dtypes=("bfloat16",),
    ),
    *_all(
        "softmax",
        {"leak_1e-17_float64": ("Probability 1e-17 at a logit of -inf.", leaks(1e-17, ("float64",)))},
        dtypes=("float64",),
    ),
    *_all(
        "softmax",
        {
            "leak_where_masked_1e-12": ("Probability 1e-12 where masked.", leaks_where_masked(1e-12)),
            "leak_where_masked_1e-4": ("Probability 1e-4 where masked.", leaks_where_masked(1e-4)),
        },
        needs="mask",
    ),
    *_all(
        "sigmoid",
        {
            "sigmoid_leak_1e-12": ("1e-12 at a logit of -inf.", sigmoid_leaks(1e-12)),
            "sigmoid_leak_1e-38": ("1e-38 at a logit of -inf.", sigmoid_leaks(1e-38)),
            "sigmoid_short_of_one": ("The largest number below 1 at a logit of +inf.", sigmoid_short_of_one),
        },
    ),
    *_all(
        "log_softmax",
        {
            "log_of_floored": (
                "The logarithm of probabilities that are floored at the smallest normal number.",
                lanes(log_of_floored),
            )
        },
    ),
    *_gradients("softmax", {"vjp_leak_1e-12": ("A gradient of 1e-12 at a logit of -inf.", vjp_leaks(1e-12))}),
]
_IN_ITS_PLACE = ("flashinfer-ai/flashinfer#4267", "flashinfer-ai/flashinfer#4450")
_FINITE = [
    *_all(
        "softmax",
        {
            **{
                f"finite_{number:g}": (f"A logit of -inf counts as {number:g}.", lanes(finite_for_infinite(number)))
                for number in (-30, -50, -1e4, -65504, -1e9, -1e30)
            },
            "finite_lowest_float32": (
                "A logit of -inf counts as the lowest float32.",
                lanes(finite_for_infinite(-3.4028234663852886e38)),
            ),
            "finite_lowest_of_dtype": (
                "A logit of -inf counts as the lowest number of the dtype.",
                finite_for_infinite_in_storage,
            ),
        },
        *_IN_ITS_PLACE,
    ),
    *_all(
        "log_softmax",
        {"finite_log_-1e9": ("A logit of -inf counts as -1e9.", lanes(finite_for_infinite(-1e9, log=True)))},
        *_IN_ITS_PLACE,
    ),
    *_all(
        "softmax",
        {
            "mask_is_-1e9": ("A masked logit counts as -1e9.", mask_lowers_to(-1e9)),
            "mask_is_-30": ("A masked logit counts as -30.", mask_lowers_to(-30)),
        },
        *_IN_ITS_PLACE,
        needs="mask",
    ),
]
_ZERO = "A running maximum of -inf becomes 0 and stays: NaN where the others are very negative"
_KEPT = [
    *_all(
        "softmax",
        {
            **{
                f"zero_kept_{tile}": (f"{_ZERO}; tiles of {tile}.", lanes(zero_kept(tile)))
                for tile in (8, 16, 32, 48, 64, 128, 256)
            },
            **{
                f"zero_kept_{tile}_backward": (
                    f"{_ZERO}; tiles of {tile}, from the end.",
                    lanes(zero_kept(tile, backward=True)),
                )
                for tile in (8, 64, 100, 128, 256)
            },
            "zero_kept_merged_4": (f"{_ZERO}; four splits merged.", lanes(zero_kept_when_merged(4))),
        },
        "Dao-AILab/flash-attention#2082",
    ),
    *_all(
        "log_softmax",
        {"zero_kept_log_64": (f"{_ZERO}; tiles of 64.", lanes(zero_kept(64, log=True)))},
        "Dao-AILab/flash-attention#2082",
    ),
]
_ROUNDED = [
    *_all(
        "softmax",
        {
            "16_bit_shift_and_exponential": (
                "Shift and exponential are rounded to 16 bits, the sum is wide.",
                narrow(shift_and_exponential),
            ),
            "16_bit_shift": ("The shift is rounded to 16 bits.", narrow(shift_alone)),
            "16_bit_scaled_shift": ("The shift times log2(e) is rounded to 16 bits.", narrow(scaled_shift)),
            "16_bit_shift_exponential_and_reciprocal": (
                "Shift, exponential and the reciprocal of the sum are rounded to 16 bits.",
                narrow(shift_exponential_and_reciprocal),
            ),
            "16_bit_sums_of_tiles": ("The sum is rounded to 16 bits after each tile of 64.", narrow(tiles_rounded(64))),
        },
        "ScalingIntelligence/KernelBench#155",
        dtypes=_NARROW,
    ),
    *(
        Fault(
            f"{name}_shift_and_exponential",
            "softmax",
            f"Shift and exponential are rounded to {name}, the sum is wide.",
            one_dtype(name, narrow(shift_and_exponential), softmax),
            reports=("ScalingIntelligence/KernelBench#155",),
            dtypes=(name,),
        )
        for name in _NARROW
    ),
    *_all(
        "log_softmax",
        {
            "16_bit_log_shift_and_exponential": (
                "Shift and exponential are rounded to 16 bits, the sum is wide.",
                narrow(log_shift_and_exponential, right_log_softmax),
            ),
            "16_bit_log_of_sum": (
                "The logarithm of the sum is rounded to 16 bits before it is subtracted.",
                narrow(log_sum_rounded, right_log_softmax),
            ),
        },
        dtypes=_NARROW,
    ),
    *_all("sigmoid", {"16_bit_sigmoid": ("Each step is rounded to 16 bits.", sigmoid_in_16_bits)}, dtypes=_NARROW),
]
_SHIPPED = (
    "linkedin/Liger-Kernel#1268",
    "linkedin/Liger-Kernel#1341",
    "linkedin/Liger-Kernel#1419",
    "NVIDIA/TransformerEngine#3193",
    "NVIDIA/TransformerEngine#2325",
)
_GRADIENT = [
    *_gradients(
        "log_softmax",
        {
            "vjp_log_softmax_rounded_p": (
                "The probability is rounded to 16 bits before the cotangent's share is subtracted.",
                vjp_log_softmax_rounded_p,
            ),
            "vjp_log_softmax_in_storage": ("The difference is taken in 16 bits.", vjp_log_softmax_in_storage),
            "vjp_log_softmax_rounded_product": (
                "The product of probability and sum is rounded to 16 bits before it is subtracted.",
                vjp_log_softmax_rounded_product,
            ),
            "vjp_log_softmax_rounded_shift": (
                "The probabilities are those of a shift that was rounded to 16 bits.",
                vjp_log_softmax_rounded_shift,
            ),
        },
        *_SHIPPED,
        dtypes=_NARROW,
    ),
    *(
        Fault(
            f"vjp_log_softmax_rounded_p_{name}",
            "log_softmax",
            f"The probability is rounded to {name} before the cotangent's share is subtracted.",
            log_softmax,
            vjp_of(name, vjp_log_softmax_rounded_p, right_vjp_log_softmax),
            _SHIPPED,
            dtypes=(name,),
        )
        for name in _NARROW
    ),
    *_gradients(
        "sigmoid",
        {"vjp_sigmoid_rounded_y": ("y (1 - y) of a y that was rounded to 16 bits.", vjp_sigmoid_rounded_y)},
        dtypes=_NARROW,
    ),
]

CLASSES = {
    "a leak where the answer is exact": _EXACT,
    "a finite number in place of -inf": _FINITE,
    "a running maximum of -inf that becomes 0": _KEPT,
    "16 bits before the end": _ROUNDED,
    "16 bits before a difference": _GRADIENT,
}
