"""The backend for JAX arrays and tracers.

The common path is ``jax.nn.softmax``, compiled once in this module, because JAX would otherwise run it op by op. Where
it breaks the contract, other code replaces it, with a comment that names the defect. This module may know JAX and the
rules that all backends share.
"""

# What the framework says of its own types is incomplete, and pyright takes it at its word.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportAssignmentType=false

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from polylogit._backends.base import Backend, Loan, frozen, holds_numpy, host_array, no_values, unknown_dtype
from polylogit._backends.rows import (
    Primitives,
    check_temperature,
    checked,
    compute,
    dtypes,
    elementwise,
    floating,
)
from polylogit._contract import wrong_direction
from polylogit.errors import AxisError, AxisTypeError, ConversionError, DTypeError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

_NATIVE = frozenset((np.dtype("float32"), np.dtype("float64")))
_Tracer = jax.core.Tracer


class _Operation(NamedTuple):
    """The differences between softmax and log_softmax."""

    native: Callable[..., Any]
    finished: Callable[[Any, Any], Any]
    masked: float


_native_softmax = jax.nn.softmax


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax_with_rule(x: Any, axis: Any) -> Any:
    with jax.softmax_custom_jvp(False):
        return _native_softmax(x, axis)


def _softmax_rule(axis: Any, primals: Any, tangents: Any) -> Any:
    (tangent,) = tangents
    y = _softmax_with_rule(*primals, axis)
    return y, y * (tangent - (y * tangent).sum(axis, keepdims=True))


_softmax_with_rule.defjvp(_softmax_rule)


def _native_softmax_traced(x: Any, axis: Any) -> Any:
    """``jax.nn.softmax`` under a trace.

    Under jax_enable_checks, JAX refuses to trace its own softmax if that has a custom derivative
    (jax_softmax_custom_jvp): the check counts an argument with a default value and finds no name for it. This is the
    same rule, on a function without such an argument.
    """
    if jax.config.jax_enable_checks and jax.config.jax_softmax_custom_jvp:
        return _softmax_with_rule(x, axis)
    return _native_softmax(x, axis)


# From the distances to the maximum of a row and the sum of their exponentials.
_SOFTMAX = _Operation(_native_softmax_traced, lambda shifted, total: jnp.exp(shifted) * (1 / total), 0.0)
_LOG_SOFTMAX = _Operation(jax.nn.log_softmax, lambda shifted, total: shifted - jnp.log(total), -math.inf)

# Compiled, they take a seventh of the time. Inlined, a trace holds the operations alone, as it would without.
_softmax = jax.jit(_native_softmax_traced, static_argnums=1, inline=True)
_log_softmax = jax.jit(jax.nn.log_softmax, static_argnums=1, inline=True)
_sigmoid = jax.jit(jax.nn.sigmoid, inline=True)


@functools.partial(jax.jit, static_argnums=(0, 2, 3), inline=True)
def _within(function: Callable[[Any], Any], x: Any, working: Any, result: Any) -> Any:
    return function(x.astype(working)).astype(result)


_TRACED_AXIS = (
    "axis is traced, as jax.jit traces every argument, and has no value here; have it compiled in: "
    'jax.jit(function, static_argnames="axis").'
)


# --- the operations --------------------------------------------------------------------------------------------------


def softmax(
    x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None, axis_name: Any = None
) -> Any:
    """See `polylogit.softmax`."""
    if axis_name is not None:
        return _across(_SOFTMAX, x, axis, where, dtype, temperature, axis_name)
    return _along_axes(_SOFTMAX, x, axis, where, dtype, temperature)


def log_softmax(
    x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None, axis_name: Any = None
) -> Any:
    """See `polylogit.log_softmax`."""
    if axis_name is not None:
        return _across(_LOG_SOFTMAX, x, axis, where, dtype, temperature, axis_name)
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype, temperature)


def sigmoid(x: Any, dtype: Any = None, temperature: Any = None) -> Any:
    """See `polylogit.sigmoid`."""
    if temperature is not None:
        return elementwise(_Primitives, _sigmoid, x, dtype, temperature)
    return _elementwise(_sigmoid, x, dtype)


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


def _elementwise(compiled: Callable[[Any], Any], x: Any, dtype: Any) -> Any:
    if dtype is None and x.dtype in _NATIVE:
        return compiled(x)
    result, working = dtypes(_Primitives, x.dtype, dtype)
    return _within(compiled, x, working, result)


def _along_axes(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any, temperature: Any = None) -> Any:
    result, working = dtypes(_Primitives, x.dtype, dtype)
    if isinstance(axis, _Tracer):
        raise AxisTypeError(_TRACED_AXIS)
    axes = checked(_Primitives, x, axis, where)
    if temperature is None:
        return _compute(operation, x, where, axes, result, working, traced=isinstance(x, _Tracer))
    check_temperature(_Primitives, x, temperature)
    return _compute_over(operation, x, where, axes, result, working, temperature)


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5), static_argnames="traced", inline=True)
def _compute(
    operation: _Operation, x: Any, where: Any, axes: tuple[int, ...], result: Any, working: Any, *, traced: bool
) -> Any:
    x = x.astype(working)
    if traced:
        x = _sealed(x)
    return compute(_Primitives, operation.native, operation.masked, x, where, axes, result, working)


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5), inline=True)
def _compute_over(
    operation: _Operation, x: Any, where: Any, axes: Any, result: Any, working: Any, temperature: Any
) -> Any:
    """The same with a temperature; the quotient is sealed, too, because XLA turns the division into a product."""
    precise = _Primitives.precise(working)
    x, over = _sealed(x.astype(precise)), jnp.asarray(temperature, precise)

    def normalised(rows: Any, axis: Any) -> Any:
        return operation.native(_sealed(rows), axis)

    return compute(_Primitives, normalised, operation.masked, x, where, axes, result, working, over)


def _sealed(x: Any) -> Any:
    """`x`, in a form that XLA computes in the same way wherever it fuses it.

    XLA may fuse the operation that made x into both the maximum and the exponentials. If that was a product, the
    compiler contracts it with the subtraction of the maximum into a fused multiply-add, so x is rounded in one place
    and not in the other: at 1e10 they differ by hundreds, and the exponential overflows. Adding a zero that the
    compiler does not know to be zero lets the product contract with the addition instead, which rounds like the product
    alone.
    """
    return x + lax.stop_gradient(lax.min(lax.abs(x), jnp.zeros((), x.dtype)))


# --- rows that go on over the named axes of a mapped function --------------------------------------------------------


def _across(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any, temperature: Any, axis_name: Any) -> Any:
    if temperature is not None:
        message = (
            "temperature= and axis_name= were given in one call, and a row that goes on over devices does not take "
            f"the former; divide the logits: polylogit.softmax(x / temperature, axis_name={axis_name!r})."
        )
        raise UnsupportedArrayError(message)
    result, working = dtypes(_Primitives, x.dtype, dtype)
    axes = checked(_Primitives, x, axis, where)
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    for name in names:
        _check_bound(name)
    return _compute_across(operation, x, where, axes, names, result, working)


def _check_bound(name: Any) -> None:
    try:
        lax.psum(1, name)  # the size of the axis; lax.axis_size is as new as JAX 0.6
    except (NameError, TypeError):
        message = (
            f"axis_name={name!r} names no axis that is mapped here. Call inside jax.shard_map, jax.pmap or jax.vmap "
            f"over an axis of that name, for example jax.vmap(function, axis_name={str(name)!r}); an array that JAX "
            "itself has split over devices needs no axis_name."
        )
        raise AxisError(message) from None


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5, 6), inline=True)
def _compute_across(
    operation: _Operation, x: Any, where: Any, axes: Any, names: tuple[Any, ...], result: Any, working: Any
) -> Any:
    """Exchange one maximum and one sum for each row over the devices, and again for every derivative."""
    x = _sealed(x.astype(working))
    if where is not None:
        where = jnp.broadcast_to(where, x.shape)
        x = jnp.where(where, x, -jnp.inf)
    # The maximum is a constant to the derivative: softmax does not change when all logits shift.
    top = jnp.max(lax.stop_gradient(x), axes, keepdims=True, initial=-jnp.inf)
    if where is None:
        top = lax.pmax(top, names)
    else:
        # In the same exchange: whether a row has an entry anywhere. One that has none is a row of zeros, so that no
        # NaN arises that a derivative could carry.
        some = where.any(axes, keepdims=True).astype(working)
        top, some = lax.pmax(jnp.stack([top, some]), names)
        x, top = jnp.where(some > 0, x, 0.0), jnp.where(some > 0, top, 0.0)
    shifted = x - top
    y = operation.finished(shifted, lax.psum(jnp.sum(jnp.exp(shifted), axes, keepdims=True), names))
    if where is not None:
        y = jnp.where(where, y, jnp.asarray(operation.masked, working))
    return y.astype(result)


# --- the primitives of row-wise work ---------------------------------------------------------------------------------


class _Primitives(Primitives):
    narrow, wide = np.dtype("float32"), np.dtype("float64")

    @staticmethod
    def kind(dtype: Any) -> str:
        for kind, group in (("floating", jnp.floating), ("integer", jnp.integer), ("bool", jnp.bool_)):
            if jnp.issubdtype(dtype, group):
                return kind
        return "other"

    @staticmethod
    def default_float() -> Any:
        # float32, or float64 in 64-bit mode.
        return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))

    @staticmethod
    def dtype(given: Any) -> Any:
        try:
            dtype = jnp.dtype(given)
        except (TypeError, ValueError):
            return None
        if dtype == np.longdouble and dtype.itemsize > 8:  # bytes; JAX has no such dtype
            return None
        if dtype.itemsize == 8 and dtype.kind in "fiu" and not jax.config.jax_enable_x64:  # bytes
            message = (
                f"dtype={given!r} needs JAX's 64-bit mode; without it JAX would return 32 bits. Switch it on at the "
                'start with jax.config.update("jax_enable_x64", True), or ask for float32.'
            )
            raise DTypeError(message)
        return dtype

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        return x.astype(dtype)

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        return jnp.broadcast_to(mask, x.shape)

    @staticmethod
    def moves(x: Any, axes: tuple[int, ...], masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        # jax.nn.softmax takes one axis or several, but has no identity for none: an axis of size 1 is none.
        if not axes:
            return (lambda t: t[..., None]), (lambda t: t[..., 0]), -1
        return (lambda t: t), (lambda t: t), axes[0] if len(axes) == 1 else axes

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        return mask.any(axis, keepdims=True)

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        return jnp.where(mask, x, jnp.asarray(other, x.dtype))

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        return jnp.where(some, -jnp.inf, 0.0).astype(dtype)

    @classmethod
    def precise(cls, working: Any) -> Any:
        return cls.wide if jax.config.jax_enable_x64 else working

    @staticmethod
    def constant(x: Any) -> Any:
        return lax.stop_gradient(x)

    @staticmethod
    def top(rows: Any, axis: Any) -> Any:
        return jnp.max(lax.stop_gradient(rows), axis, keepdims=True, initial=-jnp.inf)


def _any_dtype(given: Any) -> Any:
    dtype = _Primitives.dtype(given)
    if dtype is None:
        message = f"JAX has no dtype {given!r}; pass one of its own, for example jax.numpy.float32."
        raise DTypeError(message)
    return dtype


# --- the backend -----------------------------------------------------------------------------------------------------


def _array(x: Any) -> Any:
    """The array; if the object holds one and says so, such as an nnx parameter or a Keras variable, that array."""
    return x if isinstance(x, jax.Array) else x.__jax_array__()


def _of_held(operation: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(operation)
    def serve(x: Any, *args: Any, **kwargs: Any) -> Any:
        return operation(_array(x), *args, **kwargs)

    return serve


_TRACED: dict[str, Callable[..., Any]] = {"softmax": softmax, "log_softmax": log_softmax, "sigmoid": sigmoid}
_CONCRETE: dict[str, Callable[..., Any]] = {
    **_TRACED,
    "softmax": _concrete_softmax,
    "log_softmax": _concrete_log_softmax,
}


class JaxBackend(Backend):
    """JAX; see `polylogit.extend.Backend`."""

    name = "jax"
    takes_temperature = True
    writable = False
    names_axes = True
    namespace = "jax.numpy"
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
        "causal": "mask = mask & jnp.tril(jnp.ones((n, n), bool))",
        "window": "mask = mask & ~jnp.tril(jnp.ones((n, n), bool), -window)",
        "sink": "p = jax.nn.softmax(jnp.concatenate([x, sink], axis=-1))[..., :-1]",
        "softcap": "x = cap * jnp.tanh(x / cap)  # on both sides or on neither",
        "gelu": "jax.nn.gelu(x, approximate=False)  # or True, the default; the original has {right}",
        "norm epsilon": "epsilon=epsilon  # of the norm, the original's; Flax's default is 1e-6",
        "layout": "x = jnp.transpose(x, {back})",
        "split rows": "y = polylogit.softmax(x, axis_name=name)",
        "stack": "jnp.stack({x})",
        "stack rows": "jnp.array({x})",
        "stack numbers": "jnp.array({x})",
        "import": "import jax, jax.numpy as jnp",
        "array": "jnp.array({values}, dtype=jnp.{dtype})",
        "pullback": "jax.vjp(lambda x: {call}, x)[1](g)[0]",
        "masked softmax": "jax.nn.softmax(x, where=mask, axis=-1)",
        "no second softmax": "return x  # optax.softmax_cross_entropy takes logits",
        "no second sigmoid": "optax.sigmoid_binary_cross_entropy(x, y)  # and no sigmoid before it",
        "no dropout": "model.apply(variables, x, deterministic=True)",
        "attached": "y = model(x)  # without jax.lax.stop_gradient on the way",
    }
    always_compiles = "jit"

    softmax = staticmethod(_of_held(softmax))
    log_softmax = staticmethod(_of_held(log_softmax))
    sigmoid = staticmethod(_of_held(sigmoid))

    def owns(self, cls: type) -> bool:
        """Arrays, the tracers of every transformation, and objects that declare to hold one of these."""
        return issubclass(cls, (_Tracer, jax.Array)) or hasattr(cls, "__jax_array__")

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """Arrays that no transformation traces have their own implementation; most types show that by their class."""
        forms = _TRACED if issubclass(cls, _Tracer) else _CONCRETE if issubclass(cls, jax.Array) else {}
        return forms.get(operation) or super().implementation(operation, cls)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """See `Backend.asarray`; without 64-bit mode, 64-bit NumPy arrays become 32-bit, as everywhere in JAX."""
        target = None if dtype is None else _any_dtype(dtype)
        device = _device(device) if isinstance(device, str) else device
        if not isinstance(value, jax.Array):
            array = host_array(value)
            value = array if hasattr(value, "dtype") or holds_numpy(value) else value
            if array.dtype == np.longdouble and array.itemsize > 8:  # bytes
                message = (
                    f"JAX has no dtype {array.dtype.name}; cast the array first, for example with .astype('float64')."
                )
                raise DTypeError(message)
            if value is array and device is None and _crosses(array.dtype, target):
                # jnp.array compiles a copy for every new shape, which takes longer than the copy. This one is nobody
                # else's, so that JAX may share its memory.
                return jax.device_put(array.copy())
        try:
            return jnp.array(value, dtype=target, device=device)
        except OverflowError:  # Python integers beyond the mode's
            floats = host_array(value).astype(np.float64)
            return jnp.array(floats, dtype=target or jax.dtypes.canonicalize_dtype(np.float64), device=device)
        except TypeError as error:
            message = f"JAX cannot hold {type(value).__name__} of this dtype ({error}); cast it first to float32."
            raise DTypeError(message) from None

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        return np.array(x)

    def lend(self, x: Any) -> Loan:
        """See `Backend.lend`."""
        if isinstance(x, _Tracer):
            raise no_values(x, "a tracer", "convert outside of jit, grad, vmap and scan")
        if not isinstance(x, jax.Array):
            raise no_values(x, "no array with values", "pass arrays, or containers of them")
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
            raise no_values(x, str(x.dtype), "pass jax.random.key_data(key)")
        if x.is_deleted() or not x.is_fully_addressable:
            state = "deleted or donated" if x.is_deleted() else "spread over several hosts"
            raise no_values(x, state, "gather it on this host first")
        devices = x.devices()
        return frozen(np.asarray(x), shared=len(devices) == 1 and all(device.platform == "cpu" for device in devices))

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """See `Backend.adopt`; a copy."""
        name = array.dtype.name
        if array.dtype.kind in "fiuc" and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            message = (
                f"JAX would silently make {name} into {jax.dtypes.canonicalize_dtype(array.dtype)}, since x64 is off. "
                'Call jax.config.update("jax_enable_x64", True) first, or convert the array to a 32-bit dtype yourself.'
            )
            raise ConversionError(message)
        try:
            # copy=True, since jax.device_put and from_dlpack alias whatever happens to lie on a 64-byte boundary.
            made = jnp.array(array, copy=True)
        except (TypeError, ValueError, RuntimeError) as error:
            raise unknown_dtype("JAX", name) from error
        if made.dtype != array.dtype:
            raise unknown_dtype("JAX", name)
        return made

    def flatten(self, node: Any) -> tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]] | None:
        """See `Backend.flatten`; registered pytrees."""
        children, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda part: part is not node)
        if structure == jax.tree_util.tree_structure(0):
            return None
        named = [(jax.tree_util.keystr(keys), child) for keys, child in children]
        return named, functools.partial(jax.tree_util.tree_unflatten, structure)

    def from_dlpack(self, x: Any) -> Any:
        """See `Backend.from_dlpack`; an array that would be narrowed without x64 is not shared."""
        made = jax.dlpack.from_dlpack(x)
        return made if jax.dtypes.canonicalize_dtype(made.dtype) == made.dtype else None

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By ``jax.vjp``."""
        y, pull = jax.vjp(lambda x: function(x, **kwargs), floating(_Primitives, _array(x)))

        def pullback(cotangent: Any) -> Any:
            return pull(self._like(cotangent, y, "cotangent"))[0]

        return y, pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``jax.jvp``."""
        x = floating(_Primitives, _array(x))
        y, tangent_out = jax.jvp(lambda x: function(x, **kwargs), (x,), (self._like(tangent, x, "tangent"),))
        return y, tangent_out

    def _like(self, given: Any, like: Any, argument: str) -> Any:
        if not isinstance(given, (jax.Array, _Tracer)):
            given = self.asarray(given)
        if given.shape != like.shape:
            raise wrong_direction(argument, given.shape, like.shape, "jax.numpy.broadcast_to")
        return given.astype(like.dtype)

    def devices(self) -> tuple[str, ...]:
        """The platforms of this process's devices."""
        return tuple(dict.fromkeys(device.platform for device in jax.devices()))

    def dtypes(self) -> tuple[str, ...]:
        """See `Backend.dtypes`; float64 in 64-bit mode only."""
        wide = ("float64",) if jax.config.jax_enable_x64 else ()
        return (*wide, "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

    def capabilities(self) -> dict[str, str]:
        """See `Backend.capabilities`; XLA reveals only the flags that it was given."""
        kind = ", ".join(dict.fromkeys(device.device_kind for device in jax.devices()))
        flags = os.environ.get("XLA_FLAGS", "")
        return {"devices": kind, "x64": str(jax.config.jax_enable_x64)} | ({"XLA_FLAGS": flags} if flags else {})

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """``jax.jit``."""
        return {"jit": jax.jit}

    def prepare(self, device: str | None) -> None:
        """Switch on 64-bit mode, and use only the CPU unless a device is given; the environment's settings win."""
        if "JAX_ENABLE_X64" not in os.environ:
            jax.config.update("jax_enable_x64", True)
        if "JAX_PLATFORMS" not in os.environ and (device is None or device.startswith("cpu")):
            jax.config.update("jax_platforms", "cpu")


def _device(name: str) -> Any:
    """The device for a platform's name ("cpu", "cuda", "tpu") and an optional number."""
    platform, _, number = name.partition(":")
    try:
        return jax.devices(platform)[int(number or 0)]
    except (IndexError, RuntimeError, ValueError) as error:
        here = ", ".join(f"{one.platform}:{one.id}" for one in jax.devices())
        message = f"device={name!r} is none that JAX has here; it has {here}."
        raise ConversionError(message) from error


def _crosses(dtype: Any, target: Any) -> bool:
    """Whether JAX keeps the dtype of a NumPy array, or the target dtype is the same."""
    return _Primitives.kind(dtype) != "other" and dtype == (
        jax.dtypes.canonicalize_dtype(dtype) if target is None else target
    )
