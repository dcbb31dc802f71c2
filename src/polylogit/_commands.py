"""The table of the commands: purpose, exit statuses and example of each; and the answers that need only NumPy.

The help is made from this table, with click and without, and tests compare the page on the command line with it. Knows
what is installed, and nothing of click, rich and the kit.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

from polylogit.__about__ import __version__
from polylogit._extras import command
from polylogit._info import backends as installed
from polylogit._info import tried

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "DEVICES", "INTERRUPTED", "SUMMARY", "Command", "answer", "footer", "show_backends"]

INTERRUPTED = 130  # as shells have it
_USAGE = {2: "wrong usage; the message says what to write"}
_KIT = {
    0: "agrees",
    1: "disagrees",
    **_USAGE,
    3: "inconclusive: nothing is wrong, but not everything could be run",
}
_COMPARED = {0: "they agree", 1: "they differ", **_USAGE, 3: "inconclusive"}


class Command(NamedTuple):
    """One command.

    Attributes
    ----------
    line : str
        Its purpose, for the list of commands.
    statuses : dict of int to str
        Its exit statuses, besides 130 for an interruption.
    example : str
        A command line.
    """

    line: str
    statuses: dict[int, str]
    example: str


COMMANDS = {
    "backends": Command(
        "List the backends, and how to install those that are missing.",
        {0: "listed", **_USAGE},
        "polylogit backends --devices",
    ),
    "conform": Command(
        "Compare every backend with exact values.",
        _KIT,
        "polylogit conform --backend torch --operation softmax --level quick --html report.html",
    ),
    "check": Command(
        "Check your own function.",
        _KIT,
        "polylogit check my_kernels:softmax --operation softmax --backend torch --level quick",
    ),
    "replay": Command(
        "Run one case of a report again, and print the call.",
        {0: "the case passes", 1: "it fails", **_USAGE, 3: "it could not be run"},
        "polylogit replay numpy/softmax/values/float32/n33",
    ),
    "compare": Command(
        "Compare a port with its original, and name the cause if they differ.",
        _COMPARED,
        "polylogit compare original.npz port.npz --html comparison.html",
    ),
    "compare-tokens": Command(
        "Compare the log-probabilities of two engines for the same tokens.",
        _COMPARED,
        "polylogit compare-tokens here.npy there.npy --tokens tokens.npy --dtype bfloat16",
    ),
    "audit": Command(
        "Show which wrong results your test would let through.",
        {0: "the test catches every wrong result", 1: "the test lets some through", **_USAGE},
        "polylogit audit --operation softmax --dtype float32 --shape 64x1000 --atol 1e-5 --rtol 1e-5",
    ),
    "new-backend": Command(
        "Write the skeleton of a package with a backend.",
        {0: "written", **_USAGE},
        "polylogit new-backend tinygrad --into packages",
    ),
}

INSTALL = command("conformance")
SUMMARY = "One softmax, log_softmax and sigmoid for four frameworks, and a kit that proves they agree."
COMPLETION = {
    "bash": 'eval "$(_POLYLOGIT_COMPLETE=bash_source polylogit)"',
    "zsh": 'eval "$(_POLYLOGIT_COMPLETE=zsh_source polylogit)"',
    "fish": "_POLYLOGIT_COMPLETE=fish_source polylogit | source",
}
DEVICES = "Import each installed backend in a separate process and list its devices; takes seconds."


def footer(name: str) -> str:
    """The end of the help of a command: its exit statuses and an example."""
    command = COMMANDS[name]
    statuses = {**command.statuses, INTERRUPTED: "interrupted"}
    lines = ["Exit status:", *(f"  {status:<3}  {words}" for status, words in statuses.items())]
    return "\n".join([*lines, "", "Example:", f"  {command.example}"])


# --- backends --------------------------------------------------------------------------------------------------------


def show_backends(*, devices: bool = False) -> str:
    """The table of backends, made without importing any unless `devices` is set."""
    found = {}
    if devices:
        names = [info.name for info in installed() if info.installed]
        with _Waiting(names) as waiting:
            found = tried(names, waiting.done)
    rows = [("backend", "version", "status", *(["devices"] if devices else []))]
    for info in installed():
        said = found.get(info.name, {})
        status = said.get("error") or info.reason or ""
        if status and not said:
            status = f"{status}; {info.install}"
        if not status:
            engine = f" ({said['engine']})" if said.get("engine") else ""
            status = ("works" if devices else "installed") + engine
        rows.append((info.name, said.get("version") or info.version or "", status, *_devices(said, devices)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    last = [0]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths + last, strict=True)).rstrip() for row in rows
    )


def _devices(said: dict[str, str], asked: bool) -> list[str]:
    return [said.get("devices", "")] if asked else []


class _Waiting:
    """A line on standard error while processes run, if it is a terminal and they take more than two seconds."""

    def __init__(self, names: Sequence[str]) -> None:
        self._left, self._of = list(names), len(names)
        self._start, self._drawn = time.monotonic(), False

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")

    def done(self, name: str, *, ended: bool) -> None:
        """Note that one of them is still running, or has ended."""
        if ended and name in self._left:
            self._left.remove(name)
        if sys.stderr.isatty() and time.monotonic() - self._start > 2.0 and self._left:
            self._drawn = True
            sys.stderr.write(f"\r\x1b[K{self._of - len(self._left)}/{self._of} asked, waiting for {self._left[0]}")
            sys.stderr.flush()


# --- without click ---------------------------------------------------------------------------------------------------


def answer(arguments: Sequence[str]) -> tuple[str, int] | None:
    """The output and the exit status of calls that need no click; None for all others."""
    helped = {"-h", "--help"}.intersection(arguments)
    name = arguments[0] if arguments else ""
    if name == "--version":
        return f"polylogit, version {__version__}", 0
    if name == "backends" and not helped:
        unknown = [one for one in arguments[1:] if one != "--devices"]
        if unknown:
            return f"polylogit backends takes only --devices; leave out {unknown[0]}.", 2
        return show_backends(devices=len(arguments) > 1), 0
    if name == "backends":
        usage = f"Usage: polylogit backends [--devices]\n\n  {COMMANDS[name].line}\n\n"
        return f"{usage}Options:\n  --devices  {DEVICES}\n\n{footer(name)}", 0
    if name in COMMANDS and helped:
        return f"{COMMANDS[name].line}\n\n{footer(name)}\n\nTo see its options, install what it needs: {INSTALL}", 0
    if not arguments or name in helped:
        wide = max(len(one) for one in COMMANDS)
        commands = "\n".join(f"  {one:{wide}}  {command.line}" for one, command in COMMANDS.items())
        needs = f"All commands except backends need more than NumPy; install it with: {INSTALL}"
        return f"Usage: polylogit [--version] [-h] COMMAND ...\n\n  {SUMMARY}\n\nCommands:\n{commands}\n\n{needs}", 0
    return None
