"""The page on errors is made from the exceptions and from the table of mistakes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import remedies
from polylogit import errors

TOOL = Path(__file__).resolve().parents[2] / "tools" / "errors_page.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("errors_page", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_on_errors_is_made_from_the_table() -> None:
    page = tool()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python tools/errors_page.py"


def test_the_page_has_every_exception_and_every_object() -> None:
    text = tool().page()
    for name in errors.__all__:
        assert text.count(f"\n| `{name}` |") == 1
    for row in remedies.OBJECTS:
        assert f"\n| {row.what} |" in text
