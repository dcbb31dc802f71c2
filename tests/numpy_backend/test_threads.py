"""On threads, in a forked child, from several threads at once and in a signal handler the results are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit._backends.numpy import threads

from .rows import BOTH, FLOATS, RNG, call

LARGE = [
    ((300_000, 7), -1),
    ((300_000, 7), 0),
    ((2_000_000,), 0),
    ((3, 700_000), 1),
    ((400, 5000), 0),
    ((400, 5000), 1),
]


@pytest.fixture
def four_threads() -> Any:
    polylogit.set_num_threads(4)
    yield
    polylogit.set_num_threads(1)


@BOTH
@FLOATS
@pytest.mark.parametrize(("shape", "axis"), LARGE)
def test_threads_give_the_same_bits(name: str, dtype: Any, shape: tuple[int, ...], axis: int) -> None:
    x = (RNG(13).standard_normal(shape) * 20).astype(dtype)
    one = call(name, x, axis=axis)
    polylogit.set_num_threads(3)
    try:
        three = call(name, x, axis=axis)
    finally:
        polylogit.set_num_threads(1)
    np.testing.assert_array_equal(one, three)


@pytest.mark.usefixtures("four_threads")
def test_several_threads_may_call_at_once() -> None:
    x = RNG(14).standard_normal((50_000, 9)).astype(np.float32)
    want = polylogit.softmax(x)
    wrong = []

    def work() -> None:
        for _ in range(20):
            if not (polylogit.softmax(x) == want).all() or not np.isclose(polylogit.softmax(x[0]).sum(), 1):
                wrong.append(True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not wrong


FORK = """
import os, sys, warnings
import numpy as np, polylogit
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of threads in a process that forks
polylogit.set_num_threads(4)
x = np.random.default_rng(15).standard_normal((100_000, 9))
want = polylogit.softmax(x)
child = os.fork()
if not child:
    os._exit(0 if (polylogit.softmax(x) == want).all() else 7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_computes_too() -> None:
    # In a process of its own: JAX, which another test may have imported, warns of forks.
    assert subprocess.run([sys.executable, "-W", "error", "-c", FORK], check=False, timeout=60).returncode == 0


def test_the_number_of_threads_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_threads", None)
    monkeypatch.setenv("POLYLOGIT_NUM_THREADS", "3")
    assert threads.get_num_threads() == 3
    monkeypatch.setattr(threads, "_threads", None)
    monkeypatch.setenv("POLYLOGIT_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="many"):
        polylogit.softmax(np.ones((3000, 300)))
    for count in (0, True, 1.0, "2"):
        with pytest.raises(polylogit.errors.SettingError, match="integer of at least 1"):
            polylogit.set_num_threads(count)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@BOTH
def test_a_signal_handler_may_call_while_a_call_is_interrupted(name: str) -> None:
    x = RNG(16).standard_normal((3000, 1000)).astype(np.float32)
    want, small = call(name, x), call(name, x[:3])
    seen: list[bool] = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append((call(name, x[:3]) == small).all()))
    try:
        while len(seen) < 5:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            assert (call(name, x) == want).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(seen)
