"""What the NumPy kernels compute: softmax, log_softmax, sigmoid, and the products that their derivatives are made of.

Each is a function from arrays into an array that exists already. It knows NumPy and the kernels: no contract, no
wrapping of types. Axes arrive normalised, masks with the logits' shape; what is to be kept for the derivatives is in
the dtype of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.backends.numpy_arithmetic import (
    CLOSE,
    COLUMNS,
    RARELY,
    TAME,
    TAME_SUMS,
    Maximum,
    MaximumAndTotal,
    Parts,
    Total,
    across,
    careful_sum,
    dot_along,
    exp,
    log_softmax_of_rows,
    logistic,
    over_largest,
    peak,
    put,
    shifted_exp,
    sum_along,
    take,
)
from polylogit.backends.numpy_kernels import Cell, Kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.numpy_geometry import AnyArray, AnyDType
    from polylogit.backends.numpy_kernels import Step, Sweep

__all__ = ["along", "log_softmax", "multiply", "sigmoid", "softmax", "subtract_mean", "subtract_share"]

# As RARELY, where the largest term is in the sum and is subtracted.
_OFTEN = 1.0

_AT_ONCE = 2**15  # elements of the rows that go the long way, in float64
_LOG_2 = 0.6931471805599453


def _is_tame(total: AnyArray) -> AnyArray:
    # For each row, whether its exp(x) needs no shift.
    return np.asarray((total >= TAME_SUMS[0]) & (total <= TAME_SUMS[1]))


def _has_tame_top(top: AnyArray) -> AnyArray:
    # The same, by its maximum.
    return np.asarray((top >= TAME[0]) & (top <= TAME[1]))


def _nearest(logarithm: AnyArray) -> AnyArray:
    # How near 0 a result may be for x less this logarithm to be as good as the long way.
    return np.asarray(np.maximum(_LOG_2, np.abs(logarithm) / 4))


def _is_finite(cell: Cell) -> None:
    """Rows of one element: 0 if it is finite, else NaN."""
    np.subtract(cell.inputs[0], cell.inputs[0], out=cell.out)


class _Softmax(Kernel):
    """exp(x - shift) over its sum, the shift being 0 where that sum lies in a range in which exp(x) does as well.

    Without a subtraction there is nothing to round, and two passes less: of typical logits the exponentials are more
    accurate so, and sooner there. The shift depends on the row alone, not on what else is in its block.
    """

    def solve_whole(self, cell: Cell) -> None:
        if self.length == 1:
            self._one(cell)
            return
        total = sum_along(np.exp(cell.inputs[0], out=cell.out), self.axis)
        wild = np.flatnonzero(~_is_tame(total))
        if wild.size == total.size:
            total = self._shifted(cell.inputs[0], cell.out)
        elif wild.size:
            some = take(cell.inputs[0], wild, self.axis)
            terms = np.empty_like(some)
            total.reshape(-1)[wild] = self._shifted(some, terms).reshape(-1)[: wild.size]
            put(cell.out, wild, self.axis, terms)
        cell.across(np.divide, cell.out, total, cell.out)
        self._keep(cell)

    def _shifted(self, block: AnyArray, out: AnyArray) -> AnyArray:
        """exp(x - top) into `out`; its sum."""
        shifted_exp(block, peak(block, self.axis)[0], out, self.axis)
        return sum_along(out, self.axis)

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        shift, total = self._normalize(sweep)
        last(lambda cell: self._quotients(cell, shift, total))

    def _normalize(self, sweep: Sweep) -> tuple[AnyArray | None, AnyArray]:
        """The shift, if any, and the sum of the exponentials."""
        shift: AnyArray | None = None
        lost: list[bool] = []

        def sums(cell: Cell) -> AnyArray:
            if not lost:
                self._exponentials(cell, shift)
            total = sum_along(cell.out, self.axis)
            # Of a single row the rest need not be known; which way one of several goes must not depend on another.
            if shift is None and self.axis and not total[0, 0] < TAME_SUMS[1]:
                lost.append(True)
            return total

        total: AnyArray = sweep(sums, Total)
        if not (tame := _is_tame(total)).all():
            lost.clear()
            shift = np.where(tame, 0, sweep(lambda cell: peak(cell.inputs[0], self.axis)[0], Maximum))
            total = sweep(sums, Total)
        return shift, total

    def _quotients(self, cell: Cell, shift: AnyArray | None, total: AnyArray) -> None:
        if not cell.stays:
            self._exponentials(cell, shift)
        cell.across(np.divide, cell.out, total, cell.out)
        self._keep(cell)

    def _exponentials(self, cell: Cell, shift: AnyArray | None) -> None:
        if shift is None:
            np.exp(cell.inputs[0], out=cell.out)
        else:
            shift = shift if cell.repeats == 1 else np.tile(shift, cell.repeats)
            shifted_exp(cell.inputs[0], shift, cell.out, self.axis)

    def _one(self, cell: Cell) -> None:
        _is_finite(cell)
        np.add(cell.out, 1, out=cell.out)
        self._keep(cell)

    def _keep(self, cell: Cell) -> None:
        if cell.keep is not None:
            cell.put(cell.keep, cell.out)


class _SoftmaxAlong(_Softmax):
    """With the derivative along the second input for what is kept."""

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> AnyArray:
            if not cell.stays:
                self._exponentials(cell, shift)
            return dot_along(cell.out, cell.inputs[1], self.axis, cell.spare())

        shift, total = self._normalize(sweep)
        self._mean = sweep(products, Total) / total
        last(lambda cell: self._quotients(cell, shift, total))

    def _keep(self, cell: Cell) -> None:
        p, tangent, spare = cell.out, cell.inputs[1], cell.spare()
        mean = self._mean if self.chunked else dot_along(p, tangent, self.axis, spare)
        cell.across(np.subtract, tangent, mean, spare)
        cell.put(cell.keep, np.multiply(spare, p, out=spare))


class _LogSoftmax(Kernel):
    """x - log(the sum of exp(x)), or (x - max) less the logarithm of the sum over its largest term.

    Both terms of the second are negative, so that nothing cancels, and log1p keeps the relative accuracy of a
    probability close to 1. Where the sum without the maximum is small, it must be summed without, not subtracted; and
    where it is smaller yet, it consists of terms far from the maximum, and the rounding of their distances shows. The
    first is half the work. It is as good if no result is much smaller than the logarithm.
    """

    filler = -np.inf

    def solve_whole(self, cell: Cell) -> None:
        if self.length == 1:
            self._one(cell)
            return
        x, out = cell.inputs[0], cell.out
        np.copyto(out, x)  # of another array once only: nothing else waits for memory
        terms = np.exp(out, out=cell.spare())
        total = sum_along(terms, self.axis)
        logarithm = np.log(total)
        tame = _is_tame(total)
        near = self._near(terms, tame, logarithm)
        some = np.flatnonzero(near)
        if 4 * some.size > near.size:
            # Of many, those between them go along: that costs less than to pick and to place.
            top, distance = over_largest(x, terms, total, self.axis)
            cell.across(np.subtract, out, np.where(near, top, 0), out)
            logarithm, some = np.where(near, distance, logarithm), some[:0]
        cell.across(np.subtract, out, logarithm, out)
        if some.size:
            found, sums = take(x, some, self.axis), take(total, some, self.axis)
            top, distance = over_largest(found, take(terms, some, self.axis), sums, self.axis)
            across(np.subtract, found, top, found, self.axis)
            put(out, some, self.axis, across(np.subtract, found, distance, found, self.axis))
        self._shift(x, out, np.flatnonzero(~tame))
        self._keep(cell)

    def _shift(self, x: AnyArray, out: AnyArray, wild: AnyArray) -> None:
        """Replace the rows that need a shift, a few at a time."""
        step = max(1, _AT_ONCE // self.length)
        for start in range(0, wild.size, step):
            some = wild[start : start + step]
            if self.axis:
                out[some] = log_softmax_of_rows(x[some])
            else:
                out[:, some] = log_softmax_of_rows(np.ascontiguousarray(x[:, some].T)).T

    def _near(self, terms: AnyArray, tame: AnyArray, logarithm: AnyArray) -> AnyArray:
        """For each row, whether a result is so near 0 that x less the logarithm does not do."""
        limit = np.where(tame, np.exp(logarithm - _nearest(logarithm)), np.inf)
        if self.axis == 0 or self.length < COLUMNS:
            return np.asarray(peak(terms, self.axis)[0] > limit)
        lowest = terms.dtype.type(limit.min())
        near = np.zeros(limit.shape, bool)
        if terms.max() < lowest:
            return near
        # Where few entries are candidates, looking for the largest of each row would take longer.
        candidates = terms >= lowest
        if np.count_nonzero(candidates) > len(terms):
            return np.asarray(peak(terms, 1)[0] > limit)
        place = np.flatnonzero(candidates)
        row = place // self.length
        near[row[terms[row, place % self.length] > limit[row, 0]]] = True
        return near

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        shift, logarithm = self._normalize(sweep)
        last(lambda cell: self._finish(cell, shift, logarithm))

    def _normalize(self, sweep: Sweep) -> tuple[AnyArray | None, AnyArray]:
        """What to subtract first, if anything, and what to subtract then."""

        def both(cell: Cell) -> tuple[AnyArray, AnyArray | None]:
            top = self._peaks(cell)
            # Of a single row the rest need not be known; which way one of several goes must not depend on another.
            if self.axis and (lost or not _has_tame_top(top).all()):
                lost.append(True)
                return top, None
            return top, sum_along(np.exp(cell.inputs[0], out=cell.spare()), self.axis)

        lost: list[bool] = []
        top, total = sweep(both, MaximumAndTotal)
        if lost:
            return top, self._without_top(sweep, top)
        logarithm, tame = np.log(total), _has_tame_top(top)
        easy = tame & (logarithm - top >= _nearest(logarithm))
        if easy.all():
            return None, logarithm
        ratio = total / np.exp(top, dtype=total.dtype)
        far = tame & (ratio >= CLOSE)
        distance = np.log(ratio) if far.all() else np.where(far, np.log(ratio), self._without_top(sweep, top))
        return np.where(easy, 0, top), np.where(easy, logarithm, distance)

    def _peaks(self, cell: Cell) -> AnyArray:
        """The maxima of a cell, whose places are remembered."""
        maxima, cell.place = peak(cell.inputs[0], self.axis)
        return maxima

    def _finish(self, cell: Cell, shift: AnyArray | None, logarithm: AnyArray) -> None:
        self._subtract(cell, shift, logarithm)
        self._keep(cell)

    def _subtract(self, cell: Cell, shift: AnyArray | None, logarithm: AnyArray) -> None:
        distances = cell.inputs[0]
        if shift is not None:
            distances = cell.across(np.subtract, distances, shift, cell.out)
        cell.across(np.subtract, distances, logarithm, cell.out)

    def _keep(self, cell: Cell) -> None:
        if cell.keep is not None:
            cell.put(cell.keep, np.exp(cell.out, out=cell.spare()))

    def _without_top(self, sweep: Sweep, top: AnyArray) -> AnyArray:
        """log1p of the sum of exp(x - top) without the top itself."""

        def sums(cell: Cell) -> AnyArray:
            terms = cell.spare()
            cell.across(np.subtract, cell.inputs[0], top, terms)
            exp(terms, out=terms)
            if self.axis:
                left_out.append(_leave_out_top(cell, terms, top))
            return sum_along(terms, self.axis)

        left_out: list[AnyArray] = []
        rest = sweep(sums, Total)
        rest = rest + (sum(left_out) - 1)
        self._sum_again(sweep, top, rest)
        # Infinity less infinity: a row whose maximum is not finite is NaN throughout.
        logarithm: AnyArray = np.log1p(rest) + (top - top)
        return logarithm

    def _sum_again(self, sweep: Sweep, top: AnyArray, rest: AnyArray) -> None:
        """Sum once more, carefully, the rows whose sum without the maximum has lost its relative accuracy."""
        rows = np.flatnonzero(rest < (RARELY if self.axis else _OFTEN))
        if not rows.size:
            return
        tops = top.reshape(-1, 1)[rows]

        def carefully(cell: Cell) -> AnyArray:
            block = cell.inputs[0]
            if cell.repeats > 1:
                block = block.reshape(len(block) * cell.repeats, -1)
            parts = []
            step = max(1, self.problem.block // (4 * block.shape[self.axis]))
            for start in range(0, rows.size, step):
                some = rows[start : start + step]
                taken = block[some] if self.axis else block[:, some].T
                parts.append(careful_sum(taken, tops[start : start + step]))
            return np.concatenate(parts, axis=1)

        below, ties = sweep(carefully, Parts)
        rest.reshape(-1)[rows] = below + (ties - 1)

    def _one(self, cell: Cell) -> None:
        _is_finite(cell)
        self._keep(cell)


class _LogSoftmaxAlong(_LogSoftmax):
    """With the derivative along the second input for what is kept."""

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> AnyArray:
            self._subtract(cell, shift, logarithm)
            return self._product(cell)

        shift, logarithm = self._normalize(sweep)
        self._mean = sweep(products, Total)
        last(lambda cell: self._finish(cell, shift, logarithm))

    def _product(self, cell: Cell) -> AnyArray:
        p = np.exp(cell.out, out=cell.spare())
        return dot_along(p, cell.inputs[1], self.axis, p)

    def _keep(self, cell: Cell) -> None:
        mean = self._mean if self.chunked else self._product(cell)
        cell.put(cell.keep, cell.across(np.subtract, cell.inputs[1], mean, cell.spare()))


def _leave_out_top(cell: Cell, terms: AnyArray, top: AnyArray) -> AnyArray:
    """Set the first of each row's largest terms to 0, if it is in this cell; 1 for each row where it was."""
    if cell.place is None:
        cell.place = cell.inputs[0].argmax(axis=1)
    lines = np.arange(len(terms))
    there = cell.inputs[0][lines, cell.place] == top[:, 0]
    terms[lines[there], cell.place[there]] = 0
    out: AnyArray = there[:, None].astype(np.float64)
    return out


class _Sigmoid(Kernel):
    blocks = 3

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        last(self._value_and_slope)

    def _value_and_slope(self, cell: Cell) -> None:
        if cell.keep is None:
            logistic(cell.inputs[0], cell.out, cell.spare())
            return
        slope = cell.spare(1)
        logistic(cell.inputs[0], cell.out, cell.spare(), slope)
        self._keep(cell, slope)

    def _keep(self, cell: Cell, slope: AnyArray) -> None:
        cell.put(cell.keep, slope)


class _SigmoidAlong(_Sigmoid):
    """With the derivative along the second input for what is kept."""

    def _keep(self, cell: Cell, slope: AnyArray) -> None:
        cell.put(cell.keep, np.multiply(slope, cell.inputs[1], out=slope))


class _Multiply(Kernel):
    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> None:
            g, p = cell.inputs
            np.multiply(g, p, out=cell.out)

        last(products)


class _SubtractMean(Kernel):
    """g less its mean under p, and, if asked for, times p."""

    absent = (0.0,)
    times_p = False

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> AnyArray:
            g, p = cell.inputs
            return dot_along(g, p, self.axis, cell.spare())

        def differences(cell: Cell) -> None:
            g, p = cell.inputs
            cell.across(np.subtract, g, mean, cell.out)
            if self.times_p:
                np.multiply(cell.out, p, out=cell.out)

        mean = sweep(products, Total)
        last(differences)


class _SubtractMeanTimesP(_SubtractMean):
    times_p = True


class _SubtractShare(Kernel):
    """g less p times the sum of g."""

    absent = (0.0,)

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def differences(cell: Cell) -> None:
            g, p = cell.inputs
            cell.across(np.multiply, p, total, cell.out)
            np.subtract(g, cell.out, out=cell.out)

        total = sweep(lambda cell: sum_along(cell.inputs[0], self.axis), Total)
        last(differences)


# By operation: ``function(block, axis)`` for all of an array at once; see `Kernel.of_block`.
OF_BLOCK: dict[str, Callable[[AnyArray, int], AnyArray]] = {
    "softmax": _Softmax.of_block,
    "log_softmax": _LogSoftmax.of_block,
    "sigmoid": _Sigmoid.of_block,
}


def softmax(
    x: AnyArray,
    out: AnyArray,
    axes: tuple[int, ...],
    mask: AnyArray | None,
    work: AnyDType,
    keep: AnyArray | None = None,
) -> None:
    """Softmax of `x` into `out`, and unrounded into `keep`."""
    _Softmax([x], out, axes, mask, work, keep).run()


def log_softmax(
    x: AnyArray,
    out: AnyArray,
    axes: tuple[int, ...],
    mask: AnyArray | None,
    work: AnyDType,
    keep: AnyArray | None = None,
) -> None:
    """log_softmax of `x` into `out`, and softmax into `keep`."""
    _LogSoftmax([x], out, axes, mask, work, keep).run()


def sigmoid(x: AnyArray, out: AnyArray, work: AnyDType, keep: AnyArray | None = None) -> None:
    """Sigmoid of `x` into `out`, and its derivative into `keep`."""
    _Sigmoid([x], out, (), None, work, keep).run()


_ALONG: dict[str, type[Kernel]] = {
    "softmax": _SoftmaxAlong,
    "log_softmax": _LogSoftmaxAlong,
    "sigmoid": _SigmoidAlong,
}


def along(
    operation: str,
    x: AnyArray,
    tangent: AnyArray,
    out: AnyArray,
    axes: tuple[int, ...],
    mask: AnyArray | None,
    work: AnyDType,
    pushed: AnyArray,
) -> None:
    """An operation of `x` into `out`, and its derivative along `tangent` into `pushed`."""
    _ALONG[operation]([x, tangent], out, axes, mask, work, pushed).run()


def multiply(g: AnyArray, p: AnyArray, out: AnyArray) -> None:
    """``g * p`` into `out`, computed in the dtype of `p`."""
    _Multiply([g, p], out, (), None, p.dtype).run()


def subtract_mean(
    g: AnyArray, p: AnyArray, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None, *, times_p: bool = False
) -> None:
    """``g - (g * p).sum(axes)`` into `out`, times `p` if asked for; `g` counts as 0 where the mask leaves out."""
    (_SubtractMeanTimesP if times_p else _SubtractMean)([g, p], out, axes, mask, p.dtype).run()


def subtract_share(g: AnyArray, p: AnyArray, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None) -> None:
    """``g - p * g.sum(axes)`` into `out`; `g` counts as 0 where the mask leaves out."""
    _SubtractShare([g, p], out, axes, mask, p.dtype).run()
