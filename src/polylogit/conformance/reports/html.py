"""The report as one HTML file that needs nothing else: no script from elsewhere, no font, no picture but inline SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jinja2

from polylogit.conformance.reports import matrix, replay_command
from polylogit.conformance.results import BAD

if TYPE_CHECKING:
    from polylogit.conformance.results import Report, Result

__all__ = ["render"]

_WIDTH, _HEIGHT = 360, 220
_MARGIN = 42
_COLOURS = ("#4269d0", "#efb118", "#6cc5b0", "#ff725c", "#a463f2", "#97bbf5", "#9c6b4e", "#3ca951")
_FAILURES = 200


def render(report: Report) -> str:
    """The whole report."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polylogit.conformance", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(replay=replay_command, number=_number)
    subjects = list(dict.fromkeys(result.subject for result in report.results))
    bad = [result for result in report.results if result.verdict in BAD]
    return environment.get_template("report.html").render(
        report=report,
        status={0: "agrees", 1: "disagrees", 3: "inconclusive"}[report.status],
        subjects=subjects,
        colours=dict(zip(subjects, _COLOURS * len(subjects), strict=False)),
        heat=_heat(report, subjects),
        checks=_checks(report, subjects),
        charts=_charts(report, subjects),
        agreement=_agreement(report),
        bad=bad[:_FAILURES],
        hidden=max(0, len(bad) - _FAILURES),
        verdicts={name[0]: sum(cell["verdicts"].values()) for name, cell in matrix(report, "verdict").items()},
    )


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.9g}"


def _shade(error: float | None) -> str:
    """Green towards 0, yellow at the bound, red beyond."""
    if error is None:
        return "transparent"
    if error > 1.0 or math.isnan(error):
        return "hsl(2 70% 55%)"
    return f"hsl({135 - 85 * error:.0f} 50% {62 + 10 * error:.0f}%)"


def _cell(cell: dict[str, Any] | None) -> dict[str, Any]:
    if cell is None:
        return {"text": "", "colour": "transparent", "title": "not asked"}
    bad = sum(cell["verdicts"][name] for name in BAD)
    error = cell["error"]
    title = ", ".join(f"{count} {name}" for name, count in cell["verdicts"].items() if count)
    if error is None:
        passed = cell["verdicts"].get("passed")
        text = "✗" if bad else "✓" if passed else "–"
        return {
            "text": text,
            "colour": "hsl(2 70% 55%)" if bad else "hsl(135 50% 62%)" if passed else "transparent",
            "title": title,
        }
    text = "∞" if math.isinf(error) else f"{error:.2f}" if error < 100 else f"{error:.0e}"  # noqa: PLR2004
    return {"text": text + (" ✗" if bad else ""), "colour": _shade(max(error, 2.0) if bad else error), "title": title}


def _heat(report: Report, subjects: list[str]) -> list[dict[str, Any]]:
    """Operation by the dtype of the results, a column for each subject."""
    cells = matrix(report, "operation", "rounded_to", "subject")
    found = dict.fromkeys((result.operation, result.rounded_to) for result in report.results if result.dtype)
    operations = list(dict.fromkeys(operation for operation, _ in found))
    keys = sorted(found, key=lambda key: operations.index(key[0]))
    return [{"names": key, "cells": [_cell(cells.get((*key, subject))) for subject in subjects]} for key in keys]


def _checks(report: Report, subjects: list[str]) -> list[dict[str, Any]]:
    cells = matrix(report, "operation", "check", "subject")
    keys = dict.fromkeys((result.operation, result.check) for result in report.results if result.check)
    return [{"names": key, "cells": [_cell(cells.get((*key, subject))) for subject in subjects]} for key in keys]


def _charts(report: Report, subjects: list[str]) -> list[dict[str, Any]]:
    charts = []
    for operation in dict.fromkeys(result.operation for result in report.results if result.operation):
        measured = [
            one for one in report.results if one.operation == operation and one.error is not None and one.length > 0
        ]
        for attribute, title in (("distance", "distance d from the maximum"), ("length", "row length n")):
            if points := _points(measured, attribute, subjects):
                charts.append({"operation": operation, "title": title, **points})
    return charts


def _points(results: list[Result], attribute: str, subjects: list[str]) -> dict[str, Any]:
    values = [getattr(result, attribute) for result in results]
    if not values or max(values) <= 0:
        return {}
    most = math.log10(1.0 + min(max(values), 1e6))
    colours = dict(zip(subjects, _COLOURS * len(subjects), strict=False))
    points = []
    for result, value in zip(results, values, strict=True):
        x = _MARGIN + (_WIDTH - _MARGIN - 10) * math.log10(1.0 + min(value, 1e6)) / most
        height = min(result.error if result.error is not None and not math.isnan(result.error) else 2.0, 1.5)
        y = _HEIGHT - _MARGIN + 8 - (_HEIGHT - _MARGIN - 8) * height / 1.5
        points.append(
            {
                "x": f"{x:.1f}",
                "y": f"{y:.1f}",
                "colour": colours[result.subject],
                "title": f"{result.id}: {result.error:.3g}",
            }
        )
    ticks = [10**power for power in range(7) if 10**power <= max(values)]
    places = [
        {"x": f"{_MARGIN + (_WIDTH - _MARGIN - 10) * math.log10(1.0 + tick) / most:.1f}", "text": f"{tick:g}"}
        for tick in ticks
    ]
    bound = _HEIGHT - _MARGIN + 8 - (_HEIGHT - _MARGIN - 8) / 1.5
    return {
        "points": _thinned(points),
        "ticks": places,
        "bound": f"{bound:.1f}",
        "width": _WIDTH,
        "height": _HEIGHT,
        "base": _HEIGHT - _MARGIN + 8,
    }


def _thinned(points: list[dict[str, str]]) -> list[dict[str, str]]:
    """One point for each place that the eye can tell apart."""
    kept: dict[tuple[int, int, str], dict[str, str]] = {}
    for point in points:
        kept[round(float(point["x"]) / 2), round(float(point["y"]) / 2), point["colour"]] = point
    return list(kept.values())


def _agreement(report: Report) -> list[dict[str, Any]]:
    rows = [row for row in report.pairs if row["check"] == "values"]
    names = list(dict.fromkeys(name for row in rows for name in (row["first"], row["second"])))
    tables = []
    for operation, dtype in dict.fromkeys((row["operation"], row["dtype"]) for row in rows):
        found = {
            frozenset((row["first"], row["second"])): row
            for row in rows
            if (row["operation"], row["dtype"]) == (operation, dtype)
        }
        grid = [[found.get(frozenset((one, two))) if one != two else None for two in names] for one in names]
        tables.append({"operation": operation, "dtype": dtype, "names": names, "grid": grid})
    return tables
