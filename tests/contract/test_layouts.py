"""Row 20: however the logits lie in memory, the same values; and the logits stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit

from .conftest import Subject, expected_derivative, expected_value
from .exact import check

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = (np.random.default_rng(0).normal(size=(12, 10)) * 5).astype("float32")

# Views that NumPy arrays and PyTorch tensors have alike (PyTorch has no negative strides and flips instead).
NUMPY_VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: x.T,
    "strided": lambda x: x[::3, 1::2],
    "negative strides": lambda x: x[::-1, ::-2],
    "an offset": lambda x: x[1:, 3:],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x[:, :1], (12, 7)),
    "broadcast rows": lambda x: np.broadcast_to(x[0], (5, 10)),
    "moved axes": lambda x: x.reshape(2, 6, 10).transpose(2, 0, 1),
    "overlapping windows": lambda x: np.lib.stride_tricks.sliding_window_view(x[0], 4),
    "big-endian": lambda x: x.astype(">f4"),
    "misaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view("float32").reshape(x.shape),
    "a field": lambda x: np.rec.fromarrays([x, x], names="a,b").view(np.ndarray)["a"],
}


@pytest.mark.contract(20)
@pytest.mark.parametrize("view", NUMPY_VIEWS)
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_numpy_views_give_the_values_of_a_contiguous_array(operation: str, view: str, axis: Any) -> None:
    x = NUMPY_VIEWS[view](BASE)
    before, kwargs = x.copy(), {} if operation == "sigmoid" else {"axis": axis}
    got = getattr(polylogit, operation)(x, **kwargs)
    check(got, expected_value(operation, np.ascontiguousarray(x, "float32"), **kwargs), view)
    np.testing.assert_array_equal(x, before)


@pytest.mark.contract(20)
@pytest.mark.parametrize("view", NUMPY_VIEWS)
def test_numpy_views_are_differentiated_as_a_contiguous_array(operation: str, view: str) -> None:
    x = NUMPY_VIEWS[view](BASE)
    cotangent = np.asfortranarray(np.random.default_rng(1).normal(size=x.shape).astype("float32"))
    got = polylogit.vjp(getattr(polylogit, operation), x)[1](cotangent)
    check(got, expected_derivative("vjp", operation, np.ascontiguousarray(x, "float32"), cotangent), view)


@pytest.mark.contract(20)
def test_numpy_views_are_converted_for_every_backend(eager: Subject, operation: str) -> None:
    for name, view in NUMPY_VIEWS.items():
        x = view(BASE)
        got = getattr(polylogit, operation)(x, backend=eager.name)
        check(eager.numpy(got), expected_value(operation, np.ascontiguousarray(x, "float32")), f"{eager}, {name}")


TORCH_VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: x.T,
    "strided": lambda x: x[::3, 1::2],
    "flipped": lambda x: x.flip(0),
    "an offset": lambda x: x[1:, 3:],
    "expanded": lambda x: x[:, :1].expand(12, 7),
    "moved axes": lambda x: x.reshape(2, 6, 10).permute(2, 0, 1),
    "overlapping windows": lambda x: x[0].unfold(0, 4, 1),
    "channels last": lambda x: x.reshape(2, 3, 4, 5).to(memory_format=__import__("torch").channels_last),
    "negated": lambda x: __import__("torch").complex(x, x).conj().imag,  # a view with the negative bit
}


@pytest.mark.contract(20)
@pytest.mark.requires("torch")
@pytest.mark.parametrize("view", TORCH_VIEWS)
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_pytorch_views_give_the_values_of_a_contiguous_tensor(operation: str, view: str, axis: Any) -> None:
    import torch

    x = TORCH_VIEWS[view](torch.tensor(BASE))
    before, kwargs = x.clone(), {} if operation == "sigmoid" else {"axis": axis}
    got = getattr(polylogit, operation)(x, **kwargs)
    check(got.resolve_neg().numpy(), expected_value(operation, before.contiguous().numpy(), **kwargs), view)
    assert torch.equal(x, before)


@pytest.mark.contract(20)
@pytest.mark.requires("torch")
@pytest.mark.parametrize("axis", [-1, 0])
def test_long_pytorch_views_give_the_values_of_a_contiguous_tensor(row_operation: str, axis: int) -> None:
    import torch

    x = (np.random.default_rng(0).normal(size=(2000, 3000)) * 5).astype("float32")
    view = torch.tensor(x).T[::2, 10:]
    check(
        getattr(polylogit, row_operation)(view, axis).numpy(), expected_value(row_operation, x.T[::2, 10:], axis=axis)
    )


@pytest.mark.contract(20)
def test_read_only_arrays_are_served_and_results_are_writeable(operation: str) -> None:
    for x in (BASE.copy(), BASE[:, 0].copy(), np.float32([1.0]), np.zeros((3, 2000), "float32")):
        x.flags.writeable = False
        y = getattr(polylogit, operation)(x)
        assert y.flags.writeable
        assert not np.shares_memory(x, y)


@pytest.mark.contract(20)
def test_a_memory_mapped_file_is_served(operation: str, tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", BASE)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    got = np.asarray(getattr(polylogit, operation)(x))
    check(got, expected_value(operation, BASE))


@pytest.mark.contract(20)
def test_the_logits_are_never_written_to(eager: Subject, operation: str) -> None:
    for dtype in ("float32", "float16", "int32"):
        values = np.arange(12).reshape(3, 4).astype(dtype)
        x = eager.array(values)
        for kwargs in ({}, {"dtype": "float32"}, *([] if operation == "sigmoid" else [{"axis": 0}, {"axis": None}])):
            y = getattr(polylogit, operation)(x, **kwargs)
            assert y is not x
        np.testing.assert_array_equal(eager.numpy(x), values)
    x = eager.array(BASE)
    polylogit.vjp(getattr(polylogit, operation), x)[1](x)
    np.testing.assert_array_equal(eager.numpy(x), BASE)
