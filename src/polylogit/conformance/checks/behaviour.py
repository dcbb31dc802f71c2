"""Behaviour over several calls: threads, repetition, results that later calls must not change."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance import cases
from polylogit.conformance.checks.structure import logits
from polylogit.conformance.context import Trial
from polylogit.conformance.judge import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.conformance.context import Context
    from polylogit.conformance.subject import Answer

__all__ = ["repeat", "threads"]

_THREADS = 8
_TURNS = 12


def _first_bad(outcomes: list[Outcome]) -> Outcome:
    return next((outcome for outcome in outcomes if outcome.verdict != "passed"), outcomes[-1])


def threads(context: Context) -> Iterator[Trial]:
    """Many threads at once, each with logits of its own."""
    if context.dtype.name == "float32":
        for shape in (cases.LARGE,) if context.hasty else ((4, 33), (40, 1000)):
            if not (context.costly and context.level == "quick" and shape == (40, 1000)):
                yield Trial("x".join(map(str, shape)), lambda shape=shape: _threads(context, shape))  # type: ignore[misc]


def _threads(context: Context, shape: tuple[int, ...]) -> Outcome:
    inputs = [context.dtype.round(logits(context, shape, "thread", one)) for one in range(_THREADS)]
    arrays = [context.subject.array(x, context.dtype.name) for x in inputs]
    answers: list[list[Any]] = [[] for _ in range(_THREADS)]
    barrier = threading.Barrier(_THREADS)
    lines = context.subject.own and context.subject.backend.name == "numpy"

    def work(one: int) -> None:
        barrier.wait()
        for turn in range(3 if context.hasty and not context.subject.own else _TURNS):
            with _handing_over() if lines and turn % 2 else contextlib.nullcontext():
                answer = context.subject.answer(arrays[one])
            if not any(_same(answer, known) for known in answers[one]):
                answers[one].append(answer)

    workers = [threading.Thread(target=work, args=(one,)) for one in range(_THREADS)]
    with _switching_often():
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    judged = [context.judged(answer, x, -1) for known, x in zip(answers, inputs, strict=True) for answer in known]
    return _first_bad(judged)


def _same(answer: Answer, known: Answer) -> bool:
    """Whether two answers need not both be judged."""
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


def repeat(context: Context) -> Iterator[Trial]:
    """The same call again, other shapes and values between; an earlier result stays as it was."""
    if context.hasty and context.light:
        return
    several: tuple[tuple[int, ...], ...] = ((5, 33), (33, 5), (3, 11, 5), (165,), (5, 33))
    if context.hasty:  # shapes that other checks have compiled
        several = (cases.LARGE, (33, 1), (7, 3), (15, 16, 18), cases.LARGE)
    yield Trial("same-shape", lambda: _repeat(context, several[:1] * 3))
    yield Trial("other-shapes", lambda: _repeat(context, several))
    if not context.hasty:
        yield Trial("growing", lambda: _repeat(context, ((1, 4), (2, 4), (2, 16), (1, 4))))
    if context.subject.backend.name == "numpy":
        yield Trial("changed-in-place", lambda: _changed(context))


def _repeat(context: Context, shapes: tuple[tuple[int, ...], ...]) -> Outcome:
    outcomes, kept = [], []
    for turn, shape in enumerate(shapes):
        x = context.dtype.round(logits(context, shape, "turn", turn))
        answer = context.subject.answer(context.subject.array(x, context.dtype.name))
        outcomes.append(context.judged(answer, x, -1, optional=len(shape) not in (1, 2)))
        if answer.raw is not None and answer.values is not None:
            kept.append((turn, answer.raw, answer.values.copy()))
    for turn, raw, values in kept:
        if not np.array_equal(context.subject.host(raw), values, equal_nan=True):
            return Outcome("failed", message=f"a later call changed the result of call {turn + 1}")
    return _first_bad(outcomes)


def _changed(context: Context) -> Outcome:
    """The same array object with other values in it: a result that was remembered shows."""
    first, second = (context.dtype.round(logits(context, (5, 33), "changed", one)) for one in range(2))
    array = context.subject.array(first, context.dtype.name)
    context.subject.answer(array)
    array[...] = second
    return context.judged(context.subject.answer(array), second, -1)
