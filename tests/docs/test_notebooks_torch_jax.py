"""The notebooks run from top to bottom, and show what is stored in them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def load(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with np.printoptions():
        today = load(ROOT / "tools" / "notebook.py").run(notebook)
    assert len(today) == len(cells) > 5
    for cell, outputs in zip(cells, today, strict=True):
        if "machine" in cell["metadata"].get("tags", ()):
            assert kinds(outputs) == kinds(cell["outputs"])
        else:
            assert rounded(outputs) == rounded(cell["outputs"]), "run python tools/notebook.py"


def kinds(outputs: list[Any]) -> list[Any]:
    return [(one["output_type"], sorted(one.get("data", ()))) for one in outputs]


def rounded(outputs: list[Any]) -> list[Any]:
    """Without the last digits, which differ between processors."""
    shown = [
        "".join(one.get("text", ())) or {kind: "".join(text) for kind, text in one["data"].items()} for one in outputs
    ]
    return [re.sub(r"\d+\.\d+(e[-+]?\d+)?", lambda found: f"{float(found[0]):.2g}", str(one)) for one in shown]


def test_a_long_output_is_short_as_text() -> None:
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", ()):
                assert len("".join(output.get("data", {}).get("text/plain", ()))) < 500


def test_a_notebook_becomes_a_page_with_its_code_and_outputs() -> None:
    page = load(ROOT / "docs" / "_extensions" / "notebooks.py").markdown(NOTEBOOKS[0].read_text(encoding="utf-8"))
    assert page.startswith("# A notebook\n")
    assert "````{code-block} python\n\nreport\n````" in page
    assert page.count("<table") >= 3
