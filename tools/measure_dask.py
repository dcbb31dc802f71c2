"""Measure a worker's memory as a row of a Dask array grows: ``python tools/measure_dask.py [LENGTH ...]``.

The row is float32, generated in chunks of a million when needed, and split over two worker processes with one thread
each. The result is the sum of the squared probabilities, so that the probabilities need not be kept. Each method has a
separate cluster; a plug-in in each worker samples its resident memory every 10 ms. Writes
``docs/_static/dask-memory.json`` and draws ``docs/_static/dask-memory.svg`` (and a version for dark backgrounds).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import psutil
from distributed import Client, LocalCluster, WorkerPlugin

import polylogit

if TYPE_CHECKING:
    from collections.abc import Callable

STATIC = Path(__file__).parents[1] / "docs" / "_static"
CHUNK = 1_000_000
LENGTHS = (10**6, 10**7, 10**8, 10**9)
MEMORY = 16 * 2**30  # bytes a worker may take; none of the forms below spills before


def two_passes(x: Any) -> Any:
    """As people write it."""
    e = da.exp(x - x.max())
    return e / e.sum()


def rechunked(x: Any) -> Any:
    """What works with any function of whole rows."""
    return x.rechunk(-1).map_blocks(polylogit.softmax)


def held(x: Any) -> Any:
    """polylogit's, where the logits are held between the passes."""
    with dask.config.set({"polylogit.read-twice": False}):
        return polylogit.softmax(x)


# name -> the form, and the longest row it is asked for: beyond, it takes more memory than a worker has here.
FORMS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "polylogit.softmax": (polylogit.softmax, 10**9),
    "polylogit.softmax, read once": (held, 10**8),
    "two passes of dask.array": (two_passes, 10**8),
    "rechunk, map_blocks": (rechunked, 10**8),
}


class Sampler(WorkerPlugin):
    """The largest resident memory of a worker since it was last asked."""

    name = "sampler"

    def setup(self, worker: Any) -> None:
        """Begin to sample."""
        self.process, self.peak = psutil.Process(), 0
        worker.sampler = self
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.01)


def _start(dask_worker: Any) -> int:
    sampler = dask_worker.sampler
    sampler.peak = sampler.process.memory_info().rss
    return int(sampler.peak)


def _peak(dask_worker: Any) -> int:
    return int(dask_worker.sampler.peak)


def measure(form: Callable[[Any], Any], lengths: list[int]) -> list[dict[str, float]]:
    """For each length the growth of the worker that grew most, in MiB."""
    found = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=MEMORY, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Sampler())
        for length in (CHUNK, *lengths):  # the first time is for what is imported
            x = da.random.default_rng(0).normal(size=length, chunks=CHUNK).astype(np.float32)
            y = form(x)
            before, begun = client.run(_start), time.monotonic()
            total = float((y * y).sum(dtype=np.float64).compute())
            seconds, after = time.monotonic() - begun, client.run(_peak)
            # Of N(0, 1), the mean of exp(2x) over the squared mean of exp(x) is e.
            assert abs(total * length / np.e - 1) < 0.1, (total, length)
            grown = max(after[worker] - before[worker] for worker in after) / 2**20
            found.append({"length": length, "MiB": round(grown, 1), "seconds": round(seconds, 2)})
            print(f"  {length:>13,}  {grown:8.1f} MiB  {seconds:6.1f} s", flush=True)
    return found[1:]


def draw(measured: dict[str, list[dict[str, float]]]) -> None:
    """The lines, with the row itself for comparison."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("svg")
    for suffix, style in (("", "default"), ("-dark", "dark_background")):
        with plt.style.context(style):
            plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dask", "font.size": 9})
            figure, axes = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
            for name, points in measured.items():
                axes.loglog([one["length"] for one in points], [one["MiB"] for one in points], "o-", label=name)
            axes.loglog(LENGTHS, [length * 4 / 2**20 for length in LENGTHS], "--", color="gray", label="the row itself")
            axes.set(xlabel="entries of the row (float32, chunks of 10⁶)", ylabel="growth of a worker, MiB")
            axes.legend(frameon=False)
            figure.savefig(STATIC / f"dask-memory{suffix}.svg", transparent=True, metadata={"Date": None})
            plt.close(figure)


def main() -> None:
    """Measure, write and draw."""
    asked = [int(float(text)) for text in sys.argv[1:]] or list(LENGTHS)
    measured = {}
    for name, (form, longest) in FORMS.items():
        print(name, flush=True)
        measured[name] = measure(form, [length for length in asked if length <= longest])
    (STATIC / "dask-memory.json").write_text(json.dumps(measured, indent=1) + "\n")
    draw(measured)


if __name__ == "__main__":
    main()
