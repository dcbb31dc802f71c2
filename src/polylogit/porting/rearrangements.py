"""Faults in the order of things: permuted classes or rows, transposed axes, and shapes that differ.

Like `hypotheses`: every function yields what its fault would look like and judges nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting.attempts import Attempt
from polylogit.porting.hypotheses import other_axes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.porting.evidence import Evidence
    from polylogit.spec.formulas import Array

__all__ = ["REARRANGEMENTS", "RESHAPED"]

# A slice is looked for among so many others of nearly its size: noise moves it past few of them.
WINDOW = 64


def permuted(evidence: Evidence) -> Iterator[Attempt]:
    """The classes, or the rows of the batch, come in another order."""
    r, c = evidence.reference, evidence.candidate
    class_axis = evidence.axes[-1] if evidence.axes else None
    for axis, size in enumerate(r.shape):
        if size < 2:
            continue
        order = _matching(np.moveaxis(r, axis, 0).reshape(size, -1), np.moveaxis(c, axis, 0).reshape(size, -1))
        if order is None or np.array_equal(order, np.arange(size)):
            continue
        name = "class-permutation" if axis == class_axis else "batch-permutation"
        parameters = {"axis": axis, "order": order.tolist()}
        yield Attempt(name, np.take(r, order, axis=axis), c, parameters)


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
        other, own = a[near, index], b[:, index, None]
        size = np.maximum(np.abs(other), np.abs(own)) + 1e-30
        distance += np.nan_to_num(np.abs(own - other) / size, nan=1.0, posinf=1.0)
    order = near[np.arange(len(near)), np.argmin(distance, axis=1)]
    if len(np.unique(order)) != len(order):
        # Slices nearly alike may be nearest to the same one; in the order of their size they match one to one.
        order[by_candidate_size] = by_size
    if order.size > 2:
        # A slice must be much nearer to its own than to any other, or there are so many that some fit by chance.
        nearest, second = np.partition(distance, 1, axis=1)[:, :2].T
        if np.mean(nearest <= 0.1 * second) < 0.8:
            return None
    return order


def transposed(evidence: Evidence) -> Iterator[Attempt]:
    """The axes come in another order; the function may have been applied before or after that."""
    r, c = evidence.reference, evidence.candidate
    if not 2 <= r.ndim <= 5:
        return
    for order in itertools.permutations(range(r.ndim)):
        if order == tuple(range(r.ndim)) or tuple(r.shape[axis] for axis in order) != c.shape:
            continue
        turned = np.transpose(r, order)
        if np.array_equal(turned, r):
            continue
        parameters = {"order": order}
        yield Attempt("transposed", turned, c, parameters)
        # Logits that were transposed first and then normalised over what is now the same axis.
        back = dataclasses.replace(evidence, candidate=np.transpose(c, np.argsort(order)), logits=_same(evidence, r))
        if evidence.is_distribution and tuple(order.index(axis) for axis in evidence.axes) != evidence.axes:
            wrong = tuple(sorted(order[axis] for axis in evidence.axes))
            for attempt in other_axes(back):
                axes = attempt.parameters["axes"]
                if (axes if isinstance(axes, tuple) else (axes,)) == wrong:
                    yield dataclasses.replace(attempt, name="transposed", parameters=parameters)


def _same(evidence: Evidence, r: Array) -> Array | None:
    return evidence.logits if evidence.logits is not None and evidence.logits.shape == r.shape else None


# --- shapes that differ, and yet correspond --------------------------------------------------------------------------


def one_of_two(evidence: Evidence) -> Iterator[Attempt]:
    """One sigmoid where the other side has softmax over two classes: two columns against one."""
    r, c = evidence.reference, evidence.candidate
    wide, narrow = (r, c) if r.size > c.size else (c, r)
    for axis, size in enumerate(wide.shape):
        if size != 2 or wide.size != 2 * narrow.size:
            continue
        for index in (1, 0):
            column = np.take(wide, [index], axis=axis)
            if narrow.shape in (column.shape, np.squeeze(column, axis).shape):
                column = column.reshape(narrow.shape)
                pair = (column, c) if wide is r else (r, column)
                parameters = {"column": index, "axis": axis}
                yield Attempt("binary-sigmoid", pair[0], pair[1], parameters, measure="relative")


def argmax_indices(evidence: Evidence) -> Iterator[Attempt]:
    """The candidate holds the index of the largest class."""
    r, c = evidence.reference, evidence.candidate
    for axis in evidence.axes:
        index = np.argmax(r, axis=axis)
        for shaped in (index, np.expand_dims(index, axis)):
            if shaped.shape == c.shape and np.any(shaped != 0):
                yield Attempt("hard-argmax", shaped.astype(float), c, {"indices": True}, measure="scale")


REARRANGEMENTS = (permuted, transposed)
RESHAPED = (transposed, one_of_two, argmax_indices)
