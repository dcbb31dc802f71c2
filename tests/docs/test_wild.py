"""The program that says what the kit finds in implementations of others: adapters, findings, the lines of each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mpmath
import numpy as np
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


adapters, findings, wild = (tool(name) for name in ("wild_adapters", "wild_findings", "wild"))
BY_NAME = {one.name: one for one in findings.FINDINGS}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_lines_of_a_finding_need_nobody_but_its_authors(name: str) -> None:
    code = BY_NAME[name].code
    assert "polylogit" not in code
    assert len(code.strip().splitlines()) <= 5
    compile(code, name, "exec")


def test_a_right_implementation_passes_and_is_told_so() -> None:
    found = wild.run(adapters.ADAPTERS["scipy.special.expit"])
    assert set(found["verdicts"]) <= {"passed", "unsupported"}
    assert found["versions"]["scipy"]


def test_unsigned_logits_are_found_in_scipy_and_verified() -> None:
    found = wild.shown(BY_NAME["SciPy: unsigned logits wrap"])
    assert found["holds"]
    assert "nan" in found["printed"]


def test_what_is_not_installed_is_said_to_be_missing() -> None:
    adapter = adapters.Adapter("none", ("no-such-package",), "softmax", "numpy", lambda: np.exp)
    assert wild.run(adapter)["missing"] == ["no-such-package"]


@pytest.mark.parametrize("name", [one.name for one in findings.FINDINGS if not one.crashes])
def test_no_finding_holds_against_what_is_exact(name: str) -> None:
    finding = BY_NAME[name]
    values, _ = findings.exact(finding, 3)
    dtype = {"float64": np.float64}.get(finding.dtype, np.float32)
    right = [float(dtype(float(value))) if mpmath.isfinite(value) else float(value) for value in values]
    assert not findings.judged(finding, right)["holds"]
