"""What a backend is: the outline that every file of this folder follows.

A backend serves one framework's arrays. It may know that framework and the rules of `polylogit.contract`, and knows
neither the registry nor any other backend.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from polylogit.contract import check_logits_dtype
from polylogit.errors import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Pullback = Callable[[Any], Any]

__all__ = ["SPELLING", "Backend", "holds_numpy", "host_array"]

# What porting suggests to write, by what it does: ``x`` are logits and ``p`` probabilities. A backend spells what its
# users write otherwise.
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
    "no second softmax": "p = x  # it has been through softmax already",
    "no second sigmoid": "p = x  # it has been through sigmoid already",
    "no dropout": "p = 0  # no dropout when comparing",
    "attached": "y, pullback = polylogit.vjp(polylogit.softmax, x)",
}


class Backend(ABC):
    """One framework's arrays and what polylogit does with them.

    An instance is made on first use, when the framework has been imported (by the user, whose array arrived, or by
    asking for the backend by name). Subclass it, implement the abstract methods, and name the class in the
    entry-point group ``polylogit.backends`` or in `polylogit.register_backend`.

    Attributes
    ----------
    name : str
        As in ``backend="torch"``.
    install : str
        The command that installs the framework, for messages.
    differentiates : bool
        Whether `vjp` and `jvp` take any function of the framework's arrays (True), or only polylogit's own
        operations by their closed forms (False).
    always_compiles : str
        Where the framework compiles whatever it runs, anew for each shape: the name in `compilers` of what compiles a
        whole function at once. The conformance kit then asks for fewer shapes. Empty elsewhere.
    spelling : dict of str to str
        Lines of code as this framework's users write them, where they differ from `SPELLING`.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    differentiates: ClassVar[bool] = True
    always_compiles: ClassVar[str] = ""
    spelling: ClassVar[dict[str, str]] = {}

    # --- which types are ours ----------------------------------------------------------------------------------

    @abstractmethod
    def owns(self, cls: type) -> bool:
        """Whether arrays of exactly this type are served here.

        Raise `UnsupportedArrayError` for a type of this framework that would lose its meaning (a masked array, say).
        """

    # --- the operations ----------------------------------------------------------------------------------------

    @abstractmethod
    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """exp(x) over its sum along `axis`; see `polylogit.softmax`."""

    @abstractmethod
    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        """The logarithm of softmax; see `polylogit.log_softmax`."""

    @abstractmethod
    def sigmoid(self, x: Any, dtype: Any = None) -> Any:
        """1 / (1 + exp(-x)); see `polylogit.sigmoid`."""

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """What serves an operation on arrays of exactly this type; one of the methods above unless overridden."""
        serve: Callable[..., Any] = getattr(self, operation)
        return serve

    # --- arrays in and out -------------------------------------------------------------------------------------

    @abstractmethod
    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """A Python number, a nested sequence or a NumPy array as an array of this framework, dtype kept if it can be.

        `dtype` is a name such as "bfloat16" or what the framework itself takes; `device` is what it calls one.
        """

    @abstractmethod
    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values as a NumPy array on the host, dtype kept (bfloat16 and float8 as those of ml_dtypes)."""

    # --- derivatives -------------------------------------------------------------------------------------------

    @abstractmethod
    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """``function(x, **kwargs)`` and its pullback; see `polylogit.vjp`."""

    @abstractmethod
    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """``function(x, **kwargs)`` and its directional derivative; see `polylogit.jvp`."""

    # --- for porting; none is needed by the operations -----------------------------------------------------------

    def spell(self, what: str, **values: Any) -> str:
        """A line of code for this framework's users: an entry of `SPELLING`, or the template itself, filled in."""
        return {**SPELLING, **self.spelling}.get(what, what).format(**values)

    def tape_vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
        """The pullback of `vjp` at once, as users of the framework differentiate; None where `x` is not connected."""
        return self.vjp(function, x, kwargs)[1](cotangent)

    # --- for the conformance kit; none is needed by the operations ----------------------------------------------

    def devices(self) -> tuple[str, ...]:
        """The devices on which arrays can be made, as `asarray` takes them."""
        return ("cpu",)

    def dtypes(self) -> tuple[str, ...]:
        """The names of the floating dtypes that this framework has, widest first."""
        return ("float64", "float32", "float16")

    def dtype_name(self, x: Any) -> str:
        """The dtype of an array as a plain name such as "float32"."""
        return str(x.dtype)

    def capabilities(self) -> dict[str, str]:
        """What the framework says of the processor and of its own switches, for reports; values as it spells them."""
        return {}

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """By name, the framework's ways to compile a function of one array (``{"jit": jax.jit}``)."""
        return {}


def host_array(value: Any) -> np.ndarray[Any, Any]:
    """A Python number, a nested sequence or a NumPy array as a numeric NumPy array, in the machine's byte order.

    Raises
    ------
    UnsupportedArrayError
        For a ragged sequence.
    DTypeError
        For values that are not numbers.
    """
    import numpy as np  # noqa: PLC0415  importing polylogit does not import NumPy

    try:
        array = np.asarray(value)
    except ValueError as error:
        message = f"the sequence {reprlib.repr(value)} is ragged ({error}); give every row the same length."
        raise UnsupportedArrayError(message) from None
    if array.dtype == object and array.size and all(isinstance(leaf, int) for leaf in array.flat):
        array = array.astype(np.float64)  # Python integers beyond 64 bits
    if array.dtype.kind in "OSUMm" or array.dtype.names is not None:
        check_logits_dtype(str(array.dtype), "other")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def holds_numpy(value: Any) -> bool:
    """Whether a nested sequence has NumPy arrays or scalars for leaves."""
    if isinstance(value, (list, tuple)):
        return any(holds_numpy(item) for item in value)
    return type(value).__module__ == "numpy"
