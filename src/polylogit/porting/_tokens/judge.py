"""Decides which fault, if any, explains why two engines differ, by the rule of `polylogit.porting._diagnosis.judge`.

It names a fault if undoing it leaves only the allowed rounding, and nothing else does nearly as well. Knows no fault by
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._progress import steps
from polylogit.porting._diagnosis.choice import CLEARLY, SEEN_THROUGH, clear_winner, named, nearest, unknown
from polylogit.porting._tokens.faults import FAULTS

if TYPE_CHECKING:
    from polylogit._backends.base import Backend
    from polylogit.porting._diagnosis.faults.fault import Fault
    from polylogit.porting._diagnosis.verdict import Diagnosis
    from polylogit.porting._tokens.evidence import Evidence, Left

__all__ = ["diagnose"]

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
    """The cause; None if the two are within rounding and nothing explains the remaining difference."""
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
    winner = clear_winner(helpful, float(np.finfo(np.float32).eps))
    if agrees and winner is None:
        return None
    shown = nearest(best.values())
    if winner is not None:
        return named(winner, winner.parameters, backend, raw.level, shown)
    fix = "compare whole rows of logits of one side, or more positions: they tell more causes apart"
    return unknown(helpful, raw.level, shown, fix=fix)
