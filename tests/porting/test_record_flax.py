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
    assert [one.name for one in found.activations] == ["0", "2", "3:softmax:1.weights", "output"]


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


class Attention(nn.Module):
    """Returns a tuple, and has a part whose name is the index of one of its entries."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        query, key = nn.Dense(4, name="0")(x), nn.Dense(4, name="key")(x)
        weights = nn.softmax(query @ key.T)
        return weights @ x, weights


class Model(nn.Module):
    @nn.compact
    def __call__(self, x: Any, scale: Any = None) -> Any:
        attention = Attention(name="attention")
        x, _ = attention(x)
        return nn.log_softmax(attention(x if scale is None else x * scale)[0])


def linen() -> tuple[Any, Any]:
    import jax

    model = Model()
    return model, model.init(jax.random.key(0), polylogit.convert(X, "jax"))


def outputs(found: Any) -> list[str]:
    return [name for name in found if ":input" not in name]


@pytest.mark.requires("jax")
def test_entries_of_tuples_and_parts_have_names_of_their_own() -> None:
    model, variables = linen()
    found = record(model, variables)(polylogit.convert(X, "jax"))
    tap = "attention:softmax:1"
    once = ["attention.0", "attention.key", f"{tap}.scores", f"{tap}.weights", "attention[0]", "attention[1]"]
    assert outputs(found)[:6] == once
    assert outputs(found)[6:] == [
        "attention.0#2",
        "attention.key#2",
        "attention:softmax:2.scores",
        "attention:softmax:2.weights",
        "attention#2[0]",
        "attention#2[1]",
        "log_softmax:1.scores",
        "log_softmax:1.weights",
        "output",
    ]
    assert found["attention#2:input"] is found["attention[0]"]


@pytest.mark.requires("jax")
def test_a_class_that_holds_a_module_and_its_parameters_is_recorded() -> None:
    """As the Flax classes of transformers do, and as a function may."""
    model, variables = linen()
    x = polylogit.convert(X, "jax")

    class Held:
        __module__ = "transformers.models.held"

        def __init__(self) -> None:
            self.module, self.params = model, variables["params"]

        def __call__(self, x: Any, params: Any = None) -> Any:
            return {"logits": self.module.apply({"params": params or self.params}, x)}

    expected = outputs(record(model, variables)(x))[:-1]
    recorded = record(Held())
    assert recorded.framework == "jax"
    assert outputs(recorded(x)) == [*expected, "output.logits"]
    assert outputs(record(lambda x: model.apply(variables, x))(x)) == [*expected, "output"]


@pytest.mark.requires("jax")
def test_what_is_traced_is_left_out() -> None:
    import jax

    model, variables = linen()
    x = polylogit.convert(X, "jax")
    assert list(record(lambda x: jax.jit(model.apply)(variables, x))(x)) == ["output"]
    assert "attention.key" in record(jax.jit(lambda x: model.apply(variables, x)))(x)


@pytest.mark.requires("jax")
def test_the_attention_of_flax_shows_its_weights() -> None:
    import jax

    x = polylogit.convert(X[None], "jax")
    model = nn.MultiHeadDotProductAttention(num_heads=2, name=None)
    found = record(model, model.init(jax.random.key(0), x))(x)
    assert outputs(found) == ["query", "key", "value", "softmax:1.scores", "softmax:1.weights", "out", "output"]
    again = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
    assert found["softmax:1.weights"].shape == record(again)(x)["softmax:1.weights"].shape == (1, 2, 6, 6)


@pytest.mark.requires("torch", "jax")
def test_gradients_of_models_with_keyword_inputs_are_compared() -> None:
    import torch

    model, variables = linen()
    ids = np.arange(6)
    query, key = (variables["params"]["attention"][name] for name in ("0", "key"))
    weights = polylogit.convert((query, key), "torch")

    def original(*, ids: Any, x: Any, factor: float = 1.0) -> Any:
        for _ in range(2):
            q, k = (x @ one["kernel"] + one["bias"] for one in weights)
            x = torch.softmax(q @ k.T, -1) @ x
        return torch.log_softmax(x, -1) * factor

    port = record(model, variables, prepare=lambda ids, x: (x,))
    g = RNG.standard_normal((6, 4)).astype(np.float32)
    found = compare(original, port, inputs={"ids": ids, "x": X}, cotangent=g)
    assert found.agrees, str(found)
    assert [one.name for one in found.activations] == ["output", "gradient"]

    def detached(*, ids: Any, x: Any) -> Any:
        return original(ids=ids, x=x.detach())

    broken = compare(port, detached, inputs={"ids": ids, "x": X}, cotangent=g)
    assert broken.cause is not None
    assert (broken.first_divergence, broken.cause.name) == ("gradient", "gradient-missing")
    with pytest.raises(ComparisonError, match=r"no input of floating-point numbers .* inputs_embeds="):
        compare(lambda ids: ids * 1.0, lambda ids: ids * 1.0, inputs={"ids": ids}, cotangent=1.0)
