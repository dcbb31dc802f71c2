"""Exact values and derivatives of the operations, and how far from them a correct result may be.

The tests of the contract compare with these and never with another backend. They are computed apart from polylogit and
its conformance kit, by the definitions: float64 logits by mpmath with 200 bits, all else (and rows too long for mpmath)
by NumPy's 80-bit extended precision, which has 11 bits more than float64 and 40 more than float32.

A result that is computed in a wider precision than its own and rounded once at the end may be off by half an ulp of
its own precision and by the bound of the wider one; nothing here allows it more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import mpmath
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

# More elements than this take too long in mpmath.
_MPMATH_LIMIT = 20_000

# Logits beyond which a sigmoid is 0 or 1 in every precision.
_FAR = 5000.0


def _elementwise(function: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """`function` of each element as an array of objects, also for a 0-d and an empty array."""
    apply = np.frompyfunc(function, 1, 1)

    def elementwise(values: Any) -> Array:
        with np.errstate(invalid="ignore"):  # NumPy warns where a NaN is made, by whatever function
            return np.asarray(apply(values), dtype=object).reshape(np.shape(values))

    return elementwise


_exp = _elementwise(mpmath.exp)
_log = _elementwise(mpmath.log)
_mpf = _elementwise(mpmath.mpf)


class Expected(NamedTuple):
    """Exact values, the error allowed to each, and below which size a result may be 0."""

    value: Array
    tolerance: Array
    flush: float


class Precision(NamedTuple):
    """What a floating dtype can tell apart."""

    name: str
    eps: float
    tiny: float
    smallest: float

    @property
    def flush_scale(self) -> int:
        return 1 if self.eps > 2**-20 else 4


def precision(name: str) -> Precision:
    kind = np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)
    info = ml_dtypes.finfo(kind)
    return Precision(name, float(info.eps), float(info.smallest_normal), float(info.smallest_subnormal))


def computed_in(result: str, given: str) -> str:
    """The precision in which the contract has a result computed."""
    return "float64" if "float64" in (result, given) else "float32"


def largest(dtype: Any) -> float:
    """The largest finite number; a value beyond it is rounded to an infinity."""
    return float(ml_dtypes.finfo(dtype).max)


def flushed_in(result: Precision, compute: Precision) -> Precision:
    """Whose subnormal numbers may be flushed: a result that is rounded once from a wider precision keeps its own."""
    return compute if result.eps > compute.eps else result


def ulp(value: Array, of: Precision) -> Array:
    """The spacing of the dtype's numbers at each value."""
    _, exponent = np.frexp(np.abs(value.astype(np.longdouble)))
    return np.maximum(np.ldexp(np.longdouble(of.eps), exponent - 1), of.smallest)


class _Rows(NamedTuple):
    """Logits as rows of entries that take part together, and how to get back."""

    x: Array
    mask: Array
    back: Callable[[Array], Array]


def _arithmetic(x: Array) -> Array:
    if x.dtype == object:  # numbers of mpmath's already
        return x
    if x.dtype == np.float64 and x.size <= _MPMATH_LIMIT:
        mpmath.mp.prec = 200
        return _mpf(x.astype(object))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return x.astype(np.longdouble)


def _rows(x: Array, axes: tuple[int, ...], mask: Any) -> tuple[_Rows, Callable[[Any], Array]]:
    axes = tuple(axis % max(x.ndim, 1) for axis in axes) if x.ndim else ()
    order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
    kept = [x.shape[axis] for axis in order[: x.ndim - len(axes)]]
    reduced = [x.shape[axis] for axis in order[x.ndim - len(axes) :]]
    width = int(np.prod(reduced, dtype=int))
    count = int(np.prod(kept, dtype=int))

    def forth(values: Any) -> Array:
        return np.transpose(np.broadcast_to(values, x.shape), order).reshape(count, width)

    def back(rows: Array) -> Array:
        return np.asarray(np.transpose(rows.reshape([*kept, *reduced]), np.argsort(order).astype(int)))

    full = np.ones(x.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask), x.shape)
    return _Rows(_arithmetic(forth(x)), forth(full), back), forth


class Reference:
    """The operations at one array of logits: `axes` are non-negative or negative, `()` makes each entry a row."""

    def __init__(self, x: Any, axes: tuple[int, ...] = (-1,), mask: Any = None, dtype: str | None = None) -> None:
        x = np.asarray(x)
        given = x.dtype.name if "float" in x.dtype.name else (dtype or "float64")
        self.result = precision(dtype or given)
        self.given = precision(given)
        self.compute = precision(computed_in(self.result.name, given))
        self.rows, self._forth = _rows(x, axes, mask)
        self.n = max(self.rows.x.shape[1], 1)
        self._evaluate()

    def _evaluate(self) -> None:
        x, mask, _ = self.rows
        as_object = x.dtype == object
        exp, log = (_exp, _log) if as_object else (np.exp, np.log)
        zero = x.dtype.type(0) if not as_object else mpmath.mpf(0)
        self.masked = ~mask
        with np.errstate(invalid="ignore"):  # NumPy before 2.1 minds a NaN that is cast
            plain = x.astype(np.float64) if as_object else x
            low = np.where(mask, plain, -np.inf)
            peak = low.max(axis=1, initial=-np.inf, keepdims=True)
            bad = (np.isnan(plain) | np.isposinf(plain)) & mask
            self.undefined = (bad.any(1) | ((low == -np.inf).all(1) & mask.any(1)))[:, None]
        live = mask & np.isfinite(plain) & ~self.undefined
        self.live = live
        index = np.argmax(low, axis=1) if x.shape[1] else None
        top = np.take_along_axis(x, index[:, None], 1) if x.shape[1] else x[:, :0]
        top = np.where(np.isfinite(peak), top, zero) if x.shape[1] else top
        shifted = np.where(live, x, top) - top
        e = np.where(live, exp(shifted) if shifted.size else shifted, zero)
        total = e.sum(axis=1, keepdims=True)
        safe = np.where(live.any(1, keepdims=True), total, zero + 1)
        self.y = e / safe
        self.r = shifted - (log(safe) if safe.size else safe)
        with np.errstate(over="ignore"):  # what is beyond float64 is cut off; NumPy before 2.1 minded
            self.d = np.minimum(np.where(live, -shifted, zero).astype(np.float64), 1e5)  # far beyond, y is 0
        self.zero = zero

    # --- values ------------------------------------------------------------------------------------------------

    def _rounded(self, value: Array, tolerance: Array, of: Precision) -> Array:
        """The tolerance with the last rounding, where the result is narrower than the arithmetic."""
        if of.eps <= self.compute.eps:
            return tolerance
        return tolerance + ulp(value.astype(np.longdouble), of) * 0.5000001

    def _expected(self, value: Array, tolerance: Array, of: Precision, scale: int | None = None) -> Expected:
        tolerance = self._rounded(value, tolerance.astype(np.longdouble), of)
        scale = of.flush_scale if scale is None else scale
        return Expected(self.rows.back(value), self.rows.back(tolerance), scale * flushed_in(of, self.compute).tiny)

    def _special(self, value: Array, masked: float) -> Array:
        value = np.where(self.masked, value.dtype.type(masked) if value.dtype != object else mpmath.mpf(masked), value)
        nan = mpmath.nan if value.dtype == object else np.nan
        return np.where(self.undefined & ~self.masked, nan, value)

    @property
    def _growth(self) -> Array:
        return 4 + 2 * self.d + 2 * np.log2(self.n)

    def softmax(self) -> Expected:
        tolerance = ulp(self.y, self.compute) * self._growth
        if self.n == 1:
            tolerance = tolerance * 0
            return Expected(self.rows.back(self._special(self.y, 0.0)), self.rows.back(tolerance), 0.0)
        return self._expected(self._special(self.y, 0.0), tolerance, self.result)

    def log_softmax(self) -> Expected:
        inf = mpmath.inf if self.r.dtype == object else np.inf
        r = np.where(self.live, self.r, -inf)
        size = np.where(self.live, np.abs(self.r), self.zero).astype(np.longdouble)
        tolerance = self.compute.eps * (1 + size) * (2 + np.log2(self.n))
        if self.n == 1:
            tolerance = tolerance * 0
        return self._expected(self._special(r, -np.inf), tolerance, self.result, 0)

    # --- first derivatives -------------------------------------------------------------------------------------

    def _given(self, direction: Any) -> tuple[Array, Array]:
        """A cotangent or tangent as rows, exact, with what is masked out taking no part; and its absolute value."""
        g = _arithmetic(self._forth(np.asarray(direction)))
        if self.y.dtype == object and g.dtype != object:
            g = _mpf(g.astype(np.float64).astype(object))
        if self.y.dtype != object:
            g = g.astype(np.longdouble)
        g = np.where(self.masked, self.zero, g)
        return g, np.abs(g)

    def _narrow(self, value: Array, tolerance: Array, of: Precision) -> Expected:
        value = np.where(self.masked, self.zero, value)
        return self._expected(value, tolerance.astype(np.longdouble), of, 16)

    def softmax_derivative(self, direction: Any, of: Precision | None = None) -> Expected:
        """Both the vjp and the jvp: the Jacobian of softmax is symmetric."""
        g, size = self._given(direction)
        value = self.y * (g - (g * self.y).sum(1, keepdims=True))
        spread = size + (size * self.y).sum(1, keepdims=True)
        return self._narrow(value, self.compute.eps * (self.y * spread) * self._growth, of or self.given)

    def log_softmax_vjp(self, cotangent: Any) -> Expected:
        g, size = self._given(cotangent)
        value = g - self.y * g.sum(1, keepdims=True)
        tolerance = self.compute.eps * (2 * size + self.y * size.sum(1, keepdims=True) * self._growth)
        return self._narrow(value, tolerance, self.given)

    def log_softmax_jvp(self, tangent: Any) -> Expected:
        t, size = self._given(tangent)
        value = t - (t * self.y).sum(1, keepdims=True)
        tolerance = self.compute.eps * (2 * size + (size * self.y * self._growth).sum(1, keepdims=True))
        return self._narrow(value, tolerance, self.result)

    # --- second derivatives: the vjp of x -> pullback(c) -------------------------------------------------------

    def softmax_second(self, c: Any, u: Any) -> Expected:
        (c, abs_c), (u, abs_u) = self._given(c), self._given(u)
        y = self.y
        s, t = (c * y).sum(1, keepdims=True), (u * y).sum(1, keepdims=True)
        value = y * (u * (c - s) - (u * y * (c - s)).sum(1, keepdims=True) - (c - s) * t)
        abs_cs, abs_t = abs_c + (abs_c * y).sum(1, keepdims=True), (abs_u * y).sum(1, keepdims=True)
        size = y * (abs_u * abs_cs + (abs_u * y * abs_cs).sum(1, keepdims=True) + abs_cs * abs_t)
        return self._narrow(value, self.compute.eps * size * 2 * self._growth, self.given)

    def log_softmax_second(self, c: Any, u: Any) -> Expected:
        (c, abs_c), (u, abs_u) = self._given(c), self._given(u)
        y = self.y
        value = -c.sum(1, keepdims=True) * y * (u - (u * y).sum(1, keepdims=True))
        size = abs_c.sum(1, keepdims=True) * y * (abs_u + (abs_u * y).sum(1, keepdims=True))
        return self._narrow(value, self.compute.eps * size * 2 * self._growth, self.given)


class SigmoidReference:
    """The sigmoid at one array of logits, given flat inside so that a 0-d array is no special case."""

    def __init__(self, x: Any, dtype: str | None = None) -> None:
        x = np.asarray(x)
        given = x.dtype.name if "float" in x.dtype.name else (dtype or "float64")
        self.result, self.given = precision(dtype or given), precision(given)
        self.compute = precision(computed_in(self.result.name, given))
        self.shape, self.x = x.shape, _arithmetic(x.reshape(-1))
        self.plain = self.x.astype(np.float64)
        exp, one = (_exp, mpmath.mpf(1)) if self.x.dtype == object else (np.exp, np.longdouble(1))
        # Beyond, both are below the smallest number of every dtype or 1 to all its digits, and mpmath takes seconds.
        near = np.where(np.abs(self.plain) > _FAR, (np.sign(self.plain) * _FAR).astype(self.x.dtype), self.x)
        with np.errstate(over="ignore"):
            self.s = one / (one + exp(-near))
            self.slope = self.s / (one + exp(near))
        infinite = np.isinf(self.plain)
        self.s = np.where(infinite, np.where(self.plain > 0, one, one - one), self.s)
        self.slope = np.where(infinite, one - one, self.slope)

    def _expected(self, value: Array, tolerance: Array, of: Precision, scale: int) -> Expected:
        if of.eps > self.compute.eps:
            tolerance = tolerance + ulp(value, of) * 0.5000001
        return Expected(
            np.asarray(value).reshape(self.shape),
            tolerance.reshape(self.shape),
            scale * flushed_in(of, self.compute).tiny,
        )

    def sigmoid(self) -> Expected:
        return self._expected(self.s, 8 * ulp(self.s, self.compute), self.result, self.result.flush_scale)

    def _direction(self, given: Any) -> Array:
        flat = np.asarray(given).reshape(-1)
        return _mpf(flat.astype(np.float64).astype(object)) if self.x.dtype == object else flat.astype(np.longdouble)

    def derivative(self, direction: Any, of: Precision | None = None) -> Expected:
        g = self._direction(direction)
        value, size = self.slope * g, np.abs(g).astype(np.longdouble)
        tail = np.maximum(self.compute.eps * size, self.compute.smallest)
        tolerance = np.where(self.plain > 0, tail, 8 * ulp(value, self.compute))
        return self._expected(value, tolerance, of or self.given, 16)

    def second(self, c: Any, u: Any) -> Expected:
        """The vjp with cotangent `u` of x -> s'(x) c; near 0, where it vanishes, to within eps of its factors."""
        cu = self._direction(c) * self._direction(u)
        value = self.slope * cu * (1 - 2 * self.s)
        size = np.abs(cu).astype(np.longdouble)
        near = 16 * self.compute.eps * np.abs(self.slope * cu).astype(np.longdouble)
        tolerance = np.where(self.plain > 0, 2 * self.compute.eps * size, near)
        return self._expected(value, np.maximum(tolerance, 8 * self.compute.smallest), self.given, 16)


def check(actual: Any, expected: Expected, what: str = "") -> None:
    """`actual`, a NumPy array of any floating dtype, is within the tolerance of every exact value."""
    actual = np.asarray(actual)
    assert actual.shape == expected.value.shape, f"{what}: shape {actual.shape}, expected {expected.value.shape}"
    value, tolerance, flat = expected.value.reshape(-1), expected.tolerance.reshape(-1), actual.reshape(-1)
    with np.errstate(invalid="ignore"):
        wide, exact = flat.astype(np.longdouble), value.astype(np.longdouble)
        finite = np.isfinite(wide) & np.isfinite(exact)
        if value.dtype == object:
            there = np.where(finite, flat.astype(np.float64), 0.0).astype(object)
            error = np.abs(there - np.where(finite, value, mpmath.mpf(0))).astype(np.longdouble)
        else:
            error = np.abs(wide - value)
        error = np.where(finite, error, np.inf)
        same = (np.isnan(wide) & np.isnan(exact)) | (wide == exact)
        flushed = (wide == 0) & (np.abs(exact) < expected.flush)
        beyond = np.isinf(wide) & (np.sign(wide) == np.sign(exact)) & (np.abs(exact) > largest(actual.dtype))
        wrong = ~(same | flushed | beyond | (error <= tolerance))
        excess = np.where(wrong, error / np.maximum(tolerance, 1e-300), -1)
    if wrong.any():
        worst = int(np.argmax(excess))
        where = tuple(int(index) for index in np.unravel_index(worst, actual.shape))
        message = (
            f"{what}: {int(wrong.sum())} of {wrong.size} are wrong, the worst at {where}: "
            f"{wide[worst]:.12g} and not {exact[worst]:.12g} ± {tolerance[worst]:.3g}"
        )
        raise AssertionError(message)
