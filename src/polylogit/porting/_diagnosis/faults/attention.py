"""Faults of attention masks (causal, padding, window) and of a bias by distance, recognised from the weights.

Where both sides have a nonzero weight, a mask only changes a factor per row, so the two agree there after their rows
are renormalised. The pattern of the two masks decides the cause: each is a band around the diagonal (with an upper edge
if causal, a lower edge if a window) times a set of keys (the others are padding). Plain NumPy; knows no framework.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.formulas import exp
from polylogit.porting._diagnosis.faults.axes import mean
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS", "maps"]

# With fewer queries or keys, any mask is a band.
LEAST = 4
# So many entries more than rows must be seen by both sides.
SHARED = 6
# Weights that differ by less are alike, with noise on top.
ALIKE = 1e-3


def maps(evidence: Evidence) -> Iterator[tuple[Array, Array]]:
    """The weights of both sides as (..., queries, keys), for each axis that may be the one of queries."""
    if not evidence.is_distribution or len(evidence.axes) != 1 or evidence.classes < LEAST:
        return
    keys = evidence.axes[0]
    p, q = (exp(one) if evidence.as_log else one for one in (evidence.reference, evidence.candidate))
    for queries in reversed([axis for axis in range(p.ndim) if axis != keys and p.shape[axis] >= LEAST]):
        yield np.moveaxis(p, (queries, keys), (-2, -1)), np.moveaxis(q, (queries, keys), (-2, -1))


# --- the mask of one side --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Mask:
    """A band times a set of keys: query i sees key j if low <= j - i <= high and j is not padding."""

    low: float  # minus infinity where nothing is cut off
    high: float
    keys: Any  # (..., 1, keys)
    entries: Any  # what it lets through

    @property
    def band(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def padded(self) -> bool:
        return not bool(np.all(self.keys))


class _Side:
    """The entries at which one side has weights."""

    def __init__(self, p: Array, eps: float) -> None:
        self.seen = p > 0
        count = self.seen.sum(-1)
        with np.errstate(all="ignore"):
            top = np.max(np.where(self.seen, p, 0.0), -1)
            least = np.min(np.where(self.seen, p, np.inf), -1)
            # Scores that are all masked with one finite number make all weights alike; two may be alike by chance.
            flat = (count > 1) & (top - least <= np.where(count > 2, ALIKE, 16 * eps) * top)
        self.full = (count > 0) & ~flat & ~np.isnan(p).any(-1)  # rows that show the mask
        self.keys = (self.seen & self.full[..., None]).any(-2, keepdims=True)

    def mask(self, keys: Any) -> _Mask | None:
        """The mask with these keys; None if it is not a band of them."""
        queries, length = self.seen.shape[-2:]
        distance = np.arange(length) - np.arange(queries)[:, None]
        shown = self.full[..., None]
        there = np.broadcast_to(distance, self.seen.shape)[self.seen & shown]
        if not there.size:
            return None
        low, high = float(there.min()), float(there.max())
        entries = (distance >= low) & (distance <= high) & keys
        if np.any((entries != self.seen) & shown):
            return None
        if not np.any(keys & (distance > high) & shown):
            high = np.inf
        if not np.any(keys & (distance < low) & shown):
            low = -np.inf
        return _Mask(low, high, keys, (distance >= low) & (distance <= high) & keys)

    def fits(self, mask: _Mask, other: _Side) -> bool:
        """Whether the rows that show no mask are those that it empties, or that the other side lacks, too."""
        return not np.any(mask.entries.any(-1) & ~self.full & other.full)


# --- what the two masks are to each other ----------------------------------------------------------------------------


def _relation(here: _Mask, there: _Mask) -> tuple[str, dict[str, Any]] | None:
    """The name of the fault that turns the first mask into the second, and its parameters."""
    same_keys = np.array_equal(here.keys, there.keys)
    if not same_keys:
        if here.band != there.band or not here.padded:
            return None
        if not there.padded:
            return ("padding-missing", {}) if np.isfinite(here.band).any() else None
        return ("padding-side", {}) if np.array_equal(here.keys[..., ::-1], there.keys) else None
    if here.low == there.low and np.isfinite(here.high):
        if there.high - here.high in (1.0, -1.0):
            return "causal-off-by-one", {"sees": _OFF[there.high > here.high]}
        if np.isinf(there.high) and here.padded:
            return "causal-missing", {}
    windows = _window(here), _window(there)
    if here.band != there.band and None not in windows and _same_future(here, there):
        return "sliding-window", {"right_width": windows[0], "width": windows[1]}
    return None


_OFF = {True: "each query sees the next position", False: "no query sees its own position"}


def _window(mask: _Mask) -> str | None:
    """How far a query sees, in words."""
    if np.isinf(mask.low):
        return None if np.isfinite(mask.high) and mask.high > 0 else "all positions"
    if mask.high == -mask.low:
        return f"{int(mask.high)} positions to either side"
    return f"the last {int(1 - mask.low)} positions"


def _same_future(here: _Mask, there: _Mask) -> bool:
    """Whether both see equally far ahead, or one has a window on both sides and the other none."""
    both = here.high == there.high
    return both or any(np.isinf(a.low) and np.isinf(a.high) and b.high == -b.low for a, b in _orders(here, there))


def _orders(a: _Mask, b: _Mask) -> tuple[tuple[_Mask, _Mask], tuple[_Mask, _Mask]]:
    return (a, b), (b, a)


def _masks(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The fault that turns the reference's mask into the candidate's."""
    for r, c in maps(evidence):
        here, there = (_Side(one, evidence.precision.eps) for one in (r, c))
        right = here.mask(here.keys)
        if right is None or not here.fits(right, there):
            continue
        for keys in (here.keys, np.ones_like(here.keys), here.keys[..., ::-1]):
            wrong = there.mask(keys)
            if wrong is None or not there.fits(wrong, here):
                continue
            relation = _relation(right, wrong)
            shared = right.entries & wrong.entries & (here.full & there.full)[..., None]
            rows = int(shared.any(-1).sum())
            if relation is None or shared.sum() - rows < SHARED:
                continue
            expected, observed = (_normalized(one, shared) for one in (r, c))
            elsewhere = int(shared.size - shared.sum())
            entries = int((right.entries != wrong.entries).sum())
            name, parameters = relation
            return [
                (
                    name,
                    Prediction(
                        expected,
                        observed,
                        {**parameters, "entries": entries},
                        constraints=elsewhere + rows,
                        measure="relative",
                    ),
                )
            ]
    return []


def _normalized(p: Array, shared: Any) -> Array:
    kept = np.where(shared, p, 0.0)
    total = kept.sum(-1, keepdims=True)
    return np.asarray(kept / np.where(total > 0, total, 1.0))


# --- a bias of the scores by distance --------------------------------------------------------------------------------


def _relative_bias(evidence: Evidence) -> Iterator[Prediction]:
    """One side adds a number to the scores that depends only on the distance from query to key."""
    if not evidence.is_distribution or not evidence.usable.any():
        return
    difference = evidence.where_usable(evidence.log_candidate - evidence.log_reference)
    keys = evidence.axes[0]
    r, c = evidence.reference, evidence.candidate
    for axis in reversed([axis for axis in range(r.ndim) if axis != keys and r.shape[axis] >= LEAST]):
        if len(evidence.axes) != 1 or r.shape[keys] < LEAST:
            return
        moved = np.moveaxis(difference, (axis, keys), (-2, -1))
        for heads in {False, moved.ndim == 4 and moved.shape[0] > 1}:
            # What does not explain the first of a batch does not explain them all.
            first = moved[:1] - mean(moved[:1], (-1,))
            rest = first - _by_distance(moved[:1], each_head=heads)[1]
            rest = rest - mean(rest, (-1,))
            if not np.nansum(rest**2) < 0.1 * np.nansum(first**2):
                continue
            bias, spread = _by_distance(moved, each_head=heads)
            # A bias that does not vary is none; one that fills half of what is seen explains anything.
            if not np.any(bias) or 2 * bias.size > np.isfinite(moved).sum():
                continue
            spread = np.moveaxis(np.broadcast_to(spread, moved.shape), (-2, -1), (axis, keys))
            expected = evidence.apply(evidence.log_reference + spread)
            expected = np.where(np.isfinite(evidence.log_reference), expected, r)
            yield Prediction(expected, c, {"bias": bias.reshape(-1)}, free=bias.size)


def _by_distance(difference: Array, *, each_head: bool) -> tuple[Array, Array]:
    """The numbers for each distance (and each head), and the same in the layout of the weights, without row means."""
    queries, keys = difference.shape[-2:]
    index = np.arange(keys) - np.arange(queries)[:, None] + queries - 1
    flat = difference if each_head else difference.reshape(1, -1, queries, keys)
    if each_head:
        flat = np.moveaxis(flat, 1, 0)
    bias = np.zeros((len(flat), queries + keys - 1))
    for _ in range(60):
        rest = flat - bias[:, None][..., index]
        rest = flat - mean(rest, (-1,))
        good = np.isfinite(rest)
        before = bias.copy()
        for head, (values, there) in enumerate(zip(rest, good, strict=True)):
            where = np.broadcast_to(index, values.shape)[there]
            total = np.bincount(where, values[there], queries + keys - 1)
            bias[head] = total / np.maximum(np.bincount(where, minlength=queries + keys - 1), 1)
        if np.max(np.abs(bias - before)) < 1e-12:
            break
    bias -= bias.mean(-1, keepdims=True)
    spread = bias[..., index]
    return bias, spread if each_head else spread[0]


FAULTS = (
    Fault(
        "causal-off-by-one",
        "The candidate's causal mask is off by one: {sees}.",
        "causal",
        only("causal-off-by-one", _masks),
        dominates=("mask-missing",),
        obvious=True,
    ),
    Fault(
        "causal-missing",
        "The candidate lacks the causal mask and keeps that of the padding: its queries see the {entries} later keys.",
        "causal",
        only("causal-missing", _masks),
        dominates=("mask-missing",),
        obvious=True,
    ),
    Fault(
        "padding-missing",
        "The candidate lacks the mask of the padding and keeps the causal one: {entries} padded entries have weights.",
        "padding",
        only("padding-missing", _masks),
        dominates=("mask-missing",),
        obvious=True,
    ),
    Fault(
        "padding-side",
        "The candidate masks the padding at the other end of the sequences.",
        "padding side",
        only("padding-side", _masks),
        dominates=("mask-missing", "mask-inverted"),
        obvious=True,
    ),
    Fault(
        "sliding-window",
        "The candidate's queries see {width}, the reference's {right_width}.",
        "window",
        only("sliding-window", _masks),
        dominates=("mask-missing",),
        obvious=True,
    ),
    Fault(
        "relative-bias",
        "The scores differ by a number that depends on the distance from query to key alone, up to {largest:.4g}: a "
        "bias of relative positions is missing, or is added twice.",
        "scores = scores + bias  # one number a distance (and head), on both sides",
        _relative_bias,
        dominates=("missing-bias",),  # a bias that grows with the distance is one for each key
        obvious=True,
    ),
)
