"""Faults that put zeros, NaN or infinities in the wrong places: masks, fully masked rows, dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.formulas import exp, log
from polylogit.porting._diagnosis.faults.axes import mean
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array, Axes
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]


def _probabilities(values: Array, evidence: Evidence) -> Array:
    return exp(values) if evidence.as_log else values


def _all(condition: Any, axes: Axes) -> Any:
    return np.broadcast_to(np.all(condition, axis=axes, keepdims=True), condition.shape)


def _masked(evidence: Evidence) -> tuple[Any, Any]:
    """The masked entries of the reference, and its rows in which every entry is masked."""
    p = _probabilities(evidence.reference, evidence)
    zero = p == 0
    return zero, _all(zero | np.isnan(p), evidence.axes)


def _mask_missing(evidence: Evidence) -> Iterator[Prediction]:
    """Masked entries count in the candidate: without them, it equals the reference."""
    if not evidence.is_distribution:
        return
    zero, empty = _masked(evidence)
    masked = zero & ~empty
    p = _probabilities(evidence.candidate, evidence)
    if not masked.any() or np.mean(p[masked] > evidence.precision.floor) < 0.95:
        return
    restricted = np.where(zero | empty, -np.inf, log(p))
    # Rows that the mask empties are a matter of policy, whichever way the mask is applied.
    expected = np.where(empty, 0.0, evidence.reference)
    observed = np.where(empty, 0.0, evidence.apply(restricted))
    yield Prediction(expected, observed, {"entries": int(masked.sum())})


def _mask_fill(evidence: Evidence) -> Iterator[Prediction]:
    """Masked entries have a small weight in the candidate: they were filled with a finite number."""
    if not evidence.is_distribution or evidence.classes < 3:
        return
    zero, empty = _masked(evidence)
    p = _probabilities(evidence.candidate, evidence)
    filled = zero & ~empty & (p > evidence.precision.floor)
    kept = ~zero & ~empty & (p > evidence.precision.floor)
    if filled.sum() < 2 or kept.sum() < 2:
        return
    fill = _filled_with(evidence, log(p), filled, kept)
    if fill is None:
        return
    parameters = {"entries": int(filled.sum()), "fill": fill, "relative": True}
    if evidence.logits is not None and np.isfinite(evidence.logits[kept]).all():
        # The scores are their logarithms but for a constant in each row.
        row = mean(np.where(kept, evidence.logits - log(p), np.nan), evidence.axes)
        parameters |= {"fill": float(np.median((log(p) + row)[filled])), "relative": False}
    restricted = np.where(zero | empty, -np.inf, log(p))
    expected = np.where(empty, 0.0, evidence.reference)
    observed = np.where(empty, 0.0, evidence.apply(restricted))
    yield Prediction(expected, observed, parameters)


def _filled_with(evidence: Evidence, lc: Array, filled: Any, kept: Any) -> float | None:
    """The approximate number that replaces minus infinity; None if the masked entries may as well be scores."""
    lc = lc - mean(np.where(kept, lc, np.nan), evidence.axes)
    inside, scores = lc[filled], lc[kept]
    noise = 64 * evidence.precision.eps * (1.0 + float(np.max(np.abs(inside))))
    rows = filled.sum(axis=evidence.axes, keepdims=True)
    middle = mean(np.where(filled, lc, np.nan), evidence.axes)
    spread = np.where(filled & (rows > 1), np.abs(lc - middle), 0.0)
    if (rows > 1).any() and float(spread.max()) <= max(noise, 1e-3 * float(np.std(scores))):
        return float(np.median(inside))  # all alike, where scores are not
    gap = float(inside.mean())
    wide = float(max(np.std(inside), np.std(scores)))
    return gap if gap < -4.0 and gap < -4.0 * wide else None


def _added_twice(evidence: Evidence) -> Iterator[Prediction]:
    """A finite number is added to the scores of masked entries, twice in the candidate."""
    if not evidence.is_distribution or not evidence.usable.any():
        return
    lr, lc = evidence.where_usable(evidence.log_reference), evidence.where_usable(evidence.log_candidate)
    top = np.max(np.where(evidence.usable, lc - lr, -np.inf), axis=evidence.axes, keepdims=True)
    less = lc - lr - top
    masked = less < -1.0
    if masked.sum() < 2 or not np.any(~masked & evidence.usable):
        return
    added = float(np.mean(less[masked]))
    # Once, it is in the reference: its masked entries lie as far below the others.
    centred = lr - mean(np.where(masked, np.nan, lr), evidence.axes)
    inside, scores = centred[masked], centred[~masked & np.isfinite(centred)]
    if not scores.size:
        return
    error = np.sqrt(np.var(inside) / inside.size + np.var(scores) * (1 / scores.size + 1 / inside.size))
    gap = float(inside.mean())
    if abs(gap - added) > 6.0 * error or gap > -6.0 * error:
        return
    expected = evidence.apply(evidence.log_reference + np.where(masked, added, 0.0))
    yield Prediction(expected, evidence.candidate, {"added": added}, free=1)


def _mask_inverted(evidence: Evidence) -> Iterator[Prediction]:
    """The candidate masks exactly the entries that the reference keeps."""
    if not evidence.is_distribution or evidence.classes < 2:
        return
    zero, empty = _masked(evidence)
    mixed = ~empty & ~_all(~zero & ~empty, evidence.axes)
    p = _probabilities(evidence.candidate, evidence)
    decided = mixed | empty
    if not mixed.any() or not np.array_equal((p == 0)[decided], ~zero[decided] & ~empty[decided]):
        return
    # Two entries, of which one is left: the classes may as well have been swapped.
    kept, lost = (int(np.max(np.sum(one & mixed, axis=evidence.axes), initial=0)) for one in (zero, ~zero))
    if kept < 2 and lost < 2:
        return
    if evidence.logits is not None and np.all(np.isfinite(evidence.logits)):
        expected = _probabilities(evidence.apply(np.where(zero, evidence.logits, -np.inf)), evidence)
        expected, observed = np.where(decided, expected, 0.0), np.where(decided, p, 0.0)
        yield Prediction(expected, observed, {"checked": True}, measure="relative")
    sums = np.sum(p, axis=evidence.axes, keepdims=True)
    sums = np.where(np.any(decided, axis=evidence.axes, keepdims=True), sums, 1.0)
    # Without the logits its values cannot be checked, but that they sum to one over the complement can.
    yield Prediction(np.ones_like(sums), sums, {"checked": False}, measure="relative", proven=True)


def _masked_rows(evidence: Evidence) -> Iterator[Prediction]:
    """The two differ only in fully masked rows, for which frameworks have different conventions."""
    if not evidence.is_distribution:
        return
    here, there = _policies(evidence.reference, evidence), _policies(evidence.candidate, evidence)
    different = (here != there) & (here != "") & (there != "")
    if not different.any() or different.all():
        return
    reference, candidate = min(zip(here[different].tolist(), there[different].tolist(), strict=True))
    spread = np.broadcast_to(different, evidence.reference.shape)
    r, c = np.where(spread, 0.0, evidence.reference), np.where(spread, 0.0, evidence.candidate)
    yield Prediction(r, c, {"rows": int(different.sum()), "reference": reference, "candidate": candidate})


def _policies(values: Array, evidence: Evidence) -> Any:
    """The filling of each row: "zeros", "NaN", "uniform", uniform over a part, or none of these."""
    p = _probabilities(values, evidence)
    count = np.sum(p > 0, axis=evidence.axes, keepdims=True)
    alike = (p == 0) | (np.abs(p * count - 1) < 1e-3)
    rules = {
        "zeros": p == 0,
        "NaN": np.isnan(p),
        "uniform": np.abs(p * evidence.classes - 1) < 1e-3,
        "uniform over some of the entries": alike & (count > 0),
    }
    return np.select([np.all(one, axis=evidence.axes, keepdims=True) for one in rules.values()], list(rules), "")


def _dropout(evidence: Evidence) -> Iterator[Prediction]:
    """Entries are zero at random, and the others larger by 1 / (1 - p)."""
    r, c = evidence.reference, evidence.candidate
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
    p = round(p, 2) if abs(round(p, 2) - p) < 1e-3 * (1 - p) else p
    yield Prediction(np.where(dropped, 0.0, r * scale), c, {"p": p, "zeros": fraction}, free=1)


FAULTS = (
    Fault(
        "mask-missing",
        "The candidate does not apply the mask: without the {entries} entries that the reference masks, it agrees.",
        "mask",
        _mask_missing,
        obvious=True,
    ),
    Fault(
        "mask-fill",
        "The candidate fills masked scores with a number too near to the others, about {filled}: {entries} masked "
        "entries have a weight.",
        "mask",
        _mask_fill,
        dominates=("mask-missing", "causal-missing", "padding-missing", "sliding-window", "causal-off-by-one"),
    ),
    Fault(
        "mask-added-twice",
        "The candidate adds the mask twice: its masked scores are lower by another {added:.4g}.",
        "scores = scores + mask  # once",
        _added_twice,
        dominates=("relative-bias", "missing-bias"),
    ),
    Fault(
        "mask-inverted",
        "The candidate's mask is inverted: it keeps exactly the entries that the reference masks.",
        "mask = ~mask",
        _mask_inverted,
        obvious=True,
    ),
    Fault(
        "masked-row-policy",
        "The two differ only in {rows} row(s) without any unmasked entry: {reference} in the reference, {candidate} in "
        "the candidate.",
        "polylogit.softmax(x, where=mask)  # zeros in such rows, on every framework",
        _masked_rows,
        dominates=("mask-missing", "mask-inverted", "mask-fill"),
        obvious=True,
    ),
    Fault(
        "dropout-active",
        "Dropout is active in the candidate, with p = {p:.3g}: a share of {zeros:.3g} is zero and the rest scaled up.",
        "no dropout",
        _dropout,
        obvious=True,
    ),
)
