"""NumPy's arrays: what is converted, checked and wrapped around the kernels of `polylogit.backends.numpy_operations`.

It may know NumPy, the kernels and the rules of `polylogit.contract`; it knows neither the registry nor another backend.
ml_dtypes (bfloat16, float8) is imported only when one of its dtypes is asked for by name.
"""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from polylogit.backends import numpy_derivatives as derivatives
from polylogit.backends import numpy_operations as operations
from polylogit.backends.base import Backend, Loan, no_values
from polylogit.backends.numpy_geometry import as_block
from polylogit.backends.numpy_operations import OF_BLOCK
from polylogit.backends.numpy_small import LOG_SOFTMAX, SIGMOID, SIZE, SOFTMAX, quietly
from polylogit.contract import check_floating, check_logits_dtype, check_mask, check_mask_shape, normalize_axis
from polylogit.errors import (
    BackendUnavailableError,
    ConversionError,
    DifferentiationError,
    DTypeError,
    MixedBackendsError,
    UnsupportedArrayError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.backends.base import Pullback
    from polylogit.backends.numpy_geometry import AnyArray, AnyDType

__all__ = ["NumpyBackend"]

# What NumPy's one-letter kinds are to the contract. Those of ml_dtypes are all "V", as structured ones are.
_KINDS = {"f": "floating", "i": "integer", "u": "integer", "b": "bool"}
_MEANINGFUL = {
    "matrix": "its products and indexing differ from those of an array; pass numpy.asarray(x)",
    "MaskedArray": "its mask would be lost; pass x.filled(0) with where=~numpy.ma.getmaskarray(x)",
}
# Those of ml_dtypes that a framework has too.
_OF_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
_ARRAY = np.ndarray
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)


def kind_of(dtype: AnyDType) -> str:
    """The kind of a dtype, as `polylogit.contract` names kinds."""
    if dtype.kind == "V" and dtype.type.__module__ == "ml_dtypes":
        return "floating" if "float" in dtype.name else "integer" if "int" in dtype.name else "complex"
    return _KINDS.get(dtype.kind, dtype.name)


def _known_dtype(given: Any) -> AnyDType:
    dtype: AnyDType = np.dtype(given)
    return dtype


def as_dtype(given: Any) -> AnyDType:
    """`given`, a dtype of NumPy or ml_dtypes, their scalar type or a name, as a dtype; not yet checked for its kind."""
    with contextlib.suppress(TypeError):
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
    message = f'dtype={given!r} is no dtype of NumPy; pass for example dtype="float32" or dtype=numpy.float64.'
    raise DTypeError(message)


def work_dtype(given: AnyDType, result: AnyDType) -> AnyDType:
    """In which dtype to compute: the wider of the two, float32 at least."""
    work = _FLOAT32
    for dtype in (given, result):
        if kind_of(dtype) != "floating":
            work = np.promote_types(work, _FLOAT64)  # integers and bool
        elif dtype.kind == "f":
            work = np.promote_types(work, dtype)  # native byte order, and float32 for float16
    return work


def _dtypes(array: AnyArray, dtype: Any) -> tuple[AnyDType, AnyDType]:
    """The dtype of the result and the one to compute in."""
    given = array.dtype
    kind = kind_of(given)
    check_logits_dtype(str(given), kind)
    if dtype is None:
        result = given if kind == "floating" else _FLOAT64
    else:
        result = as_dtype(dtype)
        check_floating(dtype, kind_of(result))
    return result, work_dtype(given, result)


def _mask(where: Any, shape: tuple[int, ...]) -> AnyArray | None:
    """`where` as a bool array of the logits' shape, without a copy."""
    if where is None:
        return None
    mask = np.asarray(_from_sequence(where) if isinstance(where, (list, tuple)) else where)
    check_mask(str(mask.dtype), mask.dtype.kind == "b")
    check_mask_shape(mask.shape, shape)
    return np.broadcast_to(mask, shape)


def _wrap(x: Any, result: AnyArray) -> Any:
    """`result` as a ufunc would return it for `x`: scalars for scalars, subclasses of arrays for themselves."""
    cls = type(x)
    if cls is np.ndarray:
        return result
    if issubclass(cls, np.generic):
        return result[()]
    try:
        return x.__array_wrap__(result, None, False)
    except TypeError:  # a class written for NumPy 1, which passed no return_scalar
        return x.__array_wrap__(result)


# --- from Python values ----------------------------------------------------------------------------------------------


def _leaf_types(value: Any) -> Iterator[type]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaf_types(item)
    else:
        yield type(value)


def _check_leaves(value: Any) -> None:
    for cls in dict.fromkeys(_leaf_types(value)):
        if issubclass(cls, (np.ndarray, np.generic)):
            check_type(cls)
        elif any(hasattr(cls, protocol) for protocol in ("__array__", "__dlpack__", "__array_namespace__")):
            message = (
                f"a {type(value).__name__} that holds {cls.__module__}.{cls.__qualname__} was given; gathering arrays "
                "of another framework into one of NumPy would cut gradients and move data. Stack them with that "
                'framework first, then pass the one array, or convert it with polylogit.convert(..., "numpy").'
            )
            raise MixedBackendsError(message)


def _from_sequence(value: Any) -> AnyArray:
    _check_leaves(value)
    try:
        array = np.asarray(value)
        if array.dtype == object and all(issubclass(cls, int) for cls in _leaf_types(value)):
            array = np.asarray(value, dtype=np.float64)  # integers beyond 64 bits
    except (ValueError, OverflowError) as error:
        message = (
            f"a {type(value).__name__} was given that is not the rows of one array ({error}); give its nested "
            "sequences equal lengths, or pad them and pass where=."
        )
        raise ConversionError(message) from error
    check_logits_dtype(str(array.dtype), kind_of(array.dtype))
    return array


def check_type(cls: type) -> None:
    """Refuse the array types of NumPy itself that would lose their meaning here."""
    for base in cls.__mro__:
        if base.__module__.startswith("numpy") and (reason := _MEANINGFUL.get(base.__name__)):
            message = f"a {cls.__module__}.{cls.__qualname__} is not served: {reason}."
            raise UnsupportedArrayError(message)


# --- the backend -----------------------------------------------------------------------------------------------------


class NumpyBackend(Backend):
    """NumPy arrays and scalars."""

    name: ClassVar[str] = "numpy"
    differentiates: ClassVar[bool] = False
    any_byte_order: ClassVar[bool] = True

    def owns(self, cls: type) -> bool:
        """Arrays, their subclasses and NumPy's scalars; not matrices and masked arrays."""
        if not issubclass(cls, (np.ndarray, np.generic)):
            return False
        check_type(cls)
        return True

    # --- the operations ----------------------------------------------------------------------------------------

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """exp(x) over its sum along `axis`."""
        # Looked at first, since the rest would take longer than the arithmetic; here and below.
        if type(x) is _ARRAY and where is dtype is None and type(axis) is int:
            function = SOFTMAX.get(x.dtype)
            if function is not None and -x.ndim <= axis < x.ndim:
                if 0 < x.size <= SIZE:
                    return quietly(function, x, axis)
                if block := as_block(x, axis):
                    return quietly(OF_BLOCK["softmax"], *block).reshape(x.shape)
        array = np.asarray(x)
        result, work = _dtypes(array, dtype)
        axes = normalize_axis(axis, array.ndim)
        mask = _mask(where, array.shape)
        out = np.empty_like(array, dtype=result)
        operations.softmax(array, out, axes, mask, work)
        return _wrap(x, out)

    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """The logarithm of softmax, with relative accuracy near 0."""
        if type(x) is _ARRAY and where is dtype is None and type(axis) is int:
            function = LOG_SOFTMAX.get(x.dtype)
            if function is not None and -x.ndim <= axis < x.ndim:
                if 0 < x.size <= SIZE:
                    return quietly(function, x, axis)
                if block := as_block(x, axis):
                    return quietly(OF_BLOCK["log_softmax"], *block).reshape(x.shape)
        array = np.asarray(x)
        result, work = _dtypes(array, dtype)
        axes = normalize_axis(axis, array.ndim)
        mask = _mask(where, array.shape)
        out = np.empty_like(array, dtype=result)
        operations.log_softmax(array, out, axes, mask, work)
        return _wrap(x, out)

    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """1 / (1 + exp(-x))."""
        if type(x) is _ARRAY and dtype is None and x.ndim:
            function = SIGMOID.get(x.dtype)
            if function is not None:
                if x.size <= SIZE:
                    return quietly(function, x, 0)
                if block := as_block(x.reshape(-1, 1), 1):
                    return quietly(OF_BLOCK["sigmoid"], *block).reshape(x.shape)
        array = np.asarray(x)
        result, work = _dtypes(array, dtype)
        out = np.empty_like(array, dtype=result)
        operations.sigmoid(array, out, work)
        return _wrap(x, out)

    # --- arrays in and out -------------------------------------------------------------------------------------

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A number, a nested sequence or an array as an array; a dtype of ml_dtypes by its name."""
        if device not in (None, "cpu"):
            message = (
                f'device={device!r} was given; NumPy arrays live in the host\'s memory. Pass "cpu" or leave it out.'
            )
            raise ConversionError(message)
        if isinstance(value, np.ndarray):
            check_type(type(value))
            array = value
        else:
            array = _from_sequence(value)
        return array if dtype is None else array.astype(as_dtype(dtype), copy=False)

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
        """See `Backend.refuses`; NumPy takes any memory."""
        return ""

    def adopt(self, array: AnyArray) -> Any:
        """See `Backend.adopt`."""
        return array

    # --- derivatives -------------------------------------------------------------------------------------------

    def _point(self, function: Any, x: Any, kwargs: dict[str, Any]) -> derivatives.Point:
        """Which operation is to be differentiated where, with which arguments; an error for what has no closed form."""
        cotangent = None
        if getattr(function, "__polylogit_gradient__", False):
            kwargs = {**function.kwargs, **kwargs}
            function, cotangent = function.operation, function.cotangent
        operation = getattr(function, "__polylogit_operation__", None)
        if operation not in derivatives.OPERATIONS:
            message = (
                f"{function!r} cannot be differentiated on NumPy arrays, which have no automatic differentiation; its "
                "closed forms cover polylogit.softmax, log_softmax, sigmoid and polylogit.gradient of one of these. "
                "For a function of your own pass an array of torch, jax or tensorflow."
            )
            raise DifferentiationError(message)
        kwargs = {key: value for key, value in kwargs.items() if key != "backend"}
        array = np.asarray(x)
        result, work = _dtypes(array, kwargs.pop("dtype", None))
        axes: tuple[int, ...] = ()
        mask = None
        if operation != "sigmoid":
            axes = normalize_axis(kwargs.pop("axis", -1), array.ndim)
            mask = _mask(kwargs.pop("where", None), array.shape)
        if kwargs:
            message = (
                f"polylogit.{operation} has no argument {', '.join(kwargs)}; its arguments are axis, where, dtype."
            )
            raise DifferentiationError(message)
        given = array.dtype if kind_of(array.dtype) == "floating" else _FLOAT64
        if cotangent is not None:
            cotangent = self._direction(cotangent, array.shape, "the cotangent")
        return derivatives.Point(operation, array, axes, mask, result, given, work, cotangent)

    def _direction(self, value: Any, shape: tuple[int, ...], name: str) -> AnyArray:
        """A tangent or cotangent as an array of the logits' shape."""
        array = np.asarray(value if isinstance(value, (np.ndarray, np.generic)) else _from_foreign(value))
        check_logits_dtype(str(array.dtype), kind_of(array.dtype))
        if array.shape != shape:
            message = f"{name} has the shape {array.shape} and the value {shape}; give it that shape."
            raise DifferentiationError(message)
        return array

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """The value and its pullback, by the closed forms; the pullback uses what the forward kept."""
        linear = derivatives.linearize(self._point(function, x, kwargs))

        def pullback(cotangent: Any) -> Any:
            return _wrap(x, linear.pull(self._direction(cotangent, linear.value.shape, "the cotangent")))

        return _wrap(x, linear.value), pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The value and its derivative along `tangent`, by the closed forms."""
        point = self._point(function, x, kwargs)
        tangent = self._direction(tangent, point.array.shape, "the tangent")
        value, pushed = derivatives.along(point, tangent)
        return _wrap(x, value), _wrap(x, pushed)

    # --- for the conformance kit -------------------------------------------------------------------------------

    def dtypes(self) -> tuple[str, ...]:
        """float64, float32, float16 and, with ml_dtypes, bfloat16 and float8."""
        extra = _OF_ML_DTYPES if importlib.util.find_spec("ml_dtypes") else ()
        return ("float64", "float32", "float16", *extra)

    def dtype_name(self, x: Any) -> str:
        """The dtype's name, whatever its byte order."""
        return str(np.asarray(x).dtype.name)


def _from_foreign(value: Any) -> AnyArray:
    """A Python value as an array; other frameworks' arrays are refused as inside a sequence."""
    _check_leaves(value)
    return _from_sequence(value)
