"""The three public operations and the path that every call takes.

The common path (an array, an axis, nothing else) is one dictionary look-up by exact type; `_general` serves all else.
This module knows no backend and imports no framework, NumPy included.
"""

from __future__ import annotations

from polylogit._coerce import (
    backend_named,
    backend_of,
    check_axis_name,
    check_out,
    mask_of,
    moved,
    python_array,
    temperature_of,
)
from polylogit._operations import OPERATIONS
from polylogit._registry import (
    OVERRIDES,
    PYTHON_TYPES,
    RESOLVED,
    TABLES,
    default_backend,
    implementation_of,
    publish,
    told,
)
from polylogit._types import Any, AnyAxis, AnyBackend, overload
from polylogit.errors import ArgumentError, UnsupportedArrayError

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from typing import Unpack

    from polylogit._registry import Implementation
    from polylogit._types import (
        ArrayT,
        Axis,
        FloatArray,
        FloatT,
        IntArray,
        IntScalar,
        NumpyArray,
        NumpyScalar,
        Options,
        Python,
        RowOptions,
    )

__all__ = ["log_softmax", "sigmoid", "softmax"]


class _Nothing:
    """What `x` is where a call leaves it out, or names it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<no x>"


NOTHING: Any = _Nothing()

_SOFTMAX = TABLES["softmax"]
_LOG_SOFTMAX = TABLES["log_softmax"]
_SIGMOID = TABLES["sigmoid"]


# The first overload is what an argument of the type Any takes in a lambda, where mypy looks no further: T is Any.
@overload
def softmax(
    x: FloatT, /, axis: Axis = -1, *, dtype: None = None, backend: None = None, **options: Unpack[RowOptions]
) -> FloatT: ...
@overload
def softmax(
    x: float, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyScalar: ...
@overload
def softmax(
    x: Python, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyArray: ...
@overload
def softmax(
    x: IntArray, /, axis: Axis = -1, *, dtype: None = None, backend: None = None, **options: Unpack[RowOptions]
) -> FloatArray: ...
@overload
def softmax(
    x: IntScalar, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyScalar: ...
@overload
def softmax(
    x: NumpyArray, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyArray: ...
@overload
def softmax(
    x: ArrayT, /, axis: AnyAxis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> ArrayT: ...
@overload
def softmax(
    x: Any, /, axis: AnyAxis = -1, *, dtype: Any = None, backend: AnyBackend, **options: Unpack[RowOptions]
) -> Any: ...
def softmax(x: Any = NOTHING, /, axis: AnyAxis = -1, **options: Any) -> Any:
    r"""Turn logits into probabilities that sum to one along an axis.

    .. math:: y_i = \exp(x_i - m) / \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    Parameters
    ----------
    x : array, number or nested sequence
        Logits, real. The result has its framework, shape, device and, if floating, its dtype; integers and bool are
        cast to the framework's default floating dtype first.
    axis : int, tuple of int, or None, optional
        Along which the probabilities sum to one: the last axis by default, several jointly, or None for all.
    where : array of bool, optional
        Broadcasts to `x`. Entries where it is False take no part, whatever they hold; their probability is 0.
    dtype : optional
        A floating dtype (of the framework, of NumPy, or its name): the result has it, and is computed in at least it.
    temperature : float or array, optional
        Positive; an array broadcasts to `x`. The logits are divided by it first, in a wider dtype where there is one:
        less than 1 sharpens, more flattens. It is differentiated too where it is a framework's own array.
    out : array, optional
        NumPy only: where to write the result, of its shape and dtype; it may be `x` itself or overlap it, and is
        returned.
    backend : str or module, optional
        On which backend to run, by its name or as ``torch``; NumPy arrays, numbers and sequences are converted to it.
    axis_name : str or tuple of str, optional
        JAX, inside ``shard_map``, ``pmap`` or ``vmap`` with names: the mapped axes that a row is split across. `x` is
        then the part that lies here, and nothing but a maximum and a sum for each row is exchanged.

    Returns
    -------
    array
        Probabilities in [0, 1]. A row (the entries normalised together) that holds NaN or +inf, or only -inf, is NaN;
        a row that is masked out entirely is 0.

    Raises
    ------
    ArgumentError
        For a keyword that it does not have, such as ``dim``; the message has the call as it is written here.
    AxisError, AxisTypeError
        For an axis out of range or given twice; for a bool or a float. For an `axis_name` that is not bound here, or
        with arrays of a framework that has no such names.
    DTypeError
        For complex, string or object logits, a `dtype` that is not floating, or a mask that is not bool.
    MaskError
        For a mask whose shape does not broadcast to that of `x`.
    TemperatureError
        For a temperature that is not positive and finite, as far as its value is known without asking a device, or
        whose shape does not broadcast to that of `x`.
    OutputError
        For an `out` of another shape, one that is read-only, or whose elements share memory.
    MixedBackendsError, UnsupportedArrayError
        For arrays of two frameworks in one call; for an object that no backend serves.

    See Also
    --------
    log_softmax : Its logarithm, without the loss of taking one.

    Notes
    -----
    The largest logit is subtracted first, which changes nothing in exact arithmetic and keeps the exponentials from
    overflowing: P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA Journal of Numerical Analysis 41(4), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import softmax
    >>> softmax(np.array([3.2, 5.1, 2.7])).round(5)
    array([0.12059, 0.80627, 0.07314])
    >>> softmax([[1.0, 2.0], [3.0, 3.0]], axis=0).round(3)
    array([[0.119, 0.269],
           [0.881, 0.731]])
    >>> softmax(np.array([3.2, 5.1, 2.7]), temperature=2.0).round(5)
    array([0.22912, 0.59244, 0.17844])

    A mask leaves entries out, whatever they hold, and `dtype` sets the precision of the result:

    >>> x = np.array([3.2, 5.1, np.nan])
    >>> softmax(x, where=~np.isnan(x)).round(5)
    array([0.13011, 0.86989, 0.     ])
    >>> softmax(x[:2], dtype="float32").dtype
    dtype('float32')
    """
    if not options:
        try:
            implementation = _SOFTMAX[type(x)]
        except KeyError:
            implementation = _UNSEEN["softmax"]
        return implementation(x, axis)
    return _general("softmax", x, axis, options)


@overload
def log_softmax(
    x: FloatT, /, axis: Axis = -1, *, dtype: None = None, backend: None = None, **options: Unpack[RowOptions]
) -> FloatT: ...
@overload
def log_softmax(
    x: float, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyScalar: ...
@overload
def log_softmax(
    x: Python, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyArray: ...
@overload
def log_softmax(
    x: IntArray, /, axis: Axis = -1, *, dtype: None = None, backend: None = None, **options: Unpack[RowOptions]
) -> FloatArray: ...
@overload
def log_softmax(
    x: IntScalar, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyScalar: ...
@overload
def log_softmax(
    x: NumpyArray, /, axis: Axis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> NumpyArray: ...
@overload
def log_softmax(
    x: ArrayT, /, axis: AnyAxis = -1, *, dtype: Any = None, backend: None = None, **options: Unpack[RowOptions]
) -> ArrayT: ...
@overload
def log_softmax(
    x: Any, /, axis: AnyAxis = -1, *, dtype: Any = None, backend: AnyBackend, **options: Unpack[RowOptions]
) -> Any: ...
def log_softmax(x: Any = NOTHING, /, axis: AnyAxis = -1, **options: Any) -> Any:
    r"""Logarithm of softmax, computed without taking the logarithm of a small number.

    .. math:: r_i = (x_i - m) - \log \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    Parameters
    ----------
    x : array, number or nested sequence
        Logits, real; as for `softmax`.
    axis : int, tuple of int, or None, optional
        Along which the probabilities sum to one.
    where : array of bool, optional
        Broadcasts to `x`. Entries where it is False take no part, whatever they hold; their value is -inf.
    dtype : optional
        A floating dtype: the result has it, and is computed in at least it.
    temperature : float or array, optional
        Positive; the logits are divided by it first, as for `softmax`.
    out : array, optional
        NumPy only: where to write the result; as for `softmax`.
    backend : str or module, optional
        On which backend to run.
    axis_name : str or tuple of str, optional
        JAX, inside a mapped function: the mapped axes that a row is split across; as for `softmax`.

    Returns
    -------
    array
        Logarithms of probabilities, at most 0 (natural logarithm). A row that holds NaN or +inf, or only -inf, is NaN;
        a row that is masked out entirely is -inf.

    Raises
    ------
    AxisError, AxisTypeError, DTypeError, MaskError, TemperatureError, OutputError, MixedBackendsError,
    UnsupportedArrayError
        As `softmax`.

    See Also
    --------
    softmax : The probabilities themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import log_softmax
    >>> log_softmax(np.array([0.0, 0.0, -1000.0])).round(4).tolist()
    [-0.6931, -0.6931, -1000.6931]
    """
    if not options:
        try:
            implementation = _LOG_SOFTMAX[type(x)]
        except KeyError:
            implementation = _UNSEEN["log_softmax"]
        return implementation(x, axis)
    return _general("log_softmax", x, axis, options)


@overload
def sigmoid(x: FloatT, /, *, dtype: None = None, backend: None = None, **options: Unpack[Options]) -> FloatT: ...
@overload
def sigmoid(x: float, /, *, dtype: Any = None, backend: None = None, **options: Unpack[Options]) -> NumpyScalar: ...
@overload
def sigmoid(x: Python, /, *, dtype: Any = None, backend: None = None, **options: Unpack[Options]) -> NumpyArray: ...
@overload
def sigmoid(x: IntArray, /, *, dtype: None = None, backend: None = None, **options: Unpack[Options]) -> FloatArray: ...
@overload
def sigmoid(x: IntScalar, /, *, dtype: Any = None, backend: None = None, **options: Unpack[Options]) -> NumpyScalar: ...
@overload
def sigmoid(x: NumpyArray, /, *, dtype: Any = None, backend: None = None, **options: Unpack[Options]) -> NumpyArray: ...
@overload
def sigmoid(x: ArrayT, /, *, dtype: Any = None, backend: None = None, **options: Unpack[Options]) -> ArrayT: ...
@overload
def sigmoid(x: Any, /, *, dtype: Any = None, backend: AnyBackend, **options: Unpack[Options]) -> Any: ...
def sigmoid(x: Any = NOTHING, /, **options: Any) -> Any:
    r"""Logistic function of each element.

    .. math:: y = 1 / (1 + \exp(-x))

    Parameters
    ----------
    x : array, number or nested sequence
        Logits, real; as for `softmax`.
    dtype : optional
        A floating dtype: the result has it, and is computed in at least it.
    temperature : float or array, optional
        Positive; the logits are divided by it first, as for `softmax`.
    out : array, optional
        NumPy only: where to write the result; as for `softmax`.
    backend : str or module, optional
        On which backend to run.

    Returns
    -------
    array
        Probabilities in [0, 1], exactly 0 at -inf and 1 at +inf, with full relative accuracy for negative logits.

    Raises
    ------
    DTypeError, TemperatureError, OutputError, MixedBackendsError, UnsupportedArrayError
        As `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import sigmoid
    >>> sigmoid(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    """
    if not options:
        try:
            implementation = _SIGMOID[type(x)]
        except KeyError:
            implementation = _UNSEEN["sigmoid"]
        return implementation(x)
    return _general("sigmoid", x, -1, options)


# --- what help and `inspect.signature` show, and what a call may name ------------------------------------------------


# A function with one dictionary of options is called quicker than one with many that have defaults, and can say what
# was meant by one that it does not have. By this attribute Python finds the signature that it stands for.
def _of_rows(
    x: Any,
    /,
    axis: Any = -1,
    *,
    where: Any = None,
    dtype: Any = None,
    temperature: Any = None,
    out: Any = None,
    backend: Any = None,
    axis_name: Any = None,
) -> Any: ...


def _of_elements(
    x: Any, /, *, dtype: Any = None, temperature: Any = None, out: Any = None, backend: Any = None
) -> Any: ...


for _signature in (_of_rows, _of_elements):
    _signature.__annotations__.clear()  # help would show each as 'Any'

_SIGNATURES: dict[str, Any] = {"softmax": _of_rows, "log_softmax": _of_rows, "sigmoid": _of_elements}
_OPTIONS: dict[str, dict[str, Any]] = {name: dict(one.__kwdefaults__) for name, one in _SIGNATURES.items()}


def _general(operation: str, x: Any, axis: Any, options: dict[str, Any]) -> Any:
    """Serve a call with more than an axis."""
    defaults = _OPTIONS[operation]
    for name in options:
        if name not in defaults:
            raise _refused(operation, axis, options)
    if x is NOTHING:
        return _UNSEEN[operation](x)
    arguments = {**defaults, **options}
    backend, axis_name = arguments.pop("backend"), arguments.pop("axis_name", None)
    temperature, out = arguments.pop("temperature"), arguments.pop("out")
    if OPERATIONS[operation].takes_axis:
        arguments["axis"] = axis
    if backend is not None:
        serving = backend_named(backend)
        x = moved(serving, x, "x", operation)
    else:
        serving = backend_of(x, operation)
        if type(x) in PYTHON_TYPES:
            x = python_array(serving, x, operation)
    where = arguments.get("where")
    if where is not None:
        arguments["where"] = mask_of(serving, where, x, convert_numpy=backend is not None)
    original = getattr(serving, operation)
    if temperature is not None:
        arguments["temperature"] = temperature_of(serving, temperature, x, convert_numpy=backend is not None)
    if out is not None:
        check_out(serving, out)
        arguments["out"] = out
    if axis_name is not None:
        check_axis_name(serving, axis_name)
        arguments["axis_name"] = axis_name
    if any(one is not None for one in (temperature, out, axis_name)):  # of these a registered function does not know
        return original(x, **arguments)
    overrides = OVERRIDES.get((operation, serving.name))
    return (overrides[-1].adapt(original) if overrides else original)(x, **arguments)


def _refused(operation: str, axis: Any, options: dict[str, Any]) -> Exception:
    from polylogit._arguments import unexpected  # only for an error

    known = [*(["axis"] if OPERATIONS[operation].takes_axis else []), *_OPTIONS[operation]]
    return unexpected(operation, known, axis, options)


# --- what serves the types that are not in a table yet, and those that no backend owns --------------------------------


def _unseen(operation: str) -> Implementation:
    """What serves a type that comes for the first time.

    It is called after the look-up has failed and not while its KeyError is handled, which would stand above any other.
    """

    def unseen(x: Any, *axis: Any) -> Any:
        if x is NOTHING:
            message = f"{operation} was called without logits; write {operation}(x)."
            raise ArgumentError(message)
        try:
            name = publish(type(x))
        except UnsupportedArrayError as error:
            raise told(error, x, operation=operation) from None
        return RESOLVED[operation, name](x, *axis)

    return unseen


def _of_python(operation: str) -> Implementation:
    """What serves Python's numbers and sequences on the common path."""

    def of_python(value: Any, *axis: Any) -> Any:
        backend = default_backend()
        return implementation_of(operation, backend)(python_array(backend, value, operation), *axis)

    return of_python


_UNSEEN = {name: _unseen(name) for name in OPERATIONS}

for _name in OPERATIONS:
    TABLES[_name].update(dict.fromkeys(PYTHON_TYPES, _of_python(_name)))
    _operation = globals()[_name]
    _operation.__wrapped__ = _SIGNATURES[_name]
    # By this the backends with closed-form derivatives know an operation, whatever it was imported as.
    _operation.__polylogit_operation__ = _name
    # TensorFlow's AutoGraph leaves a function with this attribute as it is; there is no tensor-dependent branch here
    # for it to convert, and rewriting the source would only cost time and the possibility of a warning.
    _operation.autograph_info__ = {}
