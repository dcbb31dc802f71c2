"""Each form passes what is right, a framework's own where there is one, and fails what shipped wrong."""

import importlib.util

import numpy as np
import pytest

from polylogit import conformance
from polylogit.conformance import forms

from .kernels.faults import log_softmax, softmax


def check(form, operation="softmax", backend="numpy", dtypes=("float32",), checks=None, vjp=None):
    return conformance.check(
        form, operation, backend=backend, dtypes=list(dtypes), level="quick", name="form", checks=checks, vjp=vjp
    )


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def passes(report, at_least=50):
    assert report.passed, report.summary()
    assert report.counts["passed"] >= at_least


# --- buffers ---------------------------------------------------------------------------------------------------------


def written(x, out, axis=-1):
    out[...] = softmax(x, axis)


def added(x, out, axis=-1):
    out += softmax(x, axis) - out * 0
    out[...] = np.where(np.isnan(out), softmax(x, axis), out)


def first_half(x, out, axis=-1):
    y = softmax(x, axis)
    half = (slice(None),) * (axis % x.ndim) + (slice(0, max(1, x.shape[axis] // 2)),) if x.ndim else ()
    out[half] = y[half]


def not_written_where_0(x, out, axis=-1):
    np.copyto(out, softmax(x, axis), where=softmax(x, axis) != 0)


def ignored(x, out, axis=-1):
    return softmax(x, axis)


def test_a_buffer_that_is_written_passes():
    passes(check(forms.out(written), dtypes=["float32", "float16"]))


@pytest.mark.parametrize("fault", [added, first_half, not_written_where_0, ignored])
def test_what_was_in_the_buffer_before_shows(fault):
    assert check(forms.out(fault)).status == 1


def test_an_in_place_softmax_is_judged_on_a_copy():
    def overwrite(x, axis=-1):
        x[...] = softmax(x, axis)

    passes(check(forms.in_place(overwrite)))
    assert check(forms.in_place(lambda x, axis=-1: softmax(x, axis))).status == 1  # leaves the logits where they were


@needs("torch")
def test_torch_writes_into_a_buffer():
    import torch

    form = forms.out(lambda x, out, axis=-1: torch.softmax(x, axis, out=out))
    passes(check(form, backend="torch", checks=["values", "special", "axes"]))


# --- sums of exponentials --------------------------------------------------------------------------------------------


def lse(x, base=np.e, lowest=-np.inf):
    with np.errstate(all="ignore"):
        m = np.maximum(x.max(-1), np.asarray(lowest, x.dtype))
        wide = np.exp(x - m[:, None]).sum(-1)
        return ((m + np.log(wide)) / np.log(np.asarray(base, x.dtype))).astype(x.dtype)


def test_a_logarithm_of_the_sum_passes_in_its_own_base():
    passes(check(forms.log_sum_exp(lse), "log_softmax"))
    passes(check(forms.log_sum_exp(lambda x: lse(x, 2.0), base=2.0), "log_softmax"))


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: lse(x, 2.0),  # base 2 for base e
        lambda x: np.log(np.exp(x).sum(-1)),  # no maximum
        lambda x: lse(x, lowest=-1e4),
        lambda x: lse(x).astype(np.float16).astype(x.dtype),
        lambda x: np.where(np.isneginf(x).any(-1), lse(x) - x.max(-1), lse(x)),  # the maximum is not added back
    ],
)
def test_a_wrong_logarithm_of_the_sum_fails(fault):
    assert check(forms.log_sum_exp(fault), "log_softmax").status == 1


@needs("torch")
def test_torch_logsumexp_with_its_gradient():
    import torch

    form = forms.log_sum_exp(lambda x: torch.logsumexp(x, -1))
    passes(check(form, "log_softmax", "torch", checks=["values", "special", "vjp"]), 10)


def partial(x):
    m = x.max(-1, initial=-np.inf)
    safe = np.where(np.isneginf(m), 0, m)[:, None].astype(x.dtype)
    return m, np.exp(x - safe).sum(-1)


def merge(a, b, safe=True, maximum=np.maximum):
    m = maximum(a[0], b[0])
    low = np.where(np.isneginf(m), 0, m).astype(m.dtype) if safe else m
    return m, a[1] * np.exp(a[0] - low) + b[1] * np.exp(b[0] - low)


@pytest.mark.parametrize("order", ["left", "right", "pairs"])
@pytest.mark.parametrize("splits", [2, 7])
def test_merged_sums_pass_in_any_order(order, splits):
    passes(check(forms.merged(partial, merge, splits=splits, order=order), checks=["values", "special"]), 20)
    logs = forms.merged(partial, merge, splits=splits, order=order, logarithm=True)
    large = {"shifted", "alone", "values"}
    report = check(logs, "log_softmax", checks=["special"])
    assert report.passed, (large, report.summary())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b: merge(a, b, safe=False),  # two empty states: NaN
        lambda a, b: merge(a, b, maximum=lambda p, q: p),  # the first maximum is kept
        lambda a, b: (np.maximum(a[0], b[0]), a[1] + b[1]),  # not rescaled
        lambda a, b: (np.maximum(a[0] + b[0], 0), a[1] + b[1]),  # the maximum as a sum
    ],
)
def test_a_wrong_merge_of_sums_fails(wrong):
    assert check(forms.merged(partial, wrong), checks=["values"]).status == 1


def attended(x, v):
    m = np.where(np.isneginf(top := x.max(-1, initial=-np.inf)), 0, top).astype(x.dtype)
    e = np.exp(x - m[:, None])
    s = e.sum(-1)
    return (e / np.where(s == 0, 1, s)[:, None].astype(x.dtype)) @ v, m + np.log(s)


def merge_attended(a, b, safe=True, mean=False):
    m = np.maximum(a[1], b[1])
    low = np.where(np.isneginf(m), 0, m).astype(m.dtype) if safe else m
    p, q = np.exp(a[1] - low)[:, None], np.exp(b[1] - low)[:, None]
    s = np.where(p + q == 0, 1, p + q).astype(p.dtype)
    mixed = (a[0] + b[0]) / 2 if mean else (a[0] * p + b[0] * q) / s
    return mixed.astype(a[0].dtype), low + np.log((p + q)[:, 0])


def test_states_of_attention_are_merged_and_a_wrong_merge_fails():
    passes(
        check(forms.merged_attention(attended, merge_attended, empty_rows="zeros"), checks=["values", "special"]), 20
    )
    for wrong in (
        lambda a, b: merge_attended(a, b, safe=False),
        lambda a, b: merge_attended(a, b, mean=True),
        lambda a, b: (merge_attended(a, b)[0], np.maximum(a[1], b[1])),
    ):
        assert check(forms.merged_attention(attended, wrong, empty_rows="zeros"), checks=["values"]).status == 1
    undeclared = check(forms.merged_attention(attended, merge_attended), checks=["values", "special"])
    assert undeclared.status == 1
    assert list(undeclared.conventions) == ["empty-row=zeros"]


# --- scores and masks ------------------------------------------------------------------------------------------------


def test_a_scale_belongs_to_the_maximum_as_well():
    def right(x, scale, axis=-1):
        return softmax(x * x.dtype.type(scale), axis)

    def scaled_after(x, scale, axis=-1):
        e = np.exp((x - x.max(axis, keepdims=True)) * x.dtype.type(1.0))
        return e / e.sum(axis, keepdims=True)

    def scaled_twice(x, scale, axis=-1):
        return softmax(x * x.dtype.type(scale) ** 2, axis)

    for scale in (0.125, 4.0):
        passes(check(forms.scaled(right, scale=scale)))
        for wrong in (scaled_after, scaled_twice):
            assert check(forms.scaled(wrong, scale=scale), checks=["values"]).status == 1
    with pytest.raises(ValueError, match=r"scale=0.3 is no power of two"):
        forms.scaled(right, scale=0.3)


def test_a_mask_that_is_added():
    passes(check(forms.additive_mask(lambda x, mask, axis=-1: softmax(x + mask, axis))))
    for fill in (-1e4, -1e9, float(np.finfo(np.float32).min)):
        finite = forms.additive_mask(lambda x, mask, axis=-1: softmax(x + mask, axis), fill=fill)
        assert check(finite, checks=["masks"]).status == 1
    kept = forms.additive_mask(lambda x, mask, axis=-1: softmax(x, axis))
    assert check(kept, checks=["masks"]).status == 1


def seen(scores, offset=0, fill=-np.inf):
    n = scores.shape[-1]
    return softmax(np.where(np.tri(n, k=offset, dtype=bool), scores, np.asarray(fill, scores.dtype)), -1)


def test_a_causal_mask_off_by_one_either_way_fails():
    passes(check(forms.causal(seen), checks=["values", "special"]), 20)
    for wrong in (
        lambda scores: seen(scores, 1),
        lambda scores: seen(scores, -1) if scores.shape[-1] > 1 else seen(scores),
        lambda scores: seen(scores, fill=-1e4),
        lambda scores: softmax(scores, -1),
    ):
        assert check(forms.causal(wrong), checks=["values"]).status == 1


def plain_attention(q, k, v, bias):
    return softmax(q @ k.T + bias, -1) @ v


def test_attention_with_the_scores_in_a_bias_or_in_the_products():
    passes(check(forms.attention(plain_attention), checks=["values", "special"]), 20)

    def masked(q, k, v, mask):
        return softmax(np.where(mask, q @ k.T, np.asarray(-np.inf, q.dtype)), -1) @ v

    passes(check(forms.attention(masked, through="scores"), checks=["values"]), 20)

    def mean_of_values(q, k, v, bias):
        empty = np.isneginf(bias).all(-1, keepdims=True)
        return np.where(empty, v.mean(0), plain_attention(q, k, v, bias)).astype(v.dtype)

    assert list(check(forms.attention(mean_of_values), checks=["special"]).conventions) == ["empty-row=uniform"]
    declared = forms.attention(mean_of_values, empty_rows="uniform")
    passes(check(declared, checks=["special"]), 5)
    assert check(forms.attention(mean_of_values, empty_rows="zeros"), checks=["special"]).status == 1
    with pytest.raises(ValueError, match="empty_rows='none' is no policy"):
        forms.attention(mean_of_values, empty_rows="none")


@needs("torch")
def test_scaled_dot_product_attention_of_torch_with_its_gradient():
    import torch

    def attention(q, k, v, bias):
        q, k, v, bias = (part[None, None] for part in (q, k, v, bias))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0, 0]

    form = forms.attention(attention, empty_rows="zeros")
    passes(check(form, backend="torch", checks=["values", "special", "vjp"]), 20)


@needs("jax")
def test_dot_product_attention_of_jax():
    import jax

    def attention(q, k, v, bias):
        q, k, v = (part[:, None] for part in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, bias=bias[None])[:, 0]

    form = forms.attention(attention, empty_rows="nan")
    passes(check(form, backend="jax", checks=["values"]), 5)


def losses(x, targets, *, reduction, ignore_index=None, label_smoothing=0.0, weight=None, fault=""):
    r = log_softmax(x, -1)
    n = x.shape[-1]
    kept = np.ones(len(x), bool) if ignore_index is None else targets != ignore_index
    picked = np.where(kept, targets, 0)
    w = np.ones(len(x), x.dtype) if weight is None else weight[picked]
    with np.errstate(all="ignore"):
        found = -w * np.take_along_axis(r, picked[:, None], 1)[:, 0]
        if label_smoothing:
            others = n - 1 if fault == "smoothing over n - 1" else n
            spread = -(r * (np.ones(n, x.dtype) if weight is None else weight)).sum(-1) / others
            found = (1 - label_smoothing) * found + label_smoothing * spread
    found = np.where(kept, found, found if fault == "ignored counts" else 0)
    if reduction == "none":
        return (found * found[0] / found[0] if fault == "first" else found).astype(x.dtype)
    if reduction == "sum":
        return (found.mean() if fault == "sum is a mean" else found.sum()).astype(x.dtype)
    whole = {"weights not normalised": kept.sum(), "mean over all": len(x)}.get(fault, (w * kept).sum())
    return (found.sum() / whole).astype(x.dtype)


OPTIONS = [
    {"reduction": "none"},
    {"reduction": "none", "ignore_index": -100, "weights": True},
    {"reduction": "sum", "ignore_index": -100},
    {"reduction": "mean", "ignore_index": -100, "weights": True},
    {"reduction": "none", "label_smoothing": 0.125},
    {"reduction": "mean", "label_smoothing": 0.125},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_cross_entropy_passes_with_every_option(options):
    passes(check(forms.cross_entropy(losses, **options), "log_softmax", checks=["values", "special"]), 5)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("smoothing over n - 1", OPTIONS[4]),
        ("ignored counts", OPTIONS[1]),
        ("ignored counts", OPTIONS[2]),
        ("sum is a mean", OPTIONS[2]),
        ("mean over all", OPTIONS[3]),
        ("weights not normalised", OPTIONS[3]),
    ],
)
def test_a_wrong_option_of_cross_entropy_fails(fault, options):
    form = forms.cross_entropy(lambda *args, **kwargs: losses(*args, fault=fault, **kwargs), **options)
    assert check(form, "log_softmax", checks=["values", "special"]).status == 1


def backward(x, targets, upstream, fault=""):
    p = np.exp(log_softmax(x, -1))
    p[np.arange(len(x)), targets] -= 1
    if fault == "the first upstream gradient":
        return p * upstream[0]
    if fault == "the mean of the upstream gradient":
        return p * upstream.mean()
    return p * (np.abs(upstream) if fault == "sign" else upstream)[:, None]


def test_a_backward_that_takes_one_upstream_gradient_for_all_fails():
    right = forms.cross_entropy(losses)
    passes(check(right, "log_softmax", vjp=forms.cross_entropy_vjp(backward), checks=["vjp"]), 5)
    for fault in ("the first upstream gradient", "the mean of the upstream gradient", "sign"):
        vjp = forms.cross_entropy_vjp(lambda x, t, g, fault=fault: backward(x, t, g, fault))
        assert check(right, "log_softmax", vjp=vjp, checks=["vjp"]).status == 1


@needs("torch")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy_of_torch_with_its_gradient(options):
    import torch

    form = forms.cross_entropy(torch.nn.functional.cross_entropy, **{**options, "longest": 8})
    passes(check(form, "log_softmax", "torch", checks=["values", "vjp"]), 3)


@needs("tensorflow")
def test_sparse_cross_entropy_of_tensorflow():
    import tensorflow as tf

    def loss(x, targets, *, reduction):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, x)

    form = forms.cross_entropy(loss, longest=40)
    report = check(form, "log_softmax", "tensorflow", checks=["axes", "shapes"])
    passes(report, 5)


def test_what_a_form_is_not_made_for_is_refused_and_never_passed():
    form = forms.cross_entropy(losses, longest=4)
    report = check(form, "log_softmax", checks=["values", "axes"])
    assert report.passed
    assert all(
        "goes up to 4" in one.message or "along one axis" in one.message
        for one in report.results
        if one.verdict == "unsupported"
    )
