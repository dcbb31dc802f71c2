"""`convert`: arrays, and containers of them, from one framework to another with their dtype kept.

Every array travels as NumPy memory on the host: each framework has one function that lends its memory (`_lend_*`) and
one that takes it (`_take_*`). Who may share is decided here, in one place, by what was measured: torch and NumPy
write in place, JAX and TensorFlow do not, and memory is never shared between one that writes and one that must not
change. This module knows the four frameworks' arrays and the registry, and imports a framework only if it is the
target.
"""

from __future__ import annotations

import copy as copying
import dataclasses
import enum
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit import registry
from polylogit.errors import ConversionError, PolylogitError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

__all__ = ["convert"]


def convert(tree: Any, /, to: Any, *, copy: bool | None = None) -> Any:
    """Arrays, or containers of arrays, as those of another framework, with the same values, shape and dtype.

    Parameters
    ----------
    tree : array or container
        An array of any framework, or dicts, lists, tuples, namedtuples, dataclasses and JAX pytrees of them, nested at
        will: a torch ``state_dict``, a list of Keras weights, Flax parameters, an optax state. Containers keep their
        type and order, and an array that occurs twice is converted once, so that tied weights stay tied. Python
        numbers, strings, bytes, enumeration members and None are returned as they are.
    to : str or array
        ``"numpy"``, ``"torch"``, ``"tensorflow"``, ``"jax"``, the name of a registered backend (it is imported), or
        any array of the framework meant. The result lies on the host.
    copy : bool, optional
        None shares memory where that is safe and copies elsewhere. True always copies. False never does: it is an
        error wherever memory cannot be shared safely.

    Returns
    -------
    array or container
        A container of the same structure. An array that is already of the framework is returned itself, unless
        ``copy=True``.

    Raises
    ------
    ConversionError
        For tracers, symbolic tensors and other things without values; for a dtype that the target does not have
        (64-bit arrays in JAX without x64 among them); for ``copy=False`` where only a copy is safe.

    Notes
    -----
    Memory is shared between NumPy and torch, both of which write in place, so that a write to one shows in the other;
    and from JAX and TensorFlow to each other and to read-only NumPy arrays. Arrays of JAX and TensorFlow are never
    shared with anything that can write to them. Read-only and overlapping (expanded, broadcast) memory is copied
    before torch gets it. Gradients do not travel: a tensor that requires grad is copied, since a write from outside
    would go unnoticed by autograd.

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


# TensorFlow's AutoGraph rewrites the functions that a tf.function calls, unless they carry this mark.
convert.autograph_info__ = {}  # type: ignore[attr-defined]


def _target(to: Any) -> str:
    """The name of the backend that is meant; its framework is imported."""
    if isinstance(to, str):
        return registry.get_backend(to).name
    framework = _framework_of(type(to))
    try:
        return framework or registry.owner_of(type(to)).name
    except UnsupportedArrayError:
        message = f"to={to!r} names no framework; pass a backend's name such as 'torch', or one of its arrays."
        raise ConversionError(message) from None


# --- containers ------------------------------------------------------------------------------------------------------

# Leaves that carry no array and mean the same everywhere.
_PASSED_ON = (type(None), bool, int, float, complex, str, bytes, enum.Enum, np.dtype)


class _Walk:
    """One conversion of one tree."""

    def __init__(self, target: str, copy: bool | None) -> None:
        self.target = target
        self.copy = copy
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> the source, kept alive, and its conversion

    def visit(self, node: Any, path: str) -> Any:
        cls = type(node)
        # NumPy's float64 and complex128 scalars are Python numbers too; as arrays they have a dtype to keep.
        if isinstance(node, _PASSED_ON) and not isinstance(node, np.generic):
            return node
        if isinstance(node, (Mapping, list, tuple)):
            return self._container(node, path)
        framework = _framework_of(cls)
        if framework is not None or hasattr(cls, "__array_namespace__"):
            return self._once(node, path, framework)
        if _is_keras_variable(cls):
            return self.visit(node.value, path)
        if dataclasses.is_dataclass(node):
            return self._dataclass(node, path)
        return self._other(node, path)

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

    def _other(self, node: Any, path: str) -> Any:
        if "jax" in sys.modules:
            from jax import tree_util  # imported already

            children, structure = tree_util.tree_flatten_with_path(node, is_leaf=lambda part: part is not node)
            if structure != tree_util.tree_structure(0):
                made = [self.visit(child, path + tree_util.keystr(keys)) for keys, child in children]
                return tree_util.tree_unflatten(structure, made)
        return self._once(node, path, None)

    def _once(self, node: Any, path: str, framework: str | None) -> Any:
        """One array, or the same result as before when it occurred before."""
        if id(node) not in self.done:
            try:
                self.done[id(node)] = (node, _convert_array(node, framework, self.target, self.copy))
            except PolylogitError as error:
                raise ConversionError(f"at {path}: {error}" if path else str(error)) from error
        return self.done[id(node)][1]


def _rebuild_mapping(node: Any, items: dict[Any, Any]) -> Any:
    if type(node) is dict or type(node).__module__.startswith("tensorflow."):
        return items  # TensorFlow's wrappers only track attributes of a model
    if isinstance(node, dict):
        made = copying.copy(node)  # keeps what a subclass carries along: a default factory, a state_dict's metadata
        made.update(items)
        return made
    return type(node)(items)


def _rebuild_sequence(node: Any, items: list[Any]) -> Any:
    kind = list if isinstance(node, list) else tuple
    if type(node) is kind or type(node).__module__.startswith("tensorflow."):
        return kind(items)
    if hasattr(node, "_fields"):
        return type(node)(*items)
    return type(node)(items)


def _is_keras_variable(cls: type) -> bool:
    return any(base.__name__ == "Variable" and base.__module__.startswith("keras.") for base in cls.__mro__)


# --- arrays ----------------------------------------------------------------------------------------------------------


class _Loan(NamedTuple):
    """Values on their way, as a NumPy array on the host."""

    array: Array
    private: bool  # nobody else holds this memory
    frozen: bool  # the memory is its owner's and will never change
    reason: str = ""  # why it had to be copied, when it is private


def _framework_of(cls: type) -> str | None:
    """The framework whose arrays are of this type, by the modules of its inheritance; nothing is imported."""
    if _is_keras_variable(cls):
        return None  # on TensorFlow it inherits from TensorFlow's types without being one
    for base in cls.__mro__:
        name = _FRAMEWORKS.get(base.__module__.partition(".")[0])
        if name is not None:
            return name
    return None


def _convert_array(node: Any, framework: str | None, target: str, copy: bool | None) -> Any:
    if framework == target and copy is not True:
        return node
    if {framework, target} == {"jax", "tensorflow"} and copy is not True:
        shared = _through_dlpack(node, target)
        if shared is not None:
            return shared
    loan = _native(_LEND.get(framework or "", _lend_other)(node), target)
    refusal = loan.reason if loan.private else _refusal(loan, target)
    if copy is False and refusal:
        message = f"copy=False, but only a copy is safe here: {refusal}. Leave copy out, or make the copy yourself."
        raise ConversionError(message)
    array = loan.array
    if not loan.private and (copy or refusal):
        array = np.array(array, order="C" if _overlaps(array) else "K")
    take = _TAKE.get(target)
    return take(array) if take else registry.get_backend(target).asarray(array)


def _refusal(loan: _Loan, target: str) -> str:
    """Why the target must not share memory that its owner keeps; empty where it may."""
    array = loan.array
    if target == "numpy":
        return ""
    if target == "torch":
        if not array.flags.writeable:
            return "torch would make read-only memory writable"
        if min(array.strides, default=0) < 0:
            return "torch has no negative strides"
        if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
            return "the array is not aligned to its items"
        return "elements overlap in memory, so that writing one would change others" if _overlaps(array) else ""
    return f"{target} arrays do not change, and this memory is its owner's"


def _overlaps(array: Array) -> bool:
    """Whether two elements may lie at the same address; never False when they do."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return bool(array.size)
            reach += stride * (size - 1)
    return False


def _native(loan: _Loan, target: str) -> _Loan:
    """The loan in the machine's byte order, which is all that the frameworks take."""
    if target == "numpy" or loan.array.dtype.isnative:
        return loan
    return _Loan(loan.array.astype(loan.array.dtype.newbyteorder("=")), True, False, "its bytes are in foreign order")


def _no_values(node: Any, what: str, remedy: str) -> ConversionError:
    cls = type(node)
    message = f"a {cls.__module__}.{cls.__qualname__} ({what}) cannot be converted; {remedy}."
    return ConversionError(message)


# --- lending: from a framework's array to NumPy memory ---------------------------------------------------------------


def _lend_numpy(node: Any) -> _Loan:
    if isinstance(node, (np.ma.MaskedArray, np.matrix)):
        raise _no_values(node, "its meaning would be lost", "pass np.asarray(x), or x.filled(value) and the mask")
    if not isinstance(node, (np.ndarray, np.generic)):
        raise _no_values(node, "no array", "pass arrays, or containers of them")
    if isinstance(node, np.generic):
        return _Loan(np.array(node), True, False, "a NumPy scalar lends no memory")
    return _Loan(np.asarray(node), False, False)


def _lend_torch(node: Any) -> _Loan:
    import torch  # imported already

    _check_torch(node, torch)
    reason = ""
    tensor = node.detach()
    if tensor.is_conj() or tensor.is_neg():
        # NumPy and DLPack see the stored numbers, without the pending conjugation or sign.
        tensor, reason = tensor.resolve_conj().resolve_neg(), "conjugation or negation is pending"
    if tensor.device.type != "cpu":
        tensor, reason = tensor.cpu(), f"the tensor lies on {tensor.device}"
    array = _torch_memory(tensor, torch)
    if node.requires_grad:
        reason = reason or "the tensor requires grad, and autograd would not notice a write; call detach() first"
    if _overlaps(array):
        reason = reason or "elements overlap in memory (an expanded tensor), so that writing one would change others"
    # resolve_* and cpu() have made memory of their own, but may leave it to several views.
    return _Loan(array.copy(), True, False, reason) if reason else _Loan(array, False, False)


def _check_torch(node: Any, torch: Any) -> None:
    if not isinstance(node, torch.Tensor):
        hint = "pass its state_dict()" if isinstance(node, torch.nn.Module) else "pass tensors, or containers of them"
        raise _no_values(node, "no tensor", hint)
    in_transform = torch._C._functorch.is_functorch_wrapped_tensor(node)  # the only way to ask
    if in_transform or torch.compiler.is_compiling():
        raise _no_values(node, "inside a torch transform or compiler", "convert outside of it")
    # A subclass with a dispatcher of its own (FakeTensor, DTensor, functional tensors) keeps its values elsewhere.
    if type(node).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ or node.device.type == "meta":
        raise _no_values(node, "it holds no values of its own here", "materialise it as a plain tensor first")
    if torch.nn.parameter.is_lazy(node):
        raise _no_values(node, "not initialised yet", "run the module once first")
    if node.layout != torch.strided or node.is_quantized or node.is_nested:
        raise _no_values(node, f"layout {node.layout}, {node.dtype}", "make it dense first: to_dense() or dequantize()")


def _torch_memory(tensor: Any, torch: Any) -> Array:
    name = str(tensor.dtype).removeprefix("torch.")
    if not hasattr(np, name) or name in _ML_DTYPES:
        # NumPy's side of these is in ml_dtypes: the same bits, looked at as integers on the way.
        bits = tensor.view(getattr(torch, f"uint{8 * tensor.element_size()}"))
        return np.asarray(bits.numpy()).view(_ml_dtype(name, f"torch has {tensor.dtype}, NumPy"))
    return np.asarray(tensor.numpy())


_ML_DTYPES = frozenset(
    {"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
)


def _ml_dtype(name: str, who: str) -> np.dtype[Any]:
    if name not in _ML_DTYPES:
        raise ConversionError(f"{who} has no {name}. Convert the array to another dtype first.")
    try:
        import ml_dtypes  # comes with JAX and TensorFlow, not with NumPy
    except ImportError as error:
        message = f"{name} in NumPy needs the package ml_dtypes, which is not installed: `pip install ml_dtypes`."
        raise ConversionError(message) from error
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def _lend_jax(node: Any) -> _Loan:
    import jax  # imported already

    if isinstance(node, jax.core.Tracer):
        raise _no_values(node, "a tracer", "convert outside of jit, grad, vmap and scan")
    if not isinstance(node, jax.Array):
        raise _no_values(node, "no array with values", "pass arrays, or containers of them")
    if jax.dtypes.issubdtype(node.dtype, jax.dtypes.extended):
        raise _no_values(node, str(node.dtype), "pass jax.random.key_data(key)")
    if node.is_deleted() or not node.is_fully_addressable:
        state = "deleted or donated" if node.is_deleted() else "spread over several hosts"
        raise _no_values(node, state, "gather it on this host first")
    host = all(device.platform == "cpu" for device in node.devices())
    return _frozen(np.asarray(node), host and len(node.devices()) == 1)


def _lend_tensorflow(node: Any) -> _Loan:
    import tensorflow as tf  # imported already

    if isinstance(node, tf.Variable):
        array = _lend_tensorflow(node.read_value()).array
        return _Loan(np.array(array), True, False, "a tf.Variable changes in place")
    _check_tensorflow(node, tf)
    on_host = "CPU" in node.device
    return _frozen(np.asarray(node) if on_host else node.numpy(), on_host)


def _check_tensorflow(node: Any, tf: Any) -> None:
    if isinstance(node, tf.Tensor) and not hasattr(node, "_numpy"):
        raise _no_values(node, "a symbolic tensor", "convert outside of tf.function and of a Keras model's definition")
    if not isinstance(node, tf.Tensor):
        raise _no_values(node, "no dense tensor", "make it one first: to_tensor(), tf.sparse.to_dense()")
    if node.dtype in (tf.string, tf.variant, tf.resource):
        raise _no_values(node, f"dtype {node.dtype.name}", "only numbers and bool have a counterpart elsewhere")


def _frozen(array: Array, shared: bool) -> _Loan:
    """Memory of an array that never changes, so locked that NumPy cannot unlock it."""
    if not (shared and array.flags.c_contiguous):
        return _Loan(np.array(array), True, False, "the array lies on another device or in another layout")
    if not array.size:
        return _Loan(array, False, True)
    # TensorFlow lends bfloat16 and float8 writable; a read-only memoryview underneath holds for good.
    data = array.reshape(-1).view(np.uint8).data.toreadonly()
    return _Loan(np.frombuffer(data, np.uint8).view(array.dtype).reshape(array.shape), False, True)


def _lend_other(node: Any) -> _Loan:
    """An array of a registered backend, through its own `to_numpy`; a copy, since who else holds it is not known."""
    try:
        backend = registry.owner_of(type(node))
    except UnsupportedArrayError:
        remedy = "pass arrays of a known framework, or containers of them; see polylogit.register_backend"
        raise _no_values(node, "no array, and no container that is known", remedy) from None
    array = np.array(backend.to_numpy(node))
    return _Loan(array, True, False, f"the backend {backend.name!r} does not say whether its memory may be shared")


# --- taking: NumPy memory that the framework may keep, or (JAX, TensorFlow) that it copies ----------------------------


def _take_torch(array: Array) -> Any:
    import torch  # imported already

    name = array.dtype.name
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise _unknown_dtype("torch", array)
    if name in _ML_DTYPES:
        return torch.from_numpy(array.view(f"u{array.itemsize}")).view(dtype)
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise _unknown_dtype("torch", array) from error


def _take_tensorflow(array: Array) -> Any:
    import tensorflow as tf  # imported already

    try:
        # tf.constant copies what is a NumPy array, and only that, into aligned memory of its own.
        made = tf.constant(np.asarray(array))
    except (TypeError, ValueError) as error:
        raise _unknown_dtype("TensorFlow", array) from error
    if made.dtype.name != array.dtype.name:
        raise _unknown_dtype("TensorFlow", array)
    return made


def _take_jax(array: Array) -> Any:
    import jax  # imported already

    name = array.dtype.name
    if array.dtype.kind in "fiuc" and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        message = (
            f"JAX would silently make {name} into {jax.dtypes.canonicalize_dtype(array.dtype)}, since x64 is off. Call "
            f'jax.config.update("jax_enable_x64", True) first, or convert the array to a 32-bit dtype yourself.'
        )
        raise ConversionError(message)
    try:
        # copy=True, since jax.device_put and from_dlpack alias whatever happens to lie on a 64-byte boundary.
        made = jax.numpy.array(array, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unknown_dtype("JAX", array) from error
    if made.dtype != array.dtype:
        raise _unknown_dtype("JAX", array)
    return made


def _unknown_dtype(framework: str, array: Array) -> ConversionError:
    return ConversionError(f"{framework} has no dtype {array.dtype.name}. Convert the array to another dtype first.")


def _through_dlpack(node: Any, target: str) -> Any:
    """JAX and TensorFlow share memory, since neither writes to it; None where they cannot.

    Measured: JAX does not reuse the memory of a donated array that TensorFlow holds or lent, nor TensorFlow that of an
    input which JAX holds or lent, and tf.Variable copies it before its first write.
    """
    import jax  # both are imported: one is the source's, the other the target
    import tensorflow as tf

    lend = _lend_tensorflow if target == "jax" else _lend_jax
    loan = lend(node)  # for its checks, and for where the memory lies
    aligned = loan.array.__array_interface__["data"][0] % 64 == 0
    kept = target == "tensorflow" or jax.dtypes.canonicalize_dtype(loan.array.dtype) == loan.array.dtype
    if not loan.frozen or not loan.array.size or not aligned or not kept:
        return None
    try:
        if target == "jax":
            made = jax.dlpack.from_dlpack(node)
            return made if made.dtype == loan.array.dtype else None
        made = tf.experimental.dlpack.from_dlpack(jax.block_until_ready(node).__dlpack__())
    except Exception:  # noqa: BLE001  a dtype that DLPack lacks, spelled differently by every version: a copy it is
        return None
    return made if made.dtype.name == loan.array.dtype.name else None


_FRAMEWORKS = {"numpy": "numpy", "torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "jaxlib": "jax"}
_LEND: dict[str, Callable[[Any], _Loan]] = {
    "numpy": _lend_numpy,
    "torch": _lend_torch,
    "jax": _lend_jax,
    "tensorflow": _lend_tensorflow,
}
_TAKE: dict[str, Callable[[Array], Any]] = {
    "numpy": lambda array: array,
    "torch": _take_torch,
    "jax": _take_jax,
    "tensorflow": _take_tensorflow,
}
