"""The backend: the three operations and their derivatives in plain Python, row by row, sums by ``math.fsum``."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from polylogit.errors import DifferentiationError, DTypeError
from polylogit.extend import (
    Backend,
    check_floating,
    check_logits_dtype,
    check_mask,
    check_mask_shape,
    host_array,
    normalize_axis,
)
from polylogit_ledger.ledger import Ledger

FLOATS = ("float64", "float32")


def exp(x):
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def softmax_row(row):
    top = max(row, default=0.0)
    if any(map(math.isnan, row)) or not math.isfinite(top):
        return [math.nan] * len(row)
    exponentials = [exp(x - top) for x in row]
    total = math.fsum(exponentials)
    return [e / total for e in exponentials]


def log_softmax_row(row):
    if not row:
        return []
    top = max(row)
    if any(map(math.isnan, row)) or not math.isfinite(top):
        return [math.nan] * len(row)
    first = row.index(top)
    rest = math.fsum(exp(x - top) for i, x in enumerate(row) if i != first)
    return [(x - top) - math.log1p(rest) for x in row]


def sigmoid_one(x):
    if x < 0:
        e = math.exp(x)
        return e / (1 + e)
    return 1 / (1 + math.exp(-x)) if x == x else x


def strides_of(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


def lines(shape, axes):
    """The positions of each row: lists of indices into the data."""
    strides = strides_of(shape)
    others = [a for a in range(len(shape)) if a not in axes]
    offsets = [
        sum(i * strides[a] for i, a in zip(at, axes, strict=True)) for at in product(*(range(shape[a]) for a in axes))
    ]
    for at in product(*(range(shape[a]) for a in others)):
        start = sum(i * strides[a] for i, a in zip(at, others, strict=True))
        yield [start + offset for offset in offsets]


def broadcast(mask, shape):
    check_mask(mask.dtype, mask.dtype == "bool")
    check_mask_shape(mask.shape, shape)
    sizes = (1,) * (len(shape) - mask.ndim) + mask.shape
    strides = [0 if size == 1 else stride for size, stride in zip(sizes, strides_of(sizes), strict=True)]
    return [bool(mask.data[sum(i * s for i, s in zip(at, strides, strict=True))]) for at in product(*map(range, shape))]


class LedgerBackend(Backend):
    name = "ledger"
    differentiates = False

    def owns(self, cls):
        return issubclass(cls, Ledger)

    # --- the operations ---

    def softmax(self, x, axis=-1, where=None, dtype=None):
        return self._along(x, axis, where, dtype, softmax_row, 0.0)

    def log_softmax(self, x, axis=-1, where=None, dtype=None):
        return self._along(x, axis, where, dtype, log_softmax_row, -math.inf)

    def sigmoid(self, x, dtype=None):
        return Ledger(map(sigmoid_one, x.data), x.shape, self._result(x, dtype))

    def _result(self, x, dtype):
        check_logits_dtype(x.dtype, "floating" if x.dtype in FLOATS else "integer")
        if dtype is None:
            return x.dtype if x.dtype in FLOATS else "float64"
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        check_floating(dtype, "floating" if name in FLOATS else "other")
        return name

    def _along(self, x, axis, where, dtype, kernel, masked):
        result = self._result(x, dtype)
        axes = normalize_axis(axis, x.ndim)
        mask = broadcast(where, x.shape) if where is not None else [True] * len(x.data)
        out = [masked] * len(x.data)
        for line in lines(x.shape, axes):
            kept = [i for i in line if mask[i]]
            for i, y in zip(kept, kernel([float(x.data[i]) for i in kept]), strict=True):
                out[i] = y
        return Ledger(out, x.shape, result)

    # --- arrays in and out ---

    def asarray(self, value, *, dtype=None, device=None):
        values = host_array(value)
        name = dtype or values.dtype.name
        if name not in (*FLOATS, "bool"):
            if values.dtype.kind not in "iu" or dtype not in (None, values.dtype.name):
                raise DTypeError(f"a Ledger holds float64, float32, int64 or bool, not {name}; pass one of those.")
            name = "int64"
        return Ledger(values.ravel().tolist(), values.shape, name)

    def to_numpy(self, x):
        return np.array(x.data, dtype=x.dtype).reshape(x.shape)

    def dtypes(self):
        return FLOATS

    def dtype_name(self, x):
        return x.dtype

    # --- derivatives, by the closed forms ---

    def _point(self, function, x, kwargs):
        cotangent = None
        if getattr(function, "__polylogit_gradient__", False):
            kwargs, cotangent, function = {**function.kwargs, **kwargs}, function.cotangent, function.operation
        operation = getattr(function, "__polylogit_operation__", None)
        if operation is None:
            raise DifferentiationError(
                f"{function!r} cannot be differentiated on a Ledger; use polylogit's operations."
            )
        y = function(x, **kwargs)
        mask = broadcast(kwargs["where"], x.shape) if kwargs.get("where") is not None else [True] * len(x.data)
        rows = [[i] for i in range(len(x.data))]
        if operation != "sigmoid":
            rows = list(lines(x.shape, normalize_axis(kwargs.get("axis", -1), x.ndim)))
        rows = [[i for i in row if mask[i]] for row in rows]
        kernel = softmax_row if operation != "sigmoid" else None
        p = [0.0] * len(x.data)
        for row in rows:
            values = [float(x.data[i]) for i in row]
            for i, value in zip(row, kernel(values) if kernel else map(sigmoid_one, values), strict=True):
                p[i] = value
        return y, DERIVATIVES[operation], p, [float(v) for v in x.data], rows, cotangent

    def _apply(self, x, rule, p, logits, rows, direction):
        out = [0.0] * len(p)
        g = direction.data
        for row in rows:
            for i, value in zip(
                row, rule([p[i] for i in row], [logits[i] for i in row], *([d[i] for i in row] for d in g)), strict=True
            ):
                out[i] = value
        return Ledger(out, x.shape, x.dtype if x.dtype in FLOATS else "float64")

    def vjp(self, function, x, kwargs):
        y, rules, p, logits, rows, first = self._point(function, x, kwargs)
        if first is None:
            return y, lambda g: self._apply(x, rules["vjp"], p, logits, rows, _Directions(g))
        slope = self._apply(x, rules["vjp"], p, logits, rows, _Directions(first))
        return slope, lambda h: self._apply(x, rules["second"], p, logits, rows, _Directions(first, h))

    def jvp(self, function, x, tangent, kwargs):
        y, rules, p, logits, rows, first = self._point(function, x, kwargs)
        if first is None:
            return y, self._apply(x, rules["jvp"], p, logits, rows, _Directions(tangent))
        slope = self._apply(x, rules["vjp"], p, logits, rows, _Directions(first))
        return slope, self._apply(x, rules["second"], p, logits, rows, _Directions(first, tangent))


class _Directions:
    def __init__(self, *directions):
        self.data = [direction.data for direction in directions]


def _mean(p, g):
    return math.fsum(a * b for a, b in zip(p, g, strict=True))


def _softmax_first(p, _, g):
    mean = _mean(p, g)
    return [a * (b - mean) for a, b in zip(p, g, strict=True)]


def _softmax_second(p, _, g, h):
    one, two = _mean(p, g), _mean(p, h)
    both = [(a - one) * (b - two) for a, b in zip(g, h, strict=True)]
    mean = _mean(p, both)
    return [a * (b - mean) for a, b in zip(p, both, strict=True)]


def _log_vjp(p, _, g):
    total = math.fsum(g)
    return [b - a * total for a, b in zip(p, g, strict=True)]


def _log_jvp(p, _, t):
    mean = _mean(p, t)
    return [b - mean for b in t]


def _log_second(p, x, g, h):
    total = math.fsum(g)
    return [-total * value for value in _softmax_first(p, x, h)]


def _slope(x):
    e = math.exp(-abs(x))
    return e / (1 + e) / (1 + e)


def _sigmoid_first(_, x, g):
    return [_slope(a) * b for a, b in zip(x, g, strict=True)]


def _sigmoid_second(_, x, g, h):
    return [-math.tanh(a / 2) * _slope(a) * b * c for a, b, c in zip(x, g, h, strict=True)]


DERIVATIVES = {
    "softmax": {"vjp": _softmax_first, "jvp": _softmax_first, "second": _softmax_second},
    "log_softmax": {"vjp": _log_vjp, "jvp": _log_jvp, "second": _log_second},
    "sigmoid": {"vjp": _sigmoid_first, "jvp": _sigmoid_first, "second": _sigmoid_second},
}
