"""The page of all causes is made from the table, and has a title for each family."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from polylogit.porting._diagnosis.faults import FAMILIES, FAULTS, GRADIENT_FAULTS

TOOL = Path(__file__).resolve().parents[2] / "tools" / "causes_page.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("causes_page", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_of_causes_is_made_from_the_table() -> None:
    page = tool()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python tools/causes_page.py"


def test_the_page_has_every_cause_once_under_a_title() -> None:
    page = tool()
    text = page.page()
    assert set(page.WORDS) == set(FAMILIES)
    for name in (*FAULTS, *GRADIENT_FAULTS):
        assert text.count(f"### {name}\n") == 1
    assert set(page.PICTURES) <= set(FAULTS)
