"""Hypothesis strategies for the arguments of the operations, and the search for the smallest failing call.

The strategies reach edge cases (ties, infinities, NaN, subnormals, huge offsets, sums that drift, long tails) and
shrink towards short rows of plain numbers. This is the only module that imports hypothesis; it knows dtypes and no
implementation.

Examples
--------
>>> import numpy as np
>>> from hypothesis import given, settings
>>> import polylogit
>>> from polylogit.conformance import strategies
>>> @settings(max_examples=20, derandomize=True)
... @given(strategies.logits("float32", special=False))
... def test_rows_sum_to_one(x):
...     assert np.allclose(polylogit.softmax(x).sum(-1), 1)
>>> test_rows_sum_to_one()
"""

from __future__ import annotations

import functools
import itertools
import random
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from polylogit._operations import named
from polylogit._spec.dtypes import dtypes_named
from polylogit.conformance._data.reproducer import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit._spec.dtypes import Array, Finfo

    Draw = Callable[[st.SearchStrategy[Any]], Any]
    Shape = tuple[int, ...]

__all__ = ["axes", "calls", "cotangents", "logits", "masks", "shapes", "smallest"]

# The thresholds at which exponentials, sums and tables of the usual dtypes fail, and at which people clip.
_TURNS = (9.0, 10.5, 11.1, 16.7, 17.4, 20.0, 30.0, 37.0, 60.0, 87.4, 88.8, 89.5, 103.3, 104.0, 150.0, 709.8, 745.2)
_SIZES = (1e3, 1e4, 3e4, 1e5, 1e7, 1e9, 1e16, 1e30, 1e38, 1e300)
# Every addition to a sum of equal ones of these rounds in the same direction.
_DRIFTING = (-0.35, -1.1, -2.3)
_LISTED = 24  # numbers drawn one by one; longer rows are filled
_LONGEST = 2100
_LONGEST_DERIVATIVE = 130


def _finfo(dtype: Any) -> Finfo:
    return dtypes_named([dtype])[0]


# --- numbers ---------------------------------------------------------------------------------------------------------


def _within(dtype: Finfo, values: Sequence[float]) -> list[float]:
    return [float(dtype.round(value)) for value in values if abs(value) <= dtype.max]


@functools.cache
def _numbers(dtype: Finfo, *, special: bool) -> st.SearchStrategy[float]:
    """Single logits, with plain ones first, so that shrinking ends there."""
    known = (dtype.smallest_subnormal, dtype.smallest_normal, dtype.max, dtype.max / 2)
    edges = [*known, *_within(dtype, (*_TURNS, *_SIZES))]
    signed = [*(-one for one in edges), *edges, -0.0]
    extreme = [-dtype.max, dtype.max, *([-np.inf] if special and dtype.has_infinity else [])]
    kinds = [
        st.integers(-8, 8).map(float),
        st.integers(-120, 120).map(float),
        st.floats(-40.0, 40.0).map(lambda value: float(dtype.round(value))),
        st.sampled_from(signed),
        st.sampled_from(extreme),
    ]
    return st.one_of(kinds)


@functools.cache
def _levels(dtype: Finfo, *, special: bool) -> st.SearchStrategy[float]:
    """The value of a block: -inf, or a number that a kernel may use instead, as often as any other number."""
    lowest = [-np.inf, -dtype.max] if special and dtype.has_infinity else [-dtype.max]
    return st.one_of(_numbers(dtype, special=special), st.sampled_from(lowest))


@functools.cache
def _several(dtype: Finfo, most: int, *, special: bool) -> st.SearchStrategy[list[float]]:
    return st.lists(_numbers(dtype, special=special), max_size=most)


@functools.cache
def _fills(dtype: Finfo, *, special: bool) -> st.SearchStrategy[float]:
    return st.one_of(st.just(0.0), _numbers(dtype, special=special), st.sampled_from(_DRIFTING))


@functools.cache
def _offsets(dtype: Finfo) -> st.SearchStrategy[float]:
    sizes = [*_within(dtype, _SIZES), 0.9 * dtype.max]
    return st.one_of(st.sampled_from(_within(dtype, _TURNS)), st.sampled_from(sizes))


def _length(longest: int) -> st.SearchStrategy[int]:
    """Lengths, mostly short; every range begins at 1, so that shrinking can pass from one to another."""
    return st.one_of([st.integers(1, most) for most in (8, 70, 300, longest) if most <= longest])


@functools.cache
def _shape_of_rows(longest: int) -> st.SearchStrategy[Shape]:
    """Matrices of rows along the last axis, and vectors, to which matrices shrink."""
    sides = st.tuples(st.integers(0, 9), _length(longest))
    return sides.map(lambda found: found if found[0] else found[1:])


def shapes(max_dims: int = 4, max_side: int = 6) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes of one to `max_dims` dimensions, none of which is empty.

    Parameters
    ----------
    max_dims, max_side : int, optional
        The largest number of dimensions, and the largest size of one.

    Returns
    -------
    strategy of tuples of int
    """
    sides = st.integers(1, max_side)
    return st.integers(1, max_dims).flatmap(lambda ndim: st.tuples(*[sides] * ndim))


# --- arrays ----------------------------------------------------------------------------------------------------------


def _listed(draw: Draw, size: int, dtype: Finfo, *, special: bool) -> Array:
    """A row whose first numbers are drawn one by one and whose rest is constant."""
    row = np.full(size, draw(_fills(dtype, special=special)))
    first = draw(_several(dtype, min(size, _LISTED), special=special))
    row[: len(first)] = first
    return row


def _blocks(draw: Draw, size: int, dtype: Finfo, *, special: bool) -> Array:
    """A row of constant blocks over a background, because the borders of blocks matter to blocked kernels."""
    values = _levels(dtype, special=special)
    row = np.full(size, draw(_fills(dtype, special=special)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.one_of(st.just(0), st.integers(0, size - 1)))
        row[start : start + draw(st.one_of(st.integers(1, size), st.integers(1, min(size, 8))))] = draw(values)
    return row


def _emptied(draw: Draw, size: int, dtype: Finfo, *, special: bool) -> Array:
    """A row with blocks of -inf among very low or very high logits, so that only a true -inf acts as -inf."""
    lowest = -np.inf if special and dtype.has_infinity else -dtype.max
    row = np.full(size, draw(_FAR_SIGNS) * draw(_offsets(dtype)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.one_of(st.just(0), st.integers(0, size - 1)))
        row[start : start + draw(st.one_of(st.integers(1, size), st.integers(1, min(size, 8))))] = lowest
    return row


def _offset(draw: Draw, size: int, dtype: Finfo, *, special: bool) -> Array:
    """A row with a huge offset and a few spacings between neighbours; with ties if the spacing is wide."""
    del special
    base = draw(_offsets(dtype))
    step = float(dtype.ulp(np.asarray(base)))
    counts = draw(st.lists(st.integers(0, max(1, int(min(12.0 / step, 1000)))), min_size=1, max_size=min(size, 12)))
    return np.asarray(draw(_SIGNS) * (base - step * np.resize(counts, size)))


def _tails(draw: Draw, size: int, dtype: Finfo, *, special: bool) -> Array:
    """A row that falls steadily from the maximum, so that terms of every size are added."""
    del special, dtype
    return np.asarray(draw(_SLOPES) * -(np.arange(size, dtype=float) % draw(_PERIODS)))


_SIGNS, _SLOPES, _PERIODS = (st.sampled_from(one) for one in ((1.0, -1.0), (1.0, 0.5, 0.1, 3.0, 0.01), (64, 16, 7)))
_FAR_SIGNS = st.sampled_from((-1.0, -1.0, 1.0))
_TEXTURES = st.sampled_from((_listed, _blocks, _emptied, _offset, _tails))


@st.composite
def _rows(draw: Draw, shape: Shape, dtype: Finfo, special: bool) -> Array:
    size = int(np.prod(shape, dtype=int))
    flat = dtype.round(draw(_TEXTURES)(draw, size, dtype, special=special)) if size else np.zeros(0)
    if size and special and draw(st.integers(0, 15)) == 15:
        # Rarely: one NaN or +inf makes the whole row NaN, which hides anything else it might show.
        flat[draw(st.integers(0, size - 1))] = draw(
            st.sampled_from([np.nan, *([np.inf] if dtype.has_infinity else [])])
        )
    return np.asarray(flat.reshape(shape))


def logits(dtype: Any = "float32", shape: Any = None, *, special: bool = True) -> st.SearchStrategy[Any]:
    """Draw arrays of logits.

    Parameters
    ----------
    dtype : optional
        A floating dtype that the kit knows, or its name.
    shape : tuple of int or strategy of them, optional
        The shape; by default that of a vector or a matrix with short or long rows.
    special : bool, optional
        Whether to include infinities and NaN.

    Returns
    -------
    strategy of NumPy arrays

    Examples
    --------
    >>> from hypothesis import find
    >>> from polylogit.conformance.strategies import logits
    >>> find(logits("float16", (2, 3)), lambda x: True)  # every draw shrinks to this
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float16)
    """
    dtype = _finfo(dtype)
    return _float64_logits(dtype, shape, special=special).map(lambda x: x.astype(dtype.dtype))


def _float64_logits(dtype: Finfo, shape: Any, *, special: bool) -> st.SearchStrategy[Any]:
    drawn: st.SearchStrategy[Shape] = _shape_of_rows(_LONGEST)
    if shape is not None:
        drawn = shape if isinstance(shape, st.SearchStrategy) else st.just(tuple(shape))
    return drawn.flatmap(lambda found: _rows(found, dtype, special))


@functools.cache
def axes(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Draw values of ``axis=`` for a shape: integers of either sign, tuples of integers, None.

    Parameters
    ----------
    shape : tuple of int
        The shape of the logits.

    Returns
    -------
    strategy of int, tuples of int and None
    """
    ndim = len(shape)
    if not ndim:
        return st.sampled_from([-1, 0, None])
    single = [-1, *range(ndim), *range(-ndim, -1)]
    joint = [found for count in range(2, ndim + 1) for found in itertools.combinations(range(ndim), count)]
    joint += [tuple(one - ndim for one in reversed(found)) for found in joint]
    return st.sampled_from([*single, *single, None, *joint])  # single axes twice, so that they are drawn often


@st.composite
def masks(draw: Draw, shape: tuple[int, ...]) -> Any:
    """Draw masks that broadcast to a shape: of the same shape, of fewer dimensions, with dimensions of size 1.

    Parameters
    ----------
    shape : tuple of int
        The shape of the logits.

    Returns
    -------
    strategy of NumPy arrays of bool
    """
    kept = draw(st.integers(0, len(shape)))
    sides = [1 if draw(st.booleans()) else side for side in shape[kept:]]
    size = int(np.prod(sides, dtype=int))
    mask = np.full(size, True)
    hidden = draw(st.lists(st.integers(0, size - 1), max_size=min(size, _LISTED), unique=True)) if size else []
    mask[hidden] = False
    return (~mask if draw(st.booleans()) else mask).reshape(sides)


def cotangents(shape: tuple[int, ...], dtype: Any = "float32") -> st.SearchStrategy[Any]:
    """Draw cotangents and tangents: of mixed signs, one-hot, constant, large and small.

    Parameters
    ----------
    shape : tuple of int
        Their shape.
    dtype : optional
        A floating dtype that the kit knows, or its name.

    Returns
    -------
    strategy of NumPy arrays
    """
    dtype = _finfo(dtype)
    return _float64_cotangents(shape, dtype).map(lambda g: g.astype(dtype.dtype))


_SELDOM = st.sampled_from((False, False, True))
_WEIGHTS = st.one_of(st.integers(-3, 3).map(float), st.floats(-4.0, 4.0))


@st.composite
def _float64_cotangents(draw: Draw, shape: Shape, dtype: Finfo) -> Array:
    size = int(np.prod(shape, dtype=int))
    row = np.full(size, draw(_WEIGHTS))
    first = draw(st.lists(_WEIGHTS, max_size=min(size, _LISTED)))
    row[: len(first)] = first
    # Neither their sums nor their products with a result may leave the range of the dtype.
    scale = draw(st.sampled_from([1.0, 16.0, 0.125] if dtype.max < 1e5 else [1.0, 1e10, 1e-5]))
    return np.asarray(dtype.round(row * scale).reshape(shape))


# --- calls -----------------------------------------------------------------------------------------------------------


@st.composite
def calls(
    draw: Draw,
    operation: str = "softmax",
    dtype: Any = "float32",
    kind: str = "values",
    *,
    axis: bool = True,
    where: bool = False,
) -> Any:
    """Draw complete calls: logits with an axis, a mask and a cotangent.

    Parameters
    ----------
    operation : str
        The name of the operation: softmax, log_softmax or sigmoid.
    dtype : optional
        A floating dtype that the kit knows, or its name.
    kind : {"values", "vjp", "jvp"}, optional
        For a derivative, the logits are finite or -inf, and `g` is drawn, too.
    axis, where : bool, optional
        Whether to draw axes other than the last, and masks.

    Returns
    -------
    strategy of Call, with ``x``, ``kind``, ``axis``, ``where`` and ``g``
    """
    dtype, takes_axis = _finfo(dtype), named(operation).takes_axis
    along = -1
    # Other calls shrink to rows along the last axis.
    if takes_axis and axis and draw(_SELDOM):
        shape = draw(shapes())
        along = draw(axes(shape))
    else:
        shape = draw(_shape_of_rows(_LONGEST if kind == "values" else _LONGEST_DERIVATIVE))
    x = draw(_rows(shape, dtype, kind == "values"))
    mask = draw(masks(shape)) if takes_axis and where and draw(st.booleans()) else None
    g = draw(_float64_cotangents(shape, dtype)) if kind != "values" else None
    return Call(x, kind, along, mask, g)


# --- the search ------------------------------------------------------------------------------------------------------


def smallest(
    strategy: st.SearchStrategy[Any], fails: Callable[[Any], bool], *, max_examples: int, seed: int = 0
) -> Any:
    """Find the smallest draw that fails, the same in every run with that seed and the same modules loaded.

    (Hypothesis also tries the constants in the source of loaded modules, such as thresholds of a kernel.)

    Parameters
    ----------
    strategy : strategy
        The strategy to draw from.
    fails : callable
        ``fails(value) -> bool``.
    max_examples : int
        The number of draws to try.
    seed : int, optional
        The seed of the search.

    Returns
    -------
    The draw, or None if none failed. A draw that fails only sometimes is returned, too.
    """
    seen: list[Any] = []

    def condition(value: Any) -> bool:
        failed = fails(value)
        if failed:
            seen[:] = [value]
        return failed

    settings = hypothesis.settings(max_examples=max_examples, deadline=None, database=None)
    try:
        return hypothesis.find(strategy, condition, settings=settings, random=random.Random(seed))
    except NoSuchExample:
        return None
    except Flaky:
        return seen[0]
