"""What only a GPU can show of PyTorch; `tools/cuda.py` measures the rest there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import polylogit
from polylogit import conformance

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = ("softmax", "log_softmax", "sigmoid")


@pytest.fixture
def without_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_call_waits_for_the_device(without_waiting: None, operation: str, dtype: torch.dtype) -> None:
    x, function = torch.ones(3, 600, device="cuda", dtype=dtype), getattr(polylogit, operation)
    assert function(x).device == x.device
    y, pullback = polylogit.vjp(function, x)
    assert pullback(torch.ones_like(y)).device == x.device
    if operation != "sigmoid":
        for given in ({"axis": 0}, {"axis": None}, {"axis": (0, 1)}, {"where": x > 0}):
            assert function(x, **given).device == x.device


def test_the_contract_holds() -> None:
    report = conformance.run(["torch"], device="cuda", level="quick")
    assert report.passed, report.summary()


@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
def test_no_row_of_float64_is_cut_short(operation: str) -> None:
    for length in range(500, 1030):
        x = torch.zeros(2, length, dtype=torch.float64, device="cuda")
        y = getattr(polylogit, operation)(x)
        total = (y if operation == "softmax" else y.exp()).sum(-1)
        assert float((total - 1).abs().max()) < 2.0**-40, length
