"""The conformance kit: whether an implementation of softmax, log_softmax or sigmoid is right, gradients included.

`run` examines registered backends, `check` a callable of one's own; both return a `Report`. Needs the extra
``conformance``; nothing of it is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polylogit.conformance.api import check, replay, run, search, verify_implementation
    from polylogit.conformance.results import Report, Result

__all__ = ["Report", "Result", "check", "replay", "run", "search", "verify_implementation"]

_LAZY = {
    "Report": "polylogit.conformance.results",
    "Result": "polylogit.conformance.results",
    "check": "polylogit.conformance.api",
    "replay": "polylogit.conformance.api",
    "run": "polylogit.conformance.api",
    "search": "polylogit.conformance.api",
    "verify_implementation": "polylogit.conformance.api",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'polylogit.conformance' has no attribute {name!r}"
        raise AttributeError(message)
    try:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        from polylogit.errors import BackendUnavailableError  # noqa: PLC0415

        if error.name not in ("mpmath", "ml_dtypes", "numpy"):
            raise
        message = f'the conformance kit needs {error.name}; install it with: pip install "polylogit[conformance]"'
        raise BackendUnavailableError(message, name=error.name) from error
    globals()[name] = value
    return value
