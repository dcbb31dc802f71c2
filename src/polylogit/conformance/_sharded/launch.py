"""Starts the processes of each engine and collects their reports. Knows processes and results, and no framework."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit._info import backends as installed
from polylogit._progress import steps
from polylogit.conformance._remote import cause, tail
from polylogit.conformance._results import Result
from polylogit.errors import UnknownBackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ENGINES", "sharded_results", "split_subject"]

ENGINES = tuple(
    sorted(path.stem for path in (Path(__file__).parent / "engines").glob("*.py") if path.stem != "__init__")
)
_LIMIT = 300.0  # seconds for one engine with one number of parts
_QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def sharded_results(backends: Iterable[str] | None, parts: Sequence[int], level: str = "full") -> list[Result]:
    """The results of every engine, or of those named, with each number of parts."""
    known = {info.name: info for info in installed()}
    results = []
    for name in ENGINES if backends is None else backends:
        if name not in ENGINES:
            message = (
                f"{name!r} has no arrays that are split over devices here; those that do are {', '.join(ENGINES)}."
            )
            raise UnknownBackendError(message)
        if not known[name].installed:
            message = f"{known[name].reason or 'not installed'}; install it with: {known[name].install}"
            details = {"install": known[name].install, "required": backends is not None}
            results.append(Result(name, verdict="missing", message=message, details=details))
            continue
        for count in steps(parts, f"{name}, split into parts"):
            results.extend(_asked(name, count, level))
    return results


def split_subject(subject: str) -> tuple[str, int] | None:
    """The backend and the number of parts of a subject of these results; None for any other subject."""
    found = re.fullmatch(r"(\w+)\+(\d+) parts", subject)
    return None if found is None else (found[1], int(found[2]))


def _asked(name: str, parts: int, level: str) -> list[Result]:
    engine: Any = importlib.import_module(f"polylogit.conformance._sharded.engines.{name}")
    environment = {**os.environ, **_QUIET, **engine.environment(parts)}
    command = [sys.executable, "-m", "polylogit.conformance._sharded.worker", name, str(parts)]
    ranks = range(parts if engine.RANKS else 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="polylogit-", ignore_cleanup_errors=True)))
        errors = [stack.enter_context((folder / f"errors-{rank}").open("w+b")) for rank in ranks]
        processes = [
            subprocess.Popen([*command, str(rank), str(folder), level], env=environment, stdout=file, stderr=file)
            for rank, file in enumerate(errors)
        ]
        try:
            ended = _wait(processes)
        except KeyboardInterrupt:
            _end(processes)
            raise
        path = folder / "results-0"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        results = [Result(**json.loads(line)) for line in lines]
        for rank, (process, file) in enumerate(zip(processes, errors, strict=True)):
            if process.returncode or not ended:
                what = cause(process.returncode) if ended else f"did not end within {_LIMIT:g} s"
                last = f" after {results[-1].id}" if results else ""
                said: dict[str, Any] = {"message": f"rank {rank}: {what}{last}", "details": {"stderr": tail(file)}}
                results.append(Result(f"{name}+{parts} parts", verdict="crashed" if ended else "timeout", **said))
                break
    return results


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until all have ended or one has failed, and end the rest; return whether all ended by themselves."""
    deadline = time.monotonic() + _LIMIT
    while any(process.poll() is None for process in processes):
        late = time.monotonic() > deadline
        if late or any(process.poll() for process in processes):
            time.sleep(0 if late else 2)  # what one rank's end does to the others is not what is to be reported
            _end(processes)
            return not late
        time.sleep(0.05)
    return True


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
