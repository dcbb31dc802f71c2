"""The report as Markdown, for the job summary of a continuous-integration service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance._grouping import grouped
from polylogit.conformance._reports import EXCHANGE, computed, exchanges, of_storage, replay_command, shares
from polylogit.conformance._results import BAD, FINDINGS
from polylogit.conformance._verdict import counted, sentence

if TYPE_CHECKING:
    from typing import Any

    from polylogit.conformance._grouping import Group
    from polylogit.conformance._results import Results

__all__ = ["render"]

_SHOWN = 20
_MARK = {0: "✅", 1: "❌", 3: "⚠️"}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("`", "&#96;")


def _code(text: str) -> str:
    """Text as code, in which only a backtick has a meaning."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def render(report: Results) -> str:
    """The verdict, the table of operations by subject, and the failures by cause."""
    subjects = report.subjects
    operations = list(dict.fromkeys(result.operation for result in report.results if result.operation))
    cells = report.matrix("operation", "subject", among=computed(report))
    apart = report.matrix("operation", "subject", among=[one for one in report.results if of_storage(one)])
    groups = grouped(report)
    lines = [f"## polylogit conformance: {_MARK[report.status]} {report.outcome}", ""]
    lines += [_cell(sentence(report, groups)), ""]
    lines += ["| operation | " + " | ".join(map(_cell, subjects)) + " |", "|---" * (len(subjects) + 1) + "|"]
    for operation in operations:
        lines.append(f"| {operation} | " + " | ".join(_said(cells.get((operation, one))) for one in subjects) + " |")
        if any((operation, one) in apart for one in subjects):
            row = " | ".join(_said(apart.get((operation, one))) for one in subjects)
            lines.append(f"| {operation}, float8 | {row} |")
    where = report.environment
    place = f"{where['processor']} ({', '.join(where['instruction_sets'])})" if "processor" in where else ""
    lines += [
        "",
        "Numbers are the worst error as a fraction of its bound." + (f" Measured on {place}." if place else ""),
    ]
    if rows := exchanges(report):
        lines += ["", f"| {' | '.join(EXCHANGE)} |", "|---" * len(EXCHANGE) + "|"]
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    lines += [""]
    for group in groups[:_SHOWN]:
        lines += _group(group)
    if len(groups) > _SHOWN:
        lines.append(f"- and {counted(len(groups) - _SHOWN, 'group')} more")
    return "\n".join(lines) + "\n"


def _said(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    bad = sum(cell["verdicts"][verdict] for verdict in BAD)
    error = "" if cell["error"] is None else f"{cell['error']:.2g}"
    known = cell["verdicts"]["expected-failure"]
    return f"❌ {bad} bad, worst {error}" if bad else f"⚠️ {known} expected failures" if known else error


def _group(group: Group) -> list[str]:
    """A cause: the headline, the smallest case, and the others in a folded list."""
    smallest = group.smallest
    what = f"{group.subject} {group.operation}".strip()
    lines = [f"- **{group.finding}** {_code(what)}: {_cell(group.headline)}"]
    if group.symptoms and group.finding in FINDINGS:
        lines.append(f"  {_cell(shares(group.symptoms))}.")
    lines += [f"  {_code(smallest.id)}: {_cell(smallest.message)}" if smallest.case else f"  {_cell(smallest.message)}"]
    if smallest.is_case and smallest.verdict != "unexpected-pass":
        lines.append(f"  {_code(replay_command(smallest.id))}")
    if python := smallest.details.get("python"):
        fence = "````" if "```" in python else "```"
        lines += [f"\n  {fence}python", *(f"  {line}" for line in python.splitlines()), f"  {fence}\n"]
    return lines
