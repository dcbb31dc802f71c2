"""What a judgement says: plain data, without a method that prints or writes."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from polylogit.porting._diagnosis.agreement import Agreement

__all__ = ["Diagnosis", "RunnerUp", "Verdict"]


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
        The name of a fault, a key of ``FAULTS``, or "unknown".
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
        The explanations that came nearest, the best first.
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
    # How many times farther from exact values than a right computation; NaN where noise was not measured.
    times: float = math.nan
    # It does not agree, and may still be the same function, less accurate.
    beyond: bool = False
    # What its level is relative to, as `Evidence.measure`; empty where that is not known.
    measure: str = ""
    # The largest difference in bounds of the operation, where noise was not measured and an operation is known.
    bounds: float = math.nan
