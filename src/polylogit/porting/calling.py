"""Calling what is to be compared: in its own framework, with the same inputs, and its gradient.

A callable does not say which framework it wants. What it is made of does: the class of a module, the modules that a
function's names lead to. Inputs are then converted to that framework; where nothing can be found out they are passed
as they are, and the frameworks that are loaded are tried next.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import registry
from polylogit.differentiation import vjp
from polylogit.errors import ComparisonError, ConversionError, PolylogitError
from polylogit.interchange import convert
from polylogit.porting.record import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Called", "as_numpy", "call", "framework_of"]

_ROOTS = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "jaxlib": "jax", "flax": "jax"}


def framework_of(array: Any) -> str:
    """The name of the backend that owns an array; "numpy" for Python numbers and sequences."""
    try:
        return registry.get_backend(array).name
    except PolylogitError:
        return "numpy"


def as_numpy(array: Any, what: str) -> np.ndarray[Any, Any]:
    """Any framework's array, number or sequence as a NumPy array of real numbers."""
    try:
        values = np.asarray(convert(array, "numpy"))
    except (ConversionError, ValueError) as error:
        message = f"{what} cannot be compared: {error}"
        raise ComparisonError(message) from error
    if values.dtype.kind not in "biuf" and values.dtype.type.__module__ != "ml_dtypes":
        message = f"{what} has the dtype {values.dtype}; only real numbers can be compared. Compare its parts instead."
        raise ComparisonError(message)
    return values


class Called:
    """A callable, its framework and what it returned.

    Attributes
    ----------
    output : array or mapping
        What the callable returned.
    framework : str
        The framework of the inputs that it took.
    gradient : array or None
        With respect to the first input, where a cotangent was given.
    """

    def __init__(self, function: Callable[..., Any], arguments: list[Any], keywords: dict[str, Any]) -> None:
        self.function, self.arguments, self.keywords = function, arguments, keywords
        self.output = function(*arguments, **keywords)
        self.framework = framework_of(arguments[0]) if arguments else framework_of(last(self.output))
        self.gradient: Any = None

    def value(self, x: Any) -> Any:
        """The last activation as a function of the first input alone."""
        return last(self.function(x, *self.arguments[1:], **self.keywords))

    def differentiate(self, cotangent: Any, what: str) -> None:
        """Find the gradient of ``sum(output * cotangent)`` with respect to the first input."""
        if not self.arguments:
            message = f"{what} was given no positional input; cotangent= needs one to differentiate with respect to."
            raise ComparisonError(message)
        output = last(self.output)
        framework = framework_of(output)
        x = self.arguments[0]
        shape = tuple(output.shape)
        values = np.broadcast_to(np.asarray(as_numpy(cotangent, "cotangent="), np.float64), shape)
        try:
            if framework == "torch":
                self.gradient = _torch_gradient(self.value, x, values)
                return
            x = x if framework_of(x) == framework else convert(x, framework)
            _, pullback = vjp(self.value, x) if framework != "numpy" else vjp(self.function, x, **self.keywords)
            self.gradient = pullback(_like(values, output, framework))
        except Exception as error:
            message = f"the gradient of {what} failed with {type(error).__name__}: {error}"
            raise ComparisonError(message) from error


def _torch_gradient(function: Callable[[Any], Any], x: Any, cotangent: Any) -> Any:
    """By autograd itself: torch.func refuses autograd functions in the older style, and hooks that call NumPy."""
    import torch

    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = function(x)
    if not y.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(y, x, torch.tensor(cotangent, dtype=y.dtype), allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _like(values: Any, output: Any, framework: str) -> Any:
    backend = registry.get_backend(framework)
    return backend.asarray(values, dtype=backend.dtype_name(output))


def last(output: Any) -> Any:
    """The output itself, or the last of its activations."""
    return list(output.values())[-1] if isinstance(output, Mapping) and output else output


# --- calling ---------------------------------------------------------------------------------------------------------


def call(function: Callable[..., Any], inputs: Any, what: str) -> Called:
    """Call with inputs in the callable's own framework.

    Parameters
    ----------
    function : callable
        Of one framework's arrays.
    inputs : array, tuple, list or dict
        One array; several positional ones; or keyword arguments.
    what : str
        "the reference" or "the candidate", for messages.
    """
    arguments, keywords = _arguments(inputs)
    failures = []
    for framework in _frameworks(function):
        try:
            given = [_in_framework(one, framework) for one in arguments]
            named = {key: _in_framework(one, framework) for key, one in keywords.items()}
            return Called(function, given, named)
        except Exception as error:  # noqa: BLE001  whatever a user's function raises
            failures.append((framework or "as given", error))
    shown = "; ".join(f"inputs {name}: {type(error).__name__}: {error}" for name, error in failures[:3])
    message = f"{what} could not be called. {shown}. Pass inputs= that it takes, as arrays of its own framework."
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
        # JAX without x64 has no 64-bit numbers; what it would make of them silently is made here by name.
        narrow = {"f8": "f4", "i8": "i4", "u8": "u4"}
        values = np.asarray(convert(value, "numpy"))
        return convert(values.astype(narrow.get(values.dtype.str[1:], values.dtype)), framework)


def _frameworks(function: Any) -> Iterator[str | None]:
    """The frameworks to try, the likeliest first; None is the inputs as they were given."""
    found = list(dict.fromkeys(_traces(function)))
    if len(found) == 1:
        yield found[0]
        return
    yield None
    yield from found
    yield from (name for name in ("numpy", "torch", "jax", "tensorflow") if name in sys.modules and name not in found)


def _traces(function: Any, depth: int = 0) -> Iterator[str]:
    """The frameworks that a callable's class, or the names it uses, lead to."""
    if isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, Recorder):
        if function.framework is not None:
            yield function.framework
            return
        function = function.model
    for owner in (function, getattr(function, "__self__", None)):
        if owner is None or inspect.ismodule(owner):
            continue
        roots = [cls.__module__.partition(".")[0] for cls in type(owner).__mro__]
        if "keras" in roots:
            yield _keras_backend()
            return
        yield from (_ROOTS[root] for root in roots if root in _ROOTS)
    root = str(getattr(function, "__module__", "")).partition(".")[0]
    if root in _ROOTS:
        yield _ROOTS[root]
        return
    # A function, a method, or an instance whose class says what calling it does.
    target = function if hasattr(function, "__globals__") else getattr(function, "__func__", type(function).__call__)
    code = getattr(target, "__code__", None)
    if code is not None and depth <= 2:
        yield from _names(target, code, depth)


def _names(function: Any, code: Any, depth: int) -> Iterator[str]:
    scope = getattr(function, "__globals__", {})
    values = [scope[name] for name in code.co_names if name in scope]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:
            continue  # a name that is not bound yet
    for value in values:
        if inspect.ismodule(value):
            root = value.__name__.partition(".")[0]
            if root in _ROOTS:
                yield _ROOTS[root]
        elif callable(value) and not isinstance(value, type):
            yield from _traces(value, depth + 1)
        elif isinstance(value, type) and value.__module__.partition(".")[0] in _ROOTS:
            yield _ROOTS[value.__module__.partition(".")[0]]
    for name in code.co_names:
        if name in ("torch", "tensorflow", "jax"):  # imported inside the function
            yield name


def _keras_backend() -> str:
    import keras

    return {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}.get(keras.backend.backend(), "numpy")
