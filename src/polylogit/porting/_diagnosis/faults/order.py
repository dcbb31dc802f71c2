"""The wrong order: permuted classes or rows, transposed axes."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting._diagnosis.faults.axes import over_other_axes
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# A slice is looked for among so many others of nearly its size: noise moves it past few of them.
WINDOW = 64


def _permuted(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The classes, or the rows of the batch, come in another order."""
    r, c = evidence.reference, evidence.candidate
    found = []
    for axis, size in enumerate(r.shape):
        if size < 2:
            continue
        order = _matching(np.moveaxis(r, axis, 0).reshape(size, -1), np.moveaxis(c, axis, 0).reshape(size, -1))
        if order is None or np.array_equal(order, np.arange(size)):
            continue
        name = "class-permutation" if axis in evidence.axes[-1:] else "batch-permutation"
        parameters = {"axis": axis, "order": order.tolist()}
        found.append((name, Prediction(np.take(r, order, axis=axis), c, parameters)))
    return found


def _matching(reference: Array, candidate: Array) -> Any:
    """For each slice of the candidate the one slice of the reference that it equals; None where that is not clear."""
    # The columns that differ most between slices tell them apart best.
    spread = np.nan_to_num(np.std(reference, axis=0), nan=-1.0, posinf=-1.0)
    columns = np.argsort(-spread)[: 1 + max(3, min(63, 1_000_000 // len(reference)))]
    a, b = reference[:, columns], candidate[:, columns]
    by_size, by_candidate_size = np.argsort(a[:, 0], kind="stable"), np.argsort(b[:, 0], kind="stable")
    # For each slice of the candidate, those of the reference that are about as large.
    center = np.searchsorted(a[by_size, 0], b[:, 0])
    width = min(WINDOW, len(a))
    start = np.clip(center - width // 2, 0, len(a) - width)
    near = by_size[start[:, None] + np.arange(width)]
    distance = np.zeros(near.shape)
    for index in range(a.shape[1]):
        here, there = a[near, index], b[:, index, None]
        size = np.maximum(np.abs(here), np.abs(there)) + 1e-30
        distance += np.nan_to_num(np.abs(there - here) / size, nan=1.0, posinf=1.0)
    order = near[np.arange(len(near)), np.argmin(distance, axis=1)]
    if len(np.unique(order)) != len(order):
        # Slices nearly alike may be nearest to the same one; in the order of their size they match one to one.
        order[by_candidate_size] = by_size
    if order.size > 2:
        # A slice must be much nearer to its match than to any other; of so many, some fit by chance.
        nearest, second = np.partition(distance, 1, axis=1)[:, :2].T
        if np.mean(nearest <= 0.1 * second) < 0.8:
            return None
    return order


def _transposed(evidence: Evidence) -> Iterator[Prediction]:
    """The axes come in another order; the function may have been applied before or after that."""
    r, c = evidence.reference, evidence.candidate
    if not 2 <= r.ndim <= 5:
        return
    logits = evidence.logits if evidence.logits is not None and evidence.logits.shape == r.shape else None
    for order in itertools.permutations(range(r.ndim)):
        if order == tuple(range(r.ndim)) or tuple(r.shape[axis] for axis in order) != c.shape:
            continue
        turned = np.transpose(r, order)
        if np.array_equal(turned, r):
            continue
        parameters = {"order": order}
        yield Prediction(turned, c, parameters)
        # Logits that were transposed first and then normalised over what is now the same axis.
        if evidence.is_distribution and tuple(order.index(axis) for axis in evidence.axes) != evidence.axes:
            back = dataclasses.replace(evidence, candidate=np.transpose(c, np.argsort(order)), logits=logits)
            wrong = tuple(sorted(order[axis] for axis in evidence.axes))
            for _, prediction in over_other_axes(back):
                axes = prediction.parameters["axes"]
                if (axes if isinstance(axes, tuple) else (axes,)) == wrong:
                    yield dataclasses.replace(prediction, parameters=parameters)


FAULTS = (
    Fault(
        "class-permutation",
        "The candidate's classes (axis {axis}) come in another order.",
        "take",
        only("class-permutation", _permuted),
        obvious=True,
    ),
    Fault(
        "batch-permutation",
        "The candidate's rows (axis {axis}) come in another order: the inputs were shuffled or sorted differently.",
        "take",
        only("batch-permutation", _permuted),
        obvious=True,
    ),
    Fault(
        "transposed",
        "The candidate's axes come in the order {order} of the reference's.",
        "transpose",
        _transposed,
        reshaped=_transposed,
        obvious=True,
    ),
)
