"""Equinox: in its layers, in modules of one's own, serialised; and where its MLP calls each unit alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import polylogit

if TYPE_CHECKING:
    from pathlib import Path

X = jax.random.normal(jax.random.key(1), (16, 4))


class Classifier(eqx.Module):
    mlp: eqx.nn.MLP

    def __init__(self) -> None:
        self.mlp = eqx.nn.MLP(4, 3, 8, 1, activation=polylogit.sigmoid, key=jax.random.key(0))

    def __call__(self, x: Any) -> Any:
        return polylogit.log_softmax(self.mlp(x))


def loss(model: Classifier) -> Any:
    return -jax.vmap(model)(X)[jnp.arange(16), X[:, :3].argmax(1)].mean()


def test_a_module_learns_with_it() -> None:
    model = Classifier()
    before, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(model)
    model = eqx.apply_updates(model, jax.tree.map(lambda g: -0.1 * g, gradient))
    assert loss(model) < before


def test_a_module_that_was_saved_gives_the_same_bits(tmp_path: Path) -> None:
    model = Classifier()
    eqx.tree_serialise_leaves(tmp_path / "model.eqx", model)
    read = eqx.tree_deserialise_leaves(tmp_path / "model.eqx", Classifier())
    assert jnp.array_equal(jax.vmap(read)(X), jax.vmap(model)(X))


def test_it_is_a_layer_of_a_sequence() -> None:
    layers = [eqx.nn.Linear(4, 3, key=jax.random.key(0)), eqx.nn.Lambda(polylogit.softmax)]
    totals = jax.vmap(eqx.nn.Sequential(layers))(X).sum(1)
    # Three probabilities, each right to 4 + 2d + 2 log2(3) units, and two additions.
    np.testing.assert_allclose(totals, 1, atol=1e-5)


def test_the_final_activation_of_an_mlp_sees_one_unit_at_a_time() -> None:
    """So a softmax there is the softmax of one logit, exactly 1: docs/dropin.md says where it belongs."""
    mlp = eqx.nn.MLP(4, 3, 8, 1, final_activation=polylogit.softmax, key=jax.random.key(0))
    assert (jax.vmap(mlp)(X) == 1).all()
