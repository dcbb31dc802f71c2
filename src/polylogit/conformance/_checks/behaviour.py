"""Behaviour over several calls: threads, repetition, results that later calls must not change."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._case import Case, slug
from polylogit.conformance._compare import Comparison
from polylogit.conformance._run_case import compared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polylogit.conformance._case import Setting
    from polylogit.conformance._implementation import Answer

_THREADS = 8


def _first_bad(found: list[Comparison]) -> Comparison:
    return next((one for one in found if one.verdict != "passed"), found[-1])


def threads(setting: Setting) -> Iterator[Case]:
    """Many threads at once, each with logits of its own."""
    for shape in setting.budget("threads"):
        yield Case(slug(shape), behaviour=_threads, arguments=(shape, setting.budget("calls of a thread")))


def _threads(setting: Setting, shape: tuple[int, ...], calls: int) -> Comparison:
    implementation = setting.implementation
    inputs = [setting.dtype.round(setting.logits(shape, "thread", one)) for one in range(_THREADS)]
    arrays = [implementation.array(x, setting.dtype.name) for x in inputs]
    answers: list[list[Answer]] = [[] for _ in range(_THREADS)]
    barrier = threading.Barrier(_THREADS)
    lines = setting.is_kernel and implementation.on_numpy  # such a kernel is Python, line by line

    def work(one: int) -> None:
        barrier.wait()
        for turn in range(calls):
            with _handing_over() if lines and turn % 2 else contextlib.nullcontext():
                answer = implementation.answer(arrays[one])
            if not any(_same(answer, known) for known in answers[one]):
                answers[one].append(answer)

    workers = [threading.Thread(target=work, args=(one,)) for one in range(_THREADS)]
    with _switching_often():
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return _first_bad(
        [compared(setting, answer, x) for known, x in zip(answers, inputs, strict=True) for answer in known]
    )


def _same(answer: Answer, known: Answer) -> bool:
    """Whether two answers need not both be compared with what is exact."""
    if answer.values is None or known.values is None or answer.values.shape != known.values.shape:
        return answer.values is None and known.values is None
    return np.array_equal(answer.values, known.values, equal_nan=True) and answer.notes == known.notes


@contextlib.contextmanager
def _handing_over() -> Iterator[None]:
    """Every line of Python lets another thread go first, however busy the machine is."""

    def line(_frame: Any, _event: str, _argument: Any) -> Any:
        time.sleep(0)
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _switching_often() -> Iterator[None]:
    """The interpreter changes threads as often as it can: what two calls share is then seen half written."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def repeat(setting: Setting) -> Iterator[Case]:
    """The same call again, other shapes and values between; an earlier result stays as it was."""
    if several := setting.budget("repeated shapes"):
        yield Case("same-shape", behaviour=_repeat, arguments=(several[:1] * 3,))
        yield Case("other-shapes", behaviour=_repeat, arguments=(several,))
        if growing := setting.budget("growing shapes"):
            yield Case("growing", behaviour=_repeat, arguments=(growing,))
        if setting.implementation.on_numpy:
            yield Case("changed-in-place", behaviour=_changed)


def _repeat(setting: Setting, shapes: Sequence[tuple[int, ...]]) -> Comparison:
    found, kept = [], []
    for turn, shape in enumerate(shapes):
        x = setting.dtype.round(setting.logits(shape, "turn", turn))
        answer = setting.implementation.answer(setting.implementation.array(x, setting.dtype.name))
        found.append(compared(setting, answer, x, Case("", optional=len(shape) not in (1, 2))))
        if answer.raw is not None and answer.values is not None:
            kept.append((turn, answer.raw, answer.values.copy()))
    for turn, raw, values in kept:
        if not np.array_equal(setting.implementation.host(raw), values, equal_nan=True):
            return Comparison("failed", message=f"a later call changed the result of call {turn + 1}")
    return _first_bad(found)


def _changed(setting: Setting) -> Comparison:
    """The same array object with other values in it: a result that was remembered shows."""
    first, second = (setting.dtype.round(setting.logits((5, 33), "changed", one)) for one in range(2))
    array = setting.implementation.array(first, setting.dtype.name)
    setting.implementation.answer(array)
    array[...] = second
    return compared(setting, setting.implementation.answer(array), second)
