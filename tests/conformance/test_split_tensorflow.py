"""TensorFlow's layouts over two logical devices, and values for each replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .split_arrays import asked, found, right

if TYPE_CHECKING:
    from polylogit.conformance import Report


@pytest.fixture(scope="module")
def report() -> Report:
    return asked("tensorflow", 2)


def test_nothing_disagrees(report: Report) -> None:
    assert report.status == 0, report.summary()


@pytest.mark.parametrize("case", ["along the row, masked", "beside the row", "a vocabulary"])
def test_eager_values_and_layout(report: Report, case: str) -> None:
    right(found(report, "values", case))


def test_reverse_mode(report: Report) -> None:
    right(found(report, "vjp", "along the row, masked"))


def test_forward_mode_is_tensorflows_gap(report: Report) -> None:
    for one in found(report, "jvp", "along the row, masked"):
        assert one.verdict == "unsupported"
        assert "forward mode" in one.message


@pytest.mark.parametrize(
    "fact", ["values for each replica are refused outside of run", "values for each replica inside of run"]
)
def test_replicas(report: Report, fact: str) -> None:
    right(found(report, "sharded", fact))
