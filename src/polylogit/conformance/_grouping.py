"""Failures grouped by cause: what the failing results of one implementation have in common and the passing ones not.

A description is a conjunction of at most three conditions on the facts of a result. The shortest one is taken that
covers most failures and no passes, or next to none; then the next one for what is left. Knows results as plain data.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._results import BAD, CONVENTION, INACCURATE, WRONG, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from polylogit.conformance._results import Results

__all__ = ["Group", "grouped", "symptom"]

_FEW = 3  # failures that a description of several conditions, or of a threshold, must cover
_BEAM = 40  # descriptions that are tried with one condition more
_PASSES = 0.1  # of the failures covered, so many passes at most
_DEAR = 2.0  # failures that a covered pass outweighs
_THRESHOLDS = 12  # of one number


@dataclass(frozen=True, eq=False)
class Group:
    """Results with one cause.

    Attributes
    ----------
    finding : str
        ``wrong``, ``another convention`` or ``less accurate``; or the verdict of what came to nothing.
    subject, operation : str
    pattern : str
        Where they are, in words: "the axis is not the last"; "" for everywhere, None where nothing was found in common.
    results : list of Result
        The smallest case first.
    passes : int
        How many results that pass are where the pattern says.
    symptoms : dict of str to int
        What went wrong, in words, and how often.
    """

    finding: str
    subject: str
    operation: str
    pattern: str | None
    results: list[Result]
    passes: int = 0
    symptoms: dict[str, int] = field(default_factory=dict)

    @property
    def smallest(self) -> Result:
        """The plainest case."""
        return self.results[0]

    @property
    def worst(self) -> float | None:
        """The largest error as a fraction of its bound."""
        errors = [one.error for one in self.results if one.error is not None]
        return max(errors) if errors else None

    @property
    def headline(self) -> str:
        """The cause in a line."""
        count = len(self.results)
        if self.finding == CONVENTION:
            said, _, contract = (self.smallest.message or self.smallest.convention).partition("; ")
            return f"{said}: {_cases(count)}" + (f"; {contract}" if contract else "")
        if self.finding not in (WRONG, INACCURATE):
            return f"{self.finding}: {_cases(count)}"
        verb = "less accurate" if self.finding == INACCURATE else "fails"
        if self.pattern is None:
            checks = Counter(one.check for one in self.results).most_common()
            where = ", ".join(f"{name} {times}" for name, times in checks[:4]) + (", …" if len(checks) > 4 else "")
            return f"{verb} in {_cases(count)}" + (f", with nothing in common: {where}" if count > 1 else "")
        if not self.pattern:
            return f"{verb} everywhere: {_cases(count)}"
        if self.passes:
            return f"{verb} mostly where {self.pattern}: {count} of {_cases(count + self.passes)}"
        return f"{verb} wherever {self.pattern}: {_cases(count)}"


def grouped(report: Results) -> list[Group]:
    """All that does not pass, by cause: what is wrong first, the largest group of each implementation first."""
    groups: list[Group] = []
    for subject, operation in dict.fromkeys((one.subject, one.operation) for one in report.results):
        ours = [one for one in report.results if (one.subject, one.operation) == (subject, operation)]
        groups += _of_one(subject, operation, ours)
    order = (WRONG, CONVENTION, INACCURATE)
    return sorted(groups, key=lambda one: order.index(one.finding) if one.finding in order else len(order))


def _of_one(subject: str, operation: str, results: Sequence[Result]) -> Iterator[Group]:
    passed = [one for one in results if one.verdict == "passed" and not one.facts.get("vacuous")]
    for finding in (WRONG, INACCURATE):
        bad = [one for one in results if _finding(one) == finding]
        for pattern, found, passes in _causes(bad, passed):
            symptoms = dict(Counter(symptom(one) for one in found).most_common())
            yield Group(finding, subject, operation, pattern, sorted(found, key=_size), passes, symptoms)
    conventions: dict[str, list[Result]] = {}
    others: dict[str, list[Result]] = {}
    for one in results:
        if _finding(one) == CONVENTION:
            conventions.setdefault(one.convention, []).append(one)
        elif one.verdict in BAD and not _finding(one) and one.verdict != "missing":
            others.setdefault(f"{one.verdict}: {_bare(one.message)}", []).append(one)
    for found in conventions.values():
        yield Group(CONVENTION, subject, operation, None, sorted(found, key=_size))
    for found in others.values():
        yield Group(found[0].verdict, subject, operation, None, sorted(found, key=_size), 0, _said(found))


def _finding(result: Result) -> str:
    if result.verdict == "inaccurate":
        return INACCURATE
    if result.convention and result.verdict in ("convention", "failed"):
        return CONVENTION
    return (result.finding or WRONG) if result.verdict == "failed" else ""


def _said(results: Iterable[Result]) -> dict[str, int]:
    return dict(Counter(one.message for one in results).most_common(3))


def _cases(count: int) -> str:
    return f"{count} case" if count == 1 else f"{count} cases"


def _size(result: Result) -> tuple[Any, ...]:
    """Small and plain cases first: few numbers, the plain way to ask for them, the dtype that people read."""
    facts = result.facts
    numbers = facts.get("length", result.length or 1 << 30) * facts.get("rows", 1)
    plain = (facts.get("kind", "values") != "values", facts.get("layout", "contiguous") != "contiguous")
    dtypes = ("float32", "float64", *DTYPES)
    return numbers, plain, dtypes.index(result.dtype) if result.dtype in dtypes else 99, result.id


# --- what went wrong --------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\([^()]*\)|[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def _bare(message: str) -> str:
    """A message without its numbers."""
    return _NUMBER.sub("…", message)


def symptom(result: Result) -> str:
    """What went wrong in words, without the numbers of the case."""
    right, got = result.details.get("expected"), result.details.get("got")
    if right is None or got is None:
        if result.message.startswith("raised "):
            return result.message.partition(":")[0]
        return "broken law" if result.message.startswith("broken in row") else _bare(result.message)
    right, got = float(right), float(got)
    if math.isnan(got):
        return "NaN where there is a number"
    if math.isnan(right):
        return "a number where there is none"
    if math.isinf(got):
        return "an infinity where there is a finite number"
    if math.isinf(right):
        return "a finite number in place of an infinity"
    if right == 0:
        return "another number where exactly 0 is right"
    return "0 for a number" if got == 0 else "another number"


# --- conditions -------------------------------------------------------------------------------------------------------

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
    "leading": ("a row begins with {} of -inf or more", ""),
    "trailing": ("a row ends with {} of -inf or more", ""),
    "distance": ("an entry is {} or more below the maximum", "an entry is within {} of the maximum"),
    "logit": ("a logit is {} or more", "a logit is {} or less"),
    "cotangent": ("a cotangent is {} or more in size", "all cotangents are at most {} in size"),
}
_WHOLE = ("length", "rows", "ndim")  # of the case and not of a row
_SIGMOID_ONLY = ("logit",)
_ROWS_ONLY = ("distance", "top", "spread", "leading", "trailing")
_MULTIPLES = (2, 4, 8, 16, 32, 64, 128)


@dataclass(slots=True)
class _Record:
    """A result, or the part of a failing one that is right, as conditions see it."""

    one: dict[str, Any]
    classes: frozenset[str]
    ranges: dict[str, tuple[float, float]]
    failed: bool


def _records(results: Iterable[Result], *, failed: bool) -> Iterator[_Record]:
    for result in results:
        facts = result.facts
        dtype = result.dtype
        bits = 8 * DTYPES[dtype].dtype.itemsize if dtype in DTYPES else 0
        one = {**facts, "dtype": dtype, "check": result.check, "bits": bits}
        whole = {name: (float(facts[name]),) * 2 for name in _WHOLE if name in facts}
        yield _Record(one, frozenset(facts.get("values", ())), whole | _pairs(facts.get("ranges", {})), failed)


def _fine(results: Iterable[Result]) -> Iterator[_Record]:
    """The rows of failing cases that are right, as if they were cases that pass."""
    for result, record in zip(results, _records(results, failed=False), strict=True):
        fine = result.facts.get("fine", {})
        if fine.get("values") or fine.get("ranges"):
            whole = {name: record.ranges[name] for name in _WHOLE if name in record.ranges}
            ranges = whole | _pairs(fine.get("ranges", {}))
            yield _Record(record.one, frozenset(fine.get("values", ())), ranges, False)


def _pairs(ranges: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


@dataclass(slots=True)
class _Condition:
    words: str
    cost: float
    plain: bool  # no threshold: a single failure more or less does not move it
    about: str
    holds: Callable[[_Record], bool]

    @property
    def of_rows(self) -> bool:
        """Whether it speaks of rows or entries, of which a case has several."""
        return self.about == "values" or (not self.plain and self.about.partition(" ")[0] not in _WHOLE)


def _conditions(bad: Sequence[_Record], good: Sequence[_Record], *, rows: bool) -> Iterator[_Condition]:
    for name, (words, other, usual) in _ATTRIBUTES.items():
        seen = dict.fromkeys(record.one[name] for record in bad if name in record.one)
        known = {*seen, *(record.one[name] for record in good if name in record.one)}
        if len(known) < 2 and not (seen and any(name not in record.one for record in good)):
            continue
        for value in seen:
            cost = {"check": 1.4, "length": 1.4, "ndim": 1.3, "axis argument": 1.2, "layout": 1.2}.get(name, 1.0)
            yield _Condition(words(value), cost, True, name, _is(name, value))
        if other and len(known) > 2 and any(value != usual for value in seen):
            yield _Condition(other, 1.0, True, name, _is_not(name, usual))
    for name, words in _CLASSES.items():
        yield _Condition(words, 1.0, True, "values", lambda record, name=name: name in record.classes)  # type: ignore[misc]
    for name, (above, below) in _RANGES.items():
        if name in (_SIGMOID_ONLY if rows else _ROWS_ONLY):
            continue
        yield from _thresholds(name, above, below, bad)
    for size in _MULTIPLES:
        words = "the length is odd" if size == 2 else f"the length is no multiple of {size}"
        yield _Condition(words, 1.5, True, "multiple", _no_multiple(size))


def _is(name: str, value: Any) -> Callable[[_Record], bool]:
    return lambda record: record.one.get(name) == value


def _is_not(name: str, value: Any) -> Callable[[_Record], bool]:
    return lambda record: name in record.one and record.one[name] != value


def _no_multiple(size: int) -> Callable[[_Record], bool]:
    return lambda record: "length" in record.one and record.one["length"] % size != 0


def _thresholds(name: str, above: str, below: str, bad: Sequence[_Record]) -> Iterator[_Condition]:
    """A failure is beyond a threshold with its worst; a pass contradicts it with anything beyond. The loosest first."""
    for words, side, sign in ((above, 0, 1.0), (below, 1, -1.0)):
        edges = {record.ranges[name][side] for record in bad if name in record.ranges}
        edges |= {_pairs(record.one.get("edges", {}))[name][side] for record in bad if name in record.one.get("edges", {})}
        found = sorted(edges)
        if not words or len(found) == 0:
            continue
        step = max(1, -(-len(found) // _THRESHOLDS))
        for edge in dict.fromkeys((*(found if sign > 0 else found[::-1])[::step], found[-1 if sign > 0 else 0])):

            def holds(record: _Record, edge: float = edge, side: int = side, sign: float = sign) -> bool:
                if name not in record.ranges:
                    return False
                return sign * record.ranges[name][side if record.failed else 1 - side] >= sign * edge

            least = name in ("leading", "trailing") and edge == 1
            text = words.format("one" if least else _loosely(edge, up=sign < 0))
            if least:
                text = text.replace(" with one of -inf or more", " with -inf")
            if edge or name not in ("leading", "trailing"):
                yield _Condition(text, 1.3, False, f"{name} {sign}", holds)


def _loosely(edge: float, *, up: bool) -> str:
    """Three digits, of a fraction, on the side that leaves the zone no smaller."""
    if edge == round(edge) and abs(edge) < 1e7:
        return f"{edge:.0f}"
    unit = 10.0 ** (math.floor(math.log10(abs(edge))) - 2)
    return f"{(math.ceil if up else math.floor)(edge / unit) * unit:.3g}"


# --- the search -------------------------------------------------------------------------------------------------------


def _causes(bad: Sequence[Result], passed: Sequence[Result]) -> Iterator[tuple[str | None, list[Result], int]]:
    """Patterns and what they cover, until nothing is left; failures of different kinds are not mixed."""
    kinds: dict[str, list[Result]] = {}
    for result in bad:
        numbers = result.details.get("got") is not None or result.message.startswith("broken in row")
        kinds.setdefault("" if numbers else symptom(result), []).append(result)
    for found in sorted(kinds.values(), key=len, reverse=True):
        yield from _patterns(found, passed)


def _patterns(bad: list[Result], passed: Sequence[Result]) -> Iterator[tuple[str | None, list[Result], int]]:
    fails = list(_records(bad, failed=True))
    good = [*_records(passed, failed=False), *_fine(bad)]
    if not passed and len(bad) >= _FEW:
        yield "", bad, 0
        return
    rows = any("axis" in record.one for record in fails) or not any("logit" in record.ranges for record in fails)
    conditions = list(_conditions(fails, good, rows=rows)) if len(bad) > 1 else []
    table_bad, table_good = _table(conditions, fails), _table(conditions, good)
    left = np.ones(len(bad), dtype=bool)
    while left.any():
        chosen = _best(conditions, table_bad & left, table_good, int(left.sum()), len(passed))
        if chosen is None:
            break
        covered = np.logical_and.reduce([table_bad[one] for one in chosen])
        against = np.logical_and.reduce([table_good[one] for one in chosen])[: len(passed)]
        words = _joined([conditions[one].words for one in chosen])
        yield words, [result for result, has in zip(bad, covered & left, strict=True) if has], int(against.sum())
        left &= ~covered
    rest = [result for result, has in zip(bad, left, strict=True) if has]
    for _, same in itertools.groupby(sorted(rest, key=symptom), key=symptom):
        yield None, list(same), 0


def _table(conditions: Sequence[_Condition], records: Sequence[_Record]) -> np.ndarray[Any, Any]:
    table = np.zeros((len(conditions), len(records)), dtype=bool)
    for number, condition in enumerate(conditions):
        table[number] = [condition.holds(record) for record in records]
    return table


def _best(
    conditions: Sequence[_Condition], bad: np.ndarray[Any, Any], good: np.ndarray[Any, Any], left: int, passed: int
) -> tuple[int, ...] | None:
    """The conjunction that covers most for its length and its passes; None where none is worth saying.

    What is right in a case that fails speaks against what is said of rows, and not of cases: it comes after `passed`.
    """
    if not conditions or not bad.any():
        return None
    price = 1.0 + 0.08 * left

    def score(chosen: tuple[int, ...], covered: int, passes: int) -> float:
        return covered - _DEAR * passes - price * (sum(conditions[one].cost for one in chosen) - 0.8)

    best: tuple[float, tuple[int, ...]] | None = None
    beam: dict[tuple[int, ...], tuple[Any, Any]] = {(one,): (bad[one], good[one]) for one in range(len(conditions))}
    for length in (1, 2, 3):
        scored = []
        for chosen, (covers, passes) in beam.items():
            of_rows = any(conditions[one].of_rows for one in chosen)
            covered, against = int(covers.sum()), int(passes.sum() if of_rows else passes[:passed].sum())
            scored.append((score(chosen, covered, against), covered, chosen))
            enough = covered >= _FEW or (covered == left == 2 and length == 1 and conditions[chosen[0]].plain)
            if enough and against <= _PASSES * covered and scored[-1][0] > (best[0] if best is not None else 0.0) + 1e-9:
                best = scored[-1][0], chosen
        if length == 3:
            break
        most = sorted(scored, key=lambda one: (-one[1], -one[0], one[2]))[:_BEAM]
        kept = dict.fromkeys(chosen for _, covered, chosen in (*sorted(scored, reverse=True)[:_BEAM], *most) if covered)
        beam = dict(_longer([(chosen, *beam[chosen]) for chosen in kept], conditions, bad, good))
    return best[1] if best is not None else None


def _longer(
    beam: Iterable[tuple[tuple[int, ...], Any, Any]], conditions: Sequence[_Condition], bad: Any, good: Any
) -> Iterator[tuple[tuple[int, ...], tuple[Any, Any]]]:
    """Each of these with one condition more that rules passes out."""
    for chosen, covers, passes in beam:
        both, against = bad & covers, good & passes
        useful = np.flatnonzero((against.sum(-1) < passes.sum()) & (both.sum(-1) >= 2))
        about = {conditions[one].about for one in chosen}
        for one in useful:
            if conditions[one].about not in about:
                yield tuple(sorted((*chosen, int(one)))), (both[one], against[one])


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
