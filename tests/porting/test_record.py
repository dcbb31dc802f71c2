"""Recorders: the activations of each framework's models, in order and by name, ready for `compare`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit.errors import ComparisonError
from polylogit.porting import compare, record, tap

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
W1, B1 = RNG.standard_normal((4, 8)).astype(np.float32), RNG.standard_normal(8).astype(np.float32)
W2, B2 = RNG.standard_normal((8, 3)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)


def plain(x: Any) -> Any:
    hidden = tap("hidden", x @ W1 + B1)
    scores = tap("scores", np.maximum(hidden, 0) @ W2 + B2)
    return polylogit.softmax(scores)


def torch_model() -> Any:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(-1))
    weights = {"0.weight": W1.T, "0.bias": B1, "2.weight": W2.T, "2.bias": B2}
    model.load_state_dict(polylogit.convert(weights, "torch"))
    return model.eval()


def keras_model() -> Any:
    import keras

    layers = [
        keras.layers.Dense(8, activation="relu", name="first"),
        keras.layers.Dense(3, name="second"),
        keras.layers.Softmax(name="head"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.set_weights([W1, B1, W2, B2])
    return model


def test_a_plain_function_records_its_taps() -> None:
    found = record(plain)(X)
    assert list(found) == ["hidden", "scores", "softmax:1.scores", "softmax:1.weights", "output"]
    np.testing.assert_array_equal(found["output"], plain(X))


def test_taps_do_nothing_outside_a_recording() -> None:
    assert tap("x", X) is X


def test_a_part_called_twice_is_two_activations() -> None:
    assert list(record(lambda x: tap("a", tap("a", x) + 1))(X)) == ["a", "a#2", "output"]


def test_what_is_no_model_or_computes_nothing_is_an_error() -> None:
    with pytest.raises(ComparisonError, match="cannot be recorded"):
        record(3)
    with pytest.raises(ComparisonError, match="computed no arrays"):
        record(lambda x: None)(X)


def test_a_recording_that_raises_leaves_no_trace() -> None:
    def broken(x: Any) -> Any:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        record(broken)(X)
    assert tap("x", X) is X


@pytest.mark.requires("torch")
def test_torch_modules_are_recorded_in_order_and_left_as_they_were() -> None:
    model = torch_model()
    found = record(model)(polylogit.convert(X, "torch"))
    outputs = ["0", "1", "2", "softmax:1.scores", "softmax:1.weights", "3", "output"]
    assert [name for name in found if ":input" not in name] == outputs
    assert [name for name in found if ":input" in name] == ["0:input", "1:input", "2:input", "3:input"]
    assert found["1:input"] is found["0"]
    assert not any(part._forward_hooks for part in model.modules())
    names = {"0": "hidden", "2": "scores", "output": "output"}
    assert compare(record(model), record(plain), inputs=X, names=names).agrees


@pytest.mark.requires("torch", "tensorflow")
def test_keras_layers_are_recorded_and_compared_with_gradients() -> None:
    import keras

    before = keras.layers.Layer.__call__
    names = {"1": "first", "2": "second", "3": "head"}
    g = RNG.standard_normal((6, 3)).astype(np.float32)
    found = compare(record(torch_model()), record(keras_model()), inputs=X, cotangent=g, names=names)
    assert found.agrees, str(found)
    assert [one.name for one in found.activations] == ["1", "2", "3", "output", "gradient"]
    assert keras.layers.Layer.__call__ is before


@pytest.mark.requires("torch", "tensorflow")
def test_the_layer_that_was_ported_wrongly_is_named() -> None:
    model = keras_model()
    first, second = model.get_layer("first"), model.get_layer("second")
    second.set_weights([W2, np.zeros_like(B2)])
    found = compare(record(torch_model()), record(model), inputs=X, names={"1": "first", "2": "second", "3": "head"})
    assert found.first_divergence == "2"
    assert found.cause is not None
    assert found.cause.name == "missing-bias"
    np.testing.assert_allclose(found.cause.parameters["bias"], B2, rtol=1e-4, atol=1e-5)
    assert first is not second


@pytest.mark.requires("torch", "tensorflow")
def test_a_keras_model_on_pytorch_is_recorded_layer_by_layer() -> None:
    """It is a torch module too, in a process of its own since Keras chooses its backend once."""
    code = (
        "import keras, numpy as np; from polylogit.porting import record\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name='scores')])\n"
        "recorded = record(model)\n"
        "print(recorded.framework, *recorded(np.ones((2, 4), 'float32')))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", "scores:input", "scores", "output"]
