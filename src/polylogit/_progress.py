"""Progress of long computations, for a listener if there is one; and a progress bar in the terminal, which is one.

Knows nothing of what is computed. rich is imported when a bar is drawn.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from rich.console import Console

    Listener = Callable[[str, int, int], None]  # what is done, how much of it, and of how much; 0 where not known

__all__ = ["bar", "listening", "say", "steps"]

_One = TypeVar("_One")
_listener: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("listener", default=None)

# Seconds after which somebody who waits wants to know for what.
PATIENCE = 2.0


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a function with the progress of everything within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def say(what: str, done: int = 0, of: int = 0) -> None:
    """Report to the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, of)


def steps(items: Collection[_One], what: str) -> Iterator[_One]:
    """The items one by one, each reported when it begins."""
    for done, one in enumerate(items):
        say(what, done, len(items))
        yield one


@contextlib.contextmanager
def bar(to: Console | None = None, *, what: str = "reading", after: float = PATIENCE) -> Iterator[None]:
    """Draw the progress of the block on standard error, once it takes longer, if that is a terminal.

    Until something is reported, the bar shows `what`.
    """
    if to is None and not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn())
    # Standard output belongs to the verdict, and to what models print.
    drawn = Progress(*columns, console=to or Console(stderr=True), transient=True, redirect_stdout=False)
    task = drawn.add_task(what, total=None, count="")

    def tell(what: str, done: int, of: int) -> None:
        drawn.update(task, description=escape(what), completed=done, total=of or None, count=f"{done}/{of}" * bool(of))

    timer = threading.Timer(after, drawn.start)
    timer.daemon = True
    timer.start()
    try:
        with listening(tell):
            yield
    finally:
        timer.cancel()
        timer.join()
        if drawn.live.is_started:
            drawn.stop()
