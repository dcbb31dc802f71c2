"""Code as users write it, for mypy and pyright, which must find what a call returns; it is never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import jax
import numpy as np
import torch
from numpy.typing import NDArray

import polylogit
from polylogit import conformance, errors, porting

if TYPE_CHECKING:
    from collections.abc import Callable


def arrays(x: NDArray[np.float32], tensor: torch.Tensor, array: jax.Array) -> None:
    assert_type(polylogit.softmax(x), NDArray[np.float32])
    assert_type(polylogit.softmax(x, axis=(0, 1), where=x > 0), NDArray[np.float32])
    assert_type(polylogit.log_softmax(tensor, 0, dtype=torch.float64), torch.Tensor)
    assert_type(polylogit.sigmoid(array), jax.Array)
    assert_type(polylogit.softmax(array, axis_name="vocabulary"), jax.Array)
    assert_type(polylogit.log_softmax(tensor, temperature=tensor[:, :1]), torch.Tensor)
    assert_type(polylogit.sigmoid(x, temperature=0.5, out=x), NDArray[np.float32])


def what_has_another_dtype(
    whole: NDArray[np.int64], mask: NDArray[np.bool_], x: NDArray[np.float64], one: np.int64, tensor: torch.Tensor
) -> None:
    assert_type(polylogit.softmax(whole), np.ndarray[Any, np.dtype[np.floating[Any]]])
    assert_type(polylogit.sigmoid(mask), np.ndarray[Any, np.dtype[np.floating[Any]]])
    assert_type(polylogit.sigmoid(one), np.floating[Any])
    assert_type(polylogit.softmax(x, dtype="float16"), np.ndarray[Any, np.dtype[Any]])
    assert_type(polylogit.sigmoid(whole, dtype=np.float16), np.ndarray[Any, np.dtype[Any]])
    assert_type(polylogit.softmax(tensor, dtype=torch.float16), torch.Tensor)


class Labelled:
    """A DataFrame, a DataArray: whatever has labels."""


def labels(x: Labelled) -> None:
    assert_type(polylogit.softmax(x, axis="index"), Labelled)
    assert_type(polylogit.softmax(x, axis=("image", "animal"), where=x), Labelled)
    assert_type(polylogit.log_softmax(x, "animal"), Labelled)


def anything(x: Any, dtype: Any) -> None:
    assert_type(polylogit.softmax(x), Any)
    assert_type(polylogit.log_softmax(x, axis=0), Any)
    assert_type(polylogit.sigmoid(x, dtype=dtype), Any)
    assert_type(polylogit.convert(x, "numpy"), Any)
    print(jax.grad(lambda x: polylogit.softmax(x)[1]))


def conversions(x: NDArray[np.float32], state: dict[str, int], several: list[int]) -> None:
    assert_type(polylogit.convert(x, "numpy"), np.ndarray[Any, np.dtype[Any]])
    assert_type(polylogit.convert(state, "torch"), dict[str, Any])
    assert_type(polylogit.convert(several, to=x), list[Any])
    assert_type(polylogit.convert(x, to=jax), Any)


def numbers_and_sequences() -> float:
    assert_type(polylogit.sigmoid(0.0), np.floating[Any])
    assert_type(polylogit.softmax(1, None, dtype="float32"), np.floating[Any])
    return float(polylogit.softmax([[1.0, 2.0], [3, 4]], axis=0).sum() + polylogit.log_softmax((1, 2), None).min())


def elsewhere(x: NDArray[np.float64]) -> torch.Tensor:
    y: torch.Tensor = polylogit.softmax(x, backend="torch")
    with polylogit.use_backend("jax") as backend:
        print(backend.name, [info.install for info in polylogit.backends() if not info.installed])
    return polylogit.convert({"w": y}, "numpy")["w"]


def derivatives(x: torch.Tensor) -> torch.Tensor:
    y, pullback = polylogit.vjp(polylogit.softmax, x, axis=0)
    _, tangent = polylogit.jvp(polylogit.gradient(polylogit.sigmoid, x), x, x)
    assert_type(pullback(y), torch.Tensor)
    return pullback(y) + tangent


def certify(kernel: Callable[..., Any]) -> bool:
    report = conformance.check(kernel, "softmax", backend="torch", level="quick", dtypes=["float32"])
    worst = max((result.error for result in report.results if result.error is not None), default=0.0)
    print(worst, report.summary(), [failure.id for failure in report.failures])
    with polylogit.register_implementation("softmax", "torch", kernel):
        return report.passed and conformance.run(["torch"], level="full").passed


def port(here: NDArray[np.float32], there: torch.Tensor) -> str:
    try:
        found = porting.compare(here, there)
    except errors.PolylogitError as error:
        return str(error)
    return "agrees" if found.agrees or found.cause is None else found.cause.name
