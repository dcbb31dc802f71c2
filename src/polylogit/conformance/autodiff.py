"""Gradients of other people's callables, where the backend's own transform cannot take them.

Knows one thing of PyTorch: an ``autograd.Function`` in the old style, which ``torch.func`` refuses, still
differentiates through the tape.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.base import Backend

__all__ = ["as_one_program", "pullback_of", "tangent_of"]


def pullback_of(backend: Backend, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
    """The gradient of ``function(x, **kwargs)`` for a cotangent, by the backend's autodiff."""
    tape = _TAPES.get(backend.name)
    if tape is not None:
        return tape(function, x, kwargs, cotangent)
    return backend.vjp(function, x, kwargs)[1](cotangent)


def _torch(function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
    torch = sys.modules["torch"]
    leaf = x.detach().requires_grad_()
    y = function(leaf, **kwargs)
    if not y.requires_grad:
        message = "the result does not depend on the input for autograd: it was computed outside of it"
        raise NotImplementedError(message)
    (gradient,) = torch.autograd.grad(y, leaf, cotangent, materialize_grads=True)
    return gradient


def tangent_of(backend: Backend, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], tangent: Any) -> Any:
    """The directional derivative of ``function(x, **kwargs)``, by the backend's autodiff."""
    forward = _FORWARD.get(backend.name)
    if forward is not None:
        return forward(function, x, kwargs, tangent)
    return backend.jvp(function, x, tangent, kwargs)[1]


def _torch_forward(function: Callable[..., Any], x: Any, kwargs: dict[str, Any], tangent: Any) -> Any:
    from torch.autograd import forward_ad  # noqa: PLC0415  torch is loaded: its tensors are here

    with forward_ad.dual_level():
        along = forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangent), **kwargs)).tangent
    if along is None:
        message = "the result does not depend on the input for forward mode"
        raise NotImplementedError(message)
    return along


_FORWARD: dict[str, Callable[..., Any]] = {"torch": _torch_forward}
_TAPES: dict[str, Callable[..., Any]] = {"torch": _torch}


def as_one_program(backend: Backend, run: Callable[..., Any]) -> Callable[..., Any]:
    """``run(x, *directions, axis, **kwargs)``, compiled where the framework would compile its operations one by one."""
    if not backend.always_compiles:
        return run
    compile_ = backend.compilers()[backend.always_compiles]
    programs: dict[Any, Callable[..., Any]] = {}

    def compiled(x: Any, *rest: Any, **kwargs: Any) -> Any:
        *directions, axis = rest
        if axis not in programs:
            programs[axis] = compile_(lambda x, *directions, **kwargs: run(x, *directions, axis, **kwargs))
        return programs[axis](x, *directions, **kwargs)

    return compiled
