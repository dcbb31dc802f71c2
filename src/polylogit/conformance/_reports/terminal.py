"""The report in a terminal: a matrix of operation and check by subject, then each failure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from polylogit.conformance._reports import replay_command
from polylogit.conformance._results import BAD, DISAGREES, SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance._results import Result, Results

__all__ = ["Live", "console", "show", "show_case"]

_SHOWN = 15
_WIDTH = 140  # where there is no terminal to ask
_COLOURS = {0: "green", 1: "red", 3: "yellow"}


def console() -> Console:
    """Standard output; wide enough for the table where that is a file."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH)


class Live:
    """A progress bar for each backend, on standard error; a line for each event that matters where that is a file."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks = {name: self._progress.add_task(name, total=None, note="waiting") for name in backends}
        self._bad = dict.fromkeys(backends, 0)

    def __enter__(self) -> Live:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._progress.stop()

    def __call__(self, backend: str, event: dict[str, Any]) -> None:
        """One event of a worker."""
        kind, task = event["event"], self._tasks[backend]
        note = {"start": "importing", "ready": "running", "end": "done", "error": "failed", "broken": "broken"}.get(
            kind
        )
        if kind == "result":
            self._bad[backend] += event["result"]["verdict"] in BAD
            words = f"{event['result']['operation']} {event['result']['check']} {event['result']['dtype']}"
            self._progress.update(
                task, advance=1, note=words + (f" [red]{self._bad[backend]} bad[/]" if self._bad[backend] else "")
            )
        elif note:
            self._progress.update(task, note=note)
            if kind == "end":
                done = self._progress.tasks[task].completed
                self._progress.update(task, total=max(done, 1))
            if not self._console.is_terminal and note != "importing":
                self._console.print(f"{backend}: {note}")


def _number(error: float | None) -> str:
    if error is None:
        return ""
    return "inf" if math.isinf(error) else f"{error:.2f}" if error < 1000 else f"{error:.1e}"


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "[dim]·[/]"
    verdicts = cell["verdicts"]
    bad = {name: count for name, count in verdicts.items() if name in BAD}
    error = _number(cell["error"])
    if bad:
        colour = "red" if any(name in DISAGREES for name in bad) else "yellow"
        words = ", ".join(f"{count} {name}" for name, count in bad.items())
        return f"[{colour}]{words}[/]" + (f" ({error})" if error else "")
    if known := verdicts.get("expected-failure"):
        return f"[yellow]{known} expected-failure[/]" + (f" ({error})" if error else "")
    if not verdicts.get("passed"):
        return f"[dim]{', '.join(name for name in verdicts)}[/]"
    return f"[green]{error or 'ok'}[/]"


def show(report: Results, to: Console | None = None) -> None:
    """Print everything a person wants to know first."""
    out = to or console()
    _matrix(report, report.subjects, out)
    _pairs(report, out)
    for result in report.results:
        if result.verdict == "missing":
            out.print(f"[yellow]missing[/]  {result.subject}: {escape(result.message)}")
    for result in report.results:
        if result.verdict == "unsupported" and result.case == "served":  # a whole dtype, which the table does not show
            what = f"{result.operation} {result.dtype}"
            out.print(f"[dim]unsupported[/]  {what}: {escape(result.message)}", soft_wrap=True)
    bad = [result for result in report.bad if result.verdict != "missing"]
    # What a search has shrunk says most in the fewest numbers.
    _failures(sorted(bad, key=lambda result: result.check != SEARCH), out)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(report.counts.items()))
    seconds = f" in {report.environment['seconds']:.1f} s" if "seconds" in report.environment else ""
    out.print(f"[{_COLOURS[report.status]}]{escape(report.outcome)}[/]: {counts or 'nothing was run'}{seconds}")


def _matrix(report: Results, subjects: Sequence[str], out: Console) -> None:
    ran = [result for result in report.results if result.check]
    if not ran:
        return
    out.print("worst error as a fraction of its bound (1 is the bound):")  # a title would be folded to the table
    table = Table()
    table.add_column("operation")
    table.add_column("check")
    for subject in subjects:
        table.add_column(escape(subject), justify="right")
    whole, cells = report.matrix("operation", "subject"), report.matrix("operation", "check", "subject")
    lost = {result.subject: result.verdict for result in report.results if not result.check}

    def cell(found: dict[str, Any] | None, subject: str) -> str:
        return f"[yellow]{lost[subject]}[/]" if found is None and subject in lost else _cell(found)

    for operation in dict.fromkeys(result.operation for result in ran):
        first = (cell(whole.get((operation, one)), one) for one in subjects)
        table.add_row(f"[bold]{operation}[/]", "[bold]all[/]", *first)
        for check in dict.fromkeys(result.check for result in ran if result.operation == operation):
            table.add_row("", check, *(cell(cells.get((operation, check, one)), one) for one in subjects))
        table.add_section()
    out.print(table)


def _pairs(report: Results, out: Console) -> None:
    if not report.pairs:
        return
    out.print("largest difference between two backends:")
    table = Table()
    for heading in ("operation", "result", "dtype", "backends", "ulp", "absolute"):
        table.add_column(heading, justify="right" if heading in ("ulp", "absolute") else "left")
    keys = dict.fromkeys((row["operation"], row["check"], row["dtype"]) for row in report.pairs)
    for key in keys:
        rows = [row for row in report.pairs if (row["operation"], row["check"], row["dtype"]) == key]
        # Of gradients the ulp says little: where terms cancel, the exact value may be 0.
        worst = max(rows, key=lambda row: row["ulp" if key[1] == "values" else "absolute"])
        names = f"{worst['first']}, {worst['second']}"
        ulp = f"{worst['ulp']:.3g}" if key[1] == "values" else ""
        table.add_row(key[0], key[1], key[2], names, ulp, f"{worst['absolute']:.2e}")
    out.print(table)


def _failures(bad: Sequence[Result], out: Console) -> None:
    for result in bad[:_SHOWN]:
        out.print(f"[red]{result.verdict}[/]  [bold]{escape(result.id)}[/]", soft_wrap=True)
        out.print(f"    {escape(result.message)}", soft_wrap=True)
        if "inputs" in result.details:
            inputs = ", ".join(f"{value:.9g}" for value in result.details["inputs"])
            out.print(f"    inputs: \\[{inputs}]", soft_wrap=True)
        if result.details.get("stderr"):
            out.print(f"    {escape(result.details['stderr'][-600:])}", soft_wrap=True)
        if result.case and result.verdict != "unexpected-pass":  # of that, the case is a pattern
            out.print(f"    {escape(replay_command(result.id))}", soft_wrap=True)
    if len(bad) > _SHOWN:
        out.print(f"and {len(bad) - _SHOWN} more; --json, --junit, --html and --markdown write all of them")


def show_case(result: Result, to: Console | None = None) -> None:
    """One case with all that is known of it."""
    out = to or console()
    out.print(f"{result.verdict}  [bold]{escape(result.id)}[/]", soft_wrap=True)
    if result.message:
        out.print(escape(result.message), soft_wrap=True)
    for key, value in result.details.items():
        shown = ", ".join(f"{one!r}" for one in value) if isinstance(value, list) else f"{value!r}"
        out.print(f"  {key}: {escape(shown)}", soft_wrap=True)
    out.print(f"  error over bound: {_number(result.error) or 'not measured'} ({result.cases} numbers compared)")
