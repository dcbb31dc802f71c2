"""What the ports of transformers' models print is shown by the pages as it was printed, by the programs as they are."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("port_output", ROOT / "tools" / "port_output.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


output = tool()
PAGES = [ROOT / "docs" / "porting.md", *sorted((ROOT / "docs" / "porting").glob("*.md"))]
INCLUDED = [
    (page, *found)
    for page in PAGES
    for found in re.findall(r"```\{literalinclude\} (?:porting/)?(\w+)\.txt\n(.*?)```", page.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("name", output.PROGRAMS)
def test_what_is_stored_was_printed_by_the_program_as_it_is(name: str) -> None:
    first, rest = output.stored(name)
    assert f"{name}.py ({output.digest(name)}), " in first, f"run python tools/port_output.py {name}"
    assert "Traceback" not in rest
    compile((output.FOLDER / f"{name}.py").read_text(), name, "exec")


@pytest.mark.parametrize(("page", "name", "options"), INCLUDED)
def test_a_page_includes_from_one_title_to_the_next(page: Path, name: str, options: str) -> None:
    _, printed = output.stored(name)
    after, before = (re.search(rf":{word}: (\[.*\])", options) for word in ("start-after", "end-before"))
    titles = re.findall(r"^\[.*\]$", printed, re.MULTILINE)
    if not titles:
        return  # all of it is shown
    assert after and before, f"{page.name} includes {name}.txt without titles"  # noqa: PT018
    assert titles.index(before[1]) == titles.index(after[1]) + 1


def test_all_that_is_printed_is_shown_somewhere() -> None:
    shown = {(name, *re.findall(r":start-after: (\[.*\])", options)) for _, name, options in INCLUDED}
    for name in output.PROGRAMS:
        titles = re.findall(r"^\[.*\]$", output.stored(name)[1], re.MULTILINE)
        assert {(name, title) for title in titles if title != "[end]"} <= shown or {(name,)} <= shown, name


def test_numbers_may_differ_from_processor_to_processor_and_words_may_not() -> None:
    assert output.without_numbers("4.5e-07 apart") == output.without_numbers("3e-7 apart")
    assert output.without_numbers("agrees") != output.without_numbers("disagrees")
