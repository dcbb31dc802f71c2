"""Published faults, one for each report, and unreported faults of the same classes.

Each is written from the facts of its report, and is right in every other respect. Knows only NumPy and the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._catalogue.fault import Collected, Fault
from polylogit.conformance._catalogue.steps import (
    Function,
    lanes,
    log_softmax,
    right_sigmoid,
    right_softmax,
    right_vjp_log_softmax,
    right_vjp_softmax,
    softmax,
    top,
    total,
    wide,
)

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array

PUBLISHED = Collected()
UNPUBLISHED = Collected()


# --- softmax --------------------


@PUBLISHED.rows("softmax", "The exponential without the maximum: NaN from 90 on.", "dotnet/machinelearning#3648")
def no_max_softmax(x: Array) -> Array:
    e = np.exp(x)
    return e / total(e)


@PUBLISHED.rows(
    "softmax", "The running maximum starts at 0, so that rows of very negative logits give 0/0.", "uTensor/uTensor#176"
)
def max_init_zero(x: Array) -> Array:
    e = np.exp(x - np.maximum(top(x), 0))
    return e / total(e)


@PUBLISHED.value(
    "softmax",
    "The vector path of bfloat16, for rows of 16 and more, forgets the maximum.",
    "pytorch/pytorch#62897",
    dtypes=("bfloat16",),
)
def bf16_vector_path_no_max(x: Array, axis: Any = -1) -> Array:
    if x.dtype.name == "bfloat16" and x.shape and x.shape[-1] >= 16:
        return lanes(no_max_softmax)(x, axis)
    return softmax(x, axis)


@PUBLISHED.rows(
    "softmax",
    "The argument of exp2 is contracted to a fused multiply-add: the maximum's own is a residue, and not 0.",
    "pytorch/pytorch#121558",
    "jax-ml/jax#37234",
    "SlopDotCash/asi#2886",
)
def fma_contracted_scale(x: Array) -> Array:
    log2e = 1.4426950408889634
    scaled = (top(x).astype(np.float64) * log2e).astype(x.dtype)
    # One rounding for product and difference, as an fma has; float64 stands in for it.
    exponent = (x.astype(np.float64) * log2e - scaled).astype(x.dtype)
    e = np.exp2(exponent)
    return e / total(e)


@PUBLISHED.rows(
    "softmax",
    "The online recurrence scales by exp(-inf - -inf) where the first block is all -inf.",
    "pytorch/pytorch#127055",
)
def online_masked_first_block(x: Array) -> Array:
    m = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
    s = np.zeros_like(m)
    for start in range(0, x.shape[-1], 64):
        block = x[:, start : start + 64]
        new = np.maximum(m, top(block))
        s = s * np.exp(m - new) + total(np.exp(block - new))
        m = new
    return np.exp(x - m) / s


@PUBLISHED.rows(
    "softmax", "Of rows longer than 128 the reduction keeps the state of the last chunk.", "NVIDIA/TensorRT#1097"
)
def per_chunk_max_only(x: Array) -> Array:
    if x.shape[-1] <= 128:
        return right_softmax(x)
    start = (x.shape[-1] - 1) // 128 * 128
    m = top(x[:, start:])
    e = np.exp(x - m)
    return e / total(e)


@PUBLISHED.rows(
    "softmax", "Rows of one entry give the number below 1 where there are 8 of them.", "tensorflow/tensorflow#116933"
)
def size1_axis_one_ulp_low(x: Array) -> Array:
    if x.shape[-1] == 1 and x.shape[0] >= 8:
        return np.full_like(x, 1 - 2.0**-24 if x.dtype == np.float32 else 1 - 2.0**-53)
    return right_softmax(x)


def in_16_bits(name: str) -> Function:
    def implementation(x: Array, axis: Any = -1) -> Array:
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


@PUBLISHED.rows(
    "softmax",
    "-inf is replaced by the lowest finite number, so that a row of nothing else comes out uniform.",
    "NVIDIA/apex#1390",
    "keras-team/keras#21123",
    "NVIDIA/TensorRT-LLM#17477",
    "d2l-ai/d2l-en#2423",
)
def fully_masked_uniform(x: Array) -> Array:
    return right_softmax(np.where(np.isneginf(x), np.finfo(x.dtype).min, x))


@PUBLISHED.rows("softmax", "NaN stays at its own entry, and the others are normalised without it.")
def nan_ignored_by_max_and_sum(x: Array) -> Array:
    e = np.exp(x - np.fmax.reduce(x, axis=-1, keepdims=True))
    return np.where(np.isnan(x), np.nan, e / np.nansum(e, -1, keepdims=True))


@PUBLISHED.value("softmax", "An axis out of range wraps around.", "tensorflow/tensorflow#22793", needs="axis")
def axis_out_of_range_accepted(x: Array, axis: Any = -1) -> Array:
    return softmax(x, axis % x.ndim if isinstance(axis, int) and x.ndim else axis)


@PUBLISHED.value(
    "softmax",
    "It normalises over the axis and all that follow.",
    "apache/tvm#19420",
    "apache/tvm#20183",
    "microsoft/onnxruntime#4288",
    "microsoft/onnxruntime#15949",
    needs="axis",
)
def flattens_trailing_axes(x: Array, axis: Any = -1) -> Array:
    if isinstance(axis, int) and x.ndim and -x.ndim <= axis < x.ndim:
        return softmax(x, tuple(range(axis % x.ndim, x.ndim)))
    return softmax(x, axis)


@PUBLISHED.value("softmax", "axis=None is taken for the last axis.", "keras-team/keras-core#143", needs="axis")
def axis_none_means_last(x: Array, axis: Any = -1) -> Array:
    return softmax(x, -1 if axis is None else axis)


@PUBLISHED.value(
    "softmax",
    "Of a view the memory is read from its beginning.",
    "tracel-ai/burn#4815",
    "ml-explore/mlx#657",
    needs="layout",
)
def reads_base_storage(x: Array, axis: Any = -1) -> Array:
    if x.ndim and not x.flags.c_contiguous and x.base is not None and x.dtype.isnative:
        base = x.base
        while isinstance(base.base, np.ndarray):
            base = base.base
        flat = base.ravel(order="K").view(np.uint8)
        if flat.size >= x.nbytes:
            x = flat[: x.nbytes].copy().view(x.dtype).reshape(x.shape)
    return softmax(x, axis)


@PUBLISHED.value("softmax", "x - max wraps around in unsigned integers.", "cupy/cupy#6823", needs="integers")
def unsigned_wraparound(x: Array, axis: Any = -1) -> Array:
    if x.dtype.kind != "u":
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        e = np.exp((x - x.max(axis, keepdims=True)).astype(np.float32))
        return e / e.sum(axis, keepdims=True)


# --- log_softmax --------------------


@PUBLISHED.rows("log_softmax", "The maximum leaves out the first entry.", "pytorch/pytorch#3240")
def max_skips_first(x: Array) -> Array:
    rest = x[:, 1:]
    m = rest.max(-1, keepdims=True) if rest.shape[-1] else np.full((len(x), 1), -np.inf, x.dtype)
    shifted = x - m
    return shifted - np.log(total(np.exp(shifted)))


@PUBLISHED.rows(
    "log_softmax",
    "The logarithm of softmax: -inf where it underflows.",
    "tenstorrent/pytorch2.0_ttnn#1341",
    "apache/tvm#11141",
)
def log_of_softmax(x: Array) -> Array:
    return np.log(right_softmax(x))


@PUBLISHED.value(
    "log_softmax", "A division by zero on empty arrays.", "pytorch/pytorch#17262", "apache/mxnet#20005", needs="empty"
)
def empty_axis_crash(x: Array, axis: Any = -1) -> Array:
    if 0 in x.shape:
        raise FloatingPointError("integer division by zero")
    return log_softmax(x, axis)


# --- sigmoid --------------------


@PUBLISHED.value("sigmoid", "exp(x) / (1 + exp(x)): NaN above 88.7.", "clab/dynet#1525")
def sigmoid_exp_ratio(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    with np.errstate(all="ignore"):
        e = np.exp(x.astype(wide(x)))
        return (e / (1 + e)).astype(x.dtype)


@PUBLISHED.value(
    "sigmoid",
    "1 - sigmoid(|x|) for negative logits, so that small probabilities become 0.",
    "microsoft/onnxruntime#26281",
    "microsoft/onnxruntime#24685",
)
def sigmoid_one_minus(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    y = right_sigmoid(np.abs(x)).astype(wide(x))
    return np.where(x < 0, 1 - y, y).astype(x.dtype)


@PUBLISHED.value("sigmoid", "The logits come back where none of them is negative.", "microsoft/onnxruntime#27533")
def sigmoid_skipped_nonnegative(x: Array) -> Array:
    return right_sigmoid(x) if (x < 0).any() or x.dtype.kind != "f" else x.copy()


@PUBLISHED.gradient(
    "sigmoid",
    "g exp(-x) y y: infinity times 0 for very negative logits.",
    "huggingface/candle#1722",
    "tinygrad/tinygrad#1113",
)
def vjp_sigmoid_exp_y2(x: Array, g: Array) -> Array:
    w = wide(x)
    with np.errstate(all="ignore"):
        y = right_sigmoid(x.astype(w))
        return (g.astype(w) * np.exp(-x.astype(w)) * y * y).astype(x.dtype)


@PUBLISHED.gradient(
    "log_softmax", "Softmax's gradient of g / y: 0/0 where a probability underflows.", "FluxML/NNlib.jl#68"
)
def vjp_log_softmax_divides(x: Array, g: Array, axis: Any = -1) -> Array:
    w = wide(x)
    with np.errstate(all="ignore"):
        y = softmax(x.astype(w), axis)
        h = g.astype(w) / y
        return (y * (h - (h * y).sum(axis, keepdims=True))).astype(x.dtype)


@PUBLISHED.gradient(
    "log_softmax", "The sum of the cotangent overflows float16.", "jax-ml/jax#40409", dtypes=("float16",)
)
def vjp_log_softmax_f16_overflow(x: Array, g: Array, axis: Any = -1) -> Array:
    if x.dtype.name != "float16":
        return right_vjp_log_softmax(x, g, axis)
    with np.errstate(all="ignore"):
        s = g.astype(np.float32).sum(axis, keepdims=True).astype(np.float16)
        y = softmax(x.astype(np.float32), axis)
        return (g - y * s.astype(np.float32)).astype(np.float16)


@PUBLISHED.gradient("softmax", "The diagonal of the Jacobian alone: g y (1 - y).", "renan-cunha/BatchNormalization#2")
def vjp_softmax_diagonal_only(x: Array, g: Array, axis: Any = -1) -> Array:
    y = softmax(x.astype(wide(x)), axis)
    return (g.astype(wide(x)) * y * (1 - y)).astype(x.dtype)


PUBLISHED += [
    Fault(
        "softmax_returns_log",
        "softmax",
        "softmax is dispatched to the kernel of log_softmax.",
        log_softmax,
        reports=("tensorflow/tensorflow#2315",),
    ),
    Fault(
        "bf16_accumulator",
        "softmax",
        "The running sum of bfloat16 saturates at 256.",
        in_16_bits("bfloat16"),
        reports=("pytorch/executorch#20089", "pytorch/executorch#20090"),
        dtypes=("bfloat16",),
    ),
    Fault(
        "f16_sum_overflow",
        "softmax",
        "The sum of a float16 row overflows, and every probability is 0.",
        in_16_bits("float16"),
        reports=("google-research/last#43",),
        dtypes=("float16",),
    ),
]


# --- faults of the same classes that nobody reported --------------------


@UNPUBLISHED.value("softmax", "Of square matrices the maxima are subtracted along the other axis.")
def keepdims_lost(x: Array, axis: Any = -1) -> Array:
    if x.ndim != 2 or x.shape[0] != x.shape[1] or axis not in (-1, 1):
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        w = x.astype(wide(x))
        e = np.exp(w - w.max(1))
        return (e / e.sum(1, keepdims=True)).astype(x.dtype)


@UNPUBLISHED.rows("softmax", "The maximum is that of the whole array.")
def whole_maximum(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / total(e)


@UNPUBLISHED.rows("softmax", "1e-6 is added to the sum.")
def denominators_padded(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e / (total(e) + x.dtype.type(1e-6))


@UNPUBLISHED.rows("softmax", "In rows of 32 and more, what does not fill a vector of 8 is left out of the sum.")
def tail_of_vector_lost(x: Array) -> Array:
    n = x.shape[-1] // 8 * 8
    if n == 0 or x.shape[-1] < 32:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / total(e[:, :n])


@UNPUBLISHED.rows("softmax", "In rows of more than 4,096, what does not fill a tile of 16 is left out of the maximum.")
def tail_of_long_rows_lost(x: Array) -> Array:
    n = x.shape[-1] // 16 * 16
    if n < 4096:
        return right_softmax(x)
    e = np.exp(x - top(x[:, :n]))
    return e / total(e)


@UNPUBLISHED.rows("softmax", "The sum is taken one by one, without pairs or blocks.")
def running_sum(x: Array) -> Array:
    e = np.exp(x - top(x))
    s = np.cumsum(e, axis=-1, dtype=x.dtype)[:, -1:]
    return e / s


@UNPUBLISHED.rows("softmax", "The running maximum is not reset between rows.")
def maximum_kept_between_rows(x: Array) -> Array:
    m = np.maximum.accumulate(top(x), axis=0)
    e = np.exp(x - m)
    return e / total(e)


@UNPUBLISHED.rows("softmax", "The running maximum starts at -1e30.")
def lowest_is_minus_1e30(x: Array) -> Array:
    e = np.exp(x - np.maximum(top(x), x.dtype.type(-1e30)))
    return e / total(e)


@UNPUBLISHED.value("softmax", "A result is remembered by the input's address and shape.", needs="calls")
class Remembering:
    entry = "remembering"

    def __init__(self) -> None:
        self.last: dict[Any, Any] = {}

    def __call__(self, x: Array, axis: Any = -1) -> Array:
        key = (id(x), x.shape, axis)
        if key not in self.last:
            self.last = {key: (x, softmax(x, axis))}
        return self.last[key][1]


@UNPUBLISHED.value("softmax", "Every call returns the same buffer.", needs="calls")
class OneBuffer:
    entry = "one_buffer"

    def __init__(self) -> None:
        self.buffers: dict[Any, Any] = {}

    def __call__(self, x: Array, axis: Any = -1) -> Array:
        y = softmax(x, axis)
        out = self.buffers.setdefault((y.shape, y.dtype), np.empty_like(y))
        out[...] = y
        return out


@UNPUBLISHED.value("softmax", "The result is written over the input.", needs="calls")
def in_place(x: Array, axis: Any = -1) -> Array:
    y = softmax(x, axis)
    if x.dtype.kind == "f" and x.flags.writeable:
        x[...] = y
        return x
    return y


@UNPUBLISHED.gradient("softmax", "The gradient along the last axis, whatever was asked for.", needs="axis")
def vjp_ignores_axis(x: Array, g: Array, axis: Any = -1) -> Array:
    return right_vjp_softmax(x, g, -1)


@UNPUBLISHED.gradient("log_softmax", "The sum of the cotangent is taken to be 1.")
def vjp_assumes_unit_cotangent(x: Array, g: Array, axis: Any = -1) -> Array:
    return (g - softmax(x, axis)).astype(x.dtype)


@UNPUBLISHED.gradient("log_softmax", "The gradient is written over the cotangent.", needs="calls")
def vjp_writes_cotangent(x: Array, g: Array, axis: Any = -1) -> Array:
    result = right_vjp_log_softmax(x, g, axis)
    if g.flags.writeable:
        g[...] = result
    return result


@UNPUBLISHED.value("sigmoid", "Logits are limited to 30.")
def sigmoid_clipped(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    return right_sigmoid(np.clip(x, -30, 30).astype(x.dtype))


@UNPUBLISHED.value("sigmoid", "Interpolated in a table from -8 to 8.")
def sigmoid_table(x: Array) -> Array:
    x = x if x.dtype.kind not in "iub" else x.astype(np.float64)
    grid = np.linspace(-8, 8, 4097)
    return np.interp(x.astype(np.float64), grid, 1 / (1 + np.exp(-grid))).astype(x.dtype)


@UNPUBLISHED.rows("log_softmax", "x - (max + log sum), which loses the logarithm where the maximum is large.")
def log_softmax_large_offset(x: Array) -> Array:
    m = top(x)
    return x - (m + np.log(total(np.exp(x - m))))
