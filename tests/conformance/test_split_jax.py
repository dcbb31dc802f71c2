"""Arrays that JAX splits over four devices, and rows that go on over named axes; told by the compiled programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from polylogit.conformance._sharded.engines.jax import collectives

from .split_arrays import asked, found, right

if TYPE_CHECKING:
    from polylogit.conformance import Report

PARTS = 4


@pytest.fixture(scope="module")
def report() -> Report:
    return asked("jax", PARTS)


def test_every_case_passes(report: Report) -> None:
    assert report.status == 0, report.summary()
    assert report.counts == {"passed": len(report.results)}


@pytest.mark.parametrize("case", ["along the row, masked", "two mesh axes along the row"])
def test_values_sharding_and_collectives(report: Report, case: str) -> None:
    right(found(report, "values", case))


def test_a_row_in_parts_costs_a_number_in_each_of_two_exchanges(report: Report) -> None:
    for one in found(report, "values", "a vocabulary"):  # of 8 rows in float32
        right([one])
        assert one.details["bytes exchanged"] == 8 * 4


def test_a_row_that_is_whole_costs_nothing(report: Report) -> None:
    for one in found(report, "values", "beside the row"):
        assert one.details["bytes exchanged"] == 0


def test_a_device_holds_no_row(report: Report) -> None:
    for one in found(report, "values", "a vocabulary"):
        assert one.details["memory beyond the part"] < PARTS * one.details["part"]


@pytest.mark.parametrize("how", ["with", "without"])
@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
def test_named_axes_have_their_derivative_by_either_rule_of_shard_map(report: Report, how: str, operation: str) -> None:
    right(found(report, "sharded", f"shard_map {how} check_vma: {operation}, vjp along the row, masked"))


def test_collectives_are_read_from_the_program() -> None:
    program = """
      %a = f32[4,1]{1,0} all-reduce(f32[4,1]{1,0} %x), channel_id=1
      %b = (f32[2]{0}, bf16[3]{0}) all-reduce-start(%x, %y)
      %c = f32[16,4096]{1,0} all-gather(f32[16,512]{1,0} %z), dimensions={1}
      %d = f32[4]{0} add(%x, %y)
    """
    assert collectives(program) == [
        ("all-reduce", "f32[4,1]", 16),
        ("all-reduce", "(f32[2], bf16[3])", 14),
        ("all-gather", "f32[16,4096]", 16 * 4096 * 4),
    ]
