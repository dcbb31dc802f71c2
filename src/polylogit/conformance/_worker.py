"""A backend in a separate process, or the judge of a user's function: ``python -m polylogit.conformance._worker``.

The user's function runs in yet another process, which answers the judge and does not know what is right. The worker
reads a job as a line of JSON from standard input, and more dtypes when it asks for them. It writes events as JSON lines
to the stream that it was given; whatever the code under test prints goes elsewhere. If this process crashes, the runner
turns that into a result.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.conformance._selection import Selection


def main() -> None:
    """Run the job on standard input."""
    job = json.loads(sys.stdin.readline())
    # Events go through a copy of standard output that nobody else knows; prints of the code under test go to stderr.
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(event: str, **fields: Any) -> None:
        stream.write(json.dumps({"event": event, **fields}) + "\n")
        stream.flush()

    send("start")
    try:
        _run(job, send)
    except Exception as error:  # noqa: BLE001  reported as a row
        from polylogit.errors import PolylogitError

        if job["kernel"] and isinstance(error, PolylogitError):
            send("refused", message=str(error))  # a wrong use, as against a fault of what is under test
        else:
            send("error", message=f"{type(error).__name__}: {error}")
    else:
        send("end")
    stream.close()
    # Threads of frameworks may hang or abort at a regular exit, after all is done.
    sys.stderr.flush()
    os._exit(0)


def _run(job: dict[str, Any], send: Callable[..., None]) -> None:
    if job["kernel"]:
        _judge(job, send)
        return
    import numpy as np  # here and below: a failing import is an event, not the end

    import polylogit
    from polylogit.conformance._implementation import implementation_of
    from polylogit.conformance._run_checks import count_cases, list_cases, run_checks

    backend = polylogit.get_backend(job["backend"])
    level, seed, checks, device = (job[name] for name in ("level", "seed", "checks", "device"))
    backend.prepare(device)
    send("ready", devices=list(backend.devices()), capabilities=backend.capabilities(), version=backend.version)
    if job["counting"]:
        implementations = [implementation_of(job["backend"], name, device=device) for name in job["operations"]]
        send("total", of=count_cases(implementations, level, seed, None, checks, _asked(job, send)[0]))
    kept: dict[str, Any] = {}
    asked, begin = _asked(job, send)
    # Dtype by dtype, since operations ask for the same exact values there, which are kept for a while.
    while following := _next(send):
        dtype, asked.after = following
        for operation in job["operations"]:
            if asked.after and asked.after.split("/")[1] != operation:
                continue  # it has been run
            implementation = implementation_of(job["backend"], operation, device=device)
            if job["listing"]:
                send("cases", ids=list(list_cases(implementation, level, seed, checks=checks, among=(dtype,))))
                continue
            options: dict[str, Any] = {"selection": asked, "begin": begin, "kept": kept, "among": (dtype,)}
            for result in run_checks(implementation, level, seed, None, checks, **options):
                send("result", result=dataclasses.asdict(result))
    _tell(asked, send)
    if job["values"]:
        np.savez(Path(job["values"]) / f"{os.getpid()}.npz", **kept)


def _judge(job: dict[str, Any], send: Callable[..., None]) -> None:
    """Judge a user's function, which runs in a separate process."""
    from polylogit.conformance._remote import RemoteImplementation
    from polylogit.conformance._request import EndedError
    from polylogit.conformance._results import Result

    _keep_to_oneself()
    kernel, operation, seed = job["kernel"], job["operations"][0], job["seed"]
    try:
        implementation = RemoteImplementation(kernel, job["backend"], operation, job["device"], job["limit"])
    except EndedError as error:
        subject, details = f"{job['backend']}+{kernel['name']}", {"stderr": error.tail} if error.tail else {}
        message = f"{error} while it was loaded"
        broken = Result(subject, operation, verdict=error.verdict, message=message, details=details, seed=seed)
        send("result", result=dataclasses.asdict(broken))
        return
    try:
        from polylogit.conformance._run_checks import count_cases, run_checks

        implementation.conventions.update(kernel["conventions"])
        backend = implementation.backend
        send("ready", devices=list(backend.devices()), capabilities=backend.capabilities(), version=backend.version)
        asked, begin = _asked(job, send)
        if job["counting"]:
            told = _asked(job, send)[0]
            send("total", of=count_cases([implementation], job["level"], seed, kernel["dtypes"], job["checks"], told))
        options: dict[str, Any] = {name: kernel[name] for name in ("search", "invariant")}
        options |= {"selection": asked, "begin": begin}
        for result in run_checks(implementation, job["level"], seed, kernel["dtypes"], job["checks"], **options):
            send("result", result=dataclasses.asdict(result))
        _tell(asked, send)
    finally:
        implementation.close()


def _asked(job: dict[str, Any], send: Callable[..., None]) -> tuple[Selection, Callable[[str], None]]:
    """The selection of cases, and a function that reports each one before it runs."""
    from polylogit.conformance._selection import Selection

    asked = Selection(**job["selection"])

    def begin(identifier: str) -> None:
        send("case", id=identifier, run=asked.run, left_out=asked.left_out)

    return asked, begin


def _tell(asked: Selection, send: Callable[..., None]) -> None:
    send("case", id="", run=asked.run, left_out=asked.left_out)


def _keep_to_oneself() -> None:
    """Close this process's memory and descriptors to other processes of the same user, if the system can."""
    if sys.platform == "linux":
        import contextlib
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE


def _next(send: Callable[..., None]) -> tuple[str, str] | None:
    """The dtype to run next, and the id of the case to continue after; None at the end."""
    send("next")
    dtype, _, after = sys.stdin.readline().strip().partition(" ")
    return (dtype, after) if dtype else None


if __name__ == "__main__":
    main()
