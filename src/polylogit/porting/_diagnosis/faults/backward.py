"""Faults of the backward pass: two gradients differ although the values agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.formulas import FORMULAS, exp, sigmoid
from polylogit.porting._diagnosis.evidence import KINDS
from polylogit.porting._diagnosis.faults.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.formulas import Array, Axes
    from polylogit.porting._diagnosis.gradients import GradientEvidence

    # What is left once the fault is undone, and what was found; None where it is not this fault.
    Found = tuple[float, dict[str, Any]] | None

__all__ = ["FAULTS", "WRONG_BACKWARD"]


def _missing(evidence: GradientEvidence) -> Found:
    return (0.0, {}) if evidence.reference.any() and not evidence.candidate.any() else None


def _masked_nan(evidence: GradientEvidence) -> Found:
    r, c = evidence.reference, evidence.candidate
    bad = ~np.isfinite(c) & np.isfinite(r)
    if not bad.any():
        return None
    axes = evidence.axes if evidence.axes and max(evidence.axes) < r.ndim else (-1,)
    rows = np.any(bad, axis=axes, keepdims=True)
    # Masked entries have no probability and no gradient: each row with NaN must have one.
    masked = r == 0
    if evidence.output is not None and evidence.output.shape == r.shape:
        masked |= np.isneginf(evidence.output) if evidence.kind == "log-probabilities" else evidence.output == 0
    if not np.all(np.any(masked, axis=axes, keepdims=True)[rows]):
        return None
    found = [evidence.compare(np.where(out, 0.0, r), np.where(out, 0.0, c)) for out in (rows, bad)]
    if not any(one.agrees for one in found):
        return None
    return min(one.level for one in found), {"entries": int(bad.sum())}


def _scaled(evidence: GradientEvidence) -> Found:
    r, c = evidence.reference, evidence.candidate
    power = float(np.sum(r * r))
    if not (np.isfinite(r).all() and np.isfinite(c).all()) or power == 0.0 or r.size < 3:
        return None
    factor = float(np.sum(r * c)) / power
    left = evidence.compare(factor * r, c, free=1)
    if not left.agrees or factor == 0 or left.level * 3 > evidence.difference.level:
        return None
    error = float(np.sqrt(np.sum((c - factor * r) ** 2) / max(1, r.size - 1) / power))
    sizes = {"batch size": r.shape[0] if r.ndim > 1 else 1, "class count": r.shape[-1], "number of elements": r.size}
    return left.level, {"factor": factor, "factor_error": error, "sizes": sizes}


# Backward passes that people write, by kind of output: what is wrong with them, and what they compute.
KNOWN_MISTAKES: dict[str, tuple[tuple[str, Callable[[Array, Array, Axes], Array]], ...]] = {
    "probabilities": (
        ("it has the diagonal of the Jacobian only", lambda y, g, axes: g * y * (1.0 - y)),
        ("it lacks the sum over the row", lambda y, g, axes: g * y),
        ("it lacks the factor y", lambda y, g, axes: g - np.sum(g * y, axis=axes, keepdims=True)),
        ("it is that of log_softmax", lambda y, g, axes: g - y * np.sum(g, axis=axes, keepdims=True)),
        ("it passes the cotangent on unchanged", lambda y, g, axes: g),
    ),
    "log-probabilities": (
        ("it is that of softmax", lambda y, g, axes: FORMULAS["softmax"].pullback(exp(y), g, axes)),
        ("it lacks the sum over the row", lambda y, g, axes: g * (1.0 - exp(y))),
        ("it uses the output for its exponential", lambda y, g, axes: g - y * np.sum(g, axis=axes, keepdims=True)),
        ("it passes the cotangent on unchanged", lambda y, g, axes: g),
    ),
    "sigmoids": (
        ("it lacks the factor 1 - y", lambda y, g, axes: g * y),
        ("it lacks the factor y", lambda y, g, axes: g * (1.0 - y)),
        ("it takes the output for the input", lambda y, g, axes: FORMULAS["sigmoid"].pullback(sigmoid(y), g, axes)),
        ("it passes the cotangent on unchanged", lambda y, g, axes: g),
    ),
}


def _wrong(evidence: GradientEvidence) -> Found:
    expected = evidence.expected
    # The closed form counts only if the reference is that operation: a model has layers before it.
    closed = None if expected is None else evidence.compare(evidence.reference, expected)
    by_form = closed is not None and closed.agrees
    if not by_form and evidence.consistent() is not False:
        return None
    parameters = {"detail": "", "operation": f"polylogit.{KINDS[evidence.kind].operation or 'softmax'}"}
    y, g = evidence.output, evidence.cotangent
    if closed is None or not by_form or y is None or g is None:
        return evidence.difference.level, parameters
    for words, mistake in KNOWN_MISTAKES[evidence.kind]:
        found = evidence.compare(mistake(y, g, evidence.axes), evidence.candidate)
        if found.agrees:
            return found.level, {**parameters, "detail": f": {words}"}
    return closed.level, parameters


WRONG_BACKWARD = Fault(
    "wrong-backward",
    "The candidate's gradient does not belong to its own forward values: its backward pass is wrong{detail}.",
    "y, pullback = polylogit.vjp({operation}, x)  # instead of the backward pass written by hand",
    _wrong,
)

FAULTS = (
    Fault(
        "gradient-missing",
        "The candidate's gradient is zero: it is cut off between the output and the input.",
        "attached",
        _missing,
    ),
    Fault(
        "gradient-masked-nan",
        "The candidate's gradient is NaN in {entries} place(s), at masked entries, where the reference's is finite.",
        "masked softmax",
        _masked_nan,
    ),
    Fault(
        "gradient-scale",
        "The candidate's gradient is {factor:.6g} times the reference's{recognized}.",
        "loss = loss / {divisor}",
        _scaled,
    ),
    WRONG_BACKWARD,
)
