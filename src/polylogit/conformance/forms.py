"""Forms: turn attention, losses and other kernels that contain a softmax into an operation that the kit can test.

Each form takes your function and returns an ``implementation(x, axis=-1)`` for `polylogit.conformance.check`. It passes
the logits to your function exactly, and extracts the answer from its result, so every error is the function's own.
Forms use the arrays' own operations, so the framework can differentiate through them. If several results of the
function should agree and do not, the form raises an `ArithmeticError`, which the kit counts as a fault; if the form
cannot express a case, it raises a `NotImplementedError`, which the kit counts as unsupported. Knows backends and facts
about dtypes; no framework, and nothing of checks or results.

Examples
--------
>>> import numpy as np
>>> from polylogit import conformance
>>> from polylogit.conformance import forms
>>> def attention(q, k, v, bias):
...     scores = q @ k.T / np.sqrt(q.shape[-1], dtype=q.dtype) + bias
...     e = np.exp(scores - scores.max(-1, keepdims=True))
...     return e / e.sum(-1, keepdims=True) @ v
>>> report = conformance.check(forms.attention(attention), "softmax", level="quick", dtypes=["float32"])
>>> report.passed
True
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit._spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._operations import OperationName
    from polylogit._spec.dtypes import Array, Finfo

    Implementation = Callable[..., Any]

__all__ = [
    "additive_mask",
    "along_last",
    "attention",
    "capped",
    "causal",
    "cross_entropy",
    "cross_entropy_vjp",
    "in_place",
    "log_sum_exp",
    "merged",
    "merged_attention",
    "out",
    "scaled",
]

_POISON = (math.nan, 7.0)  # the contents of an output buffer before the call; at least one of them shows


# --- building blocks --------------------------------------------------------------------------------------------------


def _namespace(x: Any) -> Any:
    """The module with NumPy's functions under their names for arrays like `x`; arguments are passed by position."""
    backend = polylogit.get_backend(x)
    if not backend.namespace:
        message = f"forms need NumPy's functions, and backend {backend.name} names no namespace that has them"
        raise NotImplementedError(message)
    return importlib.import_module(backend.namespace)


def _where_it_is(x: Any) -> Any:
    try:
        return x.device
    except Exception:  # noqa: BLE001  a tracer is nowhere
        return None


def _like(x: Any, values: Any, dtype: str | None = None) -> Any:
    """These values as an array with the framework, dtype and device of `x`."""
    backend = polylogit.get_backend(x)
    return backend.asarray(np.asarray(values), dtype=dtype or backend.dtype_name(x), device=_where_it_is(x))


def _indices(x: Any, values: Array) -> Any:
    """Integers in the framework's default integer dtype."""
    return polylogit.get_backend(x).asarray(values.tolist(), device=_where_it_is(x))


def _cast(y: Any, x: Any) -> Any:
    """An array cast to the dtype of `x`, still connected to its gradient."""
    backend = polylogit.get_backend(x)
    return y if y.dtype == x.dtype else backend.asarray(y, dtype=backend.dtype_name(x))


def _values(x: Any) -> Array | None:
    """The values on the host; None for a tracer, which has none."""
    try:
        return np.asarray(polylogit.get_backend(x).to_numpy(x)).astype(np.float64)
    except Exception:  # noqa: BLE001  whatever a framework raises for what has no values yet
        return None


def _one_axis(x: Any, axis: Any) -> None:
    """Refuse calls that no form supports, as a kernel would."""
    if isinstance(axis, tuple) or axis is None or not x.ndim or not math.prod(x.shape):
        message = "this form goes along one axis of an array that has entries"
        raise NotImplementedError(message)
    _floating(x)


def _floating(x: Any) -> None:
    if "float" not in polylogit.get_backend(x).dtype_name(x):
        message = f"this form takes floating logits, not {polylogit.get_backend(x).dtype_name(x)}"
        raise NotImplementedError(message)


def _at_most(length: int, longest: int, what: str) -> None:
    if length > longest:
        message = f"{length} {what}; this form goes up to {longest}, and longest= is what it goes up to"
        raise NotImplementedError(message)


def along_last(rows: Callable[[Any], Any]) -> Implementation:
    """Turn a function of rows into an implementation for any axis; most forms begin with this.

    Parameters
    ----------
    rows : callable
        ``rows(x) -> array`` of the same shape, for an array of shape (rows, length).

    Returns
    -------
    callable
        ``implementation(x, axis=-1)``, for a single axis.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit.conformance import forms
    >>> forms.along_last(lambda x: x / x.sum(1, keepdims=True))(np.array([[1.0, 2.0], [3.0, 2.0]]), axis=0)
    array([[0.25, 0.5 ],
           [0.75, 0.5 ]])
    """

    def implementation(x: Any, axis: Any = -1) -> Any:
        _one_axis(x, axis)
        xp = _namespace(x)
        moved = xp.moveaxis(x, axis, -1)
        y = rows(xp.reshape(moved, (-1, moved.shape[-1])))
        return xp.moveaxis(xp.reshape(y, tuple(moved.shape)), -1, axis)

    return implementation


def _declared(implementation: Implementation, empty_rows: str) -> Implementation:
    """The implementation, with its declared convention for rows without entries."""
    if empty_rows not in ("nan", "zeros", "uniform"):
        message = f'empty_rows={empty_rows!r} is no policy; write "nan", "zeros" or "uniform".'
        raise ValueError(message)
    implementation.conventions = {"empty-row": empty_rows, "masked-row": empty_rows}  # type: ignore[attr-defined]
    return implementation


# --- buffers ----------------------------------------------------------------------------------------------------------


def out(function: Callable[..., Any]) -> Implementation:
    """Test a function that writes its result into a buffer.

    The buffer holds NaN in the first call and another number in the second, so a place that the function does not
    write, or adds to, shows.

    Parameters
    ----------
    function : callable
        ``function(x, out, axis=-1)``; its return value is ignored.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, if the two calls leave different bits.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax(x, out, axis=-1):
    ...     np.exp(x - x.max(axis, keepdims=True), out=out)
    ...     out /= out.sum(axis, keepdims=True)
    >>> conformance.check(forms.out(softmax), "softmax", level="quick", dtypes=["float32"]).passed
    True
    """

    def implementation(x: Any, axis: Any = -1) -> Any:
        _written_in_place(x)
        buffers = [_like(x, np.full(tuple(x.shape), poison)) for poison in _POISON]
        for buffer in buffers:
            function(x, buffer, axis=axis)
        first, second = (np.asarray(polylogit.get_backend(x).to_numpy(buffer)).tobytes() for buffer in buffers)
        if first != second:
            message = "a second call, with other numbers in the output buffer before, left other bits in it"
            raise ArithmeticError(message)
        return buffers[1]

    return implementation


def in_place(function: Callable[..., Any]) -> Implementation:
    """Test a function that overwrites its logits with the result; it gets a copy of them.

    Parameters
    ----------
    function : callable
        ``function(x, axis=-1)``; its return value is ignored.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax_(x, axis=-1):
    ...     x -= x.max(axis, keepdims=True)
    ...     np.exp(x, out=x)
    ...     x /= x.sum(axis, keepdims=True)
    >>> conformance.check(forms.in_place(softmax_), "softmax", level="quick", dtypes=["float32"]).passed
    True
    """

    def implementation(x: Any, axis: Any = -1) -> Any:
        _written_in_place(x)
        copy = x * 1
        function(copy, axis=axis)
        return copy

    return implementation


def _written_in_place(x: Any) -> None:
    _floating(x)
    if not polylogit.get_backend(x).writable:
        message = f"arrays of {polylogit.get_backend(x).name} never change"
        raise NotImplementedError(message)


# --- sums of exponentials ---------------------------------------------------------------------------------------------


def log_sum_exp(
    function: Callable[..., Any], *, base: float = math.e, operation: OperationName = "log_softmax"
) -> Implementation:
    """Test a function that returns the logarithm of the sum of exponentials, alone or with the probabilities.

    As `polylogit.log_softmax`, the result is ``x - lse`` for the logits minus their maximum, because that subtraction
    loses nothing. The `lse` of the original logits must differ from it by the maximum, up to rounding. A row without
    entries must have no finite `lse`. As `polylogit.softmax`, the result is the probabilities that it returns.

    Parameters
    ----------
    function : callable
        ``function(x) -> lse`` or ``function(x) -> (probabilities, lse)`` for an array of shape (rows, length); `lse`
        has the shape (rows,), and the dtype of `x` or a wider one.
    base : float, optional
        The base of the logarithm; some kernels use base 2.
    operation : {"log_softmax", "softmax"}, optional
        Whether to test the logarithm or the probabilities.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, if the sum depends on an offset of the logits, or is finite for a row without entries.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def kernel(x):
    ...     m = x.max(-1)
    ...     e = np.exp(x - m[:, None])
    ...     return e / e.sum(-1)[:, None], m + np.log(e.sum(-1))
    >>> conformance.check(forms.log_sum_exp(kernel), "log_softmax", level="quick", dtypes=["float32"]).passed
    True
    """
    unit = math.log(base)
    if _is_one_of(operation) == "softmax":
        return along_last(lambda x: function(x)[0])

    def lse(x: Any) -> Any:
        found = function(x)
        return (found[-1] if isinstance(found, (tuple, list)) else found)[:, None]

    def rows(x: Any) -> Any:
        shifted, highest = _shifted(x)
        near = lse(shifted)
        _same_sum(x, highest, near, lse(x), unit)
        return _cast(_cast(shifted, near) - near * unit, x)

    return along_last(rows)


def _is_one_of(operation: str) -> str:
    if operation not in ("softmax", "log_softmax"):
        message = f'operation={operation!r} is not what this form makes; write "softmax" or "log_softmax".'
        raise ValueError(message)
    return operation


def _highest(x: Any) -> Any:
    xp = _namespace(x)
    return (xp.amax if hasattr(xp, "amax") else xp.max)(x, 1)[:, None]


def _shifted(x: Any) -> tuple[Any, Any]:
    """The rows minus their maximum, and the maximum; rows with an infinite maximum are unchanged."""
    xp, highest = _namespace(x), _highest(x)
    finite = abs(highest) < math.inf
    return xp.where(finite, x - xp.where(finite, highest, xp.zeros_like(highest)), x), highest


def _coarsest(*arrays: Any) -> Finfo:
    """The narrowest dtype of these arrays."""
    named = [DTYPES[polylogit.get_backend(one).dtype_name(one)] for one in arrays]
    return max(named, key=lambda dtype: dtype.eps)


def _same_sum(x: Any, highest: Any, near: Any, far: Any, unit: float) -> None:
    """Raise an error if a sum depends on an offset; each of the two, the product with the unit and the sum round."""
    top, low, high = (_values(one) for one in (highest, near, far))
    if top is None or low is None or high is None:
        return
    dtype = _coarsest(x, far)
    with np.errstate(all="ignore"):
        right = top / unit + low
        within = np.abs(high - right) <= 8.0 * dtype.eps * (1.0 + np.abs(top / unit) + np.abs(low))
        within |= np.abs(top / unit) > dtype.max  # it does not fit the dtype in these units
    within |= np.isnan(right) & np.isnan(high)
    within = np.where(np.isneginf(top), ~np.isfinite(high), within | ~np.isfinite(top))
    if not within.all():
        row = int(np.argmin(within))
        right = np.where(np.isneginf(top), -np.inf, right)
        message = f"the logarithm of the sum is {float(high.flat[row])!r} where {float(right.flat[row])!r} is right"
        raise ArithmeticError(message)


def _same_weights(x: Any, highest: Any, near: Any, far: Any, unit: float) -> None:
    """Raise an error if weights depend on an offset by more than its rounding."""
    top, low, high = (_values(one) for one in (highest, near, far))
    if top is None or low is None or high is None:
        return
    with np.errstate(all="ignore"):
        room = np.minimum(1.0, 8.0 * _coarsest(x, far).eps * (8.0 + x.shape[1] + np.abs(top)))
        within = (np.abs(high - low) <= room) | (np.isnan(low) & np.isnan(high))
        within |= np.abs(top / unit) > _coarsest(x, far).max  # it does not fit the dtype in these units
    if (~within & np.isfinite(top)).any():
        row, entry = (int(one) for one in np.argwhere(~within & np.isfinite(top))[0])
        message = f"the weight is {float(high[row, entry])!r}; with {float(top[row, 0])!r} subtracted from the logits "
        message += f"it is {float(low[row, entry])!r}"
        raise ArithmeticError(message)


def _cuts(n: int, splits: int) -> list[tuple[int, int]]:
    """The pieces of a row: a single entry first, then pieces of about equal size, with an empty one before the last."""
    edges = sorted({0, min(1, n), *(n * part // splits for part in range(1, splits)), n})
    pieces = [*itertools.pairwise(edges)]
    return [*pieces[:-1], (edges[-2], edges[-2]), pieces[-1]]


def _together(states: list[Any], merge: Callable[[Any, Any], Any], order: str) -> Any:
    """Merge the states from the left, from the right, or in pairs."""
    if order == "pairs":
        while len(states) > 1:
            pairs = [merge(*states[i : i + 2]) for i in range(0, len(states) - 1, 2)]
            states = pairs + states[len(states) - len(states) % 2 :]
        return states[0]
    if order == "right":
        return functools.reduce(lambda done, one: merge(one, done), reversed(states))
    return functools.reduce(merge, states)


def merged(
    partial: Callable[[Any], Any],
    merge: Callable[[Any, Any], Any],
    *,
    splits: int = 3,
    order: str = "left",
    empty: bool = True,
    base: float = math.e,
    operation: OperationName = "softmax",
) -> Implementation:
    """Test the states ``(m, s)`` of parts of a row, and their merge: `m` is the maximum, `s` the sum of ``exp(x - m)``.

    Parameters
    ----------
    partial : callable
        ``partial(x) -> (m, s)``, each of shape (rows,), for a part of shape (rows, part).
    merge : callable
        ``merge(state, state) -> state``.
    splits : int, optional
        The number of parts.
    order : {"left", "right", "pairs"}, optional
        The order of the merges, on which the result must not depend.
    empty : bool, optional
        Whether to include a part without entries; the cases include parts of only -inf anyway.
    base : float, optional
        The base of the exponentials: in base 2, `m` is the maximum in units of log 2, which rounds it. The logits minus
        their maximum are then tested, and the original logits must have the same sum, up to that rounding.
    operation : {"softmax", "log_softmax"}, optional
        The operation to compute from the merged state.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def partial(x):
    ...     m = x.max(-1, initial=-np.inf)
    ...     return m, np.exp(x - np.where(m == -np.inf, 0, m)[:, None].astype(x.dtype)).sum(-1)
    >>> def merge(a, b):
    ...     m = np.maximum(a[0], b[0])
    ...     safe = np.where(m == -np.inf, 0, m).astype(m.dtype)
    ...     return m, a[1] * np.exp(a[0] - safe) + b[1] * np.exp(b[0] - safe)
    >>> softmax = forms.merged(partial, merge, order="pairs")
    >>> conformance.check(softmax, "softmax", level="quick", dtypes=["float32"]).passed
    True
    """
    unit = math.log(base)
    _is_one_of(operation)
    _is_an_order(order)

    def total(x: Any) -> Any:
        return [one[:, None] for one in _together(_parts(partial, x, splits, empty=empty), merge, order)]

    def rows(x: Any) -> Any:
        xp = _namespace(x)
        if base == math.e:
            m, s = total(x)
        else:
            given = x
            x, highest = _shifted(given)
            (m, s), (far, rest) = total(x), total(given)
            _same_sum(given, highest, m + xp.log(s) / unit, far + xp.log(rest) / unit, unit)
        below = _cast(x, m) - m * unit
        return _cast(below - xp.log(s) if operation == "log_softmax" else xp.exp(below) / s, x)

    return along_last(rows)


def _is_an_order(order: str) -> None:
    if order not in ("left", "right", "pairs"):
        message = f'order={order!r} does not exist; states are merged from the "left", the "right" or in "pairs".'
        raise ValueError(message)


def _parts(partial: Callable[..., Any], x: Any, splits: int, *more: Any, empty: bool) -> list[Any]:
    """The state of each part of the rows; `more` are arrays of which it gets the same part of the first axis."""
    pieces = [cut for cut in _cuts(x.shape[1], splits) if empty or cut[0] < cut[1]]
    return [partial(x[:, start:stop], *(one[start:stop] for one in more)) for start, stop in pieces]


def merged_attention(
    partial: Callable[[Any, Any], Any],
    merge: Callable[[Any, Any], Any],
    *,
    splits: int = 3,
    order: str = "left",
    empty: bool = True,
    base: float = math.e,
    operation: OperationName = "softmax",
    empty_rows: str = "nan",
    longest: int = 1100,
) -> Implementation:
    """Test the states ``(out, lse)`` of parts of an attention, and their merge.

    Parameters
    ----------
    partial : callable
        ``partial(scores, values) -> (out, lse)`` for scores of shape (rows, part) and values of shape (part, width):
        `out` has the shape (rows, width), `lse` the shape (rows,). Such a state has the rounding error of its `lse`, so
        rows whose maximum exceeds 8 in magnitude are tested minus their maximum; the original rows must give the same
        result, up to that rounding.
    merge : callable
        ``merge(state, state) -> state``.
    splits, order, empty
        As in `merged`.
    base : float, optional
        The base of the logarithm `lse`.
    operation : {"softmax", "log_softmax"}, optional
        Whether to test `out` of the merged state or its `lse`, as in `log_sum_exp`.
    empty_rows : {"nan", "zeros", "uniform"}, optional
        The result `out` for a row of only -inf.
    longest : int, optional
        The longest row to test; the values are a square matrix of that size.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, if the result depends on an offset of the logits by more than rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def partial(x, v):
    ...     m = np.where((top := x.max(-1, initial=-np.inf)) == -np.inf, 0, top).astype(x.dtype)
    ...     e = np.exp(x - m[:, None])
    ...     s = e.sum(-1)
    ...     return (e / np.where(s == 0, 1, s)[:, None].astype(x.dtype)) @ v, m + np.log(s)
    >>> def merge(a, b):
    ...     m = np.maximum(a[1], b[1])
    ...     m = np.where(m == -np.inf, 0, m).astype(m.dtype)
    ...     p, q = np.exp(a[1] - m)[:, None], np.exp(b[1] - m)[:, None]
    ...     s = np.where(p + q == 0, 1, p + q).astype(p.dtype)
    ...     return (a[0] * p + b[0] * q) / s, m + np.log((p + q)[:, 0])
    >>> softmax = forms.merged_attention(partial, merge, empty_rows="zeros")
    >>> conformance.check(softmax, "softmax", level="quick", dtypes=["float64"]).passed
    True
    """
    _is_an_order(order)

    def state(x: Any) -> Any:
        _at_most(x.shape[1], longest, "entries in a row")
        identity = _like(x, np.eye(x.shape[1]))
        return _together(_parts(partial, x, splits, identity, empty=empty), merge, order)

    if _is_one_of(operation) == "log_softmax":
        return log_sum_exp(state, base=base)

    def rows(x: Any) -> Any:
        xp, (shifted, highest) = _namespace(x), _shifted(x)
        near = state(xp.where(abs(highest) > 8.0, shifted, x))[0]
        _same_weights(x, highest, near, state(x)[0], math.log(base))
        return near

    return _declared(along_last(rows), empty_rows)


# --- scores and masks -------------------------------------------------------------------------------------------------


def scaled(function: Callable[..., Any], *, scale: float = 0.125) -> Implementation:
    """Test a function that scales its logits, ``softmax(scale * x)``.

    Parameters
    ----------
    function : callable
        ``function(x, scale)`` for an array of shape (rows, length).
    scale : float, optional
        A power of two, so that dividing the logits by it is exact. Rows that this takes out of the range of the dtype
        are tested with a scale of 1.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax(x, scale):
    ...     x = x * x.dtype.type(scale)
    ...     e = np.exp(x - x.max(-1, keepdims=True))
    ...     return e / e.sum(-1, keepdims=True)
    >>> conformance.check(forms.scaled(softmax, scale=0.25), "softmax", level="quick", dtypes=["float64"]).passed
    True
    """
    if not (scale > 0 and math.frexp(scale)[0] == 0.5):
        message = f"scale={scale!r} is no power of two, by which logits can be divided exactly; write 0.125, or 2.0."
        raise ValueError(message)

    def rows(x: Any) -> Any:
        xp = _namespace(x)
        divided = x * (1.0 / scale)
        lost = xp.any((divided * scale != x) & (x == x), 1)[:, None]
        within = function(xp.where(lost, xp.zeros_like(x), divided), scale)
        return xp.where(lost, function(x, 1.0), within)

    return along_last(rows)


def capped(function: Callable[..., Any], *, cap: float = 2.0, masked: bool = False) -> Implementation:
    """Test a function that caps its logits, ``softmax(cap * tanh(x / cap))``.

    The form passes ``cap * arctanh(x / cap)``, so that the capped logits are those of the case, up to about four
    roundings, each relative to a logit. It does so only for rows whose logits are at most 1 and half of the cap in
    magnitude, for which these roundings change a probability by at most 4 eps, as the bound allows. All other rows are
    tested without a cap, including those with -inf: capped, -inf is -cap, and only a mask can exclude an entry.

    Parameters
    ----------
    function : callable
        ``function(x, cap)`` for an array of shape (rows, length), or if `masked`, ``function(x, cap, where)`` with a
        mask that is True for entries that count. A `cap` of None means no cap.
    cap : float, optional
        The cap; small, so that it has an effect.
    masked : bool, optional
        Whether the function takes a mask.

    Returns
    -------
    callable
        ``implementation(x, axis=-1)``, or if `masked`, ``implementation(x, axis=-1, where=None)``. Masked entries are
        replaced by 0.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax(x, cap):
    ...     x = x if cap is None else cap * np.tanh(x / cap)
    ...     e = np.exp(x - x.max(-1, keepdims=True))
    ...     return e / e.sum(-1, keepdims=True)
    >>> conformance.check(forms.capped(softmax), "softmax", level="quick", dtypes=["float32"]).passed
    True
    """
    if not 0 < cap < math.inf:
        message = f"cap={cap!r} is no cap; write a positive number, such as 2.0."
        raise ValueError(message)
    limit = min(1.0, cap / 2)

    def rows(x: Any, *where: Any) -> Any:
        xp = _namespace(x)
        zeros = xp.zeros_like(x)
        x = xp.where(where[0], x, zeros) if where else x
        near = xp.all(abs(x) <= limit, 1)[:, None]
        inside = xp.where(near, x, zeros)
        return xp.where(near, function(xp.arctanh(inside / cap) * cap, cap, *where), function(x, None, *where))

    if not masked:
        return along_last(rows)

    def implementation(x: Any, axis: Any = -1, where: Any = None) -> Any:
        xp = _namespace(x)
        everywhere = xp.zeros_like(x) == 0
        mask = everywhere if where is None else everywhere & where
        flat = xp.moveaxis(mask, axis, -1) if isinstance(axis, int) and x.ndim else mask
        return along_last(lambda x: rows(x, xp.reshape(flat, tuple(x.shape))))(x, axis)

    return implementation


def additive_mask(
    function: Callable[..., Any], *, fill: float | str = -math.inf, empty_rows: str = "nan"
) -> Implementation:
    """Test a function with an additive mask: 0 for entries that count, `fill` for the others.

    Parameters
    ----------
    function : callable
        ``function(x, mask, axis=-1)``, with a mask in the shape and dtype of the logits.
    fill : float or "lowest", optional
        -inf, or its substitute, such as -10000.0 or the lowest number of the dtype. The expected values are those for
        -inf, so a case in which the substitute has an effect fails.
    empty_rows : {"nan", "zeros", "uniform"}, optional
        The result for a row without entries.

    Returns
    -------
    callable
        ``implementation(x, axis=-1, where=None)``. Masked entries are first replaced by 0, because adding a mask to NaN
        cannot remove it.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax(x, mask, axis=-1):
    ...     x = x + mask
    ...     e = np.exp(x - x.max(axis, keepdims=True))
    ...     return e / e.sum(axis, keepdims=True)
    >>> report = conformance.check(forms.additive_mask(softmax), "softmax", level="quick", dtypes=["float32"])
    >>> report.passed
    True
    """

    def implementation(x: Any, axis: Any = -1, where: Any = None) -> Any:
        _one_axis(x, axis)
        xp = _namespace(x)
        zeros = xp.zeros_like(x)
        if where is None:
            return function(x, zeros, axis=axis)
        values, mask = _values(x), _values(where)
        if values is not None and mask is not None and not np.isfinite(np.where(mask != 0, values, 0.0)).all():
            message = "a mask that is added leaves nothing of a row in which NaN or an infinity takes part"
            raise NotImplementedError(message)
        lowest = -DTYPES[polylogit.get_backend(x).dtype_name(x)].max if fill == "lowest" else fill
        return function(xp.where(where, x, zeros), xp.where(where, zeros, zeros + lowest), axis=axis)

    return _declared(implementation, empty_rows)


def causal(function: Callable[[Any], Any], *, longest: int = 300) -> Implementation:
    """Test a function of square scores with a causal mask of its own, in which row `i` sees the entries up to `i`.

    A row of logits that ends in k entries of -inf becomes row ``n - k - 1`` of a square matrix, with large numbers
    instead of the -inf: the function's own mask must hide them.

    Parameters
    ----------
    function : callable
        ``function(scores) -> probabilities``, both of shape (batch, n, n).
    longest : int, optional
        The longest row to test; each needs a square matrix.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def causal_softmax(scores):
    ...     scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf).astype(scores.dtype)
    ...     e = np.exp(scores - scores.max(-1, keepdims=True))
    ...     return e / e.sum(-1, keepdims=True)
    >>> conformance.check(forms.causal(causal_softmax), "softmax", level="quick", dtypes=["float32"]).passed
    True
    """

    def rows(x: Any) -> Any:
        n = x.shape[1]
        _at_most(n, longest, "entries in a row")
        _at_most(x.shape[0] * n * n, 1 << 24, "scores in squares")
        values, xp = _values(x), _namespace(x)
        last = np.full(len(x), n - 1)
        if values is not None:
            seen = ~np.isneginf(values)
            last = np.where(seen.any(1), n - 1 - np.argmax(seen[:, ::-1], axis=1), n - 1)
        place = _like(x, last[:, None, None] == np.arange(n)[None, :, None], "bool")
        beyond = _like(x, np.arange(n)[None] > last[:, None], "bool")
        row = xp.where(beyond, xp.zeros_like(x) + 30.0, x)[:, None, :]
        square = xp.where(place, row, xp.zeros_like(row))
        found = function(square)
        return xp.sum(xp.where(place, found, xp.zeros_like(found)), 1)

    return along_last(rows)


def attention(
    function: Callable[..., Any],
    *,
    through: str = "bias",
    empty_rows: str = "nan",
    longest: int = 1100,
) -> Implementation:
    """Test attention as the `polylogit.softmax` of its scores: with the identity as values, its output is the weights.

    Parameters
    ----------
    function : callable
        ``function(q, k, v, bias)`` if the logits are passed as an additive bias; ``function(q, k, v, mask)``, without
        a scale, if they are passed as products. Then q holds the logits, k is the identity, and the mask, True for
        entries that count, replaces -inf. q, k and v have two dimensions; add those of batch and heads.
    through : {"bias", "scores"}, optional
        How to pass the logits: as a bias, or as products of q and k.
    empty_rows : {"nan", "zeros", "uniform"}, optional
        The result for a row without entries. Attention in PyTorch gives zeros, in JAX uniform weights.
    longest : int, optional
        The longest row to test; the values are a square matrix of that size.

    Returns
    -------
    callable

    Examples
    --------
    >>> import torch
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def attention(q, k, v, bias):
    ...     q, k, v, bias = (part[None, None] for part in (q, k, v, bias))
    ...     return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0, 0]
    >>> softmax = forms.attention(attention, empty_rows="zeros")
    >>> softmax(torch.tensor([[0.0, 0.0, -torch.inf]]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    if through not in ("bias", "scores"):
        message = f'through={through!r} does not exist; scores come through "bias" or "scores".'
        raise ValueError(message)

    def rows(x: Any) -> Any:
        count, n = x.shape
        _at_most(n, longest, "entries in a row")
        xp, identity = _namespace(x), _like(x, np.eye(n))
        if through == "bias":
            return function(_like(x, np.zeros((count, n))), _like(x, np.zeros((n, n))), identity, x)
        mask = x != -math.inf
        return function(xp.where(mask, x, xp.zeros_like(x)), identity, identity, mask)

    return _declared(along_last(rows), empty_rows)


# --- losses -----------------------------------------------------------------------------------------------------------


def cross_entropy(
    function: Callable[..., Any],
    *,
    reduction: str = "none",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weights: bool = False,
    longest: int = 300,
) -> Implementation:
    """Test a cross-entropy as the `polylogit.log_softmax` of its logits, the loss of each class in turn.

    Each class of each row becomes a separate sample, so the incoming gradient differs from sample to sample. For
    `ignore_index`, an ignored sample is added to each row; its loss and gradient must be 0. With a reduction, each
    sample is a separate call, together with a sample whose loss is exactly 0 (or with a copy of itself if labels are
    smoothed), and the loss is divided by its share.

    Parameters
    ----------
    function : callable
        ``function(logits, targets, **options)`` for logits of shape (samples, classes) and integer targets of shape
        (samples,). ``reduction`` is always passed; ``ignore_index``, ``label_smoothing`` and ``weight`` (an array of
        shape (classes,)) only if they are set here. Losses may have a wider dtype than the logits.
    reduction : {"none", "mean", "sum"}, optional
        The reduction to test.
    ignore_index : int, optional
        A number that is no class of the cases: below 0, or above `longest`.
    label_smoothing : float, optional
        Smoothed losses are a linear map of the plain ones. It is inverted for rows in which that loses no accuracy: the
        logits lie at most 1 - log(label_smoothing) apart, so no probability is much smaller than the smoothing term.
        All other rows are tested without smoothing.
    weights : bool, optional
        Whether to pass class weights: powers of two, so that dividing losses by them is exact.
    longest : int, optional
        The largest number of classes to test.

    Returns
    -------
    callable

    Examples
    --------
    >>> import torch
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> loss = torch.nn.functional.cross_entropy
    >>> log_softmax = forms.cross_entropy(loss, reduction="mean", ignore_index=-100, weights=True)
    >>> log_softmax(torch.tensor([[0.0, 0.0]]))
    tensor([[-0.6931, -0.6931]])
    """
    options = _loss_options(reduction, ignore_index, label_smoothing)
    ask = _unreduced if reduction == "none" else _reduced

    def rows(x: Any) -> Any:
        n = x.shape[1]
        _usable_classes(n, longest, ignore_index)
        xp, weight = _namespace(x), _weights(n, weights=weights)
        given = {**options, "reduction": reduction, **({"weight": _like(x, weight)} if weights else {})}
        found = ask(function, x, weight, given)
        if label_smoothing:
            near = _smoothable(x, label_smoothing)
            given["label_smoothing"] = label_smoothing
            mixed = ask(function, xp.where(near, x, xp.zeros_like(x)), weight, given)
            # L_j = (1 - a) l_j + a / n sum l, and the sum of both is the same.
            whole = xp.sum(mixed, 1)[:, None]
            found = xp.where(near, (mixed - whole * (label_smoothing / n)) / (1.0 - label_smoothing), found)
        return _cast(-found / _like(found, weight), x)

    return along_last(rows)


def _loss_options(reduction: str, ignore_index: int | None, label_smoothing: float) -> dict[str, Any]:
    if reduction not in ("none", "mean", "sum"):
        message = f'reduction={reduction!r} does not exist; the reductions are "none", "mean" and "sum".'
        raise ValueError(message)
    if not 0.0 <= label_smoothing < 1.0:
        message = f"label_smoothing={label_smoothing!r} leaves nothing of a loss; it is 0 or more, and less than 1."
        raise ValueError(message)
    return {} if ignore_index is None else {"ignore_index": ignore_index}


def _usable_classes(n: int, longest: int, ignore_index: int | None) -> None:
    _at_most(n, longest, "classes")
    if ignore_index is not None and 0 <= ignore_index < n:
        message = f"ignore_index={ignore_index} is one of {n} classes, whose loss could not be asked for"
        raise NotImplementedError(message)


def _weights(n: int, *, weights: bool) -> Array:
    return np.asarray(2.0 ** (np.arange(n) % 3 - 1.0) if weights else np.ones(n))


def _smoothable(x: Any, label_smoothing: float) -> Any:
    """Which rows, in shape (rows, 1), have no probability smaller than a third of the smoothing term."""
    return _highest(x) + _highest(-x) <= 1.0 - math.log(label_smoothing)


def _each_class(x: Any) -> Any:
    """Every row once for each class, made by doubling, so that the gradients of the copies are added in pairs.

    For 16 bits the rows are widened first, so that their gradients are added in the wider dtype.
    """
    backend, xp, (count, n) = polylogit.get_backend(x), _namespace(x), x.shape
    _at_most(count * n * n, 1 << 25, "logits of samples")
    dtype = DTYPES[backend.dtype_name(x)]
    copies = (backend.asarray(x, dtype=dtype.wide.name) if dtype.wide.precision > dtype.precision else x)[:, None]
    while copies.shape[1] < n:
        copies = xp.concatenate([copies, copies], 1)
    return _cast(xp.reshape(copies[:, :n], (count * n, n)), x)


def _unreduced(function: Callable[..., Any], x: Any, _weight: Array, given: dict[str, Any]) -> Any:
    """The loss of each class of each row; the loss of an ignored sample, which should be 0, is added to its row."""
    xp, (count, n) = _namespace(x), x.shape
    samples, targets = _each_class(x), np.tile(np.arange(n), count)
    if "ignore_index" in given:
        samples, targets = xp.concatenate([samples, x], 0), np.append(targets, [given["ignore_index"]] * count)
    found = function(samples, _indices(x, targets), **given)
    losses = xp.reshape(found[: count * n], (count, n))
    return losses + found[count * n :][:, None] if "ignore_index" in given else losses


def _batch(xp: Any, x: Any, row: int, target: int, given: dict[str, Any]) -> tuple[Any, Array, float]:
    """A batch with one sample and others: logits, targets, and how often the sample counts."""
    sample, n = x[row : row + 1], x.shape[1]
    if given.get("label_smoothing"):  # with smoothing no loss is exactly 0
        beside, which, times = sample, target, 2.0
    else:
        beside, which, times = _like(x, [[0.0, *[-1e4] * (n - 1)]]), 0, 1.0
    ignored = [sample] if "ignore_index" in given else []
    targets = [target, which, *([given["ignore_index"]] if ignored else [])]
    return xp.concatenate([sample, beside, *ignored], 0), np.array(targets), times


def _share(targets: Array, weight: Array, reduction: str) -> float:
    """The divisor of the losses of a batch."""
    return float(weight[targets[:2]].sum()) if reduction == "mean" else 1.0


def _reduced(function: Callable[..., Any], x: Any, weight: Array, given: dict[str, Any]) -> Any:
    """The same, with a separate reduced loss for each sample."""
    xp, (count, n) = _namespace(x), x.shape
    _at_most(count * n, 1 << 9, "samples, each a call")
    found = []
    for row, target in np.ndindex(count, n):
        samples, targets, times = _batch(xp, x, row, target, given)
        loss = function(samples, _indices(x, targets), **given)
        found.append(loss * (_share(targets, weight, given["reduction"]) / times))
    return xp.reshape(xp.stack(found, 0), (count, n))


def cross_entropy_vjp(
    backward: Callable[..., Any],
    *,
    reduction: str = "none",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weights: bool = False,
    longest: int = 300,
) -> Callable[..., Any]:
    """Test the backward function of a cross-entropy as the ``vjp`` of `polylogit.log_softmax`.

    Use it if no framework can differentiate the loss.

    Parameters
    ----------
    backward : callable
        ``backward(logits, targets, upstream, **options) -> gradient`` for logits of shape (samples, classes), targets
        of shape (samples,) and the gradient of the loss: of shape (samples,), or a number if losses are reduced.
        The options are those of `cross_entropy`; ``reduction`` is passed unless it is "none".
    reduction, ignore_index, label_smoothing, weights, longest
        As in `cross_entropy`.

    Returns
    -------
    callable
        ``vjp(x, cotangent, axis=-1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit.conformance import forms
    >>> def backward(logits, targets, upstream):
    ...     p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    ...     p[np.arange(len(targets)), targets] -= 1
    ...     return p * upstream[:, None]
    >>> forms.cross_entropy_vjp(backward)(np.zeros((1, 2)), np.array([[1.0, 0.0]]))
    array([[ 0.5, -0.5]])
    """
    options = _loss_options(reduction, ignore_index, label_smoothing)
    ask = _unreduced_vjp if reduction == "none" else _reduced_vjp
    if reduction != "none":
        options["reduction"] = reduction

    def vjp(x: Any, cotangent: Any, axis: Any = -1) -> Any:
        _one_axis(x, axis)
        n = x.shape[axis]
        _usable_classes(n, longest, ignore_index)
        xp, weight = _namespace(x), _weights(n, weights=weights)
        moved, back = xp.moveaxis(x, axis, -1), polylogit.get_backend(x)
        rows = xp.reshape(moved, (-1, n))
        given = {**options, **({"weight": _like(x, weight)} if weights else {})}
        # On the host, in at least float64: the form's own sums must not add to the error that is tested.
        upstream = -np.moveaxis(back.to_numpy(cotangent).astype(np.float64), axis, -1).reshape(-1, n) / weight
        if not label_smoothing:
            found = ask(backward, rows, upstream, weight, given)
        else:
            near = _smoothable(rows, label_smoothing)
            some = back.to_numpy(near)
            zeros = xp.zeros_like(rows)
            found = ask(backward, xp.where(near, zeros, rows), np.where(some, 0.0, upstream), weight, given)
            given["label_smoothing"] = label_smoothing
            upstream = upstream - label_smoothing / n * upstream.sum(-1, keepdims=True)
            upstream = np.where(some, upstream / (1.0 - label_smoothing), 0.0)
            found = found + ask(backward, xp.where(near, rows, zeros), upstream, weight, given)
        return _like(x, np.moveaxis(found.reshape(tuple(moved.shape)).astype(np.float64), -1, axis))

    return vjp


def _unreduced_vjp(
    backward: Callable[..., Any], x: Any, upstream: Array, _weight: Array, given: dict[str, Any]
) -> Array:
    """The gradient of each row: the sum over its samples, including the ignored one, whose own should be 0."""
    xp, (count, n) = _namespace(x), x.shape
    samples, targets, weighed = _each_class(x), np.tile(np.arange(n), count), upstream.ravel()
    if "ignore_index" in given:
        samples, targets = xp.concatenate([samples, x], 0), np.append(targets, [given["ignore_index"]] * count)
        weighed = np.append(weighed, np.abs(upstream).sum(1))
    found = backward(samples, _indices(x, targets), _like(x, weighed), **given)
    gradients = polylogit.get_backend(x).to_numpy(found).astype(np.float64)
    whole: Array = gradients[: count * n].reshape(count, n, n).sum(1, dtype=np.longdouble)
    return whole + gradients[count * n :] if "ignore_index" in given else whole


def _reduced_vjp(backward: Callable[..., Any], x: Any, upstream: Array, weight: Array, given: dict[str, Any]) -> Array:
    """The same, with a separate reduced loss for each sample."""
    xp, (count, n) = _namespace(x), x.shape
    _at_most(count * n, 1 << 9, "samples, each a call")
    whole = np.zeros((count, n), np.longdouble)
    for row, target in np.ndindex(count, n):
        samples, targets, times = _batch(xp, x, row, target, given)
        scalar = upstream[row, target] * _share(targets, weight, given["reduction"]) / times
        found = backward(samples, _indices(x, targets), _like(x, scalar), **given)
        gradients = polylogit.get_backend(x).to_numpy(found).astype(np.float64)
        whole[row] += gradients[[0, 1] if times == 2.0 else [0]].sum(0) + gradients[2:].sum(0)
    return whole
