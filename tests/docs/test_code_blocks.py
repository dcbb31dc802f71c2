"""Every Python block of the README and of the documentation runs, in order, and shows what the page says.

A block with a caption is a file of that name, which the blocks after it can import.
"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)])
BLOCK = re.compile(r"^```(?:python|{code-block} python\n:caption: (\S+)\n)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FRAMEWORK = re.compile(r"\b(torch|tensorflow|jax|flax|equinox|dask|xarray|pandas|polars)\b")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path) -> list[tuple[int, str | None, str]]:
    """The line on which each block starts, its caption and its code."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start(2)), match[1], match[2]) for match in BLOCK.finditer(text)]


def parameters() -> list[object]:
    out = []
    for page in PAGES:
        if found := blocks(page):
            needed = sorted({name for _, _, code in found for name in FRAMEWORK.findall(code)})
            marks = [pytest.mark.requires(*needed)] if needed else []
            out.append(pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks))
    return out


@pytest.fixture
def printing_as_before() -> Iterator[None]:
    """Pages set how many digits are shown, for NumPy and for PyTorch."""
    with np.printoptions():
        yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_printoptions(profile="default")


@pytest.mark.parametrize("page", parameters())
@pytest.mark.usefixtures("printing_as_before", "registry_kept")
def test_the_blocks_of_a_page_run_and_show_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    problems: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for line, caption, code in blocks(page):
        if caption:
            (tmp_path / caption).write_text(code)
        elif ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
            test.globs = names  # the parser makes a copy; what a block defines is there for the next
            runner.run(test, out=problems.append, clear_globs=False)
        else:
            # Lines are counted from the page's top, for tracebacks.
            exec(compile("\n" * line + code, str(page), "exec"), names)
    assert not problems, "\n".join(problems)
