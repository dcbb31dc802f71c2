"""More faults that users reported in real implementations, beyond those of `published`.

Each reproduces the facts of its report, and is right in every other respect. Knows only NumPy and the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._catalogue.fault import Collected
from polylogit.conformance._catalogue.steps import (
    along,
    floats,
    last,
    log_softmax,
    one_axis,
    packed,
    right_log_softmax,
    right_sigmoid,
    right_softmax,
    right_vjp_log_softmax,
    right_vjp_softmax,
    softmax,
    top,
    total,
    wide,
    widened,
)

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array

REPORTED = Collected()


# --- softmax and log_softmax: the maximum --------------------


@REPORTED.value(
    "log_softmax",
    "On another axis than the last, 16-bit lanes 8 to 15 get the maxima of lanes 0 to 7.",
    "pytorch/pytorch#156379",
    needs="axis",
    dtypes=("float16", "bfloat16"),
)
def maximum_of_half_the_lanes(x: Array, axis: Any = -1) -> Array:
    if not one_axis(x, axis) or x.dtype.itemsize != 2 or x.dtype.kind in "iu" or last(x, axis) or x.shape[axis] == 1:
        return log_softmax(x, axis)
    w = np.moveaxis(x, axis, -1).astype(np.float32)
    rows = w.reshape(-1, w.shape[-1])
    m = top(rows)
    for start in range(0, len(rows) - 15, 16):
        m[start + 8 : start + 16] = m[start : start + 8]
    with np.errstate(all="ignore"):
        shifted = rows - m
        y = shifted - np.log(total(np.exp(shifted)))
    return np.moveaxis(y.reshape(w.shape), -1, axis).astype(x.dtype)


@REPORTED.value(
    "softmax",
    "On another axis than the last, the maximum of the whole array.",
    "PaddlePaddle/Paddle#19800",
    needs="axis",
)
def whole_maximum_on_other_axes(x: Array, axis: Any = -1) -> Array:
    if not one_axis(x, axis) or last(x, axis) or x.shape[axis] == 1:
        return softmax(x, axis)

    def kernel(w: Array, axis: Any) -> Array:
        e = np.exp(w - w.max())
        return e / e.sum(axis, keepdims=True)

    return along(x, axis, kernel)


@REPORTED.rows("softmax", "The maximum is at least -1e4, the sum at least 1e-6.", "tracel-ai/burn#4697")
def maximum_floored(x: Array) -> Array:
    e = np.exp(x - np.maximum(top(x), -1e4).astype(x.dtype))
    return e / np.maximum(total(e), x.dtype.type(1e-6))


@REPORTED.rows(
    "log_softmax", "The running maximum starts at FLT_MIN, the smallest positive number.", "mit-han-lab/tinyengine#107"
)
def smallest_positive_as_lowest(x: Array) -> Array:
    m = np.maximum(top(x), np.finfo(x.dtype).tiny)
    shifted = x - m
    return shifted - np.log(total(np.exp(shifted)))


@REPORTED.rows(
    "softmax", "Each thread starts its maximum at its own element and strides on.", "Infatoshi/cuda-course#10"
)
def maximum_from_own_element(x: Array) -> Array:
    m = np.maximum.accumulate(x[:, ::-1], axis=-1)[:, ::-1]
    e = np.exp(x - m)
    return e / total(e)


@REPORTED.rows("softmax", "The reduction of the maxima over a warp adds a lane of zeros.", "bytedance/lightseq#74")
def two_lanes_of_maxima(x: Array) -> Array:
    n = x.shape[-1]
    m = top(x) if n % 32 == 0 else np.maximum(top(x), 0)
    e = np.exp(x - m)
    return e / total(e)


@REPORTED.rows(
    "softmax", "The last tile of 32 enters the sum as exp(x), not exp(x - max).", "tenstorrent/tt-metal#51278"
)
def last_tile_not_shifted(x: Array) -> Array:
    m = top(x)
    e = np.exp(x - m)
    start = (x.shape[-1] - 1) // 32 * 32
    return e / (total(e[:, :start]) + total(np.exp(x[:, start:])))


@REPORTED.rows(
    "softmax",
    "No maximum, and where the sum overflows its reciprocal is 0: no NaN, all zeros.",
    "tenstorrent/tt-metal#52131",
)
def zeros_beyond_range(x: Array) -> Array:
    e = np.exp(x)
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(total(e)), e / total(e), 0).astype(x.dtype)


@REPORTED.rows("log_softmax", "x - log(sum(exp(x))).", "tracel-ai/burn#315", "tenstorrent/tt-metal#9978")
def log_softmax_no_maximum(x: Array) -> Array:
    return x - np.log(total(np.exp(x)))


@REPORTED.rows("log_softmax", "Lost where the maximum swallows the logarithm.", "pytorch/pytorch#11752")
def log_softmax_maximum_added_back(x: Array) -> Array:
    m = top(x)
    return x - (np.log(total(np.exp(x - m))) + m)


# --- softmax and log_softmax: lengths, tails and blocks --------------------


@REPORTED.rows(
    "softmax",
    "Float64 rows too long for registers lose what does not fill a vector.",
    "pytorch/pytorch#143644",
    dtypes=("float64",),
)
def rows_of_517_in_float64(x: Array) -> Array:
    if x.dtype != np.float64 or x.shape[-1] <= 512:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / total(e[:, : x.shape[-1] // 4 * 4])


@REPORTED.rows("log_softmax", "One logarithm too many in rows longer than 100,000.", "PaddlePaddle/Paddle#53654")
def logarithm_twice_beyond_100000(x: Array) -> Array:
    if x.shape[-1] <= 100_000:
        return right_log_softmax(x)
    shifted = x - top(x)
    return shifted - np.log(np.log(total(np.exp(shifted))))


@REPORTED.rows("softmax", "Rows of -inf are zeros below 128 entries and NaN from there on.", "ml-explore/mlx#1467")
def masked_rows_by_length(x: Array) -> Array:
    y = right_softmax(x)
    return np.where(np.isneginf(top(x)), 0, y).astype(x.dtype) if x.shape[-1] < 128 else y


@REPORTED.rows("softmax", "Rows padded to a multiple of 4 with logits of 0.", "tensorflow/tensorflow#108244")
def padded_with_zero(x: Array) -> Array:
    pad = -x.shape[-1] % 4
    full = np.pad(x, ((0, 0), (0, pad)))
    return right_softmax(full)[:, : x.shape[-1]]


@REPORTED.rows(
    "softmax", "Below 128 entries each lane reads 4 neighbours but owns every 32nd.", "NVIDIA/Megatron-LM#132"
)
def short_rows_read_four_at_a_time(x: Array) -> Array:
    n = x.shape[-1]
    if n >= 128 or n <= 32:
        return right_softmax(x)
    order = (np.arange(128).reshape(32, 4).T).ravel()
    return right_softmax(x[:, order[order < n]])


@REPORTED.rows(
    "softmax",
    "The grid has 512 rows, and what lies beyond is computed on the wrong rows.",
    "ggml-org/llama.cpp#10301",
    least_rows=513,
)
def rows_beyond_grid(x: Array) -> Array:
    y = right_softmax(x)
    if len(x) > 512:
        y[512:] = y[: len(x) - 512] if len(x) <= 1024 else np.resize(y[:512], y[512:].shape)
    return y


@REPORTED.rows("softmax", "Off by one where there are 2 or 3 channels.", "xmos/ai_tools#902")
def two_or_three_channels(x: Array) -> Array:
    if x.shape[-1] not in (2, 3):
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / (total(e) - e[:, -1:])


@REPORTED.rows(
    "softmax",
    "A block of 1,024 threads holds 4 entries each; what follows is left out.",
    "NVIDIA/FasterTransformer#663",
)
def longer_than_4096(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e / total(e[:, :4096])


@REPORTED.rows(
    "softmax",
    "The path of several blocks reduces where it should compare element by element.",
    "linkedin/Liger-Kernel#1252",
)
def wider_than_65536(x: Array) -> Array:
    n = x.shape[-1]
    if n <= 65536:
        return right_softmax(x)
    m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
    for start in range(0, n, 65536):
        m = top(x[:, start : start + 65536])
        s = s + total(np.exp(x[:, start : start + 65536] - m))
    return np.exp(x - m) / s


@REPORTED.rows(
    "log_softmax", "Threads without an entry merge exp(-inf - -inf).", "gabrieldemarmiesse/torch-mojo-backend#319"
)
def narrow_rows_collapse(x: Array) -> Array:
    return right_log_softmax(x) if x.shape[-1] >= 1024 else np.full_like(x, np.nan)


@REPORTED.rows("softmax", "The running sum is scaled by exp(new - old).", "deepseek-ai/FlashMLA#177")
def rescaled_the_wrong_way(x: Array) -> Array:
    m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
    for start in range(0, x.shape[-1], 64):
        block = x[:, start : start + 64]
        new = np.maximum(m, top(block))
        s = np.where(np.isneginf(m), 0, s * np.exp(np.where(np.isneginf(m), 0, new - m))) + total(np.exp(block - new))
        m = new
    return (np.exp(x - m) / s).astype(x.dtype)


@REPORTED.rows("softmax", "A block divides before the others have added their part.", "xlite-dev/LeetCUDA#251")
def blocks_not_waited_for(x: Array) -> Array:
    e = np.exp(x - top(x))
    if x.shape[-1] <= 256:
        return e / total(e)
    parts = [total(e[:, start : start + 256]) for start in range(0, x.shape[-1], 256)]
    sums = np.cumsum(np.concatenate(parts, axis=1), axis=1)
    return e / np.repeat(sums, 256, axis=1)[:, : x.shape[-1]]


# --- softmax and log_softmax: precision --------------------


@REPORTED.rows("softmax", "exponentials from a table of float16 arguments and results.", "ggml-org/llama.cpp#7154")
def half_table_of_exponentials(x: Array) -> Array:
    with np.errstate(all="ignore"):
        e = np.exp((x - top(x)).astype(np.float16).astype(np.float32)).astype(np.float16).astype(x.dtype)
    return e / total(e)


@REPORTED.rows(
    "softmax", "Float32 computed in float16 for speed, and returned as float32.", "torch-spyre/torch-spyre#2012"
)
def float32_through_float16(x: Array) -> Array:
    with np.errstate(all="ignore"):
        return right_softmax(x.astype(np.float16).astype(np.float32)).astype(np.float16).astype(x.dtype)


@REPORTED.value(
    "softmax",
    "A float16 running sum stops growing at 2,048.",
    "huggingface/candle#3727",
    "sonos/tract#2586",
    dtypes=("float16",),
)
def f16_sum_saturates(x: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float16 or not one_axis(x, axis):
        return softmax(x, axis)
    w = np.moveaxis(x, axis, -1).astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(w - top(w)).astype(np.float16)
        s = np.add.accumulate(e, axis=-1, dtype=np.float16)[..., -1:]
        return np.moveaxis((e.astype(np.float32) / s.astype(np.float32)).astype(x.dtype), -1, axis)


@REPORTED.value(
    "softmax",
    "The last axis has a float32 sum, the others one in float16.",
    "microsoft/onnxruntime#24577",
    needs="axis",
    dtypes=("float16",),
)
def f16_sum_overflows_on_other_axes(x: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float16 or not one_axis(x, axis) or last(x, axis):
        return softmax(x, axis)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(w - w.max(axis, keepdims=True))
        return (e / e.sum(axis, keepdims=True).astype(np.float16).astype(np.float32)).astype(np.float16)


@REPORTED.rows("softmax", "The reciprocal of the sum is 0.2 % low.", "tenstorrent/tt-metal#52045")
def approximate_reciprocal(x: Array) -> Array:
    e = np.exp(x - top(x))
    return e * (x.dtype.type(0.998) / total(e))


@REPORTED.value("softmax", "Float64 computed in float32.", "dotnet/machinelearning#3676", dtypes=("float64",))
def wide_input_halved_first(x: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float64 or not x.size:
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        return softmax(x.astype(np.float32), axis).astype(np.float64)


@REPORTED.rows("softmax", "Results are kept above exp(-64).", "PaddlePaddle/Paddle#9993")
def probabilities_clipped(x: Array) -> Array:
    y = right_softmax(x)
    return np.maximum(y, x.dtype.type(1.6e-28))


@REPORTED.rows("log_softmax", "Log of probabilities clipped to 1e-7.", "keras-team/keras#2822")
def log_of_clipped(x: Array) -> Array:
    return np.log(np.clip(right_softmax(x), 1e-7, 1)).astype(x.dtype)


@REPORTED.rows("softmax", "exp of arguments limited to -87.", "alibaba/MNN#235")
def exponent_clipped(x: Array) -> Array:
    e = np.exp(np.maximum(x - top(x), x.dtype.type(-87)))
    return e / total(e)


@REPORTED.value(
    "log_softmax",
    "The logarithm of the sum is rounded to float16 before it is subtracted.",
    "apache/mxnet#14098",
    dtypes=("float16",),
)
def log_in_half(x: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float16 or not one_axis(x, axis):
        return log_softmax(x, axis)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        shifted = (w - w.max(axis, keepdims=True)).astype(np.float16)
        s = np.exp(shifted.astype(np.float32)).sum(axis, keepdims=True).astype(np.float16)
        return shifted - np.log(s).astype(np.float16)


# --- softmax and log_softmax: axes, shapes and strides --------------------


@REPORTED.value(
    "softmax", "Wrong where there are three dimensions and the axis is 2.", "ariaghora/mint#3", needs="axis"
)
def three_dimensions_last_axis(x: Array, axis: Any = -1) -> Array:
    if x.ndim == 3 and one_axis(x, axis) and axis == 2:
        return softmax(x, 1)
    return softmax(x, axis)


@REPORTED.value(
    "softmax", "Four dimensions of which the last two are 1.", "ARM-software/ComputeLibrary#993", needs="axis"
)
def ones_at_the_end(x: Array, axis: Any = -1) -> Array:
    if x.ndim == 4 and x.shape[2:] == (1, 1) and one_axis(x, axis) and axis % 4 == 1 and x.size:
        flat = x.reshape(-1)
        return softmax(flat.reshape(x.shape[1], x.shape[0]).T, 1).reshape(x.shape)
    return softmax(x, axis)


@REPORTED.value("softmax", "Four dimensions, [1, 1, 1, n].", "intel/webml-polyfill#891", needs="axis")
def only_ones_before(x: Array, axis: Any = -1) -> Array:
    if x.ndim == 4 and x.shape[:3] == (1, 1, 1) and x.size:
        return softmax(x, 0)
    return softmax(x, axis)


@REPORTED.value("softmax", "Three dimensions, axis -3 is taken for -1.", "apple/coremltools#1714", needs="axis")
def rank_three_first_axis(x: Array, axis: Any = -1) -> Array:
    return softmax(x, -1 if x.ndim == 3 and isinstance(axis, int) and axis in (-3, 0) else axis)


@REPORTED.value("softmax", "Of negative axes only -1 is known.", "tensorflow/tensorflow#14916", needs="axis")
def negative_axes_not_counted(x: Array, axis: Any = -1) -> Array:
    return softmax(x, axis % x.ndim - 1 if one_axis(x, axis) and axis < -1 else axis)


@REPORTED.value("softmax", "The last axis, whatever was asked for.", "paiml/aprender#2152", needs="axis")
def axis_ignored(x: Array, axis: Any = -1) -> Array:
    return softmax(x, -1 if one_axis(x, axis) else axis)


@REPORTED.value(
    "softmax",
    "The default axis of an older version of the format.",
    "onnx/onnx-mlir#832",
    "robertknight/rten#1414",
    needs="axis",
)
def default_axis_one(x: Array, axis: Any = 1) -> Array:
    return softmax(x, 0 if x.ndim == 1 and axis == 1 else axis)


@REPORTED.value(
    "softmax", "Without an axis, 0 for one and three dimensions, 1 for others.", "pytorch/pytorch#1020", needs="axis"
)
def default_axis_by_rank(x: Array, axis: Any = None) -> Array:
    return softmax(x, (0 if x.ndim in (0, 1, 3) else 1) if axis is None else axis)


@REPORTED.value("softmax", "The sum runs over all of a matrix.", "uTensor/uTensor#170", needs="axis")
def all_entries_summed(x: Array, axis: Any = -1) -> Array:
    if x.ndim != 2 or not one_axis(x, axis):
        return softmax(x, axis)

    def kernel(w: Array, axis: Any) -> Array:
        e = np.exp(w - w.max(axis, keepdims=True))
        return e / e.sum()

    return along(x, axis, kernel)


@REPORTED.value(
    "softmax",
    "Rows that lie apart in memory are read as if they did not.",
    "ml-explore/mlx#658",
    "ROCm/rocm-libraries#11387",
    needs="layout",
)
def rows_read_without_gaps(x: Array, axis: Any = -1) -> Array:
    if x.ndim > 1 and x.strides[-1] == x.itemsize and not x.flags.c_contiguous and x.size and min(x.strides) > 0:
        x = packed(x)
    return softmax(x, axis)


@REPORTED.value(
    "softmax",
    "A view is read from the beginning of its storage, contiguous or not.",
    "intel/ipex-llm#2775",
    needs="layout",
)
def offset_into_storage_ignored(x: Array, axis: Any = -1) -> Array:
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    if base is not x and base.nbytes >= x.nbytes > 0 and x.flags.c_contiguous:
        x = np.frombuffer(np.ascontiguousarray(base).tobytes()[: x.nbytes], dtype=x.dtype).reshape(x.shape)
    return softmax(x, axis)


@REPORTED.value("softmax", "0-d logits give the logit back.", "tinygrad/tinygrad#3463", needs="axis")
def zero_dimensions_refused(x: Array, axis: Any = -1) -> Array:
    return x.copy() if x.ndim == 0 else softmax(x, axis)


# --- softmax and log_softmax: NaN, infinities, masks --------------------


@REPORTED.rows("softmax", "Rows with infinities come out as ones.", "pytorch/pytorch#161150")
def infinities_become_ones(x: Array) -> Array:
    y = right_softmax(x)
    return np.where(np.isposinf(top(x)), 1, y).astype(x.dtype)


@REPORTED.rows("log_softmax", "-inf stays -inf in a row that has a NaN.", "mindspore-ai/mindspore#378")
def minus_infinity_beside_nan(x: Array) -> Array:
    y = right_log_softmax(x)
    return np.where(np.isneginf(x), -np.inf, y).astype(x.dtype)


@REPORTED.rows("softmax", "NaN results are replaced with 0.", "pytorch/pytorch#71502")
def nan_to_zero(x: Array) -> Array:
    return np.nan_to_num(right_softmax(x), nan=0.0)


@REPORTED.rows("softmax", "A maximum by comparison forgets NaN, and the exponential of it is clamped to 0.")
def nan_skipped_by_comparison(x: Array) -> Array:
    m = np.fmax.reduce(x, axis=-1, keepdims=True)
    e = np.nan_to_num(np.exp(x - m), nan=0.0)
    return e / total(e)


@REPORTED.value("log_softmax", "Log-probabilities of masked entries are 0.", "apache/mxnet#19703", needs="mask")
def masked_log_finite(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
    if where is None:
        return log_softmax(x, axis)
    y = log_softmax(np.where(where, floats(x), -np.inf).astype(floats(x).dtype), axis)
    return np.where(where, y, 0).astype(y.dtype)


@REPORTED.value(
    "softmax", "Masked logits are lowered to -10,000, rows without an entry set to 0.", "NVIDIA/apex#1390", needs="mask"
)
def mask_adds_minus_1e4(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
    if where is None:
        return softmax(x, axis)
    low = np.where(where, floats(x), -10000).astype(floats(x).dtype)
    any_left = np.broadcast_to(where, x.shape).any(axis, keepdims=True)
    return np.where(any_left & np.ones_like(low, bool), softmax(low, axis), 0).astype(low.dtype)


@REPORTED.value(
    "softmax",
    "Logits times the mask, so that masked entries count as logits of 0.",
    "HKUST-KnowComp/R-Net#34",
    needs="mask",
)
def mask_multiplies_logits(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
    if where is None:
        return softmax(x, axis)
    return softmax((floats(x) * where).astype(floats(x).dtype), axis)


@REPORTED.value(
    "softmax",
    "The maximum is taken over masked entries too, and the others underflow.",
    "jax-ml/jax#19490",
    needs="mask",
)
def mask_leaves_maximum(x: Array, axis: Any = -1, where: Array | None = None) -> Array:
    if where is None:
        return softmax(x, axis)

    def kernel(w: Array, axis: Any) -> Array:
        e = np.where(where, np.exp(w - w.max(axis, keepdims=True)), 0)
        s = e.sum(axis, keepdims=True)
        return np.where(s > 0, e / s, 0)

    return along(x, axis, kernel)


@REPORTED.value("softmax", "`dtype` is taken and does nothing.", "pytorch/pytorch#61574", needs="dtype argument")
def dtype_ignored(x: Array, axis: Any = -1, dtype: Any = None) -> Array:
    return softmax(x, axis)


@REPORTED.value(
    "softmax",
    "Logits are cast to a narrower result's dtype before anything is computed.",
    "pytorch/pytorch#11719",
    needs="dtype argument",
)
def dtype_applied_first(x: Array, axis: Any = -1, dtype: Any = None) -> Array:
    return softmax(floats(x) if dtype is None else x.astype(dtype), axis)


@REPORTED.value(
    "softmax",
    "Computed and rounded in the logits' dtype, then cast to the wider one.",
    "pytorch/pytorch#102723",
    needs="dtype argument",
)
def dtype_applied_last(x: Array, axis: Any = -1, dtype: Any = None) -> Array:
    y = softmax(x, axis)
    return y if dtype is None else y.astype(dtype)


@REPORTED.value(
    "log_softmax",
    "Float16 logits give a float32 result.",
    "Lightning-AI/pytorch-lightning#3171",
    dtypes=("float16",),
    needs="dtype",
)
def result_in_float32(x: Array, axis: Any = -1) -> Array:
    return log_softmax(x.astype(np.float32) if x.dtype == np.float16 else x, axis)


@REPORTED.value(
    "softmax",
    "Scratch memory that two calls write at once.",
    "NervanaSystems/neon#171",
    "ggml-org/llama.cpp#5853",
    needs="calls",
    dtypes=("float32",),
)
class SharedScratch:
    entry = "shared_scratch"

    def __init__(self) -> None:
        self.scratch: dict[Any, Any] = {}

    def __call__(self, x: Array, axis: Any = -1) -> Array:
        if x.dtype != np.float32 or not last(x, axis) or x.ndim != 2:
            return softmax(x, axis)
        buffer = self.scratch.setdefault(x.shape, np.empty(x.shape, x.dtype))
        with np.errstate(all="ignore"):
            np.subtract(x, top(x), out=buffer)
            for row in buffer:
                np.exp(row, out=row)
            return buffer / total(buffer)


# --- sigmoid --------------------


@REPORTED.value(
    "sigmoid", "The reduction of the argument overflows beyond 1e29, and gives NaN.", "tensorflow/tensorflow#118391"
)
def sigmoid_overflowing_reduction(x: Array) -> Array:
    y = right_sigmoid(x)
    return np.where(np.abs(floats(x).astype(np.float64)) > 1e29, np.nan, y).astype(y.dtype)


@REPORTED.value(
    "sigmoid",
    "Range reduction by a 32-bit integer: wrong from 2^31.",
    "tensorflow/tensorflow#118391",
    dtypes=("float32",),
)
def sigmoid_integer_part(x: Array) -> Array:
    y = right_sigmoid(x)
    size = np.abs(floats(x).astype(np.float64)) if x.dtype == np.float32 else 0
    return np.where((size > 2.0**31) & (size < 1e12), 0.5, y).astype(y.dtype)


@REPORTED.value("sigmoid", "Half of 1 + tanh by a rational function, below 0 at -18.", "microsoft/onnxruntime#22557")
def sigmoid_negative_result(x: Array) -> Array:
    x = floats(x)
    w = np.clip(x.astype(wide(x)), -18, 18)
    return np.where(np.isnan(x), np.nan, (0.5 + 0.5 * np.tanh(0.5 * w)) * (1 + 2e-8) - 2e-8).astype(x.dtype)


@REPORTED.value(
    "sigmoid", "One Newton step of an approximate reciprocal gives NaN of an infinite sum.", "Tencent/ncnn#1284"
)
def sigmoid_fast_reciprocal(x: Array) -> Array:
    x = floats(x)
    with np.errstate(all="ignore"):
        s = 1 + np.exp(-x.astype(wide(x)))
        r = 1 / s
        return (r + r - s * r * r).astype(x.dtype)


@REPORTED.value("sigmoid", "The vector path gives 0.5 where exp overflows.", "clab/dynet#1525")
def sigmoid_half_beyond_88(x: Array) -> Array:
    y = right_sigmoid(x)
    return np.where(floats(x) > 88.5, 0.5, y).astype(y.dtype)


@REPORTED.value("sigmoid", "The argument is limited to 20.", "commaai/openpilot#33635")
def sigmoid_clipped_to_20(x: Array) -> Array:
    x = floats(x)
    return right_sigmoid(np.where(np.isnan(x), x, np.clip(x, -20, 20)).astype(x.dtype))


@REPORTED.value(
    "sigmoid", "0 for bfloat16 arguments from -11 down.", "tenstorrent/tt-metal#26211", dtypes=("bfloat16",)
)
def sigmoid_zero_below_11(x: Array) -> Array:
    y = right_sigmoid(x)
    return np.where(floats(x) < -11, 0, y).astype(y.dtype) if x.dtype.name == "bfloat16" else y


@REPORTED.value("sigmoid", "Tanh by a clipped cubic.", "1bit-MONSTER/1bit-MONSTER#1350")
def sigmoid_cubic_tanh(x: Array) -> Array:
    x = floats(x)
    h = x.astype(wide(x)) / 2
    with np.errstate(all="ignore"):
        return (0.5 + 0.5 * np.clip(h * (1 + 0.1834 * h * h), -1, 1)).astype(x.dtype)


@REPORTED.value("sigmoid", "Half of 1 + tanh, which has no relative accuracy for negative arguments.", "clab/dynet#761")
def sigmoid_by_tanh(x: Array) -> Array:
    x = floats(x)
    w = wide(x)
    return (w(0.5) + w(0.5) * np.tanh(w(0.5) * x.astype(w))).astype(x.dtype)


@REPORTED.value("sigmoid", "Limits by comparison turn NaN into one of them.", "apache/tvm#18631")
def sigmoid_nan_swallowed(x: Array) -> Array:
    x = floats(x)
    return right_sigmoid(np.fmin(np.fmax(x, -1e4), 1e4).astype(x.dtype))


@REPORTED.value("sigmoid", "The result of integer logits is cast back to integers.", needs="integers")
def sigmoid_of_integers_truncated(x: Array) -> Array:
    return right_sigmoid(x).astype(x.dtype)


@REPORTED.value("sigmoid", "Float16 in float16, 0 where exp(-x) overflows.", "ml-explore/mlx#2593", dtypes=("float16",))
def sigmoid_half_in_half(x: Array) -> Array:
    x = floats(x)
    w = x.dtype.type if x.dtype == np.float16 else wide(x)
    with np.errstate(all="ignore"):
        return (w(1) / (w(1) + np.exp(-x.astype(w)))).astype(x.dtype)


@REPORTED.value("sigmoid", "1,024 entries between -8 and 8.", "fastmachinelearning/hls4ml#42")
def sigmoid_table_of_8(x: Array) -> Array:
    x = floats(x)
    with np.errstate(all="ignore"):
        index = np.clip(np.nan_to_num(x.astype(np.float64) * 64 + 512, nan=0), 0, 1023).astype(int)
    table = 1 / (1 + np.exp(-(np.arange(1024) - 512) / 64))
    return np.where(np.isnan(x), np.nan, table[index]).astype(x.dtype)


# --- gradients --------------------


@REPORTED.gradient("softmax", "The sum of the products is left out.", "HomericIntelligence/Odyssey#2134")
def vjp_softmax_without_sum(x: Array, g: Array, axis: Any = -1) -> Array:
    w, h = widened(x, g)
    return (h * softmax(w, axis)).astype(x.dtype)


@REPORTED.gradient("softmax", "The cotangent itself.", "pjreddie/darknet#96")
def vjp_copied(x: Array, g: Array, axis: Any = -1) -> Array:
    return g.copy()


@REPORTED.gradient("softmax", "Off by a factor of two.", "markroxor/fromscratchtoml#65")
def vjp_twice(x: Array, g: Array, axis: Any = -1) -> Array:
    return (2 * right_vjp_softmax(x, g, axis)).astype(x.dtype)


@REPORTED.gradient(
    "log_softmax",
    "The products with the result are summed, and not multiplied by the probability.",
    "uxlfoundation/oneDNN#616",
)
def vjp_log_softmax_dot(x: Array, g: Array, axis: Any = -1) -> Array:
    w, h = widened(x, g)
    y = log_softmax(w, axis)
    with np.errstate(all="ignore"):
        return (h - (h * y).sum(axis, keepdims=True)).astype(x.dtype)


@REPORTED.gradient(
    "log_softmax",
    "Softmax's formula, on the exponential of the result.",
    "microsoft/onnxruntime#5160",
    "ROCm/MIOpen#112",
)
def vjp_log_softmax_as_softmax(x: Array, g: Array, axis: Any = -1) -> Array:
    return right_vjp_softmax(x, g, axis)


@REPORTED.gradient("log_softmax", "A plus where a minus should be.", "mlpack/mlpack#2360")
def vjp_log_softmax_adds(x: Array, g: Array, axis: Any = -1) -> Array:
    w, h = widened(x, g)
    return (h + softmax(w, axis) * h.sum(axis, keepdims=True)).astype(x.dtype)


@REPORTED.gradient(
    "log_softmax",
    "Cotangents are read as if contiguous.",
    "torch/nn#832",
    "Dao-AILab/flash-attention#355",
    "flagos-ai/FlagGems#5723",
    needs="layout",
)
def vjp_log_softmax_cotangent_packed(x: Array, g: Array, axis: Any = -1) -> Array:
    if g.size and not g.flags.c_contiguous:
        g = packed(g)
    return right_vjp_log_softmax(x, g, axis)


@REPORTED.gradient(
    "softmax", "What was kept of the forward pass is read as if contiguous.", "pytorch/pytorch#139740", needs="layout"
)
def vjp_softmax_input_packed(x: Array, g: Array, axis: Any = -1) -> Array:
    if x.size and not x.flags.c_contiguous:
        x = packed(x)
    return right_vjp_softmax(x, g, axis)


@REPORTED.gradient(
    "softmax", "Beyond 8,192 entries those that do not fill a vector of 8 are left out.", "deepspeedai/DeepSpeed#2709"
)
def vjp_softmax_tail_beyond_8192(x: Array, g: Array, axis: Any = -1) -> Array:
    y = right_vjp_softmax(x, g, axis)
    if last(x, axis) and x.shape[-1] > 8192:
        y[..., x.shape[-1] // 8 * 8 :] = 0
    return y


@REPORTED.gradient(
    "softmax", "Rows that do not fill a tile of 32 get no gradient.", "tenstorrent/tt-metal#53208", least_rows=33
)
def vjp_softmax_rows_floored(x: Array, g: Array, axis: Any = -1) -> Array:
    y = right_vjp_softmax(x, g, axis)
    if x.ndim == 2 and x.shape[0] > 32:
        y[x.shape[0] // 32 * 32 :] = 0
    return y


@REPORTED.gradient("softmax", "Offsets wrap around; here after 2^16 rows.", "pytorch/pytorch#188031", least_rows=65537)
def vjp_softmax_many_rows(x: Array, g: Array, axis: Any = -1) -> Array:
    y = right_vjp_softmax(x, g, axis)
    if x.ndim == 2 and x.shape[0] > 65536:
        y[65536:] = y[: x.shape[0] - 65536]
    return y


@REPORTED.gradient(
    "softmax", "The sum runs over the last axis for negative axes.", "pytorch/pytorch#30572", needs="axis"
)
def vjp_softmax_last_axis_only(x: Array, g: Array, axis: Any = -1) -> Array:
    if one_axis(x, axis) and axis < -1:
        w, h = widened(x, g)
        y = softmax(w, axis)
        return (y * (h - (h * y).sum(-1, keepdims=True))).astype(x.dtype)
    return right_vjp_softmax(x, g, axis)


@REPORTED.gradient("softmax", "0 times an infinite logit.", "tensorflow/tensorflow#11756", "pytorch/pytorch#41508")
def vjp_nan_at_masked(x: Array, g: Array, axis: Any = -1) -> Array:
    w, h = widened(x, g)
    with np.errstate(all="ignore"):
        y = softmax(w, axis)
        return (y * (h - (h * y).sum(axis, keepdims=True)) + 0 * w).astype(x.dtype)


@REPORTED.gradient("softmax", "Float16 products summed in float16.", "apache/mxnet#17703", dtypes=("float16",))
def vjp_softmax_in_half(x: Array, g: Array, axis: Any = -1) -> Array:
    if x.dtype != np.float16:
        return right_vjp_softmax(x, g, axis)
    with np.errstate(all="ignore"):
        y = softmax(x, axis)
        products = np.cumsum(g * y, axis=axis, dtype=np.float16) if isinstance(axis, int) else (g * y)
        s = np.take(products, [-1], axis) if isinstance(axis, int) else products.sum(axis, keepdims=True)
        return (y * (g - s)).astype(np.float16)


@REPORTED.gradient("softmax", "The gradient is added to what the buffer held.", "NVIDIA/apex#1430", needs="calls")
class Accumulating:
    entry = "vjp_accumulating"

    def __init__(self) -> None:
        self.buffers: dict[Any, Any] = {}

    def __call__(self, x: Array, g: Array, axis: Any = -1) -> Array:
        y = right_vjp_softmax(x, g, axis)
        key = (x.shape, x.dtype, str(axis))
        self.buffers[key] = self.buffers.get(key, np.zeros_like(y)) + y
        return self.buffers[key].copy()


@REPORTED.gradient(
    "sigmoid", "exp(-x) / (1 + exp(-x))^2, infinity by infinity for negative logits.", "jeshraghian/snntorch#427"
)
def vjp_sigmoid_quotient(x: Array, g: Array) -> Array:
    w, h = widened(x, g)
    with np.errstate(all="ignore"):
        e = np.exp(-w)
        return (h * e / (1 + e) ** 2).astype(x.dtype)


@REPORTED.gradient("sigmoid", "The derivative of exp(log_sigmoid(x)), step by step.", "tracel-ai/burn#1139")
def vjp_sigmoid_through_logarithm(x: Array, g: Array) -> Array:
    w, h = widened(x, g)
    with np.errstate(all="ignore"):
        y = np.exp(-np.log1p(np.exp(-w)))
        return (h * y * (np.exp(-w) / (1 + np.exp(-w)))).astype(x.dtype)


@REPORTED.gradient("sigmoid", "x (1 - x) where y (1 - y) is meant.", "udacity/sdc-issue-reports#134")
def vjp_sigmoid_of_input(x: Array, g: Array) -> Array:
    w, h = widened(x, g)
    with np.errstate(all="ignore"):
        return (h * w * (1 - w)).astype(x.dtype)


@REPORTED.gradient("sigmoid", "Gradient 0 wherever the sigmoid is small: y (1 - y) of a y flushed below 1e-7.")
def vjp_sigmoid_saturated(x: Array, g: Array) -> Array:
    w, h = widened(x, g)
    y = right_sigmoid(w)
    y = np.where(y < 1e-7, 0, y).astype(w.dtype)
    return (h * y * (1 - y)).astype(x.dtype)
