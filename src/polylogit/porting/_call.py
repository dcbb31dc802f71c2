"""Calls the two sides, each in its own framework with the same inputs, and computes their gradients.

Nothing declares the framework of a callable, so it is inferred: from the class of a model, or from the modules that a
function's globals and closure refer to. Inputs are converted to that framework. If no framework or several are found,
the inputs are passed unchanged first, and then as arrays of each loaded framework. Knows backends only through the
registry.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import _registry as registry
from polylogit import convert, vjp
from polylogit.errors import ComparisonError, ConversionError, PolylogitError
from polylogit.porting._recorders import LIBRARIES, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._backends.base import Backend

    Array = np.ndarray[Any, Any]

__all__ = ["Called", "as_numpy", "backend_of", "call"]


def backend_of(array: Any) -> Backend:
    """The backend that owns an array; NumPy's if none does."""
    try:
        return registry.get_backend(array)
    except PolylogitError:
        return registry.get_backend("numpy")


def as_numpy(array: Any, what: str) -> Array:
    """Any framework's array, number or sequence as a NumPy array of real numbers."""
    try:
        values = np.asarray(convert(array, "numpy"))
    except (ConversionError, ValueError) as error:
        message = f"{what} cannot be compared: {error}"
        raise ComparisonError(message) from error
    # bfloat16, float8 and the other real dtypes of ml_dtypes have no kind in NumPy.
    if values.dtype.kind not in "biuf" and values.dtype.type.__module__ != "ml_dtypes":
        message = f"{what} has the dtype {values.dtype}; only real numbers can be compared. Compare its parts instead."
        raise ComparisonError(message)
    return values


def exact(array: Any, what: str) -> Array:
    """The same in float64."""
    return as_numpy(array, what).astype(np.float64)


class Called:
    """A callable, its inputs in the framework that it accepted, and its output.

    After `differentiate`, `gradient` is the gradient with respect to the first floating-point input.
    """

    def __init__(self, function: Callable[..., Any], arguments: list[Any], keywords: dict[str, Any]) -> None:
        self.function, self.arguments, self.keywords = function, arguments, keywords
        self.output = function(*arguments, **keywords)
        self.gradient: Any = None

    @property
    def _place(self) -> int | str | None:
        """The place of the first floating-point input: its position, or its keyword."""
        given: list[tuple[int | str, Any]] = [*enumerate(self.arguments), *self.keywords.items()]
        return next((place for place, value in given if _is_floating(value)), None)

    @property
    def _input(self) -> Any:
        place = self._place
        return self.arguments[place] if isinstance(place, int) else self.keywords[str(place)]

    def value(self, x: Any) -> Any:
        """The last activation as a function of only the first floating-point input."""
        function = self.function.outputs if isinstance(self.function, Recorder) else self.function
        place = self._place
        arguments = [x if index == place else value for index, value in enumerate(self.arguments)]
        return _last(function(*arguments, **{key: x if key == place else it for key, it in self.keywords.items()}))

    def differentiate(self, cotangent: Any, what: str) -> None:
        """Compute the gradient of ``sum(output * cotangent)`` with respect to that input."""
        if self._place is None:
            message = (
                f"{what} has no input of floating-point numbers to differentiate with respect to. Pass one, for "
                "example inputs_embeds= in place of token ids, or leave cotangent= out."
            )
            raise ComparisonError(message)
        output, x = _last(self.output), self._input
        backend = backend_of(output)
        values = _as_large_as(exact(cotangent, "cotangent="), tuple(output.shape), what)
        try:
            x = x if backend_of(x) is backend else convert(x, backend.name)
            g = backend.asarray(values, dtype=backend.dtype_name(output))
            if backend.differentiates:
                self.gradient = backend.tape_vjp(self.value, x, {}, g)
            else:
                self.gradient = vjp(self.function, x, **self.keywords)[1](g)
        except Exception as error:
            message = f"the gradient of {what} failed with {type(error).__name__}: {error}"
            raise ComparisonError(message) from error
        if self.gradient is None:
            self.gradient = np.zeros_like(as_numpy(x, what))

    def slopes(self, gradient: Array, cotangent: Array) -> tuple[Array, Array]:
        """Directional derivatives in 8 directions, by central differences and according to the gradient."""
        x = as_numpy(self._input, "inputs=")
        backend = backend_of(self._input)
        rng = np.random.default_rng(0)
        step = 2.0**-7 if x.dtype.itemsize <= 4 else 2.0**-17
        numeric, claimed = [], []
        for _ in range(8):
            direction = rng.standard_normal(x.shape)
            ends = []
            for moved in (x + step * direction, x - step * direction):
                value = exact(self.value(convert(moved.astype(x.dtype), backend.name)), "the candidate's output")
                ends.append(float(np.sum(np.where(np.isfinite(value), value * cotangent, 0.0))))
            numeric.append((ends[0] - ends[1]) / (2 * step))
            claimed.append(float(np.sum(gradient * direction)))
        return np.array(numeric), np.array(claimed)


def _as_large_as(cotangent: Array, shape: tuple[int, ...], what: str) -> Array:
    try:
        return np.broadcast_to(cotangent, shape)
    except ValueError:
        message = f"cotangent= has the shape {cotangent.shape}, and the output of {what} has {shape}. Pass one of that "
        message += "shape, or a number for all entries."
        raise ComparisonError(message) from None


def _is_floating(value: Any) -> bool:
    return isinstance(value, float) or any(word in str(getattr(value, "dtype", "")) for word in ("float", "double"))


def _last(output: Any) -> Any:
    """The output itself, or the last of its activations."""
    return list(output.values())[-1] if isinstance(output, Mapping) and output else output


# --- calling ---------------------------------------------------------------------------------------------------------


def call(function: Callable[..., Any], inputs: Any, what: str) -> Called:
    """Call with inputs in the callable's own framework; `what` is "the reference" or "the candidate", for messages."""
    arguments, keywords = _arguments(inputs)
    failures = []
    for framework in _frameworks(function):
        try:
            given = [_in_framework(one, framework) for one in arguments]
            return Called(function, given, {key: _in_framework(one, framework) for key, one in keywords.items()})
        except Exception as error:  # noqa: BLE001  whatever a user's function raises
            failures.append((framework or "as given", error))
    said: dict[str, list[str]] = {}
    for name, raised in failures:
        said.setdefault(f"{type(raised).__name__}: {raised}", []).append(name)
    shown = "; ".join(f"{text} (inputs {', '.join(names)})" for text, names in list(said.items())[:3])
    message = f"{what} could not be called. {shown}. If it is not its own mistake, pass inputs= that it accepts"
    message += f"; these were given by the names {list(keywords)}." if keywords else ", as arrays of its own framework."
    raise ComparisonError(message) from failures[0][1]


def _arguments(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return [], dict(inputs)
    if isinstance(inputs, (tuple, list)) and not all(isinstance(one, (int, float)) for one in inputs):
        return list(inputs), {}
    return [np.asarray(inputs) if isinstance(inputs, (tuple, list)) else inputs], {}


def _in_framework(value: Any, framework: str | None) -> Any:
    if framework is None or not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return value
    try:
        return convert(value, framework)
    except ConversionError:
        # JAX has no 64-bit dtypes unless x64 is on, and would round the values silently; round them here.
        narrow = {"f8": "f4", "i8": "i4", "u8": "u4"}
        values = np.asarray(convert(value, "numpy"))
        return convert(values.astype(narrow.get(values.dtype.str[1:], values.dtype)), framework)


# --- which framework a callable is of --------------------------------------------------------------------------------


def _frameworks(function: Any) -> Iterator[str | None]:
    """The frameworks to try, the likeliest first; None stands for the unchanged inputs."""
    found = list(dict.fromkeys(_traces(function)))
    if len(found) == 1:
        yield found[0]
        return
    yield None
    yield from found
    yield from (name for name in registry.SPECIFICATIONS if name in sys.modules and name not in found)


def _roots() -> dict[str, str]:
    """Top-level package -> its framework; without NumPy, which code for every framework uses."""
    known = (one for one in registry.SPECIFICATIONS.values() if one.name != "numpy")
    loaded = {root: library.framework() for root, library in LIBRARIES.items() if root in sys.modules}
    return {root: one.name for one in known for root in one.roots} | {root: it for root, it in loaded.items() if it}


def _root(module: Any) -> str:
    return str(module).partition(".")[0]


def _traces(function: Any, depth: int = 0) -> Iterator[str]:
    """The frameworks that a callable's class, or the names it uses, refer to."""
    if isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, Recorder):
        if function.framework is not None:
            yield function.framework
            return
        function = function.model
    roots = _roots()
    for owner in (function, getattr(function, "__self__", None)):
        if owner is None or inspect.ismodule(owner):
            continue
        bases = [_root(cls.__module__) for cls in type(owner).__mro__]
        if (library := next((root for root in LIBRARIES if root in bases), "")) in roots:
            yield roots[library]
            return
        yield from (roots[root] for root in bases if root in roots)
    if (root := _root(getattr(function, "__module__", ""))) in roots:
        yield roots[root]
        return
    # A function, a method, or an instance whose class says what calling it does.
    target = function if hasattr(function, "__globals__") else getattr(function, "__func__", type(function).__call__)
    code = getattr(target, "__code__", None)
    if code is not None and depth <= 2:
        yield from _names(target, code, depth)


def _names(function: Any, code: Any, depth: int) -> Iterator[str]:
    """The frameworks that the global names and the closure of a function refer to."""
    scope, roots = getattr(function, "__globals__", {}), _roots()
    values = [scope[name] for name in code.co_names if name in scope]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            continue  # a name that is not bound yet
    for value in values:
        if inspect.ismodule(value) or isinstance(value, type):
            root = _root(value.__name__ if inspect.ismodule(value) else value.__module__)
            if root in roots:
                yield roots[root]
        elif callable(value):
            yield from _traces(value, depth + 1)
    yield from (roots[name] for name in code.co_names if name in roots)  # imported inside the function
