"""Time and memory of comparing a hundred activations of a million numbers: ``python tools/ports.py --big``.

Each row is a separate process, whose peak memory is counted from the moment when the inputs are there. The candidate is
the reference with noise in what it is computed from: that of another order of summation, that of rounding which adds up
over layers, or, for a fault, more from one activation on. ``python tools/ports_big.py --all`` goes through all dtypes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KINDS", "lines", "measured", "rows"]

_SHAPES = {
    "probabilities": (1000, 1000),
    "log-probabilities": (1000, 1000),
    "logits": (1000, 1000),
    "scores": (8, 8, 125, 125),
    "hidden states": (8, 125, 1000),
}
# What a row is called: the kind, the dtype, the noise, where the inputs are, and from which activation on there is a
# fault.
KINDS = {
    **{f"{kind}, noise {noise:.0e}": (kind, "float32", noise, "", 0) for kind in _SHAPES for noise in (1e-7, 3e-6)},
    "hidden states in .npz, noise 3e-06": ("hidden states", "float32", 3e-6, ".npz", 0),
    "hidden states in .safetensors, noise 3e-06": ("hidden states", "float32", 3e-6, ".safetensors", 0),
    "hidden states, a fault in the fifth": ("hidden states", "float32", 3e-6, "", 5),
    "probabilities, a fault in the fifth": ("probabilities", "float32", 3e-6, "", 5),
}
ALL = KINDS | {
    f"{kind} in {dtype}, noise {noise:.0e}": (kind, dtype, noise, "", 0)
    for kind in _SHAPES
    for dtype in ("float32", "float16", "bfloat16")
    for noise in (1e-7, 1e-6, 1e-5)
}
# The noise of what has a fault: as of another constant.
FAULTY = 1e-3
MIB = 2**20


def _pair(kind: str, dtype: str, noise: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    x = 2 * rng.standard_normal(_SHAPES[kind])
    y = x + noise * rng.standard_normal(x.shape)
    if dtype == "bfloat16":
        import ml_dtypes

        return tuple(_made(kind, one).astype(ml_dtypes.bfloat16) for one in (x, y))
    return tuple(_made(kind, one).astype(dtype) for one in (x, y))


def _made(kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "scores":
        return np.where(np.tri(x.shape[-1], dtype=bool), x, -np.inf)
    if "prob" not in kind:
        return x
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return logs if kind.startswith("log") else np.exp(logs)


def _peak() -> float:
    """The most memory this process has held since the peak was last reset, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measured(name: str, count: int) -> dict[str, Any]:
    """In this process: the time, and the peak beyond the inputs."""
    from polylogit import porting

    kind, dtype, noise, suffix, fault = ALL[name]
    sides: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for number in range(count):
        pair = _pair(kind, dtype, FAULTY if 0 < fault <= number + 1 else noise, number)
        for side, values in zip(sides, pair, strict=True):
            side[f"layer.{number}"] = values
    size = pair[0].nbytes / MIB
    porting.compare(*({"a": one[:1]} for one in pair))  # imports are no part of it
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{side}{suffix}") for side in ("reference", "candidate")]
        if suffix:
            for path, side in zip(paths, sides, strict=True):
                porting.save(path, side)
            del sides, pair, values, side
            porting.compare_files(*(_first(path) for path in paths))
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is no room for what follows
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, start, used = _peak(), time.monotonic(), time.process_time()
        found = porting.compare_files(*map(str, paths)) if suffix else porting.compare(*sides)
        seconds, used = time.monotonic() - start, time.process_time() - used
        return {"kind": name, "count": count, "status": found.status, "seconds": round(seconds, 1),
                "cpu": round(used, 1), "peak": round(_peak() - before, 1), "size": round(size, 1)}  # fmt: skip


def _first(path: Path) -> Path:
    """A file with the first of its arrays alone: what reads it is imported, too."""
    from polylogit import porting

    found, short = porting.load(path), path.with_stem(f"{path.stem}-first")
    name = next(iter(found))
    porting.save(short, {name: found[name]})
    return short


def rows(count: int = 100, names: Any = KINDS) -> list[dict[str, Any]]:
    """What was measured, one process a row; where one ended without a result, why."""
    found = []
    for name in names:
        command = [sys.executable, __file__, "--one", name, "--count", str(count)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            reason = (ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1]
            nothing = dict.fromkeys(("seconds", "cpu", "peak", "size"), "")
            found.append({"kind": name, "count": count, "status": reason, **nothing})
        else:
            found.append(json.loads(ran.stdout.splitlines()[-1]))
    return found


def lines(measured: list[dict[str, Any]]) -> list[str]:
    """The table."""
    table = [
        "| activations of 10^6 | said | seconds | of processor time | peak beyond the inputs, MiB | size of one, MiB |",
        "|---|---|--:|--:|--:|--:|",
    ]
    return table + [
        f"| {one['count']} of {one['kind']} | {one['status']} | {one['seconds']} | {one['cpu']} | {one['peak']} | "
        f"{one['size']} |"
        for one in measured
    ]


def main() -> None:
    """The table, or one row of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--one")
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one, given.count)))
    else:
        print("\n".join(lines(rows(given.count, ALL if given.all else KINDS))))


if __name__ == "__main__":
    main()
