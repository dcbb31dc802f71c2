"""`vjp`, `jvp` and `gradient`: one signature for the derivatives of all backends.

This module finds the backend and checks the arguments; only the backend knows how to differentiate. The frameworks use
their own autodiff, NumPy the closed forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from polylogit._coerce import backend_named, backend_of, direction_of, mask_of, moved, python_array
from polylogit._registry import PYTHON_TYPES
from polylogit.errors import DifferentiationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Backend, Pullback
    from polylogit._types import AnyBackend, ArrayT, FloatArray, FloatT, IntArray, Python

__all__ = ["gradient", "jvp", "vjp"]


def _prepare(function: Any, x: Any, kwargs: dict[str, Any]) -> tuple[Backend, Any, dict[str, Any]]:
    if not callable(function):
        message = f"vjp and jvp take a function first and were given {function!r}; write vjp(polylogit.softmax, x)."
        raise DifferentiationError(message)
    name = kwargs.get("backend")
    backend = backend_of(x) if name is None else backend_named(name)
    if type(x) in PYTHON_TYPES:
        x = python_array(backend, x)
    elif name is not None:
        x = moved(backend, x, "x")
    if name is not None and hasattr(function, "__polylogit_operation__"):
        kwargs = {key: value for key, value in kwargs.items() if key != "backend"}
    return backend, x, _with_mask(function, kwargs, backend, x, named=name is not None)


def _with_mask(
    function: Any, kwargs: dict[str, Any], backend: Backend, x: Any, *, named: bool = False
) -> dict[str, Any]:
    """The arguments with a mask that the backend accepts, because a closed form does not call the operation."""
    where = kwargs.get("where")
    if where is None or not hasattr(function, "__polylogit_operation__"):
        return kwargs
    return {**kwargs, "where": mask_of(backend, where, x, convert_numpy=named)}


@overload
def vjp(
    function: Callable[..., Any], x: Any, /, *, backend: AnyBackend, **kwargs: Any
) -> tuple[Any, Callable[[Any], Any]]: ...
@overload
def vjp(function: Callable[..., Any], x: float | Python, /, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]: ...
@overload
def vjp(function: Callable[..., Any], x: FloatT, /, **kwargs: Any) -> tuple[Any, Callable[[Any], FloatT]]: ...
@overload
def vjp(function: Callable[..., Any], x: IntArray, /, **kwargs: Any) -> tuple[Any, Callable[[Any], FloatArray]]: ...
@overload
def vjp(function: Callable[..., Any], x: ArrayT, /, **kwargs: Any) -> tuple[Any, Callable[[Any], ArrayT]]: ...
def vjp(function: Callable[..., Any], x: Any, /, **kwargs: Any) -> tuple[Any, Pullback]:
    """Return the value of a function and its pullback, like ``jax.vjp`` and ``torch.func.vjp``.

    Parameters
    ----------
    function : callable
        ``function(x, **kwargs)``. On PyTorch, TensorFlow and JAX it may be any function of one array, composed of
        operations of the framework and of polylogit. On NumPy, which has no autodiff, it must be `softmax`,
        `log_softmax`, `sigmoid` or a `gradient` of them; these have closed forms.
    x : array, number or nested sequence
        The point at which to evaluate the function.
    **kwargs
        Passed to `function`; not differentiated.

    Returns
    -------
    y : array
        ``function(x, **kwargs)``.
    pullback : callable
        ``pullback(cotangent) -> gradient``: the cotangent has the shape of `y`, the gradient that of `x`. It may be
        called any number of times.

    Raises
    ------
    DifferentiationError
        For another function on NumPy, or a cotangent whose shape is not that of `y`.
    MixedBackendsError
        For a cotangent of another framework than `x`.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> y, pullback = polylogit.vjp(polylogit.sigmoid, np.array([0.0, 1.0]))
    >>> pullback(np.ones(2)).round(5)
    array([0.25   , 0.19661])
    """
    named = kwargs.get("backend") is not None
    backend, x, kwargs = _prepare(function, x, kwargs)
    y, pull = backend.vjp(_at(function, backend, x), x, kwargs)

    def pullback(cotangent: Any, /) -> Any:
        return pull(direction_of(backend, cotangent, x, "cotangent", convert_numpy=named))

    return y, pullback


def jvp(function: Callable[..., Any], x: Any, tangent: Any, /, **kwargs: Any) -> tuple[Any, Any]:
    """Return the value of a function and its directional derivative, like ``jax.jvp`` and ``torch.func.jvp``.

    Parameters
    ----------
    function : callable
        As for `vjp`.
    x : array, number or nested sequence
        The point at which to evaluate the function.
    tangent : array
        The direction, in the shape of `x`.
    **kwargs
        Passed to `function`; not differentiated.

    Returns
    -------
    y : array
        ``function(x, **kwargs)``.
    tangent_out : array
        The directional derivative, in the shape of `y`.

    Raises
    ------
    DifferentiationError, MixedBackendsError
        As `vjp`, of the tangent.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> y, tangent = polylogit.jvp(polylogit.softmax, np.zeros(2), np.array([1.0, 0.0]))
    >>> tangent.tolist()
    [0.25, -0.25]
    """
    named = kwargs.get("backend") is not None
    backend, x, kwargs = _prepare(function, x, kwargs)
    tangent = direction_of(backend, tangent, x, "tangent", convert_numpy=named)
    return backend.jvp(_at(function, backend, x), x, tangent, kwargs)


class _Gradient:
    """``x -> pullback(cotangent)`` of a function, for a fixed cotangent."""

    __polylogit_gradient__ = True

    def __init__(self, operation: Callable[..., Any], cotangent: Any, kwargs: dict[str, Any]) -> None:
        self.operation, self.cotangent, self.kwargs = operation, cotangent, kwargs

    def __repr__(self) -> str:
        operation = getattr(self.operation, "__name__", repr(self.operation))
        kwargs = "".join(f", {name}={value!r}" for name, value in self.kwargs.items())
        return f"polylogit.gradient({operation}, {self.cotangent!r}{kwargs})"

    def __call__(self, x: Any, /) -> Any:
        _, pullback = vjp(self.operation, x, **self.kwargs)
        return pullback(self.cotangent)


def _at(function: Any, backend: Backend, x: Any) -> Any:
    """A `gradient` with a cotangent and a mask that the backend of `x` accepts; any other function unchanged."""
    if not hasattr(function, "__polylogit_gradient__"):
        return function
    kwargs = function.kwargs
    named = kwargs.get("backend") is not None
    cotangent = direction_of(backend, function.cotangent, x, "cotangent", convert_numpy=named)
    return type(function)(function.operation, cotangent, _with_mask(function.operation, kwargs, backend, x))


def gradient(function: Callable[..., Any], cotangent: Any, /, **kwargs: Any) -> Callable[[Any], Any]:
    """Return the function ``x -> pullback(cotangent)``, which `vjp` and `jvp` can differentiate again.

    Parameters
    ----------
    function : callable
        As for `vjp`.
    cotangent : array
        An array in the shape of ``function(x, **kwargs)``.
    **kwargs
        Passed to `function`.

    Returns
    -------
    callable
        ``gradient(x)`` returns an array in the shape of `x`.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> slope = polylogit.gradient(polylogit.sigmoid, np.ones(1))
    >>> x = np.array([1.0])
    >>> slope(x).round(5), polylogit.vjp(slope, x)[1](np.ones(1)).round(5)
    (array([0.19661]), array([-0.09086]))
    """
    return _Gradient(function, cotangent, kwargs)
