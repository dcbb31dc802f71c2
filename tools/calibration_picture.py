"""Draw the reliability diagram for the page on calibration, and store the output of its program.

    python tools/calibration_picture.py

Writes ``docs/_static/calibration.txt``, ``docs/_static/calibration.svg`` and ``docs/_static/calibration-dark.svg``.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from plotting import Axis, Figure, Panel, Style, draw

import polylogit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "examples"))
import calibration  # noqa: E402

STATIC = ROOT / "docs" / "_static"
THEMES = {
    "calibration.svg": {"ink": "#1f2328", "faint": "#59636e", "line": "#d1d9e0", "paper": "#ffffff", "blue": "#0969da"},
    "calibration-dark.svg": {
        "ink": "#e6edf3", "faint": "#9198a1", "line": "#3d444d", "paper": "#14181e", "blue": "#58a6ff",
    },
}  # fmt: skip
DESCRIPTION = (
    "Two reliability diagrams, accuracy against confidence. As trained, the points lie below the diagonal: the model "
    "is surer than it is right. Over the temperature they lie along it."
)


def figure() -> Figure:
    """Two panels over the same axes, before and after."""
    held_out, held_out_labels, test, labels = calibration.logits_of_digits()
    temperature = calibration.fitted(held_out, held_out_labels)
    panels = []
    for name, value in (("As trained", 1.0), (f"Over a temperature of {temperature:.2f}", temperature)):
        seen = calibration.reliability(polylogit.softmax(test, temperature=value), labels)
        panels.append(
            Panel(
                title=f"{name}: ECE {seen.ece:.1%}",
                x=Axis("confidence", 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
                y=Axis("accuracy", 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
                lines=[[(float(x), float(y)) for x, y in zip(seen.confidence, seen.accuracy, strict=True)]],
                limit=[(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)],
                limit_name="as sure as right",
            )
        )
    style = Style("images of one bin of confidence", "blue", "circle", 2.0, every=1)
    return Figure(DESCRIPTION, [("Digits not seen in training", [style])], [panels], height=330)


def main() -> None:
    """Write the files."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        calibration.main()
    (STATIC / "calibration.txt").write_text(printed.getvalue())
    drawn = figure()
    for name, theme in THEMES.items():
        (STATIC / name).write_text(draw(drawn, theme))


if __name__ == "__main__":
    main()
