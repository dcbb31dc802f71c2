"""The plan of the house holds: who knows a framework, and the picture in CONTRIBUTING."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import polylogit
from frameworks import FRAMEWORKS

SOURCE = Path(polylogit.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
# Those that know frameworks: what installs them; which packages define whose arrays; how models of libraries are
# recorded, followed call by call, run in another precision, and read from files; how arrays are split over devices.
_LIBRARIES = {f"porting/{name}.py" for name in ("_exact", "_formats", "_trace", "_watch")}
KNOWING = {
    "_extras.py",
    "_registry.py",
    "_types.py",
    *_LIBRARIES,
    *(name for name in MODULES if name.startswith(("porting/_recorders/", "conformance/_sharded/engines/"))),
}


def named_in(path: Path) -> set[str]:
    """The frameworks that a module imports or has as a whole string, docstrings left out."""
    tree = ast.parse(path.read_text())
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found & (set(FRAMEWORKS) - {"numpy"})


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("_backends/")])
def test_frameworks_are_known_to_their_backends_the_registry_and_the_recorders(module: str) -> None:
    assert (named_in(SOURCE / module) != set()) <= (module in KNOWING)


def test_the_picture_shows_the_layers_that_the_linter_enforces() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    picture = (ROOT / "CONTRIBUTING.md").read_text().partition("```text\n")[2].partition("```")[0]
    drawn = [line.split("  ")[0].strip() for line in picture.splitlines() if line.strip() not in ("", "↓")]
    assert drawn == [layer.replace(" | ", " ") for layer in contract["layers"]]
