"""The page of the kit's checks is made from the table that the kit runs, and up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from polylogit.conformance._checks import CHECKS

TOOL = Path(__file__).resolve().parents[2] / "tools" / "checks_page.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("checks_page", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_what_the_program_writes() -> None:
    page = tool()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python tools/checks_page.py"


def test_every_check_says_what_it_asks_in_one_line() -> None:
    assert all(check.__doc__ and "\n" not in check.__doc__ for check in CHECKS.values())
    assert set(tool().TYPICAL) == set(CHECKS)
