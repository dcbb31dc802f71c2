"""What the NumPy kernels compute: softmax, log_softmax, sigmoid, and the products that their derivatives are made of.

Each is a function from arrays into an array that exists already. It knows NumPy and the kernels: no contract, no
wrapping of types. Axes arrive normalised, masks with the logits' shape; what is to be kept for the derivatives is in
the dtype of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.backends.numpy_arithmetic import (
    RARELY,
    TAME,
    Maximum,
    MaximumAndTotal,
    Parts,
    Total,
    careful_sum,
    exp,
    one_plus_exp_of_negative,
    peak,
    sum_along,
)
from polylogit.backends.numpy_kernels import Cell, Kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.numpy_geometry import AnyArray, AnyDType
    from polylogit.backends.numpy_kernels import Step, Sweep

__all__ = ["log_softmax", "multiply", "sigmoid", "softmax", "subtract_mean", "subtract_share"]

# As RARELY, where the largest term is in the sum and is subtracted.
_OFTEN = 1.0

# Rows shorter than this go the long way in log_softmax; see there.
_MANY = 512
_LOG_2 = 0.6931471805599453


def _known(rows: AnyArray | None) -> AnyArray:
    assert rows is not None  # a sweep has gathered it
    return rows


def _is_finite(cell: Cell) -> None:
    """Rows of one element: 0 if it is finite, else NaN."""
    np.subtract(cell.inputs[0], cell.inputs[0], out=cell.out)


class _Rows(Kernel):
    """What softmax and log_softmax share: exp(x) as it is, where the maximum lies in a range that allows it."""

    def peaks(self, cell: Cell) -> AnyArray:
        """The maxima of a cell, whose places are remembered."""
        maxima, cell.place = peak(cell.inputs[0], self.axis)
        return maxima

    def is_tame(self, top: AnyArray) -> AnyArray:
        """For each row, whether exp(x) needs no shift."""
        return np.asarray((top >= TAME[0]) & (top <= TAME[1]))

    def hope(
        self, sweep: Sweep, place: Callable[[Cell], AnyArray], *, give_up: bool
    ) -> tuple[AnyArray, AnyArray | None]:
        """Maxima and, in the same pass, the sums of exp(x), which is left in `place`.

        With `give_up`, there are no sums where some row needs a shift, and little time is lost on them.
        """
        lost: list[bool] = []

        def both(cell: Cell) -> tuple[AnyArray, AnyArray | None]:
            top = self.peaks(cell)
            if give_up and (lost or not self.is_tame(top).all()):
                lost.append(True)
                return top, None
            return top, sum_along(np.exp(cell.inputs[0], out=place(cell)), self.axis)

        top, total = sweep(both, MaximumAndTotal)
        return top, None if lost else total


class _Softmax(_Rows):
    """exp(x - shift) over its sum, the shift being 0 where the maximum lies in a range in which exp(x) does as well.

    Without a subtraction there is nothing to round, and one pass less: of typical logits the exponentials are more
    accurate so, and sooner there. The shift depends on the row alone, not on what else is in its block.
    """

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        if self.problem.length == 1:
            last(self._one)
            return

        shift: AnyArray | None = None
        total: AnyArray | None = None

        def sums(cell: Cell) -> AnyArray:
            self._exponentials(cell, shift)
            return sum_along(cell.out, self.axis)

        def quotients(cell: Cell) -> None:
            if not cell.stays:
                self._exponentials(cell, shift)
            np.divide(cell.out, cell.spread(_known(total)), out=cell.out)
            self._keep(cell)

        if self.chunked:
            top, total = self.hope(sweep, lambda cell: cell.out, give_up=True)
        else:
            top = sweep(self.peaks, Maximum)
        tame = self.is_tame(top)
        shift = None if tame.all() else np.where(tame, 0, top)
        if total is None or shift is not None:
            total = sweep(sums, Total)
        last(quotients)

    def _exponentials(self, cell: Cell, shift: AnyArray | None) -> None:
        if shift is None:
            np.exp(cell.inputs[0], out=cell.out)
        else:
            np.subtract(cell.inputs[0], cell.spread(shift), out=cell.out)
            np.exp(cell.out, out=cell.out)

    def _one(self, cell: Cell) -> None:
        _is_finite(cell)
        np.add(cell.out, 1, out=cell.out)
        self._keep(cell)

    def _keep(self, cell: Cell) -> None:
        if cell.keep is not None:
            np.copyto(cell.keep, cell.out.reshape(cell.keep.shape))


class _LogSoftmax(_Rows):
    """(x - max) - log1p(the sum without the maximum), or x - log(the sum) where that is as good.

    Both terms of the first are negative, so that nothing cancels, and log1p keeps the relative accuracy of a
    probability close to 1. Where the sum without the maximum is small, it must be summed without, not subtracted; and
    where it is smaller yet, it consists of terms far from the maximum, and the rounding of their distances shows. The
    second is two passes less. It is as good if no result is much smaller than the logarithm.
    """

    filler = -np.inf

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        if self.problem.length == 1:
            last(self._one)
            return
        total = None
        if self.problem.length < _MANY:
            # Among short rows some have one large probability, in every block: too many for the short way to pay.
            top = sweep(self.peaks, Maximum)
        else:
            # Where a block holds several rows, which way one goes must not depend on another.
            top, total = self.hope(sweep, Cell.spare, give_up=self.chunked and self.axis == 1)
        shift, logarithm = top, None
        if total is not None:
            logarithm = np.log(total)
            easy = self.is_tame(top) & (logarithm - top >= np.maximum(_LOG_2, np.abs(logarithm) / 4))
            if easy.all():
                last(lambda cell: self._finish(cell, None, logarithm))
                return
            shift = np.where(easy, 0, top)
        hard = self._without_top(sweep, top)
        if logarithm is not None:
            hard = np.where(easy, logarithm, hard)
        last(lambda cell: self._finish(cell, shift, hard))

    def _finish(self, cell: Cell, shift: AnyArray | None, logarithm: AnyArray) -> None:
        distances = cell.inputs[0]
        if shift is not None:
            distances = np.subtract(distances, cell.spread(shift), out=cell.out)
        np.subtract(distances, cell.spread(logarithm), out=cell.out)
        if cell.keep is not None:
            np.exp(cell.out.reshape(cell.keep.shape), out=cell.keep)

    def _without_top(self, sweep: Sweep, top: AnyArray) -> AnyArray:
        """log1p of the sum of exp(x - top) without the top itself."""

        def sums(cell: Cell) -> AnyArray:
            terms = cell.spare()
            np.subtract(cell.inputs[0], cell.spread(top), out=terms)
            exp(terms, out=terms)
            if self.axis and not self.chunked:
                # Every row's top is here. If it is NaN, so are the other terms of its row.
                terms[np.arange(len(terms)), cell.place] = 0
                left_out.append(np.ones(1))
            elif self.axis:
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
        if cell.keep is not None:
            np.exp(cell.out.reshape(cell.keep.shape), out=cell.keep)


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
    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def values(cell: Cell) -> None:
            if cell.keep is not None:
                self._slope(cell)
            one_plus_exp_of_negative(cell.inputs[0], out=cell.out)
            np.divide(1, cell.out, out=cell.out)

        last(values)

    @staticmethod
    def _slope(cell: Cell) -> None:
        """e / (1 + e)^2 with e = exp(-|x|): nothing cancels, and nothing overflows."""
        terms, below = cell.spare(), cell.out
        np.abs(cell.inputs[0], out=terms)
        np.negative(terms, out=terms)
        np.exp(terms, out=terms)
        np.add(terms, 1, out=below)
        np.divide(terms, below, out=terms)
        np.divide(terms, below, out=terms)
        assert cell.keep is not None  # asked for by the caller
        np.copyto(cell.keep, terms.reshape(cell.keep.shape))


class _Multiply(Kernel):
    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> None:
            g, p = cell.inputs
            np.multiply(g, p, out=cell.out)

        last(products)


class _SubtractMean(Kernel):
    """g less its mean under p, and, if asked for, times p."""

    absent = 0.0
    times_p = False

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def products(cell: Cell) -> AnyArray:
            g, p = cell.inputs
            return sum_along(np.multiply(g, p, out=cell.spare()), self.axis)

        def differences(cell: Cell) -> None:
            g, p = cell.inputs
            np.subtract(g, cell.spread(mean), out=cell.out)
            if self.times_p:
                np.multiply(cell.out, p, out=cell.out)

        mean = sweep(products, Total)
        last(differences)


class _SubtractMeanTimesP(_SubtractMean):
    times_p = True


class _SubtractShare(Kernel):
    """g less p times the sum of g."""

    absent = 0.0

    def solve(self, sweep: Sweep, last: Callable[[Step], None]) -> None:
        def differences(cell: Cell) -> None:
            g, p = cell.inputs
            np.multiply(p, cell.spread(total), out=cell.out)
            np.subtract(g, cell.out, out=cell.out)

        total = sweep(lambda cell: sum_along(cell.inputs[0], self.axis), Total)
        last(differences)


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
