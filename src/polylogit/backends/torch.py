"""PyTorch tensors.

The common path is ``torch.softmax`` itself. It is left where that call breaks the contract, and every departure names
the defect that it answers. This module may know PyTorch and the shared rules; Dynamo traces through all of it, so the
operations hold no look-up in ``sys.modules``, no import and no lock.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import compiler
from torch.fx.experimental.symbolic_shapes import statically_known_true

from polylogit.backends.base import Backend, holds_numpy, host_array
from polylogit.contract import check_floating, check_logits_dtype, check_mask, check_mask_shape, normalize_axis
from polylogit.errors import DifferentiationError, DTypeError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.base import Pullback

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
_FLOAT32 = torch.float32
_native_sigmoid = torch.sigmoid

# NumPy has no name for these; they cross by the integer of the same width.
_BY_BITS = {
    "bfloat16": torch.int16,
    "float8_e4m3fn": torch.uint8,
    "float8_e4m3fnuz": torch.uint8,
    "float8_e5m2": torch.uint8,
    "float8_e5m2fnuz": torch.uint8,
}


class _Operation(NamedTuple):
    """What tells softmax and log_softmax apart."""

    native: Callable[..., torch.Tensor]
    long: Callable[[torch.Tensor, int], torch.Tensor]
    masked: float


def _shifted(x: torch.Tensor, axis: int) -> torch.Tensor:
    # The maximum is a constant to the derivative: softmax does not change when all logits shift.
    return x - x.detach().amax(axis, keepdim=True)


def _long_softmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    """By ``torch.sum``, which adds in a cascade whose chains are short at any length."""
    if _is_traced():
        shifted, share, levels = _folded(x, axis, torch.reciprocal)
        return _unfolded(shifted.exp() * share, levels, x.shape[axis], axis)
    e = _shifted(x, axis).exp_()
    # Not divided: the derivative of a quotient takes e over the square of the sum, which underflows before the result.
    share = e.sum(axis, keepdim=True).reciprocal()
    # Written over itself it takes half the memory, unless it is needed to differentiate.
    return e * share if e.requires_grad or compiler.is_exporting() else e.mul_(share)


def _long_log_softmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    if _is_traced():
        shifted, logarithm, levels = _folded(x, axis, torch.log)
        return _unfolded(shifted - logarithm, levels, x.shape[axis], axis)
    shifted = _shifted(x, axis)
    logarithm = shifted.exp().sum(axis, keepdim=True).log()
    return shifted.sub_(logarithm)


def _is_traced() -> bool:
    """Whether Inductor may write the loops; an exported program runs eagerly."""
    return compiler.is_compiling() and not compiler.is_exporting()


def _folded(
    x: torch.Tensor, axis: int, function: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The exponents of a long row, folded into dimensions of up to `_CHAIN`, and a function of their sum, spread again.

    Sums are taken, and in the derivative of the spreading taken again, one dimension at a time: Inductor adds up to
    4,096 terms, or the share of a thread, in one running sum. What is spread is made before: Inductor leaves out the
    end of a row whose length is no multiple of the dimension where it reads something of each (pytorch#195582).
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
    """An operation with an axis and nothing else, on plain tensors: one look at the size, and the native call.

    So small, the native kernels keep the bound; what they refuse is said again by the rules. This is
    not for tracing, where a look at a size would become a constraint: by its attribute Dynamo takes the general form.
    """

    def call(x: torch.Tensor, axis: int) -> Any:
        try:
            if x.dtype is _FLOAT32 and 0 < x.nbytes <= _SMALL_BYTES:
                return native(x, axis, False)  # in the dtype that it has
        except (IndexError, RuntimeError, TypeError, ValueError):
            pass
        return general(x, axis)

    call._torchdynamo_inline = general  # type: ignore[attr-defined]  # noqa: SLF001
    return call


def _sigmoid_at_once(x: torch.Tensor) -> Any:
    return _native_sigmoid(x) if x.dtype is _FLOAT32 else sigmoid(x)


def softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.softmax`."""
    return _along_axes(_SOFTMAX, x, axis, where, dtype)


def log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.log_softmax`."""
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype)


def sigmoid(x: Any, dtype: Any = None) -> Any:
    """See `polylogit.sigmoid`."""
    if dtype is None and x.dtype in _NATIVE:
        return torch.sigmoid(x)
    result, compute = _dtypes(x, dtype)
    return _cast(torch.sigmoid(_cast(x, compute)), result)


def _along_axes(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any) -> Any:
    result, compute = _dtypes(x, dtype)
    axes = normalize_axis(axis, x.ndim)
    if x.layout not in (torch.strided, torch.jagged):
        message = f"a tensor of the layout {x.layout} is not served; make it dense first, with x.to_dense()."
        raise UnsupportedArrayError(message)
    x = _cast(x, compute)
    if where is None and len(axes) == 1:
        return _cast(_along_axis(operation, x, axes[0]), result)
    shape = x.shape
    mask = None
    if where is not None:
        check_mask(str(where.dtype), where.dtype is torch.bool)
        check_mask_shape(where.shape, shape)
        mask = _joined(torch.broadcast_to(where, shape), axes)
    y = _along_last(operation, _joined(x, axes), mask)
    if not axes:
        return _cast(y.squeeze(-1), result)
    last = tuple(range(x.ndim - len(axes), x.ndim))
    return _cast(y.unflatten(-1, [shape[one] for one in axes]).movedim(last, axes), result)


def _joined(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """The axes joined into one at the end; with no axes, a new one of size 1."""
    if not axes:
        return x.unsqueeze(-1)
    return x.movedim(axes, tuple(range(x.ndim - len(axes), x.ndim))).flatten(-len(axes))


def _along_last(operation: _Operation, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    axis = x.ndim - 1
    if mask is None:
        return _along_axis(operation, x, axis)
    # The masked entries are replaced before, so that what they hold cannot reach the sum or a gradient, and after. A
    # row with no entry left is filled with zeros: no NaN arises that a derivative could carry.
    some = mask.any(axis, keepdim=True)
    fill = torch.where(some, float("-inf"), 0.0).to(x.dtype)
    y = _along_axis(operation, torch.where(mask, x, fill), axis)
    return torch.where(mask, y, torch.full_like(y, operation.masked))


def _along_axis(operation: _Operation, x: torch.Tensor, axis: int) -> torch.Tensor:
    return operation.long(x, axis) if _is_long(x, axis) else operation.native(x, axis)


def _is_long(x: torch.Tensor, axis: int) -> bool:
    """Whether the native kernels would add the row up in chains of more than `_CHAIN`."""
    if x.device.type != "cpu" or x.ndim == 0:
        return False
    length = x.shape[axis]
    if compiler.is_exporting():
        # A size that is not known takes the form that is right for every size, and sets no constraint.
        return not statically_known_true(length <= _longest(x, axis, _FEWEST_BYTES))
    # Of the loops that Inductor writes nothing is known but that they may be plain ones.
    return bool(length > (_CHAIN if compiler.is_compiling() else _longest(x, axis, _VECTOR_BYTES)))


def _longest(x: torch.Tensor, axis: int, vector: int) -> int:
    return _CHAIN * (vector // x.dtype.itemsize if axis == x.ndim - 1 else 1)


# --- dtypes ----------------------------------------------------------------------------------------------------------


def _kind(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return "floating"
    if dtype.is_complex or "q" in str(dtype):  # qint8 and its like
        return "other"
    return "bool" if dtype is torch.bool else "integer"


def _dtypes(x: Any, dtype: Any) -> tuple[torch.dtype, torch.dtype]:
    """The dtype of the result and the one to compute in."""
    kind = _kind(x.dtype)
    check_logits_dtype(str(x.dtype), kind)
    own = x.dtype if kind == "floating" else torch.get_default_dtype()
    result = own if dtype is None else _dtype(dtype)
    wide = torch.float64 if torch.float64 in (own, result) else torch.float32
    # The CUDA kernels add 16-bit rows up in float32 as they are; on the CPU log_softmax rounds the sum to 16 bits, and
    # returns -inf once it is over 65,504.
    if dtype is None and own.itemsize == 2 and x.device.type == "cuda":  # noqa: PLR2004  bytes
        return own, own
    return result, wide


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Without a call where there is nothing to do, which a traced program would hold."""
    return x if x.dtype is dtype else x.to(dtype)


def _dtype(given: Any) -> torch.dtype:
    dtype = given if isinstance(given, torch.dtype) else getattr(torch, _dtype_name(given), None)
    check_floating(given, _kind(dtype) if isinstance(dtype, torch.dtype) else "other")
    return dtype


def _dtype_name(given: Any) -> str:
    if isinstance(given, str):
        return given
    try:
        return str(np.dtype(given).name)
    except TypeError:
        check_floating(given, "other")
        raise


# --- the backend -----------------------------------------------------------------------------------------------------


_sigmoid_at_once._torchdynamo_inline = sigmoid  # type: ignore[attr-defined]  # noqa: SLF001

_AT_ONCE = {
    "softmax": _at_once(torch._softmax, softmax),  # noqa: SLF001  what torch.softmax calls, for two thirds of its overhead
    "log_softmax": _at_once(torch._log_softmax, log_softmax),  # noqa: SLF001
    "sigmoid": _sigmoid_at_once,
}
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class TorchBackend(Backend):
    """PyTorch; see `polylogit.backends.base.Backend`."""

    name = "torch"
    install = 'pip install "polylogit[torch]"'
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
        "no second softmax": "return x  # nn.Softmax follows already; nn.CrossEntropyLoss takes logits",
        "no second sigmoid": "torch.nn.functional.binary_cross_entropy_with_logits(x, y)  # and no sigmoid before it",
        "no dropout": "model.eval()",
        "attached": "y = model(x)  # without .detach(), torch.no_grad() and .numpy() on the way",
    }

    softmax = staticmethod(softmax)
    log_softmax = staticmethod(log_softmax)
    sigmoid = staticmethod(sigmoid)

    def owns(self, cls: type) -> bool:
        """Tensors and all that derives from them."""
        return issubclass(cls, torch.Tensor)

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """See `Backend.implementation`."""
        return _AT_ONCE[operation] if cls in _PLAIN else getattr(self, operation)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """See `Backend.asarray`; Python floats get torch's default dtype."""
        target = None if dtype is None else dtype if isinstance(dtype, torch.dtype) else _any_dtype(dtype)
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

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`; a tensor that requires grad is detached."""
        x = x.detach().cpu().resolve_conj().resolve_neg()
        name = self.dtype_name(x)
        if name not in _BY_BITS:
            return x.numpy()  # type: ignore[no-any-return]
        import ml_dtypes  # noqa: PLC0415  needed for these dtypes alone

        return x.view(_BY_BITS[name]).numpy().view(getattr(ml_dtypes, name))  # type: ignore[no-any-return]

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By ``torch.func.vjp``."""
        y, pull = torch.func.vjp(lambda x: function(x, **kwargs), _floating(x))

        def pullback(cotangent: Any) -> Any:
            return pull(self._like(cotangent, y, "cotangent"))[0]

        return y, pullback

    def tape_vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any], cotangent: Any) -> Any:
        """By autograd's tape: torch.func refuses autograd functions in the older style, and hooks that call NumPy."""
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            y = function(leaf, **kwargs)
        if not y.requires_grad:
            return None
        return torch.autograd.grad(y, leaf, self._like(cotangent, y, "cotangent"), materialize_grads=True)[0]

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``torch.func.jvp``, forward mode."""
        x = _floating(x)
        if not compiler.is_compiling():
            _load_forward_mode()
        y, tangent_out = torch.func.jvp(lambda x: function(x, **kwargs), (x,), (self._like(tangent, x, "tangent"),))
        return y, tangent_out

    def _like(self, given: Any, like: torch.Tensor, argument: str) -> torch.Tensor:
        if not isinstance(given, torch.Tensor):
            given = self.asarray(given, device=like.device)
        if given.shape != like.shape:
            message = (
                f"the {argument} has the shape {tuple(given.shape)} and must have the shape {tuple(like.shape)}; "
                f"expand it, for example with {argument}.expand({tuple(like.shape)})."
            )
            raise DifferentiationError(message)
        return given.to(like.dtype)

    def devices(self) -> tuple[str, ...]:
        """The CPU and every CUDA device."""
        return ("cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())))

    def dtypes(self) -> tuple[str, ...]:
        """See `Backend.dtypes`."""
        return ("float64", "float32", "float16", "bfloat16", *(name for name in _BY_BITS if name.startswith("float8")))

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


def _with_code_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a code object that no other shares.

    Dynamo counts compilations by code object, and refuses after eight, be they of closures that share but their source.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__code__ = call.__code__.replace()
    return call


@functools.cache
def _load_forward_mode() -> None:
    """Load what the first ``torch.func.jvp`` loads, without the deprecation that torch warns itself of on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.exp, (torch.zeros(()),), (torch.zeros(()),))


def _any_dtype(given: Any) -> torch.dtype:
    """As `_dtype`, for any dtype that torch has."""
    dtype = getattr(torch, _dtype_name(given), None)
    if not isinstance(dtype, torch.dtype):
        message = f"PyTorch has no dtype {given!r}; pass one of its own, for example torch.float32."
        raise DTypeError(message)
    return dtype


def _floating(x: Any) -> Any:
    return x.to(torch.get_default_dtype()) if _kind(x.dtype) in ("integer", "bool") else x
