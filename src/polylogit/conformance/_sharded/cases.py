"""The cases for split arrays, and the judgement of an answer. Knows exact values and bounds, and no framework."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._operations import OPERATIONS
from polylogit._spec import bounds
from polylogit._spec.doubledouble import DD
from polylogit._spec.dtypes import finfo
from polylogit._spec.exact import exact
from polylogit._spec.operations import definition
from polylogit.conformance._compare import Comparison, Expected, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Array

__all__ = ["MEASURED", "Outcome", "Question", "judged", "questions"]

MEASURED = ("bytes exchanged", "memory beyond the part", "part")  # as results have them

# Numbers that a rank may send for each row: a maximum, a sum and, with a mask, whether there is an entry.
NUMBERS_A_ROW = 3


@dataclass(frozen=True)
class Question:
    """One call on a split array.

    Attributes
    ----------
    operation, check, case : str
        As in results; `check` is ``values``, ``vjp`` or ``jvp``.
    shape : tuple of int
        The shape of the whole array.
    axis : int or tuple of int
        The axis along which rows are normalised.
    split : tuple of int
        The dimension of the array that each dimension of the mesh splits.
    masked : bool
        Whether there is a mask, with one row masked completely and NaN in masked entries.
    special : bool
        Whether there are rows with NaN, with infinities and with only -inf.
    whole_parts : bool
        Whether the parts have equal sizes, as some engines require.
    large : bool
        Whether memory is measured.
    dtype : str
    """

    operation: str
    check: str
    case: str
    shape: tuple[int, ...] = (4, 2048)
    axis: Any = -1
    split: tuple[int, ...] = (1,)
    masked: bool = False
    special: bool = False
    whole_parts: bool = True
    large: bool = False
    dtype: str = "float32"

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes, non-negative."""
        return tuple(one % len(self.shape) for one in (self.axis if isinstance(self.axis, tuple) else (self.axis,)))

    @property
    def crosses(self) -> bool:
        """Whether rows are split between parts."""
        return bool(set(self.axes).intersection(self.split))

    @property
    def allowed(self) -> int:
        """The bytes that a rank may send in one reduction of each kind, in at most float64."""
        rows = int(np.prod([size for index, size in enumerate(self.shape) if index not in self.axes], dtype=int))
        return NUMBERS_A_ROW * 8 * rows if self.crosses else 0

    def arrays(self) -> tuple[Array, Array | None, Array]:
        """The logits in the dtype, the mask and a direction; the same in every process."""
        random = np.random.default_rng(zlib.crc32(f"{self.case} {self.shape}".encode()))
        x, direction = random.normal(0, 5, self.shape), random.normal(size=self.shape)
        mask = random.random(self.shape) < 0.6 if self.masked else None
        if mask is not None:
            mask[0] = False
        if self.special:
            x[0, -1], x[1, 0], x[2] = np.nan, np.inf, -np.inf
            x[3, : self.shape[1] // 2] = -np.inf
        kind = finfo(self.dtype)
        assert kind is not None
        x, direction = kind.logits(x), kind.logits(direction)
        if mask is not None:
            x = np.where(mask, x, np.nan)
        return x, mask, direction


@dataclass
class Outcome:
    """The answer of an engine: the whole array in float64, whether it is split like the logits, and its costs.

    `exchanged` are the bytes that a rank contributes to its largest exchange, `memory` those that it takes beyond its
    `part` of the logits; None if unknown. `wrong` is a fault that the engine itself found.
    """

    values: Array
    dtype: str
    kept: bool
    wrong: str = ""
    exchanged: int | None = None
    memory: int | None = None
    part: int | None = None


# What is asked at the level quick.
_QUICK = (
    *("along the row, masked", "beside the row", "uneven parts", "parts without entries", "a vocabulary"),
    "two mesh axes along the row",
)


def questions(dimensions: int, level: str = "full") -> Iterator[Question]:
    """All questions, or those of a level, for a mesh with this number of dimensions."""
    return (one for one in _questions(dimensions) if level == "full" or one.case in _QUICK)


def _questions(dimensions: int) -> Iterator[Question]:
    for name, operation in OPERATIONS.items():
        if not operation.takes_axis:
            continue
        if dimensions == 2:
            yield Question(name, "values", "two mesh axes, one along the row", split=(0, 1))
            yield Question(name, "values", "two mesh axes along the row", split=(1, 1))
            yield Question(name, "vjp", "two mesh axes along the row", split=(1, 1), masked=True)
            continue
        yield Question(name, "values", "along the row")
        yield Question(name, "values", "along the row, masked", masked=True)
        yield Question(name, "values", "along the row, 16 bits", dtype="bfloat16")
        yield Question(name, "values", "along the row, special values", special=True)
        yield Question(name, "values", "beside the row", split=(0,))
        yield Question(name, "values", "rows down the columns", axis=0, shape=(2048, 4), split=(0,))
        yield Question(name, "values", "both axes jointly", axis=(0, 1), shape=(4, 64))
        yield Question(name, "values", "uneven parts", shape=(4, 65), whole_parts=False)
        yield Question(name, "values", "parts without entries", shape=(4, 1), whole_parts=False)
        yield Question(name, "values", "a vocabulary", shape=(8, 128256), large=True)
        for derivative in ("vjp", "jvp"):
            yield Question(name, derivative, "along the row")
            yield Question(name, derivative, "along the row, masked", masked=True)


def _rows(values: Array, axes: tuple[int, ...]) -> Array:
    kept = [index for index in range(values.ndim) if index not in axes]
    moved = np.transpose(values, [*kept, *axes])
    width = int(np.prod([values.shape[index] for index in axes], dtype=int))
    return moved.reshape(-1, width)


def judged(question: Question, outcome: Outcome) -> Comparison:
    """Compare the answer with the exact values; a part that was gathered or moved fails, too."""
    x, mask, direction = question.arrays()
    dtype, right = finfo(question.dtype), definition(question.operation)
    assert dtype is not None
    taken = np.ones_like(x, dtype=bool) if mask is None else mask
    rows, direction = np.where(taken, x, -np.inf), np.where(taken, direction, 0.0)
    rows, taken, direction, got = (_rows(one, question.axes) for one in (rows, taken, direction, outcome.values))
    with np.errstate(all="ignore"):
        known = exact(right.exact, rows)
        if question.check == "values":
            value, bound, zero_below = right.value(known), right.bound(known, dtype), bounds.flushable(dtype)
        else:
            part: Any = getattr(right, question.check)
            value, bound = part.value(known, direction), part.bound(known, dtype, direction)
            zero_below = bounds.gradient_flushable(dtype)
    # Of a masked entry and of a row that has none it is known what they are, whatever the arithmetic; of a row that is
    # undefined too.
    high, low = (np.broadcast_to(one, rows.shape).copy() for one in value)
    high[np.broadcast_to(~known.regular, rows.shape)] = np.nan
    low[~np.isfinite(high)] = 0.0
    high[~taken], low[~taken] = (right.masked if question.check == "values" else 0.0), 0.0
    bound = np.where(taken, bound, 0.0)
    found = compare(Expected(rows, DD(high, low), bound, dtype, zero_below), got)
    found.seen = None
    if found.verdict == "passed" and outcome.dtype != question.dtype:
        found.verdict, found.message = "failed", f"the result is {outcome.dtype}; it should be {question.dtype}"
    moved = outcome.wrong or ("" if outcome.kept else "the result is not split as the logits are")
    if found.verdict == "passed" and moved:
        found.verdict, found.message = "failed", moved
    if found.verdict == "passed" and outcome.exchanged is not None and outcome.exchanged > question.allowed:
        found.verdict = "failed"
        found.message = f"a rank sent {outcome.exchanged:,} bytes; {question.allowed:,} are enough"
    measured = dict(zip(MEASURED, (outcome.exchanged, outcome.memory, outcome.part), strict=True))
    found.details.update({name: one for name, one in measured.items() if one is not None})
    return found
