"""`Comparison`: the results of `compare`, with methods that write them as text, JSON and HTML.

Knows the plain results, and nothing of how they were found.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import _page
from polylogit.porting._diagnosis.noise import LIMIT
from polylogit.porting._figures import allowance, apart, cause_as_dict, difference, figure, number, residuals, unit_of
from polylogit.porting._results import DRAWN, Results
from polylogit.porting._tree import LIMITS, reach, tree_of
from polylogit.porting._written import Written

if TYPE_CHECKING:
    from polylogit.porting._results import Activation

__all__ = ["Comparison"]

SCHEMA = "polylogit.comparison/1"
VERDICTS = {
    "agrees": "The candidate agrees with the reference.",
    "beyond": "The candidate is beyond rounding: less accurate than the reference, and no cause is known.",
    "disagrees": "The candidate does not agree with the reference.",
    "inconclusive": "Inconclusive: these outputs could not have differed (constant values, or gradients of zero).",
}
# What only `isolate` reports: why the whole was compared, where modules go wrong, which modules were paired.
ISOLATED = ("whole", "places", "pairs")


class Comparison(Written, Results):
    """The result of `compare`.

    Attributes
    ----------
    activations : tuple of Activation
        In the order of the reference.
    unmatched : tuple of str
        Activations that only one side has.
    framework : str
        The framework of the candidate.
    noise : str
        How the noise of a correct computation was measured, or why it was not.
    """

    def summary(self) -> str:
        """The verdict, the cause and the fix in a few lines of text."""
        return _summary(self)

    __str__ = summary

    def __repr__(self) -> str:
        """One line."""
        cause = "" if self.cause is None else f", cause: {self.cause.name}"
        count = len(self.activations)
        return f"<{type(self).__name__} {self.status}: {count} activation{'s' if count != 1 else ''}{cause}>"

    def _as_dict(self) -> dict[str, Any]:
        return _as_dict(self)

    def _page(self, *, part: bool = False) -> str:
        return _html(self, part=part)


# --- text ------------------------------------------------------------------------------------------------------------


def _summary(comparison: Results) -> str:
    lines = [_verdict(comparison), *_facts(comparison)]
    first, shown = comparison.first_divergence, comparison.diagnosed
    if first is not None:
        lines.append(f"first divergence: {first}")
    if shown is not None and shown.name != first:
        lines.append(f"the cause shows in: {shown.name}")
    cause = comparison.cause
    if cause is not None:
        lines += [
            f"cause: {cause.name}",
            f"  {cause.explanation}",
            f"  fix: {cause.fix}",
            f"  {residuals(cause, unit_of(shown))}",
        ]
    for one in comparison.activations:
        name = one.name if one.candidate_name == one.name else f"{one.name} ({one.candidate_name} in the candidate)"
        lines.append(f"{one.status:>12}  {name}: {apart(one)}")
    return "\n".join(lines)


def _verdict(comparison: Results) -> str:
    """What was found, and where that rests on an allowance rather than on bounds or a measurement."""
    found = VERDICTS[comparison.status]
    if not comparison.agrees or not comparison.allowed:
        return found
    count = f"{len(comparison.allowed)} of {len(comparison.activations)}"
    return (
        f"{found[:-1]}, within {allowance(comparison.allowed)}: more than the bounds of rounding, in {count} "
        "activations. A small mistake would pass; compare the models or functions themselves, with inputs, to measure "
        "the noise."
    )


def _facts(comparison: Results) -> list[str]:
    """The sources of the two sides, and how noise was measured."""
    names = zip(("reference", "candidate"), comparison.sources, strict=False)
    return [*(f"{side}: {source}" for side, source in names), *_noise(comparison)]


def _noise(comparison: Results) -> list[str]:
    """How noise was measured, and for how many activations it was not."""
    if not comparison.noise:
        return []
    forward = [one for one in comparison.activations if not one.gradient]
    without = sum(math.isnan(one.verdict.times) for one in forward)
    few = f"; it says nothing of {without} of {len(forward)} activations" if 0 < without < len(forward) else ""
    return [f"{comparison.noise}{few}"]


# --- JSON ------------------------------------------------------------------------------------------------------------


def _as_dict(comparison: Results) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "schema": SCHEMA,
        "status": comparison.status,
        "agrees": comparison.agrees,
        "first_divergence": comparison.first_divergence,
        "framework": comparison.framework,
        "sources": comparison.sources,
        "noise": comparison.noise,
        "cause": cause_as_dict(comparison.cause, unit_of(comparison.diagnosed)),
        "activations": [_activation(one) for one in comparison.activations],
        "unmatched": comparison.unmatched,
        **{name: getattr(comparison, name) for name in ISOLATED if hasattr(comparison, name)},
    }


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
        "difference_unit": unit_of(one),
        "largest_difference": found.peak,
        "times_rounding": None if math.isnan(one.verdict.times) else one.verdict.times,
        "error": figure(one).value,
        "error_unit": figure(one).unit,
        "allowed": one.verdict.allowed,
        "cause": None if one.verdict.cause is None else one.verdict.cause.name,
    }


# --- HTML ------------------------------------------------------------------------------------------------------------


def _html(comparison: Results, *, part: bool = False) -> str:
    """The page: the diagnosis, the tree of modules with their errors, and the worst rows side by side."""
    failing = [one for one in comparison.activations if one.status == "disagrees"]
    whole = getattr(comparison, "whole", "")
    return _page.render(
        "comparison.html.j2",
        part=part,
        comparison=comparison,
        facts=[*_facts(comparison), *([f"Not in isolation, errors propagate: {whole}"] if whole else [])],
        verdict=_verdict(comparison),
        cause=comparison.cause,
        residuals=residuals(comparison.cause, unit_of(comparison.diagnosed)) if comparison.cause else "",
        tree=tree_of(comparison),
        places=getattr(comparison, "places", {}),
        number=number,
        figure=figure,
        difference=difference,
        reach=reach,
        limits=LIMITS,
        allowed=LIMIT,
        failing=[] if part else [(one, _worst_rows(one)) for one in failing[:DRAWN]],
    )


def _worst_rows(one: Activation) -> list[dict[str, Any]]:
    """The data of the rows (along the last axis) that differ most."""
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
