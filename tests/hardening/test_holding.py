"""What a user may hold is pickled and copied as any other object, and passes from thread to thread and to a task."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit
from polylogit import conformance, errors, porting

if TYPE_CHECKING:
    from collections.abc import Callable

X = np.random.default_rng(0).normal(size=(2, 5))
EXACT = polylogit.softmax(X)


def caught(function: Callable[[], Any]) -> errors.PolylogitError:
    with pytest.raises(errors.PolylogitError) as found:
        function()
    return found.value


HELD: dict[str, Callable[[], Any]] = {
    "an operation": lambda: polylogit.softmax,
    "a gradient": lambda: polylogit.gradient(polylogit.sigmoid, np.ones(2)),
    "what backends() says": polylogit.backends,
    "a backend": lambda: polylogit.get_backend("numpy"),
    "an error": lambda: caught(lambda: polylogit.softmax(X, axis=7)),
    "an error about a type": lambda: caught(lambda: polylogit.softmax(object())),
    "an error about a keyword": lambda: caught(lambda: polylogit.softmax(X, dim=0)),  # type: ignore[call-overload]
    "an error about a name": lambda: caught(lambda: polylogit.softmax(X, backend="numpi")),
    "a report": lambda: conformance.check(np.negative, "sigmoid", level="quick", dtypes=["float32"]),
    "a comparison": lambda: porting.compare({"a": X}, {"a": X + 1}),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, BaseException):
        return type(one) is type(other) and str(one) == str(other)
    if hasattr(one, "__polylogit_gradient__"):
        return np.array_equal(one(np.ones(2)), other(np.ones(2)))
    if hasattr(one, "summary"):
        return type(one) is type(other) and one.summary() == other.summary()
    if isinstance(one, porting.Comparison):
        return str(one) == str(other) and one.agrees == other.agrees
    return one is other or one == other or (type(one) is type(other) and one.name == other.name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", HELD)
def test_it_is_the_same_afterwards(what: str, way: str) -> None:
    held = HELD[what]()
    assert alike(held, WAYS[way](held))


def test_a_process_of_its_own_gets_the_function_and_gives_the_same_back() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(polylogit.softmax, (X,), {"axis": -1}), EXACT)


def test_the_default_backend_is_that_of_the_task_and_of_the_thread() -> None:
    async def served_by(name: str) -> str:
        with polylogit.use_backend(name):
            await asyncio.sleep(0.001)  # another task runs, with a default of its own
            return type(polylogit.softmax([1.0, 2.0])).__module__.partition(".")[0]

    names = [info.name for info in polylogit.backends() if info.installed and info.name in ("numpy", "torch")]

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(served_by(name) for name in names * 4))

    assert asyncio.run(all_at_once()) == names * 4
    with polylogit.use_backend(names[-1]), ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(polylogit.softmax, [1.0, 2.0]).result(), np.ndarray)
