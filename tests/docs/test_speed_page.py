"""The benchmarks run, on few elements, and the page of the speed shows what they have stored. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "docs" / "_static" / "speed"


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the benchmarks and the report wrote of a few small cases."""
    found = tmp_path_factory.mktemp("bench")
    few = ("--elements", "1e3", "--rounds", "1", "--seconds", "0")
    run(
        "tests/benchmarks/ratios.py",
        "dispatch",
        "small",
        "arrays",
        "gradients",
        "imports",
        *few,
        "--json",
        str(found / "ratios.json"),
    )
    run("tests/benchmarks/scale.py", "--most", "1e3", "--json", str(found / "scale.json"))
    run("tools/speed_page.py", str(found))
    return found


def test_every_case_is_measured_beside_another(folder: Path) -> None:
    ratios = json.loads((folder / "ratios.json").read_text())["ratios"]
    assert {one["group"] for one in ratios} == {"dispatch", "small", "arrays", "gradients", "imports"}
    for one in ratios:
        assert one["seconds"] > 0
        assert one["ratio"] == pytest.approx(one["seconds"] / one["other"])
    cases = {one["case"] for one in ratios if one["group"] == "arrays"}
    for operation in ("softmax", "log_softmax", "sigmoid"):
        assert any(case.startswith(operation) for case in cases)


def test_time_and_memory_are_told_for_every_size(folder: Path) -> None:
    found = json.loads((folder / "scale.json").read_text())
    assert [one["elements"] for one in found] == [8, 100, 1000] * 3
    assert all(one["seconds"] > 0 for one in found)


def test_the_report_has_a_table_and_plots(folder: Path) -> None:
    text = (folder / "speed.md").read_text()
    assert "| softmax of (8,) float32 | scipy |" in text
    assert "geometric mean" in text
    if find_spec("matplotlib"):
        for name in ("speed", "speed-dark", "scale", "scale-dark"):
            assert "<svg" in (folder / f"{name}.svg").read_text()


def stored() -> dict[str, Any]:
    """The figures of the page."""
    return json.loads((STORED / "ratios.json").read_text())  # type: ignore[no-any-return]


def test_the_page_shows_the_figures_that_were_stored(tmp_path: Path) -> None:
    for name in ("ratios.json", "scale.json"):
        (tmp_path / name).write_text((STORED / name).read_text())
    run("tools/speed_page.py", str(tmp_path))
    assert (tmp_path / "speed.md").read_text() == (STORED / "speed.md").read_text()
    for plot in ("speed", "speed-dark", "scale", "scale-dark"):
        assert (STORED / f"{plot}.svg").exists()


def test_what_the_page_says_of_scipy_was_measured() -> None:
    over = [one["ratio"] for one in stored()["ratios"] if one["group"] == "arrays" and one["over"] == "scipy"]
    assert len(over) == 50
    assert max(over) < 1, "the plot's description says that all are"
