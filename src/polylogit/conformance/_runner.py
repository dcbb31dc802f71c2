"""Runs jobs in separate processes, as many at once as there are cores, and fills in their results.

A crash, a kill, a hang or a failing import becomes a result with its cause, and the other jobs complete. Knows
processes and results; only the workers know what is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._remote import HANGS, IN_A_ROW, cause, tail
from polylogit.conformance._results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[str, dict[str, Any]], None]

# Variables that libraries read when they are first imported: a worker's own threads compete with the other workers'.
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# Those with most cases first, so that the others fill what is left of the time.
_ORDER = ("float32", "float16", *(name for name in DTYPES if name not in ("float32", "float16")))
_SILENCE = {"quick": 120.0, "full": 300.0}  # seconds without a result after which a process counts as hanging
_WORTH = 3.0  # how many times as long as its imports a process has run before another one helps
_PATIENCE = 4.0  # how many times as long as a call of a kernel its judge may be silent
_JUDGING = 120.0  # seconds; no less than that


@dataclass(slots=True, eq=False)
class Job:
    """The work for one backend, whose dtypes are given to processes one by one.

    `values` names a folder in which each process leaves a file. `kernel` is a user's function on the backend's arrays,
    in the form for the worker; `refusal` is why it could not be tested at all. With `listing`, cases are only listed;
    with `counting`, the first process reports their number before it begins.
    """

    backend: str
    operations: Sequence[str]
    level: str = "full"
    seed: int = 0
    device: str | None = None
    checks: Sequence[str] | None = None
    values: str | None = None
    kernel: dict[str, Any] | None = None
    listing: bool = False
    counting: bool = False
    selection: dict[str, Any] = field(default_factory=dict)
    dtypes: deque[str] = field(default_factory=lambda: deque(_ORDER))
    results: list[Result] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    refusal: str = ""
    capabilities: dict[str, str] = field(default_factory=dict)
    version: str = ""  # as the backend itself says, which knows its framework's
    ran: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    _processes: int = 0
    _end: dict[str, Any] | None = None
    _started: float = 0.0
    _ready: float = 0.0
    _told: set[str] = field(default_factory=set)

    @property
    def subject(self) -> str:
        """As results name it."""
        return f"{self.backend}+{self.kernel['name']}" if self.kernel else self.backend

    def as_json(self) -> str:
        """As the worker reads it."""
        names = (
            *("backend", "operations", "level", "seed", "device", "checks", "values", "kernel"),
            *("listing", "counting"),
        )
        given = {name: getattr(self, name) for name in names}
        return json.dumps({**given, "selection": self.selection, "limit": time_limit(self.level)})

    @property
    def may_be_shared(self) -> bool:
        """Whether another process is worth its imports: the first has run far longer than those took, and has results.

        If a framework breaks its process, no other process tries it.
        """
        left = bool(self.dtypes and self.results) and not self.kernel
        return left and time.monotonic() > self._ready + _WORTH * (self._ready - self._started)

    @property
    def remaining(self) -> float:
        """The estimated seconds for the remaining dtypes, if they take as long as those already begun."""
        return (time.monotonic() - self._ready) * len(self.dtypes) / max(1, len(_ORDER) - len(self.dtypes))

    def is_news(self, kind: str) -> bool:
        """Whether an event of one process is one of the job: only the first start, and the end when all have ended."""
        again = kind in self._told
        if kind in ("start", "ready", "end") and not again:
            self._told.add(kind)
        return not again

    def next_dtype(self) -> str:
        """The dtype to run next; empty if none is left."""
        try:
            return self.dtypes.popleft()
        except IndexError:
            return ""


def time_limit(level: str) -> float:
    """The seconds of silence after which a process is ended; ``POLYLOGIT_TIME_LIMIT`` overrides them."""
    return float(os.environ.get("POLYLOGIT_TIME_LIMIT", _SILENCE[level]))


def cores() -> int:
    """The number of processes to run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(jobs: Sequence[Job], progress: Progress | None = None) -> None:
    """Run the jobs and fill in their results. A core without a job of its own helps another."""
    # The last one first: of a plug-in nothing is known, and NumPy, which leads every list, is soonest done.
    waiting, changed, running = deque(reversed(jobs)), threading.Condition(), [0]
    took: list[float] = []  # seconds, of the jobs that are done
    live: set[subprocess.Popen[str]] = set()

    def tell(job: Job, event: dict[str, Any]) -> None:
        with changed:
            if event["event"] == "end":
                job._end = event
            elif progress is not None and job.is_news(event["event"]):
                progress(job.backend, event)
            changed.notify_all()

    def work() -> None:
        while True:
            with changed:
                while True:
                    job = _next_job(jobs, waiting, took)
                    if job is not None or not running[0]:
                        break
                    changed.wait(0.2)
                if job is None:
                    return
                running[0] += 1
                job._processes += 1
                first = job.next_dtype() if not job.kernel else ""
            try:
                _run(job, first, tell, live)
            finally:
                with changed:
                    running[0] -= 1
                    job._processes -= 1
                    if not job._processes:
                        took.append(time.monotonic() - job._started)
                        if progress is not None and job._end is not None and job.is_news("end"):
                            progress(job.backend, job._end)
                    changed.notify_all()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(cores())]
    for thread in threads:
        thread.start()
    _wait(threads, live)


def _run(job: Job, dtype: str, tell: Callable[[Job, dict[str, Any]], None], live: set[subprocess.Popen[str]]) -> None:
    """Run a job's process, and start others if it breaks."""
    going: tuple[str, str] | None = (dtype, "")
    while going is not None:
        going = _Process(job, *going, tell, live).run()


def _wait(threads: Sequence[threading.Thread], live: set[subprocess.Popen[str]]) -> None:
    """Wait for the threads; Ctrl-C ends their processes."""
    try:
        for thread in threads:
            while thread.is_alive():  # so that Ctrl-C is heard
                thread.join(0.2)
    except KeyboardInterrupt:
        for process in tuple(live):
            _end(process)
        raise


def _next_job(jobs: Sequence[Job], waiting: deque[Job], took: list[float]) -> Job | None:
    """The next work for a free core: a new job, or helping one that is taking long."""
    longest = max((job for job in jobs if job.may_be_shared), key=lambda job: job.remaining, default=None)
    if waiting and (longest is None or not took or longest.remaining <= max(took)):
        return waiting.popleft()
    return longest


def _environment(job: Job) -> dict[str, str]:
    paths = dict.fromkeys(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    # A user's function runs in the environment that its owner made.
    return environment if job.kernel else {**_QUIET, **environment}


class _Process:
    """One process of a job, and the conversation with it."""

    def __init__(
        self,
        job: Job,
        dtype: str,
        after: str,
        tell: Callable[[Job, dict[str, Any]], None],
        live: set[subprocess.Popen[str]],
    ) -> None:
        self._job, self._first, self._tell, self._live = job, f"{dtype} {after}".strip(), tell, live
        self._phase, self._dtype, self._case, self._last = "starting", "", "", ""
        self._ran, self._left_out = 0, Counter[str]()
        self._going: tuple[str, str] | None = None
        job._started = job._started or time.monotonic()

    def run(self) -> tuple[str, str] | None:
        """Run the process; if it breaks on a case, return the dtype and the case after which another one continues."""
        with tempfile.TemporaryFile("w+") as errors:
            # Of a user's kernel the verdict comes over a socket, which no other process can open by its number.
            ours, theirs = socket.socketpair() if self._job.kernel and hasattr(socket, "AF_UNIX") else (None, None)
            process = subprocess.Popen(
                [sys.executable, "-m", "polylogit.conformance._worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if theirs is None else theirs.fileno(),
                stderr=errors,
                text=True,
                env=_environment(self._job),
                start_new_session=True,
            )
            if ours is not None and theirs is not None:
                theirs.close()
                process.stdout = ours.makefile()
                ours.close()  # the file keeps it
            self._live.add(process)
            try:
                self._converse(process, errors)
            finally:
                self._live.discard(process)
                _end(process)
                process.wait()
                for stream in (process.stdin, process.stdout):
                    with contextlib.suppress(OSError):  # a pipe whose other end is gone
                        if stream is not None:
                            stream.close()
        self._job.ran += self._ran
        self._job.left_out.update(self._left_out)
        return self._going

    def _converse(self, process: subprocess.Popen[str], errors: Any) -> None:
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        self._say(process, self._job.as_json())
        self._job.counting = False
        limit = time_limit(self._job.level)
        if self._job.kernel:
            limit = max(_PATIENCE * limit, _JUDGING)  # it ends the kernel's process itself
        while True:
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                _end(process)
                self._broken("timeout", f"no sign of life for {limit:g} s {self._where()}; ended")
                return
            if line is None:
                break
            event = json.loads(line)
            if event["event"] == "next":
                following = self._first or self._job.next_dtype()
                self._first, self._dtype = "", following.partition(" ")[0]
                self._say(process, following)
            else:
                self._heard(event)
        code = process.wait()
        if self._phase != "done":
            self._broken("crashed", f"{cause(code)} {self._where()}", tail(errors))

    def _say(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None  # a pipe
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line + "\n")
            process.stdin.flush()

    def _heard(self, event: dict[str, Any]) -> None:
        job, kind = self._job, event["event"]
        phases = {"start": "importing", "ready": "running", "end": "done", "refused": "done", "error": "done"}
        self._phase = phases.get(kind, self._phase)
        job.capabilities.update(event.get("capabilities", {}))
        job.version = event.get("version") or job.version
        job.listed.extend(event.get("ids", ()))
        if kind == "ready":
            job._ready = job._ready or time.monotonic()
        elif kind == "result":
            job.results.append(Result(**event["result"]))
            self._last, self._case = job.results[-1].id, ""
        elif kind == "case":
            self._case, self._ran, self._left_out = event["id"], event["run"], Counter(event["left_out"])
        elif kind == "error":
            self._broken("crashed", event["message"], told=False)
        elif kind == "refused":
            job.refusal = event["message"]
        if kind != "case":
            self._tell(job, event)

    def _broken(self, verdict: str, message: str, tail: str = "", *, told: bool = True) -> None:
        job = self._job
        operation = job.operations[0] if job.kernel else ""
        names = self._case.rpartition("@")[0] if job.seed else self._case
        subject, operation, check, dtype, case = names.split("/") if names else (job.subject, operation, "", "", "")
        details: dict[str, Any] = {"stderr": tail} if tail else {}
        said: dict[str, Any] = {"verdict": verdict, "message": message, "details": details, "seed": job.seed}
        result = Result(subject, operation, check, dtype, case, **said)
        job.results.append(result)
        job.ended[verdict] += 1
        if not self._case or job.kernel:
            job.dtypes.clear()  # what is left would break likewise
        elif job.ended["timeout"] < HANGS and job.ended["crashed"] < IN_A_ROW:
            self._going = (self._dtype, self._case)
        else:
            job.dtypes.clear()
            ended = f"{job.ended['crashed']} crashes and {job.ended['timeout']} cases that did not end"
            message = f"given up after {ended}; what is left was not run"
            job.results.append(Result(job.subject, verdict="inconclusive", message=message, seed=job.seed))
        if told:
            self._tell(job, {"event": "broken", "result": result})

    def _where(self) -> str:
        if self._phase != "running":
            return f"while {self._phase}"
        if self._case:
            return "in this case"
        return f"after {self._last}" if self._last else "at the first case"


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started, if it is still running."""
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
