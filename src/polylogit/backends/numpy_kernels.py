"""How the NumPy backend's arithmetic goes over an array: kernels as passes over blocks, in the cache, on threads.

A kernel is a few passes over cells (a block of rows, or a chunk of rows that are too long for one). Each pass leaves a
number for each row, the maximum or a sum, for the next. Rows that fit a block go through all passes at once; for longer
ones each pass goes over all chunks. It knows NumPy and `numpy_geometry`; what is computed is in `numpy_operations`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.backends.numpy_arithmetic import across
from polylogit.backends.numpy_geometry import AnyArray, AnyDType, Chunk, Problem, each, set_num_threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from polylogit.backends.numpy_arithmetic import Maximum, MaximumAndTotal, Total
    from polylogit.backends.numpy_geometry import Box

    Kind: TypeAlias = type[Maximum] | type[Total] | type[MaximumAndTotal]
    Step: TypeAlias = Callable[["Cell"], Any]
    Sweep: TypeAlias = Callable[[Step, Kind], Any]

__all__ = ["Cell", "Kernel", "set_num_threads"]

_GROUPS = 16  # chunks are summed in at most this many groups, each in its order, whatever the number of threads
_ALIGNMENT = 64

# Blocks to work in, lent and taken back rather than kept for each thread: a finalizer or a signal handler that calls
# softmax in the middle of a softmax gets blocks of its own. Lists are safe under threads.
_spare: list[AnyArray] = []


def _lend(size: int) -> AnyArray:
    try:
        buffer = _spare.pop()
    except IndexError:
        buffer = np.empty(size, np.uint8)
    return buffer if buffer.size >= size else np.empty(size, np.uint8)


def _take_back(buffer: AnyArray) -> None:
    if len(_spare) < 4:
        _spare.append(buffer)


class Cell:
    """One block: its inputs, where the result goes, and whether what is written there is still there in a later pass.

    Blocks are two-dimensional, rows first, or class-major (the reduced axis first). What is contiguous and of the right
    dtype is worked on where it is; the rest is copied to and from a buffer.
    """

    def __init__(self, kernel: Kernel, box: Box, chunk: Chunk, buffer: AnyArray, stays: bool) -> None:
        self._kernel, self._buffer = kernel, buffer
        if chunk.repeats > 1:
            box = (*box[:-1], slice(None))
        self._index = (*box, *chunk.box)
        self._rows = sum(isinstance(part, slice) for part in box)  # how many of a piece's axes are kept ones
        self.repeats = chunk.repeats
        *inputs, out, mask, keep = chunk.views
        self.mask = None if mask is None else self._piece(mask)
        self.inputs = [self._load(view, number) for number, view in enumerate(inputs) if view is not None]
        self._target = self._piece(out)
        direct = self._direct(self._target)
        self.out = self._target if direct else self._block(len(inputs), self.inputs[0].shape)
        self.stays = stays or direct
        self.keep = None if keep is None else self._piece(keep)
        self.place: AnyArray | None = None  # of the maxima, once they have been looked for

    def _piece(self, view: Any) -> AnyArray:
        piece: AnyArray = view[self._index]
        if not self._kernel.columns:
            return piece
        return piece.transpose(*range(self._rows, piece.ndim), *range(self._rows))

    def _direct(self, piece: AnyArray) -> bool:
        return piece.ndim == 2 and piece.dtype == self._kernel.work and piece.strides[1] == piece.itemsize

    def _block(self, number: int, shape: tuple[int, ...]) -> AnyArray:
        start = number * self._kernel.share
        size = math.prod(shape) * self._kernel.work.itemsize
        return self._buffer[start : start + size].view(self._kernel.work).reshape(shape)

    def _load(self, view: AnyArray, number: int) -> AnyArray:
        piece = self._piece(view)
        masked = self.mask is not None and number < len(self._kernel.absent)
        if self._direct(piece) and not masked:
            return piece
        loaded = self._block(number, piece.shape)
        np.copyto(loaded, piece, casting="unsafe")
        if masked:
            np.copyto(loaded, self._kernel.absent[number], where=~self.mask)  # type: ignore[operator]
        first = piece.ndim - self._rows if self._kernel.columns else self._rows
        return loaded.reshape(math.prod(piece.shape[:first]), -1)

    def spare(self, number: int = 0) -> AnyArray:
        """A block to work in that is none of the others."""
        return self._block(len(self.inputs) + 1 + number, self.inputs[0].shape)

    def across(self, ufunc: np.ufunc, block: AnyArray, rows: AnyArray, out: AnyArray) -> AnyArray:
        """``ufunc(block, rows, out=out)``, where `rows` has a number for each row."""
        return across(ufunc, block, rows if self.repeats == 1 else np.tile(rows, self.repeats), out, self._kernel.axis)

    def put(self, target: AnyArray | None, block: AnyArray) -> None:
        """Copy a block to where it belongs."""
        if target is not None:
            np.copyto(target, block.reshape(target.shape), casting="unsafe")

    def finish(self) -> None:
        """Put the result where it belongs; what the mask leaves out gets what it gets."""
        if self.out is not self._target:
            self.put(self._target, self.out)
        if self.mask is not None:
            hidden = ~self.mask
            np.copyto(self._target, self._kernel.filler, where=hidden, casting="unsafe")
            if self.keep is not None:
                np.copyto(self.keep, 0, where=hidden)


class Whole(Cell):
    """A contiguous block of whole rows that is all there is, so that there is nothing to find out."""

    def __init__(self, x: AnyArray, axis: int) -> None:
        self.inputs, self.out, self._axis = [x], np.empty_like(x), axis
        self.keep, self.repeats, self.stays = None, 1, True
        self._buffer = _lend(x.nbytes)

    def spare(self, number: int = 0) -> AnyArray:
        """A block to work in."""
        assert not number  # noqa: S101
        return self._buffer[: self.out.nbytes].view(self.out.dtype).reshape(self.out.shape)

    def across(self, ufunc: np.ufunc, block: AnyArray, rows: AnyArray, out: AnyArray) -> AnyArray:
        """``ufunc(block, rows, out=out)``, where `rows` has a number for each row."""
        return across(ufunc, block, rows, out, self._axis)

    def finish(self) -> None:
        """Give back what was lent."""
        _take_back(self._buffer)


class Kernel(ABC):
    """Passes over cells, and the numbers for each row that they leave."""

    absent: tuple[float, ...] = (-np.inf, 0.0)  # what the first inputs hold where the mask leaves out
    filler: float = 0.0  # what the result holds there
    blocks = 2  # that it works in, with the result's, beside the inputs'

    def __init__(
        self,
        inputs: list[AnyArray],
        out: AnyArray,
        axes: tuple[int, ...],
        mask: AnyArray | None,
        work: AnyDType,
        keep: AnyArray | None = None,
    ) -> None:
        self.work = work
        self.problem = Problem([*inputs, out, mask, keep], axes, work.itemsize)
        self.columns = self.problem.columns
        self.axis, self.length = 0 if self.columns else 1, self.problem.length
        elements = min(self.problem.room, self.problem.count * self.problem.length)
        self.share = -(-elements * work.itemsize // _ALIGNMENT) * _ALIGNMENT
        self._size = self.share * (len(inputs) + self.blocks)

    @classmethod
    def of_block(cls, block: AnyArray, axis: int) -> AnyArray:
        """The result for a block that `as_block` has made, in a context as `each` makes it."""
        kernel = cls.__new__(cls)
        kernel.axis, kernel.length = axis, block.shape[axis]
        whole = Whole(block, axis)
        kernel.solve_whole(whole)
        whole.finish()
        return whole.out

    @abstractmethod
    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        """Compute some rows: ``sweep(step, total)`` goes over their cells and gathers what `step` returns.

        ``last(step)`` goes over them once more; `step` leaves the result in the cell.
        """

    def solve_whole(self, cell: Cell) -> None:
        """Compute the rows of a cell that holds them whole, and leave the result in it."""
        self.solve(lambda step, _: step(cell), lambda step: step(cell))

    def run(self) -> None:
        """Compute all rows."""
        problem = self.problem
        if not problem.count * problem.length:
            return
        with np.errstate(all="ignore"):
            self._run(*problem.cut())

    def _run(self, boxes: list[Box], chunks: list[Chunk]) -> None:
        # Where rows lie side by side several times, what passes leave of them has to be gathered even from one chunk.
        self.chunked = len(chunks) > 1 or chunks[0].repeats > 1
        if not self.chunked:
            each(lambda box: self._in_cache(box, chunks[0]), boxes)
        elif len(boxes) >= 2 * _GROUPS:
            each(lambda box: self._in_chunks(box, chunks, _serially), boxes)
        else:
            for box in boxes:
                self._in_chunks(box, chunks, each)

    def _in_cache(self, box: Box, chunk: Chunk) -> None:
        buffer = _lend(self._size)
        cell = Cell(self, box, chunk, buffer, stays=True)
        self.solve_whole(cell)
        cell.finish()
        _take_back(buffer)

    def _in_chunks(self, box: Box, chunks: list[Chunk], over: Callable[..., list[Any]]) -> None:
        size = -(-len(chunks) // _GROUPS)
        groups = [chunks[start : start + size] for start in range(0, len(chunks), size)]

        def visit(group: list[Chunk], step: Step, use: Callable[[Cell, Any], None]) -> None:
            buffer = _lend(self._size)
            for chunk in group:
                cell = Cell(self, box, chunk, buffer, stays=False)
                use(cell, step(cell))
            _take_back(buffer)

        def sweep(step: Step, kind: Kind) -> Any:
            def gather(group: list[Chunk]) -> Any:
                part = kind()
                visit(group, step, lambda cell, value: part.add(value, cell.repeats))
                return part

            total = kind()
            for part in over(gather, groups):
                total.merge(part)
            return total.value()

        def last(step: Step) -> None:
            over(lambda group: visit(group, step, lambda cell, _: cell.finish()), groups)

        self.solve(sweep, last)


def _serially(function: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
    """As `each`, on this thread, which is one of its already."""
    return [function(task) for task in tasks]
