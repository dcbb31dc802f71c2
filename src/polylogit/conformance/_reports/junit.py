"""The report as JUnit XML: a suite for each subject, operation and check, and a test case for each result."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from polylogit.conformance._grouping import grouped
from polylogit.conformance._reports import replay_command, window
from polylogit.conformance._results import BAD, DISAGREES
from polylogit.conformance._verdict import sentence

if TYPE_CHECKING:
    from polylogit.conformance._grouping import Group
    from polylogit.conformance._results import Result, Results

__all__ = ["render"]

# What XML 1.0 cannot hold.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def _suite(result: Result) -> str:
    return _CONTROL.sub("?", ".".join(part for part in (result.subject, result.operation, result.check) if part))


def render(report: Results) -> str:
    """The whole report."""
    root = ElementTree.Element("testsuites", name="polylogit conformance")
    ordered = sorted(report.results, key=_suite)
    groups = grouped(report)
    causes = {id(one): group for group in groups for one in group.results}
    said = [("verdict", sentence(report, groups)), *((one.finding, _cause(one)) for one in groups)]
    for name, group in groupby(ordered, key=_suite):
        results = list(group)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(results)),
            failures=str(sum(one.verdict in DISAGREES for one in results)),
            errors=str(sum(one.verdict in BAD and one.verdict not in DISAGREES for one in results)),
            skipped=str(sum(one.verdict in ("unsupported", "expected-failure") for one in results)),
            time=f"{sum(one.seconds for one in results):.4f}",
        )
        properties = ElementTree.SubElement(suite, "properties") if said else None
        while said and properties is not None:  # of the whole run, in the first suite: the root may have none
            prop, value = said.pop(0)
            ElementTree.SubElement(properties, "property", name=prop, value=_CONTROL.sub("?", value))
        for result in results:
            _case(suite, result, name, causes.get(id(result)))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cause(group: Group) -> str:
    return " ".join(part for part in (group.subject, group.operation, group.headline) if part)


def _row(result: Result) -> list[str]:
    """The failing row around its worst entry, a line for each of what is known of it."""
    found = window(result)
    if found is None:
        return []
    lines = {"entry": [str(place) for place in found.places], **found.lines}
    return [f"{name}: {', '.join(values)}" for name, values in lines.items()]


def _case(suite: ElementTree.Element, result: Result, name: str, cause: Group | None) -> None:
    label = "/".join(part for part in (result.dtype, result.case) if part) or result.verdict
    case = ElementTree.SubElement(
        suite, "testcase", classname=name, name=_CONTROL.sub("?", label), time=f"{result.seconds:.4f}"
    )
    message = _CONTROL.sub("?", result.message)
    if result.verdict in DISAGREES:
        failure = ElementTree.SubElement(case, "failure", message=message, type=result.verdict)
        lines = [message, f"cause: {cause.headline}" if cause is not None else "", *_row(result)]
        lines.append(result.details.get("python", ""))
        if result.is_case:
            lines.append(replay_command(result.id))
        failure.text = _CONTROL.sub("?", "\n".join(line for line in lines if line))
    elif result.verdict in BAD:
        ElementTree.SubElement(case, "error", message=message, type=result.verdict)
    elif result.verdict != "passed":
        ElementTree.SubElement(case, "skipped", message=f"{result.verdict}: {message}")
