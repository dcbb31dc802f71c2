"""The types in public signatures. When the code runs this imports nothing, typing included, which takes milliseconds.

Knows no module but those whose classes it names.
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
    # A plug-in may bring any name; those that are built in are here to be completed.
    BackendName = Literal["numpy", "torch", "tensorflow", "jax", "array_api"] | str
    AnyBackend = BackendName | ModuleType | Backend
    # What the default backend takes, which is NumPy's unless `polylogit.use_backend` says otherwise.
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
    # What whoever evaluates the annotations of the public functions finds, such as beartype; wide, and free.
    Any = AnyBackend = object
    AnyAxis = int | str | tuple[int | str, ...] | list[int] | list[str] | None

    def overload(function):
        """As `typing.overload`."""
        return function


__all__ = ["Any", "AnyAxis", "AnyBackend", "overload"]
