"""The report that the documentation shows is one that is written today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "report_picture.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    specification = importlib.util.spec_from_file_location("report_picture", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def parts(page: str) -> tuple[str, list[str], list[str]]:
    """The style, and what does not depend on the last digits: the tags with the names, and the verdicts in order."""
    tree = page.partition('<div class="tree"')[2].partition("</div>")[0]
    style = page.partition("<style>")[2].partition("</style>")[0]
    return style, re.findall(r"<li[^>]*>|<details[^>]*>|<code>[^<]*", tree), re.findall(r'"state[^>]*>([^<]*)', tree)


def test_the_page_has_the_look_and_the_verdicts_of_today(tool: Any, tmp_path: Path) -> None:
    found = tool.found()
    found.to_html(tmp_path / "report.html")
    assert found.first_divergence == f"h.{tool.AT_FAULT}.attn"
    assert found.cause.name == "scaled-logits"
    today = parts((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(today[2]) > 8 * tool.LAYERS
    assert parts(tool.PAGE.read_text(encoding="utf-8")) == today, "run python tools/report_picture.py"


def test_its_pictures_are_there_in_both_themes(tool: Any) -> None:
    for picture in tool.PICTURES:
        head = picture.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert (int.from_bytes(head[16:20]), int.from_bytes(head[20:24])) == (tool.WIDTH, tool.HEIGHT)
