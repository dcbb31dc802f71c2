"""The library as the tests of the contract see it: NumPy arrays in and out, on one backend and in one mode."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit
from frameworks import DEFAULT_FLOAT, INSTALLED, MODES, enable_x64

from .exact import Reference, SigmoidReference, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exact import Expected

    Array = np.ndarray[Any, Any]

MODE_PAIRS = [(name, mode) for name in INSTALLED for mode in MODES[name]]


def reduced(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """The axes that the contract reduces for `axis`."""
    if not shape:
        return ()
    if axis is None:
        return tuple(range(len(shape)))
    return axis if isinstance(axis, tuple) else (axis,)


class Subject:
    """polylogit on one backend, in one mode."""

    def __init__(self, name: str, mode: str) -> None:
        self.name, self.mode = name, mode
        self.backend = polylogit.get_backend(name)

    def __repr__(self) -> str:
        return f"{self.name}, {self.mode}"

    # --- calls -------------------------------------------------------------------------------------------------

    def array(self, values: Any, dtype: Any = None) -> Any:
        return self.backend.asarray(values, dtype=dtype)

    def numpy(self, array: Any, dtype: str | None = None) -> Array:
        """Back on the host, after a look at the dtype."""
        if dtype is not None:
            assert self.backend.dtype_name(array) == dtype, f"{self}: {self.backend.dtype_name(array)}, not {dtype}"
        return np.asarray(self.backend.to_numpy(array))

    def compiled(self, function: Any) -> Any:
        """The function in this mode."""
        if self.mode == "eager":
            return function
        if self.name == "torch":
            import torch

            torch.compiler.reset()
        return self.backend.compilers()[self.mode](function)

    def function(self, operation: str, **kwargs: Any) -> Callable[[Any], Any]:
        """An operation of one array, to be compiled; a new function each time."""
        return lambda x: getattr(polylogit, operation)(x, **kwargs)

    def call(self, operation: str, x: Any, *, result: str | None = None, **kwargs: Any) -> Array:
        """An operation on a NumPy array, back as a NumPy array."""
        (got,) = self.calls([(operation, x, kwargs)])
        return self.numpy(got, result)

    def calls(self, cases: list[tuple[str, Any, dict[str, Any]]]) -> list[Any]:
        """All the cases in one function, which is compiled once; a mask is an argument of it, as the logits are."""
        masked = [(x, kwargs["where"]) if kwargs.get("where") is not None else (x,) for _, x, kwargs in cases]

        def all_of_them(arrays: Any) -> Any:
            results = []
            for (operation, _, kwargs), (x, *mask) in zip(cases, arrays, strict=True):
                given = {**kwargs, "where": mask[0]} if mask else kwargs
                results.append(getattr(polylogit, operation)(x, **given))
            return results

        return self.compiled(all_of_them)([tuple(self.array(one) for one in arrays) for arrays in masked])

    def derivative(self, kind: str, operation: str, x: Any, direction: Any, **kwargs: Any) -> Array:
        """The "vjp" with a cotangent or the "jvp" with a tangent, of an operation or of what `kwargs` closes over."""
        function = operation if callable(operation) else getattr(polylogit, operation)
        if kwargs.get("where") is not None:
            kwargs["where"] = self.array(kwargs["where"])

        def both(x: Any, direction: Any) -> Any:
            if kind == "jvp":
                return polylogit.jvp(function, x, direction, **kwargs)[1]
            return polylogit.vjp(function, x, **kwargs)[1](direction)

        return self.numpy(self.compiled(both)(self.array(x), self.array(direction)))

    # --- calls, compared ---------------------------------------------------------------------------------------

    def check_values(self, operation: str, *cases: Any, result: str | None = None, **common: Any) -> list[Array]:
        """The values are right, and of the dtype that the contract says; a case is logits, or (logits, arguments)."""
        pairs = [case if isinstance(case, tuple) else (case, {}) for case in cases]
        calls = [(operation, np.asarray(x), {**common, **kwargs}) for x, kwargs in pairs]
        values = []
        for made, (_, x, kwargs) in zip(self.calls(calls), calls, strict=True):
            floating = "float" in x.dtype.name
            given = x.dtype.name if floating else self.default_float()
            dtype = kwargs.get("dtype")
            got = self.numpy(made, result or dtype or given)
            exact = x if floating or dtype else x.astype(given)
            check(
                got, expected_value(operation, exact, **kwargs), f"{self}, {operation} of {x.dtype}{x.shape}, {kwargs}"
            )
            values.append(got)
        return values

    def check_derivatives(self, operation: str, x: Any, seed: int = 0, **kwargs: Any) -> None:
        """vjp and jvp agree with the closed forms, at random cotangents and tangents, and have the dtype of x."""
        x = np.asarray(x)
        direction = np.random.default_rng(seed).normal(size=x.shape).astype(x.dtype)
        for kind in ("vjp", "jvp"):
            got = self.derivative(kind, operation, x, direction, **kwargs)
            assert kind == "jvp" or got.dtype == x.dtype, f"{self}: a gradient of {got.dtype} for logits of {x.dtype}"
            expected = expected_derivative(kind, operation, x, direction, **kwargs)
            check(got, expected, f"{self}, {kind} of {operation} at {x.dtype}{x.shape}, {kwargs}")

    def check_second(self, operation: str, x: Any, seed: int = 0, **kwargs: Any) -> None:
        """Reverse and forward mode of the gradient agree with the closed form."""
        x = np.asarray(x)
        generator = np.random.default_rng(seed)
        c, u = (generator.normal(size=x.shape).astype(x.dtype) for _ in range(2))
        expected = expected_second(operation, x, c, u, **kwargs)
        mask = kwargs.get("where")
        if mask is not None:
            kwargs["where"] = self.array(mask)
        slope = polylogit.gradient(getattr(polylogit, operation), self.array(c), **kwargs)
        for kind in ("vjp", "jvp"):
            got = self.derivative(kind, slope, x, u)
            check(got, expected, f"{self}, {kind} of the gradient of {operation} at {x.dtype}{x.shape}")

    def default_float(self) -> str:
        if self.name == "jax":
            import jax

            return "float64" if jax.config.jax_enable_x64 else "float32"
        return DEFAULT_FLOAT[self.name]

    def all64(self) -> Any:
        """A context in which this backend keeps 64 bits."""
        if self.name == "jax":
            return enable_x64(True)
        return nullcontext()


def expected_value(operation: str, x: Array, axis: Any = -1, where: Any = None, dtype: str | None = None) -> Expected:
    """What is exact, kept for the other backends and modes, which are asked for the same."""
    mask = None if where is None else (np.shape(where), np.asarray(where).tobytes())
    key = (operation, x.dtype.name, x.shape, x.tobytes(), axis, mask, dtype)
    if key not in _KEPT:
        if len(_KEPT) > _MOST_KEPT:
            _KEPT.clear()
        _KEPT[key] = _expected_value(operation, x, axis, where, dtype)
    return _KEPT[key]


_KEPT: dict[Any, Expected] = {}
_MOST_KEPT = 400


def _expected_value(operation: str, x: Array, axis: Any, where: Any, dtype: str | None) -> Expected:
    if operation == "sigmoid":
        return SigmoidReference(x, dtype).sigmoid()
    return getattr(Reference(x, reduced(x.shape, axis), where, dtype), operation)()


def expected_derivative(
    kind: str, operation: str, x: Array, direction: Array, axis: Any = -1, where: Any = None, dtype: str | None = None
) -> Expected:
    if operation == "sigmoid":
        reference = SigmoidReference(x, dtype)
        return reference.derivative(direction, reference.result if kind == "jvp" else reference.given)
    rows = Reference(x, reduced(x.shape, axis), where, dtype)
    if operation == "softmax":
        return rows.softmax_derivative(direction, rows.result if kind == "jvp" else rows.given)
    return rows.log_softmax_vjp(direction) if kind == "vjp" else rows.log_softmax_jvp(direction)


def expected_second(operation: str, x: Array, c: Array, u: Array, axis: Any = -1, where: Any = None) -> Expected:
    if operation == "sigmoid":
        return SigmoidReference(x).second(c, u)
    return getattr(Reference(x, reduced(x.shape, axis), where), f"{operation}_second")(c, u)


@pytest.fixture(params=MODE_PAIRS, ids="-".join)
def subject(request: pytest.FixtureRequest) -> Subject:
    """polylogit on each installed backend, eager and compiled."""
    return Subject(*request.param)


@pytest.fixture(params=[pair for pair in MODE_PAIRS if pair[1] in ("eager", "graph", "jit")], ids="-".join)
def refusing(request: pytest.FixtureRequest) -> Subject:
    """The backends and modes in which an exception comes out as it was raised."""
    return Subject(*request.param)


@pytest.fixture
def eager(backend_name: str) -> Subject:
    """polylogit on each installed backend, not compiled."""
    return Subject(backend_name, "eager")


@pytest.fixture(params=("softmax", "log_softmax", "sigmoid"))
def operation(request: pytest.FixtureRequest) -> str:
    """Each operation."""
    return str(request.param)


@pytest.fixture(params=("softmax", "log_softmax"))
def row_operation(request: pytest.FixtureRequest) -> str:
    """Each operation that normalises along axes."""
    return str(request.param)
