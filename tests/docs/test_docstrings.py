"""The examples in the docstrings show what they say, and everything public has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import polylogit

SOURCE = Path(polylogit.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    """By their text, so that none is imported whose framework is missing."""
    out = []
    for path in sorted(SOURCE.rglob("*.py")):
        if ">>>" in path.read_text():
            parts = path.relative_to(SOURCE.parent).with_suffix("").parts
            out.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return out


def needs(module: str) -> list[str]:
    """The frameworks that the examples use, and the one that the module itself imports."""
    source = importlib.util.find_spec(module).origin
    examples = re.findall(r"^ *(?:>>>|\.\.\.) .*$", Path(source).read_text(), re.MULTILINE)
    words = set(re.findall(r"\w+", " ".join(examples))) | {module.rpartition(".")[2]}
    return [name for name in ("torch", "tensorflow", "jax") if name in words]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.requires(*needs(name))) for name in modules_with_examples()]
)
@pytest.mark.usefixtures("registry_kept")
def test_the_examples_of_a_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    problems: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    tried = 0
    for test in doctest.DocTestFinder().find(module):
        tried += len(test.examples)
        runner.run(test, out=problems.append)
    assert tried
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", [name for name in polylogit.__all__ if not name.startswith("__")])
def test_everything_public_is_documented(name: str) -> None:
    docstring = inspect.getdoc(getattr(polylogit, name))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", "?"))


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
