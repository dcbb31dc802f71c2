"""One backend, or some of its formats, in a process of its own: ``python -m polylogit.conformance.worker``.

Reads a job as JSON from standard input and writes results as JSON lines to the stream it was given; whatever the code
under test prints goes elsewhere. A crash of this process is what the runner makes a row of.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_COMPARED_SIZE = 1 << 15


class _RefusalError(Exception):
    """A wrong use, as against a fault of what is examined."""


def main() -> None:
    """Run the job on standard input."""
    job = json.load(sys.stdin)
    # Results go through a copy of standard output that nobody else knows; prints of the code under test go to stderr.
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(line: dict[str, Any]) -> None:
        stream.write(json.dumps(line) + "\n")
        stream.flush()

    send({"event": "start"})
    try:
        _examine_own(job, send) if job["own"] else _run(job, send)
    except _RefusalError as refusal:
        send({"event": "refused", "message": str(refusal)})
    except Exception as error:  # noqa: BLE001  reported as a row
        send({"event": "error", "message": f"{type(error).__name__}: {error}"})
    else:
        send({"event": "end"})
    stream.close()
    # Threads of frameworks may hang or abort at a regular exit, after all is done.
    sys.stderr.flush()
    os._exit(0)


def _run(job: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> None:
    import numpy as np  # noqa: PLC0415  a failing import is an event, not the end

    import polylogit  # noqa: PLC0415
    from polylogit.conformance.examine import examine  # noqa: PLC0415
    from polylogit.conformance.subject import Subject  # noqa: PLC0415

    backend = polylogit.get_backend(job["backend"])
    send({"event": "ready", "devices": list(backend.devices()), "capabilities": backend.capabilities()})
    kept: dict[str, Any] = {}
    # Dtype by dtype, since operations ask for the same exact values there, which are kept for a while.
    for dtype, operation in itertools.product(job["formats"], job["operations"]):
        subject = Subject(backend, operation, name=job["backend"], device=job["device"])
        for result in examine(
            subject,
            job["level"],
            job["seed"],
            checks=job.get("checks"),
            keep=lambda r, v: _keep(kept, r, v),
            formats=(dtype,),
        ):
            send({"event": "result", "result": dataclasses.asdict(result)})
    if job.get("values"):
        np.savez(Path(job["values"]) / f"{job['formats'][0]}.npz", **kept)


def _examine_own(job: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> None:
    import polylogit  # noqa: PLC0415
    from polylogit.conformance.examine import examine  # noqa: PLC0415
    from polylogit.conformance.expectations import load  # noqa: PLC0415
    from polylogit.conformance.subject import Subject  # noqa: PLC0415

    own, (operation,) = job["own"], job["operations"]
    try:
        backend = polylogit.get_backend(job["backend"])
        implementation, vjp = (None if name is None else load(name) for name in (own["target"], own["vjp"]))
        send({"event": "ready", "devices": list(backend.devices()), "capabilities": backend.capabilities()})
        named = f"{backend.name}+{own['name']}"
        subject = Subject(backend, operation, implementation, vjp, named, job["device"])
        for result in examine(subject, job["level"], job["seed"], own["dtypes"], job["checks"], search=own["search"]):
            send({"event": "result", "result": dataclasses.asdict(result)})
    except polylogit.errors.PolylogitError as error:
        raise _RefusalError(str(error)) from error


def _keep(kept: dict[str, Any], result: Any, values: Any) -> None:
    # Gradients where cotangents are of one size: an absolute difference means something there.
    comparable = result.check == "values" or (result.case.startswith("alone-") and "huge" not in result.case)
    if values.size <= _COMPARED_SIZE and comparable:
        kept[f"{result.operation}/{result.check}/{result.dtype}/{result.case}"] = values


if __name__ == "__main__":
    main()
