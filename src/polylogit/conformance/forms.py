"""Forms: what softmax hides in, as one of the operations of the table, so that it is judged by the same exact values.

Each form takes a function of yours and returns an ``implementation(x, axis=-1)`` for `polylogit.conformance.check`. It
puts the logits in where the function wants them, exactly, and takes the answer out of what comes back, so that
whatever is wrong is the function's doing. Written in the arrays' own operations, a form is differentiated by their
framework. Knows a handful of functions by the names that NumPy gave them; nothing of checks or results.

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

    from polylogit._spec.dtypes import Finfo

    Implementation = Callable[..., Any]

__all__ = [
    "additive_mask",
    "along_last",
    "attention",
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

_POISON = (math.nan, 7.0)  # what an output buffer holds before: of two, one shows


# --- what forms are made of -------------------------------------------------------------------------------------------


def _namespace(x: Any) -> Any:
    """The functions of NumPy that the framework has under the same names; called by position here."""
    backend = polylogit.get_backend(x)
    if not backend.namespace:
        message = f"forms need NumPy's functions, and backend {backend.name} names no namespace that has them"
        raise NotImplementedError(message)
    return importlib.import_module(backend.namespace)


def _like(x: Any, values: Any, dtype: str | None = None) -> Any:
    """These values as an array of the framework and dtype of `x`, where `x` is."""
    backend = polylogit.get_backend(x)
    made = backend.asarray(np.asarray(values), dtype=dtype or backend.dtype_name(x))
    return made.to(x.device) if hasattr(made, "to") else made


def _values(x: Any) -> np.ndarray[Any, Any] | None:
    """The values on the host; None where a tracer has none."""
    try:
        return np.asarray(polylogit.get_backend(x).to_numpy(x)).astype(np.float64)
    except Exception:  # noqa: BLE001  whatever a framework raises for what has no values yet
        return None


def _one_axis(x: Any, axis: Any) -> None:
    """Refuse what no form is made for, as a kernel would."""
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
    """A function of rows as one of any axis: what most forms begin with.

    Parameters
    ----------
    rows : callable
        ``rows(x) -> array`` of the same shape, for an array of shape (rows, length).

    Returns
    -------
    callable
        ``implementation(x, axis=-1)``; one axis at a time.

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
    """The same, with what it says of rows in which nothing is left."""
    if empty_rows not in ("nan", "zeros", "uniform"):
        message = f'empty_rows={empty_rows!r} is no policy; write "nan", "zeros" or "uniform".'
        raise ValueError(message)
    implementation.conventions = {"empty-row": empty_rows, "masked-row": empty_rows}  # type: ignore[attr-defined]
    return implementation


# --- buffers ----------------------------------------------------------------------------------------------------------


def out(function: Callable[..., Any]) -> Implementation:
    """A function that writes its result into a buffer.

    The buffer holds NaN first and, in a second call, another number: a place that is not written, or added to, shows.

    Parameters
    ----------
    function : callable
        ``function(x, out, axis=-1)``; what it returns is not looked at.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, where two calls leave different bits.

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
        _floating(x)
        buffers = [_like(x, np.full(tuple(x.shape), poison)) for poison in _POISON]
        for buffer in buffers:
            function(x, buffer, axis=axis)
        first, second = (_values(buffer) for buffer in buffers)
        if first is not None and second is not None and not np.array_equal(first, second, equal_nan=True):
            message = "what was in the output buffer before shows in the result"
            raise ArithmeticError(message)
        return buffers[1]

    return implementation


def in_place(function: Callable[..., Any]) -> Implementation:
    """A function that overwrites its logits with the result.

    Parameters
    ----------
    function : callable
        ``function(x, axis=-1)``; what it returns is not looked at.

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
        _floating(x)
        copy = x.clone() if hasattr(x, "clone") else x.copy()
        function(copy, axis=axis)
        return copy

    return implementation


# --- sums of exponentials ---------------------------------------------------------------------------------------------


def log_sum_exp(function: Callable[..., Any], *, base: float = math.e) -> Implementation:
    """A function that returns, or also returns, the logarithm of the sum of exponentials: as `log_softmax`.

    It is taken of the logits less their maximum, where ``x - lse`` loses nothing, and compared with that of the logits
    as they are, which must be the same and the maximum.

    Parameters
    ----------
    function : callable
        ``function(x) -> lse`` or ``-> (anything, lse)`` for an array of shape (rows, length), `lse` of shape (rows,).
    base : float, optional
        Of the logarithm: some kernels return base 2.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, where the sum depends on the offset.

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

    def lse(x: Any) -> Any:
        found = function(x)
        return (found[-1] if isinstance(found, (tuple, list)) else found)[:, None]

    def rows(x: Any) -> Any:
        xp, highest = _namespace(x), _highest(x)
        shifted = xp.where(highest == -math.inf, x, x - highest)
        near = lse(shifted)
        _same_sum(x, highest, near, lse(x), unit)
        return shifted - near * unit

    return along_last(rows)


def _highest(x: Any) -> Any:
    xp = _namespace(x)
    return (xp.amax if hasattr(xp, "amax") else xp.max)(x, 1)[:, None]


def _coarsest(*arrays: Any) -> Finfo:
    """The narrowest dtype of these arrays."""
    named = [DTYPES[polylogit.get_backend(one).dtype_name(one)] for one in arrays]
    return max(named, key=lambda dtype: dtype.eps)


def _same_sum(x: Any, highest: Any, near: Any, far: Any, unit: float) -> None:
    """Refuse a sum that depends on an offset. Each of the two, the product with the unit and the sum are rounded."""
    top, low, high = (_values(one) for one in (highest, near, far))
    if top is None or low is None or high is None:
        return
    dtype = _coarsest(x, far)
    with np.errstate(all="ignore"):
        right = top / unit + low
        within = np.abs(high - right) <= 8.0 * dtype.eps * (1.0 + np.abs(top / unit) + np.abs(low))
        within |= (np.abs(right) > dtype.max * (1.0 - dtype.eps)) & (np.sign(high) == np.sign(right)) & np.isinf(high)
    if (~within & np.isfinite(top)).any():
        row = int(np.argmax(~within & np.isfinite(top)))
        message = f"the logarithm of the sum is {high.flat[row]!r} where {right.flat[row]!r} is right"
        raise ArithmeticError(message)


def _same_weights(x: Any, highest: Any, near: Any, far: Any) -> None:
    """Refuse weights that depend on an offset by more than its rounding."""
    top, low, high = (_values(one) for one in (highest, near, far))
    if top is None or low is None or high is None:
        return
    with np.errstate(all="ignore"):
        room = np.minimum(1.0, 8.0 * _coarsest(x, far).eps * (8.0 + x.shape[1] + np.abs(top)))
        within = (np.abs(high - low) <= room) | (np.isnan(low) & np.isnan(high))
    if (~within & np.isfinite(top)).any():
        row, entry = (int(one) for one in np.argwhere(~within & np.isfinite(top))[0])
        message = f"the weight is {high[row, entry]!r}; of the logits less {top[row, 0]!r} it is {low[row, entry]!r}"
        raise ArithmeticError(message)


def _cuts(n: int, splits: int) -> list[tuple[int, int]]:
    """Where a row is cut: about equal pieces, an empty one before the last, and one of a single entry first."""
    edges = sorted({0, min(1, n), *(n * part // splits for part in range(1, splits)), n})
    pieces = [*itertools.pairwise(edges)]
    return [*pieces[:-1], (edges[-2], edges[-2]), pieces[-1]]


def _together(states: list[Any], merge: Callable[[Any, Any], Any], order: str) -> Any:
    """The states merged from the left, from the right, or in pairs."""
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
    logarithm: bool = False,
) -> Implementation:
    """States ``(m, s)``, the maximum and the sum of exponentials less it, of splits of a row that are merged.

    Parameters
    ----------
    partial : callable
        ``partial(x) -> (m, s)``, each of shape (rows,), for a part of shape (rows, part).
    merge : callable
        ``merge(state, state) -> state``.
    splits : int, optional
    order : {"left", "right", "pairs"}, optional
        In which they are merged: the answer may not depend on it.
    empty : bool, optional
        Whether one of the parts has no entry at all; parts of nothing but -inf are among the cases in any event.
    logarithm : bool, optional
        Whether the implementation is a `log_softmax`.

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

    def rows(x: Any) -> Any:
        xp = _namespace(x)
        pieces = [cut for cut in _cuts(x.shape[1], splits) if empty or cut[0] < cut[1]]
        m, s = _together([partial(x[:, start:stop]) for start, stop in pieces], merge, order)
        if logarithm:
            return x - m[:, None] - xp.log(s)[:, None]
        return xp.exp(x - m[:, None]) / s[:, None]

    return along_last(rows)


def merged_attention(
    partial: Callable[[Any, Any], Any],
    merge: Callable[[Any, Any], Any],
    *,
    splits: int = 3,
    order: str = "left",
    empty: bool = True,
    empty_rows: str = "nan",
    longest: int = 1100,
) -> Implementation:
    """States ``(out, lse)`` of splits of attention that are merged, as `softmax`.

    Parameters
    ----------
    partial : callable
        ``partial(scores, values) -> (out, lse)`` for scores of shape (rows, part) and values of shape (part, width):
        `out` of shape (rows, width), `lse` of shape (rows,) in whatever base `merge` takes it. Such a state rounds to
        the size of its `lse`, so that rows whose maximum is beyond 8 are judged less their maximum; as they are, they
        must give the same to what that rounding leaves.
    merge : callable
        ``merge(state, state) -> state``.
    splits, order, empty
        As in `merged`.
    empty_rows : {"nan", "zeros", "uniform"}, optional
        What a row of nothing but -inf gives.
    longest : int, optional
        Rows are refused beyond it: the values are a square of that side.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, where the result depends on the offset by more than rounding.

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

    def rows(x: Any) -> Any:
        n = x.shape[1]
        _at_most(n, longest, "entries in a row")
        identity = _like(x, np.eye(n))
        pieces = [cut for cut in _cuts(n, splits) if empty or cut[0] < cut[1]]

        def all_of(x: Any) -> Any:
            return _together([partial(x[:, i:j], identity[i:j]) for i, j in pieces], merge, order)[0]

        xp, highest = _namespace(x), _highest(x)
        far = (abs(highest) > 8.0) & (abs(highest) < math.inf)
        near = all_of(xp.where(far, x - highest, x))
        _same_weights(x, highest, near, all_of(x))
        return near

    return _declared(along_last(rows), empty_rows)


# --- scores and masks -------------------------------------------------------------------------------------------------


def scaled(function: Callable[..., Any], *, scale: float = 0.125) -> Implementation:
    """A function with a scale of its own, ``softmax(scale * x)``.

    Parameters
    ----------
    function : callable
        ``function(x, scale, axis=-1)``.
    scale : float, optional
        A power of two, so that the logits can be divided by it exactly. Rows that this takes out of the range of the
        dtype are asked with a scale of 1.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> from polylogit.conformance import forms
    >>> def softmax(x, scale, axis=-1):
    ...     x = x * x.dtype.type(scale)
    ...     e = np.exp(x - x.max(axis, keepdims=True))
    ...     return e / e.sum(axis, keepdims=True)
    >>> conformance.check(forms.scaled(softmax, scale=0.25), "softmax", level="quick", dtypes=["float64"]).passed
    True
    """
    if not (scale > 0 and math.frexp(scale)[0] == 0.5):
        message = f"scale={scale!r} is no power of two, by which logits can be divided exactly; write 0.125, or 2.0."
        raise ValueError(message)

    def rows(x: Any) -> Any:
        xp = _namespace(x)
        divided = x * (1.0 / scale)
        back = divided * scale
        lost = ((back != x) & (x == x)).any(1) if hasattr(x, "any") else xp.any((back != x) & (x == x), 1)
        kept = xp.where(lost[:, None], xp.zeros_like(x), divided)
        return xp.where(lost[:, None], function(x, 1.0), function(kept, scale))

    return along_last(rows)


def additive_mask(function: Callable[..., Any], *, fill: float = -math.inf, empty_rows: str = "nan") -> Implementation:
    """A function of logits and a mask that is added: 0 where an entry takes part, `fill` where not.

    Parameters
    ----------
    function : callable
        ``function(x, mask, axis=-1)``, the mask of the shape and dtype of the logits.
    fill : float, optional
        -inf, or the number that stands for it; the contract's answer is that of -inf.
    empty_rows : {"nan", "zeros", "uniform"}, optional
        What a row gives in which nothing takes part.

    Returns
    -------
    callable
        ``implementation(x, axis=-1, where=None)``. What is masked out is replaced by 0 first: what is added to NaN
        cannot hide it.

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
        return function(xp.where(where, x, zeros), xp.where(where, zeros, zeros + fill), axis=axis)

    return _declared(implementation, empty_rows)


def causal(function: Callable[[Any], Any], *, longest: int = 300) -> Implementation:
    """A function of a square of scores in which row `i` sees the entries up to `i`.

    A row of logits that ends in k entries of -inf stands as row ``n - k - 1`` of a square, with large numbers where
    the -inf were: there the function's own mask has to put them.

    Parameters
    ----------
    function : callable
        ``function(scores) -> probabilities``, both of shape (batch, n, n).
    longest : int, optional
        Rows are refused beyond it: each needs a square.

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
        return (
            xp.where(place, found, xp.zeros_like(found)).sum(1)
            if hasattr(found, "sum")
            else xp.sum(xp.where(place, found, xp.zeros_like(found)), 1)
        )

    return along_last(rows)


def attention(
    function: Callable[..., Any],
    *,
    through: str = "bias",
    empty_rows: str = "nan",
    longest: int = 1100,
) -> Implementation:
    """Attention, as the `softmax` of its scores: the values are the identity, so that the output is the probabilities.

    Parameters
    ----------
    function : callable
        ``function(q, k, v, bias)`` where the scores come through a bias that is added; or ``function(q, k, v, mask)``,
        without a scale, where they come as products: q are the logits, k the identity, and the mask, True where an
        entry takes part, has the place of -inf. q, k and v have two dimensions; add those of batch and heads.
    through : {"bias", "scores"}, optional
    empty_rows : {"nan", "zeros", "uniform"}, optional
        What a row gives in which nothing takes part. Attention in PyTorch gives zeros, in JAX uniform weights.
    longest : int, optional
        Rows are refused beyond it: the values are a square of that side.

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
    """A cross-entropy with class indices, as the `log_softmax` of its logits: the loss of each class in turn.

    Each class of each row is a sample of its own, so that the gradient that comes from above is another for each.
    Beside it, where the losses are reduced, stand a sample whose loss is exactly 0 and, where there is an index to
    ignore, one that is ignored.

    Parameters
    ----------
    function : callable
        ``function(logits, targets, **options)`` for logits of shape (samples, classes) and integer targets of shape
        (samples,); of the options ``reduction``, ``ignore_index``, ``label_smoothing`` and ``weight`` (an array of
        shape (classes,)) it is passed those that are asked for here.
    reduction : {"none", "mean", "sum"}, optional
        With a reduction each sample is a call.
    ignore_index : int, optional
    label_smoothing : float, optional
        Of values alone, since what it mixes into a gradient drowns the small ones. Rows whose logits are further apart
        than its inverse, where that happens to values, are asked without.
    weights : bool, optional
        Whether to pass class weights: powers of two, by which losses can be divided exactly.
    longest : int, optional
        More classes are refused.

    Returns
    -------
    callable

    Raises
    ------
    ArithmeticError
        By the implementation, where the loss of an ignored sample is not 0.

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
    if reduction not in ("none", "mean", "sum"):
        message = f'reduction={reduction!r} does not exist; the reductions are "none", "mean" and "sum".'
        raise ValueError(message)
    options: dict[str, Any] = {"reduction": reduction}
    if ignore_index is not None:
        options["ignore_index"] = ignore_index

    def losses(x: Any, **more: Any) -> Any:
        """The loss of each class of each row, of shape (rows, classes), divided by its weight."""
        xp, (count, n) = _namespace(x), x.shape
        weight = 2.0 ** (np.arange(n) % 3 - 1.0) if weights else np.ones(n)
        given = {**options, **more, **({"weight": _like(x, weight)} if weights else {})}
        if reduction == "none":
            return _unreduced(function, x, weight, given, ignore_index)
        _at_most(count * n, 1 << 13, "samples, each a call")
        certain = _like(x, [[0.0, *[-math.inf] * (n - 1)]])
        found = []
        for row, target in np.ndindex(count, n):
            sample = x[row : row + 1]
            ignored = [] if ignore_index is None else [(sample, ignore_index)]
            # Smoothing makes no loss of a sample exactly 0.
            beside = [] if more.get("label_smoothing") else [(certain, 0)]
            batch = [(sample, target), *beside, *ignored]
            targets = _like(x, np.array([which for _, which in batch]), "int64")
            loss = function(xp.concatenate([one for one, _ in batch], 0), targets, **given)
            share = 1.0 if reduction == "sum" else 1.0 / (weight[target] + sum(weight[which] for _, which in beside))
            found.append(loss * float(1.0 / (share * weight[target])))
        return xp.reshape(xp.stack(found, 0), (count, n))

    def rows(x: Any) -> Any:
        xp, n = _namespace(x), x.shape[1]
        _at_most(n, longest, "classes")
        plain = -losses(x)
        if not label_smoothing:
            return plain
        values = _values(x)
        if values is None:
            return plain
        with np.errstate(all="ignore"):
            near = np.isfinite(values).all(1) & (np.ptp(values, axis=1) <= 1.0 / label_smoothing)
        mask = _like(x, near[:, None], "bool")
        smooth = losses(xp.where(mask, x, xp.zeros_like(x)), label_smoothing=label_smoothing)
        # L_j = -(1 - a) r_j - a / n sum r, whose sum over all classes is -sum r.
        whole = xp.sum(smooth, 1)[:, None]
        unmixed = -(smooth - whole * (label_smoothing / n)) * (1.0 / (1.0 - label_smoothing))
        found = _values(xp.where(mask, unmixed, plain))
        return plain if found is None else _like(x, found)

    return along_last(rows)


def _unreduced(function: Any, x: Any, weight: Any, options: dict[str, Any], ignore_index: int | None) -> Any:
    xp, (count, n) = _namespace(x), x.shape
    _at_most(count * n * n, 1 << 25, "logits of samples")
    targets = np.tile(np.arange(n), count)
    samples = xp.reshape(xp.stack([x] * n, 1), (count * n, n))
    if ignore_index is not None:
        samples, targets = xp.concatenate([samples, x], 0), np.append(targets, np.full(count, ignore_index))
    found = function(samples, _like(x, targets, "int64"), **options)
    ignored = _values(found[count * n :])
    if ignored is not None and (ignored != 0).any():
        message = f"the loss of a sample to be ignored is {ignored[ignored != 0][0]!r}; it should be 0"
        raise ArithmeticError(message)
    return xp.reshape(found[: count * n], (count, n)) * _like(x, 1.0 / weight)


def cross_entropy_vjp(backward: Callable[..., Any], *, longest: int = 300) -> Callable[..., Any]:
    """The backward of a cross-entropy without reduction, as the ``vjp`` of `log_softmax`.

    Parameters
    ----------
    backward : callable
        ``backward(logits, targets, upstream) -> gradient`` for logits of shape (samples, classes), targets and the
        gradient of each sample's loss of shape (samples,).
    longest : int, optional
        More classes are refused.

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

    def vjp(x: Any, cotangent: Any, axis: Any = -1) -> Any:
        _one_axis(x, axis)
        xp = _namespace(x)
        moved, g = xp.moveaxis(x, axis, -1), xp.moveaxis(cotangent, axis, -1)
        n = moved.shape[-1]
        _at_most(n, longest, "classes")
        _at_most(math.prod(x.shape) * n, 1 << 25, "logits of samples")
        flat, upstream = xp.reshape(moved, (-1, n)), xp.reshape(g, (-1,))
        samples = xp.reshape(xp.stack([flat] * n, 1), (-1, n))
        targets = _like(x, np.tile(np.arange(n), len(flat)), "int64")
        # On the host, in float64: a sum of the form's own must not add to what is judged.
        found = polylogit.get_backend(x).to_numpy(backward(samples, targets, -upstream))
        gradient = _like(x, found.astype(np.float64).reshape(-1, n, n).sum(1).reshape(tuple(moved.shape)))
        return xp.moveaxis(gradient, -1, axis)

    return vjp
