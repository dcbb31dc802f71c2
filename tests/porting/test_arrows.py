"""Imports in porting point one way: from the command down to the dtypes, never in a circle."""

from __future__ import annotations

import ast
import graphlib
import importlib
from pathlib import Path

import polylogit.porting

FOLDER = Path(polylogit.porting.__file__).parent
# For each: what may not be imported there, because it stands above.
FORBIDDEN = {
    "results": ("report", "compare", "call", "record", "files", "command"),
    "report": ("compare", "call", "record", "files", "command"),
    "diagnosis": ("results", "report", "compare", "call", "record", "files", "command"),
    "diagnosis.faults": ("diagnosis.judge",),
    "record": ("call", "compare", "diagnosis", "report"),
}


def imports() -> dict[str, set[str]]:
    """Module -> the modules of porting that it imports, those for type checkers included."""
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        targets = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names} | {
            str(node.module) for node in nodes
        }
        found[name] = {
            target.removeprefix("polylogit.porting.") for target in targets if "polylogit.porting." in target
        }
    return found


def test_nothing_imports_what_stands_above_it() -> None:
    found = imports()
    assert len(found) > 20
    for below, above in FORBIDDEN.items():
        for name, targets in found.items():
            if name == below or name.startswith(f"{below}."):
                wrong = [one for one in targets for it in above if one == it or one.startswith(f"{it}.")]
                assert not wrong, (name, wrong)


def test_there_is_no_circle() -> None:
    found = imports()
    # A package that imports its own modules is no circle of one.
    modules = {name: {target for target in targets if target in found} - {name} for name, targets in found.items()}
    order = list(graphlib.TopologicalSorter(modules).static_order())
    assert set(order) == set(found)
    for name in order:
        importlib.import_module(f"polylogit.porting.{name}".rstrip("."))
