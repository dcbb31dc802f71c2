"""The judge: which cause, if any, explains a difference.

A cause is named when three things hold. Undoing it makes the two agree by the very rule by which correct ports agree;
nothing else does nearly as well; and what is left shows no second fault. Otherwise the cause is unknown, and the
attempts that came nearest are the evidence. Everything here works on values, so that a new fault is one more function
in `hypotheses`, `rearrangements`, `absences` or `rounding` and one entry in `causes`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.porting.absences import ABSENCES
from polylogit.porting.causes import CAUSES
from polylogit.porting.diagnosis.agreement import Agreement, agreement
from polylogit.porting.hypotheses import ARITHMETIC, epsilon_in_denominator
from polylogit.porting.rearrangements import REARRANGEMENTS, RESHAPED
from polylogit.porting.rounding import ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polylogit.porting.attempts import Attempt, Hypothesis
    from polylogit.porting.evidence import Evidence

__all__ = ["Diagnosis", "RunnerUp", "Verdict", "diagnose"]

# The winner must leave so many times less than the runner-up, and than no explanation at all.
CLEARLY = 3.0
# A fault too small to break the agreement is still named if it explains this much of what there is.
SEEN_THROUGH = 10.0
# Faults so small that they may hide in the noise behind another one.
SMALL: tuple[Hypothesis, ...] = (*ROUNDINGS, epsilon_in_denominator)
SMALL_NAMES = frozenset({"float16-rounding", "bfloat16-rounding", "epsilon-in-denominator"})

# Where both explain, the first is the whole truth and the second contains it as a special case.
SPECIAL_CASES = {
    "all-axes": {"sigmoid-for-softmax"},
    "flattened-axes": {"sigmoid-for-softmax"},
    "epsilon-in-denominator": {"missing-softmax", "sigmoid-for-softmax"},
    "hard-argmax": {"scaled-logits", "missing-bias", "mask-missing", "dropout-active", "class-permutation"},
    "log-of-reference": {"missing-softmax"},
    "one-class-softmax": {"wrong-axis", "hard-argmax", "scaled-logits", "missing-bias"},
    "masked-row-policy": {"mask-missing", "mask-inverted"},
    "underflow-to-log-zero": {"hard-argmax"},
}


class RunnerUp(NamedTuple):
    """The second-best explanation."""

    name: str
    residual: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Why two outputs differ.

    Attributes
    ----------
    name : str
        A key of `polylogit.porting.causes.CAUSES`, or "unknown".
    explanation : str
        One sentence.
    fix : str
        A line of code in the candidate's framework.
    residual : float
        The difference that is left once the fault is undone, root mean square in units of the output's kind.
    runner_up : RunnerUp or None
        The next-best explanation and what it leaves.
    difference : float
        The difference before.
    parameters : dict
        What was found: a factor, an epsilon, a permutation, a bias.
    evidence : tuple of RunnerUp
        The attempts that came nearest, the best first.
    """

    name: str
    explanation: str
    fix: str
    residual: float
    runner_up: RunnerUp | None = None
    difference: float = math.nan
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: tuple[RunnerUp, ...] = ()


class Verdict(NamedTuple):
    """Whether a pair agrees, and if not, why."""

    agreement: Agreement
    agrees: bool
    cause: Diagnosis | None


@dataclasses.dataclass(frozen=True)
class _Tried:
    attempt: Attempt
    found: Agreement
    enough: bool  # data left after what was fitted

    @property
    def level(self) -> float:
        return self.found.level

    @property
    def explains(self) -> bool:
        return self.enough and (self.found.agrees or self.attempt.proven)


@np.errstate(all="ignore")  # NaN and infinities are data here
def diagnose(evidence: Evidence, framework: str = "numpy") -> Verdict:
    """Whether the candidate agrees with the reference, and if it does not, the cause.

    Parameters
    ----------
    evidence : Evidence
        The pair.
    framework : str
        The candidate's, for the line of code that mends it.
    """
    if not evidence.reference.size or not evidence.candidate.size:
        return Verdict(Agreement(0.0, 0.0, 0, True, True), evidence.reference.shape == evidence.candidate.shape, None)
    if evidence.reference.shape != evidence.candidate.shape:
        raw = Agreement(math.inf, math.inf, evidence.candidate.size, False, False)
        return Verdict(raw, False, _judge(evidence, raw, _try(evidence, RESHAPED), framework))
    raw = _agreement(evidence)
    if raw.agrees:
        # Only arithmetic has faults this small; a wrong order or a mask would show.
        tried = _try(evidence, (*ARITHMETIC, *ROUNDINGS))
        tried = [one for one in tried if _sees_through(one, raw, evidence)]
        if not tried:
            return Verdict(raw, True, None)
    else:
        tried = _try(evidence, (*ARITHMETIC, *REARRANGEMENTS, *ABSENCES, *ROUNDINGS))
    return Verdict(raw, False, _judge(evidence, raw, tried, framework))


def _agreement(evidence: Evidence) -> Agreement:
    axes = evidence.axes if evidence.is_distribution else ()
    return agreement(evidence.reference, evidence.candidate, evidence.measure, evidence.precision, axes)


def _try(evidence: Evidence, hypotheses: Iterable[Hypothesis]) -> list[_Tried]:
    tried = []
    shape = evidence.reference.shape
    for hypothesis in hypotheses:
        for attempt in hypothesis(evidence):
            found = agreement(
                attempt.expected,
                attempt.observed,
                attempt.measure or evidence.measure,
                evidence.precision,
                evidence.axes if evidence.is_distribution and attempt.expected.shape == shape else (),
                free=attempt.free,
                gain=attempt.gain,
            )
            constraints = attempt.constraints
            if constraints is None:
                constraints = evidence.rows if evidence.is_distribution and not attempt.measure else 0
            enough = attempt.proven or found.counted - constraints - attempt.free >= (3 if attempt.free else 2)
            tried.append(_Tried(attempt, found, enough))
    return sorted(tried, key=lambda one: (not one.explains, one.level))


def _sees_through(one: _Tried, raw: Agreement, evidence: Evidence) -> bool:
    """Whether an attempt explains a difference that would otherwise pass as noise."""
    if one.attempt.proven and one.attempt.name in SMALL_NAMES:
        return True
    if not one.explains or raw.level <= 4 * evidence.precision.eps or raw.counted < 5:
        return False
    if one.attempt.name in SMALL_NAMES:
        # A likelihood ratio: these are expected to hide in noise of their own size.
        ratio = raw.level / max(one.level, 1e-300)
        return ratio > 1.3 and 2 * raw.counted * math.log(ratio) > 40
    return one.level * SEEN_THROUGH <= raw.level


def _judge(evidence: Evidence, raw: Agreement, tried: list[_Tried], framework: str) -> Diagnosis:
    best: dict[str, _Tried] = {}
    for one in tried:
        best.setdefault(one.attempt.name, one)
    ranked = sorted(best.values(), key=lambda one: (not one.explains, one.level))
    shown = tuple(RunnerUp(one.attempt.name, one.level) for one in sorted(ranked, key=lambda one: one.level)[:5])
    winner = _winner(ranked, raw, evidence)
    why = "nothing that is known explains the difference"
    if winner is not None:
        second = _second_fault(evidence, winner)
        if not second:
            return _named(winner, raw, shown, framework, evidence)
        why = f"{winner.attempt.name} leaves a difference that {second} would explain: more than one fault"
    elif equal := [one.attempt.name for one in _helpful(ranked, raw)]:
        why = f"{' and '.join(equal)} explain it equally well"
    runner_up = shown[0] if shown else None
    fix = "compare more activations, or pass inputs=: the first that differs is nearest to the fault"
    return Diagnosis("unknown", f"The cause is unknown: {why}.", fix, raw.level, runner_up, raw.level, {}, shown)


def _winner(ranked: list[_Tried], raw: Agreement, evidence: Evidence) -> _Tried | None:
    explaining = _helpful(ranked, raw)
    for one in explaining:
        beaten = SPECIAL_CASES.get(one.attempt.name, set())
        rivals = [other for other in explaining if other is not one and other.attempt.name not in beaten]
        level = max(one.level, evidence.precision.eps)
        if all(_clearly_worse(other, one, level) for other in rivals):
            return one
    return None


def _helpful(ranked: list[_Tried], raw: Agreement) -> list[_Tried]:
    """Those that explain, and leave clearly less than there was."""
    return [
        one
        for one in ranked
        if one.explains and (one.attempt.proven or one.attempt.name in SMALL_NAMES or one.level * CLEARLY <= raw.level)
    ]


def _clearly_worse(other: _Tried, one: _Tried, level: float) -> bool:
    if one.attempt.name in SPECIAL_CASES.get(other.attempt.name, set()):
        return False  # the other is the special case of this one, and explains too
    return other.level >= CLEARLY * level


def _second_fault(evidence: Evidence, winner: _Tried) -> str:
    """The name of a small fault in what the winner leaves; empty where there is none."""
    attempt = winner.attempt
    if attempt.proven or attempt.name in SMALL_NAMES or evidence.dtypes[0] != evidence.dtypes[1]:
        return ""
    rest = dataclasses.replace(evidence, reference=attempt.expected, candidate=attempt.observed, logits=None)
    if attempt.expected.shape != evidence.reference.shape or not np.isfinite(attempt.expected).all():
        return ""
    # A candidate that was normalised again to undo the fault has no epsilon in its denominator.
    left = _try(rest, SMALL if attempt.observed is evidence.candidate else ROUNDINGS)
    # Normalising what is noisy leaves a common factor within the noise, which looks like a tiny epsilon.
    found = (one for one in left if one.attempt.proven or one.level * CLEARLY <= winner.level)
    return next((one.attempt.name for one in found if _sees_through(one, winner.found, rest)), "")


def _named(
    winner: _Tried, raw: Agreement, shown: tuple[RunnerUp, ...], framework: str, evidence: Evidence
) -> Diagnosis:
    name = winner.attempt.name
    cause = CAUSES[name]
    parameters = describe(winner.attempt.parameters)
    runner_up = next((one for one in shown if one.name != name), None)
    return Diagnosis(
        name,
        cause.explain(parameters),
        cause.fix(framework, parameters),
        winner.level,
        runner_up,
        raw.level,
        winner.attempt.parameters,
        shown,
    )


# --- what the parameters are called ----------------------------------------------------------------------------------


def describe(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with what the texts of `causes` want to say about them."""
    said = dict(parameters)
    if "factor" in said:
        said["recognized"] = recognize(said["factor"], said.get("factor_error", 0.0), said.get("sizes", {}))
    if "order" in said:
        inverse = np.argsort(said["order"]).tolist()
        said["inverse"], said["back"] = inverse, tuple(inverse)
    if "bias" in said:
        bias = np.asarray(said["bias"])
        said["largest"] = float(np.max(np.abs(bias), initial=0.0))
        numbers = ", ".join(f"{value:.4g}" for value in bias[:10])
        said["shown"] = f"[{numbers}{', ...' if bias.size > 10 else ''}]"
    if "clipped" in said:
        said["how"] = "clipped at" if said["clipped"] else "plus"
    return said


def recognize(factor: float, error: float = 0.0, sizes: dict[str, int] | None = None) -> str:
    """In words, a number that a factor is: a power of two, one over a square root, a size; empty where it is none."""
    slack = max(5 * error, 1e-6 * abs(factor))
    found = []
    if abs(factor + 1) <= slack:
        found.append("the opposite sign")
    for what, size in (sizes or {}).items():
        if size > 1 and abs(abs(factor) - size) <= slack:
            found.append(f"the {what}")
        elif size > 1 and abs(abs(factor) - 1 / size) <= slack:
            found.append(f"one over the {what}")
    if factor > 0:
        power = round(math.log2(factor))
        if power and abs(factor - 2.0**power) <= slack:
            found.append(f"2**{power}")
        for value, words in ((1 / factor**2, "1/sqrt({})"), (factor**2, "sqrt({})")):
            whole = round(value)
            # The numbers 1/sqrt(d) lie closely for large d: only one of them may be within the error.
            if (
                1 < whole < 20000
                and 2 * slack / factor * value < 0.5
                and abs(value - whole) <= 2 * slack / factor * value
            ):
                found.append(words.format(whole))
    return f" ({', '.join(found)})" if found else ""
