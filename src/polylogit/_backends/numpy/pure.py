"""softmax, log_softmax, sigmoid and the products of their derivatives in plain NumPy, for any dtype and layout.

Used if the kernels in C were not built, and for dtypes that they lack. It also documents what they compute:

- Rows (the entries normalised together) are processed in blocks that fit the cache: two-dimensional, in the working
  dtype, reduced along axis 1, or along axis 0 if neighbours belong to different rows. Long rows are cut into chunks.
- softmax is exp(x - m) divided by its sum, where m is the maximum.
- log_softmax is (x - m) - log1p(s), where s is that sum without one entry at the maximum: both parts are negative, so
  nothing cancels. If s is small, the rounding errors of the differences are added back, because exp multiplies them.

Knows only NumPy: axes arrive normalised, masks in the shape of the logits, and outputs allocated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._backends.numpy.threads import each
from polylogit._operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    AnyArray = np.ndarray[Any, Any]
    AnyDType = np.dtype[Any]
    Box = tuple[int | slice, ...]
    Axes = tuple[int, ...]
    Maybe = AnyArray | None
    Compute = Callable[["_Rows"], None]
    Elementwise = Callable[[AnyArray, AnyDType], AnyArray]

__all__ = ["combine", "forward"]

_BLOCK = 3 * 2**16  # bytes of a block in the dtype of the work: a call needs up to sixteen
_LEVEL = 16  # terms that are added in a chain
_WIDE = 64  # columns that are worth a block of columns
_SMALL = 0.125  # sums without the maximum in which the rounding of distances shows


def forward(
    operation: str, x: AnyArray, out: AnyArray, axes: Axes, mask: Maybe, work: AnyDType, kept: Maybe = None,
    tangent: Maybe = None
) -> None:  # fmt: skip
    """An operation of `x` into `out`; into `kept` its derivative along a tangent or, without one, what those need."""
    job = _Job((x, tangent), (out, kept), axes, mask, work, _FORWARD[operation])
    job.absent, job.filler = (-np.inf, 0.0), OPERATIONS[operation].masked
    if job.length == 1 and OPERATIONS[operation].takes_axis:
        job.compute = _alone
    job.run()


def combine(operation: str, g: AnyArray, p: Maybe, out: AnyArray, axes: Axes, mask: Maybe) -> None:
    """A product of a direction `g`, 0 where masked, and the kept values `p`, computed in the dtype of `p`.

    "multiply": g p. "less_mean": g minus its mean under p. "softmax_pull": that times p. "log_softmax_pull": g - p
    sum(g).
    """
    _Job((g, p), (out, None), axes, mask, out.dtype if p is None else p.dtype, _PRODUCTS[operation]).run()


# --- blocks -----------------------------------------------------------------------------------------------------------


class _Job:
    """Arrays seen as rows, the kept axes first, and how to cut them."""

    absent = (0.0, 0.0)  # what the inputs hold where the mask leaves out
    filler = 0.0  # and the result

    def __init__(self, inputs: Any, outputs: Any, axes: Axes, mask: Maybe, work: AnyDType, compute: Compute) -> None:
        x = inputs[0]
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        kept.sort(key=lambda axis: -abs(x.strides[axis]))
        order = [*kept, *axes]
        self.kept, self.reduced = (tuple(x.shape[axis] for axis in group) or (1,) for group in (kept, axes))
        # A view also where an axis was added for want of any.
        views: list[list[Any]] = [
            [None if one is None else one.transpose(order).reshape(*self.kept, *self.reduced) for one in some]
            for some in (inputs, outputs, (mask,))
        ]
        self.inputs, self.outputs, (self.mask,) = views
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
            for found in rows.found:  # cycles of references would keep the memory
                found.clear()


class _Rows:
    """Some rows of a job, with passes over their chunks."""

    def __init__(self, job: _Job, box: Box) -> None:
        self.job, self.axis = job, job.axis
        slices = [(part, size) for part, size in zip(box, job.kept, strict=False) if isinstance(part, slice)]
        self.count = math.prod(len(range(*part.indices(size))) for part, size in slices)
        chunks = _boxes(job.reduced, max(1, job.size // self.count))
        self.chunks = [(*box, *(slice(None),) * (len(job.kept) - len(box)), *chunk) for chunk in chunks]
        self.leading = sum(isinstance(part, slice) for part in self.chunks[0][: len(job.kept)])
        self.top: AnyArray  # of each row, once it has been looked for
        self.found: list[dict[Any, Any]] = []
        self.load = self.once(self._load)

    def once(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """The function, memoised if there is only one chunk."""
        found: dict[Any, Any] = {}
        self.found.append(found)

        def remembered(chunk: Box, number: int = 0) -> Any:
            if number not in found:
                found[number] = compute(chunk, number) if number else compute(chunk)
            return found[number]

        return remembered if len(self.chunks) == 1 else compute

    def _load(self, chunk: Box, number: int = 0) -> AnyArray:
        """A chunk of an input as a block, not to be written to."""
        piece = self._turned(self.job.inputs[number][chunk])
        if self.job.mask is None:
            loaded = np.ascontiguousarray(piece, self.job.work)
        else:
            loaded = piece.astype(self.job.work, order="C")
            np.copyto(loaded, self.job.absent[number], where=~self._turned(self.job.mask[chunk]))
        return loaded.reshape((-1, self.count) if self.axis == 0 else (self.count, -1))

    def _turned(self, piece: AnyArray) -> AnyArray:
        """The reduced axes first, where blocks are of columns."""
        return piece.transpose(*range(self.leading, piece.ndim), *range(self.leading)) if self.axis == 0 else piece

    def store(self, chunk: Box, block: AnyArray, number: int = 0) -> None:
        """Store a block in its place, with the filler at masked entries."""
        target = self._turned(self.job.outputs[number][chunk])
        np.copyto(target, block.reshape(target.shape), casting="unsafe")
        if self.job.mask is not None:
            hidden = ~self._turned(self.job.mask[chunk])
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
    over: Any = 0
    while (length := len(block)) > _LEVEL:
        step = length // _LEVEL
        over = over + np.add.reduce(block[step * _LEVEL :], axis=0, keepdims=True)
        block = np.add.reduce(block[: step * _LEVEL].reshape(_LEVEL, step, -1), axis=0)
    return np.asarray(np.add.reduce(block, axis=0, keepdims=True) + over)


# --- the operations ---------------------------------------------------------------------------------------------------


def _careful(x: AnyArray, m: AnyArray) -> AnyArray:
    """exp(x - m), with what rounding took from the difference (Knuth's TwoSum)."""
    distance = x - m
    back = distance - x
    lost = (x - (distance - back)) - (m + back)
    y = np.exp(distance, out=distance)
    # Infinite distances have no error but NaN; their terms are 0.
    return np.asarray(np.add(y, np.fmax(lost, -1, out=lost) * y, out=y))


def _distances(rows: _Rows) -> Callable[[Box], AnyArray]:
    """x minus the maximum of its row: NaN if that is NaN, or if the row has only -inf."""
    parts = [np.maximum.reduce(rows.load(chunk), axis=rows.axis, keepdims=True) for chunk in rows.chunks]
    top = parts[0] if len(parts) == 1 else np.maximum.reduce(parts)
    rows.top = top + (top - top)
    return rows.once(lambda chunk: rows.load(chunk) - rows.top)


def _alone(rows: _Rows) -> None:
    """softmax and log_softmax of rows of one element; an element that is not finite gives NaN."""
    nothing = rows.once(lambda chunk: rows.load(chunk) - rows.load(chunk))
    _along(rows, lambda chunk: (nothing(chunk) + (0 if rows.job.filler else 1), nothing(chunk) + 1))


def _softmax(rows: _Rows) -> None:
    distances = _distances(rows)
    terms = rows.once(lambda chunk: np.exp(d := distances(chunk), out=d))
    total = rows.total(terms)
    _along(rows, lambda chunk: (np.divide(t := terms(chunk), total, out=t), t))


def _log_softmax(rows: _Rows) -> None:
    distances = _distances(rows)
    ties: Any = 0

    def others(chunk: Box, careful: bool) -> AnyArray:
        nonlocal ties
        d = distances(chunk)
        y = _careful(rows.load(chunk), rows.top) if careful else np.exp(d)
        places = np.flatnonzero(d == 0)
        y.reshape(-1)[places] = 0
        if not careful:
            row = places % d.shape[1] if rows.axis == 0 else places // d.shape[1]
            ties = ties + np.bincount(row, minlength=rows.count).reshape(rows.top.shape).astype(d.dtype)
        return y

    below = rows.total(lambda chunk: others(chunk, False))
    if (small := below < _SMALL).any():
        below = np.where(small, rows.total(lambda chunk: others(chunk, True)), below)
    logarithm = np.log1p(below + (ties - 1))

    def values(chunk: Box) -> tuple[AnyArray, AnyArray]:
        d = distances(chunk)
        p = np.exp(d) / (below + ties) if rows.job.outputs[1] is not None else d
        return np.subtract(d, logarithm, out=d), p

    _along(rows, values)


def _along(rows: _Rows, values: Callable[[Box], tuple[AnyArray, AnyArray]]) -> None:
    """Store the values and, if needed, the probabilities or the derivative along the second input."""
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


def _elementwise(value: Elementwise, slope: Elementwise) -> Compute:
    """Store the values and, if needed, the slopes or the derivative along the second input.

    Both functions compute in the given dtype, at least float64: NumPy's float32 exp has errors of 2.3 ulp.
    """

    def compute(rows: _Rows) -> None:
        wide = np.promote_types(rows.job.work, np.float64)
        for chunk in rows.chunks:
            x = rows.load(chunk)
            rows.store(chunk, value(x, wide))
            if rows.job.outputs[1] is not None:
                found = slope(x, wide)
                rows.store(chunk, found if rows.job.inputs[1] is None else found * rows.load(chunk, 1), 1)

    return compute


def _sigmoid(x: AnyArray, wide: AnyDType) -> AnyArray:
    """1 / (1 + exp(-x))."""
    y = np.negative(x, dtype=wide)
    np.add(np.exp(y, out=y), 1, out=y)
    return np.reciprocal(y, out=y)


def _sigmoid_slope(x: AnyArray, wide: AnyDType) -> AnyArray:
    """z / (1 + z)^2 with z = exp(-|x|)."""
    z = np.exp(-np.abs(x, dtype=wide))
    return np.asarray(z / (1 + z) / (1 + z))


def _product(rows: _Rows, *, mean: bool, times: bool) -> None:
    """g, less its mean under p, times p."""
    less = rows.total(lambda chunk: rows.load(chunk) * rows.load(chunk, 1)) if mean else 0
    for chunk in rows.chunks:
        difference = rows.load(chunk) - less
        rows.store(chunk, difference * rows.load(chunk, 1) if times else difference)


def _log_softmax_pull(rows: _Rows) -> None:
    total = rows.total(rows.load)
    for chunk in rows.chunks:
        rows.store(chunk, rows.load(chunk) - rows.load(chunk, 1) * total)


_FORWARD: dict[str, Compute] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sigmoid": _elementwise(_sigmoid, _sigmoid_slope),
}
_PRODUCTS: dict[str, Compute] = {
    "multiply": lambda rows: _product(rows, mean=False, times=True),
    "less_mean": lambda rows: _product(rows, mean=True, times=False),
    "softmax_pull": lambda rows: _product(rows, mean=True, times=True),
    "log_softmax_pull": _log_softmax_pull,
}
