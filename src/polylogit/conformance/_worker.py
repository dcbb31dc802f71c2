"""One backend, or a user's function, in a process of its own: ``python -m polylogit.conformance._worker``.

Reads a job as a line of JSON, and what dtypes to run as it asks for them, from standard input; writes events as JSON
lines to the stream it was given. Whatever the code under test prints goes elsewhere. A crash of this process is what
the runner makes a row of.
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
    import numpy as np  # here and below: a failing import is an event, not the end

    import polylogit
    from polylogit.conformance._implementation import implementation_of
    from polylogit.conformance._run_checks import count_cases, list_cases, run_checks

    backend, kernel = polylogit.get_backend(job["backend"]), job["kernel"]
    level, seed, checks, device = (job[name] for name in ("level", "seed", "checks", "device"))
    if not kernel:
        backend.prepare(device)
    ready = {"devices": list(backend.devices()), "capabilities": backend.capabilities()}
    if kernel:
        named = (kernel["function"], kernel["vjp"], kernel["name"], device)
        implementation = implementation_of(job["backend"], job["operations"][0], *named)
        implementation.conventions.update(kernel["conventions"])
        send("ready", **ready)
        if job["counting"]:
            send("total", of=count_cases([implementation], level, seed, kernel["dtypes"], checks))
        for result in run_checks(implementation, level, seed, kernel["dtypes"], checks, search=kernel["search"]):
            send("result", result=dataclasses.asdict(result))
        return
    send("ready", **ready)
    if job["counting"]:
        implementations = [implementation_of(job["backend"], name, device=device) for name in job["operations"]]
        send("total", of=count_cases(implementations, level, seed, None, checks))
    kept: dict[str, Any] = {}
    # Dtype by dtype, since operations ask for the same exact values there, which are kept for a while.
    while dtype := _next(send):
        for operation in job["operations"]:
            implementation = implementation_of(job["backend"], operation, device=device)
            if job["listing"]:
                send("cases", ids=list(list_cases(implementation, level, seed, checks=checks, among=(dtype,))))
                continue
            for result in run_checks(implementation, level, seed, None, checks, kept=kept, among=(dtype,)):
                send("result", result=dataclasses.asdict(result))
    if job["values"]:
        np.savez(Path(job["values"]) / f"{os.getpid()}.npz", **kept)


def _next(send: Callable[..., None]) -> str:
    send("next")
    return sys.stdin.readline().strip()


if __name__ == "__main__":
    main()
