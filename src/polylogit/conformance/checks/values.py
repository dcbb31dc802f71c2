"""Values against exact ones: row lengths, long rows, blocks, peaks, every 16-bit number, NaN and infinities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.conformance import cases
from polylogit.conformance.context import Trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.conformance.judge import Outcome
    from polylogit.spec.dtypes import Array

__all__ = ["exhaustive", "special", "together", "values"]

_MODERATE = 1100  # rows longer than this come in fewer kinds
_GROUP = 97
# What a kernel of one's own may be off, in bounds, where each addition to a running sum loses the same way: k equal
# terms lose up to k / 8 eps. In four lanes that is 64 eps, 1.4 bounds; in one it is 256.
_DRIFTING, _DRIFT = 2049, 1.5


def _stack(named: Iterable[tuple[str, Array]]) -> tuple[list[str], Array]:
    pairs = list(named)
    return [name for name, _ in pairs], np.stack([row for _, row in pairs])


def _trial(context: Context, case: str, named: Iterable[tuple[str, Array]], slack: float = 1.0) -> Trial:
    def run() -> Outcome:
        names, x = _stack(named)
        return context.values(x, names=names, slack=slack)

    return Trial(case, run)


def together(context: Context, x: Array) -> Array:
    """The rows, repeated where each new shape is compiled, so that rows of one length come in few and cheap shapes."""
    if not context.costly:
        return x
    unit = -(-cases.ENOUGH // x.shape[-1])
    return np.resize(x, (-(-len(x) // unit) * unit, x.shape[-1]))


def _together(context: Context, case: str, named: Iterable[tuple[str, Array]]) -> Trial:
    """As `_trial`, for rows that need not be alone."""

    def run() -> Outcome:
        names, x = _stack(named)
        outcome = context.values(together(context, x), names=names)
        if outcome.values is not None:
            outcome.values = outcome.values[: len(x)]
        return outcome

    return Trial(case, run)


def values(context: Context) -> Iterator[Trial]:
    """Against the exact value, within the bound."""
    yield from _rowwise(context) if context.operation.takes_axis else _elementwise(context)


def lengths(context: Context) -> tuple[int, ...]:
    """Row lengths; fewer where each new shape is compiled, except in float32. Some are drawn: none is special."""
    own, compiled = context.subject.own, bool(context.subject.backend.always_compiles)
    if context.hasty and context.light:
        return cases.FEW_LENGTHS[::2] if own else (3, 129) if compiled else (3, 129, *cases.BETWEEN)
    if context.hasty:
        return cases.LENGTHS["quick"][::3] if own else cases.FEW_LENGTHS[::2]
    if context.light:
        return (*cases.FEW_LENGTHS, *cases.BETWEEN)
    listed = cases.LENGTHS["quick" if context.costly else context.level]
    drawn = np.exp(context.rng("lengths drawn").uniform(np.log(70), np.log(5000), 2 if context.costly else 5))
    return tuple(dict.fromkeys((*listed, *(int(n) for n in drawn))))


def _rowwise(context: Context) -> Iterator[Trial]:
    dtype = context.dtype
    for n in lengths(context):
        yield _together(context, f"n{n}", _mixed(context, n))
    if context.sparse:
        return
    for n in cases.LONG_LENGTHS["quick" if context.costly else context.level]:
        if context.hasty and context.light and dtype.name != "float16":
            continue
        if context.level == "quick" and (context.light or n > 65536) and dtype.name not in ("float32", "float16"):  # noqa: PLR2004
            continue
        if context.hasty and not context.subject.own and n > 65536:  # noqa: PLR2004
            continue
        yield _trial(context, f"long-n{n}", _long(context, n))
    if context.subject.own:
        yield _trial(context, f"drifting-n{_DRIFTING}", cases.drifting_rows(_DRIFTING), _DRIFT)
    # Each kind alone: a kernel that looks at the whole array first must not be saved by the other rows.
    for n in (3,) if context.hasty else (3, 20) if context.level == "quick" or context.costly else (3, 20, 130):
        for name, row in cases.rows(n, dtype, context.rng("alone", n)):
            yield _trial(context, f"alone-n{n}-{name.replace(' ', '-')}", [(name, row), (name, row[::-1].copy())])
    yield from _blocks_and_peaks(context)


def _blocks_and_peaks(context: Context) -> Iterator[Trial]:
    if context.hasty and context.light:  # float32 is asked these
        return
    dtype = context.dtype
    blocks = (20, 40, 130, 300, 1030, 2100)
    for n in (
        blocks[3:4]
        if context.hasty
        else blocks[1:2]
        if context.light
        else blocks[1::2]
        if context.level == "quick" or context.costly
        else blocks
    ):
        yield _together(context, f"blocks-n{n}", list(cases.blocked_rows(n, dtype, context.rng("blocks", n))))
    peaks = (2, 3, 4, 5, 8, 9, 16, 17, 33, 70, 130)
    for n in (
        (33,)
        if context.light or context.hasty
        else (2, 17, 70)
        if context.level == "quick" or context.costly
        else peaks
    ):
        x = cases.peaked_rows(n)
        yield _together(context, f"peaks-n{n}", [(f"peak at {i % n}", x[i]) for i in range(len(x))])


def _mixed(context: Context, n: int) -> Iterator[tuple[str, Array]]:
    rng = context.rng("rows", n)
    named = list(cases.rows(n, context.dtype, rng))
    # The chains of a kernel of one's own may be of any length that is right by the usual standards; a backend owes the
    # bound, whatever the logits.
    if not context.subject.own:
        named += [*cases.drifting_rows(n), *cases.losing_rows(n, context.dtype)]
    if n > _MODERATE:
        named = [*named[:2], *(named[i] for i in rng.permutation(len(named))[:7]), *named[-3:]]
    yield from (named[i] for i in rng.permutation(len(named)))


def _long(context: Context, n: int) -> Iterator[tuple[str, Array]]:
    rng = context.rng("long", n)
    # A kernel of one's own may add thousands of blocks up in its own precision, and is right by the usual standards;
    # rows in which each addition loses the same way are asked of backends, which owe the bound at any length.
    own = context.subject.own
    yield "wide", (2.0 if own else 5.0) * rng.normal(size=n)
    yield "zeros", np.zeros(n)
    if context.level == "full" and own:
        yield "normal", rng.normal(size=n)
    elif context.level == "full":
        yield "normal", rng.normal(size=n)
        yield "shifted", -1e4 + rng.normal(size=n).round(2) * 8
        yield "one high", np.where(np.arange(n) == n - 2, 12.0, 0.0)


def _grouped(x: Array) -> Array:
    """In one shape with the others; odd, so that vector registers are not filled."""
    return np.resize(x, _GROUP) if 1 < x.size < _GROUP else x


def _elementwise(context: Context) -> Iterator[Trial]:
    for name, x in cases.points(context.dtype, context.rng("points")):
        x = x[np.isfinite(x)] if np.isfinite(x).any() else x
        if context.sparse:
            break  # every number of the format is asked for elsewhere
        x = _grouped(x)
        yield Trial(name.replace(" ", "-"), lambda x=x: context.values(x))  # type: ignore[misc]
    if context.hasty and context.light and not context.subject.own:
        return  # float32 is asked for the lengths
    for n in lengths(context):
        x = 8.0 * context.rng("lengths", n).normal(size=n)
        yield Trial(f"n{n}", lambda x=x: context.values(x))  # type: ignore[misc]
        # Of one sign alone, for a kernel that looks at the whole array first.
        for sign, word in ((1.0, "positive"), (-1.0, "negative")):
            y = sign * np.abs(x)
            yield Trial(f"n{n}-{word}", lambda y=y: context.values(y))  # type: ignore[misc]
    for n in cases.LONG_LENGTHS[context.level][: 0 if context.sparse else 1]:
        x = 30.0 * context.rng("long", n).normal(size=n)
        yield Trial(f"long-n{n}", lambda x=x: context.values(x))  # type: ignore[misc]


def exhaustive(context: Context) -> Iterator[Trial]:
    """Every number of a format of 16 or 8 bits."""
    bits = 8 * context.dtype.dtype.itemsize
    if context.operation.takes_axis or bits > 16:  # noqa: PLR2004
        return
    with np.errstate(invalid="ignore"):
        every = np.arange(1 << bits, dtype=f"uint{bits}").view(context.dtype.dtype).astype(np.float64)
    every = every[np.isfinite(every)]
    side = 1 << (bits // 2)
    for name, x in (
        ("all", every),
        ("all-by-size", np.sort(every)),
        ("finite-in-rows", every[: every.size // side // 8 * 8 * side].reshape(-1, side)),
    )[: 2 if context.hasty else 3]:
        yield Trial(name, lambda x=x: context.values(x))  # type: ignore[misc]


def special(context: Context) -> Iterator[Trial]:
    """NaN, infinities and rows of nothing but -inf, between rows that they must not touch."""
    if not context.operation.takes_axis:
        for value in (np.nan, np.inf, -np.inf):
            for name, x in (
                (f"{value}", np.array([0.5, value, -3.0, value, 60.0, -40.0, value])),
                (f"only-{value}", np.full(5, value)),
            ):
                x = _grouped(x) if context.hasty else x
                yield Trial(name, lambda x=x: context.values(x))  # type: ignore[misc]
        return
    for n in (
        (3,)
        if context.light
        else (1, 3, 33)
        if context.hasty
        else (1, 2, 3, 8, 33)
        if context.costly
        else (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 65, 129, 257, 517, 1025)
    ):
        rng = context.rng("special", n)
        between = [
            (name, row) for name, row in cases.rows(n, context.dtype, rng) if name in ("normal", "shifted by 60")
        ]
        named = [pair for one in cases.special_rows(n, rng) for pair in (between[0], one, between[1])]
        yield _together(context, f"n{n}", named)
    if context.sparse:
        return
    for name, row in cases.special_rows(3, context.rng("special alone")):
        # Twice where there is little time, in the shape of the other rows that are alone.
        yield _trial(context, f"alone-{name.replace(' ', '-')}", [(name, row)] * (2 if context.hasty else 1))
        if context.hasty and context.light:
            continue
        yield Trial(f"one-row-{name.replace(' ', '-')}", lambda row=row: context.values(row, optional=True))  # type: ignore[misc]
