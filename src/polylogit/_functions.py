"""The three public operations, and the dispatch of every call.

The common path (an array, an axis, nothing else) is one dictionary look-up by exact type; `_general` handles all other
calls. This module knows no backend, and imports no framework, not even NumPy.
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
    """The default of `x`, for calls that leave it out or pass it by keyword."""

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
        Real logits. The result has the same framework, shape, device and, if floating, dtype; integers and bool are
        first cast to the framework's default floating dtype.
    axis : int, tuple of int, or None, optional
        The axis along which the probabilities sum to one: by default the last. A tuple normalises several axes
        jointly, None all.
    where : array of bool, optional
        A mask that broadcasts to `x`. Entries where it is False have no influence, whatever they hold, and get
        probability 0.
    dtype : optional
        A floating dtype (the framework's, NumPy's, or its name): the dtype of the result, which is computed in at
        least this precision.
    temperature : float or array, optional
        A positive number, or an array of them that broadcasts to `x`. The logits are first divided by it, in a wider
        dtype if there is one: less than 1 sharpens the probabilities, more flattens them. If it is a framework's own
        array, it is differentiated, too.
    out : array, optional
        NumPy only: an array of the result's shape and dtype to write the result to. It may be `x` or overlap it, and
        is returned.
    backend : str or module, optional
        The backend to use, by name or as the module ``torch``; NumPy arrays, numbers and sequences are converted to it.
    axis_name : str or tuple of str, optional
        JAX only, inside ``shard_map``, ``pmap`` or ``vmap`` with names: the mapped axes that a row is split across. `x`
        is then this device's part of the row, and only a maximum and a sum are exchanged for each row.

    Returns
    -------
    array
        Probabilities in [0, 1]. A row (the entries normalised together) that holds NaN or +inf, or only -inf, is NaN;
        a row with every entry masked is 0.

    Raises
    ------
    ArgumentError
        For an unknown keyword, such as ``dim``; the message shows the right call.
    AxisError, AxisTypeError
        For an axis that is out of range or given twice; for a bool or a float. For an `axis_name` that is not bound, or
        with arrays of a framework that has no such names.
    DTypeError
        For complex, string or object logits, a `dtype` that is not floating, or a mask that is not bool.
    MaskError
        For a mask whose shape does not broadcast to that of `x`.
    TemperatureError
        For a temperature that is not positive and finite (unless only the device knows its value), or whose shape does
        not broadcast to that of `x`.
    OutputError
        For an `out` of another shape, one that is read-only, or one whose elements share memory.
    MixedBackendsError, UnsupportedArrayError
        For arrays of two frameworks in one call; for an object that no backend supports.

    See Also
    --------
    log_softmax : The logarithm of softmax, computed accurately.

    Notes
    -----
    In exact arithmetic, subtracting the largest logit first changes nothing; in floating point it prevents overflow:
    P. Blanchard, D. J. Higham, N. J. Higham, "Accurately computing the log-sum-exp and softmax functions",
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

    A mask excludes entries, whatever they hold, and `dtype` sets the dtype of the result:

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
    r"""Compute the logarithm of softmax, without taking the logarithm of a small number.

    .. math:: r_i = (x_i - m) - \log \sum_j \exp(x_j - m), \qquad m = \max_j x_j

    Parameters
    ----------
    x : array, number or nested sequence
        Real logits; as for `softmax`.
    axis : int, tuple of int, or None, optional
        The axis along which the probabilities sum to one.
    where : array of bool, optional
        A mask that broadcasts to `x`. Entries where it is False have no influence, whatever they hold, and get the
        value -inf.
    dtype : optional
        A floating dtype: the dtype of the result, which is computed in at least this precision.
    temperature : float or array, optional
        Positive; the logits are first divided by it, as for `softmax`.
    out : array, optional
        NumPy only: an array to write the result to, as for `softmax`.
    backend : str or module, optional
        The backend to use.
    axis_name : str or tuple of str, optional
        JAX only, inside a mapped function: the mapped axes that a row is split across, as for `softmax`.

    Returns
    -------
    array
        Natural logarithms of probabilities, at most 0. A row that holds NaN or +inf, or only -inf, is NaN;
        a row with every entry masked is -inf.

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
    r"""Compute the logistic function of each element.

    .. math:: y = 1 / (1 + \exp(-x))

    Parameters
    ----------
    x : array, number or nested sequence
        Real logits; as for `softmax`.
    dtype : optional
        A floating dtype: the dtype of the result, which is computed in at least this precision.
    temperature : float or array, optional
        Positive; the logits are first divided by it, as for `softmax`.
    out : array, optional
        NumPy only: an array to write the result to, as for `softmax`.
    backend : str or module, optional
        The backend to use.

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


# --- the signatures that `help` and `inspect.signature` show, and the keywords of a call -----------------------------


# A call is faster if the function takes one dictionary of options rather than many arguments with defaults, and it can
# suggest the right keyword for a wrong one. Python finds the documented signature through `__wrapped__`.
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
    """Handle a call with keywords."""
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
    if any(one is not None for one in (temperature, out, axis_name)):  # registered functions do not know these
        return original(x, **arguments)
    overrides = OVERRIDES.get((operation, serving.name))
    return (overrides[-1].adapt(original) if overrides else original)(x, **arguments)


def _refused(operation: str, axis: Any, options: dict[str, Any]) -> Exception:
    from polylogit._arguments import unexpected  # only for an error

    known = [*(["axis"] if OPERATIONS[operation].takes_axis else []), *_OPTIONS[operation]]
    return unexpected(operation, known, axis, options)


# --- types that are not in a table yet, and types that no backend owns -----------------------------------------------


def _unseen(operation: str) -> Implementation:
    """The function for a type that is seen for the first time.

    It is called after the KeyError of the look-up has been handled, so that the KeyError precedes no other traceback.
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
    """The function for Python numbers and sequences on the common path."""

    def of_python(value: Any, *axis: Any) -> Any:
        backend = default_backend()
        return implementation_of(operation, backend)(python_array(backend, value, operation), *axis)

    return of_python


_UNSEEN = {name: _unseen(name) for name in OPERATIONS}

for _name in OPERATIONS:
    TABLES[_name].update(dict.fromkeys(PYTHON_TYPES, _of_python(_name)))
    _operation = globals()[_name]
    _operation.__wrapped__ = _SIGNATURES[_name]
    # Backends with closed-form derivatives recognise an operation by this attribute, whatever name it was imported as.
    _operation.__polylogit_operation__ = _name
    # TensorFlow's AutoGraph does not convert a function with this attribute. There is no tensor-dependent branch to
    # convert, and the conversion would only take time and might warn.
    _operation.autograph_info__ = {}
