"""Candidates with a faulty backward pass, in each framework with autodiff.

A backward pass is a function (output, cotangent, where, axis) -> gradient in plain arithmetic that every framework's
arrays understand; `candidate` gives it to a framework by that framework's own means.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def right(y: Any, g: Any, operation: str, n: Any) -> Any:
    if operation == "softmax":
        return y * (g - n.sum(g * y))
    if operation == "log_softmax":
        return g - n.exp(y) * n.sum(g)
    return g * y * (1 - y)


def scaled(factor: float) -> Any:
    return lambda y, g, operation, n: right(y, g, operation, n) * factor


def diagonal(y: Any, g: Any, operation: str, n: Any) -> Any:
    if operation == "log_softmax":
        return g * (1 - n.exp(y))
    return g * y * (1 - y) if operation == "softmax" else g * y


def without_sum(y: Any, g: Any, operation: str, n: Any) -> Any:
    return g * y if operation == "softmax" else g


def doubled_sum(y: Any, g: Any, operation: str, n: Any) -> Any:
    if operation == "softmax":
        return y * (g - 2 * n.sum(g * y))
    if operation == "log_softmax":
        return g - 2 * n.exp(y) * n.sum(g)
    return g * y * (1 - y) * (1 + y)


WRONG = {"diagonal": diagonal, "without the sum": without_sum, "twice the sum": doubled_sum}


class Numbers:
    """sum over the last axis with it kept, exp and zeros in one framework."""

    def __init__(self, framework: str) -> None:
        if framework == "torch":
            import torch

            self.sum, self.exp = (lambda a: a.sum(-1, keepdim=True)), torch.exp
            self.forwards = {"softmax": lambda x: torch.softmax(x, -1), "sigmoid": torch.sigmoid}
            self.forwards["log_softmax"] = lambda x: torch.log_softmax(x, -1)
        elif framework == "jax":
            import jax

            self.sum, self.exp = (lambda a: a.sum(-1, keepdims=True)), jax.numpy.exp
            self.forwards = {"softmax": lambda x: jax.nn.softmax(x), "sigmoid": jax.nn.sigmoid}
            self.forwards["log_softmax"] = lambda x: jax.nn.log_softmax(x)
        else:
            import tensorflow as tf

            self.sum, self.exp = (lambda a: tf.reduce_sum(a, -1, keepdims=True)), tf.exp
            self.forwards = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "log_softmax": tf.nn.log_softmax}


def candidate(framework: str, operation: str, backward: Any, forward: Any = None) -> Any:
    """The framework's function with another backward pass."""
    n = Numbers(framework)
    forward = forward or n.forwards[operation]
    return {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}[framework](n, operation, forward, backward)


def _torch(n: Any, operation: str, forward: Any, backward: Any) -> Any:
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = forward(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return backward(*ctx.saved_tensors, g, operation, n)

    return lambda x: Function.apply(x)


def _jax(n: Any, operation: str, forward: Any, backward: Any) -> Any:
    import jax

    function = jax.custom_vjp(forward)
    function.defvjp(lambda x: ((y := forward(x)), y), lambda y, g: (backward(y, g, operation, n),))
    return function


def _tensorflow(n: Any, operation: str, forward: Any, backward: Any) -> Any:
    import tensorflow as tf

    @tf.custom_gradient
    def function(x: Any) -> Any:
        y = forward(x)
        return y, lambda g: backward(y, g, operation, n)

    return function


def draw(rng: Any, shape: Any) -> tuple[Any, Any]:
    x = (2 * rng.standard_normal(shape)).astype(np.float32)
    return x, rng.standard_normal(shape).astype(np.float32)
