"""The report as one HTML file that needs nothing else: no script from elsewhere, no font, no picture but inline SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jinja2

from polylogit.conformance._reports import replay_command
from polylogit.conformance._results import BAD, STATUS

if TYPE_CHECKING:
    from polylogit.conformance._results import Result, Results

__all__ = ["render"]

_WIDTH, _HEIGHT = 360, 220
_MARGIN = 42
_COLOURS = ("#4269d0", "#efb118", "#6cc5b0", "#ff725c", "#a463f2", "#97bbf5", "#9c6b4e", "#3ca951")
_FAILURES = 200
_RED, _GREEN = "hsl(2 70% 55%)", "hsl(135 50% 62%)"


def render(report: Results) -> str:
    """The whole report."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polylogit.conformance", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(replay=replay_command, number=_number)
    subjects, bad = report.subjects, report.bad
    return environment.get_template("report.html").render(
        report=report,
        status=STATUS[report.status],
        subjects=subjects,
        colours=dict(zip(subjects, _COLOURS * len(subjects), strict=False)),
        heat=_table(report, "operation", "rounded_to"),
        checks=_table(report, "operation", "check"),
        charts=_charts(report, subjects),
        agreement=_agreement(report),
        bad=bad[:_FAILURES],
        hidden=max(0, len(bad) - _FAILURES),
        verdicts=report.counts,
    )


def _number(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _shade(error: float) -> str:
    """Green towards 0, yellow at the bound, red beyond."""
    beyond = error > 1.0 or math.isnan(error)
    return _RED if beyond else f"hsl({135 - 85 * error:.0f} 50% {62 + 10 * error:.0f}%)"


def _cell(cell: dict[str, Any] | None) -> dict[str, Any]:
    if cell is None:
        return {"text": "", "colour": "transparent", "title": "not asked"}
    bad = sum(cell["verdicts"][name] for name in BAD)
    error, passed = cell["error"], cell["verdicts"]["passed"]
    title = ", ".join(f"{count} {name}" for name, count in cell["verdicts"].items() if count)
    if error is None:
        text, colour = ("✗", _RED) if bad else ("✓", _GREEN) if passed else ("–", "transparent")
        return {"text": text, "colour": colour, "title": title}
    text = "∞" if math.isinf(error) else f"{error:.2f}" if error < 100 else f"{error:.0e}"
    return {"text": text + (" ✗" if bad else ""), "colour": _shade(max(error, 2.0) if bad else error), "title": title}


def _table(report: Results, *keys: str) -> list[dict[str, Any]]:
    """A line for each operation and second key, a column for each subject."""
    cells = report.matrix(*keys, "subject")
    found = dict.fromkeys(tuple(getattr(result, key) for key in keys) for result in report.results if result.check)
    operations = list(dict.fromkeys(operation for operation, _ in found))
    lines = sorted(found, key=lambda key: operations.index(key[0]))
    return [{"names": key, "cells": [_cell(cells.get((*key, one))) for one in report.subjects]} for key in lines]


def _charts(report: Results, subjects: list[str]) -> list[dict[str, Any]]:
    charts = []
    for operation in dict.fromkeys(result.operation for result in report.results if result.operation):
        ours = [one for one in report.results if one.operation == operation]
        measured = [one for one in ours if one.error is not None and one.length > 0]
        for attribute, title in (("distance", "distance d from the maximum"), ("length", "row length n")):
            if points := _points(measured, attribute, subjects):
                charts.append({"operation": operation, "title": title, **points})
    return charts


def _points(results: list[Result], attribute: str, subjects: list[str]) -> dict[str, Any]:
    values = [getattr(result, attribute) for result in results]
    if not values or max(values) <= 0:
        return {}
    most = math.log10(1.0 + min(max(values), 1e6))
    base, tall, wide = _HEIGHT - _MARGIN + 8, _HEIGHT - _MARGIN - 8, _WIDTH - _MARGIN - 10
    colours = dict(zip(subjects, _COLOURS * len(subjects), strict=False))

    def across(value: float) -> str:
        return f"{_MARGIN + wide * math.log10(1.0 + min(value, 1e6)) / most:.1f}"

    points = []
    for result, value in zip(results, values, strict=True):
        height = min(result.error if result.error is not None and not math.isnan(result.error) else 2.0, 1.5)
        title, colour = f"{result.id}: {result.error:.3g}", colours[result.subject]
        points.append({"x": across(value), "y": f"{base - tall * height / 1.5:.1f}", "colour": colour, "title": title})
    ticks = [10**power for power in range(7) if 10**power <= max(values)]
    places = [{"x": across(tick), "text": f"{tick:g}"} for tick in ticks]
    sizes = {"width": _WIDTH, "height": _HEIGHT, "base": base, "bound": f"{base - tall / 1.5:.1f}"}
    return {"points": _thinned(points), "ticks": places, **sizes}


def _thinned(points: list[dict[str, str]]) -> list[dict[str, str]]:
    """One point for each place that the eye can tell apart."""
    kept: dict[tuple[int, int, str], dict[str, str]] = {}
    for point in points:
        kept[round(float(point["x"]) / 2), round(float(point["y"]) / 2), point["colour"]] = point
    return list(kept.values())


def _agreement(report: Results) -> list[dict[str, Any]]:
    rows = [row for row in report.pairs if row["check"] == "values"]
    names = list(dict.fromkeys(name for row in rows for name in (row["first"], row["second"])))
    tables = []
    for operation, dtype in dict.fromkeys((row["operation"], row["dtype"]) for row in rows):
        ours = [row for row in rows if (row["operation"], row["dtype"]) == (operation, dtype)]
        found = {frozenset((row["first"], row["second"])): row for row in ours}
        grid = [[found.get(frozenset((one, two))) if one != two else None for two in names] for one in names]
        tables.append({"operation": operation, "dtype": dtype, "names": names, "grid": grid})
    return tables
