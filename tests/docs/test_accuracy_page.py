"""The page of the accuracy says and shows what was measured, and the measuring finds the errors that are there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit

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


tool("settings"), tool("plotting")
page, measuring = tool("accuracy_page"), tool("measure_accuracy")
MEASURED = json.loads(page.MEASURED.read_text())


def test_the_tables_are_made_from_what_was_measured() -> None:
    text = page.PAGE.read_text()
    assert page.tables(MEASURED) in text, "run python tools/accuracy_page.py"
    assert text == page.page(text, MEASURED)


@pytest.mark.parametrize("name", sorted(page.pictures(MEASURED)))
def test_the_plots_are_drawn_from_what_was_measured(name: str) -> None:
    drawn = page.pictures(MEASURED)[name]
    assert (page.MEASURED.parent / name).read_text() == drawn, "run python tools/accuracy_page.py"
    assert name in page.PAGE.read_text()


def test_everyone_is_measured_at_everything() -> None:
    operations = ("softmax", "log_softmax", "sigmoid")
    assert set(MEASURED["worst"]) == {page.UNITS, *operations, *(f"gradient of {name}" for name in operations)}
    for table, dtypes in MEASURED["worst"].items():
        without = {"scipy"} if table.startswith("gradient") else set()  # SciPy has none
        for found in dtypes.values():
            assert set(found) == {*page.OURS, *page.THEIRS} - without


def test_what_is_above_its_bound_is_bold_and_named() -> None:
    tables = page.tables(MEASURED)
    for table, dtypes in MEASURED["worst"].items():
        for found in dtypes.values():
            above = [one for one in found.values() if one["worst"] > 1 and table != page.UNITS]
            assert all(f"**{page._amount(one['worst'])}**" in tables for one in above)
            assert all(one["case"] in tables for one in above)


@pytest.mark.parametrize("units", [0, 1, 5, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_function_that_is_units_off_is_measured_so(dtype: str, units: int) -> None:
    def off(x: Any) -> Any:
        y = polylogit.sigmoid(x.astype(np.float64)).astype(dtype)
        return y + units * np.spacing(y)

    subject = measuring.Subject("off", polylogit.get_backend("numpy"), {"sigmoid": off}, False)
    ledger = measuring.Ledger()
    case = measuring.Case("a few", np.linspace(-30.0, -0.1, 500).reshape(1, -1), "sigmoid")
    measuring._measure_values(ledger, [subject], "sigmoid", dtype, case)
    drawn = max(error for error in ledger.curves["sigmoid"][dtype]["off"] if error is not None)
    assert units <= drawn <= units + 2
    # Nearest to 0 the bound is least: 8 + 2 * 0.1 units.
    assert 0.9 * units / 8.2 <= ledger.worst["sigmoid"][dtype]["off"]["worst"] <= (1 + 1e-3) * drawn / 8.2


def test_a_probability_lost_near_0_is_measured_so() -> None:
    def naive(x: Any, axis: int) -> Any:
        return x - np.log(np.exp(x).sum(axis, keepdims=True))

    numpy = polylogit.get_backend("numpy")
    ours = measuring.Subject("ours", numpy, {"log_softmax": polylogit.log_softmax}, False)
    theirs = measuring.Subject("naive", numpy, {"log_softmax": naive}, False)
    ledger = measuring.Ledger()
    case = measuring.Case("a lead of 30", np.array([[0.0, -30.0]]), "near zero")
    measuring._measure_values(ledger, [ours, theirs], "log_softmax", "float32", case)
    found = ledger.worst[page.UNITS]["float32"]
    assert found["ours"]["worst"] <= 8
    assert found["naive"]["worst"] > 2.0**22  # all of it


def test_what_is_flushed_counts_as_no_error_where_it_may_be() -> None:
    definition = measuring.DEFINITIONS["sigmoid"]
    value = definition.value(measuring.exact(definition.exact, np.array([-90.0, -1.0])))
    error, flushed = measuring._off(value, np.zeros(2), 4 * measuring.finfo("float32").smallest_normal)
    assert flushed.tolist() == [True, False]
    assert error[0] == 0
    assert error[1] == value.hi[1]
