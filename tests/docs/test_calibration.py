"""The page about calibration shows what its program prints, and the temperature does what the page says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import polylogit

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    path = DOCS / "examples" / "calibration.py"
    specification = importlib.util.spec_from_file_location("calibration", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_program_prints(calibration: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    calibration.main()
    printed = capsys.readouterr().out
    shown = (DOCS / "_static" / "calibration.txt").read_text()
    assert re.sub(r"[\d.]+", "#", printed) == re.sub(r"[\d.]+", "#", shown)
    # The solver of scikit-learn stops a little elsewhere on another processor, so that a last digit may be another.
    for ours, theirs in zip(*(re.findall(r"\d+(?:\.\d+)?", text) for text in (printed, shown)), strict=True):
        assert abs(float(ours) - float(theirs)) < 1.5 * 10.0 ** -len(theirs.partition(".")[2]), (ours, theirs)


def test_calibrated_the_likelihood_is_greater_and_the_slope_is_its_derivative(calibration: ModuleType) -> None:
    held_out, held_out_labels, test, labels = calibration.logits_of_digits()
    temperature = calibration.fitted(held_out, held_out_labels)
    assert abs(calibration.slope(held_out, held_out_labels, temperature)) < 1e-7
    before, after = (
        calibration.reliability(polylogit.softmax(test, temperature=value), labels) for value in (1.0, temperature)
    )
    assert after.ece < before.ece / 2
    assert calibration.nll(test, labels, temperature) < calibration.nll(test, labels, 1.0)
    step = 1e-5
    either = [calibration.nll(test, labels, 1.0 + sign * step) for sign in (1, -1)]
    assert calibration.slope(test, labels, 1.0) == pytest.approx((either[0] - either[1]) / (2 * step), rel=1e-6)
