"""The page about arrays in parts says what was measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("sharding_page", ROOT / "tools" / "sharding_page.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_report() -> None:
    program = tool()
    text = program.PAGE.read_text()
    assert program.page(text, json.loads(program.MEASURED.read_text())["results"]) == text


def test_what_was_measured_agreed() -> None:
    report = json.loads(tool().MEASURED.read_text())
    assert report["status"] == 0
    assert {one["subject"] for one in report["results"]} == {
        f"{name}+{parts} parts" for name in ("jax", "tensorflow", "torch") for parts in (2, 4)
    }
