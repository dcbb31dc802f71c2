"""Draw the layers of the library, which the import linter enforces, as ``docs/_static/house.svg``.

    python tools/house_picture.py

The layers are read from ``pyproject.toml``. The page includes the drawing inline, so it has the page's colours.
tests/docs/test_house_picture.py fails if the committed drawing differs.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "_static" / "house.svg"

WIDTH, NAMES, ROW, BOX, GAP, TOP = 760, 330, 44, 32, 8, 8
SHADES = {"command": 0.06, "check": 0.24, "call": 0.12, "right": 0.36, "shared": 0.03}

# What a layer is for, and which part of the house it belongs to.
WORDS = {
    "__main__": ("python -m polylogit", "command"),
    "_cli": ("the commands", "command"),
    "_overrides | _commands": ("register_implementation; the list of commands", "call"),
    "conformance | porting": ("the kit; comparing a port and naming the cause", "check"),
    "_containers": ("dask, xarray, pandas, polars: unpack, call, pack", "call"),
    "_derivatives | _convert | _info | _outline": ("vjp and jvp; convert; backends; plug-in template", "call"),
    "_functions": ("softmax, log_softmax, sigmoid: look up the type", "call"),
    "_coerce": ("lists, foreign arrays and masks become arrays", "call"),
    "_registry | extend": ("which backend owns a type; names for authors", "call"),
    "_plugins | _remedies": ("others' backends, checked; what to pass instead", "call"),
    "_backends": ("one file per framework; NumPy's kernels in C", "call"),
    "_arguments | _contract": ("wrong keywords; rules on axes, dtypes, masks", "right"),
    "_spec": ("exact values, bounds, the table of the contract", "right"),
    "_operations": ("the three operations, as a table", "right"),
    "_io | _page | _progress": ("files, JSON, the look of the reports", "shared"),
    "_extras | errors | _types": ("exceptions; types in signatures", "shared"),
}


def layers() -> list[str]:
    """From the top: what uses before what is used."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return list(linter["contracts"][0]["layers"])


def svg() -> str:
    """A row for each layer, and an arrow down beside them."""
    rows = layers()
    height = TOP + ROW * len(rows)
    words = "The layers of polylogit, each above those that it uses: " + "; ".join(rows).replace(" |", ",")
    out = [
        f'<svg class="house" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(words)}" '
        'fill="currentColor" stroke="none">'
    ]
    for place, layer in enumerate(rows):
        said, part = WORDS[layer]
        names, y = layer.split(" | "), TOP + ROW * place
        share = (NAMES - GAP * (len(names) - 1)) / sum(len(name) + 2 for name in names)
        x = 28.0
        for name in names:
            wide = share * (len(name) + 2)
            out.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{BOX}" rx="5" fill-opacity="{SHADES[part]}"/>'
            )
            out.append(
                f'<text x="{x + wide / 2:.1f}" y="{y + 21}" text-anchor="middle" {_font(name, wide)}>{name}</text>'
            )
            x += wide + GAP
        out.append(f'<text x="{28 + NAMES + 16}" y="{y + 21}" font-size="14">{escape(said)}</text>')
    end = height - ROW + BOX
    out.append(f'<path d="M10 {TOP} V{end - 8}" stroke="currentColor" stroke-width="2"/>')
    out.append(f'<path d="M5 {end - 9} h10 L10 {end} Z"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _font(name: str, wide: float) -> str:
    size = min(14.0, 1.55 * wide / len(name))
    return f'font-family="ui-monospace, monospace" font-size="{size:.1f}"'


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
