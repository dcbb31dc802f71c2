"""Expected failures: known defects, with their reason and an expiry date.

A TOML file has tables ``[[expected]]`` with ``reason`` and any of ``operation``, ``backend``, ``check``, ``dtype``,
``case`` (shell patterns; a missing one matches all), ``issue`` and ``expires`` (a date). Knows only the ids of results.
"""

from __future__ import annotations

import datetime
import fnmatch
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit._operations import OPERATIONS
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._results import SEARCH, Result
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance._results import Results

_PATTERNS = ("operation", "backend", "check", "dtype", "case")
_KNOWN = (*_PATTERNS, "reason", "issue", "expires")


@dataclass(frozen=True, slots=True)
class ExpectedFailure:
    """One table of the file."""

    reason: str
    operation: str = "*"
    backend: str = "*"
    check: str = "*"
    dtype: str = "*"
    case: str = "*"
    issue: str = ""
    expires: datetime.date | None = None

    def matches(self, result: Result) -> bool:
        """Whether the entry applies to this result."""
        subject = result.subject, result.subject.partition("+")[0]
        return any(fnmatch.fnmatchcase(one, self.backend) for one in subject) and all(
            fnmatch.fnmatchcase(getattr(result, name), getattr(self, name)) for name in _PATTERNS if name != "backend"
        )

    @property
    def expired(self) -> bool:
        """Whether its date has passed."""
        return self.expires is not None and self.expires < datetime.datetime.now(tz=datetime.UTC).date()


def read(given: Any) -> tuple[ExpectedFailure, ...]:
    """Read the tables from a path, a list of dicts, or None."""
    if given is None:
        return ()
    tables = _tables(given) if isinstance(given, (str, os.PathLike)) else list(given)
    return tuple(one if isinstance(one, ExpectedFailure) else _expected(one) for one in tables)


def _tables(path: Any) -> list[Any]:
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        message = f"expected_failures={str(path)!r} cannot be read: {error}. Give a TOML file with [[expected]] tables."
        raise ConformanceError(message) from None
    tables = found.get("expected", [])
    if set(found) - {"expected"} or not isinstance(tables, list):
        message = (
            f"expected_failures={str(path)!r} holds {', '.join(found)}; give [[expected]] tables and nothing else."
        )
        raise ConformanceError(message)
    return tables


def _expected(table: Any) -> ExpectedFailure:
    unknown = set(table) - set(_KNOWN)
    if unknown or not str(table.get("reason", "")).strip():
        wrong = f"has {', '.join(sorted(unknown))}" if unknown else "has no reason"
        message = f"an expected failure {wrong}; it takes {', '.join(_KNOWN)}, and reason is required: {dict(table)!r}"
        raise ConformanceError(message)
    expires = table.get("expires")
    if isinstance(expires, datetime.datetime):
        expires = expires.date()
    elif isinstance(expires, str):
        try:
            expires = datetime.date.fromisoformat(expires)
        except ValueError:
            message = f"an expected failure has expires={expires!r}; write a date, as 2031-01-31: {dict(table)!r}"
            raise ConformanceError(message) from None
    # A misspelt name would match nothing, for good and without a word.
    for key, known in (("operation", OPERATIONS), ("check", (*CHECKS, SEARCH)), ("dtype", DTYPES)):
        if key in table and not fnmatch.filter(known, table[key]):
            message = f"an expected failure has {key}={table[key]!r}, which matches none of {', '.join(known)}."
            raise ConformanceError(message)
    return ExpectedFailure(**{**table, "expires": expires})


def apply(report: Results, expected: Sequence[ExpectedFailure], *, strict: bool) -> None:
    """Mark results that are expected to fail; under `strict`, an entry that expired or no longer fails is a failure."""
    failed: dict[ExpectedFailure, bool] = dict.fromkeys(expected, False)
    seen: dict[ExpectedFailure, Result] = {}
    for result in report.results:
        for one in [entry for entry in expected if entry.matches(result)]:
            seen.setdefault(one, result)
            if result.verdict == "failed":
                failed[one] = True
                result.details = {**result.details, "reason": one.reason, "issue": one.issue}
                if one.expired:
                    result.message += f" (expected until {one.expires}: {one.reason})"
                    result.verdict = "expired" if strict else "failed"
                else:
                    result.verdict = "expected-failure"
                break
    for one, result in seen.items() if strict else ():
        if not failed[one]:
            message, details = f"expected to fail ({one.reason}) and passes; take the entry out", {"reason": one.reason}
            where = (result.subject, result.operation, result.check, result.dtype, one.case)
            details["issue"] = one.issue
            report.results.append(Result(*where, "unexpected-pass", message=message, details=details))
