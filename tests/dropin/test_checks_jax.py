"""What JAX's own tests ask of softmax, log_softmax and sigmoid, with JAX checking every trace as it does in them.

``jax.softmax_custom_jvp`` chooses between two derivatives: by the operations, or by a rule that keeps the result alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

import polylogit
from contract.conftest import expected_derivative, expected_second, expected_value
from contract.exact import check

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = ("softmax", "log_softmax")
OPERATIONS = (*ROWS, "sigmoid")
# Of a length that no other test has: what JAX has traced before, it does not check again.
X = np.linspace(-4.2, 5.5, 23, dtype="float32")


@pytest.fixture(params=[False, True], ids=["by operations", "by its rule"], autouse=True)
def rule(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Every test with each of the derivatives."""
    with jax.enable_checks(True), jax.softmax_custom_jvp(request.param):
        yield request.param


def kept(function: Any, x: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the derivative keeps of the forward, an array a line."""
    capsys.readouterr()
    print_saved_residuals(function, x)
    return capsys.readouterr().out.splitlines()


def test_the_rule_keeps_one_array_of_the_logits_size_and_the_operations_three(
    rule: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [line.split()[0] for line in kept(polylogit.softmax, jnp.asarray(X), capsys)]
    assert shapes == (["f32[23]"] if rule else ["f32[23]", "f32[1]", "f32[1]"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_derivatives_are_within_the_bounds_eager_and_compiled(name: str) -> None:
    function, x, g = getattr(polylogit, name), jnp.asarray(X), np.cos(X)

    def pulled(x: Any) -> Any:
        return jax.vjp(function, x)[1](g)[0]

    def first_order(x: Any) -> Any:
        return *jax.jvp(function, (x,), (g,)), pulled(x)

    for way in (lambda f: f, jax.jit):
        value, pushed, gradient = map(np.asarray, way(first_order)(x))
        check(value, expected_value(name, X))
        check(pushed, expected_derivative("jvp", name, X, g))
        check(gradient, expected_derivative("vjp", name, X, g))
    second = jax.jit(lambda x: jax.vjp(pulled, x)[1](g)[0])(x)
    check(np.asarray(second), expected_second(name, X, g, g))


@pytest.mark.parametrize("name", ROWS)
def test_what_is_masked_out_is_as_if_it_were_not_there(name: str) -> None:
    function, mask = getattr(polylogit, name), np.arange(23) != 1
    got = np.asarray(function(jnp.asarray(X), where=jnp.asarray(mask)))
    np.testing.assert_array_max_ulp(got[mask], np.asarray(function(jnp.asarray(X[mask]))), 1)
    assert got[1] == (0 if name == "softmax" else -np.inf)
    hidden = jnp.asarray(np.where(mask, X, np.nan))
    gradient = np.asarray(jax.grad(lambda x: jnp.where(mask, function(x, where=jnp.asarray(mask)), 0).sum())(hidden))
    assert np.isfinite(gradient).all()
    assert gradient[1] == 0


@pytest.mark.parametrize("name", ROWS)
def test_no_entries_and_none_that_take_part(name: str) -> None:
    function = getattr(polylogit, name)
    assert function(jnp.zeros((3, 0))).shape == (3, 0)
    assert (function(jnp.asarray(X), where=jnp.zeros(23, bool)) == (0 if name == "softmax" else -jnp.inf)).all()
