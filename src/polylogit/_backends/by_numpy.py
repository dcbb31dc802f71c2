"""`vjp` and `jvp` for backends without autodiff: the closed forms of polylogit's own operations, computed on NumPy.

Such a backend uses these functions as its `vjp` and `jvp` and sets ``differentiates = False``. Arrays are copied to the
host and back. Knows the NumPy backend, and no framework.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from polylogit._contract import wrong_direction

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Backend, Pullback

__all__ = ["closed_form_jvp", "closed_form_vjp"]


@functools.cache
def _numpy() -> Backend:
    from polylogit._backends.numpy import NumpyBackend  # loads its kernels

    return NumpyBackend()


def closed_form_vjp(
    backend: Backend, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]
) -> tuple[Any, Pullback]:
    """The result of `Backend.vjp` for one of polylogit's operations, or a `polylogit.gradient` of one."""
    y = function(x, **kwargs)
    _, pull = _numpy().vjp(_on_numpy(backend, function), _floating(backend, x, y), _plain(backend, kwargs))

    def pullback(cotangent: Any) -> Any:
        return _back(backend, pull(_direction(backend, cotangent, y, "cotangent")), y, x)

    return y, pullback


def closed_form_jvp(
    backend: Backend, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """The result of `Backend.jvp`, by the closed form."""
    y = function(x, **kwargs)
    along = _direction(backend, tangent, x, "tangent")
    function = _on_numpy(backend, function)
    _, out = _numpy().jvp(function, _floating(backend, x, y), along, _plain(backend, kwargs))
    return y, _back(backend, out, y, y)


def _on_numpy(backend: Backend, function: Any) -> Any:
    """A gradient with its cotangent and mask as NumPy arrays; the operations accept any array."""
    if not getattr(function, "__polylogit_gradient__", False):
        return function
    cotangent = backend.to_numpy(function.cotangent)
    return type(function)(function.operation, cotangent, _plain(backend, function.kwargs))


def _plain(backend: Backend, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Masks as NumPy arrays, and the dtype by name."""
    plain = {name: backend.to_numpy(value) if backend.owns(type(value)) else value for name, value in kwargs.items()}
    given = plain.get("dtype")
    if given is not None and not isinstance(given, (str, type)):
        plain["dtype"] = str(given).rpartition(".")[2]
    return plain


def _floating(backend: Backend, x: Any, y: Any) -> Any:
    """Integers in the dtype in which the backend computed them; floating arrays unchanged."""
    values = backend.to_numpy(x)
    return values.astype(backend.to_numpy(y).dtype) if values.dtype.kind in "biu" else values


def _direction(backend: Backend, given: Any, like: Any, argument: str) -> Any:
    if tuple(given.shape) != tuple(like.shape):
        raise wrong_direction(argument, given.shape, like.shape, "numpy.broadcast_to")
    return backend.to_numpy(given)


def _back(backend: Backend, values: Any, y: Any, like: Any) -> Any:
    """An array of the backend in the dtype of `like`, or of the result if that of `like` is not floating."""
    whole = backend.to_numpy(like).dtype.kind in "biu"
    return backend.asarray(values, dtype=backend.dtype_name(y if whole else like))
