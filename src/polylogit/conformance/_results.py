"""What the kit found: one `Result` a case, and `Results`, which hold them and say whether all is well.

Plain data, so that it can come from another process as JSON. Knows no framework, no operation and no way of printing.
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
# What a finding is: a number that is wrong, one that is right by another convention than the contract's, one that is
# only less accurate than its bound.
WRONG, CONVENTION, INACCURATE = "wrong", "another convention", "less accurate"
FINDINGS = (WRONG, CONVENTION, INACCURATE)
SEARCH = "search"  # stands for the check in results of a search


class Judged(Protocol):
    """What a case came to, as a comparison or a result."""

    verdict: str
    finding: str
    once: float | None


def held_to(found: Judged, *, strict: bool = False, rounded_once: bool = False) -> None:
    """Make a failure of what is only less accurate than it should be, as `strict` and `rounded_once` ask."""
    if strict and found.verdict == "inaccurate":
        found.verdict = "failed"
    if rounded_once and found.verdict == "passed" and found.once is not None and found.once > 1.0:
        found.verdict, found.finding = "failed", INACCURATE


@dataclass(slots=True)
class Result:
    """What one case showed.

    Attributes
    ----------
    subject : str
        A backend's name, or ``backend+module:function`` for a user's own implementation.
    operation, check, dtype, case : str
        What was run; empty where a whole process came to nothing.
    verdict : str
        ``passed``, ``failed``, ``convention`` (right by another one, which was not declared), ``inaccurate`` (over the
        bound, by no more than rounding may explain; no failure unless that was asked for), ``unsupported`` (declared,
        or refused with an error; never counted as passed), ``expected-failure``, ``unexpected-pass``, ``expired``,
        ``inconclusive`` (could not have failed), ``crashed``, ``timeout``, ``missing`` (framework not installed).
    error : float or None
        The worst error as a fraction of its bound; None where nothing was measured.
    message : str
        For anything but a pass: what is wrong, in words.
    details : dict
        Where: index, inputs, expected, got, bound, row.
    length, distance : float
        Of the row with the worst error: how many entries, and how far below the maximum.
    seed : int
    cases : int
        How many numbers were compared.
    finding : str
        Of what does not pass as it is: ``wrong``, ``another convention`` or ``less accurate``; empty otherwise.
    convention : str
        Which one, as ``name=value``; empty for none.
    once : float or None
        Of 16-bit results, the worst error as a fraction of what it may be if they are computed in float32 and rounded
        once; None where nothing was measured.
    facts : dict
        How the case was asked, and of what kind its logits are: what failures may have in common.
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

    @property
    def id(self) -> str:
        """As ``polylogit replay`` takes it; the same at every run."""
        parts = "/".join((self.subject, self.operation, self.check, self.dtype, self.case))
        return parts + (f"@{self.seed}" if self.seed else "")

    @property
    def rounded_to(self) -> str:
        """The dtype of what was returned, whose bound it is: that of the logits, or the one that was asked for."""
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
        """Results that disagree, and all from which nothing can be concluded."""
        return [result for result in self.results if result.verdict in BAD]

    @property
    def failures(self) -> list[Result]:
        """Results that disagree, and crashes and the like; what is merely missing or inconclusive is not among them."""
        return [result for result in self.results if result.verdict in (*DISAGREES, "crashed", "timeout")]

    @property
    def inconclusive(self) -> list[Result]:
        """Results from which nothing can be concluded; a missing framework is one where it was required."""
        found = [result for result in self.results if result.verdict in INCONCLUSIVE]
        return [result for result in found if result.verdict != "missing" or result.details.get("required")]

    @property
    def passed(self) -> bool:
        """Whether something was run, nothing disagrees and nothing is inconclusive."""
        return self.status == 0

    @property
    def status(self) -> int:
        """The exit status of the command line: 0 agrees, 1 disagrees, 3 inconclusive."""
        if any(result.verdict in DISAGREES for result in self.results):
            return 1
        return 3 if self.inconclusive or not any(result.verdict == "passed" for result in self.results) else 0

    @property
    def outcome(self) -> str:
        """The status in words; of a run that left cases out, what was asked."""
        if not self.reduced:
            return STATUS[self.status]
        return f"{STATUS[self.status]}{' on what was asked' if self.status == 0 else ''} ({self.reduced})"

    @property
    def rounded_once(self) -> bool | None:
        """Whether 16-bit results are what float32 arithmetic, rounded once, gives; None where nothing was measured."""
        measured = [result.once for result in self.results if result.once is not None]
        return max(measured) <= 1.0 if measured else None

    @property
    def conventions(self) -> dict[str, list[Result]]:
        """The results that are right by another convention than the contract's, by that convention."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            if result.convention:
                found.setdefault(result.convention, []).append(result)
        return found

    @property
    def invariance(self) -> dict[str, float]:
        """By what a row's result must not depend on, how far apart results of one row are, in ulp; 0 for the same."""
        found: dict[str, float] = {}
        for result in self.results:
            for cause, apart in result.details.get("invariance", {}).items():
                found[cause] = max(found.get(cause, 0.0), apart)
        return found

    @property
    def reduced(self) -> str:
        """What was asked of a run that left cases out, and how many it ran; empty for a whole run."""
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
        """What was examined, in order."""
        return list(dict.fromkeys(result.subject for result in self.results))

    def worst(self, operation: str, subject: str, check: str | None = None) -> float | None:
        """The largest error as a fraction of its bound."""
        asked = [one for one in self.results if (one.operation, one.subject) == (operation, subject)]
        errors = [one.error for one in asked if one.error is not None and check in (None, one.check)]
        return max(errors) if errors else None

    def matrix(self, *keys: str, among: Iterable[Result] | None = None) -> dict[tuple[str, ...], dict[str, Any]]:
        """Counts of verdicts and the worst error, grouped by attributes of the results, or of some of them."""
        cells: dict[tuple[str, ...], dict[str, Any]] = defaultdict(lambda: {"error": None, "verdicts": Counter()})
        for result in self.results if among is None else among:
            cell = cells[tuple(getattr(result, key) for key in keys)]
            cell["verdicts"][result.verdict] += 1
            if result.error is not None:
                cell["error"] = max(result.error, cell["error"] if cell["error"] is not None else 0.0)
        return dict(cells)

    @property
    def counts(self) -> dict[str, int]:
        """How many results have each verdict."""
        return dict(Counter(result.verdict for result in self.results))

    def as_dict(self) -> dict[str, Any]:
        """Plain data: what the JSON report holds."""
        results = [{"id": result.id, **asdict(result)} for result in self.results]
        return {"environment": self.environment, "pairs": self.pairs, "results": results}
