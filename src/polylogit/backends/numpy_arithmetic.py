"""The numerical steps that the NumPy kernels are made of: exponentials, sums, and sums that must lose nothing.

All of it is on two-dimensional blocks, reduced along axis 1 (a block of rows) or axis 0 (class-major). It knows NumPy
alone, and neither how blocks are cut nor what they are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.introspect import opt_func_info

if TYPE_CHECKING:
    from polylogit.backends.numpy_geometry import AnyArray

__all__ = [
    "RARELY",
    "TAME",
    "VECTOR_EXPM1",
    "Maximum",
    "MaximumAndTotal",
    "Parts",
    "Total",
    "careful_sum",
    "exp",
    "one_plus_exp_of_negative",
    "peak",
    "sum_along",
]

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_LOG2_E = np.float32(1.4426950408889634)
_CHUNK = 2048  # sums of this many are left to one dot product, whose chains of additions are then 32 long or so
_LEVEL = 16  # and along axis 0, chains of this length
_ONES = {dtype: np.ones(_CHUNK, dtype) for dtype in (_FLOAT32, _FLOAT64)}


def _vectorised(name: str) -> bool:
    """Whether this processor has NumPy's vector code for a float32 function; the scalar code would be slower."""
    signatures = opt_func_info(f"^{name}$", "float32").get(name, {})
    return any(not found["current"].startswith("baseline") for found in signatures.values())


# NumPy's vectorised float32 exp2 is faster than its exp and errs by 1 ulp where that errs by 2.3. The product with
# log2(e) costs an error that grows with the distance to the maximum by half as much as that of the subtraction.
VECTOR_EXP2 = _vectorised("exp2")
VECTOR_EXPM1 = _vectorised("expm1")

# Maxima between which exp(x) needs no shift: no sum of it overflows, and what underflows is a probability below four
# smallest normal numbers, in any precision from float32 on.
TAME = (-4.0, 40.0)

# Below this sum of all terms but the largest they are far from it, and the rounding of their distances shows in the
# logarithm: the sum is then worth making once more by `careful_sum`.
RARELY = 0.125


def exp(block: AnyArray, out: AnyArray) -> AnyArray:
    """exp of distances to a maximum: of numbers that are not positive."""
    if VECTOR_EXP2 and block.dtype == _FLOAT32:
        np.multiply(block, _LOG2_E, out=out)
        return np.exp2(out, out=out)
    return np.exp(block, out=out)


def one_plus_exp_of_negative(block: AnyArray, out: AnyArray) -> AnyArray:
    """1 + exp(-x); where it overflows, its reciprocal is below the smallest normal number."""
    np.negative(block, out=out)
    if VECTOR_EXPM1 and block.dtype == _FLOAT32:
        np.expm1(out, out=out)
        return np.add(out, 2, out=out)
    np.exp(out, out=out)
    return np.add(out, 1, out=out)


def peak(block: AnyArray, axis: int) -> tuple[AnyArray, AnyArray | None]:
    """The maximum of each row, NaN where there is one, and along axis 1 its first place."""
    if axis == 0:
        return np.maximum.reduce(block, axis=0, keepdims=True), None
    # argmax is faster than maximum.reduce along contiguous rows, and takes NaN for the maximum as well.
    place = block.argmax(axis=1)
    return block[np.arange(len(block)), place][:, None], place


def sum_along(block: AnyArray, axis: int) -> AnyArray:
    """The sum of each row, its dimension kept, in float64 at least; its error grows as the logarithm of the length."""
    if axis == 0:
        return _sum_down(block)
    ones = _ONES.get(block.dtype)
    if ones is None:
        wide: AnyArray = np.add.reduce(block, axis=1, keepdims=True)
        return wide
    length = block.shape[1]
    total: AnyArray
    if length <= _CHUNK:
        total = np.vecdot(block, ones[:length])[:, None].astype(_FLOAT64)
        return total
    whole = length // _CHUNK
    parts = np.vecdot(block[:, : whole * _CHUNK].reshape(len(block), whole, _CHUNK), ones)
    total = np.add.reduce(parts, axis=1, dtype=_FLOAT64, keepdims=True)
    if length > whole * _CHUNK:
        total += np.vecdot(block[:, whole * _CHUNK :], ones[: length - whole * _CHUNK])[:, None]
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


def careful_sum(block: AnyArray, top: AnyArray) -> AnyArray:
    """For each row of exp(x - top), the sum of what is below the top to full precision, and how often the top occurs.

    The rounding of x - top, which exp would multiply by the distance, is made good.
    """
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
