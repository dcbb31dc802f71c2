"""Time and memory of comparing a hundred activations of a million float32 numbers: ``python tools/ports.py --big``.

Each row is a process of its own, whose peak is counted from where it stands when the inputs are there. The candidate is
the reference with the noise of another order of summation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KINDS", "lines", "measured", "rows"]

KINDS = ("hidden states", "attention weights", "probabilities", "hidden states from files")
_SHAPES = {"hidden": (8, 125, 1000), "attention": (8, 8, 125, 125), "probabilities": (1000, 1000)}
MIB = 2**20


def _pair(kind: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    shape = _SHAPES[kind.split()[0]]
    values = rng.standard_normal(shape, dtype=np.float32)
    if "hidden" not in kind:
        values = np.exp(2 * values)
        values /= values.sum(-1, keepdims=True)
    noise = rng.standard_normal(shape, dtype=np.float32)
    return values, values * (1 + np.float32(6e-8) * noise)


def _peak() -> float:
    """The most memory this process has held since the peak was last reset, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measured(kind: str, count: int) -> dict[str, Any]:
    """In this process: the time, and the peak beyond the inputs."""
    from polylogit import porting

    pairs = [_pair(kind, number) for number in range(count)]
    sides = [{f"layer.{number}": pair[side] for number, pair in enumerate(pairs)} for side in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("reference.npz", "candidate.npz")]
        if "files" in kind:
            for path, side in zip(paths, sides, strict=True):
                np.savez(path, **side)
            del pairs, sides
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, start = _peak(), time.monotonic()
        found = porting.compare_files(*map(str, paths)) if "files" in kind else porting.compare(*sides)
        seconds = time.monotonic() - start
        return {"kind": kind, "count": count, "status": found.status, "seconds": round(seconds, 1),
                "peak": round(_peak() - before)}  # fmt: skip


def rows(count: int = 100) -> list[dict[str, Any]]:
    """What was measured, one process a row; where one ended without a result, why."""
    found = []
    for kind in KINDS:
        command = [sys.executable, __file__, kind, str(count)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            reason = (ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1]
            found.append({"kind": kind, "count": count, "status": reason, "seconds": "", "peak": ""})
        else:
            found.append(json.loads(ran.stdout.splitlines()[-1]))
    return found


def lines(measured: list[dict[str, Any]]) -> list[str]:
    """The table."""
    table = ["| float32 activations of 10^6 | said | seconds | peak beyond the inputs, MiB |", "|---|---|--:|--:|"]
    return table + [
        f"| {one['count']} of {one['kind']} | {one['status']} | {one['seconds']} | {one['peak']} |" for one in measured
    ]


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
