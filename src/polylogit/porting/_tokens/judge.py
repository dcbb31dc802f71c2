"""Which fault, if any, explains why two engines differ; the rule is that of `polylogit.porting._diagnosis.judge`.

A fault is named when undoing it leaves what rounding allows, and nothing else does nearly as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.porting._diagnosis.verdict import Diagnosis, RunnerUp
from polylogit.porting._progress import steps
from polylogit.porting._tokens.faults import FAULTS

if TYPE_CHECKING:
    from polylogit._backends.base import Backend
    from polylogit.porting._diagnosis.faults.fault import Fault
    from polylogit.porting._tokens.evidence import Evidence, Left

__all__ = ["diagnose"]

# The winner must leave so many times less than the runner-up, and than no explanation at all.
CLEARLY = 3.0
# A difference within rounding has a cause if undoing it leaves so many times less.
SEEN_THROUGH = 10.0
# So many entries must be left after what was fitted.
ENOUGH = 4


class _Tried(NamedTuple):
    fault: Fault
    parameters: dict[str, Any]
    left: Left
    explains: bool

    @property
    def name(self) -> str:
        return self.fault.name

    @property
    def level(self) -> float:
        return self.left.level


@np.errstate(all="ignore")  # NaN and infinities are data here
def diagnose(evidence: Evidence, backend: Backend) -> Diagnosis | None:
    """The cause; None where the two are within rounding and nothing explains what is left."""
    raw = evidence.raw
    agrees = raw.times <= 1.0
    if agrees and (raw.level <= 8 * np.finfo(np.float32).eps or raw.counted < 8):
        return None
    best: dict[str, _Tried] = {}
    for fault in steps(FAULTS, "looking for a cause"):
        if agrees and fault.small:
            continue  # 16 bits are what the noise is judged by
        for prediction in fault.predict(evidence):
            left = evidence.left(prediction.expected, prediction.observed, prediction.positions)
            explains = left.counted - prediction.free >= ENOUGH and left.times <= 1.0
            one = _Tried(fault, prediction.parameters, left, explains)
            before = best.get(fault.name)
            if before is None or (not one.explains, one.level) < (not before.explains, before.level):
                best[fault.name] = one
    clearly = SEEN_THROUGH if agrees else CLEARLY
    helpful = [one for one in best.values() if one.explains and one.level * clearly <= raw.level]
    winner = _winner(helpful)
    if agrees and winner is None:
        return None
    shown = tuple(RunnerUp(one.name, one.level) for one in sorted(best.values(), key=lambda one: one.level)[:5])
    if winner is not None:
        rival = next((one for one in shown if one.name != winner.name), None)
        return winner.fault.diagnosis(
            backend, winner.parameters, winner.level, runner_up=rival, difference=raw.level, evidence=shown
        )
    why = "nothing that is known explains the difference"
    if helpful:
        why = f"{' and '.join(one.name for one in helpful)} explain it equally well"
    fix = "compare whole rows of logits of one side, or more positions: they tell more causes apart"
    runner_up = shown[0] if shown else None
    return Diagnosis("unknown", f"The cause is unknown: {why}.", fix, raw.level, runner_up, raw.level, {}, shown)


def _winner(helpful: list[_Tried]) -> _Tried | None:
    """The one that leaves clearly less than all others that explain, its special cases set aside."""
    for one in helpful:
        level = CLEARLY * max(one.level, float(np.finfo(np.float32).eps))
        rivals = [other for other in helpful if other is not one and other.name not in one.fault.dominates]
        if all(one.name not in other.fault.dominates and other.level >= level for other in rivals):
            return one
    return None
