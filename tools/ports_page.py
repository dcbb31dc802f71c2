"""The page of ports that were measured: ``python tools/ports_page.py FILE...`` makes it of what `ports` stored.

Each file is from one run of `ports` with ``--json``; the tables are of all of them together.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent
PAGE = TOOLS.parent / "docs" / "porting" / "measured.md"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(TOOLS))
import ports_big  # noqa: E402
from ports import EFFECT, Row, Said, table  # noqa: E402
from ports_faults import FAULTS  # noqa: E402

_TOP = """\
# How well it does

Made by `tools/ports.py` and `tools/ports_page.py`, not written by hand. Small models with random weights, 4 layers of
width 64 unless said, are ported from PyTorch by transformers' own conversion, written again in Keras, or exported to
ONNX. Faults are put into each port, one at a time, and `compare` is asked. The truth is float64 of the original.
"""


def _rows(stored: list[dict[str, Any]]) -> list[Row]:
    found = [Row(**one) for file in stored for one in file.get("ports", ())]
    for row in found:
        row.said = {way: Said(**said) for way, said in row.said.items()}  # type: ignore[arg-type]
    return found


def _faults(rows: list[Row]) -> list[str]:
    """The faults that were put in, and the causes that are right."""
    lines = ["| fault | models | right |", "|---|---|---|"]
    for fault in FAULTS:
        if models := [
            model for model in fault.models if any((row.model, row.fault) == (model, fault.name) for row in rows)
        ]:
            lines.append(f"| {fault.name} | {', '.join(models)} | {', '.join(sorted(fault.causes)) or 'unknown'} |")
    return lines


def _missed(rows: list[Row]) -> list[str]:
    """What was not noticed, or named wrongly, or a right port accused."""
    lines = []
    for row in rows:
        for way, said in row.said.items():
            title = f"* {row.model} in {row.port}, {way}: {row.fault or 'right'}"
            if row.kind == "right" and said.noticed:
                lines.append(f"{title}: {said.differ} of {said.activations} accused")
            elif row.kind == "fault" and not said.noticed:
                lines.append(f"{title}: {said.status}, {row.times:.2g} times as far from float64 as the original")
            elif row.kind == "fault" and row.wrong_name(way):
                lines.append(f"{title}: called `{said.cause}`")
    return lines or ["Nothing."]


def page(stored: list[dict[str, Any]]) -> str:
    """The page."""
    rows = _rows(stored)
    versions = {package: version for file in stored for package, version in file["versions"].items()}
    left = sorted({f"{row.model} in {row.port}: {row.fault}" for row in rows if not row.said})
    big = [one for file in stored for one in file.get("big", ())]
    parts = [
        _TOP,
        "Versions: " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".\n",
        "\n".join(table(rows)) + "\n",
        "## What is still missed\n",
        "\n".join(_missed(rows)) + "\n",
        "## The faults\n",
        "\n".join(_faults(rows)) + "\n",
        f"Left out, less than {EFFECT:g} times as far from float64 as the original or impossible there: "
        + ("; ".join(left) or "none") + ".\n",
    ]  # fmt: skip
    if big:
        parts += ["## Time and memory\n", "\n".join(ports_big.lines(big)) + "\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page([json.loads(Path(name).read_text()) for name in sys.argv[1:]]))
