"""xarray's DataArray and Dataset, through `apply_ufunc`: an axis may be given by name.

The contents may be any array that polylogit supports, including Dask's. This module may know xarray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from polylogit._backends.base import host_array
from polylogit._coerce import backend_of, direction_of, mask_of
from polylogit._containers.base import Container
from polylogit.errors import AxisError, MaskError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

__all__ = ["XarrayBackend"]


class XarrayBackend(Container):
    """xarray; see `polylogit.extend.Backend`."""

    name = "xarray"

    def owns(self, cls: type) -> bool:
        """xarray's arrays, alone or several in a Dataset."""
        return issubclass(cls, (xr.DataArray, xr.Dataset))

    def axes(self, x: Any, axis: Any) -> Any:
        """The numbers of named dimensions; for a Dataset the names themselves, since each variable has its own."""
        if isinstance(x, xr.Dataset) or axis is None:
            return axis
        if isinstance(axis, (tuple, list)):
            return tuple(self.axes(x, one) for one in axis)
        if not isinstance(axis, str):
            return axis
        if axis not in x.dims:
            called = "" if x.name is None else f" {x.name!r}"
            message = f"the DataArray{called} has no dimension {axis!r}; it has {x.dims}: pass one of them as axis=."
            raise AxisError(message)
        return x.dims.index(axis)

    def _call(self, function: Callable[..., Any], x: Any, **options: Any) -> Any:
        if isinstance(x, xr.DataArray):
            return super()._call(function, x, **options)
        where = options.pop("where", None)

        def of(variable: Any) -> Any:
            mask = where[variable.name] if isinstance(where, xr.Dataset) else where
            return self._call(function, variable, **options, **({} if where is None else {"where": mask}))

        return x.map(of)

    def apply(self, inner: Callable[..., Any], x: Any, others: dict[str, Any]) -> Any:
        """See `Container.apply`."""
        if isinstance(x, xr.Dataset):
            message = "a Dataset is differentiated variable by variable; pass each DataArray of it."
            raise UnsupportedArrayError(message)
        labelled = [self._fitting(x, name, other) for name, other in others.items()]

        def with_names(values: Any, *arrays: Any) -> Any:
            inside = dict(zip(others, arrays, strict=True))
            backend = backend_of(values)
            if "where" in inside:  # xarray mixes NumPy's masks with whatever a variable holds
                inside["where"] = mask_of(backend, inside["where"], values, convert_numpy=True)
            for name in inside.keys() & {"direction", "cotangent"}:
                inside[name] = direction_of(backend, inside[name], values, name, convert_numpy=True)
            return inner(values, **inside)

        try:
            xr.align(x, *(one for one in labelled if isinstance(one, xr.DataArray)), join="exact", copy=False)
        except ValueError as error:  # an AlignmentError where there is one
            message = f"{', '.join(others)}: the coordinates are not those of x ({error}); align them first."
            raise MaskError(message) from error
        keep = xr.get_options()["keep_attrs"]
        keep = True if keep == "default" else keep  # before xarray 2025.11 that meant to drop them
        made = xr.apply_ufunc(with_names, x, *labelled, dask="allowed", keep_attrs=keep)
        return made.rename(x.name)

    def _fitting(self, x: Any, name: str, other: Any) -> Any:
        """A mask or direction; raises an error if it would add dimensions or coordinates to the result."""
        if not isinstance(other, xr.DataArray):
            return other
        if not set(other.dims) <= set(x.dims):
            message = f"{name}= has the dimensions {other.dims}, which are not all among {x.dims} of the logits; "
            raise MaskError(message + "select or rename them first.")
        return other.reset_coords(drop=True)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A DataArray without names."""
        return xr.DataArray(host_array(value) if dtype is None else host_array(value).astype(dtype))

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values, computed if necessary."""
        if isinstance(x, xr.Dataset):
            message = "a Dataset is no single array; pass a variable of it, or its to_dataarray()."
            raise UnsupportedArrayError(message)
        found: np.ndarray[Any, Any] = x.to_numpy().copy()
        return found
