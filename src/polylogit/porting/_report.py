"""A comparison as text, as JSON and as a page to look at; `Comparison` is the plain results with these as methods."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import _page
from polylogit._io import plain_json, write_whole
from polylogit.porting._results import DRAWN, Results

if TYPE_CHECKING:
    import os

    from polylogit.porting._diagnosis.verdict import Diagnosis
    from polylogit.porting._results import Activation

__all__ = ["Comparison"]

SCHEMA = "polylogit.comparison/1"
VERDICTS = {
    "agrees": "The candidate agrees with the reference.",
    "beyond": "The candidate is beyond rounding: less accurate than the reference, and no cause is known.",
    "disagrees": "The candidate does not agree with the reference.",
    "inconclusive": "Inconclusive: these outputs could not have differed (constant values, or gradients of zero).",
}


class Comparison(Results):
    """What `compare` found.

    Attributes
    ----------
    activations : tuple of Activation
        In the order of the reference.
    unmatched : tuple of str
        Activations that only one side has.
    framework : str
        The candidate's.
    """

    def summary(self) -> str:
        """The verdict, the cause and the fix in a few lines of text."""
        return _summary(self)

    __str__ = summary

    def __repr__(self) -> str:
        """One line."""
        cause = "" if self.cause is None else f", cause: {self.cause.name}"
        count = len(self.activations)
        return f"<Comparison {self.status}: {count} activation{'s' if count != 1 else ''}{cause}>"

    def _repr_html_(self) -> str:
        """The verdict and the table, for notebooks."""
        return _html(self, part=True)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the verdicts, without the arrays, as JSON; the file appears whole or not at all."""
        write_whole(path, json.dumps(_as_dict(self), indent=2, allow_nan=False) + "\n")

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page to look at; the file appears whole or not at all."""
        write_whole(path, _html(self))


# --- text ------------------------------------------------------------------------------------------------------------


def _summary(comparison: Results) -> str:
    lines = [VERDICTS[comparison.status], *_sides(comparison)]
    first, shown = comparison.first_divergence, comparison.diagnosed
    if first is not None:
        lines.append(f"first divergence: {first}")
    if shown is not None and shown.name != first:
        lines.append(f"the cause shows in: {shown.name}")
    cause = comparison.cause
    if cause is not None:
        lines += [f"cause: {cause.name}", f"  {cause.explanation}", f"  fix: {cause.fix}", f"  {_residuals(cause)}"]
    for one in comparison.activations:
        name = one.name if one.candidate_name == one.name else f"{one.name} ({one.candidate_name} in the candidate)"
        lines.append(f"{one.status:>12}  {name}: {_apart(one)}")
    return "\n".join(lines)


def _sides(comparison: Results) -> list[str]:
    return [f"{side}: {source}" for side, source in zip(("reference", "candidate"), comparison.sources, strict=False)]


def _apart(one: Activation) -> str:
    """How far apart, and how many times what rounding takes."""
    level, times = _number(one.verdict.agreement.level), one.verdict.times
    return f"{level} apart" if math.isnan(times) else f"{level} apart, {_number(times)} times rounding"


def _residuals(cause: Diagnosis) -> str:
    if cause.name == "unknown":
        tried = ", ".join(f"{one.name} {_number(one.residual)}" for one in cause.evidence)
        return f"difference {_number(cause.difference)}; the nearest explanations leave {tried or 'nothing comparable'}"
    text = f"difference {_number(cause.difference)}, {_number(cause.residual)} once the cause is undone"
    if cause.runner_up is not None:
        text += f"; undoing the runner-up, {cause.runner_up.name}, leaves {_number(cause.runner_up.residual)}"
    return text


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "∞"


# --- JSON ------------------------------------------------------------------------------------------------------------


def _as_dict(comparison: Results) -> dict[str, Any]:
    """What the JSON file holds."""
    whole = {
        "schema": SCHEMA,
        "status": comparison.status,
        "agrees": comparison.agrees,
        "first_divergence": comparison.first_divergence,
        "framework": comparison.framework,
        "sources": comparison.sources,
        "cause": None if comparison.cause is None else _cause(comparison.cause),
        "activations": [_activation(one) for one in comparison.activations],
        "unmatched": comparison.unmatched,
    }
    return dict(plain_json(whole))


def _cause(cause: Diagnosis) -> dict[str, Any]:
    found = {key: getattr(cause, key) for key in ("name", "explanation", "fix", "residual", "difference")}
    parameters = {
        key: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        for key, value in cause.parameters.items()
    }
    runner_up = None if cause.runner_up is None else cause.runner_up._asdict()
    evidence = [one._asdict() for one in cause.evidence]
    return {**found, "runner_up": runner_up, "parameters": parameters, "evidence": evidence}


def _activation(one: Activation) -> dict[str, Any]:
    found = one.verdict.agreement
    return {
        "name": one.name,
        "candidate_name": one.candidate_name,
        "status": one.status,
        "gradient": one.gradient,
        "shape": one.shapes[0],
        "candidate_shape": one.shapes[1],
        "dtype": one.dtypes[0],
        "candidate_dtype": one.dtypes[1],
        "difference": found.level,
        "largest_difference": found.peak,
        "times_rounding": None if math.isnan(one.verdict.times) else one.verdict.times,
        "cause": None if one.verdict.cause is None else one.verdict.cause.name,
    }


# --- HTML ------------------------------------------------------------------------------------------------------------


def _html(comparison: Results, *, part: bool = False) -> str:
    """The diagnosis on top, the error of each activation drawn, the worst rows side by side."""
    failing = [one for one in comparison.activations if one.status == "disagrees"]
    return _page.render(
        "comparison.html.j2",
        part=part,
        comparison=comparison,
        sides=_sides(comparison),
        verdict=VERDICTS[comparison.status],
        cause=comparison.cause,
        residuals=_residuals(comparison.cause) if comparison.cause else "",
        number=_number,
        reach=_reach,
        failing=[(one, _worst_rows(one)) for one in failing[:DRAWN]],
    )


def _reach(value: float) -> float:
    """How far a bar reaches: 0 at 1e-9 and 100 at 1, logarithmic."""
    return round(min(100.0, max(0.5, (9.0 + math.log10(max(value, 1e-30))) / 9.0 * 100.0)), 1)


def _worst_rows(one: Activation) -> list[dict[str, Any]]:
    """The rows (along the last axis) that differ most, with what to show of them."""
    rows = []
    for row in one.rows:
        top = row.difference[np.isfinite(row.difference)].max(initial=0.0) or 1.0
        cells = [
            {
                "column": column,
                "reference": f"{r:.5g}",
                "candidate": f"{c:.5g}",
                "heat": round(min(1.0, float(difference) / top), 3),
            }
            for column, r, c, difference in zip(row.columns, *row[2:5], strict=True)
        ]
        apart = [float(one) > 0.01 * top for one in row.difference]
        worst = int(np.argmax(row.difference))
        drawn = _page.picture(row.reference.tolist(), row.candidate.tolist(), apart, worst, list(row.columns))
        rows.append({"place": ", ".join(map(str, row.place)), "cells": cells, "of": row.of, "drawn": drawn})
    return rows
