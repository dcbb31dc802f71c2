"""The types in public signatures. When the code runs this imports nothing, typing included, which takes milliseconds.

Knows no module but those whose classes it names.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Literal, TypeVar, overload

    import numpy as np

    from polylogit._backends.base import Backend

    ArrayT = TypeVar("ArrayT")
    Axis = int | tuple[int, ...] | list[int] | None
    Level = Literal["quick", "full"]
    # A plug-in may bring any name; those that are built in are here to be completed.
    BackendName = Literal["numpy", "torch", "tensorflow", "jax", "array_api"] | str
    AnyBackend = BackendName | ModuleType | Backend
    # What the default backend takes, which is NumPy's unless `polylogit.use_backend` says otherwise.
    Python = list[Any] | tuple[Any, ...] | range
    NumpyArray = np.ndarray[Any, np.dtype[Any]]
    NumpyScalar = np.floating[Any]
else:
    # What whoever evaluates the annotations of the public functions finds, such as beartype; wide, and free.
    Any = AnyBackend = object
    Axis = int | tuple[int, ...] | list[int] | None

    def overload(function):
        """As `typing.overload`."""
        return function


__all__ = ["Any", "AnyBackend", "Axis", "overload"]
