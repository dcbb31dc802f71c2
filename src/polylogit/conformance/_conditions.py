"""The conditions that may describe a failure: predicates on its facts, each with its wording.

Knows the facts of `polylogit.conformance._facts` as plain data; the search is in `_causes`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Any

from polylogit._spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from polylogit.conformance._results import Result

__all__ = ["Condition", "Record", "conditions", "fine_parts", "records"]

_THRESHOLDS = 12  # of one number

_AXES = {
    "last": "the axis is the last",
    "first": "the axis is the first of several",
    "middle": "the axis is neither the first nor the last",
    "several": "several axes are given",
    "all": "all axes are taken together",
}
_WRITTEN = {
    "None": "axis=None",
    "a tuple": "the axes are a tuple",
    "negative": "the axis is counted from the end",
    "positive": "the axis is counted from the start",
    "left out": "the axis is left out of the call",
}
_KINDS = {
    "values": "the value is asked for",
    "vjp": "the gradient is asked for",
    "jvp": "the derivative is asked for in forward mode",
    "reverse": "the gradient is differentiated again",
    "forward": "the gradient is differentiated again in forward mode",
}
# Of one value each: how it is said to be one, how it is said not to be the plain one, and which one that is.
_ATTRIBUTES: dict[str, tuple[Callable[[Any], str], str, Any]] = {
    "axis": (lambda v: _AXES.get(v, f"the axis is {v}"), "the axis is not the last", "last"),
    "kind": (lambda v: _KINDS.get(v, f"{v} is asked for"), "a derivative is asked for", "values"),
    "dtype": (lambda v: f"the dtype is {v}", "the dtype is not float64", "float64"),
    "contiguous": (lambda v: "the array is contiguous" if v else "the array is not contiguous", "", None),
    "layout": (lambda v: f"the array is laid out {v!r}", "the array is a view", "contiguous"),
    "cotangent layout": (lambda v: f"the cotangent's layout is {v}", "the cotangent is not contiguous", "contiguous"),
    "masked": (lambda v: "a mask is given" if v else "no mask is given", "", None),
    "into": (lambda v: f"dtype={v} is asked for", "", None),
    "axis argument": (lambda v: _WRITTEN.get(v, f"the axis is {v}"), "", None),
    "ndim": (lambda v: f"the array has {v} dimension{'s' if v != 1 else ''}", "", None),
    "check": (lambda v: f"the check is {v!r}", "", None),
    "integers": (lambda v: f"the logits are {v}", "", None),
    "law": (lambda v: f"the law is {v!r}", "", None),
    "compiler": (lambda v: f"it is compiled by {v!r}", "", None),
    "asked": (lambda v: f"it is asked for {v!r}", "", None),
    "length": (lambda v: f"rows have {v} entr{'ies' if v != 1 else 'y'}", "", None),
    "bits": (lambda v: f"the dtype has {v} bits", "", None),
}
_CLASSES = {
    "-inf": "a row has -inf",
    "only -inf": "a row is nothing but -inf",
    "+inf": "a row has +inf",
    "nan": "a row has NaN",
    "one finite": "a row has one finite entry",
    "all equal": "all logits of a row are equal",
    "maximum first": "the maximum comes first",
    "maximum last": "the maximum comes last",
    "equal cotangent": "the cotangent is constant",
    "one cotangent": "the cotangent has one entry",
}
_RANGES = {
    "length": ("rows have {} entries or more", "rows have at most {} entries"),
    "rows": ("there are {} rows or more", "there are at most {} rows"),
    "ndim": ("the array has {} dimensions or more", ""),
    "top": ("the maximum of a row is {} or more", "all logits of a row are {} or less"),
    "magnitude": ("a logit is {} or more in size", "all logits are at most {} in size"),
    "spread": ("the logits of a row are {} or more apart", "the logits of a row are at most {} apart"),
    "leading": ("a row begins with {} entries of -inf or more", ""),
    "trailing": ("a row ends with {} entries of -inf or more", ""),
    "distance": ("an entry is {} or more below the maximum", "an entry is within {} of the maximum"),
    "logit": ("a logit is {} or more", "a logit is {} or less"),
    "cotangent": ("a cotangent is {} or more in size", "all cotangents are at most {} in size"),
}
# What says little of the cause costs more.
_COSTS = {
    "check": 1.4,
    "length": 1.4,
    "ndim": 1.3,
    "axis argument": 1.2,
    "layout": 1.2,
    "cotangent layout": 1.2,
    "cotangent beyond": 1.8,
}
_WHOLE = ("length", "rows", "ndim")  # of the case and not of a row
_ONE = re.compile(r"\b1 (entries|rows|dimensions)\b")
_SIGMOID_ONLY = ("logit",)
_ROWS_ONLY = ("distance", "top", "spread", "leading", "trailing")
_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)


@dataclass(slots=True)
class Record:
    """A result, or the right part of a failing one, as conditions see it."""

    one: dict[str, Any]
    classes: frozenset[str]
    ranges: dict[str, tuple[float, float]]
    failed: bool
    speaks_of_cases: bool = True  # not the part of a failing case most of which is wrong


def records(results: Iterable[Result], *, failed: bool) -> Iterator[Record]:
    """Results as conditions see them."""
    for result in results:
        facts = result.facts
        dtype = result.dtype
        bits = 8 * DTYPES[dtype].dtype.itemsize if dtype in DTYPES else 0
        one = {**facts, "dtype": dtype, "check": result.check, "bits": bits}
        whole = {name: (float(facts[name]), float(facts[name])) for name in _WHOLE if name in facts}
        yield Record(one, frozenset(facts.get("values", ())), whole | _pairs(facts.get("ranges", {})), failed)


def fine_parts(results: Iterable[Result]) -> Iterator[Record]:
    """The right rows of failing cases, as if they were passing cases."""
    for result, record in zip(results, records(results, failed=False), strict=True):
        fine = result.facts.get("fine", {})
        if fine.get("values") or fine.get("ranges"):
            whole = {name: record.ranges[name] for name in _WHOLE if name in record.ranges}
            ranges = whole | _pairs(fine.get("ranges", {}))
            most = 2 * result.facts.get("wrong", 0) >= result.facts.get("rows", 1)
            yield Record(record.one, frozenset(fine.get("values", ())), ranges, False, speaks_of_cases=not most)


def _pairs(ranges: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


@dataclass(slots=True)
class Condition:
    """A condition that a result may meet.

    Attributes
    ----------
    words : str
        The condition as a clause: "the axis is not the last".
    cost : float
        What it adds to the length of a description.
    plain : bool
        Whether it has no threshold, which a single failure could move.
    about : str
        The subject of the condition; a description has at most one condition about each subject.
    holds : callable
    """

    words: str
    cost: float
    plain: bool
    about: str
    holds: Callable[[Record], bool]

    @property
    def of_rows(self) -> bool:
        """Whether the condition is about rows or entries, of which a case has several."""
        return self.about == "values" or (not self.plain and self.about.partition(" ")[0] not in _WHOLE)


def conditions(bad: Sequence[Record], good: Sequence[Record], *, rows: bool) -> Iterator[Condition]:
    """All conditions that may describe a failure; `rows` for operations on rows rather than elements."""
    for one in _conditions(bad, good, rows=rows):
        if not rows:
            for word, other in (("rows have", "the array has"), ("a row", "the array")):
                one.words = one.words.replace(word, other)
        yield one


def _conditions(bad: Sequence[Record], good: Sequence[Record], *, rows: bool) -> Iterator[Condition]:
    for name, (words, other, usual) in _ATTRIBUTES.items():
        seen = dict.fromkeys(record.one[name] for record in bad if name in record.one)
        known = {*seen, *(record.one[name] for record in good if name in record.one)}
        if len(known) < 2 and not (seen and any(name not in record.one for record in good)):
            continue
        for value in seen:
            yield Condition(words(value), _COSTS.get(name, 1.0), True, name, _is(name, value))
        if other and len(known) > 2 and any(value != usual for value in seen):
            yield Condition(other, 1.0, True, name, _is_not(name, usual))
    for name, said in _CLASSES.items():
        yield Condition(said, 1.0, True, "values", _has(name))
    for name, (above, below) in _RANGES.items():
        if name in (_SIGMOID_ONLY if rows else _ROWS_ONLY):
            continue
        yield from _thresholds(name, above, below, bad, good)
    for size in _MULTIPLES:
        said = "the length is odd" if size == 2 else f"the length is no multiple of {size}"
        yield Condition(said, 1.5, True, "multiple", _no_multiple(size))


def _is(name: str, value: Any) -> Callable[[Record], bool]:
    return lambda record: record.one.get(name) == value


def _is_not(name: str, value: Any) -> Callable[[Record], bool]:
    return lambda record: name in record.one and record.one[name] != value


def _has(name: str) -> Callable[[Record], bool]:
    return lambda record: name in record.classes


def _no_multiple(size: int) -> Callable[[Record], bool]:
    return lambda record: "length" in record.one and record.one["length"] % size != 0


def _thresholds(
    name: str, above: str, below: str, bad: Sequence[Record], good: Sequence[Record]
) -> Iterator[Condition]:
    """Threshold conditions, the loosest first: a failure exceeds one with its worst entry, a pass contradicts it.

    A threshold that all cases with such a number exceed says nothing.
    """
    known = [record.ranges[name][0] for record in (*bad, *good) if name in record.ranges]
    for words, side, sign in ((above, 0, 1.0), (below, 1, -1.0)):
        edges = {record.ranges[name][side] for record in bad if name in record.ranges}
        near = (record.one.get("edges", {}) for record in bad)  # of all that is wrong there, and not the worst alone
        found = sorted(edges | {float(one[name][side]) for one in near if name in one})
        if not words or len(found) == 0:
            continue
        found = found if sign > 0 else found[::-1]
        spread = found[:: max(1, -(-len(found) // _THRESHOLDS))]
        for edge in sorted({*spread, found[-1], *_beyond_passes(name, found, good, side, sign)}, reverse=sign < 0):

            def holds(record: Record, edge: float = edge, side: int = side, sign: float = sign) -> bool:
                if name not in record.ranges:
                    return False
                return sign * record.ranges[name][side if record.failed else 1 - side] >= sign * edge

            least = name in ("leading", "trailing") and edge == 1
            text = _singular(words.format("one" if least else _loosely(edge, up=sign < 0)))
            if least:
                text = text.replace(" with one entries of -inf or more", " with -inf")
            says_something = any(sign * value < sign * edge for value in known) if name in _WHOLE else True
            if says_something and (edge or name not in ("leading", "trailing")):
                yield Condition(text, _COSTS.get(f"{name} beyond", 1.3), False, f"{name} {sign}", holds)


def _beyond_passes(
    name: str, found: Sequence[float], good: Sequence[Record], side: int, sign: float
) -> Iterator[float]:
    """The first edge beyond all passes, over all dtypes and for each, which overflow and underflow elsewhere."""
    reach: dict[Any, float] = {}
    for record in good:
        if name in record.ranges:
            value = sign * record.ranges[name][1 - side]
            for key in (None, record.one.get("dtype")):
                reach[key] = max(reach.get(key, -math.inf), value)
    for most in set(reach.values()):
        yield from [edge for edge in found if sign * edge > most][:1]


def _singular(text: str) -> str:
    return _ONE.sub(lambda found: "1 entry" if found[1] == "entries" else f"1 {found[1][:-1]}", text)


def _loosely(edge: float, *, up: bool) -> str:
    """A fraction to three digits, rounded so that the zone does not shrink."""
    if edge == round(edge) and abs(edge) < 1e7:
        return f"{edge:.0f}"
    # In decimals: a power of ten as a float is 0 below the smallest subnormal number.
    digits = Context(prec=3, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return f"{float(digits.create_decimal(repr(edge))):.3g}"
