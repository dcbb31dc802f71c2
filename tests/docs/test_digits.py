"""The example trains the same classifier in every installed framework, and the four end in the same place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

PATH = Path(__file__).resolve().parents[2] / "docs" / "examples" / "digits.py"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    specification = importlib.util.spec_from_file_location("digits", PATH)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["digits"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("x64")
def test_every_framework_learns_the_same_weights_as_numpy(digits: ModuleType, backend_name: str, dtype: str) -> None:
    ours, run = digits.train("numpy", dtype), digits.train(backend_name, dtype)
    labels = digits.data()[-1]
    assert run.weights.dtype == dtype
    assert len(run.loss) == 200
    assert run.accuracy(labels)[-1] > 0.94
    assert np.abs(run.weights[-1] - ours.weights[-1]).max() <= digits.TOLERANCE[dtype]


@pytest.mark.usefixtures("x64")
def test_it_prints_what_differs(digits: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    run = digits.train("numpy", "float64")
    assert digits.report({"numpy": run, "again": run}, "float64")
    printed = capsys.readouterr().out
    assert "the weights agree within 1e-10" in printed
    assert all(quantity in printed for quantity in digits.QUANTITIES)


@pytest.mark.usefixtures("x64")
def test_it_says_when_they_disagree(digits: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    run = digits.train("numpy", "float64")
    moved = digits.Run(run.loss, run.logits, run.probabilities, run.weights + 1e-9)
    assert not digits.report({"numpy": run, "moved": moved}, "float64")
    assert "DISAGREE" in capsys.readouterr().out
