"""Time and memory of the NumPy backend against size, from 8 elements to 10^9: rows of 1,000 float32.

    python tests/benchmarks/scale.py --json scale.json
    python tests/benchmarks/scale.py --most 1e7

Each size has a process of its own. Beyond 2 * 10^8 elements the logits lie in a file and are mapped into memory. The
memory is that of the operating system's accounting (Linux alone): the highest resident size during a call, less what
was resident before, less the result and what the call has read of a mapped file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
IN_MEMORY = 2 * 10**8
ROW = 1000
STATUS = Path("/proc/self/status")


def logits(elements: int, folder: str) -> Any:
    """Random logits, repeated after 10^6 of them; read-only and mapped where they are many."""
    import numpy as np

    shape = (elements,) if elements < ROW else (elements // ROW, ROW)
    some = np.random.default_rng(0).standard_normal(min(elements, 10**6)).astype(np.float32)
    if elements <= IN_MEMORY:
        return np.resize(some, shape)
    path = Path(folder) / "logits"
    with path.open("wb") as file:
        for _ in range(elements // some.size):
            some.tofile(file)
        file.flush()
        os.fsync(file.fileno())  # or the disk is busy with it while others are timed
    return np.memmap(path, np.float32, "r", shape=shape)


def resident(key: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def measure(operation: str, elements: int) -> dict[str, Any]:
    """The median time of a call, and its memory beyond the result, in this process."""
    import numpy as np

    import polylogit

    with tempfile.TemporaryDirectory() as folder:
        x = logits(elements, folder)
        call = getattr(polylogit, operation)
        call(x[:1])  # what a first call loads, but not the blocks
        if isinstance(x, np.memmap):
            x.sum()  # its pages, which are the file's
        beyond = None
        if STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size so far
            before, mapped = resident("VmRSS"), resident("RssFile")
            y = call(x)
            beyond = max(0, resident("VmHWM") - before - y.nbytes - max(0, resident("RssFile") - mapped))
            del y
        start = time.perf_counter()
        call(x)
        once = time.perf_counter() - start
        times, calls = [], max(1, round(0.02 / once))
        for _ in range(3 if once > 1 else 9):
            start = time.perf_counter()
            for _ in range(calls):
                call(x)
            times.append((time.perf_counter() - start) / calls)
        found = {"operation": operation, "elements": elements, "mapped": elements > IN_MEMORY}
        return {**found, "seconds": statistics.median(times), "bytes_beyond_result": beyond}


def main() -> None:
    """All sizes, a process each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=1e9, help="elements at most")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--one", nargs=2, metavar=("OPERATION", "ELEMENTS"), help="measure in this process; print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    found = []
    for operation in OPERATIONS:
        for elements in (8, *(10**power for power in range(2, 10))):
            if elements > options.most:
                continue
            command = [sys.executable, __file__, "--one", operation, str(elements)]
            one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            beyond = one["bytes_beyond_result"]
            memory = "" if beyond is None else f"{beyond / 2**20:8.2f} MiB beyond the result"
            nanoseconds = one["seconds"] / elements * 1e9
            print(f"{operation:12} {elements:13,} {one['seconds']:12.6f} s {nanoseconds:9.2f} ns an element{memory}")
            found.append(one)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
