"""Faults of order: permuted classes or rows, transposed axes, channels first or last, heads split or merged wrongly."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting._diagnosis.faults.axes import mean, over_other_axes
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only
from polylogit.porting._diagnosis.faults.scores import product_of, projections, scores_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# A slice is looked for among so many others of nearly its size: noise moves it past few of them.
WINDOW = 64


def _permuted(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The classes, or the rows of the batch, are in another order."""
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
    """For each slice of the candidate, the only equal slice of the reference; None if that is ambiguous."""
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
    """The axes are in another order; the function may have been applied before or after the transposition."""
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


def _layout(evidence: Evidence) -> Iterator[Prediction]:
    """Channels are last instead of first, or first instead of last, beyond at least two axes of an image."""
    r, c = evidence.reference, evidence.candidate
    if not 4 <= r.ndim <= 5:
        return
    for source, target in ((1, -1), (-1, 1)):
        # Of weights that are normalised over another axis, this would be no layout.
        if evidence.is_distribution and evidence.axes != (source % r.ndim,):
            continue
        moved = np.moveaxis(r, source, target)
        if moved.shape != c.shape or np.array_equal(moved, r):
            continue
        order = tuple(int(axis) for axis in _moved(r.ndim, source, target))
        names = {(1, -1): ("last", "first"), (-1, 1): ("first", "last")}[source, target]
        yield Prediction(moved, c, {"order": order, "where": names[0], "right_where": names[1]})


def _moved(ndim: int, source: int, target: int) -> list[int]:
    axes = list(range(ndim))
    axis = axes.pop(source)
    axes.insert(target % ndim, axis)
    return axes


def _flattened(evidence: Evidence) -> Iterator[Prediction]:
    """Images became rows with the channels of each place together, or with the places of each channel."""
    r, c = evidence.reference, evidence.candidate
    if r.ndim != 2 or r.shape != c.shape:
        return
    image = next((one.shape for _, one in reversed(evidence.earlier) if one.ndim > 3 and one.shape[0] == len(r)), ())
    for axis in _channels(image):
        first, channels = axis == 1, image[axis]
        if 1 < channels < r.shape[1] and r.shape[1] % channels == 0:
            expected = _swapped(r, r.shape[1] // channels if first else channels)
            order, where = ((0, 2, 3, 1), ("last", "first")) if first else ((0, 3, 1, 2), ("first", "last"))
            yield Prediction(expected, c, {"order": order, "where": where[0], "right_where": where[1]})


def _channels(image: tuple[int, ...]) -> tuple[int, ...]:
    """The axes where an image may have its channels: most images have as many rows as columns."""
    if len(image) != 4:
        return ()
    _, first, middle, last = image
    return (1,) if middle == last != first else (3,) if first == middle != last else (1, 3)


# --- heads of attention ----------------------------------------------------------------------------------------------


def _head_layout(evidence: Evidence) -> Iterator[Prediction]:
    """Channels are split into (size, heads) instead of (heads, size), or merged without moving the heads back."""
    r, c = evidence.reference, evidence.candidate
    if (product := evidence.once(product_of)) is not None:
        heads, size = r.shape[1], product.queries.shape[-1] // r.shape[1]
        other = scores_of(_swapped(product.queries, heads), _swapped(product.keys, heads), heads)
        wrong = product.rest + product.factor * other[product.seen]
        yield Prediction(wrong, c[product.seen], {"heads": heads, "size": size})
    if r.ndim < 2 or not (np.isfinite(r).all() and np.isfinite(c).all()):
        return
    if evidence.is_distribution:
        yield from _weights_of_other_heads(evidence)
        return
    for heads, size, expected in (*_split_apart(r), *_within_channels(r), *_merged(r)):
        if _near(expected, c):
            yield Prediction(expected, c, {"heads": heads, "size": size})


def _near(expected: Array, observed: Array) -> bool:
    """Whether most entries are about equal, to reject hypotheses quickly."""
    a, b = (one.reshape(-1)[:: max(1, one.size // 4096)] for one in (expected, observed))
    return bool(np.median(np.abs(a - b)) < 0.01 * np.sqrt(np.mean(a * a)))


def _swapped(values: Array, heads: int) -> Array:
    """Channels along the last axis that were read as (size, heads), rearranged as if read as (heads, size)."""
    parts = values.reshape(*values.shape[:-1], -1, heads)
    return np.ascontiguousarray(np.swapaxes(parts, -1, -2)).reshape(values.shape)


def _split_apart(r: Array) -> Iterator[tuple[int, int, Array]]:
    """Heads along a separate axis."""
    for axis in range(1, r.ndim - 1):
        heads, size = r.shape[axis], r.shape[-1]
        if r.ndim < 4 or heads < 2 or size < 2 or heads == size:
            continue  # as many heads as channels: that is a transposition
        moved = np.moveaxis(r, axis, -2)
        flat = moved.reshape(*moved.shape[:-2], -1)
        for count in (heads, size):
            yield heads, size, np.moveaxis(_swapped(flat, count).reshape(moved.shape), -2, axis)


def _divisors(n: int) -> list[int]:
    return [h for h in range(2, min(n, 257)) if n % h == 0 and n // h > 1]


def _within_channels(r: Array) -> Iterator[tuple[int, int, Array]]:
    """Heads within the channels."""
    if r.shape[-1] >= 8:
        for heads in _divisors(r.shape[-1]):
            yield heads, r.shape[-1] // heads, _swapped(r, heads)


def _merged(r: Array) -> Iterator[tuple[int, int, Array]]:
    """Heads that were merged while still before the positions."""
    if r.ndim == 3 and r.shape[-1] >= 8 and r.shape[-2] > 1:
        batch, length, channels = r.shape
        for heads in _divisors(channels):
            size = channels // heads
            split = r.reshape(batch, length, heads, size)
            yield heads, size, np.swapaxes(split, 1, 2).reshape(r.shape)
            yield heads, size, np.swapaxes(r.reshape(batch, heads, length, size), 1, 2).reshape(r.shape)


def _weights_of_other_heads(evidence: Evidence) -> Iterator[Prediction]:
    """Attention weights if the queries and keys are known, with both split in the other way."""
    r = evidence.reference
    if r.ndim != 4 or evidence.axes != (3,) or r.shape[1] < 2:
        return
    heads = r.shape[1]
    seen = np.isfinite(evidence.log_reference)
    for queries, keys in itertools.permutations(projections(evidence, heads), 2):
        if queries.shape[1] != r.shape[2] or keys.shape[1] != r.shape[3] or queries.shape[-1] != keys.shape[-1]:
            continue
        size = queries.shape[-1] // heads
        factor = _factor(scores_of(queries[:1], keys[:1], heads), evidence.log_reference[:1], seen[:1])
        if factor is None:
            continue
        wrong = factor * scores_of(_swapped(queries, heads), _swapped(keys, heads), heads)
        expected = evidence.apply(np.where(seen, wrong, -np.inf))
        yield Prediction(
            np.where(np.isfinite(expected), expected, r), evidence.candidate, {"heads": heads, "size": size}
        )


def _factor(scores: Array, logarithms: Array, seen: Any) -> float | None:
    """The factor of the scores, if the weights are theirs."""
    x, y = (one - mean(np.where(seen, one, np.nan), (-1,)) for one in (scores, logarithms))
    x, y = x[seen], y[seen]
    power = float(np.sum(x * x))
    if power == 0.0:
        return None
    factor = float(np.sum(x * y)) / power
    return factor if np.sum((y - factor * x) ** 2) < 1e-6 * np.sum(y * y) else None


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
    Fault(
        "layout",
        "The candidate has its channels {where}, the reference {right_where}: the values agree once they are moved, "
        "which is no fault in itself.",
        "layout",
        _layout,
        reshaped=_layout,
        dominates=("transposed", "batch-permutation", "class-permutation"),
        obvious=True,
    ),
    Fault(
        "flatten-order",
        "The candidate flattens images with their channels {where}, the reference with their channels {right_where}: "
        "move them back before that.",
        "layout",
        _flattened,
        dominates=("head-layout", "class-permutation"),
        obvious=True,
    ),
    Fault(
        "head-layout",
        "The candidate splits or merges the channels as ({size}, heads) where the reference has ({heads} heads, "
        "{size}).",
        "heads",
        _head_layout,
        dominates=("class-permutation", "batch-permutation", "transposed"),
        obvious=True,
    ),
)
