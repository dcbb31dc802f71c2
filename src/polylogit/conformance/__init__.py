"""The conformance kit: tests implementations of softmax, log_softmax and sigmoid, including their gradients.

`run` tests registered backends, `sharded` tests them on arrays split over devices, and `check` tests your own function;
each returns a `Report`. `audit` examines a test, and shows what it would let through. The kit needs the extra
``conformance``; this module imports none of it before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polylogit.conformance._api import cases, check, replay, run, search, sharded, verify_implementation
    from polylogit.conformance._audit import Audit, Outcome, audit, drawing
    from polylogit.conformance._report import Report
    from polylogit.conformance._results import Result

__all__ = [
    "Audit",
    "Outcome",
    "Report",
    "Result",
    "audit",
    "cases",
    "check",
    "drawing",
    "replay",
    "run",
    "search",
    "sharded",
    "verify_implementation",
]

_ELSEWHERE = {
    "Report": "_report",
    "Result": "_results",
    "Audit": "_audit",
    "audit": "_audit",
    "Outcome": "_audit",
    "drawing": "_audit",
}  # all others in _api


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module 'polylogit.conformance' has no attribute {name!r}"
        raise AttributeError(message)
    try:
        value = getattr(importlib.import_module(f"polylogit.conformance.{_ELSEWHERE.get(name, '_api')}"), name)
    except ModuleNotFoundError as error:
        from polylogit._extras import command
        from polylogit.errors import BackendUnavailableError

        if error.name not in ("mpmath", "ml_dtypes", "numpy"):
            raise
        message = f"the conformance kit needs {error.name}; install it with: {command('conformance')}"
        raise BackendUnavailableError(message, name=error.name) from error
    globals()[name] = value
    return value
