"""Faults of the backward pass: why two gradients differ while the values they belong to agree.

Where the forward values differ, another gradient is to be expected, and the fault is theirs; so gradients are judged
after the values. The closed forms of the three operations, applied to the candidate's own output, tell whether its
gradient belongs to its values; for other functions, differences of the function itself do.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting.causes import CAUSES
from polylogit.porting.diagnose import Diagnosis, RunnerUp, Verdict, describe
from polylogit.porting.diagnosis.agreement import Agreement, OutputRows, Precision, agreement
from polylogit.spec import bounds
from polylogit.spec.formulas import FORMULAS, exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.spec.formulas import Array, Axes

__all__ = ["GradientEvidence", "diagnose_gradient"]


@dataclasses.dataclass(frozen=True)
class GradientEvidence:
    """Two gradients, and where known what they belong to.

    Attributes
    ----------
    reference, candidate : ndarray of float64
    precision : Precision
    output : ndarray or None
        The candidate's own output.
    cotangent : ndarray or None
    kind, axes : str, tuple of int
        Of the output; see `polylogit.porting.evidence.Evidence`.
    slopes : callable or None
        Derivatives of the candidate's function by differences, and by its gradient, in some directions.
    """

    reference: Array
    candidate: Array
    precision: Precision
    output: Array | None = None
    cotangent: Array | None = None
    kind: str = "logits"
    axes: Axes = (-1,)
    slopes: Callable[[], tuple[Array, Array]] | None = None

    @property
    def vacuous(self) -> bool:
        """Both gradients are zero, or no more than what is left of a cancelled sum."""
        limit = 8 * self.precision.eps * (_rms(self.cotangent) if self.cotangent is not None else 0.0)
        return all(_rms(one) <= limit for one in (self.reference, self.candidate))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _compare(a: Array, b: Array, evidence: GradientEvidence, free: int = 0) -> Agreement:
    """Whether two gradients agree, once each entry is allowed the rounding of the sum that it is left over from."""
    slack = _rounding(evidence)
    if slack is not None and slack.shape == a.shape:
        b = b - np.clip(np.nan_to_num(b - a), -slack, slack)
    return agreement(a, b, "scale", evidence.precision, free=free)


def _rounding(evidence: GradientEvidence) -> Array | None:
    """What rounding may do to each entry, where the operation is known."""
    y, g = evidence.output, evidence.cotangent
    if y is None or g is None or y.shape != g.shape or not np.all(np.isfinite(g)) or evidence.kind not in BOUNDS:
        return None
    axes = () if evidence.kind == "unit" else evidence.axes
    rows = OutputRows(y, axes, logarithms=evidence.kind == "log-probabilities")
    return rows.bound(BOUNDS[evidence.kind], evidence.precision, g)


BOUNDS: dict[str, Callable[..., Array]] = {
    "probabilities": bounds.softmax_first,
    "log-probabilities": bounds.log_softmax_vjp,
    "unit": bounds.sigmoid_first,
}

# --- the closed forms ------------------------------------------------------------------------------------------------


# kind of output -> the operation and its pullback from its own output
CLOSED_FORMS = {
    "probabilities": ("polylogit.softmax", FORMULAS["softmax"].pullback),
    "log-probabilities": ("polylogit.log_softmax", FORMULAS["log_softmax"].pullback),
    "unit": ("polylogit.sigmoid", FORMULAS["sigmoid"].pullback),
}

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
    "unit": (
        ("it lacks the factor 1 - y", lambda y, g, axes: g * y),
        ("it lacks the factor y", lambda y, g, axes: g * (1.0 - y)),
        ("it takes the output for the input", lambda y, g, axes: g * (s := 1 / (1 + np.exp(-y))) * (1 - s)),
        ("it passes the cotangent on unchanged", lambda y, g, axes: g),
    ),
}


# --- the judgement ---------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")  # NaN and infinities are data here
def diagnose_gradient(evidence: GradientEvidence, framework: str, *, forward_agrees: bool = True) -> Verdict:
    """Whether two gradients agree, and if not, why.

    Parameters
    ----------
    evidence : GradientEvidence
        The two gradients.
    framework : str
        The candidate's, for the line of code that mends it.
    forward_agrees : bool
        Whether the values do. Where they do not, a different gradient that belongs to the candidate's own values is
        no fault of its own.
    """
    r, c = evidence.reference, evidence.candidate
    raw = _compare(r, c, evidence)
    if raw.agrees or evidence.vacuous:
        return Verdict(raw, True, None)
    if not forward_agrees:
        return Verdict(raw, False, None if consistent(evidence) is not False else _wrong(evidence, raw, framework))
    for attempt in (_missing, _masked_nan, _scaled, _wrong):
        cause = attempt(evidence, raw, framework)
        if cause is not None:
            return Verdict(raw, False, cause)
    fix = "compare the gradients of smaller parts of the model"
    why = "The cause is unknown: the gradient is neither a multiple of the reference's nor shown to be inconsistent."
    return Verdict(raw, False, Diagnosis("unknown", why, fix, raw.level, None, raw.level))


def consistent(evidence: GradientEvidence) -> bool | None:
    """Whether the candidate's gradient belongs to its own values; None where that cannot be told."""
    expected = _own(evidence)
    # The closed form counts only if the reference is that operation: a model has layers before it.
    if expected is not None and _compare(expected, evidence.candidate, evidence).agrees:
        return True
    if evidence.slopes is not None:
        numeric, claimed = evidence.slopes()
        size = max(_rms(numeric), _rms(claimed))
        error = _rms(numeric - claimed) / size if size > 0 else 0.0
        return True if error < 0.03 else False if error > 0.1 else None
    return None


def _own(evidence: GradientEvidence) -> Array | None:
    """The gradient that belongs to the candidate's output by the closed form."""
    form = CLOSED_FORMS.get(evidence.kind)
    if form is None or evidence.output is None or evidence.cotangent is None:
        return None
    if evidence.output.shape != evidence.candidate.shape:
        return None
    return form[1](evidence.output, evidence.cotangent, evidence.axes)


def _named(name: str, raw: Agreement, level: float, framework: str, parameters: dict[str, Any]) -> Diagnosis:
    cause, said = CAUSES[name], describe(parameters)
    runner_up = RunnerUp("no fault", raw.level)
    explanation, fix = cause.explain(said), cause.fix(framework, said)
    return Diagnosis(name, explanation, fix, level, runner_up, raw.level, parameters, (runner_up,))


def _missing(evidence: GradientEvidence, raw: Agreement, framework: str) -> Diagnosis | None:
    r, c = evidence.reference, evidence.candidate
    if np.any(c != 0) or not np.any(r != 0):
        return None
    return _named("gradient-missing", raw, 0.0, framework, {})


def _masked_nan(evidence: GradientEvidence, raw: Agreement, framework: str) -> Diagnosis | None:
    r, c = evidence.reference, evidence.candidate
    bad = ~np.isfinite(c) & np.isfinite(r)
    if not bad.any():
        return None
    axes = evidence.axes if evidence.axes and max(evidence.axes) < r.ndim else (-1,)
    rows = np.broadcast_to(np.any(bad, axis=axes, keepdims=True), r.shape)
    # Masked entries have no probability and no gradient: each row with NaN must have one.
    masked = (r == 0) | _no_mass(evidence.output, evidence.kind, r)
    if not np.all(np.any(masked, axis=axes, keepdims=True)[np.any(bad, axis=axes, keepdims=True)]):
        return None
    rest = _compare(np.where(rows, 0.0, r), np.where(rows, 0.0, c), evidence)
    near = _compare(np.where(bad, 0.0, r), np.where(bad, 0.0, c), evidence)
    if not (rest.agrees or near.agrees):
        return None
    level = min(rest.level, near.level)
    return _named("gradient-masked-nan", raw, level, framework, {"entries": int(bad.sum())})


def _no_mass(output: Array | None, kind: str, like: Array) -> Any:
    if output is None or output.shape != like.shape:
        return np.zeros(like.shape, bool)
    return np.isneginf(output) if kind == "log-probabilities" else output == 0


def _scaled(evidence: GradientEvidence, raw: Agreement, framework: str) -> Diagnosis | None:
    r, c = evidence.reference, evidence.candidate
    if not (np.isfinite(r).all() and np.isfinite(c).all()):
        return None
    power = float(np.sum(r * r))
    if power == 0.0 or r.size < 3:
        return None
    factor = float(np.sum(r * c)) / power
    left = _compare(factor * r, c, evidence, free=1)
    if not left.agrees or factor == 0 or left.level * 3 > raw.level:
        return None
    error = float(np.sqrt(np.sum((c - factor * r) ** 2) / max(1, r.size - 1) / power))
    sizes = {"batch size": r.shape[0] if r.ndim > 1 else 1, "class count": r.shape[-1], "number of elements": r.size}
    parameters = {"factor": factor, "factor_error": error, "sizes": sizes}
    return _named("gradient-scale", raw, left.level, framework, parameters)


def _wrong(evidence: GradientEvidence, raw: Agreement, framework: str) -> Diagnosis | None:
    expected = _own(evidence)
    operation = CLOSED_FORMS.get(evidence.kind, ("softmax", None))[0]
    by_form = expected is not None and _compare(evidence.reference, expected, evidence).agrees
    if not by_form and consistent(evidence) is not False:
        return None
    detail, level = "", raw.level
    for words, mistake in KNOWN_MISTAKES.get(evidence.kind, ()) if by_form else ():
        assert evidence.output is not None
        assert evidence.cotangent is not None
        guess = mistake(evidence.output, evidence.cotangent, evidence.axes)
        found = _compare(guess, evidence.candidate, evidence)
        if found.agrees:
            detail, level = f": {words}", found.level
            break
    if by_form and not detail:
        assert expected is not None
        level = _compare(evidence.reference, expected, evidence).level
    return _named("wrong-backward", raw, level, framework, {"detail": detail, "operation": operation})
