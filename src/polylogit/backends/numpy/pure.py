"""softmax, log_softmax, sigmoid and the products of their derivatives in plain NumPy, for any dtype and layout.

It serves where the kernels in C were not built and for dtypes that they do not have, and says in a page what they do:

- Rows (the entries that are normalised together) are worked on in blocks that stay in the cache, as two-dimensional
  arrays in the dtype of the work, reduced along axis 1, or along axis 0 where neighbours belong to different rows. Rows
  too long for a block are gone over chunk by chunk: for the maximum, for the sum, for the results.
- exp(x - m), m the maximum: what rounding took from the difference is put back, since exp would multiply it.
- log_softmax is (x - m) - log1p(sum of the others / that of the maximum): both parts are negative, so that nothing
  cancels, and entries equal to the maximum are counted rather than computed.

It knows NumPy alone: axes arrive normalised, masks with the logits' shape, outputs allocated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.backends.numpy.threads import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    AnyArray = np.ndarray[Any, Any]
    AnyDType = np.dtype[Any]
    Box = tuple[int | slice, ...]

__all__ = ["combine", "forward"]

_BLOCK = 2**17  # bytes of a block in the dtype of the work: a call needs about eight
_LEVEL = 16  # terms that are added in a chain
_WIDE = 64  # columns that are worth a block of columns


def forward(
    operation: str,
    x: AnyArray,
    out: AnyArray,
    axes: tuple[int, ...],
    mask: AnyArray | None,
    work: AnyDType,
    kept: AnyArray | None = None,
    tangent: AnyArray | None = None,
) -> None:
    """An operation of `x` into `out`.

    Into `kept`, if it is given: what its derivative needs (the probabilities; of sigmoid the slope) or, with a tangent,
    its derivative in that direction.
    """
    if operation == "sigmoid":
        _Job((x, tangent), (out, kept), (), None, work, _sigmoid).run()
    else:
        job = _Job((x, tangent), (out, kept), axes, mask, work, _softmax if operation == "softmax" else _log_softmax)
        job.absent, job.filler = (-np.inf, 0.0), (0.0 if operation == "softmax" else -np.inf)
        job.run()


def combine(
    operation: str, g: AnyArray, p: AnyArray | None, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None
) -> None:
    """The product of a direction `g` and what was kept, `p`, computed in the dtype of `p`; `g` is 0 where masked out.

    "multiply": g p. "less_mean": g less its mean under p, and "softmax_pull" that times p. "log_softmax_pull": g less p
    times the sum of g.
    """
    _Job((g, p), (out, None), axes, mask, out.dtype if p is None else p.dtype, _PRODUCTS[operation]).run()


# --- blocks -----------------------------------------------------------------------------------------------------------


class _Job:
    """Arrays seen as rows, the kept axes first, and how to cut them."""

    absent: tuple[float, float] = (0.0, 0.0)  # what the inputs hold where the mask leaves out
    filler = 0.0  # and the result

    def __init__(
        self,
        inputs: tuple[AnyArray, AnyArray | None],
        outputs: tuple[AnyArray, AnyArray | None],
        axes: tuple[int, ...],
        mask: AnyArray | None,
        work: AnyDType,
        compute: Callable[[_Rows], None],
    ) -> None:
        x = inputs[0]
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        kept.sort(key=lambda axis: -abs(x.strides[axis]))
        order = [*kept, *axes]
        shapes = [tuple(x.shape[axis] for axis in group) or (1,) for group in (kept, axes)]
        self.kept, self.reduced = shapes
        # A view also where an axis was added for want of any.
        self.inputs, self.outputs, (self.mask,) = (
            [None if one is None else one.transpose(order).reshape(*self.kept, *self.reduced) for one in some]
            for some in (inputs, outputs, (mask,))
        )
        self.work, self.compute = work, compute
        self.length = math.prod(self.reduced)
        self.size = max(1, _BLOCK // work.itemsize)
        nearest = min((abs(x.strides[axis]) for axis in axes if x.shape[axis] > 1), default=0)
        self.axis = 0 if kept and abs(x.strides[kept[-1]]) < nearest and x.shape[kept[-1]] >= _WIDE else 1

    def run(self) -> None:
        """Compute all rows."""
        if not math.prod(self.kept) * self.length:
            return
        across = max(1, self.size // self.length, _WIDE if self.axis == 0 else 1)
        each(self._block, list(_boxes(self.kept, across)))

    def _block(self, box: Box) -> None:
        with np.errstate(all="ignore"):
            rows = _Rows(self, box)
            self.compute(rows)
            rows.forget()


class _Rows:
    """Some rows of a job, and passes over their chunks."""

    def __init__(self, job: _Job, box: Box) -> None:
        self.job, self.axis = job, job.axis
        slices = [(part, size) for part, size in zip(box, job.kept, strict=False) if isinstance(part, slice)]
        count = math.prod(len(range(*part.indices(size))) for part, size in slices)
        chunks = _boxes(job.reduced, max(1, job.size // count))
        self.chunks = [(*box, *(slice(None),) * (len(job.kept) - len(box)), *chunk) for chunk in chunks]
        self.leading = sum(isinstance(part, slice) for part in self.chunks[0][: len(job.kept)])
        self._found: list[dict[Any, Any]] = []
        self.load = self.once(self._load)

    def once(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which need not compute again what it has of the only chunk that there is."""
        found: dict[Any, Any] = {}
        self._found.append(found)

        def remembered(chunk: Box, number: int = 0) -> Any:
            if number not in found:
                found[number] = compute(chunk, number) if number else compute(chunk)
            return found[number]

        return remembered if len(self.chunks) == 1 else compute

    def forget(self) -> None:
        """Give back the memory, which cycles of references would keep."""
        for found in self._found:
            found.clear()

    def _load(self, chunk: Box, number: int = 0) -> AnyArray:
        """A chunk of an input as a block, not to be written to."""
        view = self.job.inputs[number]
        assert view is not None  # noqa: S101
        piece = view[chunk].astype(self.job.work, order="C")
        if self.job.mask is not None:
            np.copyto(piece, self.job.absent[number], where=~self.job.mask[chunk])
        rows = math.prod(piece.shape[: self.leading])
        return np.ascontiguousarray(piece.reshape(rows, -1).T) if self.axis == 0 else piece.reshape(rows, -1)

    def store(self, chunk: Box, block: AnyArray, number: int = 0) -> None:
        """A block to where it belongs; what the mask leaves out gets what it gets."""
        view = self.job.outputs[number]
        assert view is not None  # noqa: S101
        target = view[chunk]
        np.copyto(target, (block.T if self.axis == 0 else block).reshape(target.shape), casting="unsafe")
        if self.job.mask is not None:
            hidden = ~self.job.mask[chunk]
            np.copyto(target, 0.0 if number else self.job.filler, where=hidden, casting="unsafe")

    def total(self, numbers: Callable[[Box], AnyArray]) -> AnyArray:
        """The sum of each row, over all chunks; what rounding takes from a sum of sums is put back (Neumaier)."""
        total, lost = np.zeros((), self.job.work), np.zeros((), self.job.work)
        for chunk in self.chunks:
            part = _sum(numbers(chunk), self.axis)
            after = total + part
            back = after - total
            lost = lost + ((total - (after - back)) + (part - back))
            total = after
        return np.asarray(total + np.where(np.isfinite(lost), lost, 0))


def _boxes(shape: tuple[int, ...], target: int) -> Iterator[Box]:
    """Boxes over `shape` of about `target` elements: single indices, a slice of one axis, whole trailing axes."""
    axis, whole = len(shape) - 1, 1
    while axis and whole * shape[axis] <= target:
        whole *= shape[axis]
        axis -= 1
    step = max(1, target // whole)
    for index in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*index, slice(start, start + step), *(slice(None),) * (len(shape) - axis - 1))


def _sum(block: AnyArray, axis: int) -> AnyArray:
    """The sum of each row; the error grows as the logarithm of the length."""
    if axis == 1:
        return np.asarray(np.add.reduce(block, axis=1, keepdims=True))
    # Along axis 0 NumPy adds row after row: in levels the chains stay short.
    over = []
    while (length := len(block)) > _LEVEL:
        step = length // _LEVEL
        over.append(block[step * _LEVEL :])
        block = np.add.reduce(block[: step * _LEVEL].reshape(_LEVEL, step, -1), axis=0)
    total = np.add.reduce(block, axis=0, keepdims=True)
    for part in over:
        total = total + np.add.reduce(part, axis=0, keepdims=True)
    return np.asarray(total)


# --- the operations ---------------------------------------------------------------------------------------------------


def _terms(x: AnyArray, m: AnyArray) -> AnyArray:
    """exp(x - m), with what rounding took from the difference (Knuth's TwoSum), if it took anything."""
    distance = x - m
    back = distance - x
    lost = (x - (distance - back)) - (m + back)
    y = np.exp(distance, out=distance)
    # Infinite distances have no error but NaN; their terms are 0.
    np.multiply(np.fmax(lost, -1, out=lost), y, out=lost)
    return np.asarray(np.add(y, lost, out=y))


def _maximum(rows: _Rows) -> AnyArray:
    """The maximum of each row: NaN where there is one, or where there is nothing else than -inf."""
    top = None
    for chunk in rows.chunks:
        part = np.maximum.reduce(rows.load(chunk), axis=rows.axis, keepdims=True)
        top = part if top is None else np.maximum(top, part)
    assert top is not None  # noqa: S101
    return np.asarray(top + (top - top))


def _softmax(rows: _Rows) -> None:
    top = _maximum(rows)
    terms = rows.once(lambda chunk: _terms(rows.load(chunk), top))
    total = rows.total(terms)
    _along(rows, lambda chunk: (_share(terms(chunk), total),) * 2)


def _log_softmax(rows: _Rows) -> None:
    ties: Any = 0

    def others(chunk: Box) -> AnyArray:
        nonlocal ties
        x = rows.load(chunk)
        tied = x == top
        ties = ties + np.count_nonzero(tied, axis=rows.axis, keepdims=True)
        y = _terms(x, top)
        np.copyto(y, 0, where=tied)
        return y

    top = _maximum(rows)
    below = rows.total(others)
    logarithm = np.log1p(below + (ties - 1))

    def values(chunk: Box) -> tuple[AnyArray, AnyArray]:
        x = rows.load(chunk)
        p = _share(_terms(x, top), below + ties) if rows.job.outputs[1] is not None else x
        return (x - top) - logarithm, p

    _along(rows, values)


def _share(terms: AnyArray, total: AnyArray) -> AnyArray:
    return np.asarray(np.divide(terms, total.astype(terms.dtype, copy=False), out=terms))


def _along(rows: _Rows, values: Callable[[Box], tuple[AnyArray, AnyArray]]) -> None:
    """Store values and, as asked, the probabilities or the derivative in the direction of the second input."""
    tangent = rows.job.inputs[1] is not None
    values = rows.once(values)
    mean: Any = 0
    if tangent:
        mean = rows.total(lambda chunk: values(chunk)[1] * rows.load(chunk, 1))
    for chunk in rows.chunks:
        value, p = values(chunk)
        rows.store(chunk, value)
        if rows.job.outputs[1] is not None:
            pushed = rows.load(chunk, 1) - mean if tangent else p
            rows.store(chunk, pushed * p if tangent and value is p else pushed, 1)


def _sigmoid(rows: _Rows) -> None:
    """Of both signs by exp(-|x|), which does not overflow: z / (1 + z), or 1 less that, and the product of the two."""
    for chunk in rows.chunks:
        x = rows.load(chunk)
        z = np.exp(-np.abs(x, dtype=np.promote_types(x.dtype, np.float64)))  # NumPy's of float32 errs by 2.3 ulp
        q = z / (1 + z)
        rows.store(chunk, np.where(x < 0, q, 1 / (1 + z)))
        if rows.job.outputs[1] is not None:
            slope = q / (1 + z)
            rows.store(chunk, slope if rows.job.inputs[1] is None else slope * rows.load(chunk, 1), 1)


def _product(rows: _Rows, mean: Any, times: bool) -> None:
    for chunk in rows.chunks:
        difference = rows.load(chunk) - mean
        rows.store(chunk, difference * rows.load(chunk, 1) if times else difference)


def _mean(rows: _Rows) -> AnyArray:
    return rows.total(lambda chunk: rows.load(chunk) * rows.load(chunk, 1))


def _log_softmax_pull(rows: _Rows) -> None:
    total = rows.total(rows.load)
    for chunk in rows.chunks:
        rows.store(chunk, rows.load(chunk) - rows.load(chunk, 1) * total)


_PRODUCTS: dict[str, Callable[[_Rows], None]] = {
    "multiply": lambda rows: _product(rows, 0, times=True),
    "less_mean": lambda rows: _product(rows, _mean(rows), times=False),
    "softmax_pull": lambda rows: _product(rows, _mean(rows), times=True),
    "log_softmax_pull": _log_softmax_pull,
}
