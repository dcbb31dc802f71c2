"""The verdict on a run: in a sentence for people, and as one object for programs.

Knows results and their groups; no report format.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from polylogit.conformance._grouping import grouped
from polylogit.conformance._numbers import times
from polylogit.conformance._results import CONVENTION, DISAGREES, FINDINGS, INACCURATE, STATUS, WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance._grouping import Group
    from polylogit.conformance._results import Results

__all__ = ["counted", "sentence", "summary", "verdict"]

_LISTED = 20  # groups of a summary


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def sentence(report: Results, groups: Sequence[Group] | None = None) -> str:
    """The verdict in words: the findings of each kind, and whether 16-bit results were rounded once."""
    groups = grouped(report) if groups is None else groups
    by = {finding: [one for one in groups if one.finding == finding] for finding in FINDINGS}
    found = []
    if wrong := by[WRONG]:
        numbers = all(one.details.get("got") is not None for group in wrong for one in group.results)
        cases = counted(sum(len(one.results) for one in wrong), "wrong number" if numbers else "wrong result")
        found.append(f"{cases} in {counted(len(wrong), 'group')}")
    if by[CONVENTION]:
        found.append(counted(len({one.smallest.convention for one in by[CONVENTION]}), "other convention"))
    others = Counter(one.verdict for one in report.bad if one.verdict not in ("failed", "convention", "missing"))
    missing = [one for one in report.inconclusive if one.verdict == "missing"]
    found += [f"{count} {name}" for name, count in others.items()] + ([f"{len(missing)} missing"] if missing else [])
    said = [", ".join(found)] if found else []
    less = [one for group in by[INACCURATE] for one in group.results]
    if over := [one.error for one in less if one.error is not None and one.error > 1.0]:
        said.append(f"less accurate in {counted(len(over), 'case')}, up to {times(max(over))} bounds")
    if len(less) > len(over):  # a failure where that was asked for
        said.append(f"rounded more than once in {counted(len(less) - len(over), 'case')}")
    if not said and report.status == 0:
        said.append(counted(report.counts.get("passed", 0), "case") + " passed")
    if not report.counts.get("passed") and not found:
        said.append("nothing was run")
    if expected := report.counts.get("expected-failure"):
        said.append(counted(expected, "expected failure"))
    if report.rounded_once is not None:
        factor = max(one.once for one in report.results if one.once is not None)
        said.append("16 bits rounded once: " + ("yes" if report.rounded_once else _no(factor)))
    if apart := report.invariance:
        differ = ", ".join(f"{cause} {times(ulp)} ulp" for cause, ulp in apart.items() if ulp)
        said.append("the same bits whatever is around a row: " + (f"no ({differ})" if differ else "yes"))
    if idle := report.environment.get("unmatched"):
        said.append(f"nothing that was run matches --only {' or '.join(map(repr, idle))}")
    return f"{report.outcome}: {'; '.join(said)}"


def _no(factor: float) -> str:
    return "no" if math.isinf(factor) else f"no ({times(factor)} times)"


def summary(report: Results) -> str:
    """The sentence, the counts, and a line for each group with its smallest case."""
    groups = grouped(report)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()))
    lines = [sentence(report, groups), f"  ({counts})"]
    for group in groups[:_LISTED]:
        lines.append(f"  {group.finding}: {group.headline}")
        lines.append(f"    {group.smallest.id}: {group.smallest.message}")
    if len(groups) > _LISTED:
        lines.append(f"  and {counted(len(groups) - _LISTED, 'group')} more")
    return "\n".join(lines)


def verdict(report: Results, groups: Sequence[Group] | None = None) -> dict[str, Any]:
    """The verdict as plain data."""
    groups = grouped(report) if groups is None else groups
    factors = [one.once for one in report.results if one.once is not None]
    return {
        "status": report.status,
        "word": STATUS[report.status],
        "sentence": sentence(report, groups),
        "counts": report.counts,
        "findings": {
            finding: sum(len(group.results) for group in groups if group.finding == finding) for finding in FINDINGS
        },
        "conventions": {name: len(found) for name, found in report.conventions.items()},
        "rounded_once": report.rounded_once,
        "rounded_once_error": max(factors) if factors else None,
        "invariance": report.invariance,
        "left_out": report.reduced,
        "groups": [_group(one) for one in groups],
    }


def _group(group: Group) -> dict[str, Any]:
    smallest = group.smallest
    return {
        "finding": group.finding,
        "disagrees": smallest.verdict in DISAGREES,
        "subject": group.subject,
        "operation": group.operation,
        "headline": group.headline,
        "pattern": group.pattern,
        "cases": len(group.results),
        "passes": group.passes,
        "error": group.worst,
        "symptoms": group.symptoms,
        "smallest": {
            "id": smallest.id,
            "message": smallest.message,
            "error": smallest.error,
            "python": smallest.details.get("python", ""),
        },
        "ids": [one.id for one in group.results],
    }
