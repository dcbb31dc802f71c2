"""Turn the measurements of `ratios.py` and `scale.py` into the tables and plots of the documentation.

    python tools/speed_page.py FOLDER

Reads ``ratios.json`` and ``scale.json`` there and writes ``speed.md`` and, with matplotlib, ``speed.svg``,
``models.svg`` and ``scale.svg`` beside them, each also for dark backgrounds. Measures nothing itself.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

# On a light ground and on a dark one.
COLOURS = {
    "softmax": ("#0969da", "#4493f8"),
    "log_softmax": ("#bc4c00", "#f0883e"),
    "sigmoid": ("#1a7f37", "#3fb950"),
    "scipy": ("#0969da", "#4493f8"),
    "torch": ("#bc4c00", "#f0883e"),
    "a copy": ("#1a7f37", "#3fb950"),
}
# group -> its heading; where a group has many cases, they are drawn and the table has their geometric mean alone.
HEADINGS = {
    "dispatch": "Dispatch",
    "small": "Eight elements on NumPy",
    "frameworks": "Eight float32 on the frameworks",
    "arrays": "10^7 elements on NumPy, one thread",
    "models": "Logits as models make them, on NumPy, one thread",
    "threads": "10^7 elements on NumPy, two threads",
    "gradients": "Derivatives of 10^7 elements on NumPy",
    "imports": "Import",
}
# What large arrays are beside, and how it is drawn.
OTHERS = (("scipy", "SciPy", "o"), ("torch", "PyTorch on one thread", "D"), ("a copy", "a copy", "s"))
DRAWN = ("arrays", "models", "threads", "gradients")


def _unit(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _mean(ratios: list[dict[str, Any]]) -> float:
    return math.exp(statistics.fmean(math.log(one["ratio"]) for one in ratios))


def table(measured: dict[str, Any]) -> str:
    """Every ratio that is not drawn, and the means of those that are."""
    lines = []
    for group, found in groupby(measured["ratios"], key=lambda one: one["group"]):
        ratios = list(found)
        lines += [f"**{HEADINGS[group]}**", ""]
        if group in DRAWN:
            lines += ["| compared with | cases | geometric mean | largest ratio |", "|---|--:|--:|--:|"]
            for over in dict.fromkeys(one["over"] for one in ratios):
                some = [one for one in ratios if one["over"] == over]
                worst = max(some, key=lambda one: one["ratio"])
                lines += [f"| {over} | {len(some)} | {_mean(some):.2f} | {worst['ratio']:.2f} ({worst['case']}) |"]
        else:
            lines += ["| polylogit | compared with | its time | the other's time | ratio |", "|---|---|--:|--:|--:|"]
            for one in ratios:
                times = f"{_unit(one['seconds'])} | {_unit(one['other'])}"
                lines += [f"| {one['case']} | {one['over']} | {times} | {one['ratio']:.2f} |"]
        lines += [""]
    environment = measured["environment"]
    versions = ", ".join(f"{name} {version.partition('+')[0]}" for name, version in environment["versions"].items())
    machine = environment["machine"]
    if engine := environment.get("engine"):
        machine += f", the NumPy kernels with {engine}"
    if environment.get("clock") == "of the thread":
        machine += "; times of the thread on the processor, since the machine had other work"
    return "\n".join([*lines, f"Measured with Python {environment['python']}, {versions} on {machine}."])


def _axes(plt: Any, height: float, dark: bool) -> tuple[Any, Any]:
    ink, paper = ("#e6edf3", "#14181e") if dark else ("#1f2328", "#ffffff")
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    plt.rcParams.update(dict.fromkeys(names, ink) | dict.fromkeys(("axes.facecolor", "savefig.facecolor"), paper))
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "speed", "font.size": 9, "font.family": "sans-serif"})
    plt.rcParams.update({"grid.color": "#3d444d" if dark else "#d1d9e0"})
    figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def draw_ratios(plt: Any, measured: dict[str, Any], group: str, path: Path, *, dark: bool) -> None:
    """A point for each case of the large arrays, by what it is over; 1 is a line."""
    ratios = [one for one in measured["ratios"] if one["group"] == group]
    cases = list(dict.fromkeys(one["case"] for one in ratios))
    figure, axes = _axes(plt, 0.17 * len(cases) + 1, dark)
    for over, name, marker in OTHERS:
        some = [one for one in ratios if one["over"] == over]
        if some:
            places = [cases.index(one["case"]) for one in some]
            colour = COLOURS[over][dark]
            label = f"over {name}: geometric mean {_mean(some):.2f}"
            axes.scatter([one["ratio"] for one in some], places, marker=marker, s=18, color=colour, label=label)
    axes.axvline(1, color="#8b949e", linewidth=1)
    axes.set_yticks(range(len(cases)), cases, fontsize=7)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.set_xlabel("time of polylogit over that of the other (left of 1 is faster)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_scale(plt: Any, found: list[dict[str, Any]], path: Path, *, dark: bool) -> None:
    """Time against size, both logarithmic, and the memory beyond the result."""
    figure, axes = _axes(plt, 3.6, dark)
    for operation in dict.fromkeys(one["operation"] for one in found):
        some = [one for one in found if one["operation"] == operation]
        sizes, times = [one["elements"] for one in some], [one["seconds"] for one in some]
        memory = max(one["bytes_beyond_result"] or 0 for one in some) / 2**20
        label = f"{operation} (at most {memory:.1f} MiB beyond the result)"
        axes.loglog(sizes, times, marker="o", markersize=4, color=COLOURS[operation][dark], label=label)
    largest = max(found, key=lambda one: one["elements"])
    line = [largest["seconds"] * size / largest["elements"] for size in (1e4, largest["elements"])]
    axes.loglog([1e4, largest["elements"]], line, color="#8b949e", linewidth=1, linestyle=":", label="proportional")
    axes.grid()
    axes.set_xlabel("elements, float32 in rows of 1,000; beyond 2 * 10^8 mapped from a file")
    axes.set_ylabel("seconds a call")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(folder: Path) -> None:
    """Write what can be written of what is there."""
    measured = json.loads((folder / "ratios.json").read_text())
    found = json.loads((folder / "scale.json").read_text())
    (folder / "speed.md").write_text(table(measured) + "\n")
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is not installed")
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt

    for dark, suffix in ((False, ""), (True, "-dark")):
        for group, name in (("arrays", "speed"), ("models", "models")):
            if any(one["group"] == group for one in measured["ratios"]):
                draw_ratios(plt, measured, group, folder / f"{name}{suffix}.svg", dark=dark)
        draw_scale(plt, found, folder / f"scale{suffix}.svg", dark=dark)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
