"""The backend for Dask arrays: larger than memory, with chunks along any axis, including the normalised one, and lazy.

If the normalised axis is split, each chunk contributes its maximum and its sum of exponentials; Dask's tree reduction
merges them, and every chunk is divided by the result. Chunks are neither joined nor rechunked. Blocks are computed by
NumPy in float64. This module may know Dask, NumPy and the shared rules.
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

import dask.array as da
import dask.config
import numpy as np
from dask.blockwise import Blockwise
from dask.graph_manipulation import clone

from polylogit._backends.base import Backend, host_array
from polylogit._backends.closed_forms import closed_form
from polylogit._contract import (
    check_floating,
    check_logits_dtype,
    check_mask,
    check_mask_shape,
    normalize_axis,
    wrong_direction,
)
from polylogit.errors import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

# What a chunk of a row, or several of them, comes to.
_STATE = np.dtype([("max", np.float64), ("sum", np.float64)])
# Whether what is cheap to read again is read for the second pass instead of being held from the first.
_READ_TWICE = "polylogit.read-twice"

_quiet = np.errstate(all="ignore")  # NumPy warns where the contract asks for a NaN


# --- on blocks, in NumPy; the scheduler may run them anywhere --------------------------------------------------------


def _sum(values: Any, axes: tuple[int, ...]) -> Any:
    """The sums along the axes, which are kept. NumPy adds pairwise if the terms are contiguous."""
    moved = np.moveaxis(values, axes, range(-len(axes), 0)) if axes else values[..., None]
    kept = moved.shape[: values.ndim - len(axes)]
    rows = np.ascontiguousarray(moved).reshape(*kept, math.prod(moved.shape[len(kept) :]))
    return np.expand_dims(rows.sum(-1), axes)


def _merged(maxima: Any, sums: Any, axes: tuple[int, ...]) -> Any:
    top = np.max(maxima, axis=axes, keepdims=True, initial=-np.inf)
    # Of parts with no entry the maximum is -inf, and their weight 0 as it should be, unless all are so.
    weights = np.exp(maxima - np.where(top == -np.inf, 0.0, top))
    state = np.empty(top.shape, _STATE)
    state["max"], state["sum"] = top, _sum(weights if sums is None else weights * sums, axes)
    return state


@_quiet
def _state_of(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _merged(x.astype(np.float64), None, axis)


@_quiet
def _merge(states: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _merged(states["max"], states["sum"], axis)


@_quiet
def _finish(x: Any, state: Any, mask: Any, fill: float, result: Any) -> Any:
    """The values of a chunk; `fill` is the value of masked entries, and distinguishes softmax from log_softmax."""
    values = x.astype(np.float64)
    values -= state["max"]
    if fill == 0.0:
        np.exp(values, out=values)
        values /= state["sum"]
    else:
        values -= np.log(state["sum"])
    return (values if mask is None else np.where(mask, values, fill)).astype(result)


def _whole(x: Any, mask: Any, axes: tuple[int, ...], fill: float, result: Any) -> Any:
    """The same for a chunk that holds whole rows."""
    seen = x if mask is None else _filled(x, mask, -np.inf, np.float64)
    return _finish(seen, _state_of(seen, axes, True), mask, fill, result)


def _filled(x: Any, mask: Any, fill: float, held: Any) -> Any:
    return np.where(mask, x, np.asarray(fill, held)).astype(held)


@_quiet
def _logistic(x: Any, sign: float, result: Any) -> Any:
    values = sign * x.astype(np.float64)
    e = np.exp(-np.abs(values))
    return (np.where(values < 0, e, 1.0) / (1.0 + e)).astype(result)


def _sum_of(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _sum(x, axis)


# --- on graphs -------------------------------------------------------------------------------------------------------


def _blockwise(function: Callable[..., Any], x: Any, *others: Any, dtype: Any, **options: Any) -> Any:
    """One task for each chunk of `x`; arrays of fewer dimensions or with one chunk broadcast, and none is rechunked."""
    arguments: list[Any] = []
    for one in (x, *others):
        arguments += (one, None if one is None else tuple(range(x.ndim - one.ndim, x.ndim)))
    meta = np.empty((0,) * x.ndim, dtype)
    return da.blockwise(
        function, tuple(range(x.ndim)), *arguments, dtype=dtype, meta=meta, align_arrays=False, **options
    )


def _tree(chunk: Callable[..., Any], merge: Callable[..., Any], x: Any, axes: tuple[int, ...], dtype: Any) -> Any:
    meta = np.empty((0,) * x.ndim, dtype)
    return da.reduction(x, chunk, merge, combine=merge, axis=axes, keepdims=True, dtype=dtype, meta=meta)


def _read_again(x: Any) -> Any:
    """`x` under other names, so that it is computed twice rather than held, if that needs only each chunk alone.

    Data in memory is not copied, and results that needed other chunks (a product, a sort) are not computed again.
    """
    if x is None or not dask.config.get(_READ_TWICE, default=True):
        return x
    graph = x.dask
    cheap = all(
        isinstance(layer, Blockwise) or (not graph.dependencies[name] and _computes(layer))
        for name, layer in graph.layers.items()
    )
    return clone(x) if cheap else x


def _computes(layer: Any) -> bool:
    """Whether a layer without inputs computes its chunks or reads them from a file, rather than holding them."""
    first = next(iter(layer.values()), None)
    in_a_file = hasattr(first, "shape") and not isinstance(first, (np.ndarray, np.generic))
    return in_a_file or callable(getattr(first, "func", None))


def _sizes(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """A shape with None for unknown sizes, as in the shared rules; Dask uses NaN."""
    return tuple(None if size != size else size for size in shape)


def _aligned(array: Any, x: Any) -> Any:
    """A mask or direction rechunked to the chunks of the logits, which stay as they are."""
    chunks = []
    for axis, own in enumerate(array.chunks, x.ndim - array.ndim):
        theirs = x.chunks[axis]
        same = len(own) == len(theirs) and (_sizes(own) == _sizes(theirs) or None in _sizes((*own, *theirs)))
        chunks.append(own if own == (1,) or same else theirs)
    return array if tuple(chunks) == array.chunks else array.rechunk(tuple(chunks))


def _kind(dtype: Any) -> str:
    if dtype.kind == "f" and dtype.itemsize <= np.dtype(np.float64).itemsize:
        return "floating"
    if dtype.kind == "V" and dtype.names is None and dtype.name.startswith(("bfloat", "float")):
        return "floating"
    return {"i": "integer", "u": "integer", "b": "bool"}.get(dtype.kind, "other")


def _dtype(given: Any) -> Any:
    if isinstance(given, str) and importlib.util.find_spec("ml_dtypes") is not None:
        import ml_dtypes  # noqa: F401  teaches NumPy the name bfloat16
    try:
        return np.dtype(given)
    except TypeError:
        return None


class _Rows:
    """Logits with the checked arguments of a call; all computation is in float64."""

    xp = da

    def __init__(self, x: Any, axis: Any, where: Any, dtype: Any) -> None:
        if type(x._meta) is not np.ndarray and not isinstance(x._meta, np.generic):
            block = type(x._meta)
            message = (
                f"the blocks of this Dask array are {block.__module__}.{block.__qualname__}, and only those of NumPy "
                "keep their meaning here; convert them first, for example with x.map_blocks(numpy.asarray)."
            )
            raise UnsupportedArrayError(message)
        check_logits_dtype(str(x.dtype), _kind(x.dtype))
        self.result = x.dtype if _kind(x.dtype) == "floating" else np.dtype(np.float64)
        if dtype is not None:
            asked = _dtype(dtype)
            check_floating(dtype, "other" if asked is None else _kind(asked))
            self.result = asked
        self.mask = None
        self.shape = _sizes(x.shape)
        self.axes = normalize_axis(axis, x.ndim)
        if where is not None:
            check_mask(str(where.dtype), where.dtype == np.bool_)
            check_mask_shape(_sizes(where.shape), self.shape)
            self.mask = _aligned(where, x)
        self.x = x

    def values(self, fill: float, result: Any) -> Any:
        """Softmax, or log_softmax if `fill` is -inf."""
        if all(self.x.numblocks[axis] == 1 for axis in self.axes):
            options = {"axes": self.axes, "fill": fill, "result": result}
            return _blockwise(_whole, self.x, self.mask, dtype=result, **options)
        seen = self.x
        if self.mask is not None:
            wide = self.x.dtype if self.x.dtype.kind == "f" else np.dtype(np.float64)
            seen = _blockwise(_filled, self.x, self.mask, dtype=wide, fill=-np.inf, held=wide)
        state = _tree(_state_of, _merge, seen, self.axes, _STATE)
        options = {"fill": fill, "result": result}
        return _blockwise(_finish, _read_again(seen), state, _read_again(self.mask), dtype=result, **options)

    # --- as `closed_forms` wants them ------------------------------------------------------------------------------

    def take(self, array: Any) -> Any:
        """A direction in float64, in the chunks of the logits."""
        return _aligned(array, self.x).astype(np.float64)

    def sum(self, values: Any) -> Any:
        """The sums along the axes, through a tree; keeps the axes."""
        return _tree(_sum_of, _sum_of, values, self.axes, np.dtype(np.float64)) if self.axes else values

    def masked(self, values: Any, fill: float) -> Any:
        """`values` with `fill` at masked entries."""
        if self.mask is None:
            return values
        return _blockwise(_filled, values, self.mask, dtype=values.dtype, fill=fill, held=values.dtype)

    def softmax(self) -> tuple[Any, Any]:
        """The probabilities and their logarithms."""
        return self.values(0.0, np.dtype(np.float64)), self.values(-np.inf, np.dtype(np.float64))

    def sigmoid(self) -> tuple[Any, Any]:
        """The probabilities of x and of -x."""
        wide = np.dtype(np.float64)
        return self.logistic(1.0, wide), self.logistic(-1.0, wide)

    def logistic(self, sign: float, result: Any) -> Any:
        """The probability of x or, with sign -1, of -x."""
        return _blockwise(_logistic, self.x, dtype=result, sign=sign, result=result)


def _direction(rows: _Rows, given: Any, argument: str) -> Any:
    sizes = _sizes(given.shape)
    fits = len(sizes) == len(rows.shape) and all(
        have is None or want is None or have == want for have, want in zip(sizes, rows.shape, strict=True)
    )
    if not fits:
        raise wrong_direction(argument, given.shape, rows.shape, "dask.array.broadcast_to")
    return rows.take(da.asarray(given))


class DaskBackend(Backend):
    """Dask; see `polylogit.extend.Backend`."""

    name = "dask"
    differentiates = False
    writable = False
    namespace = "dask.array"

    def __init__(self) -> None:
        self._pieces = 0

    def owns(self, cls: type) -> bool:
        """Dask arrays; for Dask's other collections the error says how to make arrays of them."""
        if not issubclass(cls, da.Array):
            message = (
                f"{cls.__module__}.{cls.__qualname__} is no Dask array; make one first: to_dask_array(lengths=True) of "
                "a data frame or a series, dask.array.from_delayed of a delayed value."
            )
            raise UnsupportedArrayError(message)
        return True

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """See `polylogit.softmax`."""
        rows = _Rows(x, axis, where, dtype)
        return rows.values(0.0, rows.result)

    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """See `polylogit.log_softmax`."""
        rows = _Rows(x, axis, where, dtype)
        return rows.values(-np.inf, rows.result)

    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """See `polylogit.sigmoid`."""
        rows = _Rows(x, (), None, dtype)
        return rows.logistic(1.0, rows.result)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A Dask array of these values, in chunks of Dask's choice."""
        array = value if isinstance(value, da.Array) else host_array(value)
        array = array if dtype is None else array.astype(_dtype(dtype))
        if isinstance(array, da.Array):
            return array
        chunks: Any = tuple(max(1, -(-size // self._pieces)) for size in array.shape) if self._pieces else "auto"
        return da.from_array(array, chunks=chunks)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values, computed."""
        return np.array(x.compute())

    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of NumPy, with bfloat16 if ml_dtypes is installed."""
        more = ("bfloat16",) if importlib.util.find_spec("ml_dtypes") is not None else ()
        return ("float64", "float32", "float16", *more)

    def prepare(self, device: str | None) -> None:
        """Split every axis into three chunks, so that the kit tests split rows; use one thread per process."""
        self._pieces = 3
        dask.config.set(scheduler="synchronous")

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By the closed forms."""
        rows, (pull, _) = closed_form(_Rows, function, x, kwargs)
        return function(x, **kwargs), lambda g: pull(_direction(rows, g, "cotangent")).astype(rows.result)

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By the closed forms."""
        rows, (_, push) = closed_form(_Rows, function, x, kwargs)
        return function(x, **kwargs), push(_direction(rows, tangent, "tangent")).astype(rows.result)
