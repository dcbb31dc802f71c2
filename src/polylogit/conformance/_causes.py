"""Finds descriptions that failures share and passes do not: the shortest first, then one for the remaining failures.

A description is a conjunction of at most three conditions. Knows results as plain data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._conditions import conditions, fine_parts, records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from polylogit.conformance._conditions import Condition, Record
    from polylogit.conformance._results import Result

__all__ = ["causes"]

_FEW = 3  # failures that a description of several conditions, or of a threshold, must cover
_BEAM = 40  # descriptions that are tried with one condition more
_PASSES = 0.1  # of the failures covered, so many passes at most
_DEAR = 2.0  # failures that a covered pass outweighs


def causes(bad: list[Result], passed: Sequence[Result]) -> Iterator[tuple[str | None, list[Result], int]]:
    """Yield descriptions, with the failures and the passes that each covers, until no failure is left.

    The empty description covers everything; None stands for failures that have nothing in common.
    """
    fails = list(records(bad, failed=True))
    good = [*records(passed, failed=False), *fine_parts(bad)]
    if not passed and len(bad) >= _FEW:
        yield "", bad, 0
        return
    rows = any("axis" in record.one for record in fails) or not any("logit" in record.ranges for record in fails)
    known = list(conditions(fails, good, rows=rows)) if len(bad) > 1 else []
    table_bad, table_good = _table(known, fails), _table(known, good)
    speaking = np.array([record.speaks_of_cases for record in good], dtype=bool)
    left = np.ones(len(bad), dtype=bool)
    while left.any():
        chosen = _best(known, table_bad & left, table_good, int(left.sum()), speaking)
        if not chosen:
            break
        covered = np.logical_and.reduce([table_bad[one] for one in chosen])
        against = np.logical_and.reduce([table_good[one] for one in chosen])[: len(passed)]
        words = _joined([known[one].words for one in chosen])
        yield words, [result for result, has in zip(bad, covered & left, strict=True) if has], int(against.sum())
        left &= ~covered
    if rest := [result for result, has in zip(bad, left, strict=True) if has]:
        yield None, rest, 0


def _table(known: Sequence[Condition], records: Sequence[Record]) -> np.ndarray[Any, Any]:
    table = np.zeros((len(known), len(records)), dtype=bool)
    for number, condition in enumerate(known):
        table[number] = [condition.holds(record) for record in records]
    return table


def _best(
    known: Sequence[Condition],
    bad: np.ndarray[Any, Any],
    good: np.ndarray[Any, Any],
    left: int,
    speaking: np.ndarray[Any, Any],
) -> tuple[int, ...]:
    """The conjunction that covers most failures for its length and its passes; empty if none is worth reporting.

    The right parts of a mostly wrong case count against descriptions of rows, but not of cases; `speaking` are the
    other passes.
    """
    if not known or not bad.any():
        return ()
    price = 1.0 + 0.08 * left

    def score(chosen: tuple[int, ...], covered: int, passes: int) -> float:
        return covered - _DEAR * passes - price * (sum(known[one].cost for one in chosen) - 0.8)

    best: tuple[float, tuple[int, ...]] = 0.0, ()
    beam: dict[tuple[int, ...], tuple[Any, Any]] = {(one,): (bad[one], good[one]) for one in range(len(known))}
    for length in (1, 2, 3):
        scored = []
        for chosen, (covers, passes) in beam.items():
            of_rows = any(known[one].of_rows for one in chosen)
            covered, against = int(covers.sum()), int(passes.sum() if of_rows else (passes & speaking).sum())
            scored.append((score(chosen, covered, against), covered, chosen))
            enough = covered >= _FEW or (covered == left == 2 and length == 1 and known[chosen[0]].plain)
            if enough and against <= _PASSES * covered and scored[-1][0] > best[0] + 1e-9:
                best = scored[-1][0], chosen
        if length == 3:
            break
        most = sorted(scored, key=lambda one: (-one[1], -one[0], one[2]))[:_BEAM]
        kept = dict.fromkeys(chosen for _, covered, chosen in (*sorted(scored, reverse=True)[:_BEAM], *most) if covered)
        beam = dict(_longer([(chosen, *beam[chosen]) for chosen in kept], known, bad, good))
    return best[1]


def _longer(
    beam: Iterable[tuple[tuple[int, ...], Any, Any]], known: Sequence[Condition], bad: Any, good: Any
) -> Iterator[tuple[tuple[int, ...], tuple[Any, Any]]]:
    """Each of these with one more condition that excludes passes."""
    for chosen, covers, passes in beam:
        both, against = bad & covers, good & passes
        useful = np.flatnonzero((against.sum(-1) < passes.sum()) & (both.sum(-1) >= 2))
        about = {known[one].about for one in chosen}
        for one in map(int, useful):
            if known[one].about not in about:
                yield tuple(sorted((*chosen, one))), (both[one], against[one])


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
