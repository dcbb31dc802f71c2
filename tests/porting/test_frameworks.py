"""Outputs of any two frameworks are compared, and callables get their inputs in their own."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit.errors import ComparisonError
from polylogit.porting import compare

FRAMEWORKS = [name for name in ("numpy", "torch", "tensorflow", "jax") if importlib.util.find_spec(name)]
PAIRS = list(itertools.product(FRAMEWORKS, repeat=2))
X = np.random.default_rng(0).standard_normal((12, 7)).astype(np.float32)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_outputs_of_any_two_frameworks_are_compared(left: str, right: str) -> None:
    x, other = polylogit.convert(X, left), polylogit.convert(X, right)
    assert compare(polylogit.softmax(x), polylogit.softmax(other)).agrees
    found = compare(polylogit.log_softmax(x), polylogit.log_softmax(other, axis=0))
    assert found.cause is not None
    assert found.cause.name == "wrong-axis"
    assert found.framework == right


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if name != "numpy"])
def test_the_fix_is_in_the_candidate_s_framework(name: str) -> None:
    words = {"torch": "torch.softmax(x, dim=1)", "tensorflow": "tf.nn.softmax(x, axis=1)", "jax": "jax.nn.softmax"}
    cause = compare(polylogit.softmax(X), polylogit.softmax(polylogit.convert(X, name), axis=0)).cause
    assert cause is not None
    assert words[name] in cause.fix


@pytest.mark.requires("torch", "tensorflow", "jax")
def test_callables_get_inputs_in_their_own_framework() -> None:
    import jax
    import tensorflow as tf
    import torch

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.softmax(x, -1)

    functions = [
        lambda x: torch.softmax(x, -1),
        Module(),
        torch.nn.Softmax(-1),
        jax.nn.softmax,
        jax.jit(lambda x: jax.nn.softmax(x)),
        lambda x: jax.nn.softmax(x),
        tf.nn.softmax,
        tf.function(lambda x: tf.nn.softmax(x)),
        polylogit.softmax,
        lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    ]
    for left, right in itertools.permutations(functions, 2):
        assert compare(left, right, inputs=X).agrees
    for left, given in itertools.product(functions, ("torch", "tensorflow", "jax")):
        assert compare(left, functions[0], inputs=polylogit.convert(X, given)).agrees


@pytest.mark.requires("torch", "jax")
def test_64_bit_inputs_reach_jax_as_32_bit_ones_where_it_has_no_others() -> None:
    import jax
    import torch

    found = compare(lambda x: torch.softmax(x, -1), jax.nn.softmax, inputs=X.astype(np.float64), cotangent=1.0 * X)
    assert found.agrees


@pytest.mark.requires("jax")
def test_a_tracer_cannot_be_compared() -> None:
    import jax

    def inside(x: Any) -> Any:
        compare(x, x)
        return x

    with pytest.raises(ComparisonError, match="tracer"):
        jax.jit(inside)(X)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_bfloat16_outputs_are_compared_at_their_precision(name: str) -> None:
    if importlib.util.find_spec("ml_dtypes") is None:
        pytest.fail("the conformance extra brings ml_dtypes")
    import ml_dtypes

    coarse = polylogit.softmax(X).astype(ml_dtypes.bfloat16)
    found = compare(polylogit.convert(coarse, name), polylogit.convert(coarse, name))
    assert found.agrees
    found = compare(polylogit.softmax(X), polylogit.convert(coarse, name))
    assert found.cause is not None
    assert found.cause.name == "bfloat16-rounding"
