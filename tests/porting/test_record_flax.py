"""Flax modules, Linen and NNX, record their activations for `compare`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np
import pytest
from flax import nnx

import polylogit
import polylogit._registry
from polylogit.errors import ComparisonError
from polylogit.porting import compare, record

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
W1, B1 = RNG.standard_normal((4, 8)).astype(np.float32), RNG.standard_normal(8).astype(np.float32)
W2, B2 = RNG.standard_normal((8, 3)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)


def torch_model() -> Any:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(-1))
    weights = {"0.weight": W1.T, "0.bias": B1, "2.weight": W2.T, "2.bias": B2}
    model.load_state_dict(polylogit.convert(weights, "torch"))
    return model.eval()


@pytest.mark.requires("torch", "jax")
def test_flax_linen_intermediates_are_recorded() -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.relu(nn.Dense(8)(x))
            return nn.softmax(nn.Dense(3)(x))

    weights = {"Dense_0": {"kernel": W1, "bias": B1}, "Dense_1": {"kernel": W2, "bias": B2}}
    variables = polylogit.convert({"params": weights}, "jax")
    names = {"0": "Dense_0", "2": "Dense_1"}
    g = RNG.standard_normal((6, 3)).astype(np.float32)
    found = compare(record(torch_model()), record(Model(), variables), inputs=X, names=names, cotangent=g)
    assert found.agrees, str(found)
    with pytest.raises(ComparisonError, match="holds no parameters"):
        record(Model())


@pytest.mark.requires("torch", "jax")
def test_flax_nnx_modules_are_recorded() -> None:
    class Model(nnx.Module):
        def __init__(self) -> None:
            self.first, self.second = nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 3, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return nnx.softmax(self.second(nnx.relu(self.first(x))))

    model = Model()
    for part, weight, bias in ((model.first, W1, B1), (model.second, W2, B2)):
        part.kernel[...], part.bias[...] = polylogit.convert((weight, bias), "jax")
    names = {"0": "first", "2": "second"}
    found = compare(record(torch_model()), record(model), inputs=X, names=names)
    assert found.agrees, str(found)
    assert [one.name for one in found.activations] == ["0", "2", "output"]


@pytest.mark.requires("torch", "jax")
def test_flax_and_optax_trees_are_converted() -> None:
    import jax
    import optax
    import torch

    weights = polylogit.convert({"Dense_0": {"kernel": W1, "bias": B1}}, "jax")
    state = polylogit.convert(optax.adam(1e-3).init(weights), "torch")
    assert type(state[0]).__name__ == "ScaleByAdamState"
    assert isinstance(state[0].mu["Dense_0"]["kernel"], torch.Tensor)
    module = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
    there = polylogit.convert(nnx.state(module), "numpy")
    assert isinstance(there["kernel"][...], np.ndarray)
    back = polylogit.convert(there, "jax")
    assert jax.tree.structure(back) == jax.tree.structure(nnx.state(module))


def test_a_function_that_names_a_library_gets_the_arrays_of_its_framework() -> None:
    given = []

    def port(x: Any) -> Any:
        given.append(type(x))
        return nn.softmax(x)

    assert compare(polylogit.softmax, port, inputs=X).agrees
    assert [polylogit._registry.owner_of(cls).name for cls in given] == ["jax"]
