"""Runs the two models of `isolate` under watchers, and measures the rounding error at each point of such a run.

Noise is measured as in `_exact`, by running one side in another precision, but with the original's values in place, so
each module has only its own noise. Knows neither which modules correspond nor how differences are judged.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from polylogit._progress import say
from polylogit._spec.dtypes import DTYPES
from polylogit.errors import ComparisonError
from polylogit.porting._call import _arguments, _frameworks, _in_framework, as_numpy
from polylogit.porting._compare import _SIDES as SIDES
from polylogit.porting._exact import Noise, narrow_of
from polylogit.porting._trace import Point, Substitution, Trace, is_float, nudged
from polylogit.porting._watch import softmaxes, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    Array = np.ndarray[Any, Any]
    Points = Mapping[Point, Array]

_Either = TypeVar("_Either", "Trace", "Substitution")

__all__ = ["FailedError", "PointNoise", "Runs"]

# Runs on values that are moved by a rounding error: the larger of their differences counts.
MOVED = 2


class FailedError(Exception):
    """A model raised an error under a watcher."""

    def __init__(self, watcher: Trace | Substitution, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.watcher, self.error = watcher, error


class Runs:
    """The reference and the candidate with their inputs, run as often as necessary."""

    def __init__(self, models: tuple[Any, Any], inputs: tuple[Any, Any]) -> None:
        self.models, self.inputs = models, inputs
        self.sides = watched(models[0]), watched(models[1])

    def run(
        self,
        side: int,
        make: Callable[[], _Either],
        *,
        dtype: str = "",
        change: Callable[[Array], Array] | None = None,
    ) -> _Either:
        """Call one of the models, with its inputs in its framework, under a watcher made by `make`.

        `dtype` is the dtype to compute in, if the model can; `change` is applied to all floating-point inputs.
        """
        model, what = self.sides[side], SIDES[side]
        if dtype:
            change = functools.partial(_in_dtype, dtype=dtype)
        say(f"running {what}{f' in {dtype}' if dtype else ''}")
        arguments, keywords = _arguments(self.inputs[side])
        frameworks = [model.framework] if model.framework else list(_frameworks(model.function))
        failures: list[FailedError] = []
        for framework in frameworks:
            convert = functools.partial(_given, framework=framework, change=change)
            watcher = make()
            other = model.in_dtype(dtype) if dtype and model.in_dtype else contextlib.nullcontext()
            try:
                with softmaxes(watcher), model.watching(watcher), other:
                    model.function(*map(convert, arguments), **{key: convert(one) for key, one in keywords.items()})
            except Exception as error:  # noqa: BLE001  whatever a user's model raises
                failures.append(FailedError(watcher, error))
                continue
            return watcher
        if isinstance(failures[0].watcher, Substitution):
            raise failures[0]
        message = f"{what} could not be called. {failures[0]}. Pass inputs= that it accepts"
        message += ", or candidate_inputs= where the two take different ones."
        raise ComparisonError(message) from failures[0].error

    def noise(
        self, trace: Trace, candidate: Points, places: tuple[Mapping[str, int], ...], see: Callable[[Substitution], Any]
    ) -> PointNoise:
        """The rounding error at each point of a trace.

        `candidate` holds the values of the candidate, `places` the calls of the trace by their names on each side, and
        `see` is called with each run when it is done.
        """

        def again(side: int, *, seed: int | None = None, **how: Any) -> Points:
            run = self.run(side, lambda: Substitution(trace, places[side], seed=seed), **how)
            see(run)
            return run.points

        there = {str(at): one for at, one in candidate.items()}
        here = {str(at): getattr(trace.calls[at.call], at.side)[at.path] for at in candidate}
        narrow = narrow_of(there) if not narrow_of(here) else ""
        for side, words in enumerate(("the original", "the port")):
            if self.sides[side].in_dtype is None:
                continue
            with contextlib.suppress(FailedError):  # a model may insist on its dtype
                exact = again(side, dtype="float64")
                if not narrow or side == 1:
                    return PointNoise(f"{words} in float64", [exact], None, side)
                return PointNoise(f"{words} in float64 and in {narrow}", [exact], again(side, dtype=narrow), side)
        moved = [again(0, seed=seed, change=functools.partial(nudged, seed=seed)) for seed in range(MOVED)]
        return PointNoise("the original, its inputs moved by a rounding error", moved, None, 0)


class PointNoise:
    """The noise at each point, like `_exact.Noise` for activations."""

    def __init__(self, how: str, runs: list[Points], base: Points | None, side: int) -> None:
        self.how, self._runs, self._base, self._side = how, runs, base, side

    def at(self, point: Point, names: tuple[str, str], pair: tuple[Array, Array]) -> Noise:
        """The noise of the pair observed there; exact if no run computed it otherwise."""
        name, own = names[self._side], pair[self._side]
        runs = [{name: one.get(point, own)} for one in self._runs]
        return Noise(self.how, runs, None if self._base is None else {name: self._base.get(point, own)}, self._side)


def _in_dtype(values: Array, *, dtype: str) -> Array:
    return values.astype(DTYPES[dtype].dtype)


def _given(value: Any, *, framework: str | None, change: Callable[[Array], Array] | None) -> Any:
    """An input in a framework, changed if it holds floating-point numbers."""
    if change is not None and hasattr(value, "dtype") and is_float(values := as_numpy(value, "inputs=")):
        value = change(values)
    return _in_framework(value, framework)
