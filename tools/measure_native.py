"""Run the frameworks' native calls on the cases of the contract, and draw the picture of the README.

    python tools/measure_native.py

The run is repeated under each setting of tests/processors.py that the processor supports. Needs all four frameworks
and SciPy. Writes ``docs/_static/native.json``, ``docs/_static/disagreements.svg`` and ``docs/_static/disagreements-
dark.svg``; ``contract_page.py`` writes the numbers into the contract page.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import warnings
from xml.sax.saxutils import escape

import probes
import settings

from polylogit.conformance._machine import machine

# In the order in which they are drawn: (row of the contract, index of the probe, what the picture calls it).
PICTURE = (
    (1, 0, "softmax of uint8 [1, 2, 3]"),
    (3, 1, "log_softmax of 65,520 float16 zeros"),
    (8, 1, "sum of softmax, 2 × 2, axis=None"),
    (14, 0, "softmax of [0, nan, 1]"),
    (18, 2, "sum of softmax, 4,000,000 logits"),
    (21, 0, "sigmoid of float16 -12"),
    (22, 0, "gradient of log_softmax, 131,072 float16"),
)
TITLES = {"numpy": "SciPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
DISTRIBUTIONS = {"numpy": "scipy", "torch": "torch", "tensorflow": "tensorflow", "jax": "jax"}
INKS = ("ink", "faint", "line", "bad", "tint", "good")
THEMES = {
    "disagreements.svg": dict(
        zip(INKS, ("#1f2328", "#59636e", "#d1d9e0", "#b3261e", "#fdecea", "#1a7f37"), strict=True)
    ),
    "disagreements-dark.svg": dict(
        zip(INKS, ("#e6edf3", "#9198a1", "#3d444d", "#ff8a80", "#3b1d1d", "#56d364"), strict=True)
    ),
}


def measure() -> dict[str, object]:
    """Every probe on every framework's native call, with the versions."""
    shown: dict[str, dict[str, str]] = {}
    for row in probes.rows():
        for index, probe in enumerate(row.get("probe", ())):
            key = f"{row['id']}.{index}"
            shown[key] = {}
            for framework in probe.get("frameworks", probes.FRAMEWORKS):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # only the value is of interest here
                    shown[key][framework] = probes.run(probe, framework, native=True)
                print(key, framework, shown[key][framework], sep="\t", file=sys.stderr)
    versions = {TITLES[name]: importlib.metadata.version(DISTRIBUTIONS[name]) for name in probes.FRAMEWORKS}
    versions = {title: version.partition("+")[0] for title, version in versions.items()}
    return {"versions": versions, **machine(), "shown": shown}


def draw(measured: dict[str, object], theme: dict[str, str]) -> str:
    """The picture: a grid of cases by frameworks, what breaks the contract in red."""
    left, width, height, top = 290, 138, 34, 58
    columns = [*probes.FRAMEWORKS, "polylogit"]
    rows = {row["id"]: row for row in probes.rows()}
    total_width, total_height = left + width * len(columns) + 8, top + height * len(PICTURE) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">',
        "<title>The same seven calls on four frameworks: what each answers natively, and what polylogit answers on all"
        " four</title>",
    ]

    def text(x: float, y: float, words: str, fill: str, more: str = "") -> None:
        out.append(f'<text x="{x}" y="{y}" fill="{theme[fill]}" {more}>{escape(words)}</text>')

    for number, column in enumerate(columns):
        center = left + width * number + width / 2
        text(center, 24, TITLES.get(column, column), "ink", 'text-anchor="middle" font-weight="600" font-size="14"')
        subtitle = measured["versions"].get(TITLES.get(column), "on all four")
        text(center, 43, subtitle, "faint", 'text-anchor="middle" font-size="12"')
    for line, (identifier, index, label) in enumerate(PICTURE):
        y = top + height * line
        out.append(f'<line x1="0" x2="{total_width}" y1="{y}" y2="{y}" stroke="{theme["line"]}"/>')
        text(4, y + 22, label, "ink")
        probe = rows[identifier]["probe"][index]
        shown = {**measured["shown"][f"{identifier}.{index}"], "polylogit": probes.allowed(probe)[0]}
        for number, column in enumerate(columns):
            value = shown[column]
            x = left + width * number
            fill = "good" if probes.agrees(value, probe) else "faint" if value == "not offered" else "bad"
            if fill == "bad":
                box = f'x="{x + 3}" y="{y + 4}" width="{width - 6}" height="{height - 8}" rx="4"'
                out.append(f'<rect {box} fill="{theme["tint"]}"/>')
            text(x + width / 2, y + 22, _cell(value), fill, 'text-anchor="middle" font-size="12"')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _cell(value: str) -> str:
    if value.startswith("[") and "," not in value:
        return value.strip("[]")
    return "raises" if value.endswith("Error") else value.replace("[0.", "[.").replace(", 0.", ", .")


def main() -> None:
    """Measure, and write the numbers and the pictures."""
    for framework in ("torch", "tensorflow", "jax"):  # in this order
        importlib.import_module(framework)
    measured = measure()
    if "--json" in sys.argv:
        print(json.dumps(measured["shown"]))
        return
    measured |= {"setting": settings.here(), "elsewhere": settings.elsewhere(__file__)}
    probes.NATIVE.write_text(json.dumps(measured, indent=1) + "\n")
    for name, theme in THEMES.items():
        (probes.NATIVE.parent / name).write_text(draw(measured, theme))


if __name__ == "__main__":
    main()
