"""The data of one engine: log-probabilities of the chosen tokens, whole rows of them or of logits, or the top k.

Positions are numbered through the batch, row by row. Whole rows are kept in their own dtype and widened a few at a
time. Knows no fault and no framework.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit._spec.formulas import exp, log, log_softmax
from polylogit.errors import ComparisonError

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

__all__ = ["UNDO", "Side", "lattice_of", "logsumexp", "side_of"]

# What makes log-probabilities of numbers that are something else, by the name of the fault.
UNDO: dict[str, Callable[[Array], Array]] = {
    "probabilities": log,
    "sign": np.negative,
    "base-2": lambda values: values * np.log(2.0),
}
# The logarithm of a row's sum may be so far from 0 in log-probabilities; sums of 16-bit ones are that inexact.
NORMALIZED = 0.05
# Rows that sum to less than one, but not by more, are still log-probabilities: a further term is in their denominator.
LEAST_SUM = -3.0
MOSTLY = 0.9
_LOOKED_AT = 64


def logsumexp(rows: Array) -> Array:
    """The logarithm of the sum of exponentials along the last axis, which is kept."""
    top = np.max(rows, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(top + log(np.sum(exp(rows - top), axis=-1, keepdims=True)))


@dataclasses.dataclass(frozen=True)
class Side:
    """The numbers of one engine.

    Attributes
    ----------
    chosen : ndarray of float64
        The value of the chosen token at each position, unchanged; for logits, the log-probability.
    listed : ndarray of bool
        Whether there is a value for the chosen token: the top k may not include it.
    dtype : str
        The dtype of the numbers.
    form : str
        "chosen", "top-k", "logits", "log-probs", "partial" for log-probabilities that sum to less than one, or the name
        of a fault in `UNDO`, which the sums of whole rows reveal.
    whole : ndarray or None
        Rows over the whole vocabulary, in shape (positions, vocabulary), unchanged.
    ids, tops : ndarray or None
        The token ids and the values of the top k.
    """

    chosen: Array
    listed: Array
    dtype: str
    form: str
    whole: Array | None = None
    ids: Array | None = None
    tops: Array | None = None

    @property
    def is_distribution(self) -> bool:
        """Whether the side has log-probabilities of the whole vocabulary, or logits."""
        return self.form in ("logits", "log-probs")

    def rows(self, positions: Array) -> Array:
        """The whole rows for comparison: logits as log-probabilities, other values unchanged."""
        assert self.whole is not None
        values = self.whole[positions].astype(np.float64)
        return log_softmax(values, (-1,)) if self.form == "logits" else values

    def logits(self, positions: Array) -> Array | None:
        """The logits, if the side has them."""
        if self.form != "logits" or self.whole is None:
            return None
        return np.asarray(self.whole[positions].astype(np.float64))


def side_of(given: Array | tuple[Array, Array], tokens: Array, counted: Array, what: str) -> Side:
    """The numbers of one engine, from an array or from the ids and the numbers of its top k.

    `tokens` has any shape; `counted` marks the positions that count.
    """
    shape, ids = tokens.shape, tokens.ravel()
    if isinstance(given, tuple):
        listed_ids, tops = given
        if listed_ids.shape != tops.shape or listed_ids.shape[:-1] != shape:
            message = (
                f"{what} has ids of the shape {listed_ids.shape} and logprobs of {tops.shape}, and tokens {shape}; "
                f"both need the shape {(*shape, 'k')}."
            )
            raise ComparisonError(message)
        listed_ids, tops = (one.reshape(ids.size, -1) for one in (listed_ids, tops))
        found = listed_ids == ids[:, None]
        at = np.argmax(found, axis=1) if tops.shape[1] else np.zeros(ids.size, int)
        listed = found.any(axis=1)
        values = tops.astype(np.float64)
        chosen = (
            np.where(listed, values[np.arange(ids.size), at], np.nan) if tops.shape[1] else np.full(ids.size, np.nan)
        )
        return Side(chosen, listed, tops.dtype.name, "top-k", ids=listed_ids, tops=values)
    everywhere = np.ones(ids.size, bool)
    if given.shape == shape:
        return Side(given.astype(np.float64).ravel(), everywhere, given.dtype.name, "chosen")
    if given.shape[:-1] != shape or not given.shape[-1]:
        message = (
            f"{what} has the shape {given.shape} and tokens {shape}; give the log-probability of each token, {shape}, "
            f"or rows over the vocabulary, {(*shape, 'vocabulary')}."
        )
        raise ComparisonError(message)
    whole = given.reshape(ids.size, -1)
    outside = (ids < 0) | (ids >= whole.shape[1])
    if (outside & counted).any():
        place = np.unravel_index(int(np.argmax(outside & counted)), shape)
        message = (
            f"the token {tokens[place]} at {tuple(map(int, place))} is not in the vocabulary of {whole.shape[1]} that "
            f"{what} has; pass mask= to leave out positions that hold no token."
        )
        raise ComparisonError(message)
    form = _form(whole[_spread(np.flatnonzero(counted), _LOOKED_AT)].astype(np.float64))
    safe = np.where(outside, 0, ids)
    chosen = whole[np.arange(ids.size), safe].astype(np.float64)
    if form == "logits":
        chosen = chosen - _sums(whole)
    return Side(chosen, everywhere, given.dtype.name, form, whole=whole)


def _sums(whole: Array) -> Array:
    """`logsumexp` of each row, some megabytes at a time."""
    step = max(1, 2**20 // whole.shape[1])
    parts = [logsumexp(whole[at : at + step].astype(np.float64))[:, 0] for at in range(0, len(whole), step)]
    return np.concatenate([np.zeros(0), *parts])


def _spread(positions: Array, most: int) -> Array:
    """At most so many of the positions, evenly spaced."""
    if positions.size <= most:
        return positions
    return np.asarray(positions[np.linspace(0, positions.size - 1, most).astype(int)])


def _form(rows: Array) -> str:
    """The kind of rows over the vocabulary, by their sums; a few rows may be wrong."""
    rows = rows[~np.isnan(rows).any(axis=1)]
    if not rows.size:
        return "log-probs"
    if _mostly(_normalized(rows)):
        return "log-probs"
    for name, undo in UNDO.items():
        possible = name != "probabilities" or bool(np.all((rows >= 0) & (rows <= 1 + NORMALIZED)))
        if possible and _mostly(_normalized(undo(rows))):
            return name
    sums = logsumexp(rows)[:, 0]
    below = (rows <= NORMALIZED).all(axis=1) & (sums <= NORMALIZED) & (sums >= LEAST_SUM)
    return "partial" if _mostly(np.asarray(below)) else "logits"


def _normalized(rows: Array) -> Array:
    """Which rows are log-probabilities that sum to one."""
    return np.asarray((rows <= NORMALIZED).all(axis=1) & (np.abs(logsumexp(rows)[:, 0]) <= NORMALIZED))


def _mostly(rows: Array) -> bool:
    return bool(np.mean(rows) >= MOSTLY)


def lattice_of(values: Array) -> str:
    """The 16-bit dtype that can hold all of these numbers, bfloat16 before float16; empty for none.

    Numbers that an even coarser dtype holds, such as 0.5, prove nothing.
    """
    values = values[np.isfinite(values) & (values != 0)]
    for name in ("bfloat16", "float16"):
        dtype = DTYPES[name]
        if np.array_equal(dtype.round(values), values):
            scaled = values / (8.0 * dtype.ulp(values))
            return name if np.count_nonzero(scaled != np.round(scaled)) >= 4 else ""
    return ""
