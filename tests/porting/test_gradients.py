"""Faulty backward passes, written in each framework's own way, are told from right ones and from wrong forwards."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit.porting import compare


def sibling(name: str) -> Any:
    """A module of this folder, whatever the way in which pytest imports tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faulty = sibling("gradient_harness")

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("torch", "jax", "tensorflow")]
OPERATIONS = ("softmax", "log_softmax", "sigmoid")
SHAPES = ((8, 5), (4, 100), (2, 6, 7))


def verdict(framework: str, operation: str, shape: Any, backward: Any, noise: float = 0.0) -> Any:
    rng = np.random.default_rng([len(shape), *shape])
    x, g = faulty.draw(rng, shape)
    blur = polylogit.convert(np.float32(1 + noise * rng.standard_normal(shape)), framework)
    candidate = faulty.candidate(framework, operation, lambda *given: backward(*given) * blur)
    return compare(getattr(polylogit, operation), candidate, inputs=x, cotangent=g)


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_backward_passes_are_judged(framework: str, operation: str, shape: Any, noise: float) -> None:
    assert verdict(framework, operation, shape, faulty.right, noise).agrees
    for factor in (shape[0], 1 / shape[0], shape[-1], -1.0):
        cause = verdict(framework, operation, shape, faulty.scaled(factor), noise).cause
        assert cause.name == "gradient-scale"
        assert cause.parameters["factor"] == pytest.approx(factor, rel=1e-3)
    missing = verdict(framework, operation, shape, lambda y, g, operation, n: 0 * g)
    assert missing.cause.name == "gradient-missing"
    for name, backward in faulty.WRONG.items():
        assert verdict(framework, operation, shape, backward, noise).cause.name == "wrong-backward", name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_known_mistake_is_described(framework: str) -> None:
    cause = verdict(framework, "softmax", (8, 5), faulty.diagonal).cause
    assert "diagonal of the Jacobian only" in cause.explanation
    assert "polylogit.vjp(polylogit.softmax" in cause.fix


@pytest.mark.requires("torch", "jax")
def test_a_right_gradient_of_a_wrong_forward_is_the_forward_s_fault() -> None:
    import jax
    import torch

    x, g = faulty.draw(np.random.default_rng(0), (8, 5))
    for candidate, name in (
        (lambda x: torch.softmax(2 * x, -1), "scaled-logits"),
        (lambda x: jax.nn.softmax(jax.nn.softmax(x)), "double-softmax"),
    ):
        found = compare(polylogit.softmax, candidate, inputs=x, cotangent=g)
        assert found.first_divergence == "output"
        assert found.cause is not None
        assert found.cause.name == name
        assert found.activations[-1].verdict.cause is None


@pytest.mark.requires("torch", "jax", "tensorflow")
def test_gradients_that_are_cut_off_are_missing() -> None:
    import jax
    import tensorflow as tf
    import torch

    x, g = faulty.draw(np.random.default_rng(0), (8, 5))
    for candidate in (
        lambda x: torch.sigmoid(x.detach()),
        lambda x: jax.nn.sigmoid(jax.lax.stop_gradient(x)),
        lambda x: tf.sigmoid(tf.stop_gradient(x)),
    ):
        cause = compare(polylogit.sigmoid, candidate, inputs=x, cotangent=g).cause
        assert cause is not None
        assert cause.name == "gradient-missing"


@pytest.mark.requires("torch", "jax")
def test_nan_from_rows_without_an_entry_is_named() -> None:
    import jax
    import torch

    x, g = faulty.draw(np.random.default_rng(0), (8, 5))
    mask = np.random.default_rng(1).random((8, 5)) < 0.6
    mask[2] = False

    def masked_afterwards(x: Any) -> Any:
        kept = torch.tensor(mask)
        masked = x + torch.where(kept, 0.0, -torch.inf)
        e = torch.exp(masked - masked.amax(-1, keepdim=True))
        return torch.where(kept.any(-1, keepdim=True), e / e.sum(-1, keepdim=True), 0.0)

    def reference(x: Any) -> Any:
        return polylogit.softmax(x, where=jax.numpy.asarray(mask))

    found = compare(reference, masked_afterwards, inputs=x, cotangent=g)
    assert found.first_divergence == "gradient"
    assert found.cause is not None
    assert found.cause.name == "gradient-masked-nan"


@pytest.mark.requires("torch", "jax")
@pytest.mark.parametrize("name", ["agrees", "wrong-backward", "gradient-scale"])
def test_layers_before_the_function_are_seen_through_by_differences(name: str) -> None:
    import jax
    import torch

    rng = np.random.default_rng(2)
    x, _ = faulty.draw(rng, (16, 6))
    weight, g = faulty.draw(rng, (6, 7))
    g = rng.standard_normal((16, 7)).astype(np.float32)
    backward = {"agrees": faulty.right, "wrong-backward": faulty.diagonal, "gradient-scale": faulty.scaled(16)}[name]
    head = faulty.candidate("torch", "softmax", backward)
    found = compare(
        lambda x: jax.nn.softmax(jax.numpy.tanh(x @ weight)),
        lambda x: head(torch.tanh(x @ torch.tensor(weight))),
        inputs=x,
        cotangent=g,
    )
    assert (found.cause.name if found.cause else found.status) == name
