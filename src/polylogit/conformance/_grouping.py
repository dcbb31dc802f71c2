"""Groups failures by cause: what the failures of an implementation have in common, and its passes do not.

`polylogit.conformance._causes` finds the causes. Knows results as plain data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._causes import causes
from polylogit.conformance._results import BAD, CONVENTION, INACCURATE, WRONG, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from polylogit.conformance._results import Results

__all__ = ["Group", "grouped", "symptom"]


@dataclass(frozen=True, eq=False)
class Group:
    """Results with one common cause.

    Attributes
    ----------
    finding : str
        ``wrong``, ``another convention`` or ``less accurate``; for results without a finding, the verdict.
    subject, operation : str
    pattern : str
        What they have in common, in words: "the axis is not the last"; "" for everything, None if nothing was found.
    results : list of Result
        The smallest case first.
    passes : int
        The number of passing results that match the pattern.
    symptoms : dict of str to int
        What went wrong, in words, and the number of times.
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
        """The cause in one line."""
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
            return f"{verb} in {_cases(count)}" + (f", no common pattern: {where}" if count > 1 else "")
        if not self.pattern:
            return f"{verb} everywhere: {_cases(count)}"
        if self.passes:
            return f"{verb} mostly where {self.pattern}: {count} of {_cases(count + self.passes)}"
        return f"{verb} wherever {self.pattern}: {_cases(count)}"


def grouped(report: Results) -> list[Group]:
    """All results that do not pass, by cause: wrong ones first, the largest group of each implementation first."""
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
        for kind in _by_kind(bad):
            for pattern, found, passes in causes(kind, passed):
                yield _group(finding, subject, operation, pattern, found, passes)
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


def _by_kind(bad: Iterable[Result]) -> list[list[Result]]:
    """Wrong numbers in one list; other failures in a list for each kind."""
    kinds: dict[str, list[Result]] = {}
    for result in bad:
        numbers = result.details.get("got") is not None or result.message.startswith("broken in row")
        kinds.setdefault("" if numbers else symptom(result), []).append(result)
    return sorted(kinds.values(), key=len, reverse=True)


def _group(finding: str, subject: str, operation: str, pattern: str | None, found: list[Result], passes: int) -> Group:
    symptoms = dict(Counter(symptom(one) for one in found).most_common())
    return Group(finding, subject, operation, pattern, sorted(found, key=_size), passes, symptoms)


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
    """The sort key that puts small and plain cases first: few numbers, a plain call, a common dtype."""
    facts = result.facts
    numbers = facts.get("length", result.length or 1 << 30) * facts.get("rows", 1)
    plain = (facts.get("kind", "values") != "values", facts.get("layout", "contiguous") != "contiguous")
    dtypes = ("float32", "float64", *DTYPES)
    return numbers, plain, dtypes.index(result.dtype) if result.dtype in dtypes else 99, result.id


# --- what went wrong --------------------------------------------------------------------------------------------------

_OTHER_DTYPE = re.compile(r"the (\w+) is \w+; it should be \w+")
_NUMBER = re.compile(r"\([^()]*\)|[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def _bare(message: str) -> str:
    """A message without its numbers."""
    return _NUMBER.sub("…", message)


def symptom(result: Result) -> str:
    """The failure in words, without the numbers of the case."""
    right, got = result.details.get("expected"), result.details.get("got")
    if right is None or got is None:
        if other := _OTHER_DTYPE.fullmatch(result.message):
            return f"the {other[1]} has another dtype than it should"
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
