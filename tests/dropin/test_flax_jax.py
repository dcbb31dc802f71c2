"""Flax: in Linen modules and in NNX modules, and on the parameters of the latter themselves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import polylogit
from contract.conftest import expected_derivative, expected_value
from contract.exact import check

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
X = (np.random.default_rng(0).normal(size=(5, 4)) * 3).astype("float32")


def test_linen_takes_it_as_a_layer_and_in_a_module() -> None:
    class Classifier(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return polylogit.softmax(linen.Dense(3)(polylogit.sigmoid(linen.Dense(8)(x))))

    sequential = linen.Sequential([linen.Dense(8), polylogit.sigmoid, linen.Dense(3), polylogit.softmax])
    for module in (Classifier(), sequential):
        variables = module.init(jax.random.key(0), X)
        logits = np.log(np.asarray(jax.jit(module.apply)(variables, X)))
        assert np.isfinite(logits).all()
        gradient = jax.grad(lambda v, module=module: module.apply(v, X)[:, 0].sum())(variables)
        assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradient))


def test_an_nnx_module_learns_with_it() -> None:
    class Classifier(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.hidden, self.out = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return polylogit.log_softmax(self.out(polylogit.sigmoid(self.hidden(x))))

    def loss(model: Classifier) -> Any:
        return -model(X)[jnp.arange(5), X[:, :3].argmax(1)].mean()

    model = Classifier(nnx.Rngs(0))
    before, gradient = nnx.jit(nnx.value_and_grad(loss))(model)
    state = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, state, gradient))
    assert loss(model) < before


@pytest.mark.contract(26)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_parameter_of_nnx_is_served_as_the_array_that_it_holds(name: str) -> None:
    function, parameter = getattr(polylogit, name), nnx.Param(jnp.asarray(X))
    assert jnp.array_equal(function(parameter), function(jnp.asarray(X)))
    assert polylogit.get_backend(parameter).name == "jax"
    check(np.asarray(jax.jit(function)(parameter)), expected_value(name, X))
    assert function(parameter, dtype="float16").dtype == jnp.float16
    g = jnp.cos(X)
    (gradient,) = jax.tree.leaves(jax.grad(lambda p: (function(p) * g).sum())(parameter))
    check(np.asarray(gradient), expected_derivative("vjp", name, X, np.asarray(g)))
    check(np.asarray(polylogit.vjp(function, parameter)[1](g)), expected_derivative("vjp", name, X, np.asarray(g)))
    check(np.asarray(polylogit.jvp(function, parameter, g)[1]), expected_derivative("jvp", name, X, np.asarray(g)))
