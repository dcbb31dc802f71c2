"""The ways in which tests compare: each returns the error of a result in multiples of the tolerance.

Takes float64 arrays; knows no operation and no implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array, Finfo

__all__ = ["RULES", "Compare", "Terms", "margin", "name_of"]

# What `audit` takes: a name, a function of the two arrays, or a name with tolerances of its own; or several of them.
Compare = str | Callable[[Any, Any], Any] | tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Terms:
    """The parameters of a comparison, besides the two arrays.

    Attributes
    ----------
    atol, rtol : float
    equal_nan : bool
        Whether NaN is close to NaN.
    digits : int
        The number of digits after the decimal point to which values are rounded.
    dtype : Finfo
        The dtype of the results.
    baseline : array or None
        The result of a plain implementation in that dtype.
    totals : callable
        Returns the sums of the rows, or of their exponentials, which should be 1.
    """

    atol: float
    rtol: float
    equal_nan: bool
    digits: int
    dtype: Finfo
    baseline: Array | None = None
    totals: Callable[[Array], Array] | None = None


def _differences(got: Array, expected: Array, equal_nan: bool) -> Array:
    """Absolute differences; 0 for equal infinities, infinite if only one of the two is a number."""
    off = np.abs(got - expected)
    off = np.where(got == expected, 0.0, off)
    both = np.isnan(got) & np.isnan(expected)
    return np.where(both & equal_nan, 0.0, np.where(np.isnan(off), np.inf, off))


def _ratio(off: Array | float, tolerance: Array | float) -> float:
    """The largest difference over its tolerance; any difference is too large for a tolerance of 0."""
    off, tolerance = np.asarray(off, np.float64), np.asarray(tolerance, np.float64)
    if not off.size:
        return 0.0
    tolerance = np.where(np.isnan(tolerance) | np.isinf(tolerance), 0.0, tolerance)
    ratio = np.where(off == 0, 0.0, np.where(tolerance > 0, off / np.where(tolerance > 0, tolerance, 1.0), np.inf))
    return float(ratio.max())


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _allclose(got: Array, expected: Array, terms: Terms) -> float:
    return _ratio(_differences(got, expected, terms.equal_nan), terms.atol + terms.rtol * np.abs(expected))


def _maximum(got: Array, expected: Array, terms: Terms) -> float:
    off = _differences(got, expected, terms.equal_nan)
    return _ratio(off.max(initial=0.0), terms.atol + terms.rtol * _largest(expected))


def _mean_error(got: Array, expected: Array, terms: Terms) -> float:
    finite = np.abs(expected[np.isfinite(expected)])
    return _ratio(_mean(_differences(got, expected, terms.equal_nan)), terms.atol + terms.rtol * _mean(finite))


def _relative(got: Array, expected: Array, terms: Terms) -> float:
    off = _differences(got, expected, terms.equal_nan)
    size = np.abs(expected) + terms.atol
    return _ratio(off, terms.rtol * size)


def _cosine(got: Array, expected: Array, terms: Terms) -> float:
    same = np.isfinite(got) & np.isfinite(expected)
    if bool((_differences(got, expected, terms.equal_nan)[~same] > 0).any()):
        return math.inf
    a, b = got[same], expected[same]
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    likeness = float(a @ b) / size if size else float(not (a.any() or b.any()))
    return _ratio(max(0.0, 1.0 - likeness), max(terms.atol, 2.0**-50))


def _rounded(got: Array, expected: Array, terms: Terms) -> float:
    off = _differences(np.round(got, terms.digits), np.round(expected, terms.digits), terms.equal_nan)
    return 0.0 if not off.any() else math.inf


def _baseline(got: Array, expected: Array, terms: Terms) -> float:
    assert terms.baseline is not None
    theirs = _differences(terms.baseline, expected, terms.equal_nan).max(initial=0.0)
    off = _differences(got, expected, terms.equal_nan).max(initial=0.0)
    return _ratio(off, (terms.rtol or 2.0) * theirs + terms.atol)


def _flash_attention(got: Array, expected: Array, terms: Terms) -> float:
    through = terms.dtype.round(terms.dtype.round(expected + 0.3) - 0.3)
    noise = 2.0 * _differences(through, expected, equal_nan=True).max(initial=0.0)
    return _baseline(got, expected, replace(terms, atol=terms.atol + noise))


def _row_sums(got: Array, _expected: Array, terms: Terms) -> float:
    assert terms.totals is not None
    sums = terms.dtype.round(terms.totals(got))  # as a sum of such results is
    return _ratio(_differences(sums, np.ones_like(sums), terms.equal_nan), terms.atol + terms.rtol)


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to compare, as a formula in which ``off`` is the difference and ``ref`` the right answer."""

    formula: str
    margin: Callable[[Array, Array, Terms], float]


RULES = {
    "allclose": Rule("|off| <= atol + rtol |ref|, each entry", _allclose),
    "maximum": Rule("max |off| <= atol + rtol max |ref|", _maximum),
    "mean": Rule("mean |off| <= atol + rtol mean |ref|", _mean_error),
    "relative": Rule("|off| / (|ref| + atol) <= rtol, each entry", _relative),
    "cosine": Rule("1 - cosine similarity <= atol, over all entries", _cosine),
    "rounded": Rule("equal after rounding to `digits` digits", _rounded),
    "baseline": Rule("max |off| <= rtol times that of a plain implementation (2 where rtol is 0) + atol", _baseline),
    "flash-attention": Rule(
        "max |off| <= 2 max |off of a plain implementation| + 2 max |(ref + 0.3 - 0.3) - ref| + atol", _flash_attention
    ),
    "row sums": Rule("|sum - 1| <= atol + rtol, each row", _row_sums),
}


def name_of(compare: Any) -> str:
    """The name of a comparison for reports."""
    if isinstance(compare, str):
        return compare
    if callable(compare):
        return getattr(compare, "__name__", None) or type(compare).__name__
    if _is_single(compare):
        return f"{compare[0]} (atol {compare[1]:g}, rtol {compare[2]:g})"
    return " and ".join(name_of(one) for one in compare)


def _is_single(compare: Any) -> bool:
    return isinstance(compare, tuple) and len(compare) == 3 and isinstance(compare[1], (int, float))


def check(compare: Any) -> None:
    """Raise an error unless this is a valid comparison."""
    if callable(compare) or (isinstance(compare, str) and compare in RULES):
        return
    if _is_single(compare) and compare[0] in RULES:
        return
    if not isinstance(compare, str) and isinstance(compare, Sequence) and compare and not _is_single(compare):
        for one in compare:
            check(one)
        return
    message = f"compare={compare!r} is no comparison; it is one of {', '.join(map(repr, RULES))}, or a function"
    raise ConformanceError(f"{message} of two arrays.")


def margin(compare: Any, got: Array, expected: Array, terms: Terms) -> float:
    """The error in multiples of the tolerance; 0 or infinite for a comparison that returns only yes or no."""
    with np.errstate(all="ignore"):
        if isinstance(compare, str):
            return RULES[compare].margin(got, expected, terms)
        if callable(compare):
            return _called(compare, got, expected, terms)
        if _is_single(compare):
            name, atol, rtol = compare
            return RULES[name].margin(got, expected, replace(terms, atol=atol, rtol=rtol))
        return max(margin(one, got, expected, terms) for one in compare)


def _called(compare: Callable[[Any, Any], Any], got: Array, expected: Array, terms: Terms) -> float:
    """A function that returns whether two arrays are close, or raises AssertionError if they are not."""
    # bfloat16, which few libraries can compare, as float32, which holds it.
    dtype = np.float32 if terms.dtype.dtype.kind == "V" else terms.dtype.dtype
    try:
        answer = compare(got.astype(dtype), expected.astype(dtype))
    except AssertionError:
        return math.inf
    return 0.0 if answer is None or bool(answer) else math.inf
