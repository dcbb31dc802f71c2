"""Runs the original again in another precision, to measure the rounding error of each of its activations.

A table says how the models of each library are converted to a floating dtype. If a model cannot be converted, its
weights and inputs are perturbed by an ulp instead. Imports a framework only for its own models; knows nothing of how
differences are judged.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._progress import say
from polylogit._spec.dtypes import DTYPES
from polylogit.porting._call import Called, as_numpy, backend_of
from polylogit.porting._diagnosis.noise import Measured
from polylogit.porting._recorders import LIBRARIES, Recorder, record

if TYPE_CHECKING:
    from polylogit.porting._diagnosis.agreement import Precision

    Array = np.ndarray[Any, Any]

__all__ = ["NoRunError", "Noise", "again", "in_training", "narrow_of", "noise_of", "perturbed"]

# Characters of another library's error in a report.
BRIEF = 120


class NoRunError(Exception):
    """Why there is no run to measure the rounding error, in a few words."""


def again(called: Called, dtype: str) -> dict[str, Any]:
    """The activations of a call in another dtype; raises `NoRunError` if the model cannot be converted to it."""
    try:
        with _wide(dtype):
            function = _made_over(called.function, dtype)
            arguments = [_cast(one, dtype) for one in called.arguments]
            output = function(*arguments, **{name: _cast(one, dtype) for name, one in called.keywords.items()})
            found = output if isinstance(output, Mapping) else {"output": output}
            found = {str(name): as_numpy(one, name) for name, one in found.items()}
    except NoRunError:
        raise
    except Exception as error:  # whatever a library raises: then there is no such run
        raise NoRunError(f"{dtype} fails with {_briefly(error)}") from error
    floating = [one.dtype.name for one in found.values() if one.dtype.name in DTYPES]
    if not floating or floating[-1] != dtype:
        raise NoRunError(f"it computes in {floating[-1] if floating else 'no floating dtype'}, given {dtype} or not")
    return found


def _briefly(error: Exception) -> str:
    """The type of an error and the beginning of its message."""
    first = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 3]}..."


@contextlib.contextmanager
def _wide(dtype: str) -> Iterator[None]:
    """Enable float64 in JAX, which has it only on request."""
    if dtype == "float64" and "jax" in sys.modules:
        import jax
        from jax import experimental

        place: Any = jax if hasattr(jax, "enable_x64") else experimental  # where the switch was before JAX 0.8
        with place.enable_x64(True):
            yield
    else:
        yield


def _made_over(function: Any, dtype: str) -> Callable[..., Any]:
    if isinstance(function, Recorder):
        model, variables = _model(function.model, function.variables, dtype)
        return record(model, variables, prepare=function.prepare, **function.keywords)
    made: Callable[..., Any] = function if _library(function) is None else _model(function, None, dtype)[0]
    return made


def _library(model: Any) -> str | None:
    roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    return next((root for root in LIBRARIES if root in roots), None)


def _model(model: Any, variables: Any, dtype: str) -> tuple[Any, Any]:
    """The model and its variables in another dtype; a function unchanged."""
    library = _library(model)
    if library is None:
        return model, variables
    if library not in _MAKERS:
        raise NoRunError(f"models of {library} cannot be made over in {dtype}")
    return _MAKERS[library](model, variables, dtype)


def _torch(model: Any, variables: Any, dtype: str) -> tuple[Any, Any]:
    import torch

    model = getattr(model, "_orig_mod", model)
    return copy.deepcopy(model).to(getattr(torch, dtype)), variables


def _flax(model: Any, variables: Any, dtype: str) -> tuple[Any, Any]:
    import jax
    from flax import nnx

    if isinstance(model, nnx.Module):
        graph, state = nnx.split(model)
        return nnx.merge(graph, jax.tree.map(lambda one: _cast(one, dtype), state)), variables
    return _linen(model, dtype), jax.tree.map(lambda one: _cast(one, dtype), variables)


def _linen(module: Any, dtype: str) -> Any:
    """The module in another dtype, if it was told one."""
    import jax.numpy as jnp

    told = getattr(module, "dtype", None) is not None and "dtype" in getattr(type(module), "__dataclass_fields__", {})
    return module.clone(dtype=jnp.dtype(dtype)) if told else module


def _transformers(model: Any, variables: Any, dtype: str) -> tuple[Any, Any]:
    import jax

    wide = copy.copy(model)
    wide._module = _linen(model.module, dtype)
    params = jax.tree.map(lambda one: _cast(one, dtype), model.params if variables is None else variables)
    return wide, params


_MAKERS: dict[str, Callable[[Any, Any, str], tuple[Any, Any]]] = {
    "torch": _torch,
    "flax": _flax,
    "transformers": _transformers,
}


def _cast(value: Any, dtype: str) -> Any:
    """A floating-point array in another dtype; anything else unchanged."""
    name = getattr(value, "dtype", None)
    if name is None or not hasattr(value, "shape"):
        return value
    backend = backend_of(value)
    if str(backend.dtype_name(value)) not in DTYPES:
        return value
    return backend.asarray(as_numpy(value, "an input").astype(DTYPES[dtype].dtype), dtype=dtype)


# --- an ulp --------------------------------------------------------------------------------------------------------


def perturbed(called: Called, runs: int = 2) -> list[dict[str, Any]]:
    """The activations with weights and inputs perturbed by an ulp; `NoRunError` if nothing can be perturbed."""
    rng = np.random.default_rng(0)
    model: Any = called.function.model if isinstance(called.function, Recorder) else called.function
    movable = hasattr(model, "get_weights") and hasattr(model, "set_weights")
    kept = model.get_weights() if movable else []
    arguments, keywords = called.arguments, called.keywords
    if not kept and not any(_is_floating(one) for one in (*arguments, *keywords.values())):
        raise NoRunError("it has no floating inputs or weights to move by an ulp")
    found = []
    try:
        for _ in range(runs):
            if kept:
                model.set_weights([_moved(one, rng) for one in kept])
            given = [_moved(one, rng) for one in arguments]
            output = called.function(*given, **{name: _moved(one, rng) for name, one in keywords.items()})
            named = output if isinstance(output, Mapping) else {"output": output}
            found.append({str(name): as_numpy(one, name) for name, one in named.items()})
    except Exception as error:  # whatever a user's model raises
        raise NoRunError(f"moved by an ulp it fails with {_briefly(error)}") from error
    finally:
        if kept:
            model.set_weights(kept)
    return found


def _is_floating(value: Any) -> bool:
    return hasattr(value, "shape") and str(backend_of(value).dtype_name(value)) in DTYPES


def _moved(value: Any, rng: np.random.Generator) -> Any:
    if not hasattr(value, "dtype") or not _is_floating(value):
        return value
    backend = backend_of(value)
    name = str(backend.dtype_name(value))
    values = as_numpy(value, "an input").astype(np.float64)
    finite = np.isfinite(values)
    ulp = np.where(finite, DTYPES[name].ulp(np.where(finite, values, 0.0)), 0.0)
    # Not onto the next number but a whole ulp at most: half of one would be rounded away again.
    moved = np.where(finite & (values != 0), values + ulp * rng.integers(-1, 2, values.shape), values)
    return backend.asarray(moved.astype(DTYPES[name].dtype), dtype=name)


# --- what it says of a pair ------------------------------------------------------------------------------------------

# A run in float64 that is farther than this from the original, in units of the values, is not the same computation:
# dropout is on, or the model chooses by its dtype what it does.
SAME = 1.0 / 16.0
# Larger numbers, and the largest of a dtype, stand for infinities: masks are filled with them.
HUGE = 1e30
SIDES = ("the original", "the port")


class Noise:
    """The noise of each activation, as runs of one side in another precision measure it.

    Attributes
    ----------
    how : str
        How the noise was measured, in words, for reports.
    """

    def __init__(self, how: str, runs: list[dict[str, Any]], base: Mapping[str, Any] | None, side: int) -> None:
        self.how, self._runs, self._base, self._side = how, runs, base, side

    def of(
        self, names: tuple[str, str], pair: tuple[Array, Array], measure: str, precision: Precision
    ) -> Measured | None:
        """The noise of a pair of activations; None if the runs reveal nothing about it."""
        name, own, other = names[self._side], pair[self._side], pair[1 - self._side]
        found = [*self._runs, self._base] if self._base is not None else self._runs
        if own.shape != other.shape or any(name not in run for run in found):
            return None
        shaped = [_shaped(run[name], own.shape) for run in found]
        most = min(HUGE, 0.99 * precision.dtype.max)
        runs = [_bounded(run.astype(np.float64), most) for run in shaped if run is not None]
        if len(runs) < len(shaped):
            return None
        own, other = _bounded(own, most), _bounded(other, most)
        base = own if self._base is None else runs.pop()
        exact = runs[0] if len(runs) == 1 else own
        # What either side masks was set aside in scores.
        exact = np.where(np.isfinite(exact) == np.isfinite(own), exact, own)
        with np.errstate(all="ignore"):
            error = np.max([np.abs(base - run) for run in runs], axis=0)
            own_error = np.abs(own - exact)
        if Measured(exact, own_error, other).level("scale", precision) >= SAME:
            return None
        return Measured(exact, np.where(np.isfinite(error), error, 0.0), other)


def _shaped(values: Array, shape: tuple[int, ...]) -> Array | None:
    """The array in the shape in which the two sides were compared; None if that is impossible."""
    if values.size == int(np.prod(shape)):
        return values.reshape(shape)
    try:
        return np.broadcast_to(values, shape)  # the same for all of a batch, and kept once
    except ValueError:
        return None


def _bounded(values: Array, most: float) -> Array:
    return np.where(np.abs(values) >= most, np.copysign(np.inf, values), values)


def noise_of(called: list[Called], sides: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[Noise | None, str]:
    """The noise of two callables' activations, from a run of the one that can be converted, and a sentence about it.

    If neither can be converted, there is no noise, and the sentence says why.
    """
    narrow = narrow_of(sides[1]) if not narrow_of(sides[0]) else ""
    reasons = []
    for side, words in enumerate(SIDES):
        try:
            say(f"measuring noise: {words} in float64")
            exact = again(called[side], "float64")
            base = again(called[side], narrow) if narrow and side == 0 else None
        except NoRunError as error:
            reasons.append(f"{words}: {error}")
            continue
        how = f"{words} in float64 and in {narrow}" if base else f"{words} in float64"
        return _measured(Noise(how, [exact], base, side))
    for side, words in enumerate(SIDES if not narrow else ()):
        try:
            say(f"measuring noise: {words}, moved by an ulp")
            runs = perturbed(called[side])
        except NoRunError as error:
            reasons.append(f"{words}: {error}")
            continue
        return _measured(Noise(f"{words}, its weights and inputs moved by an ulp", runs, None, side))
    return None, f"noise was not measured: {'; '.join(reasons)}"


def _measured(noise: Noise) -> tuple[Noise, str]:
    return noise, f"noise was measured by a run of {noise.how}"


def in_training(function: Any) -> bool:
    """Whether a PyTorch model has modules that compute something else in training than after `eval`, and does."""
    model = function.model if isinstance(function, Recorder) else function
    if _library(model) != "torch" or not hasattr(model, "modules"):
        return False
    parts = [one for one in model.modules() if getattr(one, "training", False)]
    return any(getattr(one, "p", 0) > 0 or "BatchNorm" in type(one).__name__ for one in parts if _differs(one))


def _differs(module: Any) -> bool:
    return any(word in type(module).__name__ for word in ("Dropout", "BatchNorm"))


def narrow_of(activations: Mapping[str, Any]) -> str:
    """The 16-bit dtype of at least half of the activations; empty if most are wider."""
    names = [str(backend_of(one).dtype_name(one)) for one in activations.values() if _is_floating(one)]
    few = [name for name in names if DTYPES[name].dtype.itemsize == 2]
    return max(set(few), key=few.count) if few and 2 * len(few) >= len(names) else ""
