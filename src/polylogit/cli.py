"""The command line: ``polylogit backends | conform | check | compare | replay``.

Exit status 0 agrees, 1 disagrees, 2 usage, 3 inconclusive. What it needs beyond NumPy is in the extra ``conformance``;
without it, it says so.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("click", "rich", "mpmath", "jinja2", "ml_dtypes", "safetensors")


def main() -> None:
    """The entry point of the console script."""
    try:
        from polylogit.commands import polylogit  # noqa: PLC0415  needs click, which may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        _say_what_is_missing(error.name or "")
    try:
        polylogit()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        _say_what_is_missing(error.name or "")


def _say_what_is_missing(name: str) -> None:
    sys.stderr.write(
        f'polylogit: the command line needs {name}; install it with: pip install "polylogit[conformance]"\n'
    )
    sys.exit(2)


if __name__ == "__main__":
    main()
