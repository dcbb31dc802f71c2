"""Faults of the axis: normalised over another axis, all elements, or several axes jointly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.formulas import exp
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array, Axes
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS", "mean", "over_other_axes", "two_way"]


def over_other_axes(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The fault and a prediction for all axes over which only the candidate is normalised."""
    return list(_over_other_axes(evidence)) if evidence.is_distribution else []


def _over_other_axes(evidence: Evidence) -> Iterator[tuple[str, Prediction]]:
    r, right = evidence.reference, evidence.axes
    there = evidence.candidate_axes()
    for axes in there:
        if axes == right:
            continue
        name = _name(right, axes, r.shape)
        parameters = {"axes": _spell(axes), "right_axes": _spell(right)}
        sums = r.size // int(np.prod([r.shape[axis] for axis in axes]))
        # A slice that is masked altogether is 0, NaN or 1/n there, by the habits of the framework.
        gone = np.broadcast_to(np.all(~(exp(evidence.log_reference) > 0), axis=axes, keepdims=True), r.shape)
        c = np.where(gone, 0.0, evidence.candidate)
        if evidence.logits is not None:
            expected = evidence.apply(np.where(np.isneginf(evidence.log_reference), -np.inf, evidence.logits), axes)
            yield name, Prediction(np.where(gone, 0.0, expected), c, parameters, constraints=sums)
        # Without the logits, each row of the reference lacks a constant, which the candidate supplies.
        row, column = two_way(evidence.where_usable(evidence.log_candidate - evidence.log_reference), right, axes)
        free = row.size - column.size if set(right) <= set(axes) else row.size - 1
        expected = np.where(gone, 0.0, evidence.apply(evidence.log_reference + row, axes))
        # Zeros on both sides say nothing, and there may be many.
        bound = sums + int(np.isneginf(evidence.log_reference).sum())
        yield name, Prediction(expected, c, parameters, free=max(0, free), constraints=bound)
    # Over an axis of size one everything is 1: a batch of one that was normalised over the batch.
    singles = [axis for axis, size in enumerate(r.shape) if size == 1]
    if not there and singles and evidence.classes > 1:
        ones = evidence.from_log(np.zeros_like(r))
        yield "wrong-axis", Prediction(ones, evidence.candidate, {"axes": singles[0], "right_axes": _spell(right)})


def _name(right: Axes, wrong: Axes, shape: tuple[int, ...]) -> str:
    if len(wrong) == 1:
        return "wrong-axis"
    real = [axis for axis, size in enumerate(shape) if size > 1]
    return "all-axes" if list(wrong) == real and set(right) != set(wrong) else "flattened-axes"


def _spell(axes: Axes) -> int | tuple[int, ...]:
    return axes[0] if len(axes) == 1 else axes


def two_way(difference: Array, rows: Axes, columns: Axes) -> tuple[Array, Array]:
    """The row and column effects of a two-way layout with gaps (NaN), found by alternating means."""
    row, column = np.zeros_like(mean(difference, rows)), np.zeros_like(mean(difference, columns))
    for _ in range(30):
        row = mean(difference - column, rows)
        column = mean(difference - row, columns)
    return row, column


def mean(values: Array, axes: Axes) -> Array:
    """The mean over axes, ignoring entries that are not finite; 0 if there are no others."""
    there = np.isfinite(values)
    count = there.sum(axis=axes, keepdims=True)
    return np.asarray(np.where(there, values, 0.0).sum(axis=axes, keepdims=True) / np.maximum(count, 1))


FAULTS = (
    Fault(
        "wrong-axis",
        "The candidate is normalised over axis {axes}, the reference over axis {right_axes}.",
        "softmax",
        only("wrong-axis", over_other_axes),
    ),
    Fault(
        "all-axes",
        "The candidate is normalised over all elements at once, the reference over axis {right_axes} only.",
        "softmax",
        only("all-axes", over_other_axes),
        dominates=("sigmoid-for-softmax",),
    ),
    Fault(
        "flattened-axes",
        "The candidate is normalised over the axes {axes} together, the reference over {right_axes}.",
        "polylogit.softmax(x, axis={right_axes})",
        only("flattened-axes", over_other_axes),
        dominates=("sigmoid-for-softmax",),
    ),
)
