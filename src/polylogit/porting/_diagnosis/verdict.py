"""`Verdict` and `Diagnosis`, the results of a judgement, as plain data. Knows no renderer."""

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
        The cause in one sentence.
    fix : str
        A line of code in the candidate's framework.
    residual : float
        The difference that remains after undoing the fault: root mean square, in units of the output's kind.
    runner_up : RunnerUp or None
        The next-best explanation, and the difference that it leaves.
    difference : float
        The difference before undoing it.
    parameters : dict
        The values that were found: a factor, an epsilon, a permutation, a bias.
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
    # The distance from exact values in multiples of a right computation's; NaN if noise was not measured.
    times: float = math.nan
    # Whether it disagrees but may be the same function, only less accurate.
    beyond: bool = False
    # The measure of the level, as `Evidence.measure`; empty if unknown.
    measure: str = ""
    # The largest difference in multiples of the bound, if noise was not measured and the operation is known.
    bounds: float = math.nan
    # It agrees as noise that was not measured may, and is beyond what rounding is known to do.
    allowed: bool = False
