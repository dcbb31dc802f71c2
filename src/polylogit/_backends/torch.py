"""The backend for PyTorch tensors.

The common path is ``torch.softmax`` itself. Where it breaks the contract, other code replaces it, with a comment that
names the defect. This module may know PyTorch and the shared rules. Dynamo traces through all of it, so the operations
contain no look-up in ``sys.modules``, no import and no lock.
"""

# What the framework says of its own types is incomplete, and pyright takes it at its word.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportAssignmentType=false

from __future__ import annotations

import functools
import os
import sys
import tempfile
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import compiler
from torch.fx.experimental.symbolic_shapes import statically_known_true

from polylogit._backends.base import Backend, Loan, holds_numpy, host_array, no_values, overlaps, unknown_dtype
from polylogit._backends.rows import Primitives, along_axes, elementwise, floating
from polylogit._contract import wrong_direction
from polylogit.errors import ConversionError, DTypeError, MaskError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from polylogit._backends.base import Pullback

# The dtypes that the native calls serve as they are. A tuple: Dynamo compares its items by identity.
_NATIVE = (torch.float32, torch.float64)

# The CPU kernels add a row up in one running sum for each lane of a vector register along the last axis, in a single
# one along any other: at 128,256 classes the float32 probabilities sum to 1.0000079 on the last axis, to 1.0001 on axis
# 0. A chain of k additions loses (k - 1) / 2 eps where a large term comes first and small ones follow, and k / 8 eps of
# equal terms. Chains of 32 are what the bounds leave room for, as they are those of XLA's sums.
_CHAIN = 32

# Bytes of a vector register, by the name of the kernels that this processor is given; and the fewest that a build has
# (NEON), for programs that are exported, to run elsewhere.
_FEWEST_BYTES = 16
_VECTOR_BYTES = {"AVX2": 32, "AVX512": 64}.get(torch.backends.cpu.get_cpu_capability(), _FEWEST_BYTES)

# A tensor of up to so many bytes, `_CHAIN` elements in single precision, holds no row that is too long.
_SMALL_BYTES = 4 * _CHAIN

# Module-level names: looking them up in torch would take as long as the rest of what is done before the call.
_FLOAT32, _FLOAT64 = torch.float32, torch.float64
_native_sigmoid = torch.sigmoid

# NumPy's side of these is in ml_dtypes; they cross as the integer of the same width.
_FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
_BY_BITS = {"bfloat16": torch.int16} | dict.fromkeys((*_FLOAT8, "float8_e8m0fnu"), torch.uint8)

# As TensorFlow's ragged tensors: rows of several lengths in one object.
NESTED = (
    "a nested tensor is not one array, and its rows are not served; pass torch.nested.to_padded_tensor(x, 0.0) with "
    "where=torch.nested.to_padded_tensor(torch.ones_like(x), 0.0) != 0 instead."
)

_UNLIMITED = 1 << 30  # compilations of one function


class _Operation(NamedTuple):
    """The differences between softmax and log_softmax."""

    native: Callable[..., torch.Tensor]
    long: Callable[[torch.Tensor, int], torch.Tensor]
    masked: float

    def normalised(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """The native call, or the long form if the native sums would drift."""
        return self.long(x, axis) if _is_long(x, axis) else self.native(x, axis)


def _shifted(x: torch.Tensor, axis: int) -> torch.Tensor:
    # The maximum is a constant to the derivative: softmax does not change when all logits shift.
    return x - x.detach().amax(axis, keepdim=True)


def _long_softmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Computed with ``torch.sum``, which adds in a cascade whose chains are short at any length."""
    if _is_traced():
        shifted, share, levels = _folded(x, axis, torch.reciprocal)
        return _unfolded(shifted.exp() * share, levels, x.shape[axis], axis)
    e = _shifted(x, axis).exp_()
    # Not divided: the derivative of a quotient takes e over the square of the sum, which underflows before the result.
    share = e.sum(axis, keepdim=True).reciprocal()
    # Written over itself it takes half the memory, unless it is needed to differentiate.
    return e * share if e.requires_grad or _is_exporting() else e.mul_(share)


def _long_log_softmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    if _is_traced():
        shifted, logarithm, levels = _folded(x, axis, torch.log)
        return _unfolded(shifted - logarithm, levels, x.shape[axis], axis)
    shifted = _shifted(x, axis)
    logarithm = shifted.exp().sum(axis, keepdim=True).log()
    return shifted.sub_(logarithm)


def _export_is_not_strict() -> bool:
    """What PyTorch before 2.7 reveals of an export; one traced by Dynamo (``strict=True``) looks like compilation."""
    return compiler.is_compiling() and not compiler.is_dynamo_compiling()


_is_exporting: Callable[[], bool] = getattr(compiler, "is_exporting", _export_is_not_strict)


# Inductor before 2.7 computes `_folded` wrongly for a size that is open; there the native call is right, and rounds as
# it does without polylogit.
_FOLDS = hasattr(compiler, "is_exporting")


def _is_traced() -> bool:
    """Whether Inductor may write the loops; an exported program runs eagerly."""
    return compiler.is_compiling() and not _is_exporting()


def _folded(
    x: torch.Tensor, axis: int, function: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Fold a long row's exponents into dimensions of up to `_CHAIN`, and spread a function of their sum over them.

    Each dimension is summed separately, here and in the derivative of the spreading, because Inductor adds up to 4,096
    terms, or a thread's share, in one running sum. The value to spread is computed first: if Inductor reads a value for
    each dimension, it leaves out the end of a row whose length is not a multiple of the dimension (pytorch#195582).
    """
    shifted = _shifted(x.movedim(axis, -1), -1)
    length = shifted.shape[-1]
    levels = 1
    while _CHAIN**levels < length:
        levels += 1
    if levels > 1:
        unit = _CHAIN ** (levels - 1)
        missing = -length % unit
        shifted = torch.nn.functional.pad(shifted, (0, missing), value=float("-inf"))
        shifted = shifted.unflatten(-1, ((length + missing) // unit, *[_CHAIN] * (levels - 1)))
    total = shifted.exp()
    for level in range(1, levels + 1):
        total = total.sum(-level, keepdim=True)
    spread = function(total)
    for level in range(levels, 1, -1):
        spread = spread.expand(*[-1] * (spread.ndim - level), shifted.shape[-level], *[-1] * (level - 1))
    return shifted, spread, levels


def _unfolded(y: torch.Tensor, levels: int, length: int, axis: int) -> torch.Tensor:
    return (y.flatten(-levels).narrow(-1, 0, length) if levels > 1 else y).movedim(-1, axis)


_SOFTMAX = _Operation(torch.softmax, _long_softmax, 0.0)
_LOG_SOFTMAX = _Operation(torch.log_softmax, _long_log_softmax, float("-inf"))


# --- the operations --------------------------------------------------------------------------------------------------


def _at_once(native: Callable[..., torch.Tensor], general: Callable[..., Any]) -> Callable[..., Any]:
    """An operation with only an axis, on plain tensors: checks the size once, and makes the native call.

    For such short rows the native kernels keep the bound, and the general form raises the errors. This is not for
    tracing, where checking a size would add a constraint: by its attribute, Dynamo takes the general form.
    """

    def call(x: torch.Tensor, axis: int) -> Any:
        try:
            if x.dtype is _FLOAT32 and 0 < x.nbytes <= _SMALL_BYTES and not x.is_nested:
                return native(x, axis, False)  # in the dtype that it has
        except (IndexError, RuntimeError, TypeError, ValueError):
            pass
        return general(x, axis)

    call._torchdynamo_inline = general  # type: ignore[attr-defined]
    return call


def _sigmoid_at_once(x: torch.Tensor) -> Any:
    dtype = x.dtype
    if dtype is _FLOAT32 or dtype is _FLOAT64:
        try:
            return _native_sigmoid(x)
        except RuntimeError:  # sparse and nested tensors, which the rules refuse in their own words
            pass
    return sigmoid(x)


def _check_dense(x: Any) -> None:
    """Raise an error, by the same rule for every operation, unless the tensor is a single dense array."""
    if x.is_nested:
        raise UnsupportedArrayError(NESTED)
    if x.layout is not torch.strided:
        message = f"a tensor of the layout {x.layout} is not served; make it dense first: pass x.to_dense()."
        raise UnsupportedArrayError(message)


def softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.softmax`."""
    return _along_axes(_SOFTMAX, x, axis, where, dtype)


def log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.log_softmax`."""
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype)


def sigmoid(x: Any, dtype: Any = None, temperature: Any = None) -> Any:
    """See `polylogit.sigmoid`."""
    _check_dense(x)
    if dtype is None and temperature is None and x.dtype in _NATIVE:
        return torch.sigmoid(x)
    if temperature is not None:
        _refuse_shards(x)
    return elementwise(_primitives(x), torch.sigmoid, x, dtype, temperature)


def _along_axes(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any, temperature: Any = None) -> Any:
    _check_dense(x)
    plain = where is None and dtype is None and temperature is None
    if plain and x.dtype in _NATIVE and type(axis) is int:
        ndim = x.ndim
        if -ndim <= axis < ndim:  # all that the general way would do is this
            return operation.normalised(x, axis % ndim)
    return along_axes(_primitives(x), operation.normalised, operation.masked, x, axis, where, dtype, temperature)


def _is_long(x: torch.Tensor, axis: int) -> bool:
    """Whether the native kernels would lose some of the row, or add it up in chains of more than `_CHAIN`."""
    if x.ndim == 0:
        return False
    length = x.shape[axis]
    if x.device.type != "cpu":
        return x.device.type == "cuda" and x.dtype is torch.float64 and _is_cut_short(length)
    if _is_exporting():
        # A size that is not known takes the form that is right for every size, and sets no constraint.
        return not statically_known_true(length <= _longest(x, axis, _FEWEST_BYTES))
    # Of the loops that Inductor writes nothing is known but that they may be plain ones.
    if compiler.is_compiling() and not _FOLDS:
        return False
    longest = _CHAIN if compiler.is_compiling() else _longest(x, axis, _VECTOR_BYTES)
    is_long: bool = length > longest  # not made one by bool(), which Dynamo before 2.7 cannot trace for an open size
    return is_long


def _is_cut_short(length: Any) -> bool:
    """Whether CUDA's kernels may ignore part of a float64 row of this length, such as 781 (pytorch#147284).

    This was reported for odd lengths between 512 and 1,024, on some devices and not on others.
    """
    if _is_exporting():
        return not (statically_known_true(length <= 512) or statically_known_true(length >= 1024))
    return bool(not compiler.is_compiling() and 512 < length < 1024)  # Inductor writes its own


def _longest(x: torch.Tensor, axis: int, vector: int) -> int:
    return _CHAIN * (vector // x.dtype.itemsize if axis == x.ndim - 1 else 1)


# --- the primitives of row-wise work ---------------------------------------------------------------------------------


class _Primitives(Primitives):
    narrow, wide = torch.float32, torch.float64

    @staticmethod
    def kind(dtype: torch.dtype) -> str:
        if dtype.is_floating_point:
            return "floating"
        if dtype.is_complex or "q" in str(dtype):  # qint8 and its like
            return "other"
        return "bool" if dtype is torch.bool else "integer"

    @staticmethod
    def default_float() -> torch.dtype:
        return torch.get_default_dtype()

    @staticmethod
    def dtype(given: Any) -> torch.dtype | None:
        found = getattr(torch, given, None) if isinstance(given, str) else given
        if not isinstance(found, torch.dtype):
            try:
                found = getattr(torch, np.dtype(given).name, None)  # as NumPy calls it
            except (TypeError, ValueError):
                return None
        return found if isinstance(found, torch.dtype) else None

    @staticmethod
    def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return x if x.dtype is dtype else x.to(dtype)

    @staticmethod
    def broadcast(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if mask.device != x.device:  # to move it here would wait for the device, unseen
            message = f"where= lies on {mask.device} and x on {x.device}; move the mask first: where.to(x.device)."
            raise MaskError(message)
        return torch.broadcast_to(mask, x.shape)

    @staticmethod
    def moves(
        x: torch.Tensor, axes: tuple[int, ...], masked: bool
    ) -> tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor], int]:
        if len(axes) == 1 and not masked:
            return _same, _same, axes[0]
        if not axes:
            return (lambda t: t.unsqueeze(-1)), (lambda t: t.squeeze(-1)), x.ndim
        last = tuple(range(x.ndim - len(axes), x.ndim))
        sizes = [x.shape[axis] for axis in axes]
        return (
            lambda t: t.movedim(axes, last).flatten(-len(axes)),
            lambda t: t.unflatten(-1, sizes).movedim(last, axes),
            x.ndim - len(axes),
        )

    @staticmethod
    def any(mask: torch.Tensor, axis: int) -> torch.Tensor:
        return mask.any(axis, keepdim=True)

    @staticmethod
    def where(mask: torch.Tensor, x: torch.Tensor, other: torch.Tensor | float) -> torch.Tensor:
        return torch.where(mask, x, other if isinstance(other, torch.Tensor) else torch.full_like(x, other))

    @staticmethod
    def fill(some: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return torch.where(some, float("-inf"), 0.0).to(dtype)

    @staticmethod
    def constant(x: torch.Tensor) -> torch.Tensor:
        return x.detach()

    @staticmethod
    def top(rows: torch.Tensor, axis: int) -> torch.Tensor:
        if rows.shape[axis] == 0:  # of which there is no largest, and nothing to subtract it from
            return rows.detach().sum(axis, keepdim=True)
        return rows.detach().amax(axis, keepdim=True)


class _OnCuda(_Primitives):
    # The CUDA kernels add 16-bit rows up in float32 as they are; on the CPU log_softmax rounds the sum to 16 bits, and
    # returns -inf once it is over 65,504.
    @classmethod
    def working(cls, inherited: torch.dtype, result: torch.dtype) -> torch.dtype:
        native = inherited is result and inherited.itemsize == 2  # bytes
        return inherited if native else super().working(inherited, result)


def _primitives(x: torch.Tensor) -> type[_Primitives]:
    return _OnCuda if x.device.type == "cuda" else _Primitives


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


# --- the backend -----------------------------------------------------------------------------------------------------


_sigmoid_at_once._torchdynamo_inline = sigmoid  # type: ignore[attr-defined]

_AT_ONCE = {
    "softmax": _at_once(torch._softmax, softmax),  # what torch.softmax calls, for two thirds of its overhead
    "log_softmax": _at_once(torch._log_softmax, log_softmax),
    "sigmoid": _sigmoid_at_once,
}
_PLAIN = (torch.Tensor, torch.nn.Parameter)

# The types whose tensors lie in shards on several ranks -> the module that serves them, imported when one arrives.
_SHARDED: dict[type, Any] = {}


def _wherever(operation: _Operation) -> Callable[..., Any]:
    """An operation on whatever tensors; plain ones have come here with a mask, a dtype or a named backend."""

    def call(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None) -> Any:
        if (sharded := _SHARDED.get(type(x))) is not None:
            if temperature is not None:
                _refuse_shards(x)
            return sharded.on_shards(_primitives(x), operation.normalised, operation.masked, x, axis, where, dtype)
        return _along_axes(operation, x, axis, where, dtype, temperature)

    return call


def _refuse_shards(x: Any) -> None:
    if type(x) in _SHARDED:
        message = (
            "temperature= was given with a DTensor, which does not take it; divide the logits, for example "
            "polylogit.softmax(x.double() / temperature, dtype=x.dtype)."
        )
        raise UnsupportedArrayError(message)


class TorchBackend(Backend):
    """PyTorch; see `polylogit.extend.Backend`."""

    name = "torch"
    takes_temperature = True
    namespace = "torch"
    spelling: ClassVar[dict[str, str]] = {
        "softmax": "torch.softmax(x, dim={axis})",
        "log_softmax": "torch.log_softmax(x, dim={axis})",
        "sigmoid": "torch.sigmoid(x)",
        "exp": "torch.exp(p)",
        "log": "torch.log(p)",
        "exp2": "torch.exp2(x * 1.4426950408889634)",
        "take": "p = p.index_select({axis}, torch.tensor({inverse}))",
        "transpose": "x = x.permute({back})",
        "float32": "x = x.float()",
        "two classes": "torch.softmax(torch.stack([torch.zeros_like(x), x], dim=-1), dim=-1)",
        "mask": 'x = x.masked_fill(~mask, float("-inf"))',
        "causal": "mask = mask & torch.ones(n, n, dtype=torch.bool).tril()",
        "window": "mask = mask & ~torch.ones(n, n, dtype=torch.bool).tril(-window)",
        "sink": "p = torch.softmax(torch.cat([x, sink], dim=-1), dim=-1)[..., :-1]",
        "softcap": "x = cap * torch.tanh(x / cap)  # on both sides or on neither",
        "gelu": 'torch.nn.functional.gelu(x)  # or approximate="tanh"; the original has {right}',
        "norm epsilon": "eps=epsilon  # of the norm, the original's; the default of torch.nn.LayerNorm is 1e-5",
        "transposed weight": "torch.nn.functional.linear(x, weight, bias)  # weight: (outputs, inputs)",
        "layout": "x = x.permute({back})",
        "heads": "x = x.unflatten(-1, ({heads}, {size}))  # heads first, then their size",
        "no second softmax": "return x  # nn.Softmax follows already; nn.CrossEntropyLoss takes logits",
        "no second sigmoid": "torch.nn.functional.binary_cross_entropy_with_logits(x, y)  # and no sigmoid before it",
        "no dropout": "model.eval()",
        "split rows": "make one of them, with torch.distributed.tensor.DTensor.from_local(x, mesh, [Shard(axis)])",
        "stack": "torch.stack({x})",
        "stack rows": "torch.stack([torch.stack(row) for row in {x}])",
        "stack numbers": "torch.stack([torch.as_tensor(one) for one in {x}])",
        "import": "import torch",
        "array": "torch.tensor({values}, dtype=torch.{dtype})",
        "pullback": "torch.autograd.grad(inputs=x.requires_grad_(), outputs={call}, grad_outputs=g)[0]",
        "attached": "y = model(x)  # without .detach(), torch.no_grad() and .numpy() on the way",
    }

    softmax = staticmethod(_wherever(_SOFTMAX))
    log_softmax = staticmethod(_wherever(_LOG_SOFTMAX))
    sigmoid = staticmethod(sigmoid)

    def owns(self, cls: type) -> bool:
        """Tensors and all that derives from them."""
        if any((base.__module__, base.__name__) == ("torch.distributed.tensor", "DTensor") for base in cls.__mro__):
            from polylogit._backends import dtensor  # loads what few need

            _SHARDED[cls] = dtensor
        if cls.__name__ == "NestedTensor" and issubclass(cls, torch.Tensor):  # jagged; strided ones have no class
            raise UnsupportedArrayError(NESTED)
        return issubclass(cls, torch.Tensor)

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """See `Backend.implementation`."""
        at_once = _AT_ONCE.get(operation) if cls in _PLAIN else None
        return at_once or super().implementation(operation, cls)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """See `Backend.asarray`; Python floats get torch's default dtype."""
        target = None if dtype is None else _any_dtype(dtype)
        if isinstance(value, torch.Tensor):
            return value.to(device=device, dtype=target)
        array = host_array(value)
        if not hasattr(value, "dtype") and not holds_numpy(value):
            try:
                return torch.tensor(value, dtype=target, device=device)
            except (OverflowError, RuntimeError, ValueError):  # integers beyond 64 bits
                return torch.tensor(array.astype(np.float64), dtype=target or torch.get_default_dtype(), device=device)
        name = array.dtype.name
        if name in _BY_BITS:
            bits = array.view(f"u{array.dtype.itemsize}" if array.dtype.itemsize == 1 else "i2")
            tensor = torch.tensor(bits).view(getattr(torch, name))
        else:
            try:
                tensor = torch.tensor(array.copy())
            except TypeError:
                message = f"PyTorch has no dtype {name}; cast the array first, for example with .astype('float64')."
                raise DTypeError(message) from None
        return tensor.to(device=device, dtype=target)

    def device_of(self, x: Any) -> Any:
        """See `Backend.device_of`."""
        return x.device

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`; a tensor that requires grad is detached."""
        return _memory(x.detach().cpu().resolve_conj().resolve_neg())

    def lend(self, x: Any) -> Loan:
        """See `Backend.lend`."""
        _check_values(x)
        reason = ""
        tensor = x.detach()
        if tensor.is_conj() or tensor.is_neg():
            # NumPy and DLPack see the stored numbers, without the pending conjugation or sign.
            tensor, reason = tensor.resolve_conj().resolve_neg(), "conjugation or negation is pending"
        if tensor.device.type != "cpu":
            tensor, reason = tensor.cpu(), f"the tensor lies on {tensor.device}"
        array = _memory(tensor)
        if x.requires_grad:
            reason = reason or "the tensor requires grad, and autograd would not notice a write; call detach() first"
        if overlaps(array):
            reason = reason or "elements overlap in memory (an expanded tensor); writing one would change others"
        # resolve_* and cpu() have made memory of their own, but may leave it to several views.
        return Loan(array.copy(), True, False, reason) if reason else Loan(array, False, False)

    def refuses(self, array: np.ndarray[Any, Any]) -> str:
        """See `Backend.refuses`."""
        if not array.flags.writeable:
            return "torch would make read-only memory writable"
        if min(array.strides, default=0) < 0:
            return "torch has no negative strides"
        if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
            return "the array is not aligned to its items"
        return "elements overlap in memory, so that writing one would change others" if overlaps(array) else ""

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """See `Backend.adopt`; by ``torch.from_numpy``, which shares."""
        name = array.dtype.name
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            raise unknown_dtype("torch", name)
        if name in _BY_BITS:
            return torch.from_numpy(array.view(f"u{array.itemsize}")).view(dtype)
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise unknown_dtype("torch", name) from error

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By ``torch.func.vjp``; for sharded tensors, by the tape."""
        if (sharded := _SHARDED.get(type(x))) is not None:
            of_shards: tuple[Any, Pullback] = sharded.vjp(function, floating(_Primitives, x), kwargs)
            return of_shards
        y, pull = torch.func.vjp(lambda x: function(x, **kwargs), floating(_Primitives, x))

        def pullback(cotangent: Any) -> Any:
            return pull(self._like(cotangent, y, "cotangent"))[0]

        return y, pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``torch.func.jvp``, forward mode; for sharded tensors, reverse mode twice."""
        x = floating(_Primitives, x)
        if (sharded := _SHARDED.get(type(x))) is not None:
            of_shards: tuple[Any, Any] = sharded.jvp(function, x, tangent, kwargs)
            return of_shards
        if not compiler.is_compiling():
            _load_forward_mode()
        y, tangent_out = torch.func.jvp(lambda x: function(x, **kwargs), (x,), (self._like(tangent, x, "tangent"),))
        return y, tangent_out

    def _like(self, given: Any, like: torch.Tensor, argument: str) -> torch.Tensor:
        if not isinstance(given, torch.Tensor):
            given = self.asarray(given, device=like.device)
        if given.shape != like.shape:
            raise wrong_direction(argument, given.shape, like.shape, "torch.broadcast_to")
        return given.to(like.dtype)

    def devices(self) -> tuple[str, ...]:
        """The CPU and every CUDA device."""
        return ("cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())))

    def dtypes(self) -> tuple[str, ...]:
        """See `Backend.dtypes`."""
        return ("float64", "float32", "float16", "bfloat16", *_FLOAT8)

    def dtype_name(self, x: Any) -> str:
        """See `Backend.dtype_name`."""
        return str(x.dtype).removeprefix("torch.")

    def capabilities(self) -> dict[str, str]:
        """See `Backend.capabilities`."""
        return {"kernels": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """``torch.compile`` in one graph, executed as traced and through Inductor."""
        return {
            "dynamo": lambda function: torch.compile(_with_code_of_its_own(function), fullgraph=True, backend="eager"),
            "inductor": lambda function: torch.compile(_with_code_of_its_own(function), fullgraph=True),
        }

    slow_compilers = ("inductor",)

    def strict_compilation(self) -> AbstractContextManager[object]:
        """Dynamo runs a function uncompiled after eight compilations, with a warning; here it compiles, or raises."""
        dynamo: Any = sys.modules.get("torch._dynamo")  # not there: nothing has been given to ``torch.compile``
        if dynamo is None:
            return nullcontext()
        # "recompile" was "cache_size" or "cache" before PyTorch 2.7.
        of, hit = ("recompile", "recompile") if hasattr(dynamo.config, "recompile_limit") else ("cache_size", "cache")
        unlimited = {f"{of}_limit": _UNLIMITED, f"accumulated_{of}_limit": _UNLIMITED}
        patched: AbstractContextManager[object] = dynamo.config.patch(
            **unlimited, **{f"fail_on_{hit}_limit_hit": True}, suppress_errors=False
        )
        return patched

    def prepare(self, device: str | None) -> None:
        """Use a separate cache of Inductor for each instruction set: code for wider registers overruns its buffers."""
        if narrow := os.environ.get("ATEN_CPU_CAPABILITY"):
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor-{narrow}")

    def tape_vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
        """Through the tape: ``torch.func`` refuses old-style ``autograd.Function``, and hooks that call NumPy."""
        leaf = x.detach().requires_grad_()  # in the layout of `x`
        with torch.enable_grad():
            y = function(leaf, **kwargs)
        if not y.requires_grad:
            return None
        return torch.autograd.grad(y, leaf, self._like(cotangent, y, "cotangent"), materialize_grads=True)[0]

    def tape_jvp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], tangent: Any) -> Any:
        """Through dual tensors, for the same reason."""
        from torch.autograd import forward_ad  # loads what few need

        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangent), **kwargs)).tangent


def _memory(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The memory of a tensor on the CPU, as a NumPy array."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _BY_BITS:
        if not hasattr(np, name):
            raise ConversionError(f"torch has {tensor.dtype}, NumPy has no {name}. Convert the array first.")
        return np.asarray(tensor.numpy())
    try:
        import ml_dtypes  # comes with JAX and TensorFlow, not with PyTorch
    except ImportError as error:
        message = f"{name} in NumPy needs the package ml_dtypes, which is not installed: `pip install ml_dtypes`."
        raise ConversionError(message) from error
    return np.asarray(tensor.view(_BY_BITS[name]).numpy()).view(getattr(ml_dtypes, name))


def _check_values(x: Any) -> None:
    """Raise an error for lending unless this is a plain tensor with values."""
    if not isinstance(x, torch.Tensor):
        hint = "pass its state_dict()" if isinstance(x, torch.nn.Module) else "pass tensors, or containers of them"
        raise no_values(x, "no tensor", hint)
    in_transform = torch._C._functorch.is_functorch_wrapped_tensor(x)  # the only way to ask
    if in_transform or compiler.is_compiling():
        raise no_values(x, "inside a torch transform or compiler", "convert outside of it")
    # A subclass with a dispatcher of its own (FakeTensor, DTensor, functional tensors) keeps its values elsewhere.
    if type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ or x.device.type == "meta":
        raise no_values(x, "it holds no values of its own here", "materialise it as a plain tensor first")
    if torch.nn.parameter.is_lazy(x):
        raise no_values(x, "not initialised yet", "run the module once first")
    if x.layout != torch.strided or x.is_quantized or x.is_nested:
        raise no_values(x, f"layout {x.layout}, {x.dtype}", "make it dense first: to_dense() or dequantize()")


def _with_code_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper of the function whose code object no other function shares.

    Dynamo counts compilations by code object and refuses after eight, even for closures that share only their source.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__code__ = call.__code__.replace()
    return call


@functools.cache
def _load_forward_mode() -> None:
    """Load what the first ``torch.func.jvp`` loads, suppressing the deprecation warning that torch causes itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.exp, (torch.zeros(()),), (torch.zeros(()),))


def _any_dtype(given: Any) -> torch.dtype:
    dtype = _Primitives.dtype(given)
    if dtype is None:
        message = f"PyTorch has no dtype {given!r}; pass one of its own, for example torch.float32."
        raise DTypeError(message)
    return dtype
