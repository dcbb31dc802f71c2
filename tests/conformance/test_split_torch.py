"""DTensors over two processes that talk by gloo; what is exact and what is enough to exchange is the kit's to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .split_arrays import asked, found, numbers_a_row, right

if TYPE_CHECKING:
    from polylogit.conformance import Report


@pytest.fixture(scope="module")
def report() -> Report:
    return asked("torch", 2)


def test_every_case_passes(report: Report) -> None:
    assert report.status == 0, report.summary()
    assert report.counts == {"passed": len(report.results)}


@pytest.mark.parametrize("case", ["along the row, masked", "uneven parts", "parts without entries", "beside the row"])
def test_values_and_placement(report: Report, case: str) -> None:
    right(found(report, "values", case))


@pytest.mark.parametrize("check", ["values", "vjp", "jvp"])
def test_a_row_costs_one_number_in_each_exchange(report: Report, check: str) -> None:
    for one in found(report, check, "along the row, masked"):
        assert numbers_a_row(one, rows=4) == 1


def test_a_row_that_is_whole_costs_nothing(report: Report) -> None:
    for one in found(report, "values", "beside the row"):
        assert one.details["bytes exchanged"] == 0


def test_a_rank_takes_no_more_than_its_result_and_one_intermediate(report: Report) -> None:
    for one in found(report, "values", "a vocabulary"):
        if "memory beyond the part" in one.details:  # where the system tells
            assert one.details["memory beyond the part"] < 2.5 * one.details["part"]


@pytest.mark.parametrize(
    "fact",
    [
        "a mask that is no DTensor is refused",
        "log_softmax under loss_parallel has a derivative for every cotangent",
        "nll_loss of log_softmax under loss_parallel",
        "parts that are yet to be added",
        "the derivative of a derivative",
        "compiled in one graph",
    ],
)
def test_what_is_shown_besides(report: Report, fact: str) -> None:
    right(found(report, "sharded", fact))
