"""The base class of backends, `Backend`, and helpers that every backend may use.

A backend computes with one framework's arrays. It may know that framework and the rules of `polylogit._contract`, but
neither the registry nor any other backend.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from polylogit._contract import check_logits_dtype, check_temperature, check_temperature_dtype
from polylogit._operations import OPERATIONS
from polylogit.errors import ConversionError, DTypeError, MixedBackendsError, UnknownOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import numpy as np

    Pullback = Callable[[Any], Any]

__all__ = [
    "SPELLING",
    "Backend",
    "Loan",
    "frozen",
    "holds_numpy",
    "host_array",
    "no_values",
    "overlaps",
    "seen_temperature",
    "unknown_dtype",
]


class Loan(NamedTuple):
    """The values of an array for conversion to another framework, as a NumPy array on the host."""

    array: np.ndarray[Any, Any]
    private: bool  # whether nobody else holds this memory
    frozen: bool  # whether the memory belongs to its owner and will never change
    reason: str = ""  # why it had to be copied, if it is private


# The lines of code that porting suggests, by purpose: ``x`` are logits and ``p`` probabilities. A backend overrides
# those that its users write differently. The last three are for the conformance kit, which shows a failing call as
# users write it: the import, an array of `values` (nested lists), and the gradient of `call` for the cotangent ``g``;
# empty if unknown.
SPELLING = {
    "softmax": "polylogit.softmax(x, axis={axis})",
    "log_softmax": "polylogit.log_softmax(x, axis={axis})",
    "sigmoid": "polylogit.sigmoid(x)",
    "exp": "np.exp(p)",
    "log": "np.log(p)",
    "exp2": "np.exp2(x * 1.4426950408889634)",
    "take": "p = np.take(p, {inverse}, axis={axis})",
    "transpose": "x = np.transpose(x, {back})",
    "float32": "x = x.astype(np.float32)",
    "two classes": "polylogit.softmax(np.stack([np.zeros_like(x), x], axis=-1))",
    "mask": "polylogit.softmax(x, where=mask)",
    "masked softmax": "polylogit.softmax(x, where=mask)",
    "causal": "mask = mask & np.tril(np.ones((n, n), bool))",
    "padding": "mask = mask & (tokens != pad)[:, None, None, :]",
    "padding side": "mask = (tokens != pad)[:, None, None, :]  # of the tokens as they are padded here",
    "window": "mask = mask & ~np.tril(np.ones((n, n), bool), -window)",
    "sink": "p = polylogit.softmax(np.append(x, sink, axis=-1))[..., :-1]",
    "softcap": "x = cap * np.tanh(x / cap)  # on both sides or on neither",
    "gelu": "y = gelu(x)  # {right}",
    "norm epsilon": "x / np.sqrt(variance + epsilon)  # with the original's epsilon",
    "transposed weight": "y = x @ weight + bias  # weight: (inputs, outputs)",
    "layout": "x = np.transpose(x, {back})",
    "heads": "x = x.reshape(*x.shape[:-1], {heads}, {size})  # heads first, then their size",
    "no second softmax": "p = x  # it has been through softmax already",
    "no second sigmoid": "p = x  # it has been through sigmoid already",
    "no dropout": "p = 0  # no dropout when comparing",
    "attached": "y, pullback = polylogit.vjp(polylogit.softmax, x)",
    "split rows": "gather them first",
    "stack": "numpy.asarray({x})",
    "stack rows": "numpy.asarray({x})",
    "stack numbers": "numpy.asarray({x})",
    "import": "",
    "array": "",
    "pullback": "",
}


class Backend(ABC):
    """The base class of backends: everything that polylogit does with the arrays of one framework.

    An instance is created on first use, after the framework has been imported (by the user, whose array arrived, or
    because somebody named the backend). Subclass it, implement the abstract methods, and name the class in the
    entry-point group ``polylogit.backends`` or in `polylogit.register_backend`.

    Attributes
    ----------
    name : str
        The name for ``backend="torch"``.
    engine : str
        The code that computes, if the backend has a choice; shown by ``polylogit backends``.
    differentiates : bool
        Whether `vjp` and `jvp` accept any function of the framework's arrays (True), or only polylogit's own
        operations, by their closed forms (False).
    always_compiles : str
        If the framework compiles whatever it runs, again for each shape: the name in `compilers` of the one that
        compiles a whole function at once. The conformance kit then uses fewer shapes. Empty otherwise.
    writable : bool
        Whether arrays may be written in place (NumPy, PyTorch), so that `polylogit.convert` shares memory only between
        such frameworks; arrays of JAX and TensorFlow never change.
    any_byte_order : bool
        Whether arrays may have another byte order than the machine's.
    wraps_containers : bool
        Whether the framework wraps Python's dicts, lists and tuples to track the attributes of a model;
        `polylogit.convert` turns them into plain ones.
    version : str
        The version of the framework, for reports; by default that of the installed package of its name.
    takes_numpy_masks : bool
        Whether ``where=`` may be a NumPy array, matched by position, if the logits have labels.
    names_axes : bool
        Whether the operations take ``axis_name=``, the names of mapped axes that split a row.
    takes_temperature : bool
        Whether the operations take ``temperature=``, a float or an array of the framework; `along_axes` in
        `polylogit.extend` implements it.
    takes_out : bool
        Whether the operations take ``out=``, an array to write the result to.
    namespace : str
        The module with NumPy's functions under their names, for the forms of the conformance kit; empty for none.
    spelling : dict of str to str
        Lines of code as this framework's users write them, if they differ from ``SPELLING``.
    """

    name: ClassVar[str]
    differentiates: ClassVar[bool] = True
    always_compiles: ClassVar[str] = ""
    writable: ClassVar[bool] = True
    any_byte_order: ClassVar[bool] = False
    wraps_containers: ClassVar[bool] = False
    version: ClassVar[str] = ""
    takes_numpy_masks: ClassVar[bool] = False
    names_axes: ClassVar[bool] = False
    takes_temperature: ClassVar[bool] = False
    takes_out: ClassVar[bool] = False
    namespace: ClassVar[str] = ""
    spelling: ClassVar[dict[str, str]] = {}

    @property
    def engine(self) -> str:
        """The code that computes, if there is a choice."""
        return ""

    # --- the types of the backend ------------------------------------------------------------------------------

    @abstractmethod
    def owns(self, cls: type) -> bool:
        """Whether the backend owns arrays of exactly this type.

        Raise `polylogit.errors.UnsupportedArrayError` for a type of this framework that would lose its meaning (such
        as a masked array).
        """

    # --- the operations ----------------------------------------------------------------------------------------

    @abstractmethod
    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """exp(x) divided by its sum along `axis`; see `polylogit.softmax`."""

    @abstractmethod
    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """The logarithm of softmax; see `polylogit.log_softmax`."""

    @abstractmethod
    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """1 / (1 + exp(-x)); see `polylogit.sigmoid`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let operations that the class lacks (it may be older than they are) raise an error when called."""
        super().__init_subclass__(**kwargs)
        for operation in OPERATIONS:
            if not hasattr(cls, operation):
                setattr(cls, operation, _refused(operation))

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """The implementation of an operation for arrays of exactly this type; by default the method of its name."""
        serve: Callable[..., Any] = getattr(self, operation)
        return serve

    # --- arrays in and out -------------------------------------------------------------------------------------

    @abstractmethod
    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Convert a Python number, a nested sequence or a NumPy array, keeping the dtype if possible.

        `dtype` is a name such as "bfloat16" or a dtype of the framework; `device` is a name that the framework uses.
        """

    def device_of(self, x: Any) -> Any:
        """The ``device=`` for `asarray` to create an array beside `x`; None if the framework takes care of that."""
        return None

    @abstractmethod
    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values as a NumPy array on the host, in the same dtype (bfloat16 and float8 as those of ml_dtypes)."""

    def number(self, value: Any) -> Any:
        """A Python number as a scalar of the framework, or as an array without axes if it has no scalars."""
        return self.asarray(value)

    # --- for `polylogit.convert`; by default values are copied both ways -------------------------------------------

    def lend(self, x: Any) -> Loan:
        """The values of an array, in its own memory if that lies on the host.

        Raise `polylogit.errors.ConversionError` (see `no_values`) for an object without values: a tracer, a symbolic
        or sparse tensor, a module.
        """
        reason = f"the backend {self.name!r} does not say whether its memory may be shared"
        return Loan(self.to_numpy(x).copy(), True, False, reason)

    def refuses(self, array: np.ndarray[Any, Any]) -> str:
        """Why an array of this framework must not share memory that its owner keeps, as a clause; empty if it may."""
        if self.writable:
            return f"the backend {self.name!r} does not say whether it may share memory"
        return f"{self.name} arrays do not change, and this memory is its owner's"

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """An array on this memory, or on a copy; `refuses` allows sharing it, or nobody else holds it.

        Keep the dtype; raise `polylogit.errors.ConversionError` (see `unknown_dtype`) if the framework has no such
        dtype.
        """
        return self.asarray(array)

    def flatten(self, node: Any) -> tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]] | None:
        """The named parts of a container that only this framework knows, and a function to rebuild it; or None."""
        return None

    def from_dlpack(self, x: Any) -> Any:
        """An array on the memory of another framework's array that never changes; None if that is impossible."""
        return None

    # --- derivatives -------------------------------------------------------------------------------------------

    @abstractmethod
    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """``function(x, **kwargs)`` and its pullback; see `polylogit.vjp`."""

    @abstractmethod
    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """``function(x, **kwargs)`` and its directional derivative; see `polylogit.jvp`."""

    # --- for porting; the operations do not need it --------------------------------------------------------------

    def spell(self, what: str, **values: Any) -> str:
        """A line of code for this framework's users: an entry of ``SPELLING``, or the template itself, filled in."""
        return {**SPELLING, **self.spelling}.get(what, what).format(**values)

    # --- for the conformance kit; the operations do not need it -------------------------------------------------

    def devices(self) -> tuple[str, ...]:
        """The devices on which arrays can be created, as `asarray` accepts them."""
        return ("cpu",)

    def dtypes(self) -> tuple[str, ...]:
        """The names of the floating dtypes that this framework has, widest first."""
        return ("float64", "float32", "float16")

    def dtype_name(self, x: Any) -> str:
        """The dtype of an array as a plain name such as "float32", even if it is printed as ``mlx.core.float32``."""
        return str(x.dtype).rpartition(".")[2]

    def capabilities(self) -> dict[str, str]:
        """The framework's view of the processor and its own settings, for reports; values as it spells them."""
        return {}

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """The framework's compilers for a function of one array, by name (``{"jit": jax.jit}``)."""
        return {}

    slow_compilers: ClassVar[tuple[str, ...]] = ()  # the names in `compilers` of those that take seconds per function

    def strict_compilation(self) -> AbstractContextManager[object]:
        """A context in which compilation succeeds or raises; a function never silently runs uncompiled."""
        return nullcontext()

    def prepare(self, device: str | None) -> None:  # noqa: B027  most need nothing
        """Configure the framework for the kit, in each process of the kit before any array is created."""

    def tape_vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
        """The gradient of a user's function as users compute it, by `vjp` or a tape; None if `x` is not connected."""
        return self.vjp(function, x, kwargs)[1](cotangent)

    def tape_jvp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], tangent: Any) -> Any:
        """The directional derivative of a user's function, in the same way."""
        return self.jvp(function, x, tangent, kwargs)[1]


def _refused(operation: str) -> Callable[..., Any]:
    """The method for an operation that a backend lacks; it raises an error."""

    def refuse(self: Backend, x: Any, *_: Any, **__: Any) -> Any:
        message = (
            f"backend {self.name!r} does not serve {operation}; add a method of that name to {type(self).__name__}, "
            'or convert the array first, for example with polylogit.convert(x, "numpy").'
        )
        raise UnknownOperationError(message)

    return refuse


def host_array(value: Any) -> np.ndarray[Any, Any]:
    """Convert a Python number, a nested sequence or a NumPy array to a numeric NumPy array in native byte order.

    Raises
    ------
    ConversionError
        For nested sequences of unequal lengths.
    MixedBackendsError
        For another framework's array, or a sequence of them.
    DTypeError
        For values that are not numbers.
    """
    import numpy as np  # importing polylogit does not import NumPy

    leaves = dict.fromkeys(_leaf_types(value))
    for cls in leaves:
        if not issubclass(cls, (np.ndarray, np.generic)) and any(hasattr(cls, protocol) for protocol in _PROTOCOLS):
            message = (
                f"a {type(value).__name__} that holds {cls.__module__}.{cls.__qualname__} was given; gathering arrays "
                "of another framework would cut gradients and move data. Stack them with that framework first, then "
                'pass the one array, or convert it with polylogit.convert(..., "numpy").'
            )
            raise MixedBackendsError(message)
    try:
        array = np.asarray(value)
        if array.dtype == object and all(issubclass(cls, int) for cls in leaves):
            array = np.asarray(value, dtype=np.float64)  # integers beyond 64 bits
    except (ValueError, OverflowError) as error:
        message = (
            f"the sequence {reprlib.repr(value)} is not the rows of one array ({error}); give its nested sequences "
            "equal lengths, or pad them and pass where=."
        )
        raise ConversionError(message) from None
    if array.dtype.kind in "OSUMm" or array.dtype.names is not None:
        check_logits_dtype(str(array.dtype), "other")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def seen_temperature(given: Any) -> Any:
    """Check a Python or NumPy temperature, and return it as a float, or as an array if it has dimensions.

    Raises
    ------
    TemperatureError
        If it is not positive and finite.
    DTypeError
        If it is not a real number: a bool, a complex number and the like.
    """
    import numpy as np  # as in `host_array`

    if type(given) is float or type(given) is int:
        check_temperature(given)
        return float(given)
    try:
        array = host_array(given)
    except DTypeError:  # which speaks of logits
        array = np.asarray(given)
    kind = "floating" if array.dtype.kind in "fV" else "integer" if array.dtype.kind in "iu" else "other"
    check_temperature_dtype(str(array.dtype), kind)
    wide = array.astype("float64")
    for end in (wide.min(), wide.max()) if wide.size else ():  # NaN, if present, is both the minimum and the maximum
        check_temperature(float(end))
    return array if array.ndim else float(wide)


_PROTOCOLS = ("__array__", "__dlpack__", "__array_namespace__")


def _leaf_types(value: Any) -> Iterator[type]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaf_types(item)
    else:
        yield type(value)


def holds_numpy(value: Any) -> bool:
    """Whether a nested sequence contains NumPy arrays or scalars."""
    return any(cls.__module__ == "numpy" for cls in _leaf_types(value))


def no_values(x: Any, what: str, remedy: str) -> ConversionError:
    """The error of `Backend.lend` for an object that is no array with values on the host."""
    cls = type(x)
    return ConversionError(f"a {cls.__module__}.{cls.__qualname__} ({what}) cannot be converted; {remedy}.")


def unknown_dtype(framework: str, dtype: str) -> ConversionError:
    """The error of `Backend.adopt` for a dtype that the framework lacks."""
    return ConversionError(f"{framework} has no dtype {dtype}. Convert the array to another dtype first.")


def overlaps(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements may share an address; may be True although they do not, but never the reverse."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return bool(array.size)
            reach += stride * (size - 1)
    return False


def frozen(array: np.ndarray[Any, Any], *, shared: bool) -> Loan:
    """The loan of an array that never changes, locked so that NumPy cannot unlock it."""
    import numpy as np  # as above

    if not (shared and array.flags.c_contiguous):
        return Loan(np.array(array), True, False, "the array lies on another device or in another layout")
    if not array.size:
        return Loan(array, False, True)
    # TensorFlow lends bfloat16 and float8 writable; a read-only memoryview underneath holds for good.
    data = array.reshape(-1).view(np.uint8).data.toreadonly()
    return Loan(np.frombuffer(data, np.uint8).view(array.dtype).reshape(array.shape), False, True)
