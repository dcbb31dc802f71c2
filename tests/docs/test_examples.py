"""The kernels of docs/examples: the right ones pass, and of the wrong one the kit says what is wrong."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polylogit import conformance

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return importlib.import_module(request.param)


@pytest.mark.requires("torch")
@pytest.mark.parametrize("example", ["torch_softmax"], indirect=True)
def test_the_custom_operator_is_right_in_values_and_gradients(example: ModuleType) -> None:
    report = conformance.check(example.softmax, "softmax", backend="torch", level="quick")
    assert report.passed, report.summary()
    passed = {result.check for result in report.results if result.verdict == "passed"}
    assert passed >= {"values", "special", "vjp", "compiled", "laws", "threads"}


@pytest.mark.parametrize("example", ["streaming_softmax"], indirect=True)
def test_the_fault_is_named(example: ModuleType) -> None:
    report = conformance.check(example.softmax, "softmax", level="quick")
    assert report.status == 1
    rows = {result.details["row"] for result in report.failures if result.check == "values"}
    assert rows
    # Nothing but rows that begin with a block of -inf, the deliberate fault, and what kept one from the first finite.
    assert all("-inf" in row or row.startswith(("only last", "peak at")) for row in rows), rows
    assert "got nan" in report.failures[0].message


def test_the_kernel_compiled_by_numba_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    report = conformance.check(importlib.import_module("numba_softmax").softmax, "softmax", level="quick")
    assert report.passed, report.summary()
    assert {result.dtype for result in report.results if result.verdict == "passed"} == {"float32"}
