"""Tensors stay on their device and none is read back, as far as that can be seen without one.

Under PyTorch's fake tensors a "CUDA" tensor has a shape, a dtype and a device and no values: what needs a value raises,
as does what mixes devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import polylogit
from polylogit import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
ARGUMENTS: tuple[dict[str, Any], ...] = ({"axis": 0}, {"axis": (0, 1)}, {"axis": None}, {"where": ...})


@pytest.fixture
def fake() -> Iterator[None]:
    with FakeTensorMode():
        yield


class Calls(TorchDispatchMode):
    """The names of the operations that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def ways(operation: str, x: torch.Tensor) -> Iterator[dict[str, Any]]:
    yield {}
    yield {"dtype": "float32"}
    for given in ARGUMENTS if operation != "sigmoid" else ():
        yield {"where": x > 0} if "where" in given else given


@pytest.mark.parametrize("dtype", [*FLOATING, torch.int32, torch.bool], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_lie_where_the_logits_do_and_no_value_is_read(fake: None, operation: str, dtype: torch.dtype) -> None:
    x = torch.ones(3, 600, device="cuda").to(dtype)
    for given in ways(operation, x):
        assert getattr(polylogit, operation)(x, **given).device == x.device, given


@pytest.mark.parametrize("operation", OPERATIONS)
def test_derivatives_read_no_value(fake: None, operation: str) -> None:
    # On the CPU, since autograd asks the driver about tensors of CUDA; its path is the longer one.
    function, x = getattr(polylogit, operation), torch.ones(3, 600)
    y, pullback = polylogit.vjp(function, x)
    assert pullback(torch.ones_like(y)).shape == x.shape
    assert polylogit.jvp(function, x, torch.ones_like(x))[1].shape == x.shape


def test_a_value_that_was_read_would_be_noticed(fake: None) -> None:
    with pytest.raises(DataDependentOutputException):
        bool(torch.ones((), device="cuda") > 0)


def test_a_mask_of_the_host_goes_to_the_logits_and_a_tensor_elsewhere_is_refused(fake: None) -> None:
    x = torch.ones(3, 600, device="cuda")
    assert polylogit.softmax(x, where=[True] * 600).device == x.device
    assert polylogit.softmax(x, where=True).device == x.device
    assert polylogit.softmax(x, where=np.ones(600, bool), backend="torch").device == x.device
    mask = torch.ones(600, dtype=torch.bool)
    with pytest.raises(errors.MaskError, match=r"where= lies on cpu and x on cuda:0; .*: where\.to\(x\.device\)"):
        polylogit.softmax(x, where=mask)
    assert polylogit.softmax(x, where=mask.to(x.device)).device == x.device


@pytest.mark.parametrize(("operation", "native"), [("softmax", "_softmax"), ("log_softmax", "_log_softmax")])
def test_rows_of_float64_that_cuda_may_cut_short_are_not_left_to_its_kernel(
    fake: None, operation: str, native: str
) -> None:
    def calls(length: int, dtype: torch.dtype) -> list[str]:
        x = torch.ones(2, length, device="cuda", dtype=dtype)
        with Calls() as seen:
            getattr(polylogit, operation)(x)
        return seen.names

    for length in (513, 781, 1023):
        assert native not in calls(length, torch.float64)
        assert native in calls(length, torch.float32)
    for length in (512, 1024, 128_256):
        assert native in calls(length, torch.float64)
