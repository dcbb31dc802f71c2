"""The report as Markdown, for the summary of a continuous-integration job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance._reports import replay_command
from polylogit.conformance._results import BAD

if TYPE_CHECKING:
    from polylogit.conformance._results import Results

__all__ = ["render"]

_SHOWN = 20
_MARK = {0: "✅", 1: "❌", 3: "⚠️"}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def render(report: Results) -> str:
    """The verdict, the table of operation by subject, the failures."""
    subjects = report.subjects
    operations = list(dict.fromkeys(result.operation for result in report.results if result.operation))
    cells = report.matrix("operation", "subject")
    lines = [f"## polylogit conformance: {_MARK[report.status]} {report.outcome}", ""]
    lines += ["| operation | " + " | ".join(map(_cell, subjects)) + " |", "|---" * (len(subjects) + 1) + "|"]
    for operation in operations:
        row = []
        for subject in subjects:
            cell = cells.get((operation, subject))
            bad = sum(cell["verdicts"][verdict] for verdict in BAD) if cell else 0
            error = "" if cell is None or cell["error"] is None else f"{cell['error']:.2g}"
            known = cell["verdicts"]["expected-failure"] if cell else 0
            said = f"❌ {bad} bad, worst {error}" if bad else f"⚠️ {known} expected failures" if known else error
            row.append("–" if cell is None else said)
        lines.append(f"| {operation} | " + " | ".join(row) + " |")
    where = report.environment
    place = f"{where['processor']} ({', '.join(where['instruction_sets'])})" if "processor" in where else ""
    lines += [
        "",
        "Numbers are the worst error as a fraction of its bound." + (f" Measured on {place}." if place else ""),
    ]
    lines += [""]
    for result in report.bad[:_SHOWN]:
        lines += [f"- **{result.verdict}** `{result.id}`: {_cell(result.message)}"]
        if result.verdict == "failed":
            lines += [f"  `{replay_command(result.id)}`"]
    if len(report.bad) > _SHOWN:
        lines.append(f"- and {len(report.bad) - _SHOWN} more")
    return "\n".join(lines) + "\n"
