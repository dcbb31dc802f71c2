"""Faults of known weights: transposed or quantised.

The output of a layer reveals little about its weights if it has fewer rows than channels. If the input of the layer and
the weights of both sides are known, as in `isolate`, these weights must first reproduce both outputs; then a difference
of the weights either explains the difference of the outputs or is not the cause. Without the weights, a transposed
square weight shows if there are enough rows. Plain NumPy; knows no framework.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction
from polylogit.porting._diagnosis.faults.hidden import alike, same_shape, some_rows, tall
from polylogit.porting._diagnosis.noise import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# Weights of more channels are not solved for.
LARGEST = 512
# Of 8 bits.
LEVELS = 256
# Blocks of the inputs that formats of few bits give a scale of their own.
BLOCKS = (32, 64, 128)
# Fewer numbers lie on some grid by chance: two of them make it.
ENOUGH = 8
# The smallest gap between the values on a grid is up to so many steps: few values lie far apart.
STEPS = 32


class _Linear(NamedTuple):
    """A layer of the form y = x @ matrix + bias, or a look-up of rows in a table."""

    x: Any  # (rows, inputs), or the numbers of the rows of a table
    matrix: Array  # (inputs, outputs)
    bias: Array

    def __call__(self, matrix: Array) -> Array:
        """The output with another matrix."""
        return _times(self.x, matrix) + self.bias


def _times(x: Any, matrix: Array) -> Array:
    return np.asarray(matrix[x] if x.ndim == 1 else x @ matrix)


def _linear(evidence: Evidence) -> tuple[_Linear, _Linear] | None:
    """The layers of both sides, if each is shown to be linear with its own weights."""
    r, c = evidence.reference, evidence.candidate
    if evidence.layer is None or r.shape != c.shape or not (np.isfinite(r).all() and np.isfinite(c).all()):
        return None
    weights = evidence.layer.weights()
    for x in _rows_of(evidence.layer.inputs, r.size):
        sides = [_shown(x, y.reshape(len(x), -1), known, evidence) for y, known in zip((r, c), weights, strict=True)]
        if sides[0] is not None and sides[1] is not None:
            return sides[0], sides[1]
    return None


def _rows_of(inputs: tuple[Array, ...], outputs: int) -> Iterator[Array]:
    """The inputs as rows of numbers, or as row numbers."""
    for one in inputs:
        if one.dtype.kind in "iu" and one.size and outputs % one.size == 0:
            yield one.reshape(-1)
        elif one.dtype.kind not in "iub" and one.ndim > 1 and np.isfinite(one.astype(np.float64)).all():
            for axes in range(1, one.ndim):
                rows = int(np.prod(one.shape[:-axes]))
                if rows > 1 and outputs % rows == 0:
                    yield one.astype(np.float64).reshape(rows, -1)


def _shown(x: Array, y: Array, weights: list[Array], evidence: Evidence) -> _Linear | None:
    """The layer, if one of the weights maps x to y up to a constant per channel."""
    inputs = None if x.ndim == 1 else x.shape[1]
    for weight in weights:
        if weight.ndim < 2 or weight.size % y.shape[1] or (inputs and weight.size != inputs * y.shape[1]):
            continue
        if inputs is None:
            if weight.shape[1:] != y.shape[1:] or not 0 <= x.min() <= x.max() < len(weight):
                continue
            used: Any
            used, places = np.unique(x, return_inverse=True)  # the table may be large
            layouts: list[tuple[Any, Array]] = [(places, weight[used].astype(np.float64))]
        else:
            values = weight.astype(np.float64)
            layouts = [(x, values.reshape(inputs, -1)), (x, values.reshape(y.shape[1], -1).T)]
        for rows, matrix in layouts:
            made = _times(rows, matrix)
            bias = np.mean(y - made, axis=0)
            if _makes(made + bias, y, evidence):
                return _Linear(rows, matrix, bias)
    return None


def _makes(made: Array, y: Array, evidence: Evidence) -> bool:
    """Whether y was computed in this way; a side may be less accurate than the measured one, and still right."""
    error, size = (float(np.sqrt(np.mean(one * one))) for one in (made - y, y))
    return error <= LIMIT * max(evidence.precision.noise, evidence.precision.eps) * size


# --- transposed ------------------------------------------------------------------------------------------------------


def _weight_transposed(evidence: Evidence) -> Iterator[Prediction]:
    """A square weight is transposed."""
    known = evidence.once(_linear)
    if known is None:
        yield from _transposed_by_rows(evidence)
        return
    here, there = known
    if here.x.ndim == 1 or here.matrix.shape[0] != here.matrix.shape[1]:
        return
    if alike(here.matrix.T, there.matrix, evidence) and not alike(here.matrix, here.matrix.T, evidence):
        expected = here(here.matrix.T).reshape(evidence.reference.shape)
        yield Prediction(expected, evidence.candidate, {"name": "its input"})


def _transposed_by_rows(evidence: Evidence) -> Iterator[Prediction]:
    """The same, if there are enough rows to find the weight from input and output."""
    if not tall(evidence):
        return
    r, c = evidence.reference, evidence.candidate
    size = r.shape[-1]
    rows = r.size // size
    if rows < 2 * size or size > LARGEST:
        return
    for name, x in same_shape(evidence):
        inputs = np.concatenate([some_rows(x, 4 * size), np.ones((len(some_rows(x, 4 * size)), 1))], axis=1)
        outputs = some_rows(r, 4 * size)
        found, _, rank, singular = np.linalg.lstsq(inputs, outputs, rcond=None)
        if rank <= size or not alike(inputs @ found, outputs, evidence):
            continue
        weight, bias = np.asarray(found[:-1], np.float64), found[-1]
        if alike(weight, weight.T, evidence):
            continue
        gain = float(min(singular[0] / singular[-1], 20.0))
        yield Prediction(x @ weight.T + bias, c, {"name": name}, gain=gain)


# --- quantised -------------------------------------------------------------------------------------------------------


def _quantized(evidence: Evidence) -> Iterator[Prediction]:
    """The weights of one side are those of the other, on a grid of few levels."""
    known = evidence.once(_linear)
    if known is None:
        return
    here, there = known
    if here.matrix.shape != there.matrix.shape:
        return
    expected = (evidence.reference.reshape(len(here.x), -1) + here(there.matrix) - here(here.matrix)).reshape(
        evidence.reference.shape
    )
    for exact, coarse, who in ((here.matrix, there.matrix, "candidate"), (there.matrix, here.matrix, "reference")):
        found = _grid(exact, coarse, evidence.precision.eps)
        if found is not None:
            levels, scales = found
            parameters = {"who": who, "levels": levels, "scales": scales}
            yield Prediction(expected, evidence.candidate, parameters)
            return


def _grid(exact: Array, coarse: Array, eps: float) -> tuple[int, str] | None:
    """The number of levels of the coarse numbers, and the unit that has its own scale; None without such a grid."""
    error = np.abs(coarse - exact)
    if not error.any() or any(np.array_equal(coarse, _rounded(exact, name)) for name in ("float16", "bfloat16")):
        return None
    for scales, groups in _groups(exact.shape):
        most = 0
        for one in groups:
            levels = _levels(exact[one], coarse[one], eps)
            if levels is None:
                break
            most = max(most, levels)
        else:
            return most, scales
    return None


def _rounded(values: Array, dtype: str) -> Array:
    return values.astype(np.float32).astype(DTYPES[dtype].dtype).astype(np.float64)


def _groups(shape: tuple[int, ...]) -> Iterator[tuple[str, list[Any]]]:
    """The units that may share a scale, the whole first."""
    yield "the whole", [np.s_[:, :]]
    yield "each output", [np.s_[:, column] for column in range(shape[1])]
    yield "each input", [np.s_[row] for row in range(shape[0])]
    for block, axis in itertools.product(BLOCKS, (0, 1)):
        if block < shape[axis] and shape[axis] % block == 0:
            pieces = [slice(start, start + block) for start in range(0, shape[axis], block)]
            others = range(shape[1 - axis])
            yield (
                f"each {block} inputs" if axis == 0 else f"each {block} outputs",
                [(one, other) if axis == 0 else (other, one) for one in pieces for other in others],
            )


def _levels(exact: Array, coarse: Array, eps: float) -> int | None:
    """The number of levels of a grid through the coarse numbers, from the smallest of them to the largest."""
    values = np.unique(coarse)
    if coarse.size < ENOUGH or len(values) < 2:
        return 1 if not coarse.any() and not exact.any() else None
    slack = 2 * eps * float(np.max(np.abs(values)))
    error = float(np.max(np.abs(coarse - exact)))
    gaps = np.diff(values)
    least = float(np.min(gaps, initial=np.inf, where=gaps > slack))
    for count in range(1, STEPS + 1):
        width = round(float(values[-1] - values[0]) / least * count)
        if not 1 < width < LEVELS:
            continue
        step = float(values[-1] - values[0]) / width
        beside = values - values[0] - step * np.round((values - values[0]) / step)
        if 4 * slack < step and np.max(np.abs(beside)) <= slack and error <= step / 2 + slack:
            return width + 1
    return None


FAULTS = (
    Fault(
        "weight-transposed",
        "The candidate multiplies {name} by the transposed weight.",
        "transposed weight",
        _weight_transposed,
        obvious=True,
    ),
    Fault(
        "quantized-weights",
        "The {who}'s weights are those of the other side on a grid of {levels} levels, with a scale for {scales}.",
        "weights = quantize(weights)  # in the same way on both sides, or on neither",
        _quantized,
        obvious=True,
    ),
)
