"""What is under test: a registered backend through the public API, or a user's own callable on a backend's arrays.

Both are asked in the same way, with float64 NumPy arrays in and out; the implementation makes the framework's arrays,
in the dtype and the memory layout asked for, and notes what came back. Knows the public API and no framework.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit._io import resolve
from polylogit._operations import named
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._conventions import checked
from polylogit.conformance._data.layouts import LAYOUTS, VIEWS, first_row_repeated
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Backend
    from polylogit._spec.dtypes import Array, Finfo


@dataclass(slots=True)
class Answer:
    """What came back from one call.

    Attributes
    ----------
    values : array of float64 or None
        The result on the host; None where an exception was raised.
    dtype : str
        The result's dtype.
    error : Exception or None
        What was raised.
    notes : list of str
        Breaches seen on the way: input modified, another type of array, another device.
    raw : object
        The framework's own array.
    """

    values: Array | None
    dtype: str = ""
    error: Exception | None = None
    notes: list[str] = field(default_factory=list)
    raw: Any = None


class Implementation:
    """An implementation of one operation, on one backend's arrays.

    Parameters
    ----------
    backend : Backend
    operation : str
    function : callable, optional
        A user's kernel, ``function(x, axis=-1)``; the public function of polylogit where it is left out.
    vjp : callable, optional
        ``vjp(x, cotangent, axis=-1)``, where the framework cannot differentiate the kernel.
    name : str, optional
        In results.
    device : str, optional
        Where arrays are made.
    """

    def __init__(
        self,
        backend: Backend,
        operation: str,
        function: Callable[..., Any] | None = None,
        vjp: Callable[..., Any] | None = None,
        name: str | None = None,
        device: str | None = None,
    ) -> None:
        self.backend, self.operation, self.device, self.vjp = backend, operation, device, vjp
        self.takes_axis = named(operation).takes_axis
        _check_device(backend, device)
        self.is_kernel = function is not None
        self.function: Callable[..., Any] = _by_name(function or getattr(polylogit, operation))
        self.name = name or backend.name
        self.conventions: dict[str, str] = checked(getattr(function, "conventions", None))
        parameters = _parameters(self.function)
        self.offers_axis = self.takes_axis and (parameters is None or len(parameters) > 1)
        self.axis_name = _axis_name(parameters)
        self._vjp_axis = _axis_name(_parameters(vjp), after=2) if vjp is not None else "axis"
        self.default_axis = parameters is None or _has_default(self.function, self.axis_name)
        self.offers_where = self.takes_axis and (not self.is_kernel or "where" in (parameters or ()))
        self.offers_dtype = not self.is_kernel or "dtype" in (parameters or ())
        self._programs: dict[Any, Callable[..., Any]] = {}

    # --- arrays ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def on_numpy(self) -> bool:
        """Whether the backend's arrays are NumPy's own."""
        return isinstance(self.backend.asarray(np.zeros(1, np.float32), device=self.device), np.ndarray)

    def array(self, values: Array, dtype: str, layout: str = "contiguous") -> Any:
        """A framework's array of these values; `layout` is "contiguous", "broadcast" or one of `layouts`."""
        host = np.asarray(values).astype(DTYPES[dtype].dtype if dtype in DTYPES else dtype)
        if layout in self.layouts and self.on_numpy:
            return LAYOUTS[layout](host)
        base, view = VIEWS.get(layout, (lambda x: x, first_row_repeated if layout == "broadcast" else lambda x: x))
        return view(self.backend.asarray(base(host), dtype=dtype, device=self.device))

    @functools.cached_property
    def layouts(self) -> tuple[str, ...]:
        """The memory layouts that the framework's arrays may have; none where it has no strides."""
        if self.on_numpy:
            return tuple(LAYOUTS)
        strided = hasattr(self.backend.asarray(np.zeros(1, np.float32), device=self.device), "stride")
        return tuple(VIEWS) if strided else ()

    def keeps(self, dtype: Finfo) -> bool:
        """Whether the framework has arrays of this dtype here (JAX without x64 has no float64)."""
        if dtype.name not in self.backend.dtypes():
            return False
        try:
            return self.backend.dtype_name(self.array(np.ones(1), dtype.name)) == dtype.name
        except Exception:  # noqa: BLE001  whatever the framework raises, it has none
            return False

    def declines(self, dtype: Finfo) -> str:
        """Why a universal function cannot take this dtype: it has no loop for it. Empty if it can."""
        types = getattr(self.function, "types", ()) if self.is_kernel and _is_ufunc(self.function) else ()
        loops = [loop.partition("->")[0] for loop in types]
        if not loops or dtype.dtype.char in loops:
            return ""
        return f"the ufunc has no loop for {dtype.name}, only for {', '.join(loops)}"

    def host(self, array: Any) -> Array:
        """The values as float64."""
        return np.asarray(self.backend.to_numpy(array)).astype(np.float64)

    # --- calls -------------------------------------------------------------------------------------------------

    def call(self, x: Any, axis: Any = -1, **kwargs: Any) -> Any:
        """The result for a framework's array."""
        return self.function(x, **self._axis(axis), **kwargs)

    def _axis(self, axis: Any) -> dict[str, Any]:
        return {self.axis_name: axis} if self.offers_axis else {}

    def answer(self, x: Any, axis: Any = -1, **kwargs: Any) -> Answer:
        """The answer for a framework's array, and whether it was left as it was."""
        before = self._bits(x)
        answer = self.guarded(lambda: self.call(x, axis, **kwargs), like=x)
        if before is not None and self._bits(x) != before:
            answer.notes.append("the input was modified")
        return answer

    def _bits(self, x: Any) -> bytes | None:
        if getattr(x, "size", 0) is None or not hasattr(x, "shape"):
            return None
        return bytes(np.ascontiguousarray(self.backend.to_numpy(x)).view(np.uint8)) if int(np.prod(x.shape)) else None

    def guarded(self, run: Callable[[], Any], like: Any) -> Answer:
        """What a call gives, as an answer; exceptions are caught."""
        try:
            with np.errstate(all="ignore"):
                raw = run()
            values = self.host(raw)
        except SystemExit as error:
            return Answer(None, error=RuntimeError(f"called sys.exit({error.code!r})"))
        except Exception as error:  # noqa: BLE001  anything may come out of code under test
            return Answer(None, error=error)
        answer = Answer(values, self._dtype_of(raw), raw=raw)
        if not isinstance(raw, (type(like), np.generic if isinstance(like, np.ndarray) else type(like))):
            answer.notes.append(f"the result is a {type(raw).__name__}, the input a {type(like).__name__}")
        return answer

    def _dtype_of(self, raw: Any) -> str:
        try:
            return self.backend.dtype_name(raw)
        except Exception:  # noqa: BLE001  a result that is no array of the backend
            return str(np.asarray(raw).dtype)

    @functools.cached_property
    def flushes_float16(self) -> bool:
        """Whether subnormal float16 results come out as 0, of what could not be 0 for another reason.

        Of other dtypes nobody need ask: the smallest normal number of float16 is within reach of any longer row, so
        that a sum that overflowed looks like results flushed to 0.
        """
        rows = (np.array([[0.0, -10.2]]), np.zeros((1, 20000))) if self.takes_axis else (np.array([[-10.2]]),)
        answers = [self.answer(self.array(row, "float16")) for row in rows]
        return any(answer.values is not None and bool((answer.values == 0).any()) for answer in answers)

    # --- derivatives -------------------------------------------------------------------------------------------

    @property
    def composed(self) -> bool:
        """Whether the gradient is that of the steps that the kernel is written in, by the framework's autodiff."""
        return self.is_kernel and self.vjp is None

    @property
    def differentiates(self) -> bool:
        """Whether gradients can be asked for at all."""
        return self.backend.differentiates or not self.composed

    @property
    def differentiates_forward(self) -> bool:
        """Whether forward mode and second order can be asked for."""
        return not self.is_kernel or (self.backend.differentiates and self.vjp is None)

    def derivative(self, kind: str, axis: Any, *, eager: bool) -> Callable[..., Any]:
        """``derivative(x, *directions, **kwargs)``; compiled whole where its operations would be compiled one by one.

        Parameters
        ----------
        kind : {"vjp", "jvp", "reverse", "forward"}
        axis : int, tuple of int or None
        eager : bool
            Operation by operation in any case. A user's kernel may not be one that can be compiled, and is not.
        """
        run = functools.partial(getattr(self, f"_{kind}"), axis)
        compiler = self.backend.always_compiles
        if eager or self.is_kernel or not compiler:
            return run
        if (kind, axis) not in self._programs:
            self._programs[kind, axis] = self.backend.compilers()[compiler](run)
        return self._programs[kind, axis]

    def _vjp(self, axis: Any, x: Any, cotangent: Any, **kwargs: Any) -> Any:
        if self.vjp is not None:
            axes = {self._vjp_axis: axis} if self.takes_axis and self._vjp_axis else {}
            gradient = self.vjp(x, cotangent, **axes)
            return gradient[0] if isinstance(gradient, (tuple, list)) and len(gradient) == 1 else gradient
        if self.is_kernel:
            gradient = self.backend.tape_vjp(self.function, x, {**self._axis(axis), **kwargs}, cotangent)
            return _connected(gradient, "autograd: it was computed outside of it")
        return polylogit.vjp(self.function, x, **self._axis(axis), **kwargs)[1](cotangent)

    def _jvp(self, axis: Any, x: Any, tangent: Any, **kwargs: Any) -> Any:
        if self.is_kernel:
            along = self.backend.tape_jvp(self.function, x, {**self._axis(axis), **kwargs}, tangent)
            return _connected(along, "forward mode")
        return polylogit.jvp(self.function, x, tangent, **self._axis(axis), **kwargs)[1]

    def _reverse(self, axis: Any, x: Any, cotangent: Any, direction: Any) -> Any:
        """The pullback of the pullback, reverse over reverse."""
        slope = polylogit.gradient(self.function, cotangent, **self._axis(axis))
        return polylogit.vjp(slope, x)[1](direction)

    def _forward(self, axis: Any, x: Any, cotangent: Any, direction: Any) -> Any:
        """The derivative of the pullback along a direction, forward over reverse."""
        slope = polylogit.gradient(self.function, cotangent, **self._axis(axis))
        return polylogit.jvp(slope, x, direction)[1]


def implementation_of(
    backend: str, operation: str, function: Any = None, vjp: Any = None, name: str | None = None, device: Any = None
) -> Implementation:
    """A registered backend's implementation; or a user's, whose functions may be given as ``"module:function"``."""
    found = polylogit.get_backend(backend)
    if function is None:
        return Implementation(found, operation, name=name or backend, device=device)
    name = name or (function if isinstance(function, str) else _label(function))
    return Implementation(found, operation, load(function), load(vjp), f"{found.name}+{name}", device)


def load(target: Any) -> Any:
    """What a text ``"module:function"`` names; anything else as it is."""
    if not isinstance(target, str):
        return target
    try:
        return resolve(target)
    except Exception as error:
        message = f"{target!r} cannot be loaded: {type(error).__name__}: {error}"
        raise ConformanceError(message) from error


def _label(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}:{name}".replace("/", ".")


def _connected(derivative: Any, way: str) -> Any:
    if derivative is None:
        message = f"the result does not depend on the input for {way}"
        raise NotImplementedError(message)
    return derivative


def _check_device(backend: Backend, device: str | None) -> None:
    if device is None:
        return
    try:
        backend.asarray(np.ones(1, np.float32), device=device)
    except Exception as error:
        message = f"device={device!r}: {backend.name} makes no array there ({error}); it has {backend.devices()}."
        raise ConformanceError(message) from error


def _by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose axis can be passed by name, also where it takes it by position alone."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function
    if len(parameters) != 2 or parameters[1].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return function
    default = parameters[1].default
    if default is inspect.Parameter.empty:
        return lambda x, axis: function(x, axis)
    return lambda x, axis=default: function(x, axis)


def _is_ufunc(function: Any) -> bool:
    """Whether it is a universal function: of NumPy, or of Numba, whose classes are no ``np.ufunc``."""
    return getattr(function, "nin", None) == 1 and getattr(function, "nout", None) == 1


def _parameters(function: Any) -> tuple[str, ...] | None:
    """Names of the parameters; None for a builtin that does not tell."""
    if _is_ufunc(function):  # what its signature names is the code of a row, output included
        return ("x", "axis") if getattr(function, "signature", None) else ("x",)
    try:
        parameters = inspect.signature(function).parameters.items()
    except (TypeError, ValueError):
        return None
    return tuple(name for name, parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD)


def _axis_name(parameters: tuple[str, ...] | None, after: int = 1) -> str:
    """What the axis is called: ``axis``, ``dim``, or whatever comes after the array."""
    if parameters is None:
        return "axis"
    for known in ("axis", "dim"):
        if known in parameters:
            return known
    return parameters[after] if len(parameters) > after and parameters[after] not in ("where", "dtype", "out") else ""


def _has_default(function: Any, name: str) -> bool:
    if _is_ufunc(function):
        return True
    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is not inspect.Parameter.empty
