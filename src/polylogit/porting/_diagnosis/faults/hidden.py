"""Helpers for faults of hidden activations: earlier activations, likeness, and enough rows for a conclusion.

Unlike probabilities, hidden activations obey no law. The input of a layer is looked for among the activations just
before it that agree on both sides. Plain NumPy; knows no fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.agreement import agreement

if TYPE_CHECKING:
    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FEW", "alike", "distance", "is_hidden", "rows_of", "same_shape", "some", "some_rows", "tall"]

# A statistic of so few rows or channels says nothing.
FEW = 4


def same_shape(evidence: Evidence) -> list[tuple[str, Array]]:
    """Earlier activations of the reference's shape, the latest first, in float64."""
    shape = evidence.reference.shape
    found: list[tuple[str, Array]] = []
    for name, one in reversed(evidence.earlier):
        # The same activation is often recorded more than once: as a module's output and as its parent's.
        if one.shape == shape and not any(np.array_equal(one, other) for _, other in found):
            found.append((name, one.astype(np.float64)))
    if evidence.logits is not None and evidence.logits.shape == shape and not found:
        found = [("x", evidence.logits)]
    return [(name, one) for name, one in found if np.isfinite(one).all()]


def alike(expected: Array, observed: Array, evidence: Evidence) -> bool:
    """Whether two arrays agree as correct ports of hidden activations do."""
    return agreement(expected, observed, "scale", evidence.precision).agrees


def is_hidden(evidence: Evidence) -> bool:
    """Whether these are hidden activations that differ by more than the last digit."""
    return bool(evidence.once(_compute_hidden))


def _compute_hidden(evidence: Evidence) -> bool:
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution or not r.ndim or not (np.isfinite(r).all() and np.isfinite(c).all()):
        return False
    return bool(np.sum((c - r) ** 2) > (4 * evidence.precision.eps) ** 2 * np.sum(r * r))


def some(values: Array, most: int = 8192) -> Array:
    """Entries from all over an array, to test hypotheses quickly."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // most)]


def some_rows(values: Array, most: int = 256) -> Array:
    """Rows from all over an array, along its last axis."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: max(1, len(rows) // most)]


def distance(a: Array, b: Array) -> float:
    return float(np.mean((a - b) ** 2))


def rows_of(values: Array) -> Array:
    """The rows of an array along its last axis."""
    return values.reshape(-1, values.shape[-1])


def tall(evidence: Evidence) -> bool:
    """Whether these are hidden activations with enough rows and channels for statistics."""
    r = evidence.reference
    if evidence.kind != "logits" or r.ndim < 2 or not is_hidden(evidence):
        return False
    return bool(r.shape[-1] >= 2 * FEW and r.size // r.shape[-1] >= 2 * FEW)
