"""The report as JUnit XML: a suite for each subject, operation and check, a test case for each result."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from polylogit.conformance._reports import replay_command
from polylogit.conformance._results import BAD, DISAGREES

if TYPE_CHECKING:
    from polylogit.conformance._results import Result, Results

__all__ = ["render"]

# What XML 1.0 cannot hold.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def _suite(result: Result) -> str:
    return ".".join(part for part in (result.subject, result.operation, result.check) if part)


def render(report: Results) -> str:
    """The whole report."""
    root = ElementTree.Element("testsuites", name="polylogit conformance")
    ordered = sorted(report.results, key=_suite)
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
        )
        for result in results:
            _case(suite, result, name)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, result: Result, name: str) -> None:
    label = "/".join(part for part in (result.dtype, result.case) if part) or result.verdict
    case = ElementTree.SubElement(suite, "testcase", classname=name, name=_CONTROL.sub("?", label), time="0")
    message = _CONTROL.sub("?", result.message)
    if result.verdict in DISAGREES:
        failure = ElementTree.SubElement(case, "failure", message=message, type=result.verdict)
        failure.text = f"{message}\n{replay_command(result.id)}"
    elif result.verdict in BAD:
        ElementTree.SubElement(case, "error", message=message, type=result.verdict)
    elif result.verdict != "passed":
        ElementTree.SubElement(case, "skipped", message=f"{result.verdict}: {message}")
