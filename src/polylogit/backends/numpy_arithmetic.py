"""The numerical steps that the NumPy kernels are made of: exponentials, sums, and sums that must lose nothing.

All of it is on two-dimensional blocks, reduced along axis 1 (a block of rows) or axis 0 (class-major). It knows NumPy
alone, and neither how blocks are cut nor what they are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.introspect import opt_func_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.backends.numpy_geometry import AnyArray

__all__ = [
    "CLOSE",
    "COLUMNS",
    "RARELY",
    "TAME",
    "TAME_SUMS",
    "Maximum",
    "MaximumAndTotal",
    "Parts",
    "Total",
    "across",
    "careful_sum",
    "dot_along",
    "exp",
    "log_softmax_of_rows",
    "logistic",
    "over_largest",
    "peak",
    "put",
    "shifted_exp",
    "sum_along",
    "take",
]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_LOG2_E = np.float32(1.4426950408889634)
_MINUS_LOG2_E = -1.4426950408889634
_CHUNK = 2048  # sums of this many are left to one dot product, whose chains of additions are then 32 long or so
_LEVEL = 16  # and along axis 0, chains of this length
CLOSE = 2.25  # times the largest term: of a sum below that the logarithm is taken of what is above 1
_BEYOND_ONE = 88.0  # from 45 on, exp(x) / (1 + exp(x)) is 1 in any precision, here without overflow
_HIGHEST = 1000.0  # whose power of 2 float64 can hold, and where sigmoid's derivative is 0 in float32
_AT_ONCE = 2**14  # elements, where there are temporaries of them
_PIECE = 4096  # of a row, in what needs several temporaries
_FEW = 4  # NumPy's inner loops along rows shorter than this cost more than strided ones along their columns
COLUMNS = 32  # and maxima of rows shorter than this more than those over their columns
_SHORT = 64  # and its dot products of rows shorter than this more than einsum's
_LONG = 256  # numbers are repeated along rows shorter than this rather than broadcast
_ONES = {dtype: np.ones(_CHUNK, dtype) for dtype in (_FLOAT32, _FLOAT64)}


def _vectorised(name: str) -> bool:
    """Whether this processor has NumPy's vector code for a float32 function; the scalar code would be slower."""
    signatures = opt_func_info(f"^{name}$", "float32").get(name, {})
    return any(not found["current"].startswith("baseline") for found in signatures.values())


# NumPy's vectorised float32 exp2 is faster than its exp and errs by 1 ulp where that errs by 2.3. The product with
# log2(e) costs an error that grows with the distance to the maximum by half as much as that of the subtraction.
VECTOR_EXP2 = _vectorised("exp2")

# Maxima between which exp(x) needs no shift: no sum of it overflows, and what underflows is a probability below four
# smallest normal numbers, in any precision from float32 on.
TAME = (-4.0, 40.0)

# The same of sums of exp(x). What underflows is a probability below four smallest normal numbers.
TAME_SUMS = (0.25, 1e26)

# Below this sum of all terms but the largest they are far from it, and the rounding of their distances shows in the
# logarithm: the sum is then worth making once more by `careful_sum`.
RARELY = 0.125


def exp(block: AnyArray, out: AnyArray) -> AnyArray:
    """exp of distances to a maximum: of numbers that are not positive."""
    if VECTOR_EXP2 and block.dtype == _FLOAT32:
        np.multiply(block, _LOG2_E, out=out)
        return np.exp2(out, out=out)
    return np.exp(block, out=out)


def logistic(x: AnyArray, out: AnyArray, spare: AnyArray, slope: AnyArray | None = None) -> None:
    """1 / (1 + exp(-x)) of a column, with another one to work in; at most 1.5 ulp. Into `slope`, its derivative."""
    if x.dtype == _FLOAT32:
        _logistic_of_float32(x, out, spare, slope)
        return
    # exp(x) / (1 + exp(x)) errs by half an ulp less than the reciprocal. Where exp would overflow it has long been 1.
    np.minimum(x, _BEYOND_ONE, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=spare)
    np.divide(out, spare, out=out)
    if slope is not None:
        np.divide(out, spare, out=slope)
        if (beyond := x > _BEYOND_ONE).any():
            np.exp(-x, out=slope, where=beyond)


def _logistic_of_float32(x: AnyArray, out: AnyArray, spare: AnyArray, slope: AnyArray | None) -> None:
    # NumPy's float32 exponentials err by more than all the rest; those of float64 do not, and to base 2 are the sooner.
    for start, terms in _halves(x, spare):
        part = out[start : start + len(terms)]
        np.copyto(terms, x[start : start + len(terms)])
        np.multiply(terms, _MINUS_LOG2_E, out=terms)
        if slope is None:
            np.exp2(terms, out=terms)
            np.add(terms, 1, out=terms)
            np.copyto(part, terms, casting="unsafe")
            continue
        # e / (1 + e)^2, where e would otherwise overflow and the quotient is 0.
        np.minimum(terms, _HIGHEST, out=terms)
        np.exp2(terms, out=terms)
        below = terms + 1
        np.copyto(part, below, casting="unsafe")
        np.reciprocal(below, out=below)
        np.multiply(terms, below, out=terms)
        np.multiply(terms, below, out=terms)
        np.copyto(slope[start : start + len(terms)], terms, casting="unsafe")
    np.reciprocal(out, out=out)


def _halves(column: AnyArray, spare: AnyArray) -> Iterator[tuple[int, AnyArray]]:
    """Where each half of a float32 column begins, and as much room in float64, which is that of another column."""
    half = len(column) // 2
    if not half:
        yield 0, np.empty(column.shape)
        return
    room = spare.reshape(-1)[: 2 * half].view(_FLOAT64)[:, None]
    for start in range(0, len(column), half):
        yield start, room[: len(column) - start]


def peak(block: AnyArray, axis: int) -> tuple[AnyArray, AnyArray | None]:
    """The maximum of each row, NaN where there is one, and along axis 1, if the rows are not short, its first place."""
    if axis == 0:
        return np.maximum.reduce(block, axis=0, keepdims=True), None
    if block.shape[1] < COLUMNS:
        top = block[:, 0].copy()
        for column in range(1, block.shape[1]):
            np.maximum(top, block[:, column], out=top)
        return top[:, None], None
    # argmax is faster than maximum.reduce along contiguous rows, and takes NaN for the maximum as well.
    place = block.argmax(axis=1)
    return block[np.arange(len(block)), place][:, None], place


def sum_along(block: AnyArray, axis: int) -> AnyArray:
    """The sum of each row, its dimension kept, in float64 at least; its error grows as the logarithm of the length."""
    if axis == 0:
        return _sum_down(block)
    length = block.shape[1]
    wide = np.promote_types(block.dtype, _FLOAT64)
    total: AnyArray
    if length <= _FEW:
        total = block[:, 0].astype(wide)
        for column in range(1, length):
            total += block[:, column]
        return total[:, None]
    if length < _SHORT:
        total = np.einsum("ij->i", block)[:, None].astype(wide)
        return total
    ones = _ONES.get(block.dtype)
    if ones is None:
        total = np.add.reduce(block, axis=1, keepdims=True, dtype=wide)
        return total
    if block.dtype == _FLOAT64:
        # A dot product has long chains of additions for the precision, and equal terms all round the same way.
        total = np.add.reduce(block, axis=1, keepdims=True)
        return total
    if length <= _CHUNK:
        total = np.vecdot(block, ones[:length])[:, None].astype(_FLOAT64)
        return total
    whole = length // _CHUNK
    parts = np.vecdot(block[:, : whole * _CHUNK].reshape(len(block), whole, _CHUNK), ones)
    total = np.add.reduce(parts, axis=1, dtype=_FLOAT64, keepdims=True)
    if length > whole * _CHUNK:
        total += np.vecdot(block[:, whole * _CHUNK :], ones[: length - whole * _CHUNK])[:, None]
    return total


def dot_along(block: AnyArray, other: AnyArray, axis: int, spare: AnyArray) -> AnyArray:
    """The sum of the products in each row, as `sum_along`; `spare` is a block to work in."""
    length = block.shape[1]
    if axis == 0 or length <= _FEW or block.dtype not in _ONES:
        return sum_along(np.multiply(block, other, out=spare), axis)
    total: AnyArray
    if length < _SHORT:
        total = np.einsum("ij,ij->i", block, other)[:, None].astype(_FLOAT64)
        return total
    if length <= _CHUNK:
        total = np.vecdot(block, other)[:, None].astype(_FLOAT64)
        return total
    whole = length // _CHUNK * _CHUNK
    shape = (len(block), -1, _CHUNK)
    parts = np.vecdot(block[:, :whole].reshape(shape), other[:, :whole].reshape(shape))
    total = np.add.reduce(parts, axis=1, dtype=_FLOAT64, keepdims=True)
    if length > whole:
        total += np.vecdot(block[:, whole:], other[:, whole:])[:, None]
    return total


def _sum_down(block: AnyArray) -> AnyArray:
    """Along axis 0 NumPy adds row after row: in levels of 16, the chains of additions stay short."""
    over: list[AnyArray] = []
    while (length := len(block)) > _LEVEL:
        step = length // _LEVEL
        if length > step * _LEVEL:
            over.append(np.add.reduce(block[step * _LEVEL :], axis=0, keepdims=True))
        block = np.add.reduce(block[: step * _LEVEL].reshape(_LEVEL, step, -1), axis=0)
    total: AnyArray = np.add.reduce(block, axis=0, keepdims=True)
    total = total.astype(np.promote_types(block.dtype, _FLOAT64), copy=False)
    for part in over:
        total = total + part
    return total


def across(ufunc: np.ufunc, block: AnyArray, rows: AnyArray, out: AnyArray, axis: int) -> AnyArray:
    """``ufunc(block, rows, out=out)``, where `rows` has a number for each row, in the fastest way for their length."""
    rows = rows.astype(block.dtype, copy=False)
    length = block.shape[1]
    if axis == 0 or length >= _LONG or len(rows) == 1:
        ufunc(block, rows, out=out)
    elif length <= _FEW:
        for column in range(length):
            ufunc(block[:, column], rows[:, 0], out=out[:, column])
    else:
        repeated = np.repeat(rows[:, 0], length)
        ufunc(block, repeated.reshape(block.shape), out=out)
    return out


def shifted_exp(block: AnyArray, top: AnyArray, out: AnyArray, axis: int) -> None:
    """exp(x - top), the rounding of the difference made good, which exp would multiply by the distance."""
    lines = max(1, _AT_ONCE // block.shape[1])
    for line in range(0, len(block), lines):
        for column in range(0, block.shape[1], _AT_ONCE):
            part = slice(line, line + lines), slice(column, column + _AT_ONCE)
            x, distance = block[part], out[part]
            tops = top[part[0]] if axis else top[:, part[1]]
            lost = np.empty(x.shape, x.dtype)
            back = np.empty(x.shape, x.dtype)
            # Both halves of the rounding error of a difference (Knuth).
            across(np.subtract, x, tops, distance, axis)
            np.subtract(distance, x, out=back)
            np.subtract(distance, back, out=lost)
            np.subtract(x, lost, out=lost)
            across(np.add, back, tops, back, axis)
            np.subtract(lost, back, out=lost)
            np.exp(distance, out=distance)
            # Infinite distances have no error but NaN; their terms are 0.
            np.fmax(lost, -1, out=lost)
            np.multiply(lost, distance, out=lost)
            np.add(distance, lost, out=distance)


def log_softmax_of_rows(rows: AnyArray) -> AnyArray:
    """log_softmax along axis 1 of contiguous rows, in float64 at least, with relative accuracy near 0.

    It is (x - max) - log1p(the sum without the maximum): both terms are negative, so that nothing cancels. Of float32
    nothing is lost in float64; of float64 `careful_sum` sees to what is.
    """
    lines, places = np.arange(len(rows)), rows.argmax(1)
    top = rows[lines, places][:, None]
    distances = np.subtract(rows, top, dtype=np.promote_types(rows.dtype, _FLOAT64))
    terms = np.exp(distances)
    terms[lines, places] = 0
    rest = sum_along(terms, 1)
    if rows.dtype != _FLOAT32 and (few := np.flatnonzero(rest < RARELY)).size:
        below, ties = careful_sum(rows[few], top[few])
        rest[few, 0] = below + (ties - 1)
    # Infinity less infinity: all is NaN where the maximum is not finite.
    result: AnyArray = across(np.subtract, distances, np.log1p(rest) + (top - top), distances, 1)
    return result


def take(block: AnyArray, rows: AnyArray, axis: int) -> AnyArray:
    """Some rows of a block, copied; a single one along axis 0 twice."""
    if axis:
        return block[rows]
    # NumPy would add a single column, and those of an array that is not in C order, in another order.
    return np.ascontiguousarray(block[:, rows if rows.size > 1 else np.repeat(rows, 2)])


def put(block: AnyArray, rows: AnyArray, axis: int, values: AnyArray) -> None:
    """Put back what `take` has taken."""
    if axis:
        block[rows] = values
    else:
        block[:, rows] = values[:, : rows.size]


def over_largest(x: AnyArray, terms: AnyArray, total: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """The largest of each row, and the logarithm of the sum of exp(x) over that of the largest; `terms` is exp(x).

    Results less the largest and that logarithm consist of two negative terms, so that nothing cancels. Where the sum is
    little more than its largest term, log1p of the sum without it keeps the relative accuracy of a probability close to
    1. As x is not shifted, nothing of it is rounded: any of these sums is as accurate as the exponentials.
    """
    top, place = peak(x, axis)
    largest = np.exp(top, dtype=total.dtype)
    ratio = total / largest
    logarithm: AnyArray = np.log(ratio)
    close = ratio < CLOSE
    some = np.flatnonzero(close)
    if 4 * some.size > ratio.size:
        np.copyto(logarithm, np.log1p(_rest(x, terms, top, place, largest, axis)), where=close)
    elif some.size:
        tops, exponentials = (take(one, some, axis) for one in (top, largest))
        places = None if place is None else place[some]
        rest = _rest(take(x, some, axis), take(terms, some, axis), tops, places, exponentials, axis)
        put(logarithm, some, axis, np.log1p(rest))
    return top, logarithm


def _rest(
    x: AnyArray, terms: AnyArray, top: AnyArray, place: AnyArray | None, largest: AnyArray, axis: int
) -> AnyArray:
    """The sum of a row without its largest term, over that; `terms` gives way."""
    ties: AnyArray | int = 1
    if place is not None:
        terms[np.arange(len(terms)), place] = 0
    else:
        equal = np.empty(x.shape, bool)
        across(np.equal, x, top, equal, axis)
        if np.count_nonzero(equal) != top.size or np.isnan(top).any():
            ties = sum_along(equal.view(np.uint8), axis)
        if x.shape[axis] < COLUMNS:
            np.multiply(terms, np.logical_not(equal, out=equal), out=terms)  # sooner than a copy that stops and goes
        else:
            np.copyto(terms, 0, where=equal)
    return np.asarray(sum_along(terms, axis) / largest + (ties - 1))


def careful_sum(block: AnyArray, top: AnyArray) -> AnyArray:
    """For each row of exp(x - top), the sum of what is below the top to full precision, and how often the top occurs.

    The rounding of x - top, which exp would multiply by the distance, is made good.
    """
    if block.shape[1] > _PIECE:
        pieces = [careful_sum(block[:, i : i + _PIECE], top) for i in range(0, block.shape[1], _PIECE)]
        together: AnyArray = np.add.reduce(np.stack(pieces))
        return together
    if block.dtype == _FLOAT32:
        distance = block.astype(_FLOAT64)
        distance -= top
        terms = np.exp(distance)
    else:
        distance = block - top
        back = distance - block
        lost = (block - (distance - back)) - (top + back)
        terms = np.exp(distance)
        # Nothing is lost where nothing is left: infinite distances would make NaN of it.
        np.copyto(lost, 0, where=terms == 0)
        terms += terms * lost
    ties = distance == 0
    np.copyto(terms, 0, where=ties)
    below = np.add.reduce(terms, axis=1)
    return np.stack((below, np.count_nonzero(ties, axis=1).astype(below.dtype)))


# --- numbers for each row, gathered over chunks ----------------------------------------------------------------------


class Maximum:
    """The largest of what was added, NaN if any was."""

    def __init__(self) -> None:
        self._value: Any = None

    def add(self, value: AnyArray, repeats: int = 1) -> None:
        """Take one more chunk's maxima; with `repeats`, each row occurs in it so many times."""
        if repeats > 1:
            value = np.maximum.reduce(value.reshape(repeats, -1), axis=0, keepdims=True)
        self._value = value if self._value is None else np.maximum(self._value, value)

    def merge(self, other: Maximum) -> None:
        """Take what another one gathered."""
        self.add(other.value())

    def value(self) -> Any:
        """The maxima so far."""
        return self._value


class Total:
    """The sum of what was added, as good as rounded once however many there were: few are added plainly at a time."""

    _PLAINLY = 16

    def __init__(self) -> None:
        self._recent: Any = None
        self._added = 0
        self._value: Any = None
        self._lost: Any = 0

    def add(self, value: AnyArray, repeats: int = 1) -> None:
        """Take one more chunk's sums; with `repeats`, each row occurs in it so many times."""
        if repeats > 1:
            value = _sum_down(value.reshape(repeats, -1))
        self._recent = value if self._recent is None else self._recent + value
        self._added += 1
        if self._added % self._PLAINLY == 0:
            self._settle()

    def merge(self, other: Total) -> None:
        """Take what another one gathered."""
        other._settle()
        if other._value is not None:
            self.add(other._value)
            self._settle()
            self._lost = self._lost + other._lost

    def value(self) -> Any:
        """The sums so far."""
        self._settle()
        return None if self._value is None else self._value + self._lost

    def _settle(self) -> None:
        """Add the recent sums to the value, and what rounding loses of them to the loss."""
        if self._recent is None:
            return
        if self._value is None:
            self._value = self._recent
        else:
            after = self._value + self._recent
            back = after - self._value
            self._lost = self._lost + ((self._value - (after - back)) + (self._recent - back))
            self._value = after
        self._recent = None


class MaximumAndTotal:
    """Both, of a step that returns both; a step without a sum leaves the total without it."""

    def __init__(self) -> None:
        self._maximum, self._total = Maximum(), Total()

    def add(self, value: tuple[AnyArray, AnyArray | None], repeats: int = 1) -> None:
        """Take one more chunk's maxima and sums."""
        maximum, total = value
        self._maximum.add(maximum, repeats)
        if total is not None:
            self._total.add(total, repeats)

    def merge(self, other: MaximumAndTotal) -> None:
        """Take what another one gathered."""
        self._maximum.merge(other._maximum)
        self._total.merge(other._total)

    def value(self) -> tuple[Any, Any]:
        """The maxima and the sums so far."""
        return self._maximum.value(), self._total.value()


class Parts(Total):
    """As `Total`, for numbers that are the rows' already, whatever is repeated."""

    def add(self, value: AnyArray, repeats: int = 1) -> None:
        """Take one more chunk's sums."""
        super().add(value)
