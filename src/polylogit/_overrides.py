"""Other people's implementations: a function that serves an operation on one backend's arrays.

On the common path the registry calls the function as it is; for a call with ``where=`` or ``dtype=`` it asks
`ImplementationHandle.adapt`, which has looked at the signature when the function was registered.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from polylogit._operations import named
from polylogit._registry import OVERRIDES, clear, get_backend, is_known

if TYPE_CHECKING:
    from polylogit._operations import OperationName
    from polylogit._registry import Implementation
    from polylogit._types import BackendName

__all__ = ["ImplementationHandle", "register_implementation"]


class ImplementationHandle:
    """A registered implementation; `remove` it, or use it as a context manager that does."""

    def __init__(self, operation: str, backend: str, function: Implementation) -> None:
        self.operation, self.backend, self.function = operation, backend, function
        self._offers = _parameters(function)

    def adapt(self, original: Implementation) -> Implementation:
        """The function behind the backend's signature; what it does not offer is served by the backend's own."""
        function, offers = self.function, self._offers

        def implementation(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
            asked = {key: value for key, value in (("where", where), ("dtype", dtype)) if value is not None}
            if any(key not in offers for key in asked):
                return original(x, axis, where, dtype)
            return function(x, axis, **asked)

        def elementwise(x: Any, dtype: Any = None) -> Any:
            if dtype is None:
                return function(x)
            return function(x, dtype=dtype) if "dtype" in offers else original(x, dtype)

        return implementation if named(self.operation).takes_axis else elementwise

    def remove(self) -> None:
        """Take the implementation out again; what served before it serves again. A second call does nothing."""
        handles = OVERRIDES.get((self.operation, self.backend), [])
        if self in handles:
            handles.remove(self)
            if not handles:
                del OVERRIDES[self.operation, self.backend]
            clear(self.operation)

    def __enter__(self) -> ImplementationHandle:
        """Nothing: it is registered already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.remove()


def _parameters(function: Implementation) -> frozenset[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return frozenset(("where", "dtype"))
    return frozenset(parameter.name for parameter in parameters)


def register_implementation(
    operation: OperationName, backend: BackendName, function: Implementation, /, *, verify: bool = False
) -> ImplementationHandle:
    """Let a function of your own serve an operation on one backend.

    Parameters
    ----------
    operation : str
        The function of polylogit that it stands for, by name.
    backend : str
        On whose arrays.
    function : callable
        ``function(x, axis)`` (for sigmoid, ``function(x)``); where its signature has ``where`` or ``dtype``, they are
        passed by keyword, otherwise a call that asks for one goes to the backend's own implementation.
    verify : bool, optional
        Run the conformance kit on it first and refuse it if it fails.

    Returns
    -------
    ImplementationHandle
        ``handle.remove()`` takes it out again; it is a context manager that does.

    Raises
    ------
    UnknownOperationError, UnknownBackendError
        For a name that does not exist.
    ConformanceError
        With ``verify=True``, when the kit finds the function wrong.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> def hardly_ever_right(x, axis=-1):
    ...     return np.zeros_like(x)
    >>> with polylogit.register_implementation("softmax", "numpy", hardly_ever_right):
    ...     polylogit.softmax(np.ones(2)).tolist()
    [0.0, 0.0]
    >>> polylogit.softmax(np.ones(2)).tolist()
    [0.5, 0.5]
    """
    named(operation)
    if not is_known(backend):
        get_backend(backend)  # finds an entry point, or raises the error that lists the known names
    if verify:
        from polylogit.conformance import verify_implementation  # the kit is needed only here

        verify_implementation(function, operation, backend)
    handle = ImplementationHandle(operation, backend, function)
    OVERRIDES.setdefault((operation, backend), []).append(handle)
    clear(operation)
    return handle
