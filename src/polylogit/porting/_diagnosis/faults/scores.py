"""Attention scores as a product of queries and keys plus an additive part: a position bias, a mask.

If earlier activations are the queries and keys, their product is known, and the rest of the scores is the additive
part. A fault of the product alone (another scale, a cap, 16 bits) is then a fault of logits, after the additive part is
subtracted on both sides. Plain NumPy; knows no framework.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence
    from polylogit.porting._diagnosis.faults.fault import Predict, Prediction

__all__ = ["Product", "also_of_the_product", "product_of", "projections", "scores_of"]

# A score from here on is a mask's fill.
MASKED = -9e3
# What is added is the same for the whole batch; of another product this much would be left, as a share of the scores.
UNLIKE = 1e-3


class Product(NamedTuple):
    """Decomposed scores: ``factor * scores_of(queries, keys) + rest``, at the entries `seen`."""

    queries: Array  # (batch, positions, heads * size)
    keys: Array
    factor: float
    values: Array  # of the product, where seen
    rest: Array  # what is added, where seen
    seen: Any  # what is masked on neither side: (batch, heads, queries, keys)


def product_of(evidence: Evidence) -> Product | None:
    """The factors of the reference's scores, if a term is added to their product that is constant over the batch."""
    r, c = evidence.reference, evidence.candidate
    if r.ndim != 4 or r.shape[0] < 2 or r.shape[1] < 2 or evidence.kind != "logits":
        return None
    seen = np.isfinite(r) & np.isfinite(c) & (r > MASKED) & (c > MASKED)
    if not seen.any():
        return None
    for queries, keys in itertools.permutations(projections(evidence, r.shape[1]), 2):
        shapes = (queries.shape[1], keys.shape[1]), (queries.shape[-1],)
        if shapes != (r.shape[2:], (keys.shape[-1],)):
            continue
        product = scores_of(queries, keys, r.shape[1])
        for factor in (1.0, (queries.shape[-1] // r.shape[1]) ** -0.5):
            values = factor * product
            added = np.where(seen, r - values, np.nan)
            spread = np.fmax.reduce(added, axis=0) - np.fmin.reduce(added, axis=0)
            if np.fmax.reduce(spread, axis=None) <= UNLIKE * np.sqrt(np.mean(values[seen] ** 2)):
                return Product(queries, keys, factor, values[seen], added[seen], seen)
    return None


def _product_alone(evidence: Evidence) -> Evidence | None:
    """Only the product on both sides, if something is added to it."""
    found = evidence.once(product_of)
    if found is None or not found.rest.any():
        return None
    candidate = evidence.candidate[found.seen] - found.rest
    return dataclasses.replace(
        evidence, reference=found.values, candidate=candidate, logits=None, find_logits=None, earlier=()
    )


def also_of_the_product(predict: Predict) -> Predict:
    """A fault of logits that also applies to the product, if the logits are scores with an added term."""

    def both(evidence: Evidence) -> Iterator[Prediction]:
        yield from predict(evidence)
        if (alone := evidence.once(_product_alone)) is not None:
            yield from predict(alone)

    return both


def projections(evidence: Evidence, heads: int) -> list[Array]:
    """Earlier activations that may be queries and keys; fused projections are split."""
    batch, found = evidence.reference.shape[0], []
    for _, one in reversed(evidence.earlier):
        if one.ndim != 3 or one.shape[0] != batch or not np.isfinite(one).all():
            continue
        values = one.astype(np.float64)
        parts = [values, *(np.split(values, 3, axis=-1) if one.shape[-1] % (3 * heads) == 0 else ())]
        found += [part for part in parts if part.shape[-1] % heads == 0 and part.shape[-1] > heads]
    return found[:8]


def scores_of(queries: Array, keys: Array, heads: int) -> Array:
    q, k = (one.reshape(*one.shape[:2], heads, -1).swapaxes(1, 2) for one in (queries, keys))
    return np.asarray(q @ k.swapaxes(-1, -2))
