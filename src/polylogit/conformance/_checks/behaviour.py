"""Checks over several calls: threads, repetition, and results that later calls must not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance._case import Case, slug
from polylogit.conformance._compare import Comparison
from polylogit.conformance._request import Request
from polylogit.conformance._run_case import compared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polylogit.conformance._case import Setting

THREADS = 8


def _first_bad(found: list[Comparison]) -> Comparison:
    return next((one for one in found if one.verdict != "passed"), found[-1])


def threads(setting: Setting) -> Iterator[Case]:
    """Many threads call at once, each with different logits."""
    for shape in setting.budget("threads"):
        yield Case(slug(shape), behaviour=_threads, arguments=(shape, setting.budget("calls of a thread")))


def _threads(setting: Setting, shape: tuple[int, ...], calls: int) -> Comparison:
    inputs = [setting.dtype.round(setting.logits(shape, "thread", one)) for one in range(THREADS)]
    answers = setting.implementation.ask_at_once([Request(x, setting.dtype.name) for x in inputs], calls)
    return _first_bad(
        [compared(setting, answer, x) for known, x in zip(answers, inputs, strict=True) for answer in known]
    )


def repeat(setting: Setting) -> Iterator[Case]:
    """The same call again, with other shapes and values in between; earlier results must not change."""
    if several := setting.budget("repeated shapes"):
        yield Case("same-shape", behaviour=_repeat, arguments=(several[:1] * 3,))
        yield Case("other-shapes", behaviour=_repeat, arguments=(several,))
        if growing := setting.budget("growing shapes"):
            yield Case("growing", behaviour=_repeat, arguments=(growing,))
        if setting.implementation.on_numpy:
            yield Case("changed-in-place", behaviour=_changed)


def _repeat(setting: Setting, shapes: Sequence[tuple[int, ...]]) -> Comparison:
    inputs = [setting.dtype.round(setting.logits(shape, "turn", turn)) for turn, shape in enumerate(shapes)]
    answers, changed = setting.implementation.ask_in_turn([Request(x, setting.dtype.name) for x in inputs])
    found = [
        compared(setting, answer, x, Case("", optional=x.ndim not in (1, 2)))
        for answer, x in zip(answers, inputs, strict=True)
    ]
    if changed:
        return Comparison("failed", message=f"a later call changed the result of call {changed[0] + 1}")
    return _first_bad(found)


def _changed(setting: Setting) -> Comparison:
    """The same array object with other values in it, which exposes a cached result."""
    first, second = (setting.dtype.round(setting.logits((5, 33), "changed", one)) for one in range(2))
    requests = (Request(x, setting.dtype.name) for x in (first, second))
    return compared(setting, setting.implementation.ask_changed(*requests), second)
