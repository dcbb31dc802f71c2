"""The inputs of an audited test: given or random logits, reduced to representative rows, and cotangents.

Knows shapes and random numbers; nothing of what is computed from them.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import polylogit
from polylogit._contract import normalize_axis
from polylogit.conformance._data.rows import generator
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit._spec.dtypes import Array, Finfo

__all__ = ["COTANGENTS", "DISTRIBUTIONS", "Input", "Loss", "cotangent", "drawing", "inputs"]

DRAWN = 1 << 19  # the entries used of random logits, whose rows are alike
GIVEN = 1 << 22  # the entries used of a given array, whose rows may differ
_LONGEST = 1 << 25  # a row cannot be cut


def _masked(rng: np.random.Generator, shape: Sequence[int]) -> Array:
    x = rng.normal(size=shape)
    return np.where(x < 0, -np.inf, x)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, Sequence[int]], Array]] = {
    "uniform": lambda rng, shape: rng.random(shape),
    "centred": lambda rng, shape: rng.random(shape) - 0.5,
    "symmetric": lambda rng, shape: 2.0 * rng.random(shape) - 1.0,
    "normal": lambda rng, shape: rng.normal(size=shape),
    "masked": _masked,  # normal, with -inf in place of what is negative
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "integers": lambda rng, shape: rng.integers(-5, 6, size=shape).astype(np.float64),
    "ramp": lambda rng, shape: np.broadcast_to(np.arange(shape[-1] if shape else 1) % 8.0, shape).copy(),
    "zeros": lambda rng, shape: np.zeros(shape),
}


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One array of logits, in the dtype of the test.

    Attributes
    ----------
    x : array
    axis : tuple of int or None
        Normalised; None for elementwise operations.
    rows : int
        The number of rows that are used.
    rows_in_all : int
        The number of rows that the test has.
    """

    x: Array
    axis: tuple[int, ...] | None
    rows: int
    rows_in_all: int

    @property
    def length(self) -> int:
        """The length of a row."""
        return self.x.size // self.rows if self.rows else 0

    def flat(self, values: Array) -> Array:
        """The array as a matrix: the normalised axes at the end and joined, all others joined before them."""
        if self.axis is None:
            return values.reshape(1, -1)
        moved = np.moveaxis(values, self.axis, range(values.ndim - len(self.axis), values.ndim))
        return moved.reshape(self.rows, self.length) if values.size else np.empty((0, 1))

    def back(self, rows: Array) -> Array:
        """The inverse of `flat`."""
        if self.axis is None:
            return rows.reshape(self.x.shape)
        kept = [size for one, size in enumerate(self.x.shape) if one not in self.axis]
        moved = rows.reshape((*kept, *(self.x.shape[one] for one in self.axis)))
        return np.moveaxis(moved, range(len(kept), self.x.ndim), self.axis)


def _axes(shape: Sequence[int], axis: Any, *, takes_axis: bool) -> tuple[int, ...] | None:
    return normalize_axis(axis, len(shape)) if takes_axis else None


def _cut(shape: Sequence[int], kept: Sequence[int], rows: int) -> tuple[int, ...]:
    """The shape with at most `rows` rows: cuts the longest of the other dimensions, repeatedly."""
    sizes = list(shape)
    others = [one for one in range(len(sizes)) if one not in kept]
    while math.prod(sizes[one] for one in others) > rows:
        longest = max(others, key=lambda one: sizes[one])
        rest = math.prod(sizes[one] for one in others if one != longest)
        sizes[longest] = max(1, min(sizes[longest] - 1, rows // rest))
    return tuple(sizes)


def _part(
    shape: Sequence[int], axis: Any, rows: int | None, entries: int, *, takes_axis: bool
) -> tuple[tuple[int, ...], tuple[int, ...] | None, int]:
    """The shape of the rows that are used, the axis, and how many rows there are in all."""
    axes = _axes(shape, axis, takes_axis=takes_axis)
    kept = axes or ()
    length, in_all = math.prod(shape[one] for one in kept), math.prod(shape)
    in_all = in_all // length if length else 0
    if length > _LONGEST:
        message = f"a row of shape={tuple(shape)} along axis={axis!r} has {length:,} entries; at most {_LONGEST:,} "
        raise ConformanceError(message + "can be judged, so give a shape with shorter rows.")
    wanted = rows if rows is not None else max(2, entries // max(1, length))
    return _cut(shape, kept, max(1, wanted)), axes, in_all


def drawing(
    shape: Sequence[int], distribution: str = "normal", *, scale: float = 1.0, shift: float = 0.0
) -> Callable[..., Array]:
    """Return a generator of random logits for `audit`, which draws only as many rows as it needs.

    Parameters
    ----------
    shape : sequence of int
        The shape of the logits.
    distribution : str, optional
        "normal", "uniform" (between 0 and 1), "centred" (between -0.5 and 0.5), "symmetric" (between -1 and 1),
        "masked" (normal, with negative logits replaced by -inf), "lognormal", "integers", "ramp" or "zeros".
    scale, shift : float, optional
        The logits are multiplied by `scale`, and `shift` is added.

    Returns
    -------
    callable
        For the argument `inputs` of `audit`.

    Raises
    ------
    ConformanceError
        For a distribution that does not exist.
    """
    if distribution not in DISTRIBUTIONS:
        message = f"distribution {distribution!r} does not exist; there are {', '.join(DISTRIBUTIONS)}."
        raise ConformanceError(message)

    def draw(rng: np.random.Generator, part: Sequence[int] | None = None) -> Array:
        return scale * DISTRIBUTIONS[distribution](rng, tuple(shape) if part is None else part) + shift

    draw.shape = tuple(shape)  # type: ignore[attr-defined]
    return draw


def inputs(given: Any, dtype: Finfo, axis: Any, *, takes_axis: bool, rows: int | None, seed: int) -> tuple[Input, ...]:
    """The arrays to audit with.

    Raises
    ------
    ConformanceError
        If there are no logits, or an input is no array of real numbers.
    """
    at, made = 0, []
    for one in _list(given):
        for values in _list(_drawn(one, generator(seed, "audit", at))) if _is_function(one) else [one]:
            made.append(_input(values, dtype, axis, takes_axis, rows, generator(seed, "drawn", at)))
            at += 1
    if not any(one.x.size for one in made):
        message = "inputs hold no logits; give an array, a list of them, or a function of a random generator."
        raise ConformanceError(message)
    return tuple(made)


def _list(given: Any) -> Sequence[Any]:
    """The arrays or functions as a list; a list of numbers is one array."""
    several = isinstance(given, (list, tuple)) and all(hasattr(one, "shape") or callable(one) for one in given)
    return given if several else [given]


def _is_function(one: Any) -> bool:
    """Whether this is a user's function that makes logits, and not one of `drawing`, which makes only the rows used."""
    return callable(one) and not hasattr(one, "shape")


def _input(values: Any, dtype: Finfo, axis: Any, takes_axis: bool, rows: int | None, rng: np.random.Generator) -> Input:
    if callable(values):
        part, axes, in_all = _part(cast("Any", values).shape, axis, rows, DRAWN, takes_axis=takes_axis)
        return _entry(dtype.logits(values(rng, part)).astype(dtype.dtype), axes, in_all, takes_axis)
    array = _array(values)
    part, axes, in_all = _part(array.shape, axis, rows, GIVEN, takes_axis=takes_axis)
    array = array[tuple(slice(size) for size in part)]
    with np.errstate(all="ignore"):
        x = array if array.dtype == dtype.dtype else array.astype(dtype.dtype, order="K")
    return _entry(x, axes, in_all, takes_axis)


def _entry(x: Array, axes: tuple[int, ...] | None, in_all: int, takes_axis: bool) -> Input:
    x = np.asarray(x).view()
    x.flags.writeable = False
    used = x.size // max(1, math.prod(x.shape[one] for one in axes or ())) if takes_axis else 1
    return Input(x, axes, used, in_all if takes_axis else 1)


def _drawn(one: Callable[..., Any], rng: np.random.Generator) -> Any:
    try:
        takes = bool(inspect.signature(one).parameters)
    except (TypeError, ValueError):
        takes = True
    return one(rng) if takes else one()


def _array(values: Any) -> Array:
    """The array of any framework as a NumPy array."""
    try:
        if hasattr(values, "shape") and not isinstance(values, (np.ndarray, np.generic)):
            values = polylogit.get_backend(values).to_numpy(values)
        array = np.asarray(values)
        real = array.dtype.kind in "fiubV" and array.astype(np.float64).dtype.kind == "f"
    except (TypeError, ValueError) as error:
        message = f"inputs hold a {type(values).__name__} that cannot be read ({error}); give NumPy arrays."
        raise ConformanceError(message) from error
    if not real:
        message = f"inputs hold {array.dtype} numbers; give logits, which are real, as NumPy arrays."
        raise ConformanceError(message)
    return array


# --- cotangents and losses -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Negative log-likelihood of a class in each row, by one of the reductions of cross-entropy.

    Attributes
    ----------
    targets : array of int
        A class for each row that is used.
    reduction : {"none", "mean", "sum"}
    rows_in_all : int
        The number of rows over which a mean is taken.
    """

    targets: Array
    reduction: str
    rows_in_all: int

    def of(self, log_probabilities: Array) -> Array:
        """The loss of rows of log-probabilities; a mean is taken over the rows that are used."""
        each = -np.take_along_axis(log_probabilities, self.targets[:, None], -1)[:, 0]
        return (
            each if self.reduction == "none" else np.asarray([each.mean() if self.reduction == "mean" else each.sum()])
        )

    def cotangent(self, shape: tuple[int, ...]) -> Array:
        """The cotangent of the log-probabilities, if that of the loss is 1."""
        g = np.zeros(shape)
        np.put_along_axis(g, self.targets[:, None], -1.0 / self.rows_in_all if self.reduction == "mean" else -1.0, -1)
        return g


LOSSES = {"nll": "none", "mean nll": "mean", "sum nll": "sum"}
COTANGENTS = ("normal", "uniform", "ones", *LOSSES)


def loss(one: Input, name: str, seed: int) -> Loss:
    """The loss of that name for these logits, with random classes."""
    targets = generator(seed, "targets", one.x.shape).integers(0, max(1, one.length), one.rows)
    return Loss(targets, LOSSES[name], one.rows_in_all)


def cotangent(given: Any, one: Input, dtype: Finfo, seed: int) -> Array:
    """The cotangent for these logits, in their shape and dtype.

    Raises
    ------
    ConformanceError
        For a name that does not exist, or another shape.
    """
    rng = generator(seed, "cotangent", one.x.shape)
    if isinstance(given, str) and given in LOSSES:
        g = one.back(loss(one, given, seed).cotangent((one.rows, one.length)))
    elif given is None or (isinstance(given, str) and given == "normal"):
        g = np.asarray(rng.normal(size=one.x.shape))
    elif isinstance(given, str) and given in COTANGENTS:
        g = np.asarray(rng.random(one.x.shape) if given == "uniform" else np.ones(one.x.shape))
    elif isinstance(given, str):
        message = f"cotangent={given!r} does not exist; there are {', '.join(COTANGENTS)}, arrays and functions."
        raise ConformanceError(message)
    else:
        g = _array(given(rng, one.x.shape) if callable(given) else given)
        g = g[tuple(slice(size) for size in one.x.shape)] if g.ndim == one.x.ndim else g
    if g.shape != one.x.shape:
        message = f"the cotangent has the shape {g.shape}, the logits {one.x.shape}; give one of that shape."
        raise ConformanceError(message)
    return g if g.dtype == dtype.dtype else dtype.logits(g).astype(dtype.dtype)
