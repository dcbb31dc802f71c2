"""Checks whether a row has the same bits for every batch, position, repetition, strides and number of threads.

This is required only if the caller asks for it; the largest difference is always reported, in ulp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.conformance._case import Case, slug
from polylogit.conformance._checks.behaviour import THREADS
from polylogit.conformance._request import Request
from polylogit.conformance._results import INACCURATE
from polylogit.conformance._run_case import compared, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting
    from polylogit.conformance._compare import Comparison
    from polylogit.conformance._request import Answer

    # What came back, and the rows of the whole batch that it stands for.
    Pairs = list[tuple[Answer, Array]]

_REPETITIONS = 4


def invariance(setting: Setting) -> Iterator[Case]:
    """Whether a row's bits depend on the batch, its place in it, the repetition, the strides or other threads."""
    for shape in setting.budget("invariance"):
        for cause in CAUSES:
            if (cause != "strides" or setting.implementation.layouts) and (
                cause != "threads" or setting.budget("threads")
            ):
                yield Case(f"{cause}-{slug(shape)}", behaviour=_same, arguments=(cause, shape))


def _same(setting: Setting, cause: str, shape: tuple[int, int]) -> Comparison:
    x = setting.dtype.round(setting.logits(shape, "invariance"))
    whole = setting.implementation.ask(_of(setting, x))
    found = compared(setting, whole, x)
    if found.verdict not in ("passed", "inaccurate"):
        return found
    farthest = 0.0
    for answer, rows in CAUSES[cause](setting, x):
        bad = unusable(setting, answer, x[rows].shape, setting.dtype, optional=True)
        if bad is not None and bad.verdict == "unsupported":
            continue
        if bad is not None:
            return bad
        farthest = max(farthest, _apart(setting, np.asarray(answer.values), np.asarray(whole.values)[rows]))
    found.details = {"invariance": {cause: farthest}}
    if farthest:
        found.message = f"a row's result depends on the {_WORDS[cause]}: up to {farthest:.3g} ulp apart"
        if setting.invariant:
            found.verdict, found.finding = "failed", INACCURATE
    return found


def _of(setting: Setting, x: Array, layout: str = "contiguous") -> Request:
    return Request(x, setting.dtype.name, layout=layout)


def _apart(setting: Setting, first: Array, second: Array) -> float:
    """The largest difference, in spacings of the dtype at the larger of the two numbers."""
    with np.errstate(all="ignore"):
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        ulp = setting.dtype.ulp(np.maximum(np.abs(first), np.abs(second)))
        apart = np.where(same, 0.0, np.abs(first - second) / ulp)
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def _batch(setting: Setting, x: Array) -> Pairs:
    pieces = [np.arange(start, start + size) for size in (1, 2, len(x) // 2) for start in (0, len(x) - size)]
    return [(setting.implementation.ask(_of(setting, x[rows])), rows) for rows in pieces]


def _place(setting: Setting, x: Array) -> Pairs:
    orders = [np.roll(np.arange(len(x)), 1), np.arange(len(x))[::-1], np.full(len(x), len(x) // 2)]
    return [(setting.implementation.ask(_of(setting, x[rows])), rows) for rows in orders]


def _repetition(setting: Setting, x: Array) -> Pairs:
    answers, _ = setting.implementation.ask_in_turn([_of(setting, x)] * _REPETITIONS)
    return [(answer, np.arange(len(x))) for answer in answers]


def _strides(setting: Setting, x: Array) -> Pairs:
    known = [layout for layout in setting.implementation.layouts if layout not in ("big-endian", "read-only")]
    return [(setting.implementation.ask(_of(setting, x, layout)), np.arange(len(x))) for layout in known]


def _threads(setting: Setting, x: Array) -> Pairs:
    answers = setting.implementation.ask_at_once([_of(setting, x)] * THREADS, 2)
    return [(answer, np.arange(len(x))) for known in answers for answer in known]


CAUSES: dict[str, Callable[[Setting, Array], Pairs]] = {
    "batch": _batch,
    "place": _place,
    "repetition": _repetition,
    "strides": _strides,
    "threads": _threads,
}
_WORDS = {
    "batch": "size of the batch",
    "place": "row's place in the batch",
    "repetition": "repetition",
    "strides": "strides",
    "threads": "threads that run at once",
}
