"""`convert`: moves arrays, and containers of arrays, from one framework to another, keeping their dtype.

Every array travels as NumPy memory on the host, which one backend lends and another adopts. This module decides which
memory may be shared: never between arrays that can be written in place and arrays that must not change. Knows
containers and the registry, and no framework.
"""

from __future__ import annotations

import copy as copying
import dataclasses
import enum
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np

from polylogit import _registry as registry
from polylogit._backends.base import Loan, no_values, overlaps
from polylogit.errors import ConversionError, PolylogitError, UnsupportedArrayError

if TYPE_CHECKING:
    from polylogit._backends.base import Backend
    from polylogit._types import AnArray, AnyBackend, NumpyArray

    Key = TypeVar("Key")

__all__ = ["convert"]


@overload
def convert(tree: dict[Key, Any], /, to: AnyBackend | object, *, copy: bool | None = None) -> dict[Key, Any]: ...
@overload
def convert(tree: list[Any], /, to: AnyBackend | object, *, copy: bool | None = None) -> list[Any]: ...
@overload
def convert(tree: AnArray, /, to: Literal["numpy"], *, copy: bool | None = None) -> NumpyArray: ...
@overload
def convert(tree: Any, /, to: AnyBackend | object, *, copy: bool | None = None) -> Any: ...
def convert(tree: Any, /, to: Any, *, copy: bool | None = None) -> Any:
    """Convert arrays, or containers of arrays, to another framework, keeping values, shape and dtype.

    Parameters
    ----------
    tree : array or container
        An array of any framework, or nested dicts, lists, tuples, namedtuples, dataclasses and JAX pytrees of arrays:
        a torch ``state_dict``, a list of Keras weights, Flax parameters, an optax state. Containers keep their
        type and order, and an array that occurs twice is converted once, so tied weights stay tied. Python
        numbers, strings, bytes, enumeration members and None are returned unchanged, alone and in lists; for an
        array of numbers write ``convert(numpy.array(numbers), to)``.
    to : str, module or array
        ``"numpy"``, ``"torch"``, ``"tensorflow"``, ``"jax"``, the name of a registered backend (which is imported), the
        framework itself, or any array of the target framework. The result lies on the host.
    copy : bool, optional
        None shares memory if that is safe and copies otherwise. True always copies. False never copies, and raises an
        error if memory cannot be shared safely.

    Returns
    -------
    array or container
        A container of the same structure. An array that already belongs to the framework is returned itself, unless
        ``copy=True``.

    Raises
    ------
    ConversionError
        For tracers, symbolic tensors and other objects without values; for a dtype that the target does not have
        (including 64-bit arrays in JAX without x64); for ``copy=False`` if only a copy is safe.

    Notes
    -----
    NumPy and torch, which both write in place, share memory, so a write to one array shows in the other. JAX and
    TensorFlow share memory with each other and with read-only NumPy arrays, but never with an array that can be
    written. Read-only and overlapping (expanded, broadcast) memory is copied for torch. Gradients are not
    converted: a tensor that requires grad is copied, because autograd would not notice a write from outside.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import convert
    >>> convert({"weight": np.ones((2, 3)), "epoch": 7}, "torch")
    {'weight': tensor([[1., 1., 1.],
            [1., 1., 1.]], dtype=torch.float64), 'epoch': 7}
    """
    if copy not in (None, True, False):
        message = f"copy={copy!r} is none of None (share where safe), True (always copy) and False (never copy)."
        raise ConversionError(message)
    try:
        return _Walk(_target(to), copy).visit(tree, "")
    except RecursionError:
        message = "the tree contains itself, or is nested deeper than Python's recursion limit; convert its parts."
        raise ConversionError(message) from None


# Without this attribute, TensorFlow's AutoGraph rewrites the functions that a tf.function calls.
convert.autograph_info__ = {}  # type: ignore[attr-defined]


def _target(to: Any) -> Backend:
    """The backend that `to` names; imports its framework."""
    if isinstance(to, (str, ModuleType)):
        return registry.get_backend(to)
    try:
        return _framework_of(type(to)) or registry.owner_of(type(to))
    except UnsupportedArrayError:
        message = f"to={to!r} names no framework; pass a backend's name such as 'torch', or one of its arrays."
        raise ConversionError(message) from None


# --- containers ------------------------------------------------------------------------------------------------------

# Leaves that are no arrays, and mean the same in every framework.
_PASSED_ON = (type(None), bool, int, float, complex, str, bytes, enum.Enum, np.dtype)


class _Walk:
    """The conversion of one tree."""

    def __init__(self, target: Backend, copy: bool | None) -> None:
        self.target = target
        self.copy = copy
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> the source, kept alive, and its conversion

    def visit(self, node: Any, path: str) -> Any:
        cls = type(node)
        # NumPy's float64 and complex128 scalars are Python numbers too; as arrays they have a dtype to keep.
        passed_on = isinstance(node, _PASSED_ON) and not isinstance(node, np.generic)
        if passed_on:
            return node
        if isinstance(node, (Mapping, list, tuple)):
            return self._container(node, path)
        framework = _framework_of(cls)
        if hasattr(cls, "__array_namespace__") or (framework is not None and _is_array(framework, cls)):
            return self._once(node, path, framework)
        if _is_keras_variable(cls):
            variable: Any = node
            return self.visit(variable.value, path)
        if dataclasses.is_dataclass(node):
            return self._dataclass(node, path)
        return self._other(node, path, framework)

    def _container(self, node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            items = {key: self.visit(value, f"{path}[{key!r}]") for key, value in node.items()}
            return _rebuild_mapping(node, items)
        names = getattr(node, "_fields", None) or range(len(node))
        parts = (f".{name}" if isinstance(name, str) else f"[{name}]" for name in names)
        return _rebuild_sequence(node, [self.visit(v, path + part) for v, part in zip(node, parts, strict=True)])

    def _dataclass(self, node: Any, path: str) -> Any:
        # Not dataclasses.replace: fields with init=False are arrays too, and __post_init__ may not take these.
        made = copying.copy(node)
        for field in dataclasses.fields(node):
            value = self.visit(getattr(node, field.name), f"{path}.{field.name}")
            object.__setattr__(made, field.name, value)
        return made

    def _other(self, node: Any, path: str, framework: Backend | None) -> Any:
        for backend in registry.with_trees():
            if (tree := backend.flatten(node)) is not None:
                children, rebuild = tree
                return rebuild([self.visit(child, path + key) for key, child in children])
        return self._once(node, path, framework)

    def _once(self, node: Any, path: str, framework: Backend | None) -> Any:
        """The conversion of one array, or the previous result if the array occurred before."""
        if id(node) not in self.done:
            try:
                self.done[id(node)] = (node, _convert_array(node, framework, self.target, self.copy))
            except PolylogitError as error:
                raise ConversionError(f"at {path}: {error}" if path else str(error)) from error.__cause__
        return self.done[id(node)][1]


def _rebuild_mapping(node: Any, items: dict[Any, Any]) -> Any:
    if type(node) is dict or _is_wrapper(type(node)):
        return items
    if isinstance(node, dict):
        made = copying.copy(node)  # keeps what a subclass carries along: a default factory, a state_dict's metadata
        made.update(items)
        return made
    return type(node)(items)


def _rebuild_sequence(node: Any, items: list[Any]) -> Any:
    kind = list if isinstance(node, list) else tuple
    if type(node) is kind or _is_wrapper(type(node)):
        return kind(items)
    if hasattr(node, "_fields"):
        return type(node)(*items)
    return type(node)(items)


def _is_wrapper(cls: type) -> bool:
    framework = registry.framework_of(cls)
    return framework is not None and framework.wraps_containers


def _is_keras_variable(cls: type) -> bool:
    return any(base.__name__ == "Variable" and base.__module__.startswith("keras.") for base in cls.__mro__)


# --- arrays ----------------------------------------------------------------------------------------------------------


def _framework_of(cls: type) -> Backend | None:
    """The backend of the framework that defines a class or a base of it, even if it is no array type; or None."""
    # On TensorFlow a Keras variable inherits from TensorFlow's types without being one.
    return None if _is_keras_variable(cls) else registry.framework_of(cls)


def _is_array(framework: Backend, cls: type) -> bool:
    try:
        return framework.owns(cls)
    except UnsupportedArrayError:  # an array whose meaning would be lost, which `lend` will say
        return True


def _convert_array(node: Any, source: Backend | None, target: Backend, copy: bool | None) -> Any:
    if source is target and copy is not True:
        return node
    loan = _native(_lend(node, source), target)
    if source is not None and not (source.writable or target.writable or copy):
        shared = _shared(node, loan, target)
        if shared is not None:
            return shared
    refusal = loan.reason if loan.private else target.refuses(loan.array)
    if copy is False and refusal:
        message = f"copy=False, but only a copy is safe here: {refusal}. Leave copy out, or make the copy yourself."
        raise ConversionError(message)
    array = loan.array
    if not loan.private and (copy or refusal):
        array = np.array(array, order="C" if overlaps(array) else "K")
    return target.adopt(array)


def _lend(node: Any, source: Backend | None) -> Loan:
    if source is None:
        try:
            source = registry.owner_of(type(node))
        except UnsupportedArrayError:
            remedy = "pass arrays of a known framework, or containers of them; see polylogit.register_backend"
            remedy = registry.missing_plugin(type(node)) or remedy
            raise no_values(node, "no array, and no container that is known", remedy) from None
    return source.lend(node)


def _native(loan: Loan, target: Backend) -> Loan:
    """The loan in the machine's byte order, the only one that most frameworks accept."""
    if target.any_byte_order or loan.array.dtype.isnative:
        return loan
    return Loan(loan.array.astype(loan.array.dtype.newbyteorder("=")), True, False, "its bytes are in foreign order")


def _shared(node: Any, loan: Loan, target: Backend) -> Any:
    """An array on the same memory if neither framework writes to it; None if they cannot share."""
    if not loan.frozen or not loan.array.size or loan.array.__array_interface__["data"][0] % 64:
        return None
    try:
        made = target.from_dlpack(node)
    except Exception:  # noqa: BLE001  DLPack lacks the dtype, and each version raises something else: fall back to a copy
        return None
    return made if made is not None and target.dtype_name(made) == loan.array.dtype.name else None
