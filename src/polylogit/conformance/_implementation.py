"""The implementation under test, in this process: a registered backend through the public API, or a user's callable.

Both have the same interface, with NumPy arrays in and out. The implementation creates the framework's arrays in the
requested dtype and memory layout, and observes the result. Knows the public API, no framework, and not what is right:
the code under test can reach nothing here that would help it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit._io import resolve
from polylogit._operations import named
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._conventions import checked
from polylogit.conformance._data.layouts import LAYOUTS, VIEWS, first_row_repeated
from polylogit.conformance._request import Answer, Subject, in_dtype
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polylogit._backends.base import Backend
    from polylogit._spec.dtypes import Array, Finfo
    from polylogit.conformance._request import Request

# Looked up before any code under test is imported, which may put something else in their places.
_asarray, _tobytes, _byte_bounds = np.asarray, np.ndarray.tobytes, np.lib.array_utils.byte_bounds
# What memory of the result's size holds before each of two calls, and how much of it is written to and given back.
_LEFT = (np.nan, 3.0)
_BLOCKS = 3
_SLOW = 0.2  # seconds; what takes longer is not called again
_LEFT_OUT = "left out"  # in place of an axis: the call does not name one


class Implementation(Subject):
    """An implementation of one operation, for one backend's arrays.

    Parameters
    ----------
    backend : Backend
    operation : str
    function : callable, optional
        A user's kernel, ``function(x, axis=-1)``; by default the public function of polylogit.
    vjp : callable, optional
        ``vjp(x, cotangent, axis=-1)``, if the framework cannot differentiate the kernel.
    name : str, optional
        The name in results.
    device : str, optional
        The device for the arrays.
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
        own = _parameters(vjp) if vjp is not None else ()
        self._vjp_axis = _axis_name(own, after=2) if vjp is not None else "axis"
        self.default_axis = parameters is None or _has_default(self.function, self.axis_name)
        self.default_vjp_axis = vjp is not None and bool(self._vjp_axis) and _has_default(vjp, self._vjp_axis)
        self.offers_where = self.takes_axis and (not self.is_kernel or "where" in (parameters or ()))
        self.offers_vjp_where = self.offers_where and (vjp is None or "where" in (own or ()))
        self.offers_dtype = not self.is_kernel or "dtype" in (parameters or ())
        self._programs: dict[Any, Callable[..., Any]] = {}
        self.widens = True  # whether answers hold float64; otherwise what came back as it is

    # --- arrays ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def on_numpy(self) -> bool:  # type: ignore[override]  # a fact that is found out
        """Whether the backend's arrays are NumPy's own."""
        return isinstance(self.backend.asarray(np.zeros(1, np.float32), device=self.device), np.ndarray)

    def array(self, values: Array, dtype: str, layout: str = "contiguous") -> Any:
        """A framework's array of these values; `layout` is "contiguous", "broadcast" or one of `layouts`."""
        host = in_dtype(values, dtype)
        if layout in self.layouts and self.on_numpy:
            return LAYOUTS[layout](host)
        base, view = VIEWS.get(layout, (lambda x: x, first_row_repeated if layout == "broadcast" else lambda x: x))
        return view(self.backend.asarray(base(host), dtype=dtype, device=self.device))

    @functools.cached_property
    def layouts(self) -> tuple[str, ...]:  # type: ignore[override]  # likewise
        """The memory layouts that the framework's arrays may have; none if it has no strides."""
        if self.on_numpy:
            return tuple(LAYOUTS)
        strided = hasattr(self.backend.asarray(np.zeros(1, np.float32), device=self.device), "stride")
        return tuple(VIEWS) if strided else ()

    def lacks(self, dtype: Finfo) -> str:
        """Why the framework has no arrays of this dtype here (JAX without x64 has no float64); empty if it has."""
        backend, wanted = self.backend, dtype.name
        if wanted not in backend.dtypes():
            return f"{backend.name} has no {wanted} arrays here"
        try:
            made = backend.dtype_name(self.array(np.ones(1), wanted))
        except Exception as error:  # noqa: BLE001  whatever the framework raises, it has none
            return f"{backend.name} makes no {wanted} array here: {type(error).__name__}: {error}"
        if made == wanted:
            return ""
        return (
            f"{backend.name} was asked for {wanted} and made an array whose dtype Backend.dtype_name calls {made!r}; "
            f"it has to be {wanted!r}, or else not be among Backend.dtypes"
        )

    def declines(self, dtype: Finfo) -> str:
        """Why a universal function cannot take this dtype: it has no loop for it; empty if it can."""
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

    def ask(self, request: Request) -> Answer:
        """The answer to one request; raises an error if the framework cannot create the arrays."""
        with self.backend.strict_compilation():
            return self._asked(request)[0]

    def _asked(self, request: Request) -> tuple[Answer, Any]:
        """The answer, and the framework's own array."""
        run, named = self._set_up(request)
        like = named[0][1]
        before = [(name, one, self._bits(one)) for name, one in named]
        self._leave_behind(request, 0)
        start = time.monotonic()
        answer, raw = self._guarded(run, like)
        if request.twice and answer.error is None and time.monotonic() - start < _SLOW:
            self._leave_behind(request, 1)
            self._again(run, like, answer, raw)
        answer.notes += [f"{name} was modified" for name, one, bits in before if self._bits(one) != bits]
        if answer.error is None and (request.kind == "values" or self.vjp is not None):
            answer.notes += [f"the result shares memory with {name}" for name, one in named if _overlap(raw, one)]
        return answer, raw

    def _again(self, run: Callable[[], Any], like: Any, answer: Answer, raw: Any) -> None:
        """Make the same call again: neither the previous contents of memory nor the first result may change it."""
        first = self._bits(raw)
        again, other = self._guarded(run, like)
        if again.error is not None:
            answer.notes.append(f"the same call again raised {type(again.error).__name__}: {again.error}")
            return
        shapes = [one.values.shape for one in (answer, again) if one.values is not None]
        if len(set(shapes)) > 1:
            answer.notes.append(f"the same call gave the shape {shapes[0]}, and again {shapes[1]}")
        elif self._bits(other) != first:
            answer.again = again.values
        if _overlap(raw, other) or self._bits(raw) != first:
            answer.notes.append("the results of two calls share memory")

    def _leave_behind(self, request: Request, which: int) -> None:
        """Allocate memory of the result's size, fill it and free it, so that a call may receive it as its result."""
        if request.twice and request.x.size:
            left = np.full(request.x.shape, _LEFT[which])
            made = [self.array(left, request.into or request.dtype) for _ in range(_BLOCKS)]
            del made

    def _set_up(self, request: Request) -> tuple[Callable[[], Any], list[tuple[str, Any]]]:
        """The call, ready to be made, and the arrays that it must not change."""
        x = self.array(request.x, request.dtype, request.layout)
        given = [self.array(one, request.dtype, request.directions_layout) for one in request.directions]
        for one in (x, *given):
            _plain_shape(one)
        kwargs: dict[str, Any] = {}
        if request.where is not None:
            kwargs["where"] = self.array(request.where, "bool")
        if request.into:
            kwargs["dtype"] = self.array(np.zeros(1), request.into).dtype
        arrays = [("the input", x), *(("the cotangent", one) for one in given)]
        if request.compiler:
            function = self.backend.compilers()[request.compiler](self._between if request.doubled else self._along)
            return lambda: function(x), arrays
        if request.kind != "values":
            axis = request.axis if request.axis_given else _LEFT_OUT
            derivative = self.derivative(request.kind, axis, eager=request.eager)
            return lambda: derivative(x, *given, **kwargs), arrays
        if request.axis_given:
            return lambda: self.call(x, request.axis, **kwargs), arrays
        return lambda: self.function(x, **kwargs), arrays

    def _along(self, x: Any) -> Any:
        return self.call(x, -1)

    def _between(self, x: Any) -> Any:
        """The function between a doubling and a halving, which are exact: a compiler may fuse, but the values stay."""
        return self.call(x + x, -1) * 2.0 * 0.5

    def _bits(self, x: Any) -> bytes | None:
        """The contents of an array, read by functions saved before the code under test was loaded."""
        try:
            return _tobytes(_asarray(self.backend.to_numpy(x)))
        except Exception:  # noqa: BLE001  a result that is no array of the backend
            return None

    def _guarded(self, run: Callable[[], Any], like: Any) -> tuple[Answer, Any]:
        """The outcome of a call as an answer; exceptions are caught."""
        try:
            with np.errstate(all="ignore"):
                raw = run()
            if raw is None:
                raise TypeError("it returned None; a function without `return` does")
            values = self._values(raw)
        except SystemExit as error:
            return Answer(None, error=SystemError(f"called sys.exit({error.code!r})")), None
        except Exception as error:  # noqa: BLE001  anything may come out of code under test
            return Answer(None, error=error), None
        except BaseException as error:  # Ctrl-C; in a process of the kernel's, where nobody presses it, the kernel's
            if self.widens:
                raise
            return Answer(None, error=SystemError(f"raised {type(error).__name__}")), None
        answer = Answer(values, self._dtype_of(raw))
        if not isinstance(raw, (type(like), np.generic if isinstance(like, np.ndarray) else type(like))):
            answer.notes.append(f"the result is a {type(raw).__name__}, the input a {type(like).__name__}")
        return answer, raw

    def _values(self, raw: Any) -> Array:
        host = _asarray(self.backend.to_numpy(raw))
        plain = host.dtype.kind in "biuf" or host.dtype.name in DTYPES
        return host if plain and not self.widens else host.astype(np.float64)

    def _dtype_of(self, raw: Any) -> str:
        try:
            return str(self.backend.dtype_name(raw))
        except Exception:  # noqa: BLE001  a result that is no array of the backend
            return str(_asarray(raw).dtype)

    def ask_in_turn(self, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
        """The answers to several requests, and the numbers of those calls whose result a later call changed."""
        answers, kept = [], []
        for turn, request in enumerate(requests):
            with self.backend.strict_compilation():
                answer, raw = self._asked(request)
            answers.append(answer)
            if answer.error is None:
                kept.append((turn, raw, self._bits(raw)))
        return answers, [turn for turn, raw, bits in kept if self._bits(raw) != bits]

    def ask_at_once(self, requests: Sequence[Request], calls: int) -> list[list[Answer]]:
        """The different answers of concurrent threads, each of which repeats its own request."""
        made = [self._set_up(request) for request in requests]
        before = [[(name, one, self._bits(one)) for name, one in named] for _, named in made]
        answers: list[list[Answer]] = [[] for _ in requests]
        barrier = threading.Barrier(len(requests))
        lines = self.is_kernel and self.on_numpy  # such a kernel is Python, line by line

        def work(one: int) -> None:
            run, named = made[one]
            barrier.wait()
            for turn in range(calls):
                with _handing_over() if lines and turn % 2 else contextlib.nullcontext():
                    answer, _ = self._guarded(run, named[0][1])
                answer.notes += [f"{name} was modified" for name, x, bits in before[one] if self._bits(x) != bits]
                if not any(_same(answer, known) for known in answers[one]):
                    answers[one].append(answer)

        workers = [threading.Thread(target=work, args=(one,)) for one in range(len(requests))]
        with self.backend.strict_compilation(), _switching_often():
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return answers

    def ask_changed(self, first: Request, second: Request) -> Answer:
        """The answer for the array of the first request, after its values were replaced by those of the second."""
        run, named = self._set_up(first)
        array = named[0][1]
        self._guarded(run, array)
        array[...] = in_dtype(second.x, second.dtype)
        return self._guarded(run, array)[0]

    # --- derivatives -------------------------------------------------------------------------------------------

    def derivative(self, kind: str, axis: Any, *, eager: bool) -> Callable[..., Any]:
        """``derivative(x, *directions, **kwargs)``, compiled as a whole if its operations would be compiled one by one.

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
            named = self.takes_axis and self._vjp_axis and axis is not _LEFT_OUT
            axes = {self._vjp_axis: axis} if named else {}
            gradient = self.vjp(x, cotangent, **axes, **kwargs)
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


def _plain_shape(x: Any) -> None:
    """Raise an error for an array whose shape cannot be read, since nothing could be said about it."""
    shape = getattr(x, "shape", None)
    try:
        for side in shape if shape is not None else x.shape:
            operator.index(side)
    except (TypeError, ValueError, AttributeError):
        cls = type(x)
        message = (
            f"an array of the type {cls.__module__}.{cls.__qualname__} has the shape {shape!r}; the kit needs arrays "
            "with a .shape of plain integers, so evaluate it in Backend.asarray"
        )
        raise TypeError(message) from None


def _overlap(first: Any, second: Any) -> bool:
    """Whether two arrays share memory, if that can be found out."""
    one, other = _extent(first), _extent(second)
    return one is not None and other is not None and one[0] < other[1] and other[0] < one[1]


def _extent(x: Any) -> tuple[int, int] | None:
    """The first address of an array and the one after its last; None if it has none or does not reveal it."""
    if isinstance(x, np.ndarray):
        return _byte_bounds(x) if x.size else None
    try:
        if not (x.numel() and (start := x.data_ptr())):
            return None
        reach = sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
        return start, start + (reach + 1) * x.element_size()
    except Exception:  # noqa: BLE001  it does not tell
        return None


def _same(answer: Answer, known: Answer) -> bool:
    """Whether two answers are equal, so that only one has to be compared with exact values."""
    if answer.values is None or known.values is None or answer.values.shape != known.values.shape:
        return answer.values is None and known.values is None
    return _tobytes(answer.values) == _tobytes(known.values) and answer.notes == known.notes


@contextlib.contextmanager
def _handing_over() -> Iterator[None]:
    """Let another thread run after every line of Python, however busy the machine is."""

    def line(_frame: Any, _event: str, _argument: Any) -> Any:
        time.sleep(0)
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _switching_often() -> Iterator[None]:
    """Make the interpreter switch threads as often as possible, which exposes state that two calls share."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def implementation_of(
    backend: str, operation: str, function: Any = None, vjp: Any = None, name: str | None = None, device: Any = None
) -> Implementation:
    """The implementation of a registered backend, or of a user, whose functions may be ``"module:function"``."""
    found = polylogit.get_backend(backend)
    if function is None:
        return Implementation(found, operation, name=name or backend, device=device)
    name = name or (function if isinstance(function, str) else _label(function))
    loaded = load(function)
    if not callable(loaded):
        message = (
            f"{name} is a {type(loaded).__name__}, which cannot be called; name a function, as in module:function."
        )
        raise ConformanceError(message)
    return Implementation(found, operation, loaded, load(vjp), f"{found.name}+{name}", device)


def load(target: Any) -> Any:
    """The object that a text ``"module:function"`` names; anything else unchanged."""
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
        message = f"{backend.name} cannot create arrays on device {device!r} ({error}); it has {backend.devices()}."
        raise ConformanceError(message) from error


def _by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose axis can be passed by name, even if the original takes it only by position."""
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
    """Whether this is a universal function of NumPy, or of Numba, whose classes are not ``np.ufunc``."""
    return getattr(function, "nin", None) == 1 and getattr(function, "nout", None) == 1


def _parameters(function: Any) -> tuple[str, ...] | None:
    """The names of the parameters; None for a builtin that does not reveal them."""
    if _is_ufunc(function):  # what its signature names is the code of a row, output included
        return ("x", "axis") if getattr(function, "signature", None) else ("x",)
    try:
        parameters = inspect.signature(function).parameters.items()
    except (TypeError, ValueError):
        return None
    return tuple(name for name, parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD)


def _axis_name(parameters: tuple[str, ...] | None, after: int = 1) -> str:
    """The name of the axis argument: ``axis``, ``dim``, or that of the argument after the array."""
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
