"""The entry point of ``polylogit`` and ``python -m polylogit``: runs `polylogit._cli`, or says what to install for it.

The commands need the extra ``conformance``, except ``-h``, ``--version`` and ``backends``, which need only NumPy. Knows
no command.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

_NEEDED = ("click", "rich", "mpmath", "jinja2", "ml_dtypes", "safetensors")


_interrupted = False


def main() -> None:
    """The entry point of the console script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        _command()
    except BaseException:
        if not _interrupted:
            raise
        from polylogit._commands import INTERRUPTED

        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT as Python does, and remember it: NumPy's import turns the interruption into another exception."""
    global _interrupted  # one flag per process
    _interrupted = True
    signal.default_int_handler(number, frame)


def _command() -> None:
    try:
        from polylogit._cli import polylogit  # needs click, which may be missing

        polylogit()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        _do_without(missing)


def _do_without(missing: str) -> None:
    """Run the commands that need only NumPy; for all others say what to install."""
    from polylogit._commands import INSTALL, answer

    found = answer(sys.argv[1:]) if missing == "click" else None
    if found is None:
        found = f"polylogit: this command needs {missing}; install it with: {INSTALL}", 2
    words, status = found
    (sys.stderr if status else sys.stdout).write(words + "\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
