"""The types in public signatures. At run time this module imports nothing, not even typing, which takes milliseconds.

For type checkers, it knows only the modules whose classes it names.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Literal, Protocol, TypedDict, TypeVar, overload

    import numpy as np

    from polylogit._backends.base import Backend

    ArrayT = TypeVar("ArrayT")
    Axis = int | tuple[int, ...] | list[int] | None
    # What has labels calls its dimensions by name.
    AnyAxis = Axis | str | tuple[int | str, ...] | list[str]
    Level = Literal["quick", "full"]
    # A plug-in may have any name; the built-in names are listed for completion.
    BackendName = Literal["numpy", "torch", "tensorflow", "jax", "array_api"] | str
    AnyBackend = BackendName | ModuleType | Backend
    # What the default backend accepts: NumPy, unless `polylogit.use_backend` sets another.
    Python = list[Any] | tuple[Any, ...] | range
    NumpyArray = np.ndarray[Any, np.dtype[Any]]
    NumpyScalar = np.floating[Any]
    FloatT = TypeVar("FloatT", bound=np.ndarray[Any, np.dtype[np.floating[Any]]] | np.floating[Any])
    FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
    IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]] | np.ndarray[Any, np.dtype[np.bool_]]
    IntScalar = np.integer[Any] | np.bool_

    class AnArray(Protocol):
        """An array of any framework, as opposed to a container of them."""

        @property
        def dtype(self) -> Any:
            """That of its elements."""

        @property
        def shape(self) -> Any:
            """Its sizes."""

    class Options(TypedDict, total=False):
        """What `sigmoid` takes by keyword besides ``dtype=`` and ``backend=``."""

        temperature: Any
        out: Any

    class RowOptions(Options, total=False):
        """And what operations along an axis take."""

        where: Any
        axis_name: Any
else:
    # For tools that evaluate annotations at run time, such as beartype: wide types that cost nothing.
    Any = AnyBackend = object
    AnyAxis = int | str | tuple[int | str, ...] | list[int] | list[str] | None

    def overload(function):
        """A stand-in for `typing.overload`."""
        return function


__all__ = ["Any", "AnyAxis", "AnyBackend", "overload"]
