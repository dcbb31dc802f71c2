"""The report in a terminal: a table of operations and checks by subject, then each failure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from polylogit.conformance._grouping import grouped
from polylogit.conformance._numbers import times
from polylogit.conformance._reports import (
    EXCHANGE,
    computed,
    exchanges,
    of_storage,
    others,
    replay_command,
    shares,
    window,
)
from polylogit.conformance._results import BAD, DISAGREES, FINDINGS
from polylogit.conformance._verdict import counted, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance._grouping import Group
    from polylogit.conformance._results import Result, Results

__all__ = ["Live", "console", "show", "show_case"]

_SHOWN = 15  # groups
_ALSO = 4  # other cases of a group that are named
_ROW = 110  # characters of a failing row
_WIDTH = 140  # where there is no terminal to ask
_NOTES = {"start": "importing", "ready": "running", "end": "done", "error": "failed", "broken": "broken"}
_COLOURS = {0: "green", 1: "red", 3: "yellow"}


def console(*, stderr: bool = False) -> Console:
    """Standard output or standard error; wide enough for the table if it is a file."""
    found = Console(highlight=False, stderr=stderr)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH, stderr=stderr)


class Live:
    """A progress bar on standard error for each of several backends; nothing if it is no terminal.

    The total assumes that every dtype is supported; the remaining time is estimated from the pace so far.

    Parameters
    ----------
    backends : sequence of str
        The names of the backends, as in events.
    labels : sequence of str, optional
        The text shown for each backend.
    """

    def __init__(self, backends: Sequence[str], labels: Sequence[str] | None = None, to: Console | None = None) -> None:
        self._console = to or Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/]"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        named = zip(backends, labels or backends, strict=True)
        self._tasks = {
            name: self._progress.add_task(escape(label), total=None, note="waiting") for name, label in named
        }
        self._bad = dict.fromkeys(backends, 0)
        self._counts: dict[str, dict[str, int]] = {name: {} for name in backends}

    def __enter__(self) -> Live:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._progress.stop()

    def __call__(self, backend: str, event: dict[str, Any]) -> None:
        """Handle one event of a worker."""
        kind, task = event["event"], self._tasks[backend]
        if kind == "total":
            self._counts[backend] = dict(event["of"])
            self._progress.update(task, total=sum(event["of"].values()))
        elif kind == "result":
            result = event["result"]
            self._bad[backend] += result["verdict"] in BAD
            words = f"{result['operation']} {result['check']} {result['dtype']}"
            bad = f" [red]{self._bad[backend]} bad[/]" if self._bad[backend] else ""
            self._progress.update(task, advance=1, note=words + bad, total=self._total(backend, result))
        elif note := _NOTES.get(kind):
            done = self._progress.tasks[task].completed
            self._progress.update(task, note=note)
            if kind == "end":
                self._progress.update(task, total=max(done, 1))

    def _total(self, backend: str, result: dict[str, Any]) -> float | None:
        """The total, without the cases of a dtype that was just refused entirely."""
        total = self._progress.tasks[self._tasks[backend]].total
        if total is None or result["case"] != "served":
            return total
        return max(1, total - self._counts[backend].get(f"{result['operation']} {result['dtype']}", 1) + 1)


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
    """Print the essentials of a report for people."""
    out = to or console()
    _matrix(report, report.subjects, out)
    _pairs(report, out)
    _exchanges(report, out)
    for result in report.results:
        if result.verdict == "missing":
            out.print(f"[yellow]missing[/]  {result.subject}: {escape(result.message)}")
    for result in report.results:
        if result.verdict == "unsupported" and result.case == "served":  # a whole dtype, which the table does not show
            what = f"{result.operation} {result.dtype}"
            out.print(f"[dim]unsupported[/]  {what}: {escape(result.message)}", soft_wrap=True)
    groups = grouped(report)
    _groups(groups, out)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(report.counts.items()))
    seconds = f" in {report.environment['seconds']:.1f} s" if "seconds" in report.environment else ""
    if groups:
        out.print()
    out.print(f"{counts or 'no results'}{seconds}")
    said = sentence(report, groups).removeprefix(report.outcome)
    out.print(f"[{_COLOURS[report.status]}]{escape(report.outcome)}[/]{escape(said)}", soft_wrap=True)


def _matrix(report: Results, subjects: Sequence[str], out: Console) -> None:
    ran = [result for result in report.results if result.check]
    if not ran:
        return
    storage = [result for result in ran if of_storage(result)]
    out.print("worst error as a fraction of its bound (1 is the bound):")  # a title would be folded to the table
    table = Table()
    table.add_column("operation")
    table.add_column("check")
    for subject in subjects:
        table.add_column(escape(subject), justify="right")
    whole = report.matrix("operation", "subject", among=computed(report))
    cells = report.matrix("operation", "check", "subject", among=computed(report))
    apart = report.matrix("operation", "subject", among=storage)
    lost = {result.subject: result.verdict for result in report.results if not result.check}

    def cell(found: dict[str, Any] | None, subject: str) -> str:
        return f"[yellow]{lost[subject]}[/]" if found is None and subject in lost else _cell(found)

    for operation in dict.fromkeys(result.operation for result in ran):
        first = (cell(whole.get((operation, one)), one) for one in subjects)
        table.add_row(f"[bold]{operation}[/]", "[bold]all[/]", *first)
        for check in dict.fromkeys(result.check for result in ran if result.operation == operation):
            if any((operation, check, one) in cells for one in subjects):
                table.add_row("", check, *(cell(cells.get((operation, check, one)), one) for one in subjects))
        if any((operation, one) in apart for one in subjects):  # its own rounding nearly fills its bound
            table.add_row("", "[dim]float8[/]", *(cell(apart.get((operation, one)), one) for one in subjects))
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


def _exchanges(report: Results, out: Console) -> None:
    rows = exchanges(report)
    if rows:
        out.print("bytes that a part gives to one exchange, and that it takes beyond the logits that it has:")
        table = Table()
        for heading in EXCHANGE:
            table.add_column(heading, justify="right" if heading in EXCHANGE[3:] else "left")
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)


def _groups(groups: Sequence[Group], out: Console) -> None:
    for group in groups[:_SHOWN]:
        colour = "red" if group.smallest.verdict in DISAGREES else "yellow"
        what = " ".join(part for part in (group.subject, group.operation) if part)
        out.print(f"\n[{colour}]{group.finding}[/]  [bold]{escape(what)}: {escape(group.headline)}[/]", soft_wrap=True)
        if group.symptoms and group.finding in FINDINGS:
            finite = group.worst is not None and math.isfinite(group.worst)
            worst = f"; at most {times(group.worst)} times the bound" if finite and group.worst is not None else ""
            out.print(f"    {escape(shares(group.symptoms))}{worst}", soft_wrap=True)
        _case(group.smallest, out)
        rest = others([one.id for one in group.results[1:]], f"{group.subject}/{group.operation}")
        if rest:
            more = f" and {len(rest) - _ALSO} more" if len(rest) > _ALSO else ""
            out.print(f"    [dim]also {escape(', '.join(rest[:_ALSO]))}{more}[/]", soft_wrap=True)
    if len(groups) > _SHOWN:
        out.print(f"and {counted(len(groups) - _SHOWN, 'group')} more; --json, --junit, --html and --markdown have all")


def _case(result: Result, out: Console) -> None:
    """The smallest case of a group: the failure, the row, and the commands to reproduce it."""
    if result.case:
        out.print(f"  {escape(result.id)}", soft_wrap=True)
    out.print(f"    {escape(result.message)}", soft_wrap=True)
    _row(result, out)
    if result.details.get("stderr"):
        out.print(f"    {escape(result.details['stderr'][-600:])}", soft_wrap=True)
    if python := result.details.get("python"):
        for line in python.splitlines():
            out.print(f"      [cyan]{escape(line)}[/]", soft_wrap=True)
    if result.is_case and result.verdict != "unexpected-pass":  # of that, the case is a pattern
        out.print(f"    {escape(replay_command(result.id))}", soft_wrap=True)


def _row(result: Result, out: Console, most: int = 9) -> None:
    """The failing row in columns, with the wrong entries marked."""
    found = window(result, most)
    if found is None:
        return
    names = {"entry": [str(one) for one in found.places], **found.lines}
    widths = [max(len(values[column]) for values in names.values()) for column in range(len(found.places))]
    # As many columns as fit, those around the worst entry.
    first, last = 0, len(widths)
    while sum(widths[first:last]) + 2 * (last - first) > _ROW and last - first > 1:
        if found.worst - first > last - 1 - found.worst:
            first += 1
        else:
            last -= 1
    label = max(map(len, names))
    before, after = found.places[0] + first > 0, found.places[0] + last < found.length
    for name, values in names.items():
        cells = [f"{values[one]:>{widths[one]}}" for one in range(first, last)]
        if name == "got":
            cells = [f"[red]{escape(cell)}[/]" if found.wrong[first + at] else cell for at, cell in enumerate(cells)]
        text = "  ".join(cells)
        out.print(
            f"      {escape(name):<{label}}  {'… ' if before else ''}{text}{' …' if after else ''}", soft_wrap=True
        )
    marks = [("^" * widths[one] if one == found.worst else "") for one in range(first, last)]
    line = "  ".join(f"{mark:>{widths[first + at]}}" for at, mark in enumerate(marks))
    out.print(f"      {'':<{label}}  {'  ' if before else ''}{line}".rstrip(), soft_wrap=True)


def show_case(result: Result, python: str = "", to: Console | None = None) -> None:
    """Print everything known about one case; `python` is the call to paste."""
    out = to or console()
    out.print(f"{result.verdict}  [bold]{escape(result.id)}[/]", soft_wrap=True)
    if result.message:
        out.print(f"  {escape(result.message)}", soft_wrap=True)
    _row(result, out, 16)
    row = ("inputs", "where", "expected_row", "got_row", "directions", "expected", "got", "bound", "row", "index")
    for key, value in result.details.items():
        if key in (*row, "length", "shown_from", "python", "call"):
            continue
        text = ", ".join(f"{one!r}" for one in value) if isinstance(value, list) else str(value)
        out.print(f"  {key}: {escape(text)}", soft_wrap=True)
    out.print(f"  error over bound: {_number(result.error) or 'not measured'} ({result.cases} numbers compared)")
    if python:
        out.print("\n[dim]# to paste into Python[/]")
        out.print(escape(python), soft_wrap=True)
