"""Where float64 cannot be had, weights and inputs moved by an ulp say what rounding does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from polylogit.porting import compare, record

X = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)


def model(activation: Any) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    hidden = keras.layers.Dense(32, name="wide")(inputs)
    hidden = keras.layers.Activation(activation, name="act")(hidden)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(hidden))


def exact_gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=False)


def tanh_gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def test_a_right_keras_model_agrees_and_an_approximation_does_not() -> None:
    original = model(exact_gelu)
    before = original.get_weights()
    assert compare(original, model(exact_gelu), inputs=X).agrees
    found = compare(original, model(tanh_gelu), inputs=X)
    assert not found.agrees
    assert not np.isnan(found.activations[0].verdict.times)
    for value, kept in zip(original.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_the_layer_is_found() -> None:
    found = compare(record(model(exact_gelu)), record(model(tanh_gelu)), inputs=X)
    assert found.first_divergence == "act"
    assert found.cause is not None
    assert found.cause.name == "gelu-approximation"
