"""jaxtyping and beartype: annotations of shape and dtype hold around the operations, whatever the framework.

They are evaluated where they stand, so this file does not postpone them.
"""

# ruff: noqa: F722  the shapes in strings are no expressions

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import Float, Float16, Float32, Int, TypeCheckError, jaxtyped

import polylogit
import polylogit.extend
import polylogit.porting

MAKE = {"numpy": np.asarray, "torch": torch.asarray, "jax": jnp.asarray}
ARRAYS = {"numpy": np.ndarray, "torch": torch.Tensor, "jax": jax.Array}
OPERATIONS = ("softmax", "log_softmax", "sigmoid")


@pytest.fixture(params=list(MAKE))
def framework(request: pytest.FixtureRequest) -> Any:
    return MAKE[request.param], ARRAYS[request.param]


@pytest.mark.parametrize("name", OPERATIONS)
def test_shape_and_dtype_are_those_of_the_logits(framework: Any, name: str) -> None:
    make, array = framework

    @jaxtyped(typechecker=beartype)
    def probabilities(logits: Float[array, "batch classes"]) -> Float[array, "batch classes"]:
        return getattr(polylogit, name)(logits)

    @jaxtyped(typechecker=beartype)
    def narrowed(logits: Float32[array, "*shape"]) -> Float16[array, "*shape"]:
        return getattr(polylogit, name)(logits, dtype="float16")

    @jaxtyped(typechecker=beartype)
    def counted(logits: Int[array, "*shape"]) -> Float[array, "*shape"]:
        return getattr(polylogit, name)(logits)

    x = make(np.zeros((2, 3), "float32"))
    probabilities(x)
    narrowed(x)
    counted(make(np.zeros((2, 3), "int32")))
    with pytest.raises(TypeCheckError):  # so that the annotations are known to be looked at
        probabilities(x[0])


def test_they_hold_while_jax_traces() -> None:
    @jax.jit
    @jaxtyped(typechecker=beartype)
    def attention(scores: Float[jax.Array, "heads q k"]) -> Float[jax.Array, "heads q k"]:
        return polylogit.softmax(scores, axis=-1, where=jnp.tril(jnp.ones(scores.shape[1:], bool)))

    assert attention(jnp.zeros((2, 3, 3))).shape == (2, 3, 3)
    assert jax.vmap(attention)(jnp.zeros((4, 2, 3, 3))).shape == (4, 2, 3, 3)


def test_the_public_types_are_types_to_beartype() -> None:
    @beartype
    def on(backend: polylogit.extend.Backend, x: np.ndarray) -> np.ndarray:
        return polylogit.softmax(x, backend=backend)

    @beartype
    def verdict(comparison: polylogit.porting.Comparison) -> bool:
        return comparison.agrees

    x = np.zeros(2)
    assert on(polylogit.get_backend("numpy"), x).tolist() == [0.5, 0.5]
    found = polylogit.porting.compare(x, x)
    assert verdict(found) is found.agrees
    with pytest.raises(BeartypeCallHintParamViolation):
        on("numpy", x)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operations_may_be_decorated_themselves(name: str) -> None:
    """Some of the names in their signatures exist to type checkers alone, which must stop nobody."""
    checked = beartype(getattr(polylogit, name))
    assert checked(np.zeros(2)).shape == (2,)
