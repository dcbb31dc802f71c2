"""The report as one self-contained HTML file: no external script or font, and only inline SVG pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from polylogit import _page
from polylogit.conformance._grouping import grouped
from polylogit.conformance._numbers import times
from polylogit.conformance._reports import EXCHANGE, computed, exchanges, of_storage, replay_command, shares, window
from polylogit.conformance._results import BAD, DISAGREES, STATUS
from polylogit.conformance._verdict import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polylogit.conformance._grouping import Group
    from polylogit.conformance._results import Result, Results

__all__ = ["render", "table"]

_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BASE = 30, 380, 18, 196
_BEYOND = 2.0  # bounds, at the top of a chart
_COLOURS = ("#4269d0", "#efb118", "#3ca951", "#ff725c", "#a463f2", "#6cc5b0", "#9c6b4e", "#97bbf5")
_GROUPS, _CASES = 60, 200
_ENTRIES = 12  # of a failing row
_RED, _GREEN = "hsl(2 70% 65%)", "hsl(135 50% 62%)"
_KEYS = ("operation", "check", "dtype")


def render(report: Results) -> str:
    """The whole report."""
    groups = grouped(report)
    shown = [_group(one) for one in groups[:_GROUPS]]
    charts, colours = _charts(report)
    bad = [result for group in groups for result in group.results]
    return _page.render(
        "report.html.j2",
        **_head(report, groups),
        about=_about(report.environment),
        shown=shown,
        pictures=any(one["drawn"] for one in shown),
        hidden=max(0, len(groups) - _GROUPS),
        choices={key: sorted({getattr(one, key) for one in bad if getattr(one, key)}) for key in _KEYS},
        disagrees=DISAGREES,
        lines=_table(report, computed(report), "operation", "rounded_to"),
        storage=_table(report, [one for one in report.results if of_storage(one)], "operation", "rounded_to"),
        charts=charts,
        colours=colours,
        agreement=_agreement(report),
        exchange=EXCHANGE,
        exchanges=exchanges(report),
        verdicts=report.counts,
        replay=replay_command,
        part=False,
    )


def table(report: Results) -> str:
    """Only the verdict and the table, for a notebook."""
    return _page.render("report.html.j2", **_head(report, grouped(report)), part=True)


def _head(report: Results, groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "status": STATUS[report.status],
        "sentence": sentence(report, groups),
        "subjects": report.subjects,
        "groups": groups,
        "checks": _table(report, computed(report), "operation", "check"),
    }


def _about(environment: Mapping[str, Any]) -> list[str]:
    """The machine and the versions of the run."""
    known = [f"{name} {environment[name]}" for name in ("level", "seed", "polylogit") if name in environment]
    known += [f"Python {environment['python']}"] if "python" in environment else []
    known += [f"{name} {version}" for name, version in environment.get("backends", {}).items()]
    known += [f"{environment['seconds']} s"] if "seconds" in environment else []
    known += [str(environment["machine"])] if "machine" in environment else []
    if "processor" in environment:
        known.append(f"{environment['processor']} ({', '.join(environment.get('instruction_sets', []))})")
    for name, said in environment.get("capabilities", {}).items():
        if said:
            known.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in said.items()))
    return known


# --- failures --------------------------------------------------------------------------------------------------------


def _group(group: Group) -> dict[str, Any]:
    rest = group.results[1:]
    return {
        "group": group,
        "symptoms": shares(group.symptoms) if group.symptoms else "",
        "worst": times(group.worst) if group.symptoms and group.worst and math.isfinite(group.worst) else "",
        "others": [_keyed(one) for one in rest[:_CASES]],
        "hidden": max(0, len(rest) - _CASES),
        **_case(group.smallest),
    }


def _case(result: Result) -> dict[str, Any]:
    row = window(result, _ENTRIES)
    drawn = None
    if row is not None:
        start = row.places[0] - result.details.get("shown_from", 0)
        part = slice(start, start + len(row.places))
        expected, got = ([float(one) for one in result.details[name][part]] for name in ("expected_row", "got_row"))
        drawn = _page.picture(expected, got, row.wrong, row.worst, row.places)
    return {**_keyed(result), "row": row, "drawn": drawn}


def _keyed(result: Result) -> dict[str, Any]:
    """A result, with the attributes of its element that the filters use."""
    from markupsafe import Markup, escape  # comes with jinja2

    keys = " ".join(f'data-{key}="{escape(getattr(result, key))}"' for key in _KEYS)
    return {"result": result, "attributes": Markup(keys)}  # each value is escaped


# --- tables ----------------------------------------------------------------------------------------------------------


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


def _table(report: Results, among: Iterable[Result], *keys: str) -> list[dict[str, Any]]:
    """A line for each operation and second key, a column for each subject."""
    results = [result for result in among if result.check]
    cells = report.matrix(*keys, "subject", among=results)
    found = dict.fromkeys(tuple(getattr(result, key) for key in keys) for result in results)
    operations = list(dict.fromkeys(operation for operation, _ in found))
    lines = sorted(found, key=lambda key: operations.index(key[0]))
    return [{"names": key, "cells": [_cell(cells.get((*key, one))) for one in report.subjects]} for key in lines]


# --- charts ----------------------------------------------------------------------------------------------------------


def _charts(report: Results) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Error against distance and against length, with a colour for each subject, or for each dtype of a single one."""
    several = len(report.subjects) > 1
    measured = [one for one in computed(report) if one.error is not None and one.length > 0]
    names = report.subjects if several else list(dict.fromkeys(one.rounded_to for one in measured))
    colours: dict[str, str] = dict(zip(names, _COLOURS * len(names), strict=False))
    charts = []
    for operation in dict.fromkeys(result.operation for result in measured):
        ours = [one for one in measured if one.operation == operation]
        for attribute, title in (("distance", "distance from the maximum"), ("length", "row length")):
            if points := _points(ours, attribute, colours, several=several):
                charts.append({"operation": operation, "title": title, **points})
    return charts, colours


def _points(results: list[Result], attribute: str, colours: dict[str, str], *, several: bool) -> dict[str, Any]:
    values = [float(getattr(result, attribute)) for result in results]
    if not values or max(values) <= 0:
        return {}
    most = math.log10(1.0 + min(max(values), 1e6))

    def across(value: float) -> str:
        return f"{_LEFT + (_RIGHT - _LEFT) * math.log10(1.0 + min(value, 1e6)) / most:.1f}"

    points = []
    for result, value in zip(results, values, strict=True):
        error = result.error if result.error is not None and not math.isnan(result.error) else math.inf
        height = f"{_BASE - (_BASE - _TOP) * min(error, _BEYOND) / _BEYOND:.1f}"
        colour = colours[result.subject if several else result.rounded_to]
        title = f"{result.id}: {times(error)}"
        points.append({"x": across(value), "y": height, "beyond": error > _BEYOND, "colour": colour, "title": title})
    ticks = [10**power for power in range(7) if 10**power <= max(values)]
    # The last label is drawn to the left of the edge.
    places = [{"x": across(tick), "text": _power(tick)} for tick in ticks]
    size = {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "top": _TOP - 2, "base": _BASE}
    bound = f"{_BASE - (_BASE - _TOP) / _BEYOND:.1f}"
    return {"points": _thinned(points), "ticks": places, "bound": float(bound), **size}


def _power(tick: int) -> str:
    digits = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    return str(tick) if tick < 1000 else "10" + str(len(str(tick)) - 1).translate(digits)


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One point for each place that the eye can distinguish."""
    kept: dict[tuple[int, int, str], dict[str, Any]] = {}
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
