"""Expected failures: what is known to be wrong, why, and until when.

A TOML file holds tables ``[[expected]]`` with ``reason`` and any of ``operation``, ``backend``, ``check``, ``dtype``,
``case`` (shell patterns; what is left out matches all), ``issue`` and ``expires`` (a date). Knows results alone.
"""

from __future__ import annotations

import datetime
import fnmatch
import importlib
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit.conformance.results import SEARCH
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit.conformance.results import Report, Result

__all__ = ["Expected", "apply", "load", "read"]

_PATTERNS = ("operation", "backend", "check", "dtype", "case")
_KNOWN = (*_PATTERNS, "reason", "issue", "expires")


@dataclass(frozen=True, slots=True)
class Expected:
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
        """Whether it speaks of this result."""
        subject = result.subject, result.subject.partition("+")[0]
        return any(fnmatch.fnmatchcase(one, self.backend) for one in subject) and all(
            fnmatch.fnmatchcase(getattr(result, name), getattr(self, name)) for name in _PATTERNS if name != "backend"
        )

    @property
    def expired(self) -> bool:
        """Whether its date is over."""
        return self.expires is not None and self.expires < datetime.datetime.now(tz=datetime.UTC).date()


def read(given: Any) -> tuple[Expected, ...]:
    """From a path, a list of dicts, or None."""
    if given is None:
        return ()
    if isinstance(given, (str, os.PathLike)):
        try:
            found = tomllib.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            message = (
                f"expected_failures={str(given)!r} cannot be read: {error}. Give a TOML file with [[expected]] tables."
            )
            raise ConformanceError(message) from None
        if set(found) - {"expected"} or not isinstance(found.get("expected", []), list):
            message = (
                f"expected_failures={str(given)!r} holds {', '.join(found)}; give [[expected]] tables and nothing else."
            )
            raise ConformanceError(message)
        tables = found.get("expected", [])
    else:
        tables = list(given)
    return tuple(one if isinstance(one, Expected) else _expected(one) for one in tables)


def _expected(table: Any) -> Expected:
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
    _check_patterns(table)
    return Expected(**{**table, "expires": expires})


def _check_patterns(table: Any) -> None:
    """A misspelt name would match nothing, for good and without a word."""
    from polylogit.conformance.checks import CHECKS  # noqa: PLC0415  only where a file is given
    from polylogit.spec.dtypes import DTYPES  # noqa: PLC0415
    from polylogit.spec.operations import DEFINITIONS  # noqa: PLC0415

    for key, known in (("operation", DEFINITIONS), ("check", (*CHECKS, SEARCH)), ("dtype", DTYPES)):
        if key in table and not fnmatch.filter(known, table[key]):
            message = f"an expected failure has {key}={table[key]!r}, which matches none of {', '.join(known)}."
            raise ConformanceError(message)


def apply(report: Report, expected: Sequence[Expected], *, strict: bool) -> None:
    """Mark results that are expected to fail; under `strict`, an expectation that expired or no longer fails is one."""
    failed: dict[Expected, bool] = dict.fromkeys(expected, False)
    seen: dict[Expected, Result] = {}
    for result in report.results:
        for one in expected:
            if not one.matches(result):
                continue
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
    if not strict:
        return
    for one, result in seen.items():
        if not failed[one]:
            message = f"expected to fail ({one.reason}) and passes; take the entry out"
            report.results.append(_copy(result, one, "unexpected-pass", message))


def _copy(result: Result, expected: Expected, verdict: str, message: str) -> Result:
    details = {"reason": expected.reason, "issue": expected.issue}
    return type(result)(
        result.subject, result.operation, result.check, result.dtype, expected.case, verdict, None, message, details
    )


def load(target: str) -> Any:
    """The object that ``module:function`` names; a module of the current directory too.

    Raises
    ------
    ConformanceError
        When there is none.
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        message = f'{target!r} names no function; write "module:function", for example "my_kernels:softmax".'
        raise ConformanceError(message)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        message = f"{target!r} cannot be loaded: {type(error).__name__}: {error}"
        raise ConformanceError(message) from error
    return found
