"""`register_implementation`: lets a user's function compute an operation on one backend's arrays.

On the common path the registry calls the function directly. A call with ``where=`` or ``dtype=`` goes through
`ImplementationHandle.adapt`, which knows the signature of the function. Imports the kit only to verify a function.
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
    """A registered implementation. `remove` unregisters it, and so does the end of a ``with`` block."""

    def __init__(self, operation: str, backend: str, function: Implementation) -> None:
        self.operation, self.backend, self.function = operation, backend, function
        self._offers = _parameters(function)

    def adapt(self, original: Implementation) -> Implementation:
        """The function with the backend's signature; the backend's own code handles arguments that it does not have."""
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
        """Unregister the implementation, so that the previous one is used again. A second call does nothing."""
        handles = OVERRIDES.get((self.operation, self.backend), [])
        if self in handles:
            handles.remove(self)
            if not handles:
                del OVERRIDES[self.operation, self.backend]
            clear(self.operation)

    def __enter__(self) -> ImplementationHandle:
        """Return the handle; the implementation is registered already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Call `remove`."""
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
    """Use your own function for an operation on one backend.

    Parameters
    ----------
    operation : str
        The name of the operation: softmax, log_softmax or sigmoid.
    backend : str
        The backend whose arrays the function takes.
    function : callable
        ``function(x, axis)``, or ``function(x)`` for sigmoid. If its signature has ``where`` or ``dtype``, they are
        passed by keyword; otherwise calls with them go to the backend's own implementation.
    verify : bool, optional
        Run the conformance kit first, and refuse the function if it fails.

    Returns
    -------
    ImplementationHandle
        ``handle.remove()`` unregisters the function, and so does the end of a ``with`` block.

    Raises
    ------
    UnknownOperationError, UnknownBackendError
        For a name that does not exist.
    ConformanceError
        With ``verify=True``, if the kit finds the function wrong.

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
