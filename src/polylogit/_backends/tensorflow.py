"""The backend for TensorFlow tensors and variables.

The common path is TensorFlow's own softmax op. Where it breaks the contract, other code replaces it, with a comment
that names the defect. The result of an eager call can be inspected and that of a symbolic one cannot, so each has its
own correction. This module may know TensorFlow and the shared rules.
"""

# What the framework says of its own types is incomplete, and pyright takes it at its word.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportAssignmentType=false
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.ops import EagerTensor
from tensorflow.python.ops import gen_math_ops, gen_nn_ops  # the ops without tf.nn's conversions: half the time

from polylogit._backends.base import Backend, Loan, frozen, holds_numpy, host_array, no_values, unknown_dtype
from polylogit._backends.rows import Primitives, along_axes, elementwise, floating
from polylogit._contract import normalize_axis, wrong_direction
from polylogit.errors import ConversionError, DifferentiationError, DTypeError, UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

_NATIVE = (tf.float32, tf.float64)

# The CPU kernels, Eigen's and oneDNN's, add a row up in one running sum for each lane of four vector registers, of 16
# bytes at the least. A chain of k additions loses (k - 1) / 2 eps where a large term comes first and small ones follow,
# and k / 8 eps of equal terms; chains of 32, as XLA's sums have, are what the bounds leave room for.
# itemsize -> the longest row that the native call serves.
_CHAIN = 32
_LONGEST = {itemsize: _CHAIN * 4 * 16 // itemsize for itemsize in (4, 8)}

# oneDNN's kernel takes no tensor of more dimensions, and aborts the operation.
_MOST_DIMENSIONS = 5

# Not type(tf.constant(0.0)): the first call may come while a graph is traced, where a constant is symbolic.
_Eager: type = EagerTensor


class _Operation(NamedTuple):
    """The differences between softmax and log_softmax."""

    native: Callable[[Any], Any]
    long: Callable[[Any], Any]
    masked: float
    sums_to_one: bool  # whether a row of results does

    def normalised(self, rows: Any, _: Any) -> Any:
        """Along the last axis."""
        return _native_or_long(self, rows)


def _long_sum(e: Any) -> Any:
    """The sum of a float64 row along the last axis, in chunks of chunks so that no chain is long; keeps the axis."""
    length, chunk = e.shape[-1], _LONGEST[8]
    rounds = 4 if length is None else max(1, math.ceil(math.log(max(length, 2), chunk)))
    for _ in range(rounds - 1):
        shape = tf.shape(e)
        chunks = -(-shape[-1] // chunk)
        padding = tf.concat([tf.zeros([tf.rank(e) - 1], tf.int32), [chunks * chunk - shape[-1]]], 0)
        e = tf.pad(e, tf.stack([tf.zeros_like(padding), padding], 1))
        e = tf.reduce_sum(tf.reshape(e, tf.concat([shape[:-1], [chunks, chunk]], 0)), -1)
    return tf.reduce_sum(e, -1, keepdims=True)


def _shifted(x: Any) -> Any:
    # The maximum is a constant to the derivative: softmax does not change when all logits shift.
    return x - tf.stop_gradient(tf.reduce_max(x, -1, keepdims=True))


def _long_softmax(x: Any) -> Any:
    # Not divided: the derivative of a quotient takes e over the square of the sum, which underflows before the result.
    e = tf.exp(_shifted(x))
    return e * tf.math.reciprocal(_long_sum(e))


def _long_log_softmax(x: Any) -> Any:
    shifted = _shifted(x)
    return shifted - tf.math.log(_long_sum(tf.exp(shifted)))


_SOFTMAX = _Operation(gen_nn_ops.softmax, _long_softmax, 0.0, sums_to_one=True)
_LOG_SOFTMAX = _Operation(gen_nn_ops.log_softmax, _long_log_softmax, -math.inf, sums_to_one=False)


# --- the operations --------------------------------------------------------------------------------------------------


def softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None) -> Any:
    """See `polylogit.softmax`."""
    return _along_axes(_SOFTMAX, x, axis, where, dtype, temperature)


def log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None) -> Any:
    """See `polylogit.log_softmax`."""
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype, temperature)


def sigmoid(x: Any, dtype: Any = None, temperature: Any = None) -> Any:
    """See `polylogit.sigmoid`."""
    if dtype is None and temperature is None and x.dtype in _NATIVE:
        return gen_math_ops.sigmoid(x)
    return elementwise(_Primitives, gen_math_ops.sigmoid, tf.convert_to_tensor(x), dtype, _temperature(temperature))


def _temperature(given: Any) -> Any:
    """The value of a variable; numbers unchanged."""
    return given if given is None or isinstance(given, float) else tf.convert_to_tensor(given)


def _eager_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """`softmax` of an eager tensor on the CPU: calls the op, and inspects its result."""
    if where is None and dtype is None and type(axis) is int and axis == -1 and x.dtype in _NATIVE:
        try:
            y = gen_nn_ops.softmax(x)
            values = y.numpy()  # the tensor's own memory
        except tf.errors.OpError:  # a 0-d tensor; with oneDNN, one of more than five dimensions; one split over devices
            return softmax(x)
        # oneDNN's kernel keeps a NaN and an infinity to its own index; the sum of squares, the quickest there is, finds
        # either. The other kernel gives 0.99999994 for a row of one.
        flat = values.ravel()
        total = flat.dot(flat)
        if total == total and 1 < values.shape[-1] <= _LONGEST[values.itemsize]:
            return y
    return _along_axes(_SOFTMAX, x, axis, where, dtype)


def _eager_log_softmax(x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
    """`log_softmax` of an eager tensor on the CPU."""
    if where is None and dtype is None and type(axis) is int and axis == -1 and x.dtype in _NATIVE:
        shape = x.shape
        if shape.rank and shape[-1] <= _LONGEST[x.dtype.size]:
            return gen_nn_ops.log_softmax(x)
    return _along_axes(_LOG_SOFTMAX, x, axis, where, dtype)


def _along_axes(operation: _Operation, x: Any, axis: Any, where: Any, dtype: Any, temperature: Any = None) -> Any:
    x = tf.convert_to_tensor(x)
    if where is not None:
        where = tf.convert_to_tensor(where)
    given = _temperature(temperature)
    return along_axes(_Primitives, operation.normalised, operation.masked, x, axis, where, dtype, given)


_Moves = tuple["Callable[[Any], Any]", "Callable[[Any], Any]"]


def _joined(x: Any, axes: tuple[int, ...]) -> _Moves:
    """A function that joins the axes into one at the end (with no axes, a new one of size 1), and its inverse."""
    rank = x.shape.rank
    if axes == (rank - 1,):
        return (lambda t: t), (lambda t: t)
    others = [one for one in range(rank) if one not in axes]
    order = [*others, *axes]
    back = [order.index(one) for one in range(rank)]
    static = [x.shape[one] for one in order]
    shape = static if None not in static else tf.gather(tf.shape(x), order)
    kept = len(others)

    def join(t: Any) -> Any:
        moved = tf.transpose(t, order) if order != sorted(order) else t
        if len(axes) == 1:
            return moved
        if isinstance(shape, list):
            return tf.reshape(moved, [*shape[:kept], math.prod(shape[kept:])])
        return tf.reshape(moved, tf.concat([shape[:kept], [tf.reduce_prod(shape[kept:])]], 0))

    def split(t: Any) -> Any:
        t = t if len(axes) == 1 else tf.reshape(t, shape)
        return tf.transpose(t, back) if order != sorted(order) else t

    return join, split


def _joined_unknown_rank(x: Any, axis: Any) -> _Moves:
    """Like `_joined`, if the rank is known only when the graph runs."""
    rank = tf.rank(x)
    at_least_1d = tf.concat([tf.ones([tf.maximum(1 - rank, 0)], tf.int32), tf.shape(x)], 0)
    everything = tf.range(tf.maximum(rank, 1))
    if axis is None:
        axes = everything
    else:
        given = axis if isinstance(axis, (tuple, list)) else (axis,)
        # The rules about types and repetition hold whatever the rank; 64 is more dimensions than TensorFlow has.
        normalize_axis(axis, 64)
        axes = tf.math.floormod(tf.constant([int(one) for one in given], tf.int32), tf.maximum(rank, 1))
    taken = tf.reduce_any(tf.equal(everything[:, None], axes[None, :]), 1)
    order = tf.argsort(tf.cast(taken, tf.int32), stable=True)
    count = tf.reduce_sum(tf.cast(taken, tf.int32))
    moved_shape = tf.gather(at_least_1d, order)
    kept = tf.shape(at_least_1d)[0] - count

    def join(t: Any) -> Any:
        moved = tf.transpose(tf.reshape(t, at_least_1d), order)
        return tf.reshape(moved, [tf.reduce_prod(moved_shape[:kept]), tf.reduce_prod(moved_shape[kept:])])

    def split(t: Any) -> Any:
        moved = tf.transpose(tf.reshape(t, moved_shape), tf.argsort(order))
        return tf.reshape(moved, tf.shape(x))

    return join, split


def _native_or_long(operation: _Operation, x: Any) -> Any:
    if x.shape.rank > _MOST_DIMENSIONS:
        rows = tf.reshape(x, [-1, tf.shape(x)[-1]] if x.shape[-1] != 0 else [0, 0])
        return tf.ensure_shape(tf.reshape(_native_or_long(operation, rows), tf.shape(x)), x.shape)
    length = x.shape[-1]
    symbolic = not isinstance(x, _Eager)
    if symbolic:
        x = _sealed(x)
    if length is None or length > _LONGEST[x.dtype.size]:
        if x.dtype == tf.float32:
            return tf.cast(operation.native(tf.cast(x, tf.float64)), tf.float32)
        return operation.long(x)
    y = operation.native(x)
    # Dividing by the sum, which is 1 up to rounding, spreads a NaN or an infinity that oneDNN's float32 kernel keeps to
    # its own index, and makes the 0.99999994 of the other kernel, for a row of one, exactly 1.
    if operation.sums_to_one and x.dtype == tf.float32:
        return y / tf.reduce_sum(y, -1, keepdims=True)
    return y


def _sealed(x: Any) -> Any:
    """`x`, in a form that XLA computes in the same way wherever it fuses it.

    XLA may fuse the operation that made x into both the maximum and the exponentials. If that was a product, the
    compiler contracts it with the subtraction of the maximum into a fused multiply-add, so x is rounded in one place
    and not in the other: at 1e10 they differ by hundreds, and the exponential overflows. Adding a zero that the
    compiler does not know to be zero lets the product contract with the addition instead, which rounds like the product
    alone.
    """
    return x + tf.stop_gradient(tf.minimum(tf.abs(x), tf.zeros([], x.dtype)))


# --- the primitives of row-wise work ---------------------------------------------------------------------------------


def _cast(x: Any, dtype: Any) -> Any:
    if x.dtype == dtype:
        return x
    # TensorFlow casts integers of fewer bits than a byte to no floating dtype.
    return tf.cast(tf.cast(x, tf.int8) if x.dtype.name in _HALF_BYTES else x, dtype)


_HALF_BYTES = ("int4", "uint4")


class _Primitives(Primitives):
    narrow, wide = tf.float32, tf.float64
    cast = staticmethod(_cast)

    @staticmethod
    def name(dtype: Any) -> str:
        return str(dtype.name)

    @staticmethod
    def kind(dtype: Any) -> str:
        if dtype.is_floating:
            return "floating"
        if dtype.is_bool:
            return "bool"
        return "integer" if dtype.is_integer and not dtype.is_quantized else "other"

    @staticmethod
    def default_float() -> Any:
        return tf.float32

    @staticmethod
    def dtype(given: Any) -> Any:
        for read in (tf.as_dtype, np.dtype):  # as NumPy calls it
            try:
                return tf.as_dtype(read(given))
            except (TypeError, ValueError):
                continue
        return None

    @staticmethod
    def rank(x: Any) -> int | None:
        rank: int | None = x.shape.rank
        return rank

    @staticmethod
    def broadcast(mask: Any, x: Any) -> Any:
        return tf.broadcast_to(mask, tf.shape(x))

    @staticmethod
    def moves(x: Any, axes: Any, masked: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
        return *(_joined_unknown_rank(x, axes) if x.shape.rank is None else _joined(x, axes)), -1

    @staticmethod
    def any(mask: Any, axis: Any) -> Any:
        return tf.reduce_any(mask, axis, keepdims=True)

    @staticmethod
    def where(mask: Any, x: Any, other: Any) -> Any:
        return tf.where(mask, x, tf.constant(other, x.dtype) if isinstance(other, float) else other)

    @staticmethod
    def fill(some: Any, dtype: Any) -> Any:
        return tf.where(some, tf.constant(-math.inf, dtype), tf.constant(0.0, dtype))

    @staticmethod
    def constant(x: Any) -> Any:
        return tf.stop_gradient(x)

    @staticmethod
    def top(rows: Any, axis: Any) -> Any:
        return tf.stop_gradient(tf.reduce_max(rows, axis, keepdims=True))


# --- the backend -----------------------------------------------------------------------------------------------------

# Containers of several tensors: what looks like one array is not, and padding or gathering it is the caller's choice.
_CONTAINERS = {
    tf.RaggedTensor: "x.to_tensor() with where=tf.ones_like(x, dtype=tf.bool).to_tensor()",
    tf.SparseTensor: "tf.sparse.to_dense(x)",
    tf.IndexedSlices: "tf.convert_to_tensor(x)",
}


class TensorflowBackend(Backend):
    """TensorFlow; see `polylogit.extend.Backend`."""

    name = "tensorflow"
    takes_temperature = True
    writable = False
    wraps_containers = True
    namespace = "tensorflow.experimental.numpy"
    spelling: ClassVar[dict[str, str]] = {
        "softmax": "tf.nn.softmax(x, axis={axis})",
        "log_softmax": "tf.nn.log_softmax(x, axis={axis})",
        "sigmoid": "tf.sigmoid(x)",
        "exp": "tf.exp(p)",
        "log": "tf.math.log(p)",
        "exp2": "tf.pow(2.0, x * 1.4426950408889634)",
        "take": "p = tf.gather(p, {inverse}, axis={axis})",
        "transpose": "x = tf.transpose(x, {back})",
        "float32": "x = tf.cast(x, tf.float32)",
        "two classes": "tf.nn.softmax(tf.stack([tf.zeros_like(x), x], axis=-1))",
        "mask": "x = tf.where(mask, x, -float('inf'))",
        "causal": "mask = mask & tf.cast(tf.linalg.band_part(tf.ones((n, n)), -1, 0), tf.bool)",
        "padding": "mask = mask & tf.not_equal(tokens, pad)[:, None, None, :]",
        "padding side": "mask = tf.not_equal(tokens, pad)[:, None, None, :]  # of the tokens as they are padded here",
        "window": "mask = mask & tf.cast(tf.linalg.band_part(tf.ones((n, n)), window - 1, 0), tf.bool)",
        "sink": "p = tf.nn.softmax(tf.concat([x, sink], axis=-1))[..., :-1]",
        "softcap": "x = cap * tf.tanh(x / cap)  # on both sides or on neither",
        "gelu": "tf.nn.gelu(x, approximate=False)  # or True; the original has {right}",
        "norm epsilon": "epsilon=epsilon  # of the norm, the original's; Keras's default is 1e-3",
        "layout": "x = tf.transpose(x, {back})",
        "heads": "x = tf.reshape(x, [*x.shape[:-1], {heads}, {size}])  # heads first, then their size",
        "split rows": "make one of them, with tf.experimental.dtensor.pack(shards, layout)",
        "stack": "tf.stack({x})",
        "stack rows": "tf.stack({x})",
        "stack numbers": "tf.stack({x})",
        "import": "import tensorflow as tf",
        "array": "tf.constant({values}, dtype=tf.{dtype})",
        "no second softmax": (
            "keras.losses.CategoricalCrossentropy(from_logits=True)  # and no softmax in the last layer"
        ),
        "no second sigmoid": "keras.losses.BinaryCrossentropy(from_logits=True)  # and no sigmoid in the last layer",
        "no dropout": "model(x, training=False)",
        "attached": "y = model(x)  # without tf.stop_gradient and .numpy() on the way",
    }

    softmax = staticmethod(softmax)
    log_softmax = staticmethod(log_softmax)
    sigmoid = staticmethod(sigmoid)

    def owns(self, cls: type) -> bool:
        """Tensors, eager and symbolic, and variables; Keras variables among them."""
        for container, remedy in _CONTAINERS.items():
            if issubclass(cls, container):
                message = f"a tf.{cls.__name__} is not one array, and its rows are not served; pass {remedy} instead."
                raise UnsupportedArrayError(message)
        if issubclass(cls, tf.distribute.DistributedValues) and not issubclass(cls, tf.Variable):
            message = (
                f"a {cls.__name__} is one tensor for each replica; call inside the function that they run, for example "
                "strategy.run(polylogit.softmax, (x,))."
            )
            raise UnsupportedArrayError(message)
        return issubclass(cls, (tf.Tensor, tf.Variable, tf.__internal__.types.Tensor))

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        """Eager tensors have their own implementation if all devices of the machine are CPUs."""
        eager = {"softmax": _eager_softmax, "log_softmax": _eager_log_softmax}
        if cls is _Eager and operation in eager and not tf.config.list_physical_devices("GPU"):
            return eager[operation]
        return super().implementation(operation, cls)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """See `Backend.asarray`; Python floats become float32."""
        target = None if dtype is None else _any_dtype(dtype)
        with tf.device(_device(device) if isinstance(device, str) else device):
            if isinstance(value, (tf.Tensor, tf.Variable)):
                return _cast(tf.identity(value), target or value.dtype)
            array = host_array(value)
            if not hasattr(value, "dtype") and not holds_numpy(value):
                try:
                    return tf.constant(value, dtype=target)
                except (OverflowError, TypeError, ValueError):  # integers beyond 64 bits, or integers as floats
                    return tf.cast(tf.constant(array.astype(np.float64)), target or tf.float32)
            try:
                # tf.constant shares the memory of some arrays; a copy is the tensor's own.
                tensor = tf.constant(array.copy())
            except (TypeError, ValueError):
                message = f"TensorFlow has no dtype {array.dtype.name}; cast the array first, with .astype('float64')."
                raise DTypeError(message) from None
            return tensor if target is None else _cast(tensor, target)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """See `Backend.to_numpy`."""
        return np.array(x.numpy())

    def lend(self, x: Any) -> Loan:
        """See `Backend.lend`."""
        if isinstance(x, tf.Variable):
            return Loan(np.array(self.lend(x.read_value()).array), True, False, "a tf.Variable changes in place")
        if isinstance(x, tf.Tensor) and not hasattr(x, "_numpy"):
            remedy = "convert outside of tf.function and of a Keras model's definition"
            raise no_values(x, "a symbolic tensor", remedy)
        if not isinstance(x, tf.Tensor):
            raise no_values(x, "no dense tensor", "make it one first: to_tensor(), tf.sparse.to_dense()")
        if x.dtype in (tf.string, tf.variant, tf.resource):
            raise no_values(x, f"dtype {x.dtype.name}", "only numbers and bool have a counterpart elsewhere")
        on_host = "CPU" in x.device
        return frozen(np.asarray(x) if on_host else x.numpy(), shared=on_host)

    def adopt(self, array: np.ndarray[Any, Any]) -> Any:
        """See `Backend.adopt`; a copy."""
        try:
            # tf.constant copies what is a NumPy array, and only that, into aligned memory of its own.
            made = tf.constant(np.asarray(array))
        except (TypeError, ValueError) as error:
            raise unknown_dtype("TensorFlow", array.dtype.name) from error
        if made.dtype.name != array.dtype.name:
            raise unknown_dtype("TensorFlow", array.dtype.name)
        return made

    def from_dlpack(self, x: Any) -> Any:
        """See `Backend.from_dlpack`.

        Measured with JAX: it does not reuse the memory of a donated array that TensorFlow holds, and tf.Variable copies
        before its first write.
        """
        return tf.experimental.dlpack.from_dlpack(x.__dlpack__())

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """By ``tf.GradientTape``."""
        x = _floating(x)
        function, wide, result = _without_float8(function, x, kwargs)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(wide)
            y = function(wide)

        def pullback(cotangent: Any) -> Any:
            given = self._like(cotangent, y, "cotangent")
            gradient = tape.gradient(y, wide, output_gradients=given, unconnected_gradients="zero")
            return _cast(gradient, x.dtype)

        return _cast(y, result or y.dtype), pullback

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """By ``tf.autodiff.ForwardAccumulator``."""
        x = _floating(x)
        function, wide, result = _without_float8(function, x, kwargs)
        with tf.autodiff.ForwardAccumulator(wide, self._like(tangent, wide, "tangent")) as accumulator:
            y = function(wide)
        tangent_out = accumulator.jvp(y, unconnected_gradients="zero")
        return _cast(y, result or y.dtype), _cast(tangent_out, result or y.dtype)

    def _like(self, given: Any, like: Any, argument: str) -> Any:
        if not isinstance(given, (tf.Tensor, tf.Variable)):
            given = self.asarray(given)
        if not given.shape.is_compatible_with(like.shape):
            raise wrong_direction(argument, given.shape, like.shape, "tf.broadcast_to")
        return _cast(tf.convert_to_tensor(given), like.dtype)

    def devices(self) -> tuple[str, ...]:
        """TensorFlow's logical CPUs and GPUs."""
        return tuple(
            f"/{device.device_type}:{index}"
            for kind in ("CPU", "GPU")
            for index, device in enumerate(tf.config.list_logical_devices(kind))
        )

    def dtypes(self) -> tuple[str, ...]:
        """See `Backend.dtypes`."""
        return ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

    def dtype_name(self, x: Any) -> str:
        """See `Backend.dtype_name`."""
        return str(x.dtype.name)

    def capabilities(self) -> dict[str, str]:
        """See `Backend.capabilities`."""
        return {"oneDNN": "serves softmax" if onednn_serves() else "does not serve softmax"}

    def compilers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """``tf.function``, as a graph and through XLA."""
        return {
            "graph": lambda function: tf.function(function, autograph=False),
            "xla": lambda function: tf.function(function, autograph=False, jit_compile=True),
        }


def onednn_serves() -> bool:
    """Whether eager softmax uses oneDNN, as the processor and ``TF_ENABLE_ONEDNN_OPTS`` decide.

    Only the kernel itself shows it: oneDNN's refuses a tensor of six dimensions, and the other accepts it.
    """
    try:
        gen_nn_ops.softmax(tf.zeros([1] * (_MOST_DIMENSIONS + 1)))
    except tf.errors.AbortedError:
        return True
    return False


def _without_float8(function: Any, x: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The function, its argument and the dtype to cast the result to after differentiation, if any.

    TensorFlow's cast to or from float8 has no gradient, which it treats as a gradient of zero. So an operation of
    polylogit is differentiated in float32 and rounded once, at the end.
    """
    asked = kwargs.get("dtype")
    result = (None if asked is None else _Primitives.dtype(asked)) or x.dtype  # what is no dtype the function refuses
    if 1 not in (x.dtype.size, result.size):
        return (lambda x: function(x, **kwargs)), x, None
    wide = tf.cast(x, tf.float32) if x.dtype.size == 1 else x
    if hasattr(function, "__polylogit_operation__"):
        return (lambda x: function(x, **{**kwargs, "dtype": tf.float32})), wide, result
    if hasattr(function, "__polylogit_gradient__"):
        cotangent = tf.cast(function.cotangent, tf.float32)
        inner = type(function)(function.operation, cotangent, {**function.kwargs, "dtype": tf.float32})
        return inner, wide, result
    message = (
        f"TensorFlow does not differentiate a function of {x.dtype.name} (its cast to or from float8 has no gradient); "
        "differentiate it at tf.cast(x, tf.float32)."
    )
    raise DifferentiationError(message)


def _any_dtype(given: Any) -> Any:
    dtype = _Primitives.dtype(given)
    if dtype is None:
        message = f"TensorFlow has no dtype {given!r}; pass one of its own, for example tf.float32."
        raise DTypeError(message)
    return dtype


def _device(name: str) -> str:
    """TensorFlow's name of a device, also for "cuda" and "cuda:1"; TensorFlow would silently use another device."""
    kind, _, number = name.rpartition("/")[-1].removeprefix("device:").upper().partition(":")
    there = f"/{kind.replace('CUDA', 'GPU')}:{number or 0}"
    if there not in (here := TensorflowBackend().devices()) and "job:" not in name:
        message = f"device={name!r} is none that TensorFlow has here; it has {', '.join(here)}."
        raise ConversionError(message)
    return name if "job:" in name else there


def _floating(x: Any) -> Any:
    return floating(_Primitives, tf.convert_to_tensor(x))


def _warm_up() -> None:
    """Make the backend's calls once, in the single thread that imports this module.

    TensorFlow's operator dispatch fills a cache of checked types on first use, which is not safe if many threads make
    their first calls at once: 2 of 51 processes with 32 threads each died there of a segmentation fault.
    """
    with tf.init_scope():
        x = tf.zeros([1, 2])
        for function in (softmax, log_softmax):
            function(x, 0, tf.ones([1, 2], tf.bool))
        TensorflowBackend().vjp(softmax, x, {})[1](x)
        sigmoid(x)


_warm_up()
