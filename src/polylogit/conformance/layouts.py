"""The same values in other memory layouts of NumPy: views that a kernel must read by their strides.

Every function takes a contiguous array and returns one of equal shape and values. Knows NumPy's memory alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.conformance.formats import Array

__all__ = ["LAYOUTS"]

# What fills the gaps of a strided view: a kernel that reads it by mistake shows it.
_FILL = 7


def _transposed(x: Array) -> Array:
    return np.ascontiguousarray(x.T).T


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x)


def _strided(x: Array) -> Array:
    base = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), _FILL, dtype=x.dtype)
    view = base[..., 1::2]
    view[...] = x
    return view


def _strided_rows(x: Array) -> Array:
    base = np.full((3 * x.shape[0], *x.shape[1:]), _FILL, dtype=x.dtype)
    view = base[::3]
    view[...] = x
    return view


def _reversed(x: Array) -> Array:
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def _reversed_rows(x: Array) -> Array:
    return np.ascontiguousarray(x[::-1])[::-1]


def _offset(x: Array) -> Array:
    base = np.full((x.shape[0] + 1, *x.shape[1:-1], x.shape[-1] + 3), _FILL, dtype=x.dtype)
    view = base[1:, ..., 2:-1]
    view[...] = x
    return view


def _unaligned(x: Array) -> Array:
    base = np.zeros(x.nbytes + 1, dtype=np.uint8)
    view = base[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _swapped(x: Array) -> Array:
    return x if x.dtype.kind != "f" else x.astype(x.dtype.newbyteorder(">"))


def _swapped_axes(x: Array) -> Array:
    return x if x.ndim < 3 else np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)  # noqa: PLR2004


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "transposed": _transposed,
    "fortran": _fortran,
    "strided": _strided,
    "strided-rows": _strided_rows,
    "reversed": _reversed,
    "reversed-rows": _reversed_rows,
    "offset": _offset,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "big-endian": _swapped,
    "swapped-axes": _swapped_axes,
}
