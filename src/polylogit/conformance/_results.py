"""`Result`, the outcome of one case, and `Results`, all outcomes of a run and the verdict on them.

Plain data, so that results can come from another process as JSON. Knows no framework, no operation and no renderer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

DISAGREES = ("failed", "convention", "unexpected-pass", "expired")
INCONCLUSIVE = ("inconclusive", "crashed", "timeout", "missing")
BAD = DISAGREES + INCONCLUSIVE
STATUS = {0: "agrees", 1: "disagrees", 3: "inconclusive"}
# The kinds of findings: a result is wrong, right by another convention than the contract's, or only less accurate than
# its bound.
WRONG, CONVENTION, INACCURATE = "wrong", "another convention", "less accurate"
FINDINGS = (WRONG, CONVENTION, INACCURATE)
WHOLE = "all"  # stands for the case in what is said of a whole check
SEARCH = "search"  # stands for the check in results of a search


class Judged(Protocol):
    """The outcome of a case, as a comparison or a result."""

    verdict: str
    finding: str
    once: float | None


def held_to(found: Judged, *, strict: bool = False, rounded_once: bool = False) -> None:
    """Turn a result that is only less accurate into a failure, if ``strict`` or `rounded_once` asks for it."""
    if strict and found.verdict == "inaccurate":
        found.verdict = "failed"
    if rounded_once and found.verdict == "passed" and found.once is not None and found.once > 1.0:
        found.verdict, found.finding = "failed", INACCURATE


@dataclass(slots=True)
class Result:
    """The outcome of one case.

    Attributes
    ----------
    subject : str
        A backend's name, or ``backend+module:function`` for a user's own implementation.
    operation, check, dtype, case : str
        What was run; empty if a whole process failed.
    verdict : str
        ``passed``, ``failed``, ``convention`` (right by another convention, which was not declared), ``inaccurate``
        (over the bound, by no more than rounding can explain; a failure only under ``strict``), ``unsupported``
        (declared, or refused with an error; never counted as passed), ``expected-failure``, ``unexpected-pass``,
        ``expired``, ``inconclusive`` (could not have failed), ``crashed``, ``timeout``, ``missing`` (framework not
        installed).
    error : float or None
        The worst error as a fraction of its bound; None if nothing was measured.
    message : str
        What is wrong, in words; empty if the case passed.
    details : dict
        The place and the numbers: index, inputs, expected, got, bound, row.
    length, distance : float
        For the row with the worst error: its number of entries, and the distance of the entry from the maximum.
    seed : int
    cases : int
        The number of numbers that were compared.
    finding : str
        ``wrong``, ``another convention`` or ``less accurate``; empty for a pass.
    convention : str
        The other convention, as ``name=value``; empty for none.
    once : float or None
        For 16-bit results, the worst error as a fraction of the bound for float32 arithmetic that is rounded once;
        None if nothing was measured.
    facts : dict
        The arguments of the call and properties of its logits, which failures may have in common.
    seconds : float
        How long it took to run and to judge the case.
    """

    subject: str
    operation: str = ""
    check: str = ""
    dtype: str = ""
    case: str = ""
    verdict: str = "passed"
    error: float | None = None
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    length: int = 0
    distance: float = 0.0
    seed: int = 0
    cases: int = 0
    finding: str = ""
    convention: str = ""
    once: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)

    @property
    def id(self) -> str:
        """The id for ``polylogit replay``, the same in every run."""
        parts = "/".join((self.subject, self.operation, self.check, self.dtype, self.case))
        return parts + (f"@{self.seed}" if self.seed else "")

    @property
    def is_case(self) -> bool:
        """Whether it is of one case, which ``polylogit replay`` runs, and not of a whole process or check."""
        return bool(self.case) and not (self.case == WHOLE and self.verdict == "inconclusive")

    @property
    def rounded_to(self) -> str:
        """The dtype of the result, which sets the bound: that of the logits, or of ``dtype=``."""
        if self.check == "dtypes" and self.case.startswith("into-"):
            return self.case.removeprefix("into-").removesuffix("-close")
        return self.dtype


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@dataclass(slots=True)
class Results:
    """All results of a run.

    Attributes
    ----------
    results : list of Result
    pairs : list of dict
        The largest difference between two backends, by operation and dtype: ``first``, ``second``, ``operation``,
        ``dtype``, ``ulp``, ``absolute``.
    environment : dict
        Versions, level, seed, seconds.
    """

    results: list[Result] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def bad(self) -> list[Result]:
        """Results that disagree or are inconclusive."""
        return [result for result in self.results if result.verdict in BAD]

    @property
    def failures(self) -> list[Result]:
        """Results that disagree, crashed or timed out; not those that are only missing or inconclusive."""
        return [result for result in self.results if result.verdict in (*DISAGREES, "crashed", "timeout")]

    @property
    def inconclusive(self) -> list[Result]:
        """Inconclusive results; they include a missing framework only if it was required."""
        found = [result for result in self.results if result.verdict in INCONCLUSIVE]
        return [result for result in found if result.verdict != "missing" or result.details.get("required")]

    @property
    def passed(self) -> bool:
        """Whether something ran, nothing disagrees and nothing is inconclusive."""
        return self.status == 0

    @property
    def status(self) -> int:
        """The exit status of the command line: 0 agrees, 1 disagrees, 3 inconclusive."""
        if any(result.verdict in DISAGREES for result in self.results):
            return 1
        return 3 if self.inconclusive or not any(result.verdict == "passed" for result in self.results) else 0

    @property
    def outcome(self) -> str:
        """The status in words, with the selection if the run left cases out."""
        if not self.reduced:
            return STATUS[self.status]
        return f"{STATUS[self.status]}{' on what was asked' if self.status == 0 else ''} ({self.reduced})"

    @property
    def rounded_once(self) -> bool | None:
        """Whether 16-bit results are as accurate as float32 arithmetic, rounded once; None if nothing was measured."""
        measured = [result.once for result in self.results if result.once is not None]
        return max(measured) <= 1.0 if measured else None

    @property
    def conventions(self) -> dict[str, list[Result]]:
        """The results that are right by another convention than the contract's, grouped by that convention."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            if result.convention:
                found.setdefault(result.convention, []).append(result)
        return found

    @property
    def invariance(self) -> dict[str, float]:
        """How much results of one row differ, in ulp, by the property that they should not depend on; 0 if equal."""
        found: dict[str, float] = {}
        for result in self.results:
            for cause, apart in result.details.get("invariance", {}).items():
                found[cause] = max(found.get(cause, 0.0), apart)
        return found

    @property
    def reduced(self) -> str:
        """The selection of a run that left cases out, and how many it ran; empty for a complete run."""
        left_out = self.environment.get("left_out", {})
        if not left_out:
            return ""
        options = self.environment.get("options", {})
        given = [f"--{name.replace('_', '-')} {_listed(options[name])}" for name in left_out if name in options]
        given += [name for name in left_out if name not in options]
        ran = self.environment["cases_run"]
        return f"{', '.join(given)}; {ran:,} of {ran + sum(left_out.values()):,} cases"

    @property
    def subjects(self) -> list[str]:
        """The subjects of the results, in order."""
        return list(dict.fromkeys(result.subject for result in self.results))

    def worst(self, operation: str, subject: str, check: str | None = None) -> float | None:
        """The largest error as a fraction of its bound."""
        asked = [one for one in self.results if (one.operation, one.subject) == (operation, subject)]
        errors = [one.error for one in asked if one.error is not None and check in (None, one.check)]
        return max(errors) if errors else None

    def matrix(self, *keys: str, among: Iterable[Result] | None = None) -> dict[tuple[str, ...], dict[str, Any]]:
        """Counts of verdicts and the worst error, grouped by attributes, over all results or over `among`."""
        cells: dict[tuple[str, ...], dict[str, Any]] = defaultdict(lambda: {"error": None, "verdicts": Counter()})
        for result in self.results if among is None else among:
            cell = cells[tuple(getattr(result, key) for key in keys)]
            cell["verdicts"][result.verdict] += 1
            if result.error is not None:
                cell["error"] = max(result.error, cell["error"] if cell["error"] is not None else 0.0)
        return dict(cells)

    @property
    def counts(self) -> dict[str, int]:
        """The number of results with each verdict."""
        return dict(Counter(result.verdict for result in self.results))

    def as_dict(self) -> dict[str, Any]:
        """The content of the JSON report, as plain data."""
        results = [{"id": result.id, **asdict(result)} for result in self.results]
        return {"environment": self.environment, "pairs": self.pairs, "results": results}
