"""Each form passes what is right, a framework's own where there is one, and fails what shipped wrong."""

import importlib.util
import math

import numpy as np
import pytest

from polylogit import conformance
from polylogit.conformance import forms

from .kernels import forms as kernels
from .kernels.faults import softmax


def check(form, operation="softmax", backend="numpy", dtypes=("float32",), checks=("values", "special"), **options):
    options = {"max_size": 5_000, **options}  # the largest arrays take half the time, and tell the same
    return conformance.check(
        form, operation, backend=backend, dtypes=list(dtypes), level="quick", name="form", checks=checks, **options
    )


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def passes(report, at_least=50):
    assert report.passed, report.summary()
    assert report.counts["passed"] >= at_least


def fails(report):
    assert report.status == 1, report.summary()
    assert "wrong" in {one.finding for one in report.failures}, report.summary()


# --- buffers ---------------------------------------------------------------------------------------------------------


def written(x, out, axis=-1):
    out[...] = softmax(x, axis)


def added(x, out, axis=-1):
    out += softmax(x, axis)


def times_0(x, out, axis=-1):  # rocm-libraries#8426
    out[...] = softmax(x, axis) + 0 * out


def first_half(x, out, axis=-1):
    y = softmax(x, axis)
    half = (slice(None),) * (axis % x.ndim) + (slice(0, max(1, x.shape[axis] // 2)),) if x.ndim else ()
    out[half] = y[half]


def not_written_where_0(x, out, axis=-1):
    np.copyto(out, softmax(x, axis), where=softmax(x, axis) != 0)


def ignored(x, out, axis=-1):
    return softmax(x, axis)


def test_a_buffer_that_is_written_passes_every_check():
    passes(check(forms.out(written), dtypes=["float32", "float16"], checks=None))


@pytest.mark.parametrize("fault", [added, times_0, first_half, not_written_where_0, ignored])
def test_what_was_in_the_buffer_before_shows(fault):
    report = check(forms.out(fault))
    fails(report)
    assert any("other bits" in one.message for one in report.failures)


def test_an_in_place_softmax_is_judged_on_a_copy():
    def overwrite(x, axis=-1):
        x[...] = softmax(x, axis)

    def overwritten_too_early(x, axis=-1):
        top = x.max(axis, keepdims=True)
        x[..., : x.shape[-1] // 2] = np.exp(x - top)[..., : x.shape[-1] // 2]
        x[...] = np.exp(x - top) / np.exp(x - top).sum(axis, keepdims=True)

    passes(check(forms.in_place(overwrite), checks=None))
    for wrong in (softmax, overwritten_too_early, lambda x, axis=-1: np.exp(x, out=x)):
        fails(check(forms.in_place(wrong), checks=["values"]))


@needs("torch")
def test_torch_writes_into_a_buffer_and_in_place():
    import torch

    form = forms.out(lambda x, out, axis=-1: torch.softmax(x, axis, out=out))
    passes(check(form, backend="torch", checks=["values", "special", "axes"]))
    form = forms.in_place(lambda x, axis=-1: x.copy_(torch.softmax(x, axis)))
    passes(check(form, backend="torch", checks=["values", "vjp"]))


@needs("jax")
def test_arrays_that_never_change_are_refused():
    report = check(forms.out(written), backend="jax")
    assert {one.verdict for one in report.results} == {"unsupported"}


# --- sums of exponentials --------------------------------------------------------------------------------------------


def test_a_logarithm_of_the_sum_passes_in_its_own_base_and_in_a_wider_dtype():
    passes(check(forms.log_sum_exp(kernels.lse), "log_softmax"))
    passes(check(forms.log_sum_exp(lambda x: kernels.lse(x, 2.0), base=2.0), "log_softmax"))
    form = forms.log_sum_exp(lambda x: kernels.lse(x, dtype=np.float32))
    passes(check(form, "log_softmax", dtypes=["float16", "bfloat16"]))


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: kernels.lse(x, 2.0),  # base 2 for base e
        lambda x: np.log(np.exp(x).sum(-1)),  # no maximum
        lambda x: kernels.lse(x, lowest=-1e4),
        lambda x: kernels.lse(x).astype(np.float16).astype(x.dtype),
        lambda x: np.where(np.isneginf(x).any(-1), kernels.lse(x) - x.max(-1), kernels.lse(x)),  # not added back
        lambda x: np.where(np.isneginf(x).all(-1), np.asarray(-5e4, x.dtype), kernels.lse(x)),  # flashinfer#4451
    ],
)
def test_a_wrong_logarithm_of_the_sum_fails(fault):
    fails(check(forms.log_sum_exp(fault), "log_softmax"))


def test_both_that_a_kernel_returns_can_be_judged():
    def both(x):
        return softmax(x, -1), kernels.lse(x)

    def from_the_sum(x):
        return np.exp(x - np.log(np.exp(x).sum(-1, keepdims=True))), kernels.lse(x)

    for operation in ("softmax", "log_softmax"):
        passes(check(forms.log_sum_exp(both, operation=operation), operation))
    passes(check(forms.log_sum_exp(from_the_sum), "log_softmax"))
    fails(check(forms.log_sum_exp(from_the_sum, operation="softmax")))
    with pytest.raises(ValueError, match="operation='sigmoid' is not what this form makes"):
        forms.log_sum_exp(both, operation="sigmoid")


@needs("torch")
def test_torch_logsumexp_with_its_gradient():
    import torch

    form = forms.log_sum_exp(lambda x: torch.logsumexp(x, -1))
    passes(check(form, "log_softmax", "torch", checks=["values", "special", "vjp"]))


@pytest.mark.parametrize("order", ["left", "right", "pairs"])
@pytest.mark.parametrize("splits", [2, 7])
def test_merged_sums_pass_in_any_order(order, splits):
    passes(check(forms.merged(kernels.partial, kernels.merge, splits=splits, order=order)))


def in_base(base, function):
    return lambda *args: function(*args, base=base)


@pytest.mark.parametrize("base", [math.e, 2.0])
def test_merged_sums_pass_in_either_base_and_as_either_operation(base):
    for operation in ("softmax", "log_softmax"):
        states = (in_base(base, kernels.partial), in_base(base, kernels.merge))
        passes(check(forms.merged(*states, base=base, operation=operation), operation, checks=["values"]))
    other = in_base(math.e if base == 2.0 else 2.0, kernels.merge)
    fails(check(forms.merged(in_base(base, kernels.partial), other, base=base)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b: kernels.merge(a, b, safe=False),  # two empty states: NaN
        lambda a, b: kernels.merge(a, b, maximum=lambda p, q: p),  # the first maximum is kept
        lambda a, b: (np.maximum(a[0], b[0]), a[1] + b[1]),  # not rescaled
        lambda a, b: (a[0] + b[0], a[1] + b[1]),  # the maximum as a sum, tt-xla#6075
    ],
)
def test_a_wrong_merge_of_sums_fails(wrong):
    fails(check(forms.merged(kernels.partial, wrong)))


@pytest.mark.parametrize("base", [math.e, 2.0])
def test_states_of_attention_are_merged(base):
    states = (in_base(base, kernels.attended), in_base(base, kernels.merge_attended))
    passes(check(forms.merged_attention(*states, base=base, empty_rows="zeros")))
    passes(check(forms.merged_attention(*states, base=base, operation="log_softmax"), "log_softmax"))
    undeclared = check(forms.merged_attention(*states, base=base))
    assert undeclared.status == 1
    assert list(undeclared.conventions) == ["empty-row=zeros"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"safe": False},  # flashinfer#5262: two empty states, NaN
        {"mean": True},
        {"highest": True},  # the larger lse is kept
        {"base": 2.0},  # attention-gym#205
    ],
)
def test_a_wrong_merge_of_attention_fails(wrong):
    def merge(a, b):
        return kernels.merge_attended(a, b, **wrong)

    fails(check(forms.merged_attention(kernels.attended, merge, empty_rows="zeros")))
    if not wrong.get("mean"):  # which leaves the sums right
        fails(check(forms.merged_attention(kernels.attended, merge, operation="log_softmax"), "log_softmax"))


def test_an_order_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="order='middle' does not exist"):
        forms.merged(kernels.partial, kernels.merge, order="middle")


# --- scores and masks ------------------------------------------------------------------------------------------------


def scale_after(x, scale):
    e = np.exp((x - x.max(-1, keepdims=True)) * x.dtype.type(1.0))
    return e / e.sum(-1, keepdims=True)


def maximum_unscaled(x, scale):
    e = np.exp(x * x.dtype.type(scale) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scaled_twice(x, scale):  # maxtext#3138
    return softmax(x * x.dtype.type(scale) ** 2, -1)


@pytest.mark.parametrize("scale", [0.125, 4.0])
def test_a_scale_belongs_to_the_maximum_as_well(scale):
    passes(check(forms.scaled(lambda x, scale: softmax(x * x.dtype.type(scale), -1), scale=scale)))
    for wrong in (scale_after, maximum_unscaled, scaled_twice):
        fails(check(forms.scaled(wrong, scale=scale), checks=["values"]))


def test_a_scale_by_which_logits_cannot_be_divided_is_an_error():
    with pytest.raises(ValueError, match=r"scale=0.3 is no power of two"):
        forms.scaled(scaled_twice, scale=0.3)


def capped(x, cap, where=None, fault=""):
    low = np.asarray(-np.inf, x.dtype)
    if where is not None and fault == "after the mask":
        x, where = np.where(where, x, low), None
    if cap is not None:
        x = {
            "forgotten": lambda: x,
            "not multiplied": lambda: np.tanh(x / cap),
            "clipped": lambda: np.clip(x, -cap, cap),
            "after the mask": lambda: cap * np.tanh(x / cap),
        }.get(fault, lambda: cap * np.tanh(x / cap))().astype(x.dtype)
    if where is None:
        return softmax(x, -1)
    y = np.where(where, softmax(np.where(where, x, low), -1), 0)
    return np.where(where.any(-1, keepdims=True), y, 0).astype(x.dtype)


def test_a_cap_of_the_logits():
    passes(check(forms.capped(capped), dtypes=["float32", "float64", "float16"]))
    for fault in ("forgotten", "not multiplied", "clipped"):
        fails(check(forms.capped(lambda x, cap, fault=fault: capped(x, cap, fault=fault))))
    passes(check(forms.capped(capped, masked=True), checks=["values", "masks"]))
    late = forms.capped(lambda x, cap, where: capped(x, cap, where, "after the mask"), masked=True)
    fails(check(late, checks=["masks"]))
    with pytest.raises(ValueError, match="cap=0 is no cap"):
        forms.capped(capped, cap=0)


@needs("torch")
def test_a_cap_has_a_derivative():
    import torch

    from .kernels.losses import straight_through

    def right(x, cap):
        return torch.softmax(x if cap is None else cap * torch.tanh(x / cap), -1)

    def wrong(x, cap):
        return torch.softmax(x if cap is None else straight_through(x, cap), -1)

    passes(check(forms.capped(right), backend="torch", checks=["vjp"]), 20)
    fails(check(forms.capped(wrong), backend="torch", checks=["vjp"]))


def test_a_mask_that_is_added():
    passes(check(forms.additive_mask(lambda x, mask, axis=-1: softmax(x + mask, axis)), checks=None))
    for fill in (-1e4, -1e9, "lowest"):
        finite = forms.additive_mask(lambda x, mask, axis=-1: softmax(x + mask, axis), fill=fill)
        fails(check(finite, checks=["masks"]))
    kept = forms.additive_mask(lambda x, mask, axis=-1: softmax(x, axis))
    fails(check(kept, checks=["masks"]))
    swapped = forms.additive_mask(lambda x, mask, axis=-1: softmax(np.where(mask == 0, -np.inf, x), axis))
    fails(check(swapped, checks=["masks"]))


def test_a_causal_mask_off_by_one_either_way_fails():
    passes(check(forms.causal(kernels.seen)))
    for wrong in (
        lambda scores: kernels.seen(scores, 1),
        lambda scores: kernels.seen(scores, -1) if scores.shape[-1] > 1 else kernels.seen(scores),
        lambda scores: kernels.seen(scores, fill=-1e4),
        lambda scores: softmax(scores, -1),
    ):
        fails(check(forms.causal(wrong), checks=["values"]))


def test_attention_with_the_scores_in_a_bias_or_in_the_products():
    def masked(q, k, v, mask):
        return softmax(np.where(mask, q @ k.T, np.asarray(-np.inf, q.dtype)), -1) @ v

    passes(check(forms.attention(kernels.attention)))
    passes(check(forms.attention(masked, through="scores")))
    for wrong in (kernels.bias_is_scaled, kernels.sink_counts_twice, kernels.tiles_forget):
        fails(check(forms.attention(wrong), checks=["values"]))
    scaled = forms.attention(lambda q, k, v, mask: masked(q / 2, k, v, mask), through="scores")
    fails(check(scaled, checks=["values"]))
    transposed = forms.attention(lambda q, k, v, mask: masked(q, k, v[::-1], mask), through="scores")
    fails(check(transposed, checks=["values"]))


def test_attention_is_held_to_what_it_says_of_empty_rows():
    undeclared = check(forms.attention(kernels.mean_of_values), checks=["special"])
    assert undeclared.status == 1
    assert list(undeclared.conventions) == ["empty-row=uniform"]
    passes(check(forms.attention(kernels.mean_of_values, empty_rows="uniform"), checks=["special"]), 30)
    for policy in ("zeros", "nan"):
        assert check(forms.attention(kernels.mean_of_values, empty_rows=policy), checks=["special"]).status == 1
    with pytest.raises(ValueError, match="empty_rows='none' is no policy"):
        forms.attention(kernels.attention, empty_rows="none")


@needs("torch")
def test_scaled_dot_product_attention_of_torch_with_its_gradient():
    import torch

    attention = torch.nn.functional.scaled_dot_product_attention

    def whole(q, k, v, bias):
        return attention(q[None, None], k[None, None], v[None, None], attn_mask=bias, scale=1.0)[0, 0]

    form = forms.attention(whole, empty_rows="zeros")
    passes(check(form, backend="torch", checks=["values", "special", "vjp"]))
    form = forms.attention(whole, through="scores", empty_rows="zeros")
    passes(check(form, backend="torch"))

    def causal(scores):
        if torch.isneginf(scores).any():
            raise NotImplementedError("0 times -inf is NaN")
        one = torch.eye(scores.shape[-1], dtype=scores.dtype).expand_as(scores)
        return attention(scores, one, one, is_causal=True, scale=1.0)

    passes(check(forms.causal(causal), backend="torch", checks=["values", "axes", "shapes"]))


@needs("torch")
def test_a_gradient_from_exponentials_less_a_rounded_sum_is_found_in_scaled_dot_product_attention():
    """Its backward takes ``exp(score - lse)``, and at two scores of -1e7 the lse has no room for log 2."""
    import torch

    def whole(q, k, v, mask):
        q, k, v = (part[None, None] for part in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)[0, 0]

    form = forms.attention(whole, through="scores", empty_rows="zeros")
    x = torch.full((1, 2), -1e7, requires_grad=True)
    (gradient,) = torch.autograd.grad(form(x), x, torch.tensor([[0.0, 1.0]]))
    assert (abs(gradient[0, 1] - 0.25) < 1e-5) == check(form, backend="torch", checks=["vjp"]).passed


@needs("jax")
def test_dot_product_attention_of_jax():
    import jax

    def attention(q, k, v, bias):
        q, k, v = (part[:, None] for part in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, bias=bias[None])[:, 0]

    passes(check(forms.attention(attention), backend="jax"), 20)


@needs("tensorflow")
def test_dot_product_attention_of_keras():
    import tensorflow  # noqa: F401  isort: skip
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another framework here")

    def attention(q, k, v, bias):
        q, k, v = (part[None, :, None] for part in (q, k, v))
        return keras.ops.dot_product_attention(q, k, v, bias=bias[None, None])[0, :, 0]

    passes(check(forms.attention(attention), backend="tensorflow"))


# --- losses ----------------------------------------------------------------------------------------------------------

OPTIONS = [
    {"reduction": "none"},
    {"reduction": "none", "ignore_index": -100, "weights": True},
    {"reduction": "none", "label_smoothing": 0.125},
    {"reduction": "none", "label_smoothing": 0.1, "weights": True, "ignore_index": -1},
    {"reduction": "sum", "ignore_index": -100},
    {"reduction": "mean", "ignore_index": -100, "weights": True},
    {"reduction": "mean", "label_smoothing": 0.1, "weights": True, "ignore_index": 1000},
]
IGNORING, SMOOTH, ALL, SUM, MEAN, SMOOTH_MEAN = OPTIONS[1:]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_cross_entropy_passes_with_every_option_and_its_backward(options):
    vjp = forms.cross_entropy_vjp(kernels.backward, **options)
    form = forms.cross_entropy(kernels.losses, **options)
    passes(check(form, "log_softmax", vjp=vjp, checks=["values", "special", "vjp"]), 20)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("the first for all", OPTIONS[0]),
        ("smoothing over n - 1", SMOOTH),
        ("smoothing over n - 1", SMOOTH_MEAN),
        ("smoothing without weights", ALL),
        ("ignored counts", IGNORING),
        ("ignored counts", SUM),
        ("sum is a mean", SUM),
        ("mean over all", MEAN),
        ("mean over all", SMOOTH_MEAN),
        ("weights not normalised", MEAN),
    ],
)
def test_a_wrong_option_of_cross_entropy_fails(fault, options):
    form = forms.cross_entropy(lambda *args, **kwargs: kernels.losses(*args, fault=fault, **kwargs), **options)
    fails(check(form, "log_softmax", checks=["values"]))


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("the first upstream gradient", OPTIONS[0]),
        ("the mean of the upstream gradient", OPTIONS[0]),
        ("sign", OPTIONS[0]),
        ("ignored counts", IGNORING),
        ("ignored counts", SUM),
        ("weights forgotten", IGNORING),
        ("weights forgotten", MEAN),
        ("smoothing over n - 1", SMOOTH),
        ("smoothing over n - 1", SMOOTH_MEAN),
        ("mean over all", MEAN),
    ],
)
def test_a_wrong_backward_of_cross_entropy_fails(fault, options):
    vjp = forms.cross_entropy_vjp(lambda *args, **kwargs: kernels.backward(*args, fault=fault, **kwargs), **options)
    fails(check(forms.cross_entropy(kernels.losses, **options), "log_softmax", vjp=vjp, checks=["vjp"]))


@needs("torch")
@pytest.mark.parametrize("options", [*OPTIONS[:4], *OPTIONS[5:6]], ids=str)
def test_cross_entropy_of_torch_with_its_gradient(options):
    import torch

    form = forms.cross_entropy(torch.nn.functional.cross_entropy, **options, longest=20)
    passes(check(form, "log_softmax", "torch", checks=["values", "vjp"]), 20)


@needs("torch")
def test_a_cross_entropy_that_brings_its_gradient_to_torch():
    from .kernels.losses import cross_entropy

    options = {"ignore_index": -100, "label_smoothing": 0.125, "longest": 20}
    form = forms.cross_entropy(cross_entropy(), **options)
    passes(check(form, "log_softmax", "torch", dtypes=["float32", "bfloat16"], checks=["values", "vjp"]))
    for fault in ("the first upstream gradient", "ignored counts", "smoothing over n - 1"):
        fails(check(forms.cross_entropy(cross_entropy(fault), **options), "log_softmax", "torch", checks=["vjp"]))


@needs("torch")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_probability_rounded_to_16_bits_before_1_is_subtracted_fails(dtype):
    import torch

    from .kernels.losses import cross_entropy

    def vjp_of(loss):
        def backward(x, targets, upstream):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(loss(x, targets), x, upstream)[0]

        return forms.cross_entropy_vjp(backward, longest=20)

    form = forms.cross_entropy(cross_entropy(), longest=20)
    options = {"dtypes": [dtype], "checks": ["vjp"]}
    passes(check(form, "log_softmax", "torch", vjp=vjp_of(cross_entropy()), **options))
    narrow = cross_entropy("16 bits before 1 is subtracted")
    fails(check(form, "log_softmax", "torch", vjp=vjp_of(narrow), **options))
    passes(check(form, "log_softmax", "torch", **options), 40)
    fails(check(forms.cross_entropy(narrow, longest=20), "log_softmax", "torch", **options))


@needs("jax")
def test_a_cross_entropy_in_jax():
    import jax

    def loss(x, targets, *, reduction):
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(x), targets[:, None], 1)[:, 0]

    passes(check(forms.cross_entropy(loss, longest=4), "log_softmax", "jax", checks=["values", "axes", "vjp"]), 10)


@needs("tensorflow")
def test_sparse_cross_entropy_of_tensorflow():
    import tensorflow as tf

    def loss(x, targets, *, reduction):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, x)

    form = forms.cross_entropy(loss, longest=40)
    passes(check(form, "log_softmax", "tensorflow", dtypes=["float32"], checks=["values", "axes", "vjp"]))
    # Its gradient in bfloat16 is that of a probability that is rounded before 1 is subtracted.
    passes(check(form, "log_softmax", "tensorflow", dtypes=["bfloat16"], checks=["values", "axes"]), 20)


def test_what_a_form_is_not_made_for_is_refused_and_never_passed():
    form = forms.cross_entropy(kernels.losses, longest=4, ignore_index=3)
    report = check(form, "log_softmax", checks=["values", "axes"])
    assert report.passed
    refused = [one.message for one in report.results if one.verdict == "unsupported"]
    for reason in ("goes up to 4", "along one axis", "is one of 4 classes"):
        assert any(reason in message for message in refused)


@pytest.mark.parametrize("options", [{"reduction": "average"}, {"label_smoothing": 1.0}])
def test_an_option_that_does_not_exist_is_an_error(options):
    for form in (forms.cross_entropy, forms.cross_entropy_vjp):
        with pytest.raises(ValueError, match="="):
            form(kernels.losses, **options)
