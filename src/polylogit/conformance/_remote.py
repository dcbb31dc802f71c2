"""The judge's side of a kernel in another process: the interface of an implementation, over a pipe.

If the process crashes or hangs, it is ended and started again for the next request, a few times. This module imports
nothing of the kernel, and treats its answers only as bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polylogit._operations import named
from polylogit.conformance._request import EndedError, Subject
from polylogit.conformance._wire import (
    BrokenFrameError,
    answer_of,
    error_of,
    receive,
    request_as_plain,
    send,
)
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit._spec.dtypes import Array, Finfo
    from polylogit.conformance._request import Answer, Request

HANGS, CRASHES, IN_A_ROW = 3, 100, 10  # after so many, and so many crashes without an answer between, no more is asked
_MALFORMED = "the kernel's process sent malformed output and was stopped"
_TAIL = 12  # lines of standard error that a crash shows


@dataclass(frozen=True, slots=True)
class RemoteBackend:
    """The name and the declarations of a backend in another process; see `polylogit.extend.Backend`."""

    name: str
    version: str
    differentiates: bool
    always_compiles: str
    slow_compilers: tuple[str, ...]
    names_of_compilers: tuple[str, ...]
    names_of_devices: tuple[str, ...]
    said_of_itself: dict[str, str]
    spelling: dict[str, str]

    def compilers(self) -> dict[str, None]:
        """The names of the backend's compilers."""
        return dict.fromkeys(self.names_of_compilers)

    def devices(self) -> tuple[str, ...]:
        """The devices on which the backend creates arrays."""
        return self.names_of_devices

    def capabilities(self) -> dict[str, str]:
        """The backend's description of the processor and of its settings."""
        return self.said_of_itself

    def spell(self, what: str, **values: Any) -> str:
        """A line of code for its users."""
        from polylogit._backends.base import SPELLING  # of a module that knows no framework

        return {**SPELLING, **self.spelling}.get(what, what).format(**values)


class Named:
    """A function in another process, known only by its name."""

    def __init__(self, target: str) -> None:
        module, _, name = target.partition(":")
        self.__module__, self.__qualname__, self.__name__ = module, name, name.rpartition(".")[2]


class RemoteImplementation(Subject):
    """A user's kernel in another process.

    Parameters
    ----------
    kernel : dict
        ``function``, ``vjp`` and ``name``, as in a job.
    backend, operation : str
    device : str or None
    limit : float
        Seconds without an answer after which the process counts as hanging.
    """

    is_kernel = True

    def __init__(self, kernel: dict[str, Any], backend: str, operation: str, device: str | None, limit: float) -> None:
        self.operation, self.takes_axis = operation, named(operation).takes_axis
        self.vjp = None if kernel["vjp"] is None else Named(kernel["vjp"])
        self._limit, self._ended = limit, {"crashed": 0, "timeout": 0}
        self._in_a_row = 0
        what = {name: kernel[name] for name in ("function", "vjp", "name")}
        self._load = {"operation": operation, "device": device, "backend": backend, **what}
        self._process: _Process | None = None
        facts, offered = self._start()
        names = ("name", "version", "differentiates", "always_compiles")
        lists = (tuple(facts[name]) for name in ("slow_compilers", "compilers", "devices"))
        said = (dict(facts[name]) for name in ("capabilities", "spelling"))
        self.backend = RemoteBackend(*(facts[name] for name in names), *lists, *said)
        self.name = f"{self.backend.name}+{kernel['name']}"
        self.on_numpy, self.layouts = bool(facts["on_numpy"]), tuple(facts["layouts"])
        self._lacking, self._declined = dict(facts["lacking"]), dict(offered["declined"])
        self.offers_axis, self.offers_where = bool(offered["offers_axis"]), bool(offered["offers_where"])
        self.offers_dtype, self.default_axis = bool(offered["offers_dtype"]), bool(offered["default_axis"])
        self.default_vjp_axis, self.axis_name = bool(offered["default_vjp_axis"]), str(offered["axis_name"])
        self.offers_vjp_where = bool(offered["offers_vjp_where"])
        self.conventions = {str(name): str(value) for name, value in offered["conventions"].items()}

    # --- facts -------------------------------------------------------------------------------------------------

    def lacks(self, dtype: Finfo) -> str:
        """Why the framework has no arrays of this dtype here; empty if it has."""
        return str(self._lacking.get(dtype.name, ""))

    def declines(self, dtype: Finfo) -> str:
        """Why a universal function cannot take this dtype; empty if it can."""
        return str(self._declined.get(dtype.name, ""))

    # --- to ask ------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Answer:
        """The answer to one request; raises an error if the framework cannot create the arrays."""
        return self._answers("one", [request])[0][0]

    def ask_in_turn(self, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
        """The answers to several requests, and the numbers of those calls whose result a later call changed."""
        answers, reply = self._answers("in turn", requests, len(requests))
        return answers, [int(turn) for turn in reply["changed"]]

    def ask_at_once(self, requests: Sequence[Request], calls: int) -> list[list[Answer]]:
        """The different answers of concurrent threads, each of which repeats its own request."""
        answers, reply = self._answers("at once", requests, None, calls=calls)
        left = iter(answers)
        found = [list(itertools.islice(left, count)) for count in _counts(reply["of"], answers)]
        if len(found) != len(requests) or not all(found):
            raise self._broken()
        return found

    def ask_changed(self, first: Request, second: Request) -> Answer:
        """The answer for the array of the first request, after its values were replaced by those of the second."""
        return self._answers("changed", [first, second])[0][0]

    def _answers(
        self, way: str, requests: Sequence[Request], expected: int | None = 1, **more: Any
    ) -> tuple[list[Answer], dict[str, Any]]:
        arrays: list[Array] = []
        plain = [request_as_plain(request, arrays) for request in requests]
        reply, blobs = self._asked({"ask": way, "requests": plain, **more}, arrays)
        try:
            answers = [answer_of(one, blobs) for one in reply["answers"]]
        except (BrokenFrameError, KeyError, TypeError):
            raise self._broken() from None
        if expected is not None and len(answers) != expected:
            raise self._broken()
        return answers, reply

    def _asked(self, header: dict[str, Any], arrays: Sequence[Array]) -> tuple[dict[str, Any], list[Array]]:
        if self.given_up:
            raise EndedError("crashed", self.given_up)
        if self._process is None:
            try:
                self._start()
            except ConformanceError as error:
                self.given_up = f"the process could not be started again: {error}"
                raise EndedError("crashed", self.given_up) from None
        assert self._process is not None  # started
        try:
            reply, blobs = self._process.ask(header, arrays)
        except EndedError as error:
            self._count(error)
            raise
        self._in_a_row = 0
        if "raised" in reply:
            raise _raised(reply)
        return reply, blobs

    # --- the process -------------------------------------------------------------------------------------------

    def _start(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the process, and read its description of the backend and the kernel."""
        self._process = _Process(self._limit)
        found = []
        for what in ("backend", "kernel"):  # the backend first, while no code of the kernel's is there
            try:
                reply, _ = self._process.ask({"ask": what, **self._load}, ())
            except EndedError as error:
                self._count(error)
                raise
            if "raised" in reply:
                self.close()
                raise ConformanceError(_text(reply)) if reply.get("wrong use") else _raised(reply)
            found.append(reply)
        return found[0], found[1]

    def _count(self, error: EndedError) -> None:
        self.close()
        self._ended[error.verdict] += 1
        self._in_a_row += 1
        if self._ended["timeout"] >= HANGS:
            self.given_up = f"given up after {HANGS} calls that did not end"
        elif self._in_a_row >= IN_A_ROW or self._ended["crashed"] >= CRASHES:
            self.given_up = f"given up after {self._ended['crashed']} crashes"

    def _broken(self) -> EndedError:
        error = EndedError("crashed", _MALFORMED)
        self._count(error)
        return error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """One process, and the conversation with it."""

    def __init__(self, limit: float) -> None:
        self._limit, self._number, self._deadline, self._late = limit, 0, float("inf"), False
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "polylogit.conformance._kernel_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End the process if it is late, whatever the other thread waits for."""
        while not self._done.wait(0.1):
            if time.monotonic() > self._deadline:
                self._late = True
                self._kill()
                return

    def ask(self, header: dict[str, Any], arrays: Sequence[Array]) -> tuple[dict[str, Any], list[Array]]:
        """Send a request, and return the header and the arrays of the answer."""
        self._number += 1
        self._deadline = time.monotonic() + self._limit
        broken = False
        reply: Any = None
        try:
            send(self._process.stdin, {**header, "number": self._number}, arrays)
            reply = receive(self._process.stdout)
            if reply is not None:
                broken = not isinstance(reply[0], dict) or reply[0].get("number") != self._number
        except BrokenFrameError:
            broken = True
        except OSError:  # its end of the pipe is gone
            reply = None
        self._deadline = float("inf")
        if self._late:
            raise EndedError("timeout", f"no answer within {self._limit:g} s; ended", self._tail())
        if broken:
            raise EndedError("crashed", _MALFORMED, self._tail())
        if reply is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # it may have closed its pipes and live on
            self._kill()
            raise EndedError("crashed", cause(self._process.wait()), self._tail())
        found: tuple[dict[str, Any], list[Array]] = reply
        return found

    def _tail(self) -> str:
        return tail(self._errors)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def end(self) -> None:
        """End the process and all that it started."""
        self._done.set()
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _counts(given: Any, answers: Sequence[Any]) -> list[int]:
    counts = [int(one) for one in given]
    return counts if sum(counts) == len(answers) and all(one > 0 for one in counts) else []


def _raised(reply: dict[str, Any]) -> Exception:
    try:
        return error_of(reply["raised"])
    except (KeyError, TypeError, ValueError):
        return RuntimeError("something that cannot be told was raised")


def _text(reply: dict[str, Any]) -> str:
    return str(reply["raised"].get("text", ""))


def cause(code: int) -> str:
    """Why a process ended, by its status."""
    if code >= 0:
        return f"the process ended with status {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    note = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{note}"


def tail(errors: Any) -> str:
    """The last lines of a file with standard error."""
    with contextlib.suppress(OSError, ValueError):
        errors.seek(0)
        text = errors.read()
        lines = (text.decode(errors="replace") if isinstance(text, bytes) else text).splitlines()
        return "\n".join(lines[-_TAIL:])
    return ""
