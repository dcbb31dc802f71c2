"""What Python's values become, and what is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import polylogit
from polylogit import errors


@pytest.fixture
def numpy_backend() -> Any:
    return polylogit.get_backend("numpy")


def test_sequences_become_arrays(numpy_backend: Any) -> None:
    assert numpy_backend.asarray([[1, 2], (3, 4)]).tolist() == [[1, 2], [3, 4]]
    assert numpy_backend.asarray([np.float32(1), np.float32(2)]).dtype == np.float32
    assert numpy_backend.asarray([10**30, 1]).dtype == np.float64
    assert numpy_backend.asarray([1, 2], dtype="bfloat16").dtype == ml_dtypes.bfloat16
    x = np.ones(3)
    assert numpy_backend.asarray(x) is x


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([[1, 2], [3]], errors.ConversionError),
        ([10**400], errors.ConversionError),
        (["a"], errors.DTypeError),
        ([None], errors.DTypeError),
        ([1, {}], errors.DTypeError),
        ([1j], errors.DTypeError),
    ],
)
def test_sequences_of_anything_else_are_refused(numpy_backend: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        numpy_backend.asarray(value)


@pytest.mark.requires("torch")
def test_arrays_of_another_framework_are_not_gathered(numpy_backend: Any) -> None:
    import torch

    with pytest.raises(errors.MixedBackendsError, match="Stack them"):
        numpy_backend.asarray([[1.0], [torch.ones(())]])


def test_there_is_one_device(numpy_backend: Any) -> None:
    assert numpy_backend.asarray(1.0, device="cpu").shape == ()
    with pytest.raises(errors.ConversionError, match="cuda"):
        numpy_backend.asarray(1.0, device="cuda")


def test_dtype_names_are_plain(numpy_backend: Any) -> None:
    assert numpy_backend.dtype_name(np.ones(2, ">f4")) == "float32"
    assert numpy_backend.dtypes()[:4] == ("float64", "float32", "float16", "bfloat16")
    assert {"float8_e4m3fn", "float8_e5m2"} < set(numpy_backend.dtypes())


def test_every_dtype_it_names_is_served(numpy_backend: Any) -> None:
    for name in numpy_backend.dtypes():
        y = polylogit.softmax(numpy_backend.asarray([0.0, 1.0], dtype=name))
        assert numpy_backend.dtype_name(y) == name
