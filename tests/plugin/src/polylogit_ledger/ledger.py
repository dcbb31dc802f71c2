"""The array type: immutable, numbers of float32 or float64 in one ``array.array``, a shape, nothing else."""

from __future__ import annotations

import math
from array import array

CODES = {"float64": "d", "float32": "f", "bool": "B", "int64": "q"}


class Ledger:
    """Numbers in a row and a shape."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, data, shape, dtype="float64"):
        self.data = array(CODES[dtype], data)
        self.shape = tuple(shape)
        self.dtype = dtype
        if len(self.data) != math.prod(self.shape):
            raise ValueError(f"{len(self.data)} numbers do not fill the shape {self.shape}")

    @property
    def ndim(self):
        return len(self.shape)

    def __repr__(self):
        return f"Ledger({list(self.data)}, shape={self.shape}, dtype={self.dtype!r})"
