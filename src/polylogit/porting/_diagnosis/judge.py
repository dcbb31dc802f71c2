"""The judge: which fault, if any, explains a difference.

A fault is named when three things hold. Undoing it makes the two agree by the rule by which correct ports agree;
nothing else does nearly as well; and what is left shows no second fault. Otherwise the cause is unknown, and the
explanations that came nearest are the evidence. Knows the table of faults and no fault by its name.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.agreement import Agreement, agreement, residual, rounding, unit_of
from polylogit.porting._diagnosis.bounded import in_bounds
from polylogit.porting._diagnosis.choice import CLEARLY, SEEN_THROUGH, clear_winner, named, nearest, unknown
from polylogit.porting._diagnosis.evidence import KINDS
from polylogit.porting._diagnosis.faults import FAULTS, GRADIENT_FAULTS
from polylogit.porting._diagnosis.faults.backward import WRONG_BACKWARD
from polylogit.porting._diagnosis.noise import BEYOND, LEFT, LIMIT
from polylogit.porting._diagnosis.verdict import Diagnosis, RunnerUp, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polylogit._backends.base import Backend
    from polylogit.porting._diagnosis.evidence import Evidence
    from polylogit.porting._diagnosis.faults.fault import Fault, Prediction
    from polylogit.porting._diagnosis.gradients import GradientEvidence
    from polylogit.porting._diagnosis.noise import Measured

__all__ = ["diagnose", "diagnose_gradient"]

# In so many entries a fault that hides in noise shows as surely as in all.
SEARCHED = 1 << 17


@dataclasses.dataclass(frozen=True)
class _Tried:
    """A prediction and how well it explains."""

    fault: Fault
    prediction: Prediction
    left: Agreement
    explains: bool

    @property
    def name(self) -> str:
        return self.fault.name

    @property
    def level(self) -> float:
        return self.left.level

    @property
    def rank(self) -> tuple[bool, float]:
        return not self.explains, self.level

    def clearly_below(self, level: float) -> bool:
        return self.prediction.proven or self.level * CLEARLY <= level


@np.errstate(all="ignore")  # NaN and infinities are data here
def diagnose(evidence: Evidence, backend: Backend) -> Verdict:
    """Whether the candidate agrees with the reference, and if it does not, the cause, mended in its backend's words."""
    r, c = evidence.reference, evidence.candidate
    if not r.size or not c.size:
        return Verdict(Agreement(0.0, 0.0, 0, True), r.shape == c.shape, None)
    if r.shape != c.shape:
        raw = Agreement(math.inf, math.inf, c.size, False)
        return Verdict(raw, False, _judge(evidence, raw, _try(evidence, FAULTS.values(), reshaped=True), backend))
    if evidence.measured is not None:
        return _by_measured_noise(evidence, evidence.measured, backend)
    raw = _raw(evidence)
    if raw.agrees:
        few = _thinned(evidence)
        tried = _hidden(few, raw if few is evidence else _raw(few))
        if tried and few is not evidence:
            tried = _hidden(evidence, raw)
        if not tried:
            return Verdict(raw, True, None)
    else:
        tried = _try(evidence, FAULTS.values())
    return Verdict(raw, False, _judge(evidence, raw, tried, backend), bounds=in_bounds(evidence))


def _raw(evidence: Evidence) -> Agreement:
    r, c = evidence.reference, evidence.candidate
    return agreement(r, c, evidence.measure, evidence.precision, evidence.normalized_axes)


def _hidden(evidence: Evidence, raw: Agreement) -> list[_Tried]:
    """Faults that explain a difference that would otherwise pass as noise."""
    tried = _try(evidence, (fault for fault in FAULTS.values() if not fault.obvious))
    return [one for one in tried if _sees_through(one, raw, evidence)]


def _thinned(evidence: Evidence) -> Evidence:
    """Some of the rows of a large array, evenly spaced: what hides in noise hides in all of them."""
    r = evidence.reference
    rows = [axis for axis in range(r.ndim) if axis not in evidence.axes]
    if r.size <= SEARCHED or not rows:
        return evidence
    steps, size = [1] * r.ndim, r.size
    for axis in sorted(rows, key=lambda one: -r.shape[one]):
        steps[axis] = min(r.shape[axis], -(-size // SEARCHED))
        size = -(-size // steps[axis])
    some = tuple(slice(None, None, step) for step in steps)
    logits = evidence.logits
    if logits is not None:
        logits = logits[some] if logits.shape == r.shape else None
    return dataclasses.replace(
        evidence, reference=r[some], candidate=evidence.candidate[some], logits=logits, earlier=()
    )


def _by_measured_noise(evidence: Evidence, measured: Measured, backend: Backend) -> Verdict:
    """The same where a run in float64 says what noise there is."""
    r, c, measure, precision = evidence.reference, evidence.candidate, evidence.measure, evidence.precision
    times = measured.times(measure, precision)
    raw = agreement(r, c, measure, precision, evidence.normalized_axes)
    within = times <= LIMIT
    if not within and KINDS[evidence.kind].operation:
        # An operation alone is right within its bound, however lucky the other side was.
        errors = np.abs(residual(r, c, measure, precision.floor)) * unit_of(r, measure, precision.floor)
        within = bool(np.all((errors == 0) | (errors <= rounding(r, measure, precision, evidence.normalized_axes))))
    raw = raw._replace(agrees=within)
    if within:
        return Verdict(raw, True, None, times)
    noise = LEFT * measured.level(measure, precision)
    evidence = dataclasses.replace(evidence, precision=precision._replace(noise=noise, measured=True), measured=None)
    cause = _judge(evidence, raw, _try(evidence, FAULTS.values()), backend)
    return Verdict(raw, False, cause, times, cause.name == "unknown" and times <= BEYOND)


def _try(evidence: Evidence, faults: Iterable[Fault], *, reshaped: bool = False) -> list[_Tried]:
    """All predictions of these faults, the best first."""
    tried = [
        _tried(fault, prediction, evidence)
        for fault in faults
        for prediction in (fault.reshaped if reshaped else fault.predict)(evidence)
    ]
    return sorted(tried, key=lambda one: one.rank)


def _tried(fault: Fault, prediction: Prediction, evidence: Evidence) -> _Tried:
    left = agreement(
        prediction.expected,
        prediction.observed,
        prediction.measure or evidence.measure,
        evidence.precision,
        evidence.normalized_axes if prediction.expected.shape == evidence.reference.shape else (),
        free=prediction.free,
        gain=prediction.gain,
    )
    constraints = prediction.constraints
    if constraints is None:
        constraints = evidence.rows if evidence.is_distribution and not prediction.measure else 0
    # Data must be left after what was fitted and what is bound anyway.
    enough = left.counted - constraints - prediction.free >= (3 if prediction.free else 2)
    return _Tried(fault, prediction, left, prediction.proven or (enough and left.agrees))


def _sees_through(one: _Tried, raw: Agreement, evidence: Evidence) -> bool:
    """Whether a prediction explains a difference that would otherwise pass as noise."""
    if one.prediction.proven and one.fault.small:
        return True
    if not one.explains or raw.level <= 4 * evidence.precision.eps or raw.counted < 5:
        return False
    if one.fault.small:
        # A likelihood ratio: these are expected to hide in noise of their own size.
        ratio = raw.level / max(one.level, 1e-300)
        return ratio > 1.3 and 2 * raw.counted * math.log(ratio) > 40
    return one.level * SEEN_THROUGH <= raw.level


def _judge(evidence: Evidence, raw: Agreement, tried: list[_Tried], backend: Backend) -> Diagnosis:
    best: dict[str, _Tried] = {}
    for one in tried:
        best.setdefault(one.name, one)
    helpful = [one for one in best.values() if one.explains and (one.fault.small or one.clearly_below(raw.level))]
    shown = nearest(best.values())
    winner = clear_winner(helpful, evidence.precision.eps)
    why = ""
    if winner is not None:
        second = _second_fault(evidence, winner)
        if not second:
            return named(winner, winner.prediction.parameters, backend, raw.level, shown)
        why = f"{winner.name} leaves a difference that {second} would explain: more than one fault"
    fix = "compare more activations, or pass inputs=: the first that differs is nearest to the fault"
    return unknown(helpful, raw.level, shown, fix=fix, why=why)


def _second_fault(evidence: Evidence, winner: _Tried) -> str:
    """The name of a small fault in what the winner leaves; empty where there is none."""
    undone = winner.prediction
    if undone.proven or winner.fault.small or evidence.dtypes[0] != evidence.dtypes[1]:
        return ""
    if undone.expected.shape != evidence.reference.shape or not np.isfinite(undone.expected).all():
        return ""
    rest = dataclasses.replace(
        evidence, reference=undone.expected, candidate=undone.observed, logits=None, remainder=True
    )
    # Normalising what is noisy leaves a common factor within the noise, which looks like a tiny epsilon; and a
    # candidate that was normalised again to undo the fault has no epsilon in its denominator.
    untouched = undone.observed is evidence.candidate
    small = [fault for fault in FAULTS.values() if fault.small and (untouched or fault.survives_normalizing)]
    left = (one for one in _try(rest, small) if one.clearly_below(winner.level))
    return next((one.name for one in left if _sees_through(one, winner.left, rest)), "")


# --- gradients -------------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")  # NaN and infinities are data here
def diagnose_gradient(evidence: GradientEvidence, backend: Backend, *, forward_agrees: bool = True) -> Verdict:
    """Whether two gradients agree, and if not, why.

    Where the forward values differ, another gradient is to be expected: one that belongs to the candidate's own values
    is no fault in itself.
    """
    raw = evidence.difference
    if raw.agrees or evidence.vacuous:
        return Verdict(raw, True, None)
    if not forward_agrees and evidence.consistent() is not False:
        return Verdict(raw, False, None)
    for fault in GRADIENT_FAULTS.values() if forward_agrees else (WRONG_BACKWARD,):
        found = fault.predict(evidence)
        if found is not None:
            level, parameters = found
            nothing = RunnerUp("no fault", raw.level)
            cause = fault.diagnosis(
                backend, parameters, level, runner_up=nothing, difference=raw.level, evidence=(nothing,)
            )
            return Verdict(raw, False, cause)
    if not forward_agrees:
        return Verdict(raw, False, None)
    why = "The cause is unknown: the gradient is neither a multiple of the reference's nor shown to be inconsistent."
    fix = "compare the gradients of smaller parts of the model"
    return Verdict(raw, False, Diagnosis("unknown", why, fix, raw.level, None, raw.level))
