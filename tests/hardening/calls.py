"""Any call that somebody might write: what is passed, in which container, with which arguments; and what must hold.

A call gives a result of the shape of its logits whose entries are probabilities (or logarithms of them, or NaN), or it
raises an error of polylogit's hierarchy. `calls` draws them, `holds` makes one and checks it.
"""

from __future__ import annotations

import decimal
import fractions
import types
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

import polylogit
from frameworks import INSTALLED, MISSING
from polylogit.errors import PolylogitError

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
# Few, since compilers take long for each.
SHAPES = ((), (0,), (1,), (3,), (40,), (2, 3), (3, 0), (0, 2), (2, 1, 3), (1, 1, 1, 2), (1,) * 7)
NUMPY = (
    "float64", "float32", "float16", "longdouble", "int64", "int8", "uint8", "uint64", "bool", "complex64", "object",
    "U3", "S2", "datetime64[s]", "timedelta64[s]", "V4",
)  # fmt: skip
NARROW = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4)
VALUES = (0.0, -0.0, 1.0, -3.5, 88.8, -104.0, 1e4, -1e4, 3e38, -1e308, 5e-324, np.inf, -np.inf, np.nan)


def _objects() -> list[Any]:
    """What is no array, or hardly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.matrix is not recommended
        matrix = np.matrix([[1.0, 2.0]])
    return [
        None, "abc", "torch", b"ab", {}, {"logits": [1.0]}, set(), {1.0, 2.0}, object(), type, np, len, ...,
        NotImplemented, (one for one in (1.0, 2.0)), map(float, ("1", "2")), range(3), memoryview(b"abcd"),
        bytearray(b"ab"), slice(3),
        [[1.0, 2.0], [3.0]], [1.0, None], [], [[]], ["1", "2"], [True, False], [1, 2.5, True], ([1.0], (2.0,)), [1j],
        10**400, -(10**30), 1.5, True, 1j, np.float32(2), np.int64(3), np.bool_(True), np.str_("a"), np.nan,
        decimal.Decimal("1.5"), fractions.Fraction(1, 3), [decimal.Decimal(1)], np.ma.masked_array([1.0, 2.0], [0, 1]),
        matrix, np.recarray((2,), dtype=[("a", float)]), np.array([1.0], dtype=object),
        np.broadcast_to(np.float32(1), (2, 3)), np.arange(6.0)[::-2], np.asfortranarray(np.ones((2, 3))),
        np.frombuffer(b"\0" * 9, np.uint8)[1:].view(np.float32), np.array([1.0, 2.0]).astype(">f4"),
        types.SimpleNamespace(logits=[1.0]), types.SimpleNamespace(shape=(2,), dtype="float32"), Exception("x"),
    ]  # fmt: skip


def _containers() -> dict[str, Callable[[Any], Any]]:
    """From a NumPy array to what somebody may hold it in."""
    made: dict[str, Callable[[Any], Any]] = {
        "numpy": lambda x: x,
        "list": lambda x: x.tolist(),
        "tuple": lambda x: tuple(x.tolist()) if x.ndim else x.item(),
        "scalar": lambda x: x.reshape(-1)[0] if x.size else x,
    }
    for name in INSTALLED:
        if name != "numpy":
            made[name] = polylogit.get_backend(name).asarray
    if "pandas" not in MISSING:
        import pandas as pd

        made["pandas"] = lambda x: pd.DataFrame(x) if x.ndim == 2 else pd.Series(x)
    if "polars" not in MISSING:
        import polars as pl

        made["polars"] = lambda x: pl.DataFrame(x) if x.ndim == 2 else pl.Series(x)
    if "xarray" not in MISSING:
        import xarray as xr

        made["xarray"] = lambda x: xr.DataArray(x)
    if "dask" not in MISSING:
        import dask.array as da

        made["dask"] = lambda x: da.from_array(x, chunks=2)
    return made


CONTAINERS = _containers()


@dataclass
class Call:
    """One call, not yet made."""

    operation: str
    x: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    derivative: bool = False


def _array(draw: Any) -> Any:
    shape = draw(st.sampled_from(SHAPES))
    dtype = draw(st.sampled_from(NUMPY[:3] * 4 + NUMPY + NARROW))
    size = int(np.prod(shape, dtype=int))
    values = draw(st.lists(st.sampled_from(VALUES), min_size=size, max_size=size))
    with np.errstate(all="ignore"):
        return np.array(values, dtype="float64").reshape(shape).astype(dtype)


def _held(draw: Any, array: Any, names: Any = tuple(CONTAINERS)) -> Any:
    """An array in a container; as it is where that container has no such dtype or shape."""
    try:
        return CONTAINERS[draw(st.sampled_from(names))](array)
    except Exception:  # noqa: BLE001  the container says no, whatever it raises
        return array


def _mask(draw: Any) -> Any:
    kind = draw(st.sampled_from(("array", "array", "wrong", "object")))
    if kind == "object":
        return draw(st.sampled_from((True, False, [True], [True, False, True], 1, "x", [1, 0], None, {}, [[True], []])))
    shape = draw(st.sampled_from(SHAPES))
    mask = np.array(draw(st.lists(st.booleans(), min_size=(n := int(np.prod(shape, dtype=int))), max_size=n)), bool)
    return _held(draw, mask.reshape(shape) if kind == "array" else mask.reshape(shape).astype("float32"))


AXES = (
    -1, 0, 1, 2, -2, -3, 5, -9, None, (), (0,), (0, 1), (-1, 0), (0, 0), (0, -1), (1, 2), [0], [0, 1], True, 1.0, "0",
    np.int64(0), np.array(0), np.array([0]), 2**70, (None,), ("a",), {0}, range(1), b"0", np.float64(1),
)  # fmt: skip
DTYPES = (
    None, "float32", "float64", "float16", "bfloat16", "float8_e5m2", "int32", "complex64", "nonsense", "", float, int,
    np.float32, np.dtype("f2"), ml_dtypes.bfloat16, 3, object(), np.longdouble, "f4", "<f8", bool, str,
)  # fmt: skip
TEMPERATURES = (
    None, 1.0, 2, 0.5, 1e-300, 1e300, 5e-324, 0, -1.0, np.nan, np.inf, True, 1j, "2", [2.0], [[1.0], [2.0]],
    np.float32(3), np.array([0.5, 2.0, 1.0]), np.ones((2, 1)), np.ones((4, 4)),
    np.array([1, 0]), {}, ml_dtypes.bfloat16(2), (),
)  # fmt: skip
BACKENDS = (*INSTALLED, "array_api", "dask", "array_api:numpy", "nothing", "", 3, np, None)


@st.composite
def calls(draw: Any) -> Call:
    """A call of an operation, of its pullback, with whatever."""
    operation = draw(st.sampled_from(OPERATIONS))
    odd = draw(st.integers(0, 5)) == 0
    x = draw(st.sampled_from(_objects())) if odd else _held(draw, _array(draw))
    arguments: dict[str, Any] = {}
    if operation != "sigmoid":
        if draw(st.booleans()):
            arguments["axis"] = draw(st.sampled_from(AXES))
        if draw(st.booleans()):
            arguments["where"] = _mask(draw)
    if draw(st.integers(0, 2)) == 0:
        arguments["dtype"] = draw(st.sampled_from(DTYPES))
    if draw(st.integers(0, 4)) == 0:
        arguments["temperature"] = draw(st.sampled_from(TEMPERATURES))
    if draw(st.integers(0, 9)) == 0:
        arguments["out"] = draw(st.sampled_from((np.empty(3), np.empty((2, 3), np.float32), [0.0], x, None)))
    if draw(st.integers(0, 4)) == 0:
        arguments["backend"] = draw(st.sampled_from(BACKENDS))
    return Call(operation, x, arguments, draw(st.integers(0, 5)) == 0)


def _is_labelled(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] in ("pandas", "polars", "xarray", "dask")


def _values(result: Any) -> Any:
    if _is_labelled(result):
        return np.asarray(result)
    return polylogit.get_backend(result).to_numpy(result)


def holds(call: Call) -> str:
    """What came of the call: "served", or the name of the error of the hierarchy; anything else is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function = getattr(polylogit, call.operation)
            if call.derivative:
                y, pullback = polylogit.vjp(function, call.x, **call.arguments)
                pullback(y)
            else:
                y = function(call.x, **call.arguments)
        except PolylogitError as error:
            return type(error).__name__ if str(error) else "an error without a message"
        values = np.array(_values(y)).astype("float64")  # of its own: the call may have written into x
        shape = getattr(np.asarray(call.x) if _is_labelled(call.x) else call.x, "shape", None)
        if shape is not None:
            assert values.shape == tuple(int(n) for n in shape), f"{values.shape} of {shape}"
        known = values[~np.isnan(values)]
        low, high = (-np.inf, 0.0) if call.operation == "log_softmax" else (0.0, 1.0)
        assert ((known >= low) & (known <= high)).all(), values
    return "served"
