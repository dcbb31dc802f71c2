"""Runs the probes of ``src/polylogit/_spec/contract.toml``, through polylogit and through the frameworks' native calls.

Used by the tests (polylogit only) and by ``measure_native.py``. A probe is one Python expression, evaluated with the
names that `names_for` gives; its result is shown as text, an exception by its type.
"""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes  # noqa: F401  gives NumPy the dtype "bfloat16"
import numpy as np

import polylogit

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "src" / "polylogit" / "_spec" / "contract.toml"
NATIVE = ROOT / "docs" / "_static" / "native.json"
FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax")


def rows() -> list[dict[str, Any]]:
    """The rows of the contract."""
    with TABLE.open("rb") as file:
        return tomllib.load(file)["row"]


class NotOfferedError(Exception):
    """The native call has no such argument."""


def _native_torch() -> dict[str, Any]:
    import torch

    def along(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, axis: Any = -1, dtype: Any = None, **other: Any) -> Any:
            if other:
                raise NotOfferedError
            return function(x, dim=axis, dtype=getattr(torch, dtype) if dtype else None)

        return call

    return {
        "softmax": along(torch.nn.functional.softmax),
        "log_softmax": along(torch.nn.functional.log_softmax),
        "sigmoid": torch.sigmoid,
    }


def _without_extras(function: Callable[..., Any], offered: tuple[str, ...] = ()) -> Callable[..., Any]:
    def call(x: Any, axis: Any = -1, **other: Any) -> Any:
        if set(other).difference(offered):
            raise NotOfferedError
        return function(x, axis=axis, **other)

    return call


def _native_tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    softmax, log_softmax = _without_extras(tf.nn.softmax), _without_extras(tf.nn.log_softmax)
    return {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": tf.nn.sigmoid}


def _native_jax() -> dict[str, Any]:
    import jax

    softmax, log_softmax = (_without_extras(f, ("where",)) for f in (jax.nn.softmax, jax.nn.log_softmax))
    return {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": jax.nn.sigmoid}


def _native_numpy() -> dict[str, Any]:
    import scipy.special

    softmax, log_softmax = _without_extras(scipy.special.softmax), _without_extras(scipy.special.log_softmax)
    return {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": scipy.special.expit}


NATIVE_CALLS = {"numpy": _native_numpy, "torch": _native_torch, "tensorflow": _native_tensorflow, "jax": _native_jax}


def _text(value: Any, digits: int) -> str:
    if isinstance(value, tuple):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_text(one, digits) for one in value) + "]"
    return f"{value + 0.0:.{digits}g}"  # + 0.0 turns -0 into 0


def _matrix(values: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # NumPy's word on making one at all
        return np.matrix(values)


def _transposed(x: Any) -> Any:
    if hasattr(x, "T"):
        return x.T
    import tensorflow as tf

    return tf.transpose(x)


def names_for(framework: str, native: bool) -> dict[str, Any]:
    """What a probe's expression may use, for one framework."""
    backend = polylogit.get_backend(framework)
    operations = {name: getattr(polylogit, name) for name in ("softmax", "log_softmax", "sigmoid")}
    if native:
        operations = NATIVE_CALLS[framework]()

    def values(x: Any) -> Any:
        host = backend.to_numpy(x)
        return host if host.dtype.kind == "c" else host.astype(np.float64)

    def gradient(function: Any, x: Any, cotangent: Any = None, **kwargs: Any) -> Any:
        if native and framework == "numpy":
            raise NotOfferedError
        weights = np.zeros(tuple(x.shape)) if cotangent is None else np.ones(tuple(x.shape))
        if cotangent is None:
            weights[0] = 1.0
        _, pullback = polylogit.vjp(function, x, **kwargs)
        return pullback(backend.asarray(weights.astype(backend.to_numpy(x).dtype)))

    def normal(size: Any) -> np.ndarray:
        return np.random.default_rng(0).normal(0.0, 5.0, size)

    return {
        **operations,
        "np": np,
        "nan": np.nan,
        "inf": np.inf,
        "normal": normal,
        "matrix": _matrix,
        "transposed": _transposed,
        "zeros": np.zeros,
        "ones": np.ones,
        "array": lambda values, dtype: backend.asarray(np.asarray(values).astype(dtype)),
        "total": lambda y: values(y).sum().item(),
        "first": lambda y: values(y).flat[0].item(),
        "lowest": lambda y: values(y).min().item(),
        "shape": lambda y: tuple(y.shape),
        "gradient": gradient,
        "named": {} if native else {"backend": framework},
        "values": values,
    }


def run(probe: dict[str, Any], framework: str, *, native: bool) -> str:
    """What a probe shows on one framework: values, or the name of the exception."""
    names = names_for(framework, native)
    try:
        result = eval(probe["call"], names)
        if not isinstance(result, tuple | float):
            result = names["values"](result).tolist()
        if "decimals" in probe:
            result = round(result, probe["decimals"])
    except NotOfferedError:
        return "not offered"
    except Exception as error:  # noqa: BLE001  which one it is, is the answer
        return type(error).__name__
    return _text(result, probe.get("digits", 4))


def allowed(probe: dict[str, Any]) -> list[str]:
    """The results that the rule allows."""
    return [probe["expect"]] if isinstance(probe["expect"], str) else probe["expect"]


def agrees(shown: str, probe: dict[str, Any]) -> bool:
    """Whether a native call does what the rule says; for an error any will do, unless its type matters."""
    expected = allowed(probe)
    error = getattr(polylogit.errors, expected[0], None)
    if error is None:
        return shown in expected
    if probe.get("type_matters"):
        return shown in {cls.__name__ for cls in error.__mro__[:-3]}  # without Exception, BaseException and object
    return shown.endswith("Error")
