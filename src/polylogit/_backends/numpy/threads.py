"""The thread pool of the NumPy backend: the number of threads, and how work is spread over them.

The default is one thread. Results have the same bits for any number. Knows nothing of what is computed.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from polylogit.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["each", "get_num_threads", "set_num_threads"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_threads: int | None = None  # None until the environment has been read
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_listeners: list[Callable[[int], None]] = []  # called with the number, whenever it is set


def set_num_threads(count: int, /) -> None:
    """Run large NumPy arrays in parts on this many threads; one by default.

    The results have the same bits with any number.

    Parameters
    ----------
    count : int
        At least 1. The environment variable ``POLYLOGIT_NUM_THREADS`` sets it for the whole process.

    Raises
    ------
    SettingError
        For anything but an integer of at least 1.

    Examples
    --------
    >>> import polylogit
    >>> polylogit.set_num_threads(1)
    """
    global _threads, _pool  # one pool a process
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        message = f"set_num_threads was given {count!r}; the number of threads is an integer of at least 1."
        raise SettingError(message)
    with _lock:
        if count != _threads and _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None
        _threads = count
    for listener in _listeners:
        listener(count)


def get_num_threads() -> int:
    """On how many threads large arrays run."""
    if _threads is None:
        given = os.environ.get("POLYLOGIT_NUM_THREADS", "1")
        if not given.isdecimal() or int(given) < 1:
            message = f"POLYLOGIT_NUM_THREADS is {given!r}; set it to an integer of at least 1, or unset it."
            raise SettingError(message)
        set_num_threads(int(given))
    return _threads or 1


def listen(listener: Callable[[int], None]) -> None:
    """Have a function called with the number of threads whenever it is set."""
    _listeners.append(listener)


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock held."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def each(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """``[function(task) for task in tasks]``, on the threads if there are any."""
    count = min(get_num_threads(), len(tasks))
    if count <= 1:
        return [function(task) for task in tasks]
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_threads, thread_name_prefix="polylogit")
        # Submitted under the lock: a pool that set_num_threads shuts down takes no more work.
        futures = [_pool.submit(function, task) for task in tasks[1:]]
    return [function(tasks[0]), *(future.result() for future in futures)]
