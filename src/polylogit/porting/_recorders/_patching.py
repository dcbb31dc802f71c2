"""Replaces functions and methods during a recording, and restores them after the last recording that needs them.

A replacement looks up the recording of its own context, and without one does what the original does, so other threads
and calls outside a recording see no difference. Knows no framework.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

from polylogit.porting._recorders._recording import active, is_concrete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["original_of", "replaced", "wrapped_call"]

_lock = threading.Lock()
_held: dict[tuple[int, str], list[Any]] = {}  # (id of the owner, name) -> [how many need it, original, owner]


@contextlib.contextmanager
def replaced(places: Iterable[tuple[Any, str]], make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace the object of each (module or class, name) by the result of `make`, within the block."""
    taken: list[tuple[Any, str]] = []
    try:
        with _lock:
            for owner, name in places:
                held = _held.get((id(owner), name))
                if held is None:
                    original = vars(owner)[name]
                    held = _held[id(owner), name] = [0, original, owner]
                    replacement = make(original)
                    replacement.__polylogit_original__ = original
                    _put(owner, name, replacement)
                held[0] += 1
                taken.append((owner, name))
        yield
    finally:
        with _lock:
            for owner, name in taken:
                held = _held[id(owner), name]
                held[0] -= 1
                if not held[0]:
                    _put(owner, name, held[1])
                    del _held[id(owner), name]


def _put(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value  # modules that load lazily have a __setattr__ of their own


def original_of(function: Any) -> Any:
    """The original of a replacement; anything else unchanged."""
    return getattr(function, "__polylogit_original__", function)


def wrapped_call(original: Any) -> Any:
    """A class's ``__call__`` that records the modules which its recording knows by id."""

    @functools.wraps(original)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        recording = active.get()
        path = None if recording is None else recording.path_of(self)
        # A class and its base class may both be wrapped: the outermost call counts. Keras calls layers with symbols, to
        # find the shapes of their weights.
        if (
            recording is None
            or path is None
            or id(self) in recording.running
            or not all(map(is_concrete, (*arguments, *keywords.values())))
        ):
            return original(self, *arguments, **keywords)
        recording.running.append(id(self))
        try:
            return recording.part(path, functools.partial(original, self), *arguments, **keywords)
        finally:
            recording.running.pop()

    return call
