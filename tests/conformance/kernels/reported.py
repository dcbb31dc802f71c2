"""Faults that users reported of real implementations, beyond the list that the kit was built with.

Each emulates on NumPy arrays the fact of its report, which its docstring names; what the fault does not touch is right.
`REPORTED`: name -> (operation, implementation, vjp or None), as in `faults`.
"""

import numpy as np

from .faults import (
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


def floats(x):
    return x.astype(np.float64) if x.dtype.kind in "iub" else x


def one_axis(x, axis):
    """Whether the axis is a single one that exists."""
    return isinstance(axis, int) and x.ndim > 0 and -x.ndim <= axis < x.ndim and x.size > 0


def last(x, axis):
    return one_axis(x, axis) and axis % x.ndim == x.ndim - 1


def along(x, axis, kernel):
    """`kernel` on the working copy of `x`, for a fault that depends on more than rows; dtype kept."""
    with np.errstate(all="ignore"):
        return kernel(floats(x).astype(wide(floats(x))), axis).astype(floats(x).dtype)


# --- softmax and log_softmax: the maximum --------------------


def maximum_of_half_the_lanes(x, axis=-1):
    """pytorch/pytorch#156379: on another axis than the last, 16-bit lanes 8 to 15 get the maxima of lanes 0 to 7."""
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


def whole_maximum_on_other_axes(x, axis=-1):
    """PaddlePaddle/Paddle#19800: on another axis than the last, the maximum of the whole array."""
    if not one_axis(x, axis) or last(x, axis) or x.shape[axis] == 1:
        return softmax(x, axis)

    def kernel(w, axis):
        e = np.exp(w - w.max())
        return e / e.sum(axis, keepdims=True)

    return along(x, axis, kernel)


def maximum_floored(x):
    """tracel-ai/burn#4697: the maximum is at least -1e4, the sum at least 1e-6."""
    e = np.exp(x - np.maximum(top(x), -1e4).astype(x.dtype))
    return e / np.maximum(total(e), x.dtype.type(1e-6))


def smallest_positive_as_lowest(x):
    """mit-han-lab/tinyengine#107: the running maximum starts at FLT_MIN, the smallest positive number."""
    m = np.maximum(top(x), np.finfo(x.dtype).tiny)
    shifted = x - m
    return shifted - np.log(total(np.exp(shifted)))


def maximum_from_own_element(x):
    """Infatoshi/cuda-course#10: each thread starts its maximum at its own element and strides on."""
    m = np.maximum.accumulate(x[:, ::-1], axis=-1)[:, ::-1]
    e = np.exp(x - m)
    return e / total(e)


def two_lanes_of_maxima(x):
    """bytedance/lightseq#74: the reduction of the maxima over a warp adds a lane of zeros."""
    n = x.shape[-1]
    m = top(x) if n % 32 == 0 else np.maximum(top(x), 0)
    e = np.exp(x - m)
    return e / total(e)


def last_tile_not_shifted(x):
    """tenstorrent/tt-metal#51278: the last tile of 32 enters the sum as exp(x), not exp(x - max)."""
    m = top(x)
    e = np.exp(x - m)
    start = (x.shape[-1] - 1) // 32 * 32
    return e / (total(e[:, :start]) + total(np.exp(x[:, start:])))


def zeros_beyond_range(x):
    """tenstorrent/tt-metal#52131: no maximum, and where the sum overflows its reciprocal is 0: no NaN, all zeros."""
    e = np.exp(x)
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(total(e)), e / total(e), 0).astype(x.dtype)


def log_softmax_no_maximum(x):
    """tracel-ai/burn#315, tenstorrent/tt-metal#9978: x - log(sum(exp(x)))."""
    return x - np.log(total(np.exp(x)))


def log_softmax_maximum_added_back(x):
    """pytorch/pytorch#11752: lost where the maximum swallows the logarithm."""
    m = top(x)
    return x - (np.log(total(np.exp(x - m))) + m)


# --- softmax and log_softmax: lengths, tails and blocks --------------------


def rows_of_517_in_float64(x):
    """pytorch/pytorch#143644: float64 rows too long for registers lose what does not fill a vector."""
    if x.dtype != np.float64 or x.shape[-1] <= 512:
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / total(e[:, : x.shape[-1] // 4 * 4])


def logarithm_twice_beyond_100000(x):
    """PaddlePaddle/Paddle#53654: one logarithm too many in rows longer than 100,000."""
    if x.shape[-1] <= 100_000:
        return right_log_softmax(x)
    shifted = x - top(x)
    return shifted - np.log(np.log(total(np.exp(shifted))))


def masked_rows_by_length(x):
    """ml-explore/mlx#1467: rows of -inf are zeros below 128 entries and NaN from there on."""
    y = right_softmax(x)
    return np.where(np.isneginf(top(x)), 0, y).astype(x.dtype) if x.shape[-1] < 128 else y


def padded_with_zero(x):
    """tensorflow/tensorflow#108244: rows padded to a multiple of 4 with logits of 0."""
    pad = -x.shape[-1] % 4
    full = np.pad(x, ((0, 0), (0, pad)))
    return right_softmax(full)[:, : x.shape[-1]]


def short_rows_read_four_at_a_time(x):
    """NVIDIA/Megatron-LM#132: below 128 entries each lane reads 4 neighbours but owns every 32nd."""
    n = x.shape[-1]
    if n >= 128 or n <= 32:
        return right_softmax(x)
    order = (np.arange(128).reshape(32, 4).T).ravel()
    return right_softmax(x[:, order[order < n]])


def rows_beyond_grid(x):
    """ggml-org/llama.cpp#10301: the grid has 512 rows, and what lies beyond is computed on the wrong rows."""
    y = right_softmax(x)
    if len(x) > 512:
        y[512:] = y[: len(x) - 512] if len(x) <= 1024 else np.resize(y[:512], y[512:].shape)
    return y


def two_or_three_channels(x):
    """xmos/ai_tools#902: off by one where there are 2 or 3 channels."""
    if x.shape[-1] not in (2, 3):
        return right_softmax(x)
    e = np.exp(x - top(x))
    return e / (total(e) - e[:, -1:])


def longer_than_4096(x):
    """NVIDIA/FasterTransformer#663: a block of 1,024 threads holds 4 entries each; what follows is left out."""
    e = np.exp(x - top(x))
    return e / total(e[:, :4096])


def wider_than_65536(x):
    """linkedin/Liger-Kernel#1252: the path of several blocks reduces where it should compare element by element."""
    n = x.shape[-1]
    if n <= 65536:
        return right_softmax(x)
    m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
    for start in range(0, n, 65536):
        m = top(x[:, start : start + 65536])
        s = s + total(np.exp(x[:, start : start + 65536] - m))
    return np.exp(x - m) / s


def narrow_rows_collapse(x):
    """gabrieldemarmiesse/torch-mojo-backend#319: threads without an entry merge exp(-inf - -inf)."""
    return right_log_softmax(x) if x.shape[-1] >= 1024 else np.full_like(x, np.nan)


def rescaled_the_wrong_way(x):
    """deepseek-ai/FlashMLA#177: the running sum is scaled by exp(new - old)."""
    m, s = np.full((len(x), 1), -np.inf, x.dtype), np.zeros((len(x), 1), x.dtype)
    for start in range(0, x.shape[-1], 64):
        block = x[:, start : start + 64]
        new = np.maximum(m, top(block))
        s = np.where(np.isneginf(m), 0, s * np.exp(np.where(np.isneginf(m), 0, new - m))) + total(np.exp(block - new))
        m = new
    return (np.exp(x - m) / s).astype(x.dtype)


def blocks_not_waited_for(x):
    """xlite-dev/LeetCUDA#251: a block divides before the others have added their part."""
    e = np.exp(x - top(x))
    if x.shape[-1] <= 256:
        return e / total(e)
    parts = [total(e[:, start : start + 256]) for start in range(0, x.shape[-1], 256)]
    sums = np.cumsum(np.concatenate(parts, axis=1), axis=1)
    return e / np.repeat(sums, 256, axis=1)[:, : x.shape[-1]]


# --- softmax and log_softmax: precision --------------------


def half_table_of_exponentials(x):
    """ggml-org/llama.cpp#7154: exponentials from a table of float16 arguments and results."""
    with np.errstate(all="ignore"):
        e = np.exp((x - top(x)).astype(np.float16).astype(np.float32)).astype(np.float16).astype(x.dtype)
    return e / total(e)


def float32_through_float16(x):
    """torch-spyre/torch-spyre#2012: float32 computed in float16 for speed, and returned as float32."""
    with np.errstate(all="ignore"):
        return right_softmax(x.astype(np.float16).astype(np.float32)).astype(np.float16).astype(x.dtype)


def f16_sum_saturates(x, axis=-1):
    """huggingface/candle#3727, sonos/tract#2586: a float16 running sum stops growing at 2,048."""
    if x.dtype != np.float16 or not one_axis(x, axis):
        return softmax(x, axis)
    w = np.moveaxis(x, axis, -1).astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(w - top(w)).astype(np.float16)
        s = np.add.accumulate(e, axis=-1, dtype=np.float16)[..., -1:]
        return np.moveaxis((e.astype(np.float32) / s.astype(np.float32)).astype(x.dtype), -1, axis)


def f16_sum_overflows_on_other_axes(x, axis=-1):
    """microsoft/onnxruntime#24577: the last axis has a float32 sum, the others one in float16."""
    if x.dtype != np.float16 or not one_axis(x, axis) or last(x, axis):
        return softmax(x, axis)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        e = np.exp(w - w.max(axis, keepdims=True))
        return (e / e.sum(axis, keepdims=True).astype(np.float16).astype(np.float32)).astype(np.float16)


def approximate_reciprocal(x):
    """tenstorrent/tt-metal#52045: the reciprocal of the sum is 0.2 % low."""
    e = np.exp(x - top(x))
    return e * (x.dtype.type(0.998) / total(e))


def wide_input_halved_first(x, axis=-1):
    """dotnet/machinelearning#3676: float64 computed in float32."""
    if x.dtype != np.float64 or not x.size:
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        return softmax(x.astype(np.float32), axis).astype(np.float64)


def probabilities_clipped(x):
    """PaddlePaddle/Paddle#9993: results are kept above exp(-64)."""
    y = right_softmax(x)
    return np.maximum(y, x.dtype.type(1.6e-28))


def log_of_clipped(x):
    """Keras before 2.1 (keras-team/keras#2822): log of probabilities clipped to 1e-7."""
    return np.log(np.clip(right_softmax(x), 1e-7, 1)).astype(x.dtype)


def exponent_clipped(x):
    """alibaba/MNN#235: exp of arguments limited to -87."""
    e = np.exp(np.maximum(x - top(x), x.dtype.type(-87)))
    return e / total(e)


def log_in_half(x, axis=-1):
    """apache/mxnet#14098: the logarithm of the sum is rounded to float16 before it is subtracted."""
    if x.dtype != np.float16 or not one_axis(x, axis):
        return log_softmax(x, axis)
    w = x.astype(np.float32)
    with np.errstate(all="ignore"):
        shifted = (w - w.max(axis, keepdims=True)).astype(np.float16)
        s = np.exp(shifted.astype(np.float32)).sum(axis, keepdims=True).astype(np.float16)
        return shifted - np.log(s).astype(np.float16)


# --- softmax and log_softmax: axes, shapes and strides --------------------


def three_dimensions_last_axis(x, axis=-1):
    """ariaghora/mint#3: wrong where there are three dimensions and the axis is 2."""
    if x.ndim == 3 and one_axis(x, axis) and axis == 2:
        return softmax(x, 1)
    return softmax(x, axis)


def ones_at_the_end(x, axis=-1):
    """ARM-software/ComputeLibrary#993: four dimensions of which the last two are 1."""
    if x.ndim == 4 and x.shape[2:] == (1, 1) and one_axis(x, axis) and axis % 4 == 1 and x.size:
        flat = x.reshape(-1)
        return softmax(flat.reshape(x.shape[1], x.shape[0]).T, 1).reshape(x.shape)
    return softmax(x, axis)


def only_ones_before(x, axis=-1):
    """intel/webml-polyfill#891: four dimensions, [1, 1, 1, n]."""
    if x.ndim == 4 and x.shape[:3] == (1, 1, 1) and x.size:
        return softmax(x, 0)
    return softmax(x, axis)


def rank_three_first_axis(x, axis=-1):
    """apple/coremltools#1714: three dimensions, axis -3 is taken for -1."""
    return softmax(x, -1 if x.ndim == 3 and isinstance(axis, int) and axis in (-3, 0) else axis)


def negative_axes_not_counted(x, axis=-1):
    """tensorflow/tensorflow#14916: of negative axes only -1 is known."""
    return softmax(x, axis % x.ndim - 1 if one_axis(x, axis) and axis < -1 else axis)


def axis_ignored(x, axis=-1):
    """paiml/aprender#2152: the last axis, whatever was asked for."""
    return softmax(x, -1 if one_axis(x, axis) else axis)


def default_axis_one(x, axis=1):
    """onnx/onnx-mlir#832, robertknight/rten#1414: the default axis of an older version of the format."""
    return softmax(x, 0 if x.ndim == 1 and axis == 1 else axis)


def default_axis_by_rank(x, axis=None):
    """pytorch/pytorch#1020: without an axis, 0 for one and three dimensions, 1 for others."""
    return softmax(x, (0 if x.ndim in (0, 1, 3) else 1) if axis is None else axis)


def all_entries_summed(x, axis=-1):
    """uTensor/uTensor#170: the sum runs over all of a matrix."""
    if x.ndim != 2 or not one_axis(x, axis):
        return softmax(x, axis)

    def kernel(w, axis):
        e = np.exp(w - w.max(axis, keepdims=True))
        return e / e.sum()

    return along(x, axis, kernel)


def rows_read_without_gaps(x, axis=-1):
    """ml-explore/mlx#658, ROCm/rocm-libraries#11387: rows that lie apart in memory are read as if they did not."""
    if x.ndim > 1 and x.strides[-1] == x.itemsize and not x.flags.c_contiguous and x.size and min(x.strides) > 0:
        x = _packed(x)
    return softmax(x, axis)


def _packed(x):
    """The memory from the first entry on, as if the array were contiguous; zeros where it ends."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    start = x.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    raw = np.frombuffer(np.ascontiguousarray(base).tobytes()[start:], dtype=np.uint8)
    raw = np.concatenate([raw, np.zeros(max(0, x.nbytes - raw.size), np.uint8)])[: x.nbytes]
    return raw.view(x.dtype).reshape(x.shape).copy()


def offset_into_storage_ignored(x, axis=-1):
    """intel/ipex-llm#2775: a view is read from the beginning of its storage, contiguous or not."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    if base is not x and base.nbytes >= x.nbytes > 0 and x.flags.c_contiguous:
        x = np.frombuffer(np.ascontiguousarray(base).tobytes()[: x.nbytes], dtype=x.dtype).reshape(x.shape)
    return softmax(x, axis)


def zero_dimensions_refused(x, axis=-1):
    """tinygrad/tinygrad#3463: 0-d logits give the logit back."""
    return x.copy() if x.ndim == 0 else softmax(x, axis)


# --- softmax and log_softmax: NaN, infinities, masks --------------------


def infinities_become_ones(x):
    """pytorch/pytorch#161150: rows with infinities come out as ones."""
    y = right_softmax(x)
    return np.where(np.isposinf(top(x)), 1, y).astype(x.dtype)


def minus_infinity_beside_nan(x):
    """mindspore-ai/mindspore#378: -inf stays -inf in a row that has a NaN."""
    y = right_log_softmax(x)
    return np.where(np.isneginf(x), -np.inf, y).astype(x.dtype)


def nan_to_zero(x):
    """pytorch/pytorch#71502: NaN results are replaced with 0."""
    return np.nan_to_num(right_softmax(x), nan=0.0)


def nan_skipped_by_comparison(x):
    """apple/coremltools and others: a maximum by comparison forgets NaN, exp of it is clamped to 0."""
    m = np.fmax.reduce(x, axis=-1, keepdims=True)
    e = np.nan_to_num(np.exp(x - m), nan=0.0)
    return e / total(e)


def masked_log_finite(x, axis=-1, where=None):
    """apache/mxnet#19703: log-probabilities of masked entries are 0."""
    if where is None:
        return log_softmax(x, axis)
    y = log_softmax(np.where(where, floats(x), -np.inf).astype(floats(x).dtype), axis)
    return np.where(where, y, 0).astype(y.dtype)


def mask_adds_minus_1e4(x, axis=-1, where=None):
    """NVIDIA/apex#1390 and many models: masked logits are lowered to -10,000, rows without an entry set to 0."""
    if where is None:
        return softmax(x, axis)
    low = np.where(where, floats(x), -10000).astype(floats(x).dtype)
    any_left = np.broadcast_to(where, x.shape).any(axis, keepdims=True)
    return np.where(any_left & np.ones_like(low, bool), softmax(low, axis), 0).astype(low.dtype)


def mask_multiplies_logits(x, axis=-1, where=None):
    """HKUST-KnowComp/R-Net#34: logits times the mask, so that masked entries count as logits of 0."""
    if where is None:
        return softmax(x, axis)
    return softmax((floats(x) * where).astype(floats(x).dtype), axis)


def mask_leaves_maximum(x, axis=-1, where=None):
    """jax-ml/jax#19490: the maximum is taken over masked entries too, and the others underflow."""
    if where is None:
        return softmax(x, axis)

    def kernel(w, axis):
        e = np.where(where, np.exp(w - w.max(axis, keepdims=True)), 0)
        s = e.sum(axis, keepdims=True)
        return np.where(s > 0, e / s, 0)

    return along(x, axis, kernel)


def dtype_ignored(x, axis=-1, dtype=None):
    """pytorch/pytorch#61574: `dtype` is taken and does nothing."""
    return softmax(x, axis)


def dtype_applied_first(x, axis=-1, dtype=None):
    """pytorch/pytorch#11719: logits are cast to a narrower result's dtype before anything is computed."""
    return softmax(floats(x) if dtype is None else x.astype(dtype), axis)


def dtype_applied_last(x, axis=-1, dtype=None):
    """pytorch/pytorch#102723: computed and rounded in the logits' dtype, then cast to the wider one."""
    y = softmax(x, axis)
    return y if dtype is None else y.astype(dtype)


def result_in_float32(x, axis=-1):
    """Lightning-AI/pytorch-lightning#3171: float16 logits give a float32 result."""
    return log_softmax(x.astype(np.float32) if x.dtype == np.float16 else x, axis)


class SharedScratch:
    """NervanaSystems/neon#171, ggml-org/llama.cpp#5853: scratch memory that two calls write at once."""

    __name__ = "shared_scratch"

    def __init__(self):
        self.scratch = {}

    def __call__(self, x, axis=-1):
        if x.dtype != np.float32 or not last(x, axis) or x.ndim != 2:
            return softmax(x, axis)
        buffer = self.scratch.setdefault(x.shape, np.empty(x.shape, x.dtype))
        with np.errstate(all="ignore"):
            np.subtract(x, top(x), out=buffer)
            for row in buffer:
                np.exp(row, out=row)
            return buffer / total(buffer)


# --- sigmoid --------------------


def sigmoid_overflowing_reduction(x):
    """tensorflow/tensorflow#118391: the reduction of the argument overflows beyond 1e29, and gives NaN."""
    y = right_sigmoid(x)
    return np.where(np.abs(floats(x).astype(np.float64)) > 1e29, np.nan, y).astype(y.dtype)


def sigmoid_integer_part(x):
    """Range reduction by a 32-bit integer, as in XNNPACK before tensorflow/tensorflow#118391: wrong from 2^31."""
    y = right_sigmoid(x)
    size = np.abs(floats(x).astype(np.float64)) if x.dtype == np.float32 else 0
    return np.where((size > 2.0**31) & (size < 1e12), 0.5, y).astype(y.dtype)


def sigmoid_negative_result(x):
    """microsoft/onnxruntime#22557: half of 1 + tanh by a rational function, below 0 at -18."""
    x = floats(x)
    w = np.clip(x.astype(wide(x)), -18, 18)
    return np.where(np.isnan(x), np.nan, (0.5 + 0.5 * np.tanh(0.5 * w)) * (1 + 2e-8) - 2e-8).astype(x.dtype)


def sigmoid_fast_reciprocal(x):
    """Tencent/ncnn#1284: one Newton step of an approximate reciprocal gives NaN of an infinite sum."""
    x = floats(x)
    with np.errstate(all="ignore"):
        s = 1 + np.exp(-x.astype(wide(x)))
        r = 1 / s
        return (r + r - s * r * r).astype(x.dtype)


def sigmoid_half_beyond_88(x):
    """clab/dynet#1525: the vector path gives 0.5 where exp overflows."""
    y = right_sigmoid(x)
    return np.where(floats(x) > 88.5, 0.5, y).astype(y.dtype)


def sigmoid_clipped_to_20(x):
    """commaai/openpilot#33635 and others: the argument is limited to 20."""
    x = floats(x)
    return right_sigmoid(np.where(np.isnan(x), x, np.clip(x, -20, 20)).astype(x.dtype))


def sigmoid_zero_below_11(x):
    """tenstorrent/tt-metal#26211: 0 for bfloat16 arguments from -11 down."""
    y = right_sigmoid(x)
    return np.where(floats(x) < -11, 0, y).astype(y.dtype) if x.dtype.name == "bfloat16" else y


def sigmoid_cubic_tanh(x):
    """1bit-MONSTER/1bit-MONSTER#1350: tanh by a clipped cubic."""
    x = floats(x)
    h = x.astype(wide(x)) / 2
    with np.errstate(all="ignore"):
        return (0.5 + 0.5 * np.clip(h * (1 + 0.1834 * h * h), -1, 1)).astype(x.dtype)


def sigmoid_by_tanh(x):
    """clab/dynet#761: half of 1 + tanh, which has no relative accuracy for negative arguments."""
    x = floats(x)
    w = wide(x)
    return (w(0.5) + w(0.5) * np.tanh(w(0.5) * x.astype(w))).astype(x.dtype)


def sigmoid_nan_swallowed(x):
    """apache/tvm#18631: limits by comparison turn NaN into one of them."""
    x = floats(x)
    return right_sigmoid(np.fmin(np.fmax(x, -1e4), 1e4).astype(x.dtype))


def sigmoid_of_integers_truncated(x):
    """unifyai/ivy: the result of integer logits is cast back to integers."""
    return right_sigmoid(x).astype(x.dtype)


def sigmoid_half_in_half(x):
    """ml-explore/mlx#2593: float16 in float16, 0 where exp(-x) overflows."""
    x = floats(x)
    w = x.dtype.type if x.dtype == np.float16 else wide(x)
    with np.errstate(all="ignore"):
        return (w(1) / (w(1) + np.exp(-x.astype(w)))).astype(x.dtype)


def sigmoid_table_of_8(x):
    """fastmachinelearning/hls4ml#42: 1,024 entries between -8 and 8."""
    x = floats(x)
    with np.errstate(all="ignore"):
        index = np.clip(np.nan_to_num(x.astype(np.float64) * 64 + 512, nan=0), 0, 1023).astype(int)
    table = 1 / (1 + np.exp(-(np.arange(1024) - 512) / 64))
    return np.where(np.isnan(x), np.nan, table[index]).astype(x.dtype)


# --- gradients --------------------


def _wide(x, g):
    return x.astype(wide(x)), g.astype(wide(x))


def vjp_softmax_without_sum(x, g, axis=-1):
    """HomericIntelligence/Odyssey#2134: the sum of the products is left out."""
    w, h = _wide(x, g)
    return (h * softmax(w, axis)).astype(x.dtype)


def vjp_copied(x, g, axis=-1):
    """pjreddie/darknet#96: the cotangent itself."""
    return g.copy()


def vjp_twice(x, g, axis=-1):
    """markroxor/fromscratchtoml#65: off by a factor of two."""
    return (2 * right_vjp_softmax(x, g, axis)).astype(x.dtype)


def vjp_log_softmax_dot(x, g, axis=-1):
    """uxlfoundation/oneDNN#616: the products with the result are summed, and not multiplied by the probability."""
    w, h = _wide(x, g)
    y = log_softmax(w, axis)
    with np.errstate(all="ignore"):
        return (h - (h * y).sum(axis, keepdims=True)).astype(x.dtype)


def vjp_log_softmax_as_softmax(x, g, axis=-1):
    """microsoft/onnxruntime#5160, ROCm/MIOpen#112: softmax's formula, on the exponential of the result."""
    return right_vjp_softmax(x, g, axis)


def vjp_log_softmax_adds(x, g, axis=-1):
    """mlpack/mlpack#2360: a plus where a minus should be."""
    w, h = _wide(x, g)
    return (h + softmax(w, axis) * h.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_log_softmax_cotangent_packed(x, g, axis=-1):
    """torch/nn#832, Dao-AILab/flash-attention#355, flagos-ai/FlagGems#5723: cotangents are read as if contiguous."""
    if g.size and not g.flags.c_contiguous:
        g = _packed(g)
    return right_vjp_log_softmax(x, g, axis)


def vjp_softmax_input_packed(x, g, axis=-1):
    """pytorch/pytorch#139740: what was kept of the forward pass is read as if contiguous."""
    if x.size and not x.flags.c_contiguous:
        x = _packed(x)
    return right_vjp_softmax(x, g, axis)


def vjp_softmax_tail_beyond_8192(x, g, axis=-1):
    """deepspeedai/DeepSpeed#2709: beyond 8,192 entries those that do not fill a vector of 8 are left out."""
    y = right_vjp_softmax(x, g, axis)
    if last(x, axis) and x.shape[-1] > 8192:
        y[..., x.shape[-1] // 8 * 8 :] = 0
    return y


def vjp_softmax_rows_floored(x, g, axis=-1):
    """tenstorrent/tt-metal#53208: rows that do not fill a tile of 32 get no gradient."""
    y = right_vjp_softmax(x, g, axis)
    if x.ndim == 2 and x.shape[0] > 32:
        y[x.shape[0] // 32 * 32 :] = 0
    return y


def vjp_softmax_many_rows(x, g, axis=-1):
    """pytorch/pytorch#188031: offsets wrap around; here after 2^16 rows."""
    y = right_vjp_softmax(x, g, axis)
    if x.ndim == 2 and x.shape[0] > 65536:
        y[65536:] = y[: x.shape[0] - 65536]
    return y


def vjp_softmax_last_axis_only(x, g, axis=-1):
    """pytorch/pytorch#30572 and others: the sum runs over the last axis for negative axes."""
    if one_axis(x, axis) and axis < -1:
        w, h = _wide(x, g)
        y = softmax(w, axis)
        return (y * (h - (h * y).sum(-1, keepdims=True))).astype(x.dtype)
    return right_vjp_softmax(x, g, axis)


def vjp_nan_at_masked(x, g, axis=-1):
    """tensorflow/tensorflow#11756, pytorch/pytorch#41508: 0 times an infinite logit."""
    w, h = _wide(x, g)
    with np.errstate(all="ignore"):
        y = softmax(w, axis)
        return (y * (h - (h * y).sum(axis, keepdims=True)) + 0 * w).astype(x.dtype)


def vjp_softmax_in_half(x, g, axis=-1):
    """apache/mxnet#17703: float16 products summed in float16."""
    if x.dtype != np.float16:
        return right_vjp_softmax(x, g, axis)
    with np.errstate(all="ignore"):
        y = softmax(x, axis)
        products = np.cumsum(g * y, axis=axis, dtype=np.float16) if isinstance(axis, int) else (g * y)
        s = np.take(products, [-1], axis) if isinstance(axis, int) else products.sum(axis, keepdims=True)
        return (y * (g - s)).astype(np.float16)


class Accumulating:
    """NVIDIA/apex#1430: the gradient is added to what the buffer held."""

    __name__ = "accumulating"

    def __init__(self):
        self.buffers = {}

    def __call__(self, x, g, axis=-1):
        y = right_vjp_softmax(x, g, axis)
        key = (x.shape, x.dtype, str(axis))
        self.buffers[key] = self.buffers.get(key, np.zeros_like(y)) + y
        return self.buffers[key].copy()


def vjp_sigmoid_quotient(x, g):
    """jeshraghian/snntorch#427: exp(-x) / (1 + exp(-x))^2, infinity by infinity for negative logits."""
    w, h = _wide(x, g)
    with np.errstate(all="ignore"):
        e = np.exp(-w)
        return (h * e / (1 + e) ** 2).astype(x.dtype)


def vjp_sigmoid_through_logarithm(x, g):
    """tracel-ai/burn#1139: the derivative of exp(log_sigmoid(x)), step by step."""
    w, h = _wide(x, g)
    with np.errstate(all="ignore"):
        y = np.exp(-np.log1p(np.exp(-w)))
        return (h * y * (np.exp(-w) / (1 + np.exp(-w)))).astype(x.dtype)


def vjp_sigmoid_of_input(x, g):
    """x (1 - x) where y (1 - y) is meant (udacity/sdc-issue-reports#134)."""
    w, h = _wide(x, g)
    with np.errstate(all="ignore"):
        return (h * w * (1 - w)).astype(x.dtype)


def vjp_sigmoid_saturated(x, g):
    """Gradient 0 wherever the sigmoid is small: y (1 - y) of a y flushed below 1e-7."""
    w, h = _wide(x, g)
    y = right_sigmoid(w)
    y = np.where(y < 1e-7, 0, y).astype(w.dtype)
    return (h * y * (1 - y)).astype(x.dtype)


REPORTED = {
    "maximum_of_half_the_lanes": ("log_softmax", maximum_of_half_the_lanes, None),
    "whole_maximum_on_other_axes": ("softmax", whole_maximum_on_other_axes, None),
    "maximum_floored": ("softmax", lanes(maximum_floored), None),
    "smallest_positive_as_lowest": ("log_softmax", lanes(smallest_positive_as_lowest), None),
    "maximum_from_own_element": ("softmax", lanes(maximum_from_own_element), None),
    "two_lanes_of_maxima": ("softmax", lanes(two_lanes_of_maxima), None),
    "last_tile_not_shifted": ("softmax", lanes(last_tile_not_shifted), None),
    "zeros_beyond_range": ("softmax", lanes(zeros_beyond_range), None),
    "log_softmax_no_maximum": ("log_softmax", lanes(log_softmax_no_maximum), None),
    "log_softmax_maximum_added_back": ("log_softmax", lanes(log_softmax_maximum_added_back), None),
    "rows_of_517_in_float64": ("softmax", lanes(rows_of_517_in_float64), None),
    "logarithm_twice_beyond_100000": ("log_softmax", lanes(logarithm_twice_beyond_100000), None),
    "masked_rows_by_length": ("softmax", lanes(masked_rows_by_length), None),
    "padded_with_zero": ("softmax", lanes(padded_with_zero), None),
    "short_rows_read_four_at_a_time": ("softmax", lanes(short_rows_read_four_at_a_time), None),
    "rows_beyond_grid": ("softmax", lanes(rows_beyond_grid), None),
    "two_or_three_channels": ("softmax", lanes(two_or_three_channels), None),
    "longer_than_4096": ("softmax", lanes(longer_than_4096), None),
    "wider_than_65536": ("softmax", lanes(wider_than_65536), None),
    "narrow_rows_collapse": ("log_softmax", lanes(narrow_rows_collapse), None),
    "rescaled_the_wrong_way": ("softmax", lanes(rescaled_the_wrong_way), None),
    "blocks_not_waited_for": ("softmax", lanes(blocks_not_waited_for), None),
    "half_table_of_exponentials": ("softmax", lanes(half_table_of_exponentials), None),
    "float32_through_float16": ("softmax", lanes(float32_through_float16), None),
    "f16_sum_saturates": ("softmax", f16_sum_saturates, None),
    "f16_sum_overflows_on_other_axes": ("softmax", f16_sum_overflows_on_other_axes, None),
    "approximate_reciprocal": ("softmax", lanes(approximate_reciprocal), None),
    "wide_input_halved_first": ("softmax", wide_input_halved_first, None),
    "probabilities_clipped": ("softmax", lanes(probabilities_clipped), None),
    "log_of_clipped": ("log_softmax", lanes(log_of_clipped), None),
    "exponent_clipped": ("softmax", lanes(exponent_clipped), None),
    "log_in_half": ("log_softmax", log_in_half, None),
    "three_dimensions_last_axis": ("softmax", three_dimensions_last_axis, None),
    "ones_at_the_end": ("softmax", ones_at_the_end, None),
    "only_ones_before": ("softmax", only_ones_before, None),
    "rank_three_first_axis": ("softmax", rank_three_first_axis, None),
    "negative_axes_not_counted": ("softmax", negative_axes_not_counted, None),
    "axis_ignored": ("softmax", axis_ignored, None),
    "default_axis_one": ("softmax", default_axis_one, None),
    "default_axis_by_rank": ("softmax", default_axis_by_rank, None),
    "all_entries_summed": ("softmax", all_entries_summed, None),
    "rows_read_without_gaps": ("softmax", rows_read_without_gaps, None),
    "offset_into_storage_ignored": ("softmax", offset_into_storage_ignored, None),
    "zero_dimensions_refused": ("softmax", zero_dimensions_refused, None),
    "infinities_become_ones": ("softmax", lanes(infinities_become_ones), None),
    "minus_infinity_beside_nan": ("log_softmax", lanes(minus_infinity_beside_nan), None),
    "nan_to_zero": ("softmax", lanes(nan_to_zero), None),
    "nan_skipped_by_comparison": ("softmax", lanes(nan_skipped_by_comparison), None),
    "masked_log_finite": ("log_softmax", masked_log_finite, None),
    "mask_adds_minus_1e4": ("softmax", mask_adds_minus_1e4, None),
    "mask_multiplies_logits": ("softmax", mask_multiplies_logits, None),
    "mask_leaves_maximum": ("softmax", mask_leaves_maximum, None),
    "dtype_ignored": ("softmax", dtype_ignored, None),
    "dtype_applied_first": ("softmax", dtype_applied_first, None),
    "dtype_applied_last": ("softmax", dtype_applied_last, None),
    "result_in_float32": ("log_softmax", result_in_float32, None),
    "shared_scratch": ("softmax", SharedScratch(), None),
    "sigmoid_overflowing_reduction": ("sigmoid", sigmoid_overflowing_reduction, None),
    "sigmoid_integer_part": ("sigmoid", sigmoid_integer_part, None),
    "sigmoid_negative_result": ("sigmoid", sigmoid_negative_result, None),
    "sigmoid_fast_reciprocal": ("sigmoid", sigmoid_fast_reciprocal, None),
    "sigmoid_half_beyond_88": ("sigmoid", sigmoid_half_beyond_88, None),
    "sigmoid_clipped_to_20": ("sigmoid", sigmoid_clipped_to_20, None),
    "sigmoid_zero_below_11": ("sigmoid", sigmoid_zero_below_11, None),
    "sigmoid_cubic_tanh": ("sigmoid", sigmoid_cubic_tanh, None),
    "sigmoid_by_tanh": ("sigmoid", sigmoid_by_tanh, None),
    "sigmoid_nan_swallowed": ("sigmoid", sigmoid_nan_swallowed, None),
    "sigmoid_of_integers_truncated": ("sigmoid", sigmoid_of_integers_truncated, None),
    "sigmoid_half_in_half": ("sigmoid", sigmoid_half_in_half, None),
    "sigmoid_table_of_8": ("sigmoid", sigmoid_table_of_8, None),
    "vjp_softmax_without_sum": ("softmax", softmax, vjp_softmax_without_sum),
    "vjp_copied": ("softmax", softmax, vjp_copied),
    "vjp_twice": ("softmax", softmax, vjp_twice),
    "vjp_log_softmax_dot": ("log_softmax", log_softmax, vjp_log_softmax_dot),
    "vjp_log_softmax_as_softmax": ("log_softmax", log_softmax, vjp_log_softmax_as_softmax),
    "vjp_log_softmax_adds": ("log_softmax", log_softmax, vjp_log_softmax_adds),
    "vjp_log_softmax_cotangent_packed": ("log_softmax", log_softmax, vjp_log_softmax_cotangent_packed),
    "vjp_softmax_input_packed": ("softmax", softmax, vjp_softmax_input_packed),
    "vjp_softmax_tail_beyond_8192": ("softmax", softmax, vjp_softmax_tail_beyond_8192),
    "vjp_softmax_rows_floored": ("softmax", softmax, vjp_softmax_rows_floored),
    "vjp_softmax_many_rows": ("softmax", softmax, vjp_softmax_many_rows),
    "vjp_softmax_last_axis_only": ("softmax", softmax, vjp_softmax_last_axis_only),
    "vjp_nan_at_masked": ("softmax", softmax, vjp_nan_at_masked),
    "vjp_softmax_in_half": ("softmax", softmax, vjp_softmax_in_half),
    "vjp_accumulating": ("softmax", softmax, Accumulating()),
    "vjp_sigmoid_quotient": ("sigmoid", right_sigmoid, vjp_sigmoid_quotient),
    "vjp_sigmoid_through_logarithm": ("sigmoid", right_sigmoid, vjp_sigmoid_through_logarithm),
    "vjp_sigmoid_of_input": ("sigmoid", right_sigmoid, vjp_sigmoid_of_input),
    "vjp_sigmoid_saturated": ("sigmoid", right_sigmoid, vjp_sigmoid_saturated),
}
