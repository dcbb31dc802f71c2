"""The same values in other memory layouts: views that a kernel must read by their strides.

`VIEWS` are a contiguous base and a way of looking at it, which any framework with strides has; `LAYOUTS` are these and
others of NumPy alone. Each keeps shape and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.spec.dtypes import Array

__all__ = ["LAYOUTS", "VIEWS", "first_row_repeated"]

# What fills the gaps of a strided view: a kernel that reads it by mistake shows it.
_FILL = 7


def _with_columns_between(x: Array) -> Array:
    base = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), _FILL, dtype=x.dtype)
    base[..., 1::2] = x
    return base


def _with_rows_between(x: Array) -> Array:
    base = np.full((3 * x.shape[0], *x.shape[1:]), _FILL, dtype=x.dtype)
    base[::3] = x
    return base


def _with_margins(x: Array) -> Array:
    base = np.full((x.shape[0] + 1, *x.shape[1:-1], x.shape[-1] + 3), _FILL, dtype=x.dtype)
    base[1:, ..., 2:-1] = x
    return base


def _with_rows_before(x: Array) -> Array:
    base = np.full((x.shape[0] + 2, *x.shape[1:]), _FILL, dtype=x.dtype)
    base[2:] = x
    return base


# How the base is laid out, and how to look at it to see the array.
VIEWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "transposed": (lambda x: np.ascontiguousarray(x.swapaxes(0, -1)), lambda base: base.swapaxes(0, -1)),
    "strided": (_with_columns_between, lambda base: base[..., 1::2]),
    "strided-rows": (_with_rows_between, lambda base: base[::3]),
    "offset": (_with_margins, lambda base: base[1:, ..., 2:-1]),
    "later-rows": (_with_rows_before, lambda base: base[2:]),  # contiguous, but not from the start of its memory
}


def first_row_repeated(array: Any) -> Any:
    """The first row in place of each, without a copy, as the gradient of a sum is."""
    first = array[:1]
    return np.broadcast_to(first, array.shape) if isinstance(array, np.ndarray) else first.broadcast_to(array.shape)


def _fortran(x: Array) -> Array:
    return np.asfortranarray(x)


def _reversed(x: Array) -> Array:
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def _reversed_rows(x: Array) -> Array:
    return np.ascontiguousarray(x[::-1])[::-1]


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


def _seen(name: str) -> Callable[[Any], Any]:
    base, view = VIEWS[name]
    return lambda x: view(base(x))


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    **{name: _seen(name) for name in VIEWS},
    "fortran": _fortran,
    "reversed": _reversed,
    "reversed-rows": _reversed_rows,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "big-endian": _swapped,
    "swapped-axes": _swapped_axes,
}
