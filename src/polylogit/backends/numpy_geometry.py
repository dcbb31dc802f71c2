"""How the NumPy kernels walk through an array: which elements form a row, in what order, in blocks of which size.

A problem is one or more arrays of one shape and the axes that are reduced. It is seen as rows (the entries that are
normalised together): its axes are sorted by memory and merged, those that are kept first, those that are reduced last.
It also holds the threads, since blocks are what they share. It knows NumPy, and nothing of what is computed.
"""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["BLOCK", "AnyArray", "AnyDType", "Box", "Chunk", "Problem", "as_block", "each", "set_num_threads"]

AnyArray: TypeAlias = np.ndarray[Any, Any]
AnyDType: TypeAlias = np.dtype[Any]
Box: TypeAlias = tuple[int | slice, ...]

BLOCK = 512 * 1024  # bytes: two or three blocks fit the second-level cache, and a call's overhead is lost in them
COLUMNS = 640 * 1024  # the same of columns, whose runs in memory are to be long; four blocks stay below 4 MiB
LONGER = 4  # times as large are the blocks of threads: each call ends in a wait for the interpreter
ROWS = 2**15  # at most in a block, of each of which there are several numbers in float64
WIDE = 256  # columns that are to lie side by side in a block that holds them whole
DEEP = 8  # rows in a chunk of long columns: as few as do not lose in the work for each chunk, for the longest runs


class Chunk(NamedTuple):
    """A part of the reduced axes: of which views, which box, and how often each row occurs side by side."""

    views: list[AnyArray | None]
    box: Box
    repeats: int = 1


class Problem:
    """Arrays of one shape seen as rows, and how to cut them.

    Attributes
    ----------
    views : list of array or None
        The arrays with the kept axes first and the reduced axes last, each group sorted by memory and merged.
    kept, reduced : tuple of int
        The sizes of the two groups.
    count, length : int
        How many rows, and how long they are.
    block : int
        How many elements make a block.
    whole : bool
        Whether a block holds whole rows.
    columns : bool
        Whether blocks are class-major: the reduced axis first, and neighbours belonging to different rows.
    """

    def __init__(self, arrays: Sequence[AnyArray | None], axes: tuple[int, ...], itemsize: int) -> None:
        present = [array for array in arrays if array is not None]
        first = present[0]
        groups = [
            _merged([axis for axis in range(first.ndim) if (axis in axes) is reduced], present)
            for reduced in (False, True)
        ]
        order = [axis for group in groups for run in group for axis in run]
        self.kept, self.reduced = (
            tuple(math.prod(first.shape[axis] for axis in run) for run in group) or (1,) for group in groups
        )
        # Merged axes reshape to a view: `_merged` has looked at every array's strides.
        shape = (*self.kept, *self.reduced)
        self.views = [None if array is None else array.transpose(order).reshape(shape) for array in arrays]
        self.count, self.length = math.prod(self.kept), math.prod(self.reduced)
        self.block = max(1, BLOCK // itemsize)
        self._choose()
        threads = get_num_threads()
        long = self.whole and threads > 1 and self.count * self.length >= 2 * threads * LONGER * self.block
        self.room = self.block * LONGER if long else self.block

    def _choose(self) -> None:
        strides = next(view for view in self.views if view is not None).strides
        neighbours = self.kept[-1] > 1 and abs(strides[len(self.kept) - 1]) < abs(strides[-1])
        if not neighbours:
            self.columns = False
            self.whole = self.length <= self.block
            return
        # Of columns, as much as one block holds must be wide: memory is slow in short runs, and so are inner loops.
        columns = self.block * COLUMNS // BLOCK
        self.whole = self.length * WIDE <= columns
        # Copying turns a few whole columns into rows; chunks of them would be too small for what a chunk costs.
        turn = not self.whole and self.length * self.kept[-1] <= self.block
        self.columns, self.whole = not turn, self.whole or turn
        if self.columns:
            self.block = columns

    def cut(self) -> tuple[list[Box], list[Chunk]]:
        """The kept axes in boxes and the reduced ones in chunks; a single chunk when whole rows fit a block."""
        if self.whole:
            whole = (slice(None),) * len(self.reduced)
            rows = max(1, self.room // self.length)
            return list(_boxes(self.kept, rows if self.length == 1 else min(rows, ROWS))), [Chunk(self.views, whole)]
        width = min(self.kept[-1], max(1, self.block // DEEP)) if self.columns else 1
        boxes = list(_boxes(self.kept, width))
        repeats = min(self.block // (DEEP * width), self.length)
        if self.columns and width == self.kept[-1] and repeats > 1 and self._is_one_run():
            return boxes, self._tiled(repeats)
        return boxes, [Chunk(self.views, box) for box in _boxes(self.reduced, max(1, self.block // width))]

    def _is_one_run(self) -> bool:
        """Whether the last kept axis and the one reduced axis are contiguous together, the kept axis within."""
        size = self.kept[-1]
        return len(self.reduced) == 1 and all(
            view is None or view.strides[-1] == size * view.strides[-2] for view in self.views
        )

    def _tiled(self, repeats: int) -> list[Chunk]:
        """Chunks in which few columns lie side by side several times, so that inner loops are long."""
        size = self.kept[-1]
        whole = self.length // repeats
        main: list[AnyArray | None] = []
        rest: list[AnyArray | None] = []
        for view in self.views:
            if view is None:
                main.append(None)
                rest.append(None)
                continue
            turned = view.swapaxes(-1, -2)
            wide = turned[..., : whole * repeats, :].reshape(*self.kept[:-1], whole, repeats * size)
            main.append(wide.swapaxes(-1, -2))
            rest.append(turned[..., whole * repeats :, :].swapaxes(-1, -2))
        step = max(1, self.block // (repeats * size))
        chunks = [Chunk(main, box, repeats) for box in _boxes((whole,), step)]
        if self.length > whole * repeats:
            chunks.append(Chunk(rest, (slice(None),)))
        return chunks


def as_block(x: AnyArray, axis: int) -> tuple[AnyArray, int] | None:
    """A small contiguous array as one block, rows first or class-major, and its axis; None for all else."""
    if not (0 < x.nbytes <= BLOCK and x.flags.c_contiguous):
        return None
    length = x.shape[axis]
    if axis in (-1, x.ndim - 1):
        return x.reshape(-1, length), 1
    if axis in (0, -x.ndim) and length < x.size and length * WIDE * x.itemsize <= COLUMNS:
        return x.reshape(length, -1), 0
    return None


def _merged(axes: list[int], arrays: list[AnyArray]) -> list[list[int]]:
    """Axes by descending stride, in runs that are one axis to every array; axes of size 1 are left out."""
    first = arrays[0]
    # Size-1 axes ride along in front of any run: a transpose needs every axis.
    idle = [axis for axis in axes if first.shape[axis] == 1]
    busy = sorted((axis for axis in axes if first.shape[axis] != 1), key=lambda axis: -abs(first.strides[axis]))
    runs: list[list[int]] = []
    for axis in busy:
        if runs and all(array.strides[runs[-1][-1]] == array.strides[axis] * array.shape[axis] for array in arrays):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if idle:
        runs[:1] = [[*idle, *(runs[0] if runs else [])]]
    return runs


def _boxes(shape: tuple[int, ...], target: int) -> Iterator[Box]:
    """Boxes over `shape`: whole trailing axes, a slice of one axis, single indices of those before it."""
    axis = len(shape) - 1
    whole = 1  # elements of the trailing axes that are taken whole
    if shape[axis] * 4 < target:
        while axis and whole * shape[axis] <= target:
            whole *= shape[axis]
            axis -= 1
    step = max(1, target // whole)
    rest = (slice(None),) * (len(shape) - axis - 1)
    for index in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*index, slice(start, start + step), *rest)


# --- threads ---------------------------------------------------------------------------------------------------------

_threads: int | None = None  # None until the environment has been read
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def set_num_threads(count: int, /) -> None:
    """Run large NumPy arrays in blocks on this many threads; one by default.

    The results have the same bits with any number.

    Parameters
    ----------
    count : int
        At least 1. The environment variable ``POLYLOGIT_NUM_THREADS`` sets it for the whole process.

    Examples
    --------
    >>> import polylogit
    >>> polylogit.set_num_threads(1)
    """
    global _threads, _pool  # noqa: PLW0603  one pool a process
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        message = f"set_num_threads was given {count!r}; the number of threads is an integer of at least 1."
        raise ValueError(message)
    with _lock:
        if count != _threads and _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None
        _threads = count


def get_num_threads() -> int:
    """On how many threads large arrays run."""
    if _threads is None:
        given = os.environ.get("POLYLOGIT_NUM_THREADS", "1")
        if not given.isdecimal() or int(given) < 1:
            message = f"POLYLOGIT_NUM_THREADS is {given!r}; set it to an integer of at least 1, or unset it."
            raise ValueError(message)
        set_num_threads(int(given))
    return _threads or 1


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock held."""
    global _pool, _lock  # noqa: PLW0603
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def each(function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
    """``[function(task) for task in tasks]``, silent about floating-point exceptions, on the threads if there are any.

    What a task computes does not depend on how many threads there are.
    """
    count = min(get_num_threads(), len(tasks))
    if count <= 1:
        return _span(function, tasks)
    global _pool  # noqa: PLW0603
    size = -(-len(tasks) // count)
    spans = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_threads, thread_name_prefix="polylogit")
        # Submitted under the lock: a pool that set_num_threads shuts down takes no more work.
        futures = [_pool.submit(_span, function, span) for span in spans[1:]]
    results = _span(function, spans[0])
    for future in futures:
        results += future.result()
    return results


def _span(function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        # Where a number for each row is broadcast along it, ufuncs copy it out into buffers of 8192, unless the inner
        # loop is as long as the buffer already; the copies take as long as the arithmetic. Leaving errstate undoes it.
        np.setbufsize(256)
        return [function(task) for task in tasks]
