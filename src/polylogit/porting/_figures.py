"""The figure of a difference (a number and its unit) and the wording of a cause, shared by text, JSON and HTML.

Knows verdicts, not how they are found.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.porting._diagnosis.agreement import NOISE_LIMIT, Precision
from polylogit.porting._diagnosis.oddities import oddities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.porting._diagnosis.verdict import Diagnosis
    from polylogit.porting._results import Activation

__all__ = [
    "RELATIVE_TO",
    "Figure",
    "allowance",
    "apart",
    "cause_as_dict",
    "difference",
    "figure",
    "number",
    "residuals",
    "times",
    "unit_of",
]

# What a difference is relative to, by how it was measured.
RELATIVE_TO = {"": "", "relative": "of the value", "log": "of 1 + |value|", "scale": "of the scale"}

# A root mean square beyond this comes of entries that are 0, NaN or infinite on one side, and says nothing of the rest.
SENSIBLE = 1e6


class Figure(NamedTuple):
    """A multiple of a unit."""

    value: float
    unit: str  # "times rounding" as it was measured, "bounds" of the operation, or "ulp" of the coarser dtype

    def __str__(self) -> str:
        return f"{times(self.value)} {self.unit}"


def figure(one: Activation) -> Figure:
    """The error of a pair, in the best available unit.

    With measured noise, its multiple; for a softmax, log_softmax or sigmoid that differs, bounds at the worst entry;
    otherwise the root mean square in ulp.
    """
    found = one.verdict
    if not math.isnan(found.times):
        return Figure(found.times, "times rounding")
    if not math.isnan(found.bounds):
        return Figure(found.bounds, "bounds")
    eps = Precision.of(*one.dtypes).eps
    return Figure(found.agreement.level / eps, "ulp")


def difference(one: Activation) -> str:
    """The root mean square of the difference, with the quantity to which it is relative."""
    level = one.verdict.agreement.level
    return f"{number(level)} {unit_of(one)}".strip() if level and math.isfinite(level) else number(level)


def apart(one: Activation) -> str:
    """How far apart a pair is, in a few words, or why no figure would say that."""
    if one.shapes[0] != one.shapes[1]:
        return "of the shapes {} and {}".format(*one.shapes)
    said = ""
    if not one.verdict.agreement.level <= SENSIBLE:
        floor = Precision.of(*one.dtypes).floor if one.verdict.measure == "relative" else None
        said = oddities(one.reference, one.candidate, floor=floor)
    if one.verdict.agrees and one.verdict.agreement.peak == 0:
        return "equal"
    return said or f"{difference(one)} apart, {figure(one)}"


def allowance(activations: Sequence[Activation]) -> str:
    """Up to what difference unmeasured noise was allowed to these."""
    return number(max(max(NOISE_LIMIT, Precision.of(*one.dtypes).eps) for one in activations))


def number(value: float, digits: int = 2) -> str:
    """A number with a few digits."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.{digits}g}" if math.isfinite(value) else "∞" if value > 0 else "-∞"


def times(value: float) -> str:
    """A multiple with two digits, whole from ten on, without an exponent while it is readable."""
    if not math.isfinite(value) or value < 10:
        return number(value)
    whole = float(f"{value:.1e}")
    return f"{whole:,.0f}" if whole < 1e5 else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def unit_of(one: Activation | None) -> str:
    """The quantity to which the differences of a cause are relative, for the activation that shows the cause."""
    return "" if one is None else RELATIVE_TO[one.verdict.measure]


# --- a cause ---------------------------------------------------------------------------------------------------------


def residuals(cause: Diagnosis, unit: str) -> str:
    """The difference that remains after undoing the cause, and after undoing other explanations."""
    whole = (
        f"difference {number(cause.difference)} {unit}"
        if cause.difference <= SENSIBLE
        else "a difference that no figure describes"
    )
    if cause.name == "unknown":
        tried = ", ".join(f"{one.name} {number(one.residual)}" for one in cause.evidence if one.residual <= SENSIBLE)
        return f"{whole}; the nearest explanations leave {tried or 'nothing comparable'}"
    text = f"{whole}, {number(cause.residual)} once the cause is undone"
    if cause.runner_up is not None and cause.runner_up.residual <= SENSIBLE:
        text += f"; undoing the runner-up, {cause.runner_up.name}, leaves {number(cause.runner_up.residual)}"
    return text


def cause_as_dict(cause: Diagnosis | None, unit: str) -> dict[str, Any] | None:
    """The entry of a cause in the JSON files."""
    if cause is None:
        return None
    found = {key: getattr(cause, key) for key in ("name", "explanation", "fix", "residual", "difference")}
    parameters = {
        key: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        for key, value in cause.parameters.items()
    }
    runner_up = None if cause.runner_up is None else cause.runner_up._asdict()
    evidence = [one._asdict() for one in cause.evidence]
    return {**found, "unit": unit, "runner_up": runner_up, "parameters": parameters, "evidence": evidence}
