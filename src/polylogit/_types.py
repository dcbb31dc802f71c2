"""The types in public signatures. At run time this module imports nothing, not even typing, which takes milliseconds.

For type checkers, it knows only the modules whose classes it names.
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
    # A plug-in may have any name; the built-in names are listed for completion.
    BackendName = Literal["numpy", "torch", "tensorflow", "jax", "array_api"] | str
    AnyBackend = BackendName | ModuleType | Backend
    # What the default backend accepts: NumPy, unless `polylogit.use_backend` sets another.
    Python = list[Any] | tuple[Any, ...] | range
    NumpyArray = np.ndarray[Any, np.dtype[Any]]
    NumpyScalar = np.floating[Any]
else:
    # For tools that evaluate annotations at run time, such as beartype: wide types that cost nothing.
    Any = AnyBackend = object
    Axis = int | tuple[int, ...] | list[int] | None

    def overload(function):
        """A stand-in for `typing.overload`."""
        return function


__all__ = ["Any", "AnyBackend", "Axis", "overload"]
