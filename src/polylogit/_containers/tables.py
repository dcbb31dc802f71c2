"""Series and data frames of pandas and polars, through narwhals: computed on NumPy arrays, keeping the labels.

A frame is a two-dimensional array whose first axis is its rows. Missing values are NaN. This module may know narwhals,
and the labels that only pandas has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import narwhals as nw

from polylogit._backends.base import host_array
from polylogit._containers.base import Container
from polylogit.errors import AxisError, DTypeError, MaskError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

__all__ = ["PandasBackend", "PolarsBackend"]

_NAMED_AXES = {"index": 0, "columns": 1}


class _Tables(Container):
    """One library's series and frames."""

    implementation_: ClassVar[Any]
    numbers: ClassVar[tuple[str, str]]  # how a series is made one of numbers, and a frame
    made: ClassVar[tuple[tuple[str, str], ...]]  # how a dtype begins -> how a series of it is made one of numbers
    times: ClassVar[str] = ""  # NumPy's kinds of what is refused here, since NumPy's own remedy would not work
    filled: ClassVar[str]  # a mask without gaps

    def owns(self, cls: type) -> bool:
        """The library's eager series and frames."""
        native = self.implementation_.to_native_namespace()
        return issubclass(cls, (native.Series, native.DataFrame))

    def axes(self, x: Any, axis: Any) -> Any:
        """The numbers of "index" and "columns"; a series has one dimension, with any name."""
        if isinstance(axis, (tuple, list)):
            return tuple(self.axes(x, one) for one in axis)
        if not isinstance(axis, str):
            return axis
        if _NAMED_AXES.get(axis, x.ndim if hasattr(x, "ndim") else 2) >= len(x.shape):
            message = f"axis={axis!r} is no dimension of a {type(x).__qualname__}; pass axis=-1"
            raise AxisError(message + (', "index" or "columns".' if len(x.shape) == 2 else ' or "index".'))
        return _NAMED_AXES[axis]

    def apply(self, inner: Callable[..., Any], x: Any, others: dict[str, Any]) -> Any:
        """See `Container.apply`."""
        inside = {name: self._fitting(x, name, other) for name, other in others.items()}
        return self._like(x, inner(self.to_numpy(x), **inside))

    def _fitting(self, x: Any, name: str, other: Any) -> Any:
        """The values of a mask or direction, after comparing labels; nothing is aligned silently."""
        native = self.implementation_.to_native_namespace()
        if not isinstance(other, (native.Series, native.DataFrame)):
            return other
        if x.shape != other.shape:
            message = (
                f"{name}= is a {type(other).__qualname__} of the shape {other.shape}, and the logits are a "
                f"{type(x).__qualname__} of the shape {x.shape}; give it that shape, or pass {name}.to_numpy() to have "
                "it broadcast by position."
            )
            raise MaskError(message)
        for axis in ("index", "columns"):
            if hasattr(x, axis) and list(getattr(x, axis)) != list(getattr(other, axis)):
                message = (
                    f"the {axis} of {name}= is not that of the logits; bring it in their order, for example with "
                    f"{name}.reindex({axis}=x.{axis}), or pass {name}.to_numpy() to go by position."
                )
                raise MaskError(message)
        if name == "where" and self._gaps(other):
            message = (
                "where= has missing values, which do not say whether an entry takes part; "
                f"pass {self.filled}, with which it does not."
            )
            raise MaskError(message)
        return self.to_numpy(other)

    def _like(self, x: Any, values: np.ndarray[Any, Any]) -> Any:
        if len(x.shape) == 1:
            return nw.new_series(x.name, values, backend=self.implementation_).to_native()
        names = [str(place) for place in range(x.shape[1])]  # what narwhals takes; columns may be called anything
        made = nw.from_numpy(values, schema=names, backend=self.implementation_).to_native()
        made.columns = x.columns
        return made

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A series, or a frame for two-dimensional values."""
        array = host_array(value) if dtype is None else host_array(value).astype(dtype)
        native = self.implementation_.to_native_namespace()
        if array.ndim not in (1, 2):
            message = f"an array of {array.ndim} dimensions is neither a series nor a data frame; reshape it first."
            raise UnsupportedArrayError(message)
        return native.Series(array) if array.ndim == 1 else native.DataFrame(array)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values as one array, with NaN for missing ones."""
        values: np.ndarray[Any, Any] = self._narwhals(x).to_numpy().copy()
        series = len(x.shape) == 1
        if values.dtype.kind in "OU" or values.ndim != len(x.shape) or (series and values.dtype.kind in self.times):
            written = str(x.dtype if series else values.dtype)
            made = next((how for begin, how in self.made if written.startswith(begin)), self.numbers[1 - series])
            remedy = f"pass {made}"
            if series and made == self.numbers[0] and not _are_numbers(values):
                remedy = f"{values[0]!r} is none; pass a column of numbers"
            message = f"the {type(x).__qualname__} holds other things than numbers (its dtype is {written}); {remedy}."
            raise DTypeError(message)
        return values

    def _narwhals(self, x: Any) -> Any:
        if len(x.shape) == 1:
            return nw.from_native(x, series_only=True)
        return nw.from_native(self._plainly_named(x), eager_only=True)

    def _gaps(self, mask: Any) -> bool:
        """Whether values are missing."""
        gaps = self._narwhals(mask).null_count()
        return bool(gaps.to_numpy().any() if len(mask.shape) == 2 else gaps)

    def _plainly_named(self, x: Any) -> Any:
        return x


def _are_numbers(values: np.ndarray[Any, Any]) -> bool:
    """Whether what is held as objects or text can be read as numbers."""
    try:
        values.astype(float)
    except (TypeError, ValueError):
        return False
    return True


class PandasBackend(_Tables):
    """pandas; see `polylogit.extend.Backend`."""

    name = "pandas"
    implementation_ = nw.Implementation.PANDAS
    numbers = ("x.astype(float)", 'x.select_dtypes("number")')
    made = (("category", "x.cat.codes"),)
    filled = 'where.astype("boolean").fillna(False).astype(bool)'

    def _like(self, x: Any, values: np.ndarray[Any, Any]) -> Any:
        made = super()._like(x, values)
        made.index = x.index
        return made

    def _plainly_named(self, x: Any) -> Any:
        return x.set_axis([str(place) for place in range(x.shape[1])], axis="columns")


class PolarsBackend(_Tables):
    """polars; see `polylogit.extend.Backend`."""

    name = "polars"
    implementation_ = nw.Implementation.POLARS
    numbers = ("x.cast(polars.Float64)", "x.select(polars.selectors.numeric())")
    made = (
        ("Date", "(x - x.min()).dt.total_seconds()"),
        ("Duration", "x.dt.total_seconds()"),
        ("Time", "x.to_physical()"),
        ("List", "x.to_list()"),
        ("Array", "x.to_numpy()"),
        ("Struct", "x.struct.unnest()"),
        *((one, "x.to_physical()") for one in ("Categorical", "Enum")),
    )
    times = "mM"
    filled = "where.fill_null(False)"
