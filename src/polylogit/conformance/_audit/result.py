"""`Audit`, the result of an audit, with methods that write it. Knows nothing of how the audit was made."""

from __future__ import annotations

import html
import json
import math
import re
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from polylogit._io import plain_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

__all__ = ["SCHEMA", "Audit", "Outcome"]

SCHEMA = "polylogit.audit/1"
TOLERANCE, INPUTS = "the tolerance hides it", "the inputs do not show it"
_WIDTH = 118
_MARKS = {"passed": "passes", "caught": "fails", "not applicable": "does not apply"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict of a test on one implementation.

    Attributes
    ----------
    name : str
    kind : {"stand-in", "fault", "right"}
        A stand-in computes no softmax: zeros, a constant, the input, results in another order.
    verdict : {"passed", "caught", "not applicable"}
        The verdict of the test; a right implementation that is "caught" is wrongly accused.
    reason : str
        Why a wrong implementation passes ("the tolerance hides it" or "the inputs do not show it"), or why it does not
        apply.
    margin : float or None
        The error in multiples of the tolerance; infinite if no tolerance would suffice.
    wrong : str
        The fault, in a sentence.
    reports : tuple of str
        Bug reports of the fault in released implementations.
    """

    name: str
    kind: str
    verdict: str
    reason: str = ""
    margin: float | None = None
    wrong: str = ""
    reports: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the test lets it through."""
        return self.verdict == "passed"


@dataclass(frozen=True, slots=True, repr=False)
class Audit:
    """The result of `audit`: which wrong implementations a test lets through.

    Attributes
    ----------
    operation, dtype : str
    part : {"value", "gradient", "nll", "mean nll", "sum nll"}
        What the test compares.
    compare : str
    atol, rtol : float
    axis : int, tuple of int or None
    shapes : tuple of tuple of int
        The shapes of the arrays that were used.
    rows, rows_in_all : int
        The number of rows that were used, and that the test has.
    outcomes : tuple of Outcome

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> x = np.random.default_rng(0).random((16, 4096))
    >>> found = conformance.audit(x, "softmax", atol=1e-2, rtol=1e-2, dtype="float16")
    >>> found.zeros, found.sound
    (True, False)
    """

    operation: str
    dtype: str
    part: str
    compare: str
    atol: float
    rtol: float
    axis: Any
    shapes: tuple[tuple[int, ...], ...]
    rows: int
    rows_in_all: int
    outcomes: tuple[Outcome, ...]

    # --- what was found ----------------------------------------------------------------------------------------------

    def of(self, kind: str, verdict: str | None = None) -> tuple[Outcome, ...]:
        """The outcomes of a kind, optionally with a given verdict."""
        chosen = (one for one in self.outcomes if one.kind == kind)
        return tuple(one for one in chosen if verdict is None or one.verdict == verdict)

    def __getitem__(self, name: str) -> Outcome:
        """The outcome of that name."""
        for one in self.outcomes:
            if one.name == name:
                return one
        message = f"{name!r} is no outcome of this audit; see the names in its `outcomes`."
        raise KeyError(message)

    @property
    def zeros(self) -> bool:
        """Whether zeros would pass."""
        return self["zeros"].passed

    @property
    def constant(self) -> bool:
        """Whether a constant would pass, or for log_softmax the input minus a constant."""
        return any(self[name].passed for name in ("a constant", "the input less a constant") if name in self.names)

    @property
    def input(self) -> bool:
        """Whether the input would pass, or the cotangent as a gradient."""
        return any(self[name].passed for name in ("the input", "the cotangent") if name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outcomes."""
        return tuple(one.name for one in self.outcomes)

    @property
    def passed(self) -> tuple[Outcome, ...]:
        """The faults that would pass."""
        return self.of("fault", "passed")

    @property
    def caught(self) -> tuple[Outcome, ...]:
        """The faults that would be caught."""
        return self.of("fault", "caught")

    @property
    def hidden(self) -> tuple[Outcome, ...]:
        """The faults that are wrong on these inputs and pass."""
        return tuple(one for one in self.passed if one.reason == TOLERANCE)

    @property
    def unseen(self) -> tuple[Outcome, ...]:
        """The faults that pass because they are right on these inputs."""
        return tuple(one for one in self.passed if one.reason == INPUTS)

    @property
    def fraction(self) -> float:
        """The fraction of the applicable faults that are caught; 1 if none applies."""
        applicable = len(self.passed) + len(self.caught)
        return len(self.caught) / applicable if applicable else 1.0

    @property
    def accused(self) -> tuple[Outcome, ...]:
        """The right implementations that would fail."""
        return self.of("right", "caught")

    @property
    def sound(self) -> bool:
        """Whether every stand-in and every fault that applies would fail."""
        return not self.passed and not self.of("stand-in", "passed")

    @property
    def status(self) -> int:
        """The exit status of the command: 0 if the test is sound, otherwise 1."""
        return 0 if self.sound else 1

    # --- how it is written -------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        applicable = len(self.passed) + len(self.caught)
        zeros = "zeros pass" if self.zeros else "zeros fail"
        return (
            f"<Audit of {self.operation}, {self.dtype}, {self.part}: {zeros}; "
            f"{len(self.caught)} of {applicable} faults caught, {len(self.accused)} right ones accused>"
        )

    def setting(self) -> str:
        """The test, in a sentence."""
        parts = {"value": "", "gradient": "the gradient of "}
        what = parts.get(self.part, f"{self.part} of ") + self.operation
        shapes = ", ".join("x".join(map(str, shape)) or "0-d" for shape in self.shapes[:4])
        shapes += f" and {len(self.shapes) - 4} more" if len(self.shapes) > 4 else ""
        used = f"{self.rows:,} of {self.rows_in_all:,} rows used" if self.rows < self.rows_in_all else "all rows used"
        return (
            f"{what} of {self.dtype}, {self.compare} with atol {self.atol:g} and rtol {self.rtol:g}, {shapes} ({used})"
        )

    def summary(self) -> str:
        """The findings in a few lines of text."""
        lines = [self.setting() + ":", ""]
        for one in self.of("stand-in"):
            lines.append(f"  {one.name:26} {_MARKS[one.verdict]:14} {_margin(one)}".rstrip())
        lines += ["", *textwrap.wrap(self._counts(), _WIDTH)]
        for title, found in (("Wrong on these inputs, and passes:", self.hidden), *self._accusation()):
            if found:
                lines += ["", title]
                lines += [line for one in found for line in _wrapped(one)]
        if self.unseen:
            names = ", ".join(_families(self.unseen))
            lines += ["", "Passes because these inputs do not show it:"]
            lines += textwrap.wrap(names, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    __str__ = summary

    def _accusation(self) -> list[tuple[str, tuple[Outcome, ...]]]:
        return [("Right, and fails:", self.accused)]

    def _counts(self) -> str:
        applicable, right = len(self.passed) + len(self.caught), self.of("right", "passed")
        said = f"{len(self.caught)} of {applicable} faults are caught"
        said += f" ({100 * self.fraction:.0f} %)" if applicable else ""
        if self.passed:
            said += f"; {len(self.hidden)} pass within the tolerance, {len(self.unseen)} because the inputs do not "
            said += "show them"
        said += f". Of {len(right) + len(self.accused)} right implementations {len(self.accused)} fail."
        if self.rows < self.rows_in_all:
            said += (
                f" Closeness was judged over {self.rows:,} of {self.rows_in_all:,} rows, which stand for the others;"
            )
            said += " what nearly fails on them may fail on all."
        return said

    def as_dict(self) -> dict[str, Any]:
        """The content of the JSON report."""
        setting = ("operation", "dtype", "part", "compare", "atol", "rtol", "axis", "shapes", "rows", "rows_in_all")
        found: dict[str, Any] = {"schema": SCHEMA, **{name: getattr(self, name) for name in setting}}
        found |= {name: getattr(self, name) for name in ("sound", "zeros", "constant", "input", "fraction")}
        found["counts"] = {
            name: len(getattr(self, name)) for name in ("caught", "passed", "hidden", "unseen", "accused")
        }
        found["outcomes"] = [asdict(one) for one in self.outcomes]
        plain: dict[str, Any] = plain_json(found)
        return plain

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """Everything as JSON text, also written to a file if a path is given."""
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            write_whole(path, text)
        return text

    def to_markdown(self) -> str:
        """The findings as Markdown."""
        lines = [f"**{self.setting()}**", "", "| instead of the operation | the test | times the tolerance |"]
        lines += ["|---|---|--:|"]
        lines += [f"| {one.name} | {_MARKS[one.verdict]} | {_size(one)} |" for one in self.of("stand-in")]
        lines += ["", self._counts(), ""]
        if self.passed or self.accused:
            lines += ["| fault | what is wrong | why it passes | reported |", "|---|---|---|---|"]
            lines += [f"| {one.name} | {one.wrong} | {one.reason} | {', '.join(one.reports)} |" for one in self.passed]
            lines += [f"| {one.name} | right | *accused* | |" for one in self.accused]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
            cells = "".join(f"<th style='text-align:left'>{html.escape(one)}</th>" for one in head)
            body = "".join(
                "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(one)}</td>" for one in row) + "</tr>"
                for row in rows
            )
            return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"

        parts = [f"<p><b>{html.escape(self.setting())}</b></p>"]
        parts += [
            table(
                ("instead of the operation", "the test", "times the tolerance"),
                [(one.name, _MARKS[one.verdict], _size(one)) for one in self.of("stand-in")],
            )
        ]
        parts += [f"<p>{html.escape(self._counts())}</p>"]
        rows = [(one.name, one.wrong, one.reason, ", ".join(one.reports)) for one in self.passed]
        rows += [(one.name, "right", "accused", "") for one in self.accused]
        if rows:
            parts.append(table(("fault", "what is wrong", "why it passes", "reported"), rows))
        return "".join(parts)


def _size(one: Outcome) -> str:
    if one.margin is None:
        return ""
    return "∞" if math.isinf(one.margin) else f"{one.margin:.2g}"


def _margin(one: Outcome) -> str:
    if not one.margin or math.isinf(one.margin):
        return one.reason
    said = f"{one.margin:.2g} times the tolerance"
    return f"{said}; {one.reason}" if one.reason else said


def _families(outcomes: tuple[Outcome, ...]) -> list[str]:
    """The names, with those that differ only in a number combined, and their counts."""
    stems = [re.sub(r"_?-?\d[\d.e+-]*(_|$)", r"_*\1", one.name).partition("*")[0] for one in outcomes]
    counts = Counter(stems)
    names = (
        one.name if counts[stem] < 3 else f"{stem}* ({counts[stem]})" for one, stem in zip(outcomes, stems, strict=True)
    )
    return list(dict.fromkeys(names))


def _wrapped(one: Outcome) -> list[str]:
    reported = f" ({', '.join(one.reports)})" if one.reports else ""
    wrong = f": {one.wrong}" if one.wrong else ""
    return textwrap.wrap(f"{one.name}{wrong}{reported}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
