"""Runs backends, each in processes of its own, as many at once as there are cores, and fills in their results.

A crash, a kill, a hang or a failing import becomes a result with its cause; the other backends complete. Knows
processes and results; what is checked is the workers' knowledge.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit.conformance.results import Result
from polylogit.spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[str, dict[str, Any]], None]

__all__ = ["ENVIRONMENTS", "Job", "run_jobs", "time_limit"]

# What a framework must be told before it is imported; these are settings of the frameworks, not of the checks.
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "jax": {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
    "tensorflow": {"TF_CPP_MIN_LOG_LEVEL": "3"},
}
# How long a backend takes, beside the others, so that what takes longest is begun first; of others nothing is known.
_LENGTH = {"jax": 3.0, "tensorflow": 1.3, "torch": 0.9, "numpy": 0.8}
# Formats that a process of their own examines, so that the other cores do not wait for one backend.
_ALONE = {
    ("jax", "quick"): ("float32",),
    ("jax", "full"): ("float32", "float16"),
    ("numpy", "full"): ("float64", "float32"),
}
_SILENCE = {"quick": 120.0, "full": 300.0}  # seconds without a result after which a process counts as hanging
_TAIL = 12  # lines of standard error that a crash shows


@dataclass(slots=True)
class Job:
    """What is to be done of one backend, by one process or, each with some of the formats, by several.

    `values` names a folder, where each process leaves a file. `own` is someone's own function on the backend's arrays,
    as the worker takes it; `refusal` is why it could not be asked at all.
    """

    backend: str
    operations: Sequence[str]
    level: str = "full"
    seed: int = 0
    device: str | None = None
    checks: Sequence[str] | None = None
    values: str | None = None
    formats: Sequence[str] = tuple(DTYPES)
    own: dict[str, Any] | None = None
    results: list[Result] = field(default_factory=list)
    refusal: str = ""
    capabilities: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """As results name it."""
        return f"{self.backend}+{self.own['name']}" if self.own else self.backend

    def as_json(self) -> str:
        """As the worker reads it."""
        names = ("backend", "operations", "level", "seed", "device", "checks", "values", "formats", "own")
        return json.dumps({name: getattr(self, name) for name in names})

    def shares(self) -> list[Job]:
        """The job of each process."""
        worth = cores() > 1 and not self.own
        alone = [dtype for dtype in _ALONE.get((self.backend, self.level), ()) if worth and dtype in self.formats]
        rest = [dtype for dtype in self.formats if dtype not in alone]
        return [
            replace(self, formats=formats, results=[], capabilities={})
            for formats in (*([dtype] for dtype in alone), rest)
            if formats
        ]


def time_limit(level: str) -> float:
    """Seconds of silence after which a process is ended; ``POLYLOGIT_TIME_LIMIT`` overrides it."""
    return float(os.environ.get("POLYLOGIT_TIME_LIMIT", _SILENCE[level]))


def cores() -> int:
    """How many processes run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(jobs: Sequence[Job], progress: Progress | None = None) -> None:
    """Run the jobs, those that take longest first; each one's results are filled in."""
    lock = threading.Lock()
    found: list[tuple[float, Job, _Told]] = []
    filled = []
    for job in jobs:
        shares = job.shares()
        told = _Told(job.backend, len(shares), progress, lock)
        whole = _LENGTH.get(job.backend, math.inf)
        # The first share of a job is the longest.
        found += [(whole / (1 + place), share, told) for place, share in enumerate(shares)]
        filled.append((job, shares))
    waiting = deque((share, told) for _, share, told in sorted(found, key=lambda one: -one[0]))

    def work() -> None:
        while True:
            try:
                share, told = waiting.popleft()
            except IndexError:
                return
            _run_job(share, told)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(cores(), len(waiting)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # so that Ctrl-C is heard
            thread.join(0.2)
    for job, shares in filled:
        job.results.extend(result for share in shares for result in share.results)
        for share in shares:
            job.capabilities.update(share.capabilities)
        job.refusal = next((share.refusal for share in shares if share.refusal), "")


class _Told:
    """What is told of a backend: the events of its processes, as if they were those of one."""

    def __init__(self, backend: str, processes: int, progress: Progress | None, lock: threading.Lock) -> None:
        self._backend, self._running, self._progress, self._lock = backend, processes, progress, lock
        self._begun: set[str] = set()

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        with self._lock:
            self._running -= kind == "end"
            again = kind in self._begun or (kind == "end" and self._running > 0)
            if kind in ("start", "ready"):
                self._begun.add(kind)
            if self._progress is not None and not again:
                self._progress(self._backend, event)


def _environment(job: Job) -> dict[str, str]:
    environment = {**os.environ}
    paths = [path for path in sys.path if path]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if job.own:
        return environment  # in which its owner runs it
    if job.device is None or job.device.startswith("cpu"):
        for name, value in ENVIRONMENTS.get(job.backend, {}).items():
            environment.setdefault(name, value)
    elif job.backend in ENVIRONMENTS:
        environment.setdefault("JAX_ENABLE_X64", "1")
    # Inductor's cache does not tell instruction sets apart: code written for wider registers overruns its buffers.
    if "ATEN_CPU_CAPABILITY" in environment:
        cache = Path(tempfile.gettempdir(), f"torchinductor-{environment['ATEN_CPU_CAPABILITY']}")
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    # A worker's own threads compete with the other workers'.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        environment.setdefault(name, "1")
    return environment


def _run_job(job: Job, told: Callable[[dict[str, Any]], None]) -> None:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "polylogit.conformance.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(job),
            start_new_session=True,
        )
        try:
            _converse(process, job, told, errors)
        finally:
            _end(process)
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # a pipe whose other end is gone
                    if stream is not None:
                        stream.close()


def _converse(process: subprocess.Popen[str], job: Job, told: Callable[[dict[str, Any]], None], errors: Any) -> None:
    assert process.stdin is not None  # noqa: S101  both are pipes
    assert process.stdout is not None  # noqa: S101
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    try:
        process.stdin.write(job.as_json())
        process.stdin.close()
    except BrokenPipeError:
        pass
    limit, phase = time_limit(job.level), "starting"
    while True:
        try:
            line = lines.get(timeout=limit)
        except queue.Empty:
            _end(process)
            job.results.append(_broken(job, "timeout", f"no sign of life for {limit:g} s {_where(job, phase)}; ended"))
            told({"event": "broken", "result": job.results[-1]})
            return
        if line is None:
            break
        event = json.loads(line)
        phase = {"start": "importing", "ready": "running"}.get(event["event"], phase)
        job.capabilities.update(event.get("capabilities", {}))
        if event["event"] == "result":
            job.results.append(Result(**event["result"]))
        elif event["event"] == "error":
            job.results.append(_broken(job, "crashed", event["message"]))
        elif event["event"] == "refused":
            job.refusal, phase = event["message"], "done"
        elif event["event"] == "end":
            phase = "done"
        told(event)
    code = process.wait()
    if phase != "done" and not any(one.verdict == "crashed" for one in job.results):
        job.results.append(_broken(job, "crashed", f"{_cause(code)} {_where(job, phase)}", _tail(errors)))
        told({"event": "broken", "result": job.results[-1]})


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started, if it runs still."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()


def _read(stream: Any, lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in stream:
            lines.put(line)
    lines.put(None)


def _broken(job: Job, verdict: str, message: str, tail: str = "") -> Result:
    details = {"stderr": tail} if tail else {}
    operation = job.operations[0] if job.own else ""
    return Result(job.subject, operation, verdict=verdict, message=message, details=details, seed=job.seed)


def _where(job: Job, phase: str) -> str:
    if phase != "running" or not job.results:
        return f"while {phase}" if phase != "running" else "at the first case"
    return f"after {job.results[-1].id}"


def _cause(code: int) -> str:
    if code >= 0:
        return f"the process ended with status {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    note = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{note}"


def _tail(errors: Any) -> str:
    errors.flush()
    errors.seek(0)
    return "\n".join(errors.read().splitlines()[-_TAIL:])


def values_folder() -> tempfile.TemporaryDirectory[str]:
    """Where workers leave the values that are compared between backends, each backend in a folder of its own."""
    return tempfile.TemporaryDirectory(prefix="polylogit-")


def elapsed(start: float) -> float:
    """Seconds since `start`, rounded."""
    return round(time.monotonic() - start, 2)
