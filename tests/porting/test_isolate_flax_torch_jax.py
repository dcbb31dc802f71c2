"""A Flax port compared module by module with its original in PyTorch, on the original's own inputs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polylogit.porting import isolate, record
from porting import small_transformers as small


@pytest.fixture(scope="module")
def original() -> Any:
    return small.torch_encoder()


@pytest.fixture(scope="module")
def variables(original: Any) -> Any:
    return small.linen_variables(small.weights(original))


def test_all_modules_of_a_right_port_agree(original: Any, variables: Any) -> None:
    found = isolate(original, small.linen_encoder().bind(variables), small.X)
    assert found.agrees, str(found)
    pairs = {one.name: one.candidate_name for one in found.pairs}
    assert pairs["blocks.1.attention.query"] == "block_1.attn.q"
    assert pairs["blocks.0"] == "block_0"
    assert len(pairs) == 1 + small.LAYERS * 10
    assert [one for one in found.unmatched if "only" in one] == []
    assert all("act" in one for one in found.unmatched)


@pytest.mark.parametrize(
    "given",
    [
        lambda model, variables: functools.partial(model.apply, variables),
        lambda model, variables: record(model, variables),
        lambda model, variables: lambda x: model.apply(variables, x),
    ],
    ids=["partial", "recorder", "function"],
)
def test_linen_modules_are_given_in_any_way_that_calls_them(original: Any, variables: Any, given: Any) -> None:
    found = isolate(original, given(small.linen_encoder(), variables), small.X)
    assert found.agrees, str(found)
    assert len(found.pairs) == 1 + small.LAYERS * 10


@pytest.mark.parametrize(
    ("fault", "module", "where", "cause"),
    [
        ("scale", "attention", "in the scores of a softmax", "scaled-logits"),
        ("axis", "attention", "in the weights of a softmax", "wrong-axis"),
        ("residual", "", "passes to blocks.0.norm2", ""),
        ("epsilon", "norm2", "", ""),
        ("gelu", "", "passes to blocks.0.down", ""),
    ],
)
def test_the_module_whose_arithmetic_is_wrong_is_named(
    original: Any, variables: Any, fault: str, module: str, where: str, cause: str
) -> None:
    found = isolate(original, small.linen_encoder(fault).bind(variables), small.X)
    wrong = [one.name for one in found.activations if one.status == "disagrees"]
    # Each layer has the fault, and nothing else differs.
    assert wrong == [f"blocks.{layer}.{module}".rstrip(".") for layer in range(small.LAYERS)]
    assert where in found.places.get(wrong[0], "")
    assert f"first divergence: {wrong[0]}" in found.summary()
    assert found.cause is not None
    assert not cause or found.cause.name == cause


def test_weights_that_were_ported_wrongly_are_placed_where_they_are(original: Any) -> None:
    weights = small.weights(original)
    matrix, bias = weights["block_1.attn.o"]
    weights["block_1.attn.o"] = matrix.T, bias
    matrix, bias = weights["block_1.fc"]
    weights["block_1.fc"] = matrix, np.zeros_like(bias)
    found = isolate(original, small.linen_encoder().bind(small.linen_variables(weights)), small.X)
    wrong = {one.name: one.verdict.cause.name for one in found.activations if one.verdict.cause is not None}
    assert list(wrong) == ["blocks.1.attention.out", "blocks.1.up"]
    assert wrong["blocks.1.up"] == "missing-bias"


def test_flax_nnx_modules_are_isolated(original: Any) -> None:
    weights = small.weights(original)
    found = isolate(original, small.nnx_encoder(weights), small.X)
    assert found.agrees, str(found)
    assert len(found.pairs) == 1 + small.LAYERS * 10
    weights["block_0.attn.v"] = weights["block_0.attn.v"][0].T, weights["block_0.attn.v"][1]
    assert isolate(original, small.nnx_encoder(weights), small.X).first_divergence == "blocks.0.attention.value"


def test_without_float64_rounding_is_measured_on_inputs_that_are_moved(original: Any, variables: Any) -> None:
    """Neither side is a PyTorch model here."""
    right = small.linen_encoder().bind(variables)
    assert isolate(right, small.nnx_encoder(small.weights(original)), small.X).agrees
    found = isolate(right, small.linen_encoder("epsilon").bind(variables), small.X)
    assert found.first_divergence == "block_0.ln_b"


def test_what_runs_under_jit_is_compared_as_a_whole(original: Any, variables: Any) -> None:
    model = small.linen_encoder("scale")
    compiled = jax.jit(lambda x: model.apply(variables, x))
    found = isolate(original, compiled, small.X)
    assert found.status == "disagrees"
    assert "under jit" in str(found) or "no module" in str(found)
    assert "errors propagate" in str(found)


def test_a_bfloat16_port_is_judged_by_its_own_rounding(original: Any, variables: Any) -> None:
    half = jax.tree.map(lambda one: one.astype(jnp.bfloat16), variables)
    model = small.linen_encoder()
    found = isolate(original, lambda x: model.apply(half, x.astype(jnp.bfloat16)), small.X)
    assert len(found.pairs) == 1 + small.LAYERS * 10
    wrong = [one.name for one in found.activations if one.status == "disagrees"]
    assert not wrong, str(found)
