"""Faults that show as zeros, NaN and infinities in the wrong place: masks, rows without any entry, dropout.

Like `hypotheses`: every function yields what its fault would look like and judges nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting.attempts import Attempt
from polylogit.spec.formulas import exp, log, log_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.porting.evidence import Evidence
    from polylogit.spec.formulas import Array, Axes

__all__ = ["ABSENCES"]


def _probabilities(values: Array, evidence: Evidence) -> Array:
    return exp(values) if evidence.kind == "log-probabilities" else values


def _all(condition: Any, axes: Axes) -> Any:
    return np.broadcast_to(np.all(condition, axis=axes, keepdims=True), condition.shape)


def _masked(evidence: Evidence) -> tuple[Any, Any]:
    """Where the reference has masked entries, and which of its rows are masked altogether."""
    p = _probabilities(evidence.reference, evidence)
    zero = p == 0
    return zero, _all(zero | np.isnan(p), evidence.axes)


def mask_missing(evidence: Evidence) -> Iterator[Attempt]:
    """Masked entries take part in the candidate: without them, it is the reference."""
    if not evidence.is_distribution:
        return
    zero, empty = _masked(evidence)
    masked = zero & ~empty
    p = _probabilities(evidence.candidate, evidence)
    with np.errstate(all="ignore"):
        if not masked.any() or np.mean(p[masked] > evidence.precision.floor) < 0.95:
            return
        restricted = np.where(masked | empty, -np.inf, log(p))
    # Rows that the mask empties are a matter of policy, whichever way the mask is applied.
    expected = np.where(empty, 0.0, evidence.reference)
    observed = np.where(empty, 0.0, evidence.from_log(log_softmax(restricted, evidence.axes)))
    yield Attempt("mask-missing", expected, observed, {"entries": int(masked.sum())})


def mask_inverted(evidence: Evidence) -> Iterator[Attempt]:
    """The candidate masks exactly what the reference keeps."""
    if not evidence.is_distribution or evidence.classes < 2:
        return
    zero, empty = _masked(evidence)
    full = _all(~zero & ~empty, evidence.axes)
    mixed = ~empty & ~full
    p = _probabilities(evidence.candidate, evidence)
    gone = p == 0
    decided = mixed | empty
    if not mixed.any() or not np.array_equal(gone[decided], ~zero[decided] & ~empty[decided]):
        return
    # Two entries, of which one is left: the classes may as well have been swapped.
    kept = int(np.max(np.sum(zero & mixed, axis=evidence.axes), initial=0))
    lost = int(np.max(np.sum(~zero & mixed, axis=evidence.axes), initial=0))
    if kept < 2 and lost < 2:
        return
    if evidence.logits is not None and np.all(np.isfinite(evidence.logits)):
        expected = exp(log_softmax(np.where(zero, evidence.logits, -np.inf), evidence.axes))
        expected, observed = np.where(decided, expected, 0.0), np.where(decided, p, 0.0)
        yield Attempt("mask-inverted", expected, observed, {"checked": True}, measure="relative")
    sums = np.sum(p, axis=evidence.axes, keepdims=True)
    sums = np.where(np.any(decided, axis=evidence.axes, keepdims=True), sums, 1.0)
    # Its values cannot be checked without the logits; that they sum to one over the complement can.
    yield Attempt("mask-inverted", np.ones_like(sums), sums, {"checked": False}, measure="relative", proven=True)


def masked_rows(evidence: Evidence) -> Iterator[Attempt]:
    """The two differ only in rows without any entry, where frameworks have different habits."""
    if not evidence.is_distribution:
        return
    here = _policies(evidence.reference, evidence)
    there = _policies(evidence.candidate, evidence)
    different = (here != there) & (here != "") & (there != "")
    if not different.any() or different.all():
        return
    kinds = sorted({f"{a} -> {b}" for a, b in zip(here[different], there[different], strict=True)})
    spread = np.broadcast_to(different, evidence.reference.shape)
    r, c = np.where(spread, 0.0, evidence.reference), np.where(spread, 0.0, evidence.candidate)
    reference, candidate = kinds[0].split(" -> ")
    parameters = {"rows": int(different.sum()), "reference": reference, "candidate": candidate}
    yield Attempt("masked-row-policy", r, c, parameters)


def _policies(values: Array, evidence: Evidence) -> Any:
    """For each row, what it is filled with: "zeros", "NaN", "uniform" or nothing of the kind."""
    p = _probabilities(values, evidence)
    axes = evidence.axes
    with np.errstate(all="ignore"):
        uniform = np.all(np.abs(p * evidence.classes - 1) < 1e-3, axis=axes, keepdims=True)
    rules = [np.all(p == 0, axis=axes, keepdims=True), np.all(np.isnan(p), axis=axes, keepdims=True), uniform]
    return np.select(rules, ["zeros", "NaN", "uniform"], default="")


def dropout(evidence: Evidence) -> Iterator[Attempt]:
    """Entries are zero at random and the others larger by 1 / (1 - p)."""
    r, c = evidence.reference, evidence.candidate
    with np.errstate(all="ignore"):
        alive = np.isfinite(r) & np.isfinite(c) & (np.abs(r) > evidence.precision.floor)
        dropped = alive & (c == 0)
        kept = alive & ~dropped
        if dropped.sum() < 2 or kept.sum() < 2:
            return
        scale = float(np.median(c[kept] / r[kept]))
    p = 1.0 - 1.0 / scale if scale > 1.0 else 0.0
    n = int(alive.sum())
    fraction = float(dropped.sum()) / n
    if not 0.002 < p < 0.998 or abs(fraction - p) > 5.0 * np.sqrt(p * (1 - p) / n) + 1.0 / n:
        return
    rounded = round(p, 2)
    p = rounded if abs(rounded - p) < 1e-3 * (1 - p) else p
    yield Attempt("dropout-active", np.where(dropped, 0.0, r * scale), c, {"p": p, "zeros": fraction}, free=1)


ABSENCES = (mask_missing, mask_inverted, masked_rows, dropout)
