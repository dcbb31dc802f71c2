"""The backend for NumPy arrays: conversions and checks around the arithmetic, and derivatives by the closed forms.

The arithmetic is in C (`compiled`, and the folder kernels) or, if that was not built, in `pure`. This module may know
NumPy, these modules and the rules of `polylogit._contract`, but neither the registry nor another backend. ml_dtypes
(bfloat16, float8) is imported only when one of its dtypes is named.
"""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from polylogit._arguments import unexpected
from polylogit._backends.base import Backend, Loan, host_array, no_values, overlaps
from polylogit._backends.numpy import compiled, pure, threads
from polylogit._backends.numpy.temperature import divided, quotients
from polylogit._contract import (
    check_floating,
    check_logits_dtype,
    check_mask,
    check_mask_shape,
    foreign_dtype,
    no_dtype,
    normalize_axis,
    wrong_direction,
)
from polylogit._operations import OPERATIONS
from polylogit.errors import (
    BackendUnavailableError,
    ConversionError,
    DifferentiationError,
    DTypeError,
    OutputError,
    UnsupportedArrayError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

    AnyArray = np.ndarray[Any, Any]
    AnyDType = np.dtype[Any]

__all__ = ["NumpyBackend"]

# What NumPy's one-letter kinds are to the contract. Those of ml_dtypes are all "V", as structured ones are.
_KINDS = {"f": "floating", "i": "integer", "u": "integer", "b": "bool"}
_MEANINGFUL = {
    "matrix": "its products and indexing differ from those of an array; pass numpy.asarray(x)",
    "MaskedArray": "its mask would be lost; pass x.filled(0) with where=~numpy.ma.getmaskarray(x)",
}
# Those of ml_dtypes that a framework has too.
_OF_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)


def kind_of(dtype: AnyDType) -> str:
    """The kind of a dtype, in the words of `polylogit._contract`."""
    if dtype.kind == "V" and dtype.type.__module__ == "ml_dtypes":
        return "floating" if "float" in dtype.name else "integer" if "int" in dtype.name else "complex"
    return _KINDS.get(dtype.kind, dtype.name)


def _known_dtype(given: Any) -> AnyDType:
    dtype: AnyDType = np.dtype(given)
    return dtype


def as_dtype(given: Any) -> AnyDType:
    """`given` (a NumPy or ml_dtypes dtype, a scalar type or a name) as a dtype; its kind is not checked yet."""
    with contextlib.suppress(TypeError, ValueError):
        return _known_dtype(given)
    if isinstance(given, str) and given.startswith(("bfloat16", "float8", "float6", "float4", "int4", "uint4")):
        try:
            import ml_dtypes
        except ImportError as error:
            message = (
                f"dtype={given!r} on NumPy arrays needs the package ml_dtypes; install it: `pip install ml_dtypes`."
            )
            raise BackendUnavailableError(message, name="ml_dtypes") from error
        if hasattr(ml_dtypes, given):
            return _known_dtype(getattr(ml_dtypes, given))
    raise foreign_dtype(given) or no_dtype(given)


def work_dtype(given: AnyDType, result: AnyDType) -> AnyDType:
    """The dtype to compute in: the wider of the two, at least float32."""
    work = _FLOAT32
    for dtype in (given, result):
        if kind_of(dtype) != "floating":
            work = np.promote_types(work, _FLOAT64)  # integers and bool
        elif dtype.kind == "f":
            work = np.promote_types(work, dtype)  # native byte order, and float32 for float16
    return work


def _mask(where: Any, shape: tuple[int, ...]) -> AnyArray | None:
    """`where` as a boolean array in the shape of the logits, without a copy."""
    if where is None:
        return None
    mask = host_array(where)
    check_mask(str(mask.dtype), mask.dtype.kind == "b", mask)
    check_mask_shape(mask.shape, shape)
    return np.broadcast_to(mask, shape)


def _in_place_of(objects: AnyArray) -> str:
    """What to pass for an array of objects, by what it holds."""
    held = list(objects.flat)
    if held and all(isinstance(one, (list, tuple, np.ndarray)) for one in held):
        equal = len({np.shape(one)[:1] for one in held}) == 1
        return "Pass numpy.stack(x)" if equal else "Pass one row after another: [polylogit.softmax(row) for row in x]"
    try:
        objects.astype(float)
    except (TypeError, ValueError) as error:
        return f"They hold what is no number ({error}); pass those that are numbers"
    return "Pass x.astype(float)"


def _wrap(x: Any, result: AnyArray) -> Any:
    """`result` as a ufunc would return it for `x`: a scalar for a scalar, a subclass of arrays for itself."""
    cls = type(x)
    if cls is np.ndarray:
        return result
    if issubclass(cls, np.generic):
        return result[()]
    try:
        return x.__array_wrap__(result, None, False)
    except TypeError:  # a class written for NumPy 1, which passed no return_scalar
        return x.__array_wrap__(result)


def check_type(cls: type) -> None:
    """Raise an error for NumPy's own array types that would lose their meaning."""
    for base in cls.__mro__:
        if base.__module__.startswith("numpy") and (reason := _MEANINGFUL.get(base.__name__)):
            message = f"a {cls.__module__}.{cls.__qualname__} is not served: {reason}."
            raise UnsupportedArrayError(message)


# --- one call --------------------------------------------------------------------------------------------------------


class _Problem:
    """An operation at a point: its checked arguments, its value, and its derivatives.

    With p the probabilities kept by the forward pass, softmax's Jacobian is diag(p) - p p', which is symmetric;
    log_softmax's is I - 1 p'; sigmoid's is p (1 - p). The second derivative of <g, f(x)> is a Hessian and symmetric,
    too, so its pullback is its derivative along a direction.
    """

    def __init__(self, operation: str, x: Any, axis: Any, where: Any, dtype: Any, temperature: Any = None) -> None:
        self.operation = operation
        self.array: AnyArray = np.asarray(x)
        kind = kind_of(self.array.dtype)
        check_logits_dtype(str(self.array.dtype), kind, _in_place_of(self.array) if kind == "object" else "")
        self.given = self.array.dtype if kind == "floating" else _FLOAT64
        self.result = self.given
        if dtype is not None:
            self.result = as_dtype(dtype)
            check_floating(dtype, kind_of(self.result))
        self.work = work_dtype(self.array.dtype, self.result)
        self.axes: tuple[int, ...] = ()
        self.mask = None
        if OPERATIONS[operation].takes_axis:
            self.axes = normalize_axis(axis, self.array.ndim)
            self.mask = _mask(where, self.array.shape)
        self.over: Any = None
        if temperature is not None:
            axes = self.axes if OPERATIONS[operation].takes_axis else None
            self.array, self.over = quotients(self.array, temperature, axes, self.mask, self.work)
            self.work = self.array.dtype

    def into(self, out: AnyArray) -> AnyArray:
        """Write the value to an array, which may overlap the inputs."""
        self._check_out(out)
        sources = [one for one in (self.array, self.mask) if one is not None]
        if any(np.may_share_memory(out, one) for one in sources):
            out[...] = self.forward()
            return out
        return self.forward(out=out)

    def _check_out(self, out: AnyArray) -> None:
        if out.dtype != self.result:
            message = (
                f"out= has dtype {out.dtype} and the result {self.result}; pass numpy.empty_like(x, "
                f'dtype="{self.result}"), or ask for the other with dtype=out.dtype.'
            )
            raise DTypeError(message)
        problem = ""
        if out.shape != self.array.shape:
            problem = f"has the shape {out.shape} and the result {self.array.shape}"
        elif not out.flags.writeable:
            problem = "is read-only"
        elif overlaps(out):
            problem = "has elements that share memory"
        if problem:
            raise OutputError(f"out= {problem}; pass an array of its own, for example numpy.empty_like(x).")

    def forward(
        self, kept: AnyArray | None = None, tangent: AnyArray | None = None, out: AnyArray | None = None
    ) -> AnyArray:
        """Compute the value and, into `kept`, the values that `pull` needs or the derivative along a tangent."""
        if out is None:
            out = np.empty_like(self.array, dtype=self.result)
        path = self._path(self.operation, *(one.dtype for one in (self.array, out, kept, tangent) if one is not None))
        path.forward(self.operation, self.array, out, self.axes, self.mask, self.work, kept, tangent)
        return out

    def combine(self, product: str, g: AnyArray, dtype: AnyDType, p: AnyArray | None = None) -> AnyArray:
        """One of the products of `pure.combine`, with the kept values or another array."""
        p = self.kept if p is None else p
        out = np.empty_like(p, dtype=dtype)
        self._path(product, g.dtype, dtype).combine(product, g, p, out, self.axes, self.mask)
        return out

    def _path(self, operation: str, *dtypes: AnyDType) -> Any:
        return compiled if compiled.serves(operation, self.work, *dtypes) else pure

    # --- derivatives -------------------------------------------------------------------------------------------

    def linearize(self) -> AnyArray:
        """The value; keeps what the derivatives need."""
        self.kept = np.empty_like(self.array, dtype=self.work)
        return self.forward(self.kept)

    def pull(self, cotangent: AnyArray, dtype: AnyDType | None = None) -> AnyArray:
        """The gradient for a cotangent, in the dtype of the argument."""
        first, made = _DERIVATIVES[self.operation].first, dtype or self.given
        if self.over is None:
            return self.combine(first, cotangent, made)
        return divided(self.combine(first, cotangent, self.work), self.over, made)

    def second(self, cotangent: AnyArray, direction: AnyArray, dtype: AnyDType) -> AnyArray:
        """The derivative of ``pull(cotangent)`` along a direction."""
        second = _DERIVATIVES[self.operation].second
        with np.errstate(all="ignore"):
            if self.over is None:
                return second(self, cotangent, direction, dtype)
            return divided(second(self, cotangent, self.along(direction), self.work), self.over, dtype)

    def along(self, tangent: AnyArray) -> AnyArray:
        """A direction of the logits, converted to one of the operation's argument."""
        return tangent if self.over is None else divided(tangent, self.over, self.work)

    def prepare_second(self) -> None:
        """Copy the argument for `second`, because its owner may write to it."""
        if keeps := _DERIVATIVES[self.operation].keeps:
            self.slope = keeps(self.array, self.work)


def _value(x: Any, problem: _Problem, out: Any) -> Any:
    """The value of an operation, in a new array or in ``out``."""
    if out is None:
        return _wrap(x, problem.forward())
    problem.into(out)
    return out


def _softmax_second(at: _Problem, cotangent: AnyArray, direction: AnyArray, dtype: AnyDType) -> AnyArray:
    product = at.combine("less_mean", direction, at.work)
    product *= at.combine("less_mean", cotangent, at.work)
    return at.combine("softmax_pull", product, dtype)


def _log_softmax_second(at: _Problem, cotangent: AnyArray, direction: AnyArray, dtype: AnyDType) -> AnyArray:
    curve = at.combine("softmax_pull", direction, at.work)
    where = True if at.mask is None else at.mask
    total = np.add.reduce(cotangent, axis=at.axes, dtype=np.float64, keepdims=True, where=where)
    curve *= -total.astype(at.work)
    return curve.astype(dtype, copy=False)


def _sigmoid_second(at: _Problem, cotangent: AnyArray, direction: AnyArray, dtype: AnyDType) -> AnyArray:
    product = at.combine("multiply", cotangent, at.work, at.slope)
    return at.combine("multiply", at.combine("multiply", direction, at.work), dtype, product)


def _sigmoid_slope(x: AnyArray, work: AnyDType) -> AnyArray:
    """1 - 2 p, which is -tanh(x / 2), without the cancellation near x = 0."""
    slope: AnyArray = x.astype(work)
    with np.errstate(all="ignore"):
        slope /= -2
        np.tanh(slope, out=slope)
    return slope


class _Derivatives(NamedTuple):
    first: str  # the product of `pure.combine` that is the pullback
    second: Callable[[_Problem, AnyArray, AnyArray, AnyDType], AnyArray]
    keeps: Callable[[AnyArray, AnyDType], AnyArray] | None = None  # what `second` needs of the argument


_DERIVATIVES = {
    "softmax": _Derivatives("softmax_pull", _softmax_second),
    "log_softmax": _Derivatives("log_softmax_pull", _log_softmax_second),
    "sigmoid": _Derivatives("multiply", _sigmoid_second, _sigmoid_slope),
}


# --- the backend -----------------------------------------------------------------------------------------------------


class NumpyBackend(Backend):
    """NumPy arrays and scalars."""

    name: ClassVar[str] = "numpy"
    takes_temperature: ClassVar[bool] = True
    takes_out: ClassVar[bool] = True
    differentiates: ClassVar[bool] = False
    any_byte_order: ClassVar[bool] = True
    namespace = "numpy"
    spelling: ClassVar[dict[str, str]] = {
        "import": "import numpy as np",
        "array": 'np.array({values}, dtype="{dtype}")',
    }

    def __init__(self) -> None:
        # What the kernels do not serve goes to this class, never to one that somebody derived from it.
        plain = self if type(self) is NumpyBackend else NumpyBackend()
        compiled.set_up(plain.softmax, plain.log_softmax, plain.sigmoid)

    @property
    def engine(self) -> str:
        """The code that computes: an instruction set of the kernels in C, or "pure" with the reason."""
        return compiled.engine()

    def owns(self, cls: type) -> bool:
        """Arrays, their subclasses and NumPy's scalars; not matrices and masked arrays."""
        if not issubclass(cls, (np.ndarray, np.generic)):
            return False
        check_type(cls)
        return True

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """For plain arrays the extension's own function, so that a small array costs a single call."""
        direct = compiled.implementation(operation) if cls is np.ndarray else None
        return direct or super().implementation(operation, cls)

    # --- the operations ----------------------------------------------------------------------------------------

    def softmax(
        self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None, out: Any = None
    ) -> Any:
        """exp(x) over its sum along `axis`."""
        return _value(x, _Problem("softmax", x, axis, where, dtype, temperature), out)

    def log_softmax(
        self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None, out: Any = None
    ) -> Any:
        """The logarithm of softmax, with relative accuracy near 0."""
        return _value(x, _Problem("log_softmax", x, axis, where, dtype, temperature), out)

    def sigmoid(self, x: Any, dtype: Any = None, temperature: Any = None, out: Any = None) -> Any:
        """1 / (1 + exp(-x))."""
        return _value(x, _Problem("sigmoid", x, None, None, dtype, temperature), out)

    # --- arrays in and out -------------------------------------------------------------------------------------

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A number, a nested sequence or an array as an array; dtypes of ml_dtypes are given by name."""
        if device not in (None, "cpu"):
            message = (
                f'device={device!r} was given; NumPy arrays live in the host\'s memory. Pass "cpu" or leave it out.'
            )
            raise ConversionError(message)
        if isinstance(value, np.ndarray):
            check_type(type(value))
            array = value
        else:
            array = host_array(value)
            check_logits_dtype(str(array.dtype), kind_of(array.dtype))
        return array if dtype is None else array.astype(as_dtype(dtype), copy=False)

    def number(self, value: Any) -> Any:
        """A NumPy scalar, so that the result is a scalar, too, as with every universal function."""
        return self.asarray(value)[()]

    def to_numpy(self, x: Any) -> AnyArray:
        """The array itself."""
        return np.asarray(x)

    def lend(self, x: Any) -> Loan:
        """See `Backend.lend`."""
        if isinstance(x, (np.ma.MaskedArray, np.matrix)):
            raise no_values(x, "its meaning would be lost", "pass np.asarray(x), or x.filled(value) and the mask")
        if not isinstance(x, (np.ndarray, np.generic)):
            raise no_values(x, "no array", "pass arrays, or containers of them")
        if isinstance(x, np.generic):
            return Loan(np.array(x), True, False, "a NumPy scalar lends no memory")
        return Loan(np.asarray(x), False, False)

    def refuses(self, array: AnyArray) -> str:
        """See `Backend.refuses`; NumPy accepts any memory."""
        return ""

    def adopt(self, array: AnyArray) -> Any:
        """See `Backend.adopt`."""
        return array

    # --- derivatives -------------------------------------------------------------------------------------------

    def _problem(self, function: Any, x: Any, kwargs: dict[str, Any]) -> tuple[_Problem, AnyArray | None]:
        """The operation to differentiate, with the cotangent of a `gradient`; an error if there is no closed form."""
        cotangent = None
        if getattr(function, "__polylogit_gradient__", False):
            kwargs = {**function.kwargs, **kwargs}
            function, cotangent = function.operation, function.cotangent
        if getattr(function, "__polylogit_gradient__", False):
            message = (
                "polylogit.gradient of a gradient was to be differentiated: a third derivative, for which there is no "
                "closed form here. Take it with an array of torch, jax or tensorflow."
            )
            raise DifferentiationError(message)
        operation = getattr(function, "__polylogit_operation__", None)
        if operation not in _DERIVATIVES:
            message = (
                f"{function!r} cannot be differentiated on NumPy arrays, which have no automatic differentiation; its "
                f"closed forms cover polylogit.{', '.join(_DERIVATIVES)} and polylogit.gradient of one of these. "
                "Its arguments go after x: polylogit.vjp(polylogit.softmax, x, temperature=2.0). For a function of "
                "your own pass an array of torch, jax or tensorflow."
            )
            raise DifferentiationError(message)
        offers: dict[str, Any] = {"dtype": None, "temperature": None}
        if OPERATIONS[operation].takes_axis:
            offers = {"axis": -1, "where": None, **offers}
        given = {key: value for key, value in kwargs.items() if key != "backend"}
        if given.keys() - offers.keys():
            raise unexpected(operation, offers, -1, given)
        arguments = {"axis": None, "where": None, **offers, **given}
        problem = _Problem(operation, x, **arguments)
        if cotangent is not None:
            cotangent = self._direction(cotangent, problem.array.shape, "cotangent")
        return problem, cotangent

    def _direction(self, value: Any, shape: tuple[int, ...], name: str) -> AnyArray:
        """A tangent or cotangent as an array of the logits' shape."""
        array = value if isinstance(value, np.ndarray) else host_array(value)
        check_logits_dtype(str(array.dtype), kind_of(array.dtype))
        if array.shape != shape:
            raise wrong_direction(name, array.shape, shape, "numpy.broadcast_to")
        return array

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """The value and its pullback, by the closed forms; the pullback uses values kept by the forward pass."""
        problem, outer = self._problem(function, x, kwargs)
        value = problem.linearize()
        pull: Callable[[AnyArray], AnyArray] = problem.pull
        if outer is not None:
            fixed = outer.astype(problem.work)  # a copy: the caller may write to it before pulling back
            value = problem.pull(fixed)
            problem.prepare_second()
            pull = lambda direction: problem.second(fixed, direction, problem.given)  # noqa: E731
        problem.array = np.empty(0)

        def pullback(cotangent: Any) -> Any:
            return _wrap(x, pull(self._direction(cotangent, value.shape, "cotangent")))

        return _wrap(x, value), pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The value and its derivative along `tangent`, by the closed forms."""
        problem, outer = self._problem(function, x, kwargs)
        tangent = self._direction(tangent, problem.array.shape, "tangent")
        if outer is None:
            pushed = np.empty_like(problem.array, dtype=problem.result)
            return _wrap(x, problem.forward(pushed, problem.along(tangent))), _wrap(x, pushed)
        problem.linearize()
        problem.prepare_second()
        value = problem.pull(outer)
        return _wrap(x, value), _wrap(x, problem.second(outer, tangent, problem.given))

    # --- for the conformance kit -------------------------------------------------------------------------------

    def dtypes(self) -> tuple[str, ...]:
        """float64, float32, float16 and, with ml_dtypes, bfloat16 and float8."""
        extra = _OF_ML_DTYPES if importlib.util.find_spec("ml_dtypes") else ()
        return ("float64", "float32", "float16", *extra)

    def dtype_name(self, x: Any) -> str:
        """The dtype's name, whatever its byte order."""
        return str(np.asarray(x).dtype.name)

    def capabilities(self) -> dict[str, str]:
        """See `Backend.capabilities`."""
        return {"engine": self.engine, "threads": str(threads.get_num_threads())}
