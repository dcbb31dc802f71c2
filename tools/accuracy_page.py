"""Make the tables and the pictures of ``docs/accuracy.md`` from the stored measurements.

    python tools/accuracy_page.py

``measure_accuracy.py`` does the measuring. tests/docs/test_accuracy_page.py fails if the committed page or pictures
differ.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import plotting
import settings

from polylogit._spec.bounds import additions

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "_static" / "accuracy.json"
PAGE = ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- Made by tools/accuracy_page.py; change that. -->\n", "<!-- End of the generated part. -->\n"

TITLES = {"numpy": "NumPy", "scipy": "SciPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
OURS = tuple(f"polylogit.{name}" for name in BACKENDS)
THEIRS = ("scipy", "torch", "tensorflow", "jax")
UNITS = "near zero"  # the one table that is in units in the last place and not in bounds

INKS = ("paper", "ink", "faint", "line", *BACKENDS)
THEMES = {
    "": ("#ffffff", "#1f2328", "#59636e", "#e4e8ec", "#0969da", "#cf4a14", "#00806b", "#9a3ab5"),
    "-dark": ("#121212", "#e6edf3", "#9198a1", "#343a42", "#6cb6ff", "#ff9b6a", "#4fd0b0", "#d6a0ff"),
}


# --- the tables -------------------------------------------------------------------------------------------------------


def _amount(value: float) -> str:
    if value < 10:  # two decimals are enough to compare by
        return f"{value:.2f}"
    if value < 1000:
        return f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(plotting.SUPERSCRIPTS)}"


def _row(label: str, dtype: str, found: dict[str, dict[str, Any]], limit: float) -> str:
    best = min(found[name]["worst"] for name in OURS)
    cells = []
    for name in (*OURS, *THEIRS):
        if name not in found:
            cells.append("–")
            continue
        worst = found[name]["worst"]
        mark = "**" if worst > limit else "*" if name in OURS and worst == best else ""
        cells.append(f"{mark}{_amount(worst)}{mark}")
    return f"| {label} | {dtype} | " + " | ".join(cells) + " |"


def _head(first: str) -> list[str]:
    names = [f"polylogit, {TITLES[name]}" for name in BACKENDS] + [TITLES[name] for name in THEIRS]
    return [f"| {first} | dtype | " + " | ".join(names) + " |", "|---|---|" + "--:|" * len(names)]


def _input(found: dict[str, Any]) -> str:
    return f"{found['case']}, {found['length']:,} in a row" if found["length"] else found["case"]


def tables(measured: dict[str, Any]) -> str:
    """The tables of the page."""
    versions = ", ".join(f"{TITLES[name]} {version}" for name, version in measured["versions"].items())
    place = f"{measured['machine']}, {measured['processor']} with {settings.TITLES[measured['setting']]}"
    lines = [f"Measured with {versions} on {place}.", "", *_head("worst error over its bound")]
    worst = measured["worst"]
    beyond = []
    for table, dtypes in worst.items():
        if table == UNITS:
            continue
        for dtype, found in dtypes.items():
            lines.append(_row(table, dtype, found, 1.0))
            beyond += [(name, table, dtype, one) for name, one in found.items() if one["worst"] > 1]
    lines += ["", "Figures above 1, and the rows that cause them:", ""]
    for name, table, dtype, one in beyond:
        lines.append(f"- {_title(name)}: {table}, {dtype}: {_amount(one['worst'])} ({_input(one)})")
    lines += ["", *_head("log_softmax for d ≤ 1, error in ulp of the result")]
    lines += [_row("near 0", dtype, found, math.inf) for dtype, found in worst[UNITS].items()]
    return "\n".join([*lines, "", *_by_instruction_set(measured)]) + "\n"


def _by_instruction_set(measured: dict[str, Any]) -> list[str]:
    """A column for each setting, and a row for each figure that differs between settings in the first two digits."""
    whole = {measured["setting"]: measured["worst"], **measured["elsewhere"]}
    lines = [
        "| worst error over its bound | dtype | function | "
        + " | ".join(settings.TITLES[name] for name in whole)
        + " |"
    ]
    lines += ["|---|---|---|" + "--:|" * len(whole)]
    for table, dtypes in measured["worst"].items():
        for dtype, found in dtypes.items() if table != UNITS else ():
            for name in found:
                values = [worst[table][dtype][name]["worst"] for worst in whole.values()]
                if len({_amount(value) for value in values}) > 1:
                    cells = (f"**{_amount(value)}**" if value > 1 else _amount(value) for value in values)
                    lines.append(f"| {table} | {dtype} | {_title(name)} | " + " | ".join(cells) + " |")
    return lines


def _title(name: str) -> str:
    on, _, backend = name.rpartition(".")
    return f"{on}, {TITLES[backend]}" if on else TITLES[name]


def page(old: str, measured: dict[str, Any]) -> str:
    """The page with its tables replaced."""
    head, _, rest = old.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{tables(measured)}\n{END}{tail}"


# --- the pictures -----------------------------------------------------------------------------------------------------

_MARKS = ("circle", "square", "diamond", "triangle")
LEGEND = [
    ("polylogit on", [plotting.Style(TITLES[name], name, "", 6.0, 0.38) for name in BACKENDS]),
    (
        "the frameworks' own",
        [plotting.Style(TITLES[own], name, mark) for own, name, mark in zip(THEIRS, BACKENDS, _MARKS, strict=True)],
    ),
]
FARTHEST = {"float32": 104.0, "float64": 745.0}


def _lines(curve: dict[str, Any]) -> list[list[tuple[float, float | None]]]:
    return [list(zip(curve["x"], curve[name], strict=True)) for name in (*OURS, *THEIRS)]


def _distance(curves: dict[str, Any]) -> plotting.Figure:
    panels: list[list[plotting.Panel]] = [[], []]
    for dtype, far in FARTHEST.items():
        most = {"float32": 250.0, "float64": 1600.0}[dtype]
        ticks = {"float32": (0, 20, 40, 60, 80, 100), "float64": (0, 200, 400, 600)}[dtype]
        x = plotting.Axis("distance d from the largest logit of the row", 0.0, far, ticks)
        heights = {"float32": (0, 50, 100, 150, 200, 250), "float64": (0, 400, 800, 1200, 1600)}[dtype]
        panels[0].append(
            plotting.Panel(
                f"softmax, {dtype}",
                x,
                plotting.Axis("worst error in ulp", 0.0, most, heights),
                _lines(curves["distance softmax"][dtype]),
                [(d, 4 + 2 * d + additions(64)) for d in (0.0, far / 2, far)],
                "bound",
            )
        )
        panels[1].append(
            plotting.Panel(
                f"log_softmax, {dtype}",
                x,
                plotting.Axis("worst error over its bound", 0.0, 1.2, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
                _lines(curves["distance log_softmax"][dtype]),
                [(0.0, 1.0), (far / 2, 1.0), (far, 1.0)],
                "bound",
            )
        )
    return plotting.Figure(
        "The error of softmax grows with the distance from the largest logit, in every framework, within the bound",
        LEGEND,
        panels,
    )


def _length(curves: dict[str, Any]) -> plotting.Figure:
    panels = []
    for dtype in FARTHEST:
        panels.append(
            [
                plotting.Panel(
                    f"{kind} logits, {dtype}",
                    plotting.Axis("logits in a row", 2.0, 1e6, (10, 100, 1e3, 1e4, 1e5, 1e6), log=True),
                    plotting.Axis("worst error in ulp", 0.3, 3000.0, (1, 10, 100, 1000), log=True),
                    _lines(curves[f"{kind} softmax"][dtype]),
                    [
                        (float(n), 4 + additions(n))
                        for n in sorted({*range(2, 33), *(32**k + one for k in (1, 2, 3) for one in (0, 1)), 10**6})
                    ],
                    "bound",
                )
                for kind in ("equal", "normal", "falling")
            ]
        )
    return plotting.Figure(
        "The error of softmax against the length of the row: where a framework adds one by one, it leaves the bound",
        LEGEND,
        panels,
    )


def _near_zero(curves: dict[str, Any]) -> plotting.Figure:
    decades = tuple(10.0**power for power in range(-30, 1, 5))
    panels = []
    for dtype, most, step in (("float32", 1e9, 2), ("float64", 1e19, 4)):
        curve = curves[UNITS][dtype]
        ticks = tuple(10.0**power for power in range(0, round(math.log10(most)), step))
        panels.append(
            plotting.Panel(
                f"log_softmax, {dtype}",
                plotting.Axis("value of log_softmax", 1e-30, 1.0, decades, log=True, sign="\N{MINUS SIGN}"),
                plotting.Axis("worst error in ulp of the value", 0.3, most, ticks, log=True),
                _lines({**curve, "x": [10.0**power for power in curve["x"]]}),
                [(1e-30, 8.0), (1e-15, 8.0), (1.0, 8.0)],
                "8 ulp",
            )
        )
    return plotting.Figure(
        "The error of log_softmax near 0, in ulp of the value: all but polylogit on NumPy lose every digit",
        LEGEND,
        [panels],
        height=290,
    )


def _sigmoid(curves: dict[str, Any]) -> plotting.Figure:
    panels = [
        plotting.Panel(
            f"sigmoid, {dtype}",
            plotting.Axis("logit x", -far, 40.0, ticks),
            plotting.Axis("worst error in ulp", 0.0, 9.0, (0, 2, 4, 6, 8)),
            _lines(curves["sigmoid"][dtype]),
            [(-far, 8.0), ((40 - far) / 2, 8.0), (40.0, 8.0)],
            "bound",
        )
        for (dtype, far), ticks in zip(
            FARTHEST.items(), ((-100, -80, -60, -40, -20, 0, 20, 40), (-600, -400, -200, 0)), strict=True
        )
    ]
    return plotting.Figure("The error of sigmoid against the logit, within 8 ulp", LEGEND, [panels], height=290)


FIGURES = {"distance": _distance, "length": _length, "near-zero": _near_zero, "sigmoid": _sigmoid}


def pictures(measured: dict[str, Any]) -> dict[str, str]:
    """The text of each SVG, by file name."""
    out = {}
    for name, make in FIGURES.items():
        figure = make(measured["curves"])
        for ending, inks in THEMES.items():
            out[f"accuracy-{name}{ending}.svg"] = plotting.draw(figure, dict(zip(INKS, inks, strict=True)))
    return out


def main() -> None:
    """Write the pictures and the tables."""
    measured = json.loads(MEASURED.read_text())
    for name, text in pictures(measured).items():
        (MEASURED.parent / name).write_text(text)
    PAGE.write_text(page(PAGE.read_text(), measured))


if __name__ == "__main__":
    main()
