"""The table of the contract is what polylogit does, what the page says, and what the tests keep."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    """A module of tools, which is no package."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


tool("settings")
probes = tool("probes")
ROWS = probes.rows()
PROBES = [
    pytest.param(probe, name, id=f"row{row['id']}-{index}-{name}", marks=pytest.mark.contract(row["id"]))
    for row in ROWS
    for index, probe in enumerate(row.get("probe", ()))
    for name in probe.get("frameworks", probes.FRAMEWORKS)
    if importlib.util.find_spec(name) is not None
]


def test_the_contract_has_30_rows_in_order() -> None:
    assert [row["id"] for row in ROWS] == list(range(1, 31))


@pytest.mark.parametrize(("probe", "framework"), PROBES)
def test_every_call_of_the_table_shows_the_same_on_every_backend(probe: dict[str, Any], framework: str) -> None:
    assert probes.run(probe, framework, native=False) in probes.allowed(probe)


def test_the_page_is_made_from_the_table() -> None:
    page = tool("contract_page")
    assert page.PAGE.read_text() == page.page(), "run python tools/contract_page.py"


def contract_marks() -> set[int]:
    """The rows named by ``pytest.mark.contract`` in the test files, read and not run."""
    rows: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.contract":
                rows.update(arg.value for arg in node.args if isinstance(arg, ast.Constant))
    return rows


@pytest.mark.parametrize("row", range(1, 31))
def test_every_row_has_tests_of_its_own(row: int) -> None:
    assert row in contract_marks()
