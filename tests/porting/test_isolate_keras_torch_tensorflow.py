"""A Keras port compared module by module with its original in PyTorch, on each backend of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polylogit.porting import isolate
from porting import small_transformers as small


@pytest.fixture(scope="module")
def original() -> Any:
    return small.torch_encoder()


def test_all_layers_of_a_right_port_agree(original: Any) -> None:
    import keras

    before = keras.layers.Layer.__call__
    found = isolate(original, small.keras_encoder(small.weights(original)), small.X)
    assert found.agrees, str(found)
    pairs = {one.name: one.candidate_name for one in found.pairs}
    assert pairs["blocks.1.attention.query"] == "block_1_attn.q"
    assert pairs["blocks.0.norm2"] == "block_0_ln_b"
    assert keras.layers.Layer.__call__ is before


def test_a_layer_that_applies_its_activation_is_compared_after_it(original: Any) -> None:
    """Keras's Dense has the GELU inside that is a module of its own in PyTorch."""
    weights = small.weights(original)
    matrix, bias = weights["block_1.fc"]
    weights["block_1.fc"] = matrix, 0 * bias
    found = isolate(original, small.keras_encoder(weights), small.X)
    assert [one.name for one in found.activations if one.status == "disagrees"] == ["blocks.1.up"]


def test_a_layer_of_the_original_that_applies_its_activation_is_compared_where_that_goes(original: Any) -> None:
    weights = small.weights(original)
    found = isolate(small.keras_encoder(weights), original, small.X)
    assert found.agrees, str(found)
    assert any("one side applies its activation function itself" in one for one in found.unmatched)


def test_a_recurrent_layer_has_its_activations_within_on_both_sides() -> None:
    """PyTorch's GRU returns a tuple, and has its gates in another order than Keras's."""
    import keras
    import numpy as np
    import torch

    class Port(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.dense = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 2)

        def forward(self, x: Any) -> Any:
            return self.dense(self.gru(x)[0])

    original = keras.Sequential([keras.layers.GRU(6, return_sequences=True, name="gru"), keras.layers.Dense(2)])
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    original(x)
    original.set_weights([one + 0.1 for one in original.get_weights()])  # whose biases are zeros
    kernel, recurrent, bias, weight, offset = (torch.tensor(one) for one in original.get_weights())
    gates = torch.cat([torch.arange(6, 12), torch.arange(6), torch.arange(12, 18)])
    values = [kernel[:, gates].T, recurrent[:, gates].T, bias[0, gates], bias[1, gates], weight.T, offset]
    port = Port()
    with torch.no_grad():
        for one, value in zip(port.parameters(), values, strict=True):
            one.copy_(value)
    found = isolate(original, port, x)
    assert found.agrees, str(found)
    assert "gru" in [one.name for one in found.activations]
    assert found.summary().count("gru.cell") == 1  # called five times
    with torch.no_grad():
        port.gru.bias_hh_l0.zero_()
    found = isolate(original, port, x)
    assert [one.name for one in found.activations if one.status == "disagrees"] == ["gru"]


@pytest.mark.parametrize("layer", range(small.LAYERS))
def test_the_layer_at_fault_is_named(original: Any, layer: int) -> None:
    weights = small.weights(original)
    matrix, bias = weights[f"block_{layer}.attn.k"]
    weights[f"block_{layer}.attn.k"] = matrix.T, bias
    found = isolate(original, small.keras_encoder(weights), small.X)
    assert [one.name for one in found.activations if one.status == "disagrees"] == [f"blocks.{layer}.attention.key"]


def test_arithmetic_between_layers_is_that_of_the_layer_around_them(original: Any) -> None:
    found = isolate(original, small.keras_encoder(small.weights(original), scale=1.0), small.X)
    wrong = [one.name for one in found.activations if one.status == "disagrees"]
    assert wrong == ["blocks.0.attention", "blocks.1.attention"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_is_isolated_on_its_other_backends(backend: str) -> None:
    """In a process of its own, since Keras chooses its backend once."""
    if backend == "jax":
        pytest.importorskip("jax")
    code = (
        "import torch\n"
        "from porting import small_transformers as small; from polylogit.porting import isolate\n"
        "model = small.torch_encoder(); weights = small.weights(model)\n"
        "print(isolate(model, small.keras_encoder(weights), small.X).status)\n"
        "weights['block_1.attn.v'] = weights['block_1.attn.v'][0].T, weights['block_1.attn.v'][1]\n"
        "print(isolate(model, small.keras_encoder(weights), small.X).first_divergence)\n"
    )
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["agrees", "blocks.1.attention.value"], done.stderr
