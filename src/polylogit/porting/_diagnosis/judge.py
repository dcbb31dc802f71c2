"""The judge: decides which fault, if any, explains a difference.

It names a fault if three conditions hold: undoing the fault makes the two sides agree by the rule for correct ports,
nothing else does nearly as well, and the remainder shows no second fault. Otherwise the cause is unknown, and the
explanations that came nearest are the evidence. Knows the table of faults, and no fault by name.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.agreement import Agreement, agreement, scale_of, within_rounding
from polylogit.porting._diagnosis.bounded import in_bounds
from polylogit.porting._diagnosis.choice import CLEARLY, SEEN_THROUGH, clear_winner, named, nearest, unknown
from polylogit.porting._diagnosis.evidence import KINDS
from polylogit.porting._diagnosis.faults import FAMILIES, FAULTS, GRADIENT_FAULTS
from polylogit.porting._diagnosis.faults.backward import WRONG_BACKWARD
from polylogit.porting._diagnosis.noise import BEYOND, LEFT, LIMIT
from polylogit.porting._diagnosis.oddities import oddities
from polylogit.porting._diagnosis.pieces import some_rows
from polylogit.porting._diagnosis.verdict import Diagnosis, RunnerUp, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polylogit._backends.base import Backend
    from polylogit.porting._diagnosis.evidence import Evidence
    from polylogit.porting._diagnosis.faults.fault import Fault, Prediction
    from polylogit.porting._diagnosis.gradients import GradientEvidence
    from polylogit.porting._diagnosis.noise import Measured

__all__ = ["diagnose", "diagnose_gradient"]

# A fault that hides in noise shows in so many entries, of so many rows, as surely as in all: a likelihood ratio that
# counts as evidence needs fewer than a hundred. What shows there is looked for in all, or in enough for a verdict.
SEARCHED, ROWS, ENOUGH = 1 << 14, 16, 1 << 17
# Of these families a fault does to each row what it does to any: what is far from explaining some of them explains no
# more of all.
BY_ROWS = {name for family in ("functions", "logits", "epsilons", "precision") for name in FAMILIES[family]}
# Below so many eps only what is proven by itself is told from rounding.
LAST_DIGITS = 4.0


_NOTHING = np.empty(0)


@dataclasses.dataclass(frozen=True)
class _Tried:
    """A prediction, and how well it explains the difference."""

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
def diagnose(evidence: Evidence, backend: Backend, *, causes: bool = True) -> Verdict:
    """Whether the candidate agrees with the reference, and if not, the cause, with a fix for its backend.

    Without `causes`, a difference is not explained, and no array is copied whole.
    """
    r, c = evidence.reference, evidence.candidate
    if not r.size or not c.size:
        return Verdict(Agreement(0.0, 0.0, 0, True), r.shape == c.shape, None)
    if r.shape != c.shape:
        raw = Agreement(math.inf, math.inf, c.size, False)
        if not causes:
            return Verdict(raw, False, None)
        evidence = evidence.widened()
        return Verdict(raw, False, _judge(evidence, raw, _try(evidence, FAULTS.values(), reshaped=True), backend))
    if evidence.measured is not None:
        return _by_measured_noise(evidence, evidence.measured, backend, causes=causes)
    raw, tried, evidence_of_all = _raw(evidence), list[_Tried](), evidence
    if raw.agrees:
        evidence, tried = _hidden(evidence, raw, causes=causes)
        if not tried:
            return Verdict(raw, True, None, allowed=_is_allowed(evidence_of_all, raw))
    if not causes:
        return Verdict(raw, False, None)
    if not raw.agrees:
        evidence = evidence.widened()
        tried = _explanations(evidence)
    return Verdict(raw, False, _judge(evidence, raw, tried, backend), bounds=in_bounds(evidence))


def _raw(evidence: Evidence) -> Agreement:
    r, c = evidence.reference, evidence.candidate
    return agreement(r, c, evidence.measure, evidence.precision, evidence.normalized_axes)


def _is_allowed(evidence: Evidence, raw: Agreement) -> bool:
    """Whether what agrees does so as noise, and not within what rounding is known to do."""
    r, c, precision = evidence.reference, evidence.candidate, evidence.precision
    if raw.peak <= precision.eps:
        return False
    return not within_rounding(r, c, evidence.measure, precision, evidence.normalized_axes, scale_of(r, c))


def _hidden(evidence: Evidence, raw: Agreement, *, causes: bool) -> tuple[Evidence, list[_Tried]]:
    """Faults that explain a difference which would otherwise pass as noise, with the evidence.

    They are looked for in some of the rows first, and if found, in all rows before they are named.
    """
    size = evidence.reference.size
    for most in (SEARCHED, size if causes else ENOUGH):
        some = _some_of(evidence, most)
        difference = raw if some.reference.size == size else _raw(some)
        told = difference.level > LAST_DIGITS * evidence.precision.eps and difference.counted >= 5
        faults = (fault for fault in FAULTS.values() if not fault.obvious and (told or fault.small))
        tried = [one for one in _try(some, faults) if _sees_through(one, difference, some)]
        if not tried or some.reference.size == size:
            break
    return some, tried


def _some_of(evidence: Evidence, most: int) -> Evidence:
    """Evenly spaced rows of a large array: a fault that hides in noise hides in all rows."""
    r = evidence.reference
    if r.size <= most:
        return evidence.widened()
    # Of a single row that need not sum to one, some of the entries.
    whole = evidence.axes if evidence.is_distribution or evidence.rows > 1 else ()
    return evidence.widened(some_rows(r.shape, whole, max(most, min(ENOUGH, ROWS * evidence.classes))))


def _by_measured_noise(evidence: Evidence, measured: Measured, backend: Backend, *, causes: bool) -> Verdict:
    """The same, if a run in float64 measured the noise."""
    r, c, measure, precision = evidence.reference, evidence.candidate, evidence.measure, evidence.precision
    times = measured.times(measure, precision)
    within = times <= LIMIT
    if not within and KINDS[evidence.kind].operation:
        # An operation alone is right within its bound, however lucky the other side was.
        within = within_rounding(r, c, measure, precision, evidence.normalized_axes)
    raw = _raw(evidence)._replace(agrees=within)
    if within:
        return Verdict(raw, True, None, times)
    if times > BEYOND and not causes:
        return Verdict(raw, False, None, times)
    noise = LEFT * measured.level(measure, precision)
    evidence = dataclasses.replace(
        evidence.widened(), precision=precision._replace(noise=noise, measured=True), measured=None
    )
    cause = _judge(evidence, raw, _explanations(evidence), backend)
    return Verdict(raw, False, cause, times, cause.name == "unknown" and times <= BEYOND)


def _explanations(evidence: Evidence) -> list[_Tried]:
    """All predictions, the best first; in a large array, those that some rows rule out only for these rows."""
    r = evidence.reference
    places = some_rows(r.shape, evidence.axes, ENOUGH)
    some = evidence.widened(places)
    if 2 * some.reference.size > r.size:
        return _try(evidence, FAULTS.values())
    earlier = [(name, one[places]) for name, one in evidence.earlier if one.shape == r.shape]
    some = dataclasses.replace(some, earlier=earlier)
    level = _raw(some).level
    tried = _try(some, (fault for name, fault in FAULTS.items() if name in BY_ROWS))
    near = {one.name for one in tried if one.explains or one.clearly_below(level)}
    rest = [fault for name, fault in FAULTS.items() if name not in BY_ROWS or name in near]
    return sorted([*_try(evidence, rest), *(one for one in tried if one.name not in near)], key=lambda one: one.rank)


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
    explains = prediction.proven or (enough and left.agrees)
    if not explains:  # its arrays are not asked for again
        prediction = dataclasses.replace(prediction, expected=_NOTHING, observed=_NOTHING)
    return _Tried(fault, prediction, left, explains)


def _sees_through(one: _Tried, raw: Agreement, evidence: Evidence) -> bool:
    """Whether a prediction explains a difference that would otherwise pass as noise."""
    if one.prediction.proven and one.fault.small:
        return True
    if not one.explains or raw.level <= LAST_DIGITS * evidence.precision.eps or raw.counted < 5:
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
    if not (why or helpful):
        floor = evidence.precision.floor if evidence.measure == "relative" else None
        why = oddities(evidence.reference, evidence.candidate, floor=floor)
    fix = "compare more activations, or pass inputs=: the first that differs is nearest to the fault"
    return unknown(helpful, raw.level, shown, fix=fix, why=why)


def _second_fault(evidence: Evidence, winner: _Tried) -> str:
    """The name of a small fault in the remainder of the winner; empty if there is none."""
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

    If the forward values differ, the gradients should differ, too: a gradient that belongs to the candidate's own
    values is no fault in itself.
    """
    raw = evidence.difference
    if raw.agrees or evidence.vacuous:
        return Verdict(raw, True, None)
    evidence = evidence.widened()
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
