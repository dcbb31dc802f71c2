"""Rows for every class of inputs known to hide faults, elements for sigmoid, and cotangents.

The values are float64 numbers that a dtype can represent, and never come from an implementation. Knows no operation.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Array, Finfo


def generator(seed: int, *what: object) -> np.random.Generator:
    """A random generator for one purpose, the same in every run with that seed."""
    return np.random.default_rng([seed, zlib.crc32(repr(what).encode())])


def _ladder(n: int, start: float, dtype: Finfo, rng: np.random.Generator, span: float = 12.0) -> Array:
    """Values near `start`, a few spacings of the dtype apart, so that they differ and stay comparable."""
    step = float(dtype.ulp(np.asarray(start)))
    steps = rng.integers(0, max(2, int(span / step)) if step <= span / 2 else 2, n)
    return np.asarray(start + step * steps if start < 0 or abs(start) < dtype.max / 2 else start - step * steps)


def _gap(n: int, low: float, high: float, rng: np.random.Generator) -> Array:
    row = rng.normal(size=n)
    row[rng.permutation(n)[: max(1, n // 2)]] -= rng.uniform(low, high)
    return row


def rows(n: int, dtype: Finfo, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Named rows of length `n` with finite or -inf values, each with at least one finite entry."""
    normal = rng.normal(size=n)
    largest, half = dtype.max, dtype.max < 1e5
    yield "normal", normal
    yield "wide", 5.0 * rng.normal(size=n)
    yield "very wide", 30.0 * rng.normal(size=n)
    yield "narrow", 1e-3 * rng.normal(size=n)
    yield "all below -1e4", -1e4 - 10.0 * np.abs(rng.normal(size=n)).round(1) * 4
    yield "all far negative", _ladder(n, -0.9 * largest, dtype, rng)
    yield "all lowest", np.full(n, -largest)
    yield "all largest", np.full(n, largest)
    for size in (60.0, 300.0, 2e4) if half else (60.0, 150.0, 800.0, 1e5, 1e7, 1e16, 1e30):
        yield f"shifted by {size:g}", _ladder(n, size, dtype, rng)
        yield f"shifted by -{size:g}", _ladder(n, -size, dtype, rng)
    for low, high in ((6.0, 9.0), (9.0, 11.5), (14.0, 18.0), (25.0, 40.0), (80.0, 87.0), (88.0, 104.0), (104.0, 120.0)):
        yield f"gap of {low:g} to {high:g}", _gap(n, low, high, rng)
    if dtype.precision > 24:
        yield "gap of 300 to 500", _gap(n, 300.0, 500.0, rng)
        yield "gap of 690 to 740", _gap(n, 690.0, 740.0, rng)
    yield "zeros", np.zeros(n)
    yield "equal", np.full(n, 0.1)
    yield "minus zeros", np.full(n, -0.0)
    yield "subnormal", dtype.smallest_subnormal * rng.integers(-3, 4, n).astype(float)
    yield "extremes", np.where(rng.random(n) < 0.5, -largest, largest)
    yield "lowest but one", _one(n, -largest, 0.0, int(rng.integers(n)))
    yield "ascending", np.linspace(-20.0, 5.0, n)
    yield "descending", np.linspace(30.0, -3.0, n)
    yield "linear steps", np.arange(n, dtype=float) % 13 - 6.0
    yield "integers far apart", 100.0 * rng.permutation(n) if n < 300 else normal * 100.0
    yield "only first finite", _one(n, -np.inf, 1.5, 0)
    yield "only last finite", _one(n, -np.inf, -1.5, n - 1)
    for name, index in (("first", 0), ("middle", n // 2), ("last", n - 1)):
        yield f"peak {name}", _one(n, 0.0, 200.0, index) + 0.1 * normal
        yield f"low {name}", _one(n, 2.0, -np.inf if n > 1 else 2.0, index) + normal
    if n > 1:
        yield "scattered -inf", np.where((rng.random(n) < 0.5) & (np.arange(n) != n // 2), -np.inf, normal)
        yield "half -inf", np.where(np.arange(n) < n // 2, -np.inf, normal)
        yield "second half -inf", np.where(np.arange(n) >= (n + 1) // 2, -np.inf, normal)
        yield "half -inf, others far down", np.where(np.arange(n) < n // 2, -np.inf, -200.0 + normal)
        yield "scattered -inf, others at -1e9", np.where(np.arange(n) % 3 == 1, -np.inf, -1e9)
        yield "-inf beside lowest", _one(n, -largest, -np.inf, n // 2)
        yield "alternating", np.where(np.arange(n) % 2 == 0, 3.0, -3.0) + 0.01 * normal
        yield "tied maxima", np.where(np.arange(n) % 3 == 0, 7.0, normal)


def _one(n: int, rest: float, value: float, index: int) -> Array:
    row = np.full(n, rest)
    row[index] = value
    return row


def lone_row(n: int, index: int) -> Array:
    """A row in which one entry leads by so much that the others add nothing; and the row without it."""
    return _one(n, -60.0, 0.0, index)


def ends(n: int) -> tuple[int, ...]:
    """Where a kernel of tiles goes wrong in a long row: the last entry, the first, and beside the last whole tile.

    The largest power of two below `n` is a whole number of tiles of any size that is one; the rest fills none.
    """
    whole = 1 << ((n - 1).bit_length() - 1)
    return n - 1, whole, 0, whole - 1


def ended_rows(n: int) -> Iterator[tuple[str, Array]]:
    """Rows that hang on their ends: whoever misses one there divides by another sum, or overflows."""
    last, *others = ends(n)
    yield f"maximum at {last}", _one(n, 0.0, 800.0, last)
    shares = np.full(n, -60.0)
    shares[list(ends(n))] = (0.0, -0.25, -0.5, -0.75)
    yield "sum of the ends", shares
    for index in others:
        yield f"maximum at {index}", _one(n, 0.0, 800.0, index)


def ended_by_nan(n: int) -> Iterator[tuple[str, Array]]:
    """Rows with a NaN at one of their ends."""
    for index in ends(n):
        yield f"nan at {index}", _one(n, 0.0, np.nan, index)


def drifting_rows(n: int) -> Iterator[tuple[str, Array]]:
    """Rows that make a running sum drift: every addition rounds in the same direction."""
    for name, value in (("a", -1.1), ("b", -0.35), ("c", -2.3)):
        yield f"drifting sum {name}", _one(n, value, 0.0, 0)


def losing_rows(n: int, dtype: Finfo) -> Iterator[tuple[str, Array]]:
    """Rows in which a sum loses nearly half an eps with each addition to a large term, which shows long chains."""
    small = float(np.log(0.49 * dtype.eps))
    yield "lost terms", _one(n, small, 0.0, 0)
    yield "lost terms before", _one(n, small, 0.0, n - 1)
    yield "lost in places", np.where(np.arange(n) % 32 == 0, 0.0, small)


def peaked_rows(n: int) -> Array:
    """A square: row i has its maximum at i, far above the others; and a square in which all others are -inf."""
    high = np.where(np.eye(n, dtype=bool), 300.0, 0.0)
    low = np.where(np.eye(n, dtype=bool), -1e4, -2e4)
    lone = np.where(np.eye(n, dtype=bool), -3.0, -np.inf)
    return np.concatenate([high, low, lone])


def blocked_rows(n: int, dtype: Finfo, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Blocks of -inf, of very low and of very high values at the sizes in which kernels work."""
    for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        if size >= n:
            return
        index = np.arange(n)
        row = rng.normal(size=n)
        yield f"first {size} -inf", np.where(index < size, -np.inf, row)
        yield f"last {size} -inf", np.where(index >= n - size, -np.inf, row)
        yield f"{size} -inf inside", np.where((index >= n // 3) & (index < n // 3 + size), -np.inf, row)
        yield f"all but {size} -inf", np.where(index < n - size, -np.inf, row)
        yield f"first {size} lowest", np.where(index < size, -dtype.max, row)
        yield f"first {size} high", np.where(index < size, 150.0 + row, row)
        yield f"last {size} high", np.where(index >= n - size, 150.0 + row, row)
        yield f"blocks of {size} rising", row + 20.0 * (index // size)
        yield f"blocks of {size} falling", row - 20.0 * (index // size)
        yield f"every other block of {size} -inf", np.where((index // size) % 2 == 0, -np.inf, row)


# The sizes in which kernels work, and some between.
_TILES = (8, 12, 16, 24, 32, 48, 64, 100, 128, 192, 200, 256)
# Below what exponentials, 16-bit numbers and masks that are added stand for, and as far up.
_FAR = (-104.0, -200.0, -1e4, -1e9, -3e38, 1e4, 3e38)


def emptied_rows(n: int, dtype: Finfo, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Rows with whole tiles of -inf, single ones or all but one, while the other entries lie far down or far up.

    Whatever replaces -inf inside a kernel (0, -1e4, the lowest number) is at least the maximum of such a row.
    """
    index, turn = np.arange(n), 0
    for size in (size for size in _TILES if size < n):
        start = n // 3
        places = {
            f"first {size}": index < size,
            f"last {size}": index >= n - size,
            f"{size} inside": (index >= start) & (index < start + size),
            f"every other {size}": (index // size) % 2 == 0,
            f"all but {size}": index < n - size,
        }
        for place, empty in places.items():
            # All levels where a running maximum starts, two in turn elsewhere.
            for level in _FAR if place.startswith(("first", "last")) else (_FAR[turn % 7], _FAR[(turn + 3) % 7]):
                yield (
                    f"{place} -inf, others at {level:g}",
                    np.where(empty, -np.inf, level + _steps(level, n, dtype, rng)),
                )
            turn += 1
    for level in _FAR:
        others = level + _steps(level, n, dtype, rng)
        yield f"scattered -inf, others at {level:g}", np.where(rng.permutation(n) < n // 2, -np.inf, others)
        for name, lone in (("first", 0), ("middle", n // 2), ("last", n - 1)):
            yield f"only {name}, at {level:g}", _one(n, -np.inf, level, lone)
            yield f"all but {name}, at {level:g}", np.where(index == lone, -np.inf, others)


def _steps(level: float, n: int, dtype: Finfo, rng: np.random.Generator) -> Array:
    """Differences that the dtype resolves at a level, and whose exponentials differ from 0; none if there are none."""
    step = float(dtype.ulp(np.asarray(min(abs(level), dtype.max))))
    return np.asarray(step * rng.integers(0, max(1, int(4.0 / step) + 1), n)) if step <= 4.0 else np.zeros(n)


def special_rows(n: int, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Rows with NaN or +inf, at each position of short rows and at block boundaries of long ones; all -inf."""
    short = n <= 20
    marks = {0, 1, n // 2, n - 1, *(edge + off for edge in (8, 16, 32, 64, 128, 256, 512) for off in (-1, 0))}
    positions = range(n) if short else sorted(mark for mark in marks if 0 <= mark < n)
    normal = rng.normal(size=n)
    yield "all -inf", np.full(n, -np.inf)
    yield "all nan", np.full(n, np.nan)
    yield "all +inf", np.full(n, np.inf)
    for value in (np.nan, np.inf):
        for position in positions:
            row = normal.copy()
            row[position] = value
            yield f"{value} at {position}", row
    if n > 1:
        yield "nan among -inf", _one(n, -np.inf, np.nan, n - 1)
        yield "inf among -inf", _one(n, -np.inf, np.inf, 0)
        yield "nan and inf", np.where(np.arange(n) == 0, np.nan, np.where(np.arange(n) == n - 1, np.inf, normal))
        yield "two infinities", np.where(np.arange(n) < 2, np.inf, normal)
        yield "nan then large", np.where(np.arange(n) == 0, np.nan, 1e4)


_TAILS = (18.0, 30.0, 36.0, 37.0, 40.0, 45.0, 60.0, 80.0, 85.5, 87.0, 88.0, 88.7, 90.0)
_BEYOND = (89.0, 90.0, 100.0, 103.0, 104.0, 120.0, 709.0, 710.0, 745.0, 750.0, 1e4)


def points(dtype: Finfo, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Elements for an elementwise function, in homogeneous groups, so that no other value can hide a fault."""
    for sign in (-1.0, 1.0):
        word = "negative" if sign < 0 else "positive"
        yield f"{word} near 0", sign * np.abs(rng.normal(size=67))
        yield f"{word} moderate", sign * rng.uniform(1.0, 20.0, 67)
        yield f"{word} tails", sign * np.array(_TAILS)
        yield f"{word} beyond", sign * np.array(_BEYOND)
        yield f"{word} huge", sign * np.array([dtype.max, dtype.max / 2, 3e4, 6e4])
        # From where integers of 16, 32 and 64 bits end to the largest number: arguments reduced through an integer.
        yield f"{word} orders", sign * np.append(np.geomspace(1e4, dtype.max / 2, 96), dtype.max)
        yield f"{word} tiny", sign * np.array([0.0, dtype.smallest_subnormal, dtype.smallest_normal, 1e-5, 1e-3])
        yield f"{word} small half tails", sign * np.linspace(7.0, 17.5, 43)
        # As far as the smaller of the two probabilities is a normal number.
        yield f"{word} range", sign * np.linspace(0.0, -np.log(dtype.smallest_normal), 193)
        yield f"{word} infinite", sign * np.array([np.inf, 1.0, np.inf])
    yield "grid", np.linspace(-30.0, 30.0, 2001)
    yield "fine grid", np.linspace(-3.0, 3.0, 2001)
    yield "wide grid", np.linspace(-110.0, 110.0, 2001)
    yield "mixed", 10.0 * rng.normal(size=2001)
    yield "nan among others", np.array([1.0, np.nan, -2.0, np.nan, 0.0])
    yield "one element", np.array([-1.25])


# --- cotangents ------------------------------------------------------------------------------------------------------


def cotangents(n: int, dtype: Finfo, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Named cotangents of length `n`; ones alone would miss half of all faults."""
    half = dtype.max < 1e5
    normal = rng.normal(size=n)
    yield "normal", normal
    yield "ones", np.ones(n)
    yield "one-hot", _one(n, 0.0, 1.0, int(rng.integers(n)))
    yield "one-hot first", _one(n, 0.0, -2.0, 0)
    yield "huge", normal * (64.0 if half else 1e18)
    yield "small", normal * (0.125 if half else 1e-10)
    yield "alternating", np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    yield "positive", np.abs(normal) + 0.5
    yield "ramp", np.linspace(-1.0, 3.0, n)
    yield "constant", np.full(n, -3.0)
    yield "zeros", np.zeros(n)
