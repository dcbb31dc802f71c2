"""Writes the tables of ``docs/wild.md`` from the results that `wild` stored: ``python tools/wild_page.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent
PAGE = TOOLS.parent / "docs" / "wild.md"
STORED = TOOLS.parent / "docs" / "_static" / "wild.json"
BEGIN, END = "<!-- begin: made by tools/wild_page.py -->", "<!-- end -->"

sys.path.insert(0, str(TOOLS))
from wild_findings import CONVENTION, FINDINGS, INACCURATE, WRONG, Finding  # noqa: E402

_KINDS = {
    WRONG: "Wrong numbers",
    INACCURATE: "Less accurate than the bound",
    CONVENTION: "Another convention",
}
_CAUSES = 4  # shown per implementation
_VERDICTS = ("passed", "failed", "convention", "inaccurate", "unsupported")


def _link(report: str) -> str:
    """Links to the reports in ``owner/name#number``, or several of them with commas between."""
    if not report:
        return "We know of no report."
    repository = report.partition("#")[0]
    numbers = [part.partition("#")[2] for part in report.split(",")]
    links = [f"[{repository}#{number}](https://github.com/{repository}/issues/{number})" for number in numbers]
    return "Reported in " + " and ".join(links) + "."


def _finding(finding: Finding, found: dict[str, Any]) -> list[str]:
    """The code of a finding and what it printed. The fence is no plain ``python``: tests neither run nor format it."""
    lines = [
        f"**{finding.name}.** {finding.said} {_link(finding.report)}",
        "",
        "```{code-block} python",
        finding.code,
        "```",
        "",
    ]
    lines += ["prints", "", "```text", found["printed"], "```", ""]
    if "exact" in found:
        lines += [f"Entry {found['place']} is `{found['got']}`; the exact value is {found['exact']}.", ""]
    return lines


def findings(stored: dict[str, Any]) -> list[str]:
    """The findings that hold with the installed versions, by kind."""
    lines: list[str] = []
    for kind, title in _KINDS.items():
        some = [one for one in FINDINGS if one.kind == kind and stored["findings"].get(one.name, {}).get("holds")]
        if some:
            lines += [f"### {title}", ""]
        for one in some:
            lines += _finding(one, stored["findings"][one.name])
    return lines


def implementations(stored: dict[str, Any]) -> list[str]:
    """One line for each implementation: its cases by verdict."""
    lines = ["| implementation | arrays | passed | wrong | another convention | less accurate | refused |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|"]
    for name, one in stored["implementations"].items():
        if "missing" in one:
            continue
        if one.get("ended"):
            lines.append(f"| {name} | {one['backend']} | {one['ended'].replace('|', ' ')} | | | | |")
            continue
        counts = " | ".join(str(one["verdicts"].get(verdict, 0)) for verdict in _VERDICTS)
        lines.append(f"| {name} | {one['backend']} | {counts} |")
    return [*lines, ""]


def causes(stored: dict[str, Any]) -> list[str]:
    """For each implementation that fails, the first case of each cause: the check, the dtype and the count."""
    lines = ["### The first failing case of each cause", ""]
    for name, one in stored["implementations"].items():
        found = [cause for cause in one.get("causes", ()) if cause["verdict"] in ("failed", "inaccurate")]
        if not found:
            continue
        lines.append(f"- **{name}**")
        for cause in found[:_CAUSES]:
            message = cause["message"].replace("*", "\\*").replace("|", "\\|")
            what = "less accurate, " if cause["verdict"] == "inaccurate" else ""
            count = f"{cause['count']} case{'s' if cause['count'] != 1 else ''}"
            lines.append(f"  - {what}{cause['check']}, {cause['dtype']}, {count}: {message}")
        if len(found) > _CAUSES:
            lines.append(f"  - and {len(found) - _CAUSES} more")
    return [*lines, ""]


def conventions(stored: dict[str, Any]) -> list[str]:
    """The conventions that were declared to the kit, and those that it found."""
    lines = []
    for key, title in (
        ("declared", "Conventions declared to the kit"),
        ("conventions", "Conventions that the kit found"),
    ):
        told = {}
        for name, one in stored["implementations"].items():
            given = one.get(key) or ()
            for each in (f"{what}={value}" for what, value in given.items()) if isinstance(given, dict) else given:
                told.setdefault(each, []).append(name)
        if told:
            each = "; ".join(f"`{what}` ({', '.join(names)})" for what, names in told.items())
            lines += [f"{title}: {each}.", ""]
    return lines


def tables(stored: dict[str, Any]) -> str:
    """The text between the markers."""
    versions: dict[str, str] = {}
    for one in stored["implementations"].values():
        versions.update({package: version for package, version in one["versions"].items() if version})
    machine = stored["machine"]
    held = [one for one in FINDINGS if stored["findings"].get(one.name, {}).get("holds")]
    lines = [
        f"Python {machine['python']}, {machine['machine']}, {machine['processor']}; level {machine['level']}. "
        + ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
        + ".",
        "",
        f"## {len(held)} faults, each in a few lines",
        "",
        *findings(stored),
        "## All implementations",
        "",
        *implementations(stored),
        *conventions(stored),
        *causes(stored),
    ]
    return "\n".join(lines)


def page(text: str, stored: dict[str, Any]) -> str:
    """The page, with the text between the markers replaced."""
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{before}{BEGIN}\n\n{tables(stored)}\n{END}{after}"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(), json.loads(STORED.read_text())))


if __name__ == "__main__":
    main()
