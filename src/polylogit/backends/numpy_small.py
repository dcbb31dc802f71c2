"""softmax, log_softmax and sigmoid of NumPy arrays so small that setting up blocks would take longer than computing.

The tables are by dtype; what is not in them is not served here. The results meet the same bounds as those of
`numpy_operations`, from which they may differ in the last bit. It knows NumPy alone.
"""

from __future__ import annotations

import contextvars
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy import add, divide, exp, minimum, multiply, reciprocal, subtract  # a look-up less at each call

from polylogit.backends.numpy_arithmetic import RARELY, TAME, careful_sum, log_softmax_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.backends.numpy_geometry import AnyArray

__all__ = ["LOG_SOFTMAX", "SIGMOID", "SIZE", "SOFTMAX", "quietly"]

SIZE = 4096  # elements
_FEW = 16

_LOWEST, _HIGHEST = TAME
_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_ONES = {dtype: np.ones(SIZE, dtype) for dtype in (_FLOAT32, _FLOAT64)}
# Arrays without dimensions: a ufunc takes them faster than Python's numbers and NumPy's scalars.
_ONE, _MINUS_ONE, _BEYOND_ONE = np.array(1.0), np.array(-1.0), np.array(88.0)


# --- without warnings ------------------------------------------------------------------------------------------------

# Entering np.errstate takes as long as an exponential of eight numbers; running in a context in which it has been
# entered takes a third of that. A context can be entered by one call at a time, so they are lent and taken back.
_contexts: list[contextvars.Context] = []


def quietly(function: Callable[[AnyArray, int], AnyArray], x: AnyArray, axis: int) -> AnyArray:
    """``function(x, axis)``, silent about floating-point exceptions whatever the caller has set."""
    # Not for any arguments: packing and unpacking them would take longer than all the rest here.
    try:
        context = _contexts.pop()
    except IndexError:
        context = contextvars.Context()
        context.run(_hush)
    try:
        return context.run(function, x, axis)
    finally:
        _contexts.append(context)


def _hush() -> None:
    np.seterr(all="ignore")
    np.setbufsize(256)  # as numpy_geometry does


# --- the operations --------------------------------------------------------------------------------------------------


def _softmax(x: AnyArray, axis: int) -> AnyArray:
    if x.size == x.shape[axis]:
        return _softmax_of_one(x) if x.ndim == 1 else _softmax_of_one(x.reshape(-1)).reshape(x.shape)
    # As in numpy_operations: no shift where none is needed. It is needed nowhere if all entries lie in that range.
    if x.item(x.argmin()) >= _LOWEST and x.item(x.argmax()) <= _HIGHEST:
        y = exp(x)
    else:
        top = np.maximum.reduce(x, axis, keepdims=True)
        tame = (top >= _LOWEST) & (top <= _HIGHEST)
        y = exp(x) if tame.all() else np.where(tame, exp(x), _shifted_exp(x, top))
    return divide(y, _sum(y, axis), y)


def _shifted_exp(x: AnyArray, shift: AnyArray | float) -> AnyArray:
    """As that of numpy_arithmetic, by way of float64 or with the error of the difference."""
    if x.dtype is _FLOAT32:
        return np.asarray(exp(subtract(x, shift, dtype=_FLOAT64)).astype(_FLOAT32))
    distance = subtract(x, shift)
    back = subtract(distance, x)
    lost = (x - (distance - back)) - (back + shift)
    y = exp(distance)
    return np.asarray(y + y * np.fmax(lost, -1))


def _sum(y: AnyArray, axis: int) -> AnyArray:
    if y.shape[axis] > _FEW:
        # NumPy adds in pairs along contiguous rows only; elsewhere the error grows with the length.
        y = np.ascontiguousarray(y.swapaxes(axis, -1))
        return np.asarray(add.reduce(y, -1, keepdims=True)).swapaxes(axis, -1)
    return np.asarray(add.reduce(y, axis, keepdims=True))


def _softmax_of_one(x: AnyArray) -> AnyArray:
    top = x.item(x.argmax())
    y = exp(x) if _LOWEST <= top <= _HIGHEST else _shifted_exp(x, top)
    out: AnyArray = divide(y, y.dot(_ONES[y.dtype][: x.size]), y)
    return out


def _log_softmax(x: AnyArray, axis: int) -> AnyArray:
    """In float64: of float32 nothing is lost there, and of float64 `careful_sum` sees to what is."""
    if x.size == x.shape[axis]:
        return _log_softmax_of_one(x) if x.ndim == 1 else _log_softmax_of_one(x.reshape(-1)).reshape(x.shape)
    out = np.empty_like(x)
    turned = x.swapaxes(axis, -1)
    rows = np.ascontiguousarray(turned.reshape(-1, turned.shape[-1]))
    out.swapaxes(axis, -1)[...] = log_softmax_of_rows(rows).reshape(turned.shape)
    return out


def _log_softmax_of_one(x: AnyArray) -> AnyArray:
    place = x.argmax()
    top = x.item(place)
    distances = subtract(x, top, dtype=_FLOAT64)
    terms = exp(distances)
    terms[place] = 0
    rest = terms.dot(_ONES[_FLOAT64][: x.size]).item()
    if rest < RARELY and x.dtype is not _FLOAT32:
        below, ties = careful_sum(x[None], np.array([[top]]))[:, 0].tolist()
        rest = below + (ties - 1)
    # Infinity less infinity: all is NaN where the maximum is not finite.
    logarithm = math.log1p(rest) + (top - top)
    out: AnyArray = subtract(distances, logarithm, distances).astype(x.dtype, copy=False)
    return out


def _sigmoid(x: AnyArray, _: int) -> AnyArray:
    y = minimum(x, _BEYOND_ONE)
    exp(y, y)
    below = add(y, _ONE)
    out: AnyArray = divide(y, below, y)
    return out


def _sigmoid_of_float32(x: AnyArray, _: int) -> AnyArray:
    # A product with a float64 is one, without a cast beside it.
    y = multiply(x, _MINUS_ONE)
    exp(y, y)
    add(y, _ONE, y)
    out: AnyArray = reciprocal(y, y).astype(_FLOAT32)
    return out


SOFTMAX = {_FLOAT32: _softmax, _FLOAT64: _softmax}
LOG_SOFTMAX = {_FLOAT32: _log_softmax, _FLOAT64: _log_softmax}
SIGMOID = {_FLOAT32: _sigmoid_of_float32, _FLOAT64: _sigmoid}
