"""Selects the cases to run (by patterns, by size, by time, after a crash), and counts those left out, with the reason.

Knows cases by their names and arrays; runs nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance._case import Case


@dataclass(slots=True, eq=False)
class Selection:
    """The selection of cases, and a count of those that it leaves out.

    Attributes
    ----------
    only, skip : sequence of str
        Shell patterns for a check's name, ``check/dtype/case`` or an id: all others are left out, or these.
    max_size : int or None
        Logits in one array; cases with more are left out.
    budget : float or None
        Seconds; when they are over, no further case is begun.
    after : str
        The id of the case after which to go on: those up to it have been run, or have been tried.
    run : int
        Cases that were run.
    left_out : Counter
        Cases that were not, by the option that left them out.
    """

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    max_size: int | None = None
    budget: float | None = None
    after: str = ""
    run: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    _start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Refuse what would leave nothing, or is no list."""
        for name in ("only", "skip"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Iterable):
                message = f"{name}={given!r} is no list of patterns; write {name}=[{given!r}]."
                raise ConformanceError(message)
        for name in ("max_size", "budget"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                message = f"{name}={value!r} leaves no case; give a number above 0."
                raise ConformanceError(message)

    def wants(self, check: str, case: Case, identifier: str) -> bool:
        """Whether a case should run."""
        if self.after:
            self.after = "" if identifier == self.after else self.after
            return False
        why = self.why_not(check, case, identifier)
        if why:
            self.left_out[why] += 1
        else:
            self.run += 1
        return not why

    def why_not(self, check: str, case: Case, identifier: str) -> str:
        """The option that leaves a case out; empty for none."""
        if self.only and not matched(check, identifier, self.only):
            return "only"
        if matched(check, identifier, self.skip):
            return "skip"
        if self.max_size is not None and size(case) > self.max_size:
            return "max_size"
        return "budget" if self.spent else ""

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return self.budget is not None and time.monotonic() - self._start > self.budget


def matched(check: str, identifier: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns is for this case."""
    names = (check, check.replace(" ", "-"), "/".join(identifier.partition("@")[0].split("/")[2:]), identifier)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def size(case: Case) -> int:
    """The number of logits in the largest array of a case."""
    return case.x.size if case.x is not None else max(map(_size, case.arguments), default=0)


def _size(argument: Any) -> int:
    if isinstance(argument, np.ndarray):
        return argument.size
    if isinstance(argument, (tuple, list)) and argument:
        if all(isinstance(one, int) for one in argument):
            return int(np.prod(argument, dtype=object))
        return max(map(_size, argument))
    return 0
