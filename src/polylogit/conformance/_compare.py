"""Compares numbers with exact values and their bounds.

Knows dtypes and double-double pairs; neither operations nor frameworks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._numbers import side_by_side, times, ulps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit._spec.doubledouble import DD
    from polylogit._spec.dtypes import Array, Finfo

_SHOWN = 16  # entries of a row that a failure shows


@dataclass(slots=True)
class Seen:
    """The numbers of a comparison, in rows: `over` marks errors above the bound, `row` and `index` the worst one.

    `telling` marks entries at which another number would have been noticed: neither NaN, nor so small that 0 would
    pass. `call` has the arguments: ``kind``, ``x``, ``axis``, ``where``, ``layout``, ``g``.
    """

    inputs: Array
    expected: Array
    got: Array
    over: Array
    telling: Array
    row: int
    index: int
    directions: Sequence[Array] = ()
    call: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Comparison:
    """The outcome of a case; for the fields that `polylogit.conformance.Result` also has, see there.

    `lost`: half of a value or more is lost. `vacuous`: a constant would have passed, too. `row`: the row of the worst
    error. `values`: the result, if backends may be compared on it. `seen`: the numbers of the comparison, while the
    case is in memory.
    """

    verdict: str = "passed"
    error: float | None = None
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    length: int = 0
    distance: float = 0.0
    cases: int = 0
    row: int = 0
    vacuous: bool = False
    values: Array | None = None
    finding: str = ""
    convention: str = ""
    once: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    seen: Seen | None = None
    lost: bool = False


@dataclass(slots=True)
class Expected:
    """The expected values of an array of rows.

    Attributes
    ----------
    inputs : array
        The logits, in rows.
    exact : DD
        The exact values, including NaN and infinities.
    bound : array
        The largest absolute error; 0 if the answer is exact (0 for -inf and masked entries, 1 for an only entry).
    dtype : Finfo
    zero_below : float
        Exact values below this may depend on numbers that were flushed to 0: the result may be anything from 0 to the
        exact value plus the smallest normal number.
    either : array of bool, optional
        True where NaN is expected, but `other` is also right.
    other : float
    once : array, optional
        The largest error of a result that is computed in a wider dtype and rounded once.
    """

    inputs: Array
    exact: DD
    bound: Array
    dtype: Finfo
    zero_below: float = 0.0
    either: Array | None = None
    other: float = 0.0
    once: Array | None = None


def compare(expected: Expected, got: Array, names: Sequence[str] = ()) -> Comparison:
    """Compare a result with the expected values, both in rows."""
    with np.errstate(all="ignore"):
        ratio = _ratios(expected, got, expected.bound)
    if not ratio.size:
        return Comparison(cases=0, vacuous=True)
    at = tuple(int(one) for one in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    worst = float(ratio[at])
    found = Comparison(error=worst, cases=int(ratio.size), vacuous=_vacuous(expected), row=at[0])
    found.length, found.distance = ratio.shape[-1], _distance(expected.inputs[at[0]], at[-1])
    high = expected.exact.hi
    telling = np.isfinite(high) & (np.abs(high) >= expected.zero_below) & (np.abs(high) > expected.bound)
    found.seen = Seen(expected.inputs, high, got, ~(ratio <= 1.0), telling, at[0], at[-1])
    if not worst <= 1.0:
        name = names[at[0]] if at[0] < len(names) else ""
        found.verdict = "failed"
        high = expected.exact.hi
        found.lost = bool(((ratio > 1.0) & ~(np.abs(got - high) < np.abs(high) / 2)).any())
        found.message, found.details = _failure(expected, got, at[0], at[-1], name, worst)
    if expected.once is not None:
        with np.errstate(all="ignore"):
            ratio = _ratios(expected, got, expected.once)
        line, index = (int(one) for one in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
        found.once = float(ratio[line, index])
        if found.once > 1.0 and found.verdict == "passed":
            name = names[line] if line < len(names) else ""
            once = replace(expected, bound=expected.once)
            found.message, found.details = _failure(once, got, line, index, name, found.once)
            found.message += "; that bound is what float32 arithmetic, rounded once, leaves"
    return found


def _ratios(expected: Expected, got: Array, bound: Array) -> Array:
    """Errors as fractions of their bounds; infinite if no bound would suffice."""
    high, low = expected.exact
    error = np.abs((got - high) - low)
    ratio = np.where(error == 0, 0.0, error / bound)
    size, came = np.abs(high), np.where(high < 0, -got, got)
    flushed = (size < expected.zero_below) & (came >= 0) & (came <= size + expected.dtype.smallest_normal)
    ratio = np.where(flushed & (bound > 0), 0.0, ratio)
    special = ~np.isfinite(high) | ~np.isfinite(got) | (size > expected.dtype.max)
    if special.any():
        same = (got == high) | (np.isnan(got) & np.isnan(high))
        # -inf at a logit of -inf is exact; where the distance is more than the dtype holds, its largest number will do.
        beyond = (size > expected.dtype.max * (1 - expected.dtype.eps)) & (np.sign(got) == np.sign(high))
        beyond &= (bound > 0) | (not expected.dtype.has_infinity)
        same |= np.isnan(got) & (size > expected.dtype.max) & (not expected.dtype.has_infinity)
        same |= beyond & (np.isinf(got) | (np.abs(got) >= expected.dtype.max * (1 - 2 * expected.dtype.eps)))
        if expected.either is not None:
            same |= expected.either & (got == expected.other)
        ratio = np.where(special, np.where(same, 0.0, np.inf), ratio)
    return np.where(np.isnan(ratio), np.inf, ratio)


def _vacuous(expected: Expected) -> bool:
    """Whether a constant would have passed, in which case the test proves nothing."""
    high = expected.exact.hi
    if not np.isfinite(high).all():
        return False
    if ((np.abs(high) <= expected.bound) | (np.abs(high) < expected.zero_below)).all():
        return True
    return bool((np.abs(high - high.flat[0]) <= expected.bound).all())


def _distance(row: Array, index: int) -> float:
    finite = row[np.isfinite(row)]
    with np.errstate(all="ignore"):
        distance = float(finite.max() - row[index]) if finite.size else 0.0
    return distance if np.isfinite(distance) else 0.0


def _failure(expected: Expected, got: Array, line: int, index: int, name: str, worst: float) -> tuple[str, Any]:
    """The failure in words, with its details: the entries of the row around the worst one."""
    start = max(0, min(index - _SHOWN // 2, got.shape[-1] - _SHOWN))
    rows = {"inputs": expected.inputs, "expected_row": expected.exact.hi, "got_row": got}
    right, bound = float(expected.exact.hi[line, index]), float(expected.bound[line, index])
    details = {
        "row": name or line,
        "index": index,
        "length": int(got.shape[-1]),
        "shown_from": start,
        "expected": right,
        "got": float(got[line, index]),
        "bound": bound,
        **{key: [float(value) for value in row[line, start : start + _SHOWN]] for key, row in rows.items()},
    }
    before, after = side_by_side(right, details["got"], expected.dtype)
    off = ulps(right, details["got"], expected.dtype)
    size = "" if off is None else f", {times(off)} ulp off"
    size += "" if worst == np.inf else f", {times(worst)} times the bound"
    where = f"row {name!r}" if name else f"row {line}"
    where += f" (length {got.shape[-1]}), entry {index}"
    return f"{where}: expected {before}, got {after}{size}", details
