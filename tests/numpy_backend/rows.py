"""What the tests of the NumPy backend share: exact rows, the bounds, the shapes.

References are exact: sums of exponentials in mpmath for few numbers, in long double (whose rounding is 2^-11 of
float64's) for many.
"""

from __future__ import annotations

import os
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

import polylogit

OPERATIONS = ("softmax", "log_softmax")
BOTH = pytest.mark.parametrize("name", OPERATIONS)
ALL = pytest.mark.parametrize("name", [*OPERATIONS, "sigmoid"])
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])

RNG = np.random.default_rng

# The environment of a process that is told nothing of an engine.
UNTOLD = {name: value for name, value in os.environ.items() if name != "POLYLOGIT_NUMPY_ENGINE"}


def call(name: str, x: Any, **kwargs: Any) -> Any:
    return getattr(polylogit, name)(x, **kwargs)


def exact(name: str, row: np.ndarray) -> list[mpmath.mpf]:
    """The operation on one row of finite numbers, to 60 digits."""
    with mpmath.workdps(60):
        values = [mpmath.mpf(float(value)) for value in row]
        top = max(values)
        terms = [mpmath.exp(value - top) for value in values]
        total = mpmath.fsum(terms)
        if name == "softmax":
            return [term / total for term in terms]
        return [value - top - mpmath.log(total) for value in values]


def wide(x: np.ndarray, axes: tuple[int, ...], mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, Any]:
    """softmax, log_softmax and the distances to the maximum in long double, of rows with finite numbers in them."""
    with np.errstate(all="ignore"):
        x = np.asarray(x).astype(np.longdouble)
        if mask is not None:
            x = np.where(mask, x, -np.inf)
        distance = x - x.max(axis=axes, keepdims=True)
        order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
        turned = np.exp(distance).transpose(order)
        kept = turned.shape[: x.ndim - len(axes)]
        # Contiguous, so that NumPy adds in pairs.
        total = np.ascontiguousarray(turned).reshape(*kept, -1).sum(axis=-1)
        total = total.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
        return np.exp(distance) / total, distance - np.log(total), -distance


def assert_within(name: str, y: np.ndarray, x: np.ndarray, axes: tuple[int, ...], mask: Any = None) -> None:
    """`y` lies within the bounds of the design, section 4, of the exact value."""
    info = ml_dtypes.finfo(y.dtype)
    eps, tiny = float(info.eps), float(info.smallest_normal)
    length = np.prod([x.shape[axis] for axis in axes])
    p, log_p, distance = wide(x, axes, mask)
    got = y.astype(np.longdouble)
    if name == "softmax":
        ulp = np.exp2(np.floor(np.log2(np.maximum(p, tiny)))) * eps
        bound = (4 + 2 * np.minimum(distance, 1e5) + 2 * np.log2(length)) * ulp + np.where(p < 4 * tiny, p, 0)
        error = np.abs(got - p)
    else:
        impossible = np.isneginf(log_p)
        assert (got[impossible] == -np.inf).all()
        got, log_p = got[~impossible], log_p[~impossible]
        bound = eps * (1 + np.abs(log_p)) * (2 + np.log2(length))
        error = np.abs(got - log_p)
    assert (error <= bound).all(), f"{(error / bound).max():.3g} of the bound"


SHAPES = [
    ((8,), 0),
    ((300, 3), 0),
    ((3000,), 0),
    ((200_000,), 0),  # longer than a block
    ((500, 7), 1),  # short rows: class-major blocks
    ((500, 7), 0),
    ((40, 300), 1),
    ((3, 70_000), 1),
    ((70_000, 3), 0),  # long columns, several side by side
    ((70_001, 3), 0),  # ... and some over
    ((65_536, 2), 0),  # ... in a single chunk
    ((300, 2000), 0),
    ((40, 70_000), 0),
    ((6, 5, 400), 1),
    ((7, 3000, 5), 1),
    ((5, 6, 7, 8), (0, 2)),
    ((5, 6, 7, 8), (1, 3)),
    ((20, 300, 40), (0, 2)),
    ((4, 5, 6), None),
    ((1, 400), 0),
    ((400, 1), 1),
]


def axes_of(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    return tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
