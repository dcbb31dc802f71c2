"""The same values in other memory layouts: views that a kernel must read by their strides.

`VIEWS` are pairs of a contiguous base and a function that makes the view, for any framework with strides. `LAYOUTS`
adds layouts that only NumPy has. Each keeps shape and values. Knows no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.dtypes import Array

    Change = Callable[[Any], Any]

# What fills the gaps of a strided view: a kernel that reads it by mistake shows it.
_FILL = 7


def _in_gaps(index: Any, shape: Callable[..., tuple[int, ...]]) -> tuple[Change, Change]:
    """A larger base of ``shape(*sides)`` that holds the array at an index, and a function that makes the view of it."""

    def base(x: Array) -> Array:
        made = np.full(shape(*x.shape), _FILL, dtype=x.dtype)
        made[index] = x
        return made

    return base, lambda made: made[index]


# How the base is laid out, and how to look at it to see the array.
VIEWS: dict[str, tuple[Change, Change]] = {
    "transposed": (lambda x: np.ascontiguousarray(x.swapaxes(0, -1)), lambda base: base.swapaxes(0, -1)),
    "strided": _in_gaps(np.s_[..., 1::2], lambda *sides: (*sides[:-1], 2 * sides[-1] + 1)),
    "strided-rows": _in_gaps(np.s_[::3], lambda rows, *sides: (3 * rows, *sides)),
    "offset": _in_gaps(np.s_[1:, ..., 2:-1], lambda rows, *sides: (rows + 1, *sides[:-1], sides[-1] + 3)),
    # Contiguous, but not from the start of its memory.
    "later-rows": _in_gaps(np.s_[2:], lambda rows, *sides: (rows + 2, *sides)),
}


def first_row_repeated(array: Any) -> Any:
    """The first row repeated without a copy, like the gradient of a sum."""
    first = array[:1]
    return np.broadcast_to(first, array.shape) if isinstance(array, np.ndarray) else first.broadcast_to(array.shape)


def _unaligned(x: Array) -> Array:
    base = np.zeros(x.nbytes + 1, dtype=np.uint8)
    view = base[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _looked_at(base: Change, view: Change) -> Change:
    return lambda x: view(base(x))


LAYOUTS: dict[str, Change] = {
    **{name: _looked_at(*view) for name, view in VIEWS.items()},
    "fortran": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "reversed-rows": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "unaligned": _unaligned,
    "read-only": _read_only,
    "big-endian": lambda x: x if x.dtype.kind != "f" else x.astype(x.dtype.newbyteorder(">")),
    "swapped-axes": lambda x: x if x.ndim < 3 else np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
}
