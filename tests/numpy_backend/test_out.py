"""``out=``: the result in an array of the caller's, as ufuncs write theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polylogit
from frameworks import INSTALLED
from polylogit._backends.numpy import compiled

errors = polylogit.errors
ENGINES = (*compiled.instruction_sets(), "pure")
OPERATIONS = ("softmax", "log_softmax", "sigmoid")


@pytest.fixture(params=OPERATIONS)
def function(request: pytest.FixtureRequest) -> Any:
    return getattr(polylogit, request.param)


def logits(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "longdouble"])
def test_the_array_is_filled_and_returned(function: Any, engine: str, dtype: str) -> None:
    x = logits(3, 5, dtype=dtype)
    with compiled.use(engine):
        want = function(x)
        for out in (np.full_like(x, np.nan), np.full((5, 3), 7, x.dtype).T, np.zeros((3, 10), x.dtype)[:, ::-2]):
            assert function(x, out=out) is out
            np.testing.assert_array_equal(out, want)


def test_in_place_and_overlapping(function: Any) -> None:
    x = logits(4, 5)
    want = function(x)
    for shift in (0, 1, -3):
        memory = np.zeros(40, "float32")
        given = memory[10:30].reshape(4, 5)
        given[...] = x
        out = memory[10 + shift : 30 + shift].reshape(4, 5)
        assert function(given, out=out) is out
        np.testing.assert_array_equal(out, want)


def test_in_place_the_other_way_round(function: Any) -> None:
    x = logits(4, 4)
    want = function(x)
    function(x, out=x.T)
    np.testing.assert_array_equal(x.T, want)


def test_with_everything_else_that_a_call_may_ask_for() -> None:
    x, mask = logits(3, 5), logits(3, 5) < 0.5
    given: dict[str, Any] = {"axis": 0, "where": mask, "dtype": "float64", "temperature": 0.7}
    out = np.empty((3, 5))
    assert polylogit.softmax(x, out=out, **given) is out
    np.testing.assert_array_equal(out, polylogit.softmax(x, **given))
    assert polylogit.softmax([1, 2], out=np.empty(2), backend="numpy").sum() == 1
    assert polylogit.softmax(np.float64(3.0), out=np.empty(())) == 1


def test_a_mask_that_is_the_memory_of_the_result() -> None:
    out = np.ones(4, "float32")
    mask = out.view(bool)[:4]
    mask[:] = [True, False, True, True]
    want = polylogit.softmax(np.zeros(4, "float32"), where=mask.copy())
    np.testing.assert_array_equal(polylogit.softmax(np.zeros(4, "float32"), where=mask, out=out), want)


def test_an_array_of_another_shape_or_that_cannot_be_written(function: Any) -> None:
    x = logits(3, 5)
    locked = np.empty_like(x)
    locked.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(5, "float32"), (3, 5), (0, 4))
    for out, words in ((np.empty((5, 3), "float32"), r"\(5, 3\)"), (locked, "read-only"), (shared, "share memory")):
        with pytest.raises(errors.OutputError, match=words) as caught:
            function(x, out=out)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(errors.DTypeError, match="float64"):
        function(x, out=np.empty((3, 5)))
    assert function(x, out=np.empty((3, 5)), dtype="float64").dtype == "float64"


def test_what_is_no_plain_array(function: Any) -> None:
    x = logits(2, 2)
    with pytest.raises(errors.UnsupportedArrayError, match="MaskedArray"):
        function(x, out=np.ma.array(x))
    with pytest.raises(errors.MixedBackendsError, match="out="):
        function(x, out=[[0.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("name", [name for name in INSTALLED if name != "numpy"])
def test_the_arrays_of_other_frameworks(function: Any, name: str) -> None:
    x = polylogit.get_backend(name).asarray(logits(2, 2))
    with pytest.raises(errors.UnsupportedArrayError, match=f"array of {name}"):
        function(x, out=x)
    with pytest.raises(errors.MixedBackendsError, match=f"one of {name}"):
        function(logits(2, 2), out=x)


def test_a_derivative_takes_none() -> None:
    with pytest.raises(errors.ArgumentError, match="out"):
        polylogit.vjp(polylogit.softmax, logits(2), out=np.empty(2))


def test_a_registered_function_is_not_asked() -> None:
    with polylogit.register_implementation("softmax", "numpy", lambda x, axis=-1: np.zeros_like(x)):
        assert polylogit.softmax(np.zeros(2), out=np.empty(2)).tolist() == [0.5, 0.5]
