"""The forms a report is written in, one module each; all read the same plain data. None knows a framework."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from polylogit.conformance.results import Report

__all__ = ["matrix", "replay_command", "write"]


def write(path: str | PathLike[str], text: str) -> None:
    """Write a file whole or not at all: an interrupted run leaves the old one or none."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def matrix(report: Report, *keys: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Counts of verdicts and the worst error, grouped by attributes of the results."""
    cells: dict[tuple[str, ...], dict[str, Any]] = defaultdict(lambda: {"error": None, "verdicts": defaultdict(int)})
    for result in report.results:
        cell = cells[tuple(getattr(result, key) for key in keys)]
        cell["verdicts"][result.verdict] += 1
        if result.error is not None:
            cell["error"] = max(result.error, cell["error"] if cell["error"] is not None else 0.0)
    return dict(cells)


def replay_command(identifier: str) -> str:
    """What to type to run one case again."""
    return f"polylogit replay '{identifier}'"
