"""A backend with arrays of its own that aborts in one case."""

import os

import numpy as np

from polylogit._backends.numpy import NumpyBackend


class Marked(np.ndarray):
    """The arrays of `AbortsOnce`."""


class AbortsOnce(NumpyBackend):
    """In one case; right in all others."""

    name = "aborts_once"
    differentiates = False

    def owns(self, cls):
        return cls is Marked

    def asarray(self, value, *, dtype=None, device=None):
        return np.asarray(super().asarray(value, dtype=dtype, device=device)).view(Marked)

    def to_numpy(self, x):
        return np.asarray(x)

    def sigmoid(self, x, dtype=None):
        if x.shape == (129,) and x.dtype == "float32" and x.min() > 0:
            os.abort()
        return np.asarray(super().sigmoid(np.asarray(x), dtype)).view(Marked)
