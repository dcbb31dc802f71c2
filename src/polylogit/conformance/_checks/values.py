"""Checks of values against exact ones: row lengths, long rows, blocks, peaks, all 16-bit numbers, NaN, infinities."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from polylogit.conformance._case import Case, slug
from polylogit.conformance._data import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting

    Named = Iterable[tuple[str, Array]]

_MODERATE = 1100  # rows longer than this come in fewer kinds
# Twice what may be added up in any order: one running sum of equal terms drifts by k / 8 eps there, ten bounds; in four
# lanes it is less accurate than its bound, in 16 within.
_DRIFTING = 8193
_GROUP = 97  # elements in one shape; odd, so that vector registers are not filled


def _alone(name: str, named: Named) -> Case:
    pairs = list(named)
    return Case(name, np.stack([row for _, row in pairs]), names=[name for name, _ in pairs])


def _together(setting: Setting, name: str, named: Named) -> Case:
    """Like `_alone`, for rows that need no separate call."""
    pairs = list(named)
    x = setting.padded(np.stack([row for _, row in pairs]))
    return Case(name, x, names=[name for name, _ in pairs], rows=len(pairs))


def _grouped(x: Array) -> Array:
    return np.resize(x, _GROUP) if 1 < x.size < _GROUP else x


def values(setting: Setting) -> Iterator[Case]:
    """Rows of every length and kind, compared with the exact value."""
    yield from _rowwise(setting) if setting.operation.takes_axis else _elementwise(setting)


def _lengths(setting: Setting) -> tuple[int, ...]:
    listed, count = setting.budget("lengths"), setting.budget("drawn lengths")
    drawn = np.exp(setting.rng("lengths drawn").uniform(np.log(70), np.log(5000), count))
    return tuple(dict.fromkeys((*listed, *(int(n) for n in drawn))))


def _rowwise(setting: Setting) -> Iterator[Case]:
    dtype = setting.dtype
    for n in _lengths(setting):
        yield _together(setting, f"n{n}", _mixed(setting, n))
    for n in setting.budget("long rows"):
        yield _alone(f"long-n{n}", itertools.islice(_long(setting, n), setting.budget("kinds of long rows")))
    for n in setting.budget("rows with ends"):
        yield _alone(f"ends-n{n}", itertools.islice(rows.ended_rows(n), _ends(setting, n)))
    if setting.is_kernel:
        yield _alone(f"drifting-n{_DRIFTING}", rows.drifting_rows(_DRIFTING))
    # Each kind alone: a kernel that looks at the whole array first must not be saved by the other rows.
    for n in setting.budget("rows alone"):
        for name, row in rows.rows(n, dtype, setting.rng("alone", n)):
            yield _alone(f"alone-n{n}-{slug(name)}", [(name, row), (name, row[::-1].copy())])
    for n in setting.budget("blocks"):
        yield _together(setting, f"blocks-n{n}", rows.blocked_rows(n, dtype, setting.rng("blocks", n)))
        yield _together(setting, f"emptied-n{n}", rows.emptied_rows(n, dtype, setting.rng("emptied", n)))
    for n in setting.budget("rows with a lone last entry"):
        yield _alone(f"lone-n{n}", ((name, rows.lone_row(n, index)) for name, index in (("last", n - 1), ("first", 0))))
    for n in setting.budget("longest rows"):
        x = 5.0 * setting.rng("longest", n).normal(size=n)
        yield Case(f"longest-1x{n}", x[None])
        if setting.implementation.offers_axis:
            yield Case(f"longest-{n}x1-axis-0", x[:, None], axis=0, optional=True)
    for n in setting.budget("peaks"):
        yield _together(setting, f"peaks-n{n}", ((f"peak at {i % n}", x) for i, x in enumerate(rows.peaked_rows(n))))


def _ends(setting: Setting, n: int) -> int | None:
    """How many kinds of rows with ends, of either check: the arrays are of one shape, and compiled once."""
    return None if n <= setting.budget("longest with every end") else 2


def _mixed(setting: Setting, n: int) -> Iterator[tuple[str, Array]]:
    rng = setting.rng("rows", n)
    named = list(rows.rows(n, setting.dtype, rng))
    # Beyond what may be added up in any order, a kernel is right by the usual standards; a backend owes the bound,
    # whatever the logits.
    if n <= setting.judged_in(setting.dtype).in_order or not setting.is_kernel:
        named += [*rows.drifting_rows(n), *rows.losing_rows(n, setting.dtype)]
    if n > _MODERATE:
        named = [*named[:2], *(named[i] for i in rng.permutation(len(named))[:7]), *named[-3:]]
    yield from (named[i] for i in rng.permutation(len(named)))


def _long(setting: Setting, n: int) -> Iterator[tuple[str, Array]]:
    rng = setting.rng("long", n)
    # A kernel may add thousands of blocks up in its own precision, and is right by the usual standards; rows in which
    # each addition loses the same way are asked of backends, which owe the bound at any length.
    yield "wide", (2.0 if setting.is_kernel else 5.0) * rng.normal(size=n)
    yield "zeros", np.zeros(n)
    yield "normal", rng.normal(size=n)
    yield "shifted", -1e4 + rng.normal(size=n).round(2) * 8
    yield "one high", np.where(np.arange(n) == n - 2, 12.0, 0.0)


def _elementwise(setting: Setting) -> Iterator[Case]:
    for name, x in rows.points(setting.dtype, setting.rng("points")) if setting.budget("elements alone") else ():
        yield Case(slug(name), _grouped(x[np.isfinite(x)] if np.isfinite(x).any() else x))
    for n in _lengths(setting) if setting.budget("elements of many lengths") else ():
        x = 8.0 * setting.rng("lengths", n).normal(size=n)
        yield Case(f"n{n}", x)
        # Of one sign alone, for a kernel that looks at the whole array first.
        yield Case(f"n{n}-positive", np.abs(x))
        yield Case(f"n{n}-negative", -np.abs(x))
    for n in setting.budget("long elements"):
        yield Case(f"long-n{n}", 30.0 * setting.rng("long", n).normal(size=n))


def exhaustive(setting: Setting) -> Iterator[Case]:
    """Every number that a dtype of 16 or 8 bits has (sigmoid only)."""
    bits = 8 * setting.dtype.dtype.itemsize
    if setting.operation.takes_axis or bits > 16:
        return
    with np.errstate(invalid="ignore"):
        every = np.arange(1 << bits, dtype=f"uint{bits}").view(setting.dtype.dtype).astype(np.float64)
    every = every[np.isfinite(every)]
    side = 1 << (bits // 2)
    in_rows = every[: every.size // side // 8 * 8 * side].reshape(-1, side)
    orders = (("all", every), ("all-by-size", np.sort(every)), ("finite-in-rows", in_rows))
    for name, x in orders[: setting.budget("orders of all numbers")]:
        yield Case(name, x)


def special(setting: Setting) -> Iterator[Case]:
    """NaN, infinities and rows of -inf alone, placed among ordinary rows that they must not affect."""
    if not setting.operation.takes_axis:
        for value in (np.nan, np.inf, -np.inf):
            some = np.array([0.5, value, -3.0, value, 60.0, -40.0, value])
            for name, x in ((f"{value}", some), (f"only-{value}", np.full(5, value))):
                yield Case(name, _grouped(x) if setting.budget("special elements in one shape") else x)
        return
    for n in setting.budget("special rows"):
        rng = setting.rng("special", n)
        plain = [pair for pair in rows.rows(n, setting.dtype, rng) if pair[0] in ("normal", "shifted by 60")]
        named = [pair for one in rows.special_rows(n, rng) for pair in (plain[0], one, plain[1])]
        yield _together(setting, f"n{n}", named)
    for n in setting.budget("rows with ends"):
        yield _alone(f"ends-n{n}", itertools.islice(rows.ended_by_nan(n), _ends(setting, n)))
    for name, row in rows.special_rows(3, setting.rng("special alone")):
        if copies := setting.budget("special rows alone"):
            yield _alone(f"alone-{slug(name)}", [(name, row)] * copies)
        if setting.budget("special vectors"):
            yield Case(f"one-row-{slug(name)}", row, optional=True)
