"""Every softmax, log_softmax and sigmoid call is recorded by itself: what goes in, what comes out, in order."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit.porting import compare, record

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
ATTENTION = ["softmax:1.scores", "softmax:1.weights", "output"]


def softmax(scores: Any) -> Any:
    return polylogit.softmax(np.asarray(scores, np.float64))


def test_numbers_count_each_operation_apart_in_order_of_computation() -> None:
    def model(x: Any) -> Any:
        p = polylogit.softmax(polylogit.sigmoid(x))
        return polylogit.log_softmax(polylogit.softmax(p))

    names = ["sigmoid:1", "softmax:1", "softmax:2", "log_softmax:1"]
    found = record(model)(X)
    assert list(found) == [f"{name}.{what}" for name in names for what in ("scores", "weights")] + ["output"]
    assert found["softmax:1.scores"] is found["sigmoid:1.weights"]


def test_masked_scores_are_minus_infinity() -> None:
    mask = RNG.random(X.shape) < 0.5
    found = record(polylogit.softmax, where=mask)(X)
    np.testing.assert_array_equal(found["softmax:1.scores"], np.where(mask, X, -np.inf))


def test_functions_that_a_module_holds_are_seen_and_put_back() -> None:
    special = importlib.import_module("scipy.special")
    before = special.softmax, polylogit.softmax
    module = type(sys)("held")
    module.softmax = special.softmax  # type: ignore[attr-defined]
    sys.modules["held"] = module
    try:
        found = record(lambda x: module.softmax(x, axis=-1))(X)
        assert list(found) == ATTENTION
        assert module.softmax is before[0]
    finally:
        del sys.modules["held"]
    assert (special.softmax, polylogit.softmax) == before


def test_threads_record_their_own_calls() -> None:
    barrier = threading.Barrier(4)
    found: dict[int, list[str]] = {}

    def run(count: int) -> None:
        def model(x: Any) -> Any:
            barrier.wait()
            for _ in range(count):
                x = polylogit.softmax(x)
            return x

        found[count] = list(record(model)(X))

    threads = [threading.Thread(target=run, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    barrier.wait()
    polylogit.softmax(X)  # recorded by none of them
    for thread in threads:
        thread.join()
    assert {count: len(names) for count, names in found.items()} == {1: 3, 2: 5, 3: 7}


# --- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.requires("torch")
def test_torch_calls_are_seen_whatever_they_are_called_through() -> None:
    import torch

    def model(x: Any) -> Any:
        calls = [torch.softmax(x, -1), x.softmax(1), torch.nn.functional.softmax(x, 0), torch.nn.Softmax(-1)(x)]
        calls += [x.log_softmax(-1), torch.nn.LogSoftmax(0)(x), torch.sigmoid(x), torch.nn.Sigmoid()(x)]
        return sum(calls) + polylogit.softmax(x)

    found = record(model)(torch.tensor(X))
    counts = {name: sum(key.startswith(f"{name}:") for key in found) for name in ("softmax", "log_softmax", "sigmoid")}
    assert counts == {"softmax": 10, "log_softmax": 4, "sigmoid": 4}


@pytest.mark.requires("torch")
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"mask": "bool"}, {"mask": "added"}, {"enable_gqa": True}],
    ids=str,
)
def test_fused_attention_shows_scores_and_weights(options: dict[str, Any], inference: bool) -> None:
    import torch

    options = dict(options)
    query = torch.tensor(X)
    heads = torch.tensor(X[:, :1]) if options.get("enable_gqa") else query
    kind = options.pop("mask", None)
    kept = RNG.random((4, 4)) < 0.7
    kept[:, 0] = True
    if kind is not None:
        options["attn_mask"] = torch.tensor(kept if kind == "bool" else np.where(kept, 0.0, -50.0).astype(np.float32))
    with torch.inference_mode(inference):
        found = record(torch.nn.functional.scaled_dot_product_attention, **options)(query, heads, heads)
    assert list(found) == ATTENTION
    found, value, product = polylogit.convert((found, heads, query @ heads.transpose(-1, -2)), "numpy")
    first = options.get("scale", 5**-0.5) * product[..., 0]  # the first key is seen by all
    np.testing.assert_allclose(found["softmax:1.scores"][..., 0], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["softmax:1.weights"] @ value, found["output"], rtol=1e-5, atol=1e-6)


@pytest.mark.requires("torch")
def test_fast_paths_do_not_hide_the_weights() -> None:
    import torch

    layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.tensor(RNG.standard_normal((2, 5, 8)).astype(np.float32))
    with torch.no_grad():
        found = record(model)(x)
        np.testing.assert_allclose(found["output"], model(x), rtol=1e-4, atol=1e-5)
    assert found["layers.1.self_attn:softmax:2.weights"].shape == (2, 2, 5, 5)
    order = list(found)
    assert order.index("layers.1.self_attn:softmax:2.weights") < order.index("layers.1.self_attn[0]")


@pytest.mark.requires("torch")
def test_what_is_overwritten_in_place_is_kept_as_it_was() -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.ReLU(inplace=True), torch.nn.Linear(5, 5))
    with torch.no_grad():
        found = record(lambda x: model(x).sigmoid_())(torch.tensor(X))
        inner = record(model)(torch.tensor(X))
    assert (inner["0"] < 0).any()
    assert (inner["1"] >= 0).all()
    np.testing.assert_allclose(polylogit.sigmoid(found["sigmoid:1.scores"]), found["output"], rtol=1e-6)


# --- JAX, TensorFlow -------------------------------------------------------------------------------------------------


@pytest.mark.requires("jax")
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"local_window_size": 1}, {"key_value_seq_lengths": np.array([2, 3])}],
    ids=str,
)
def test_jax_attention_shows_scores_and_weights(options: dict[str, Any]) -> None:
    import jax

    x = jax.numpy.asarray(X)  # (batch, positions, heads, width)
    found = record(jax.nn.dot_product_attention, **options)(x, x, x)
    assert list(found) == ATTENTION
    context = np.einsum("bnts,bsnh->btnh", found["softmax:1.weights"], X)
    np.testing.assert_allclose(context, found["output"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(softmax(found["softmax:1.scores"]), found["softmax:1.weights"], rtol=1e-5, atol=1e-7)


@pytest.mark.requires("jax")
def test_jitted_functions_are_seen_and_traced_values_are_skipped() -> None:
    import jax

    function = jax.jit(lambda x: jax.nn.log_softmax(jax.nn.softmax(x)))
    x = jax.numpy.asarray(X)
    expected = [f"{name}:1.{what}" for name in ("softmax", "log_softmax") for what in ("scores", "weights")]
    assert list(record(function)(x)) == [*expected, "output"]
    assert list(record(lambda x: function(x) + 1)(x)) == ["output"]
    inside = jax.jit(lambda x: record(jax.nn.softmax)(x)["output"])(x)
    np.testing.assert_allclose(inside, jax.nn.softmax(x), rtol=1e-6)
    gradient = jax.grad(lambda x: record(jax.nn.sigmoid)(x)["output"].sum())(x)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: jax.nn.sigmoid(x).sum())(x), rtol=1e-6)


@pytest.mark.requires("tensorflow")
def test_tensorflow_calls_are_seen_in_graphs_too() -> None:
    import tensorflow as tf

    def model(x: Any) -> Any:
        return tf.nn.log_softmax(tf.nn.softmax(tf.sigmoid(x)), axis=1)

    x = tf.constant(X)
    expected = ["sigmoid:1.scores", "sigmoid:1.weights", "softmax:1.scores", "softmax:1.weights"]
    expected += ["log_softmax:1.scores", "log_softmax:1.weights", "output"]
    assert list(record(model)(x)) == expected
    assert list(record(tf.function(model))(x)) == expected


@pytest.mark.requires("torch", "tensorflow", "jax")
def test_the_softmax_calls_of_two_frameworks_are_compared_without_names() -> None:
    import jax
    import torch

    weight = RNG.standard_normal((5, 5)).astype(np.float32)

    def original(x: Any) -> Any:
        w = torch.tensor(weight)
        return torch.nn.functional.scaled_dot_product_attention(x @ w, x, x)

    def port(x: Any, scale: float = 5**-0.5, axis: int = -1) -> Any:
        scores = (x @ weight) @ x.swapaxes(-1, -2) * scale
        return jax.nn.softmax(scores, axis=axis) @ x

    right = compare(record(original), record(port), inputs=X)
    assert right.agrees, str(right)
    assert [one.name for one in right.activations] == ATTENTION
    scaled = compare(record(original), record(port, scale=1.0), inputs=X)
    assert (scaled.first_divergence, scaled.cause and scaled.cause.name) == ("softmax:1.scores", "scaled-logits")
    turned = compare(record(original), record(port, axis=-2), inputs=X)
    assert (turned.first_divergence, turned.cause and turned.cause.name) == ("softmax:1.weights", "wrong-axis")
