"""What is under test: a registered backend through the public API, or someone's own callable on a backend's arrays.

Both are asked in the same way, with float64 NumPy arrays in and out; the subject makes the framework's arrays, in the
dtype and the memory layout asked for, and notes what came back. Knows the public API and no framework.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit.conformance.autodiff import pullback_of, tangent_of
from polylogit.conformance.layouts import LAYOUTS, VIEWS
from polylogit.errors import ConformanceError
from polylogit.operations import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.base import Backend
    from polylogit.spec.dtypes import Array, Finfo

__all__ = ["Answer", "Subject"]


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


class Subject:
    """An implementation of one operation, on one backend's arrays.

    Parameters
    ----------
    backend : Backend
    operation : str
    implementation : callable, optional
        ``implementation(x, axis=-1)``; the public function of polylogit where it is left out.
    vjp : callable, optional
        ``vjp(x, cotangent, axis=-1)``, where the framework cannot differentiate the implementation.
    name : str, optional
        In results.
    device : str, optional
        Where arrays are made.
    """

    def __init__(
        self,
        backend: Backend,
        operation: str,
        implementation: Callable[..., Any] | None = None,
        vjp: Callable[..., Any] | None = None,
        name: str | None = None,
        device: str | None = None,
    ) -> None:
        self.backend, self.operation, self.device = backend, operation, device
        self.takes_axis = named(operation).takes_axis
        _check_device(backend, device)
        self.own = implementation is not None
        self.function: Callable[..., Any] = _by_name(implementation or getattr(polylogit, operation))
        self.vjp = vjp
        self.name = name or backend.name
        parameters = _parameters(self.function)
        self.offers_axis = self.takes_axis and (parameters is None or len(parameters) > 1)
        self._axis_name = _axis_name(parameters)
        self._vjp_axis = _axis_name(_parameters(vjp), after=2) if vjp is not None else "axis"
        self.default_axis = parameters is None or _has_default(self.function, self._axis_name)
        self.offers_where = self.takes_axis and (not self.own or "where" in (parameters or ()))
        self.offers_dtype = not self.own or "dtype" in (parameters or ())

    # --- arrays ------------------------------------------------------------------------------------------------

    def array(self, values: Array, dtype: str, layout: str = "contiguous") -> Any:
        """A framework's array of these values; `layout` as in `layouts`."""
        host = np.asarray(values).astype(_host_dtype(dtype))
        if layout == "contiguous":
            return self.backend.asarray(host, dtype=dtype, device=self.device)
        if self.backend.name == "numpy":
            return LAYOUTS[layout](host)
        base, view = VIEWS[layout]
        return view(self.backend.asarray(base(host), dtype=dtype, device=self.device))

    @functools.cached_property
    def layouts(self) -> tuple[str, ...]:
        """The memory layouts that the framework's arrays may have; none where it has no strides."""
        if self.backend.name == "numpy":
            return tuple(LAYOUTS)
        strided = hasattr(self.array(np.zeros(1), "float32"), "stride")
        return tuple(VIEWS) if strided else ()

    def keeps(self, dtype: Finfo) -> bool:
        """Whether the framework has arrays of this format here (JAX without x64 has no float64)."""
        if dtype.name not in self.backend.dtypes():
            return False
        try:
            return self.backend.dtype_name(self.array(np.ones(1), dtype.name)) == dtype.name
        except Exception:  # noqa: BLE001  whatever the framework raises, it has none
            return False

    def declines(self, dtype: Finfo) -> str:
        """What a universal function says by its loops: with none for this format, it is for others alone."""
        types = getattr(self.function, "types", ()) if self.own and _is_ufunc(self.function) else ()
        loops = [loop.partition("->")[0] for loop in types]
        return (
            ""
            if not loops or dtype.dtype.char in loops
            else f"the ufunc has no loop for {dtype.name}, only for {', '.join(loops)}"
        )

    def host(self, array: Any) -> Array:
        """The values as float64."""
        return np.asarray(self.backend.to_numpy(array)).astype(np.float64)

    # --- calls -------------------------------------------------------------------------------------------------

    def call(self, x: Any, axis: Any = -1, **kwargs: Any) -> Any:
        """The implementation on a framework's array."""
        return self.function(x, **self.keywords(axis), **kwargs)

    def keywords(self, axis: Any) -> dict[str, Any]:
        """How the axis is passed to the implementation."""
        return {self._axis_name: axis} if self.offers_axis else {}

    def answer(self, x: Any, axis: Any = -1, **kwargs: Any) -> Answer:
        """The implementation's answer for a framework's array, and whether it left its input alone."""
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

    # --- derivatives -------------------------------------------------------------------------------------------

    @property
    def differentiates(self) -> bool:
        """Whether gradients can be asked for at all."""
        return self.vjp is not None or not self.own or self.backend.differentiates

    @property
    def composed(self) -> bool:
        """Whether the gradient is that of the steps that the kernel is written in, by the framework's autodiff."""
        return self.own and self.vjp is None

    @property
    def differentiates_forward(self) -> bool:
        """Whether forward mode and second order can be asked for."""
        return not self.own or (self.backend.differentiates and self.vjp is None)

    def pull(self, x: Any, cotangent: Any, axis: Any, **kwargs: Any) -> Any:
        """The gradient for a cotangent."""
        if self.vjp is not None:
            axes = {self._vjp_axis: axis} if self.takes_axis and self._vjp_axis else {}
            gradient = self.vjp(x, cotangent, **axes)
            return gradient[0] if isinstance(gradient, (tuple, list)) and len(gradient) == 1 else gradient
        if self.own:
            return pullback_of(self.backend, self.function, x, {**self.keywords(axis), **kwargs}, cotangent)
        return polylogit.vjp(self.function, x, **self.keywords(axis), **kwargs)[1](cotangent)

    def push(self, x: Any, tangent: Any, axis: Any, **kwargs: Any) -> Any:
        """The directional derivative along a tangent."""
        if self.own:
            return tangent_of(self.backend, self.function, x, {**self.keywords(axis), **kwargs}, tangent)
        return polylogit.jvp(self.function, x, tangent, **self.keywords(axis), **kwargs)[1]

    def pull_twice(self, x: Any, cotangent: Any, direction: Any, axis: Any) -> Any:
        """The pullback of the pullback, reverse over reverse."""
        slope = polylogit.gradient(self.function, cotangent, **self.keywords(axis))
        return polylogit.vjp(slope, x)[1](direction)

    def push_pull(self, x: Any, cotangent: Any, direction: Any, axis: Any) -> Any:
        """The derivative of the pullback along a direction, forward over reverse."""
        slope = polylogit.gradient(self.function, cotangent, **self.keywords(axis))
        return polylogit.jvp(slope, x, direction)[1]


def _check_device(backend: Backend, device: str | None) -> None:
    if device is None:
        return
    try:
        backend.asarray(np.ones(1, np.float32), device=device)
    except Exception as error:
        message = f"device={device!r}: {backend.name} makes no array there ({error}); it has {backend.devices()}."
        raise ConformanceError(message) from error


def _host_dtype(dtype: str) -> np.dtype[Any]:
    from polylogit.spec.dtypes import DTYPES  # noqa: PLC0415

    return DTYPES[dtype].dtype if dtype in DTYPES else np.dtype(dtype)


def _by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose axis can be passed by name, also where it takes it by position alone."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function
    if len(parameters) != 2 or parameters[1].kind is not inspect.Parameter.POSITIONAL_ONLY:  # noqa: PLR2004
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
        return tuple(
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        )
    except (TypeError, ValueError):
        return None


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
