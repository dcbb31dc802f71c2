"""JAX arrays and tracers.

The common path is ``jax.nn.softmax``, compiled once in this module: JAX runs it op by op otherwise. It is left where
it breaks the contract, and every departure names the defect that it answers. This module may know JAX and the rules
that all backends share.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from polylogit.backends.base import Backend, holds_numpy, host_array
from polylogit.contract import check_floating, check_logits_dtype, check_mask, check_mask_shape, normalize_axis
from polylogit.errors import DifferentiationError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.base import Pullback

_NATIVE = frozenset((np.dtype("float32"), np.dtype("float64")))
_Tracer = jax.core.Tracer


class _Operation(NamedTuple):
    """What tells softmax and log_softmax apart."""

    native: Callable[..., Any]
    masked: float


_SOFTMAX = _Operation(jax.nn.softmax, 0.0)
_LOG_SOFTMAX = _Operation(jax.nn.log_softmax, -math.inf)

# Compiled, they take a seventh of the time. Inlined, a trace holds the operations alone, as it would without.
_softmax = jax.jit(jax.nn.softmax, static_argnums=1, inline=True)
_log_softmax = jax.jit(jax.nn.log_softmax, static_argnums=1, inline=True)
_sigmoid = jax.jit(jax.nn.sigmoid, inline=True)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _sigmoid_within(x: Any, compute: Any, result: Any) -> Any:
    return jax.nn.sigmoid(x.astype(compute)).astype(result)


# --- the operations --------------------------------------------------------------------------------------------------


def softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.softmax`."""
    return _along_axes(_SOFTMAX, x, axis, where, dtype)


def log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """See `polylogit.log_softmax`."""
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype)


def sigmoid(x: Any, dtype: Any = None) -> Any:
    """See `polylogit.sigmoid`."""
    if dtype is None and x.dtype in _NATIVE:
        return _sigmoid(x)
    result, compute = _dtypes(x, dtype)
    return _sigmoid_within(x, compute, result)


def _concrete_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """`softmax` of an array that no transformation traces."""
    if where is None and dtype is None and type(axis) is int and x.dtype in _NATIVE:
        try:
            return _softmax(x, axis)
        except (ValueError, OverflowError):  # an axis out of range, or a 0-d array
            pass
    return softmax(x, axis, where, dtype)


def _concrete_log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """`log_softmax` of an array that no transformation traces."""
    if where is None and dtype is None and type(axis) is int and x.dtype in _NATIVE:
        try:
            return _log_softmax(x, axis)
        except (ValueError, OverflowError):
            pass
    return log_softmax(x, axis, where, dtype)


def _along_axes(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any) -> Any:
    result, compute = _dtypes(x, dtype)
    axes = normalize_axis(axis, x.ndim)
    if where is not None:
        check_mask(str(where.dtype), where.dtype == np.bool_)
        check_mask_shape(where.shape, x.shape)
    return _compute(operation, x, where, axes, result, compute, traced=isinstance(x, _Tracer))


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5), static_argnames="traced", inline=True)
def _compute(
    operation: _Operation, x: Any, where: Any, axes: tuple[int, ...], result: Any, compute: Any, *, traced: bool
) -> Any:
    x = x.astype(compute)
    if traced:
        x = _sealed(x)
    # jax.nn.softmax takes one axis or several, but has no identity for none: an axis of size 1 is none.
    axis = axes or (-1,)
    if not axes:
        x = x[..., None]
    if where is None:
        y = operation.native(x, axis[0] if len(axis) == 1 else axis)
    else:
        y = _masked(operation, x, jnp.broadcast_to(where, x.shape if axes else x.shape[:-1]).reshape(x.shape), axis)
    return (y if axes else y[..., 0]).astype(result)


def _masked(operation: _Operation, x: Any, mask: Any, axis: tuple[int, ...]) -> Any:
    # The masked entries are replaced before, so that what they hold cannot reach the sum or a gradient, and after. A
    # row with no entry left is filled with zeros: no NaN arises that a derivative could carry.
    fill = jnp.where(mask.any(axis, keepdims=True), -jnp.inf, 0.0).astype(x.dtype)
    y = operation.native(jnp.where(mask, x, fill), axis)
    return jnp.where(mask, y, jnp.asarray(operation.masked, y.dtype))


def _sealed(x: Any) -> Any:
    """`x`, in a form that XLA computes alike wherever it fuses it.

    XLA may fuse the operation that made x into both the maximum and the exponentials. Where that was a product, the
    compiler contracts it with the subtraction of the maximum into one fused multiply-add, so that x is rounded in one
    place and not in the other: at 1e10 they differ by hundreds, and the exponential overflows. Adding a zero that is
    not known to be one lets the product contract with the addition, which rounds it as the product alone does.
    (``lax.optimization_barrier`` is gone before the CPU compiler fuses, and ``lax.reduce_precision`` to the same
    precision is removed.)
    """
    return x + lax.stop_gradient(lax.min(lax.abs(x), jnp.zeros((), x.dtype)))


# --- dtypes ----------------------------------------------------------------------------------------------------------


def _kind(dtype: Any) -> str:
    for kind, group in (("floating", jnp.floating), ("integer", jnp.integer), ("bool", jnp.bool_)):
        if jnp.issubdtype(dtype, group):
            return kind
    return "other"


def _dtypes(x: Any, dtype: Any) -> tuple[Any, Any]:
    """The dtype of the result and the one to compute in."""
    kind = _kind(x.dtype)
    check_logits_dtype(str(x.dtype), kind)
    # float32, or float64 in 64-bit mode.
    own = x.dtype if kind == "floating" else np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
    result = own if dtype is None else _dtype(dtype)
    # Fewer bits than 32 are added up in float32: in float16, 65,520 equal logits sum to infinity and softmax is 0
    # everywhere, log_softmax -inf, and sigmoid is 0 below -11.09.
    wide = np.dtype("float64")
    return result, wide if wide in (own, result) else np.dtype("float32")


def _any_dtype(given: Any) -> Any:
    try:
        dtype = jnp.dtype(given)
    except TypeError:
        message = f"JAX has no dtype {given!r}; pass one of its own, for example jax.numpy.float32."
        raise DTypeError(message) from None
    if dtype.itemsize == 8 and dtype.kind in "fiu" and not jax.config.jax_enable_x64:  # noqa: PLR2004  bytes
        message = (
            f"dtype={given!r} needs JAX's 64-bit mode; without it JAX would return 32 bits. Switch it on at the start "
            'with jax.config.update("jax_enable_x64", True), or ask for float32.'
        )
        raise DTypeError(message)
    return dtype


def _dtype(given: Any) -> Any:
    try:
        kind = _kind(jnp.dtype(given))
    except TypeError:
        kind = "other"
    check_floating(given, kind)
    return _any_dtype(given)


# --- the backend -----------------------------------------------------------------------------------------------------


class JaxBackend(Backend):
    """JAX; see `polylogit.backends.base.Backend`."""

    name = "jax"
    install = 'pip install "polylogit[jax]"'
    spelling: ClassVar[dict[str, str]] = {
        "softmax": "jax.nn.softmax(x, axis={axis})",
        "log_softmax": "jax.nn.log_softmax(x, axis={axis})",
        "sigmoid": "jax.nn.sigmoid(x)",
        "exp": "jnp.exp(p)",
        "log": "jnp.log(p)",
        "exp2": "jnp.exp2(x * 1.4426950408889634)",
        "take": "p = jnp.take(p, jnp.array({inverse}), axis={axis})",
        "transpose": "x = jnp.transpose(x, {back})",
        "float32": "x = x.astype(jnp.float32)",
        "two classes": "jax.nn.softmax(jnp.stack([jnp.zeros_like(x), x], axis=-1))",
        "mask": "jax.nn.softmax(x, where=mask, axis=-1)",
        "masked softmax": "jax.nn.softmax(x, where=mask, axis=-1)",
        "no second softmax": "return x  # optax.softmax_cross_entropy takes logits",
        "no second sigmoid": "optax.sigmoid_binary_cross_entropy(x, y)  # and no sigmoid before it",
        "no dropout": "model.apply(variables, x, deterministic=True)",
        "attached": "y = model(x)  # without jax.lax.stop_gradient on the way",
    }
    always_compiles = "jit"

    softmax = staticmethod(softmax)
    log_softmax = staticmethod(log_softmax)
    sigmoid = staticmethod(sigmoid)

    def owns(self, cls: type) -> bool:
        """Arrays and the tracers of every transformation."""
        return issubclass(cls, (_Tracer, jax.Array))

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """Arrays that no transformation traces have a form of their own."""
        concrete = {"softmax": _concrete_softmax, "log_softmax": _concrete_log_softmax}
        if operation in concrete and not issubclass(cls, _Tracer):
            return concrete[operation]
        return super().implementation(operation, cls)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """See `Backend.asarray`; without 64-bit mode, 64-bit NumPy arrays become 32-bit, as everywhere in JAX."""
        target = None if dtype is None else _any_dtype(dtype)
        if not isinstance(value, jax.Array):
            array = host_array(value)
            value = array if hasattr(value, "dtype") or holds_numpy(value) else value
            if value is array and device is None and _crosses(array.dtype, target):
                # jnp.array compiles a copy for every new shape, which takes longer than the copy. This one is nobody
                # else's, so that JAX may share its memory.
                return jax.device_put(array.copy())
        try:
            return jnp.array(value, dtype=target, device=device)
        except OverflowError:  # Python integers beyond the mode's
            floats = array.astype(np.float64)
            return jnp.array(floats, dtype=target or jax.dtypes.canonicalize_dtype(np.float64), device=device)
        except TypeError as error:
            message = f"JAX cannot hold {type(value).__name__} of this dtype ({error}); cast it first to float32."
            raise DTypeError(message) from None

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        return np.array(x)

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By ``jax.vjp``."""
        y, pull = jax.vjp(lambda x: function(x, **kwargs), _floating(x))

        def pullback(cotangent: Any) -> Any:
            return pull(self._like(cotangent, y, "cotangent"))[0]

        return y, pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``jax.jvp``."""
        x = _floating(x)
        y, tangent_out = jax.jvp(lambda x: function(x, **kwargs), (x,), (self._like(tangent, x, "tangent"),))
        return y, tangent_out

    def _like(self, given: Any, like: Any, argument: str) -> Any:
        if not isinstance(given, (jax.Array, _Tracer)):
            given = self.asarray(given)
        if given.shape != like.shape:
            message = (
                f"the {argument} has the shape {given.shape} and must have the shape {like.shape}; broadcast it, for "
                f"example with jax.numpy.broadcast_to({argument}, {like.shape})."
            )
            raise DifferentiationError(message)
        return given.astype(like.dtype)

    def devices(self) -> tuple[str, ...]:
        """The platforms of this process's devices."""
        return tuple(dict.fromkeys(device.platform for device in jax.devices()))

    def dtypes(self) -> tuple[str, ...]:
        """See `Backend.dtypes`; float64 in 64-bit mode only."""
        wide = ("float64",) if jax.config.jax_enable_x64 else ()
        return (*wide, "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

    def capabilities(self) -> dict[str, str]:
        """See `Backend.capabilities`; XLA tells of nothing but the switches that it was given."""
        kind = ", ".join(dict.fromkeys(device.device_kind for device in jax.devices()))
        flags = os.environ.get("XLA_FLAGS", "")
        return {"devices": kind, "x64": str(jax.config.jax_enable_x64)} | ({"XLA_FLAGS": flags} if flags else {})

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """``jax.jit``."""
        return {"jit": jax.jit}


def _crosses(dtype: Any, target: Any) -> bool:
    """Whether a NumPy array of this dtype becomes one of JAX's as it is."""
    return _kind(dtype) != "other" and dtype == (jax.dtypes.canonicalize_dtype(dtype) if target is None else target)


def _floating(x: Any) -> Any:
    if _kind(x.dtype) in ("integer", "bool"):
        return x.astype(jax.dtypes.canonicalize_dtype(np.float64))
    return x
