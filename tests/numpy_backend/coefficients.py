"""Where the constants of ``elementary.h`` come from: polynomials by Remez, and splittings of ln 2.

    python tests/numpy_backend/coefficients.py

Prints each set as C has it, and the largest relative error that rounded coefficients leave, with exact arithmetic in
between. tests/numpy_backend/test_elementary.py compares what is printed with what is compiled.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any

import mpmath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

mpmath.mp.dps = 50

# Reduced arguments lie within half of ln 2, and a little beyond where x * log2(e) was rounded.
REACH = mpmath.log(2) / 2 * (1 + mpmath.mpf(2) ** -10)
# What log1p's polynomial is of: s^2 with s = g / (2 + g), g up to sqrt(2) - 1.
FARTHEST = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2 * (1 + mpmath.mpf(2) ** -10)


def rounded(value: mpmath.mpf, dtype: str) -> float:
    """`value` as a float32 ("f") or a float64 ("d")."""
    return float(struct.unpack(dtype, struct.pack(dtype, float(value)))[0])


def minimax(
    function: Callable[[mpmath.mpf], mpmath.mpf],
    weight: Callable[[mpmath.mpf], mpmath.mpf],
    low: mpmath.mpf,
    high: mpmath.mpf,
    terms: int,
) -> list[mpmath.mpf]:
    """The coefficients, lowest first, of the polynomial with the smallest largest weighted error, by Remez's exchange.

    The error alternates between as many points as there are unknowns, itself among them; the points are those of a fine
    grid at which it was largest the last time.
    """
    middle, half, count = (low + high) / 2, (high - low) / 2, 60 * terms
    grid = [middle - half * mpmath.cos(mpmath.pi * (point + mpmath.mpf(1) / 2) / count) for point in range(count)]
    wanted, weights = [function(x) for x in grid], [weight(x) for x in grid]
    chosen = [round((count - 1) * (1 - mpmath.cos(mpmath.pi * node / terms)) / 2) for node in range(terms + 1)]
    found: list[mpmath.mpf] = []
    for _ in range(12):
        rows = [
            [*(grid[point] ** power for power in range(terms)), (-1) ** node / weights[point]]
            for node, point in enumerate(chosen)
        ]
        found = list(mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix([wanted[point] for point in chosen])))[:terms]
        errors = [(value(found, x) - want) * scale for x, want, scale in zip(grid, wanted, weights, strict=True)]
        runs = [list(run) for _, run in itertools.groupby(range(count), key=lambda point: errors[point] > 0)]
        extremes = [max(run, key=lambda point: abs(errors[point])) for run in runs]
        if len(extremes) != terms + 1:
            break
        chosen = extremes
    return found


def exp_tail(r: mpmath.mpf) -> mpmath.mpf:
    """(exp(r) - 1 - r) / r^2."""
    return mpmath.nsum(lambda n: r ** int(n) / mpmath.factorial(int(n) + 2), [0, 40]) if r else mpmath.mpf(1) / 2


def exp_weight(r: mpmath.mpf) -> mpmath.mpf:
    """What an error of g weighs in exp(r), relatively."""
    return r**2 / mpmath.exp(r)


def log_tail(z: mpmath.mpf) -> mpmath.mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / (s z), where s^2 = z."""
    return mpmath.fsum(2 * z**n / (2 * n + 3) for n in range(60))


def value(coefficients: Sequence[Any], x: mpmath.mpf) -> mpmath.mpf:
    """The polynomial at x, exactly; by Horner's rule, as the order that mpmath's own takes depends on its version."""
    total = mpmath.mpf(0)
    for one in reversed(coefficients):
        total = total * x + mpmath.mpf(one)
    return total


def exp_error(coefficients: list[float], points: int = 2000) -> float:
    """The largest relative error of 1 + r + r^2 g(r) for exp(r)."""
    found = mpmath.mpf(0)
    for point in range(points + 1):
        r = REACH * (2 * mpmath.mpf(point) / points - 1)
        found = max(found, abs((1 + r + r**2 * value(coefficients, r)) / mpmath.exp(r) - 1))
    return float(found)


def log_error(coefficients: list[float], points: int = 2000) -> float:
    """The largest relative error of 2 s + s z P(z) for log((1 + s) / (1 - s))."""
    found = mpmath.mpf(0)
    for point in range(1, points + 1):
        z = FARTHEST * point / points
        found = max(found, abs((2 + z * value(coefficients, z)) / (2 + z * log_tail(z)) - 1))
    return float(found)


def split_ln2(bits: int, dtype: str) -> tuple[float, float]:
    """ln 2 as a number of so many bits and the rest, each exact in the dtype."""
    scale = mpmath.mpf(2) ** bits
    high = mpmath.floor(mpmath.log(2) * scale + mpmath.mpf(1) / 2) / scale
    return rounded(high, dtype), rounded(mpmath.log(2) - high, dtype)


def constants() -> Iterator[tuple[str, float | list[float], str, float]]:
    """Name, value or values, dtype and, for a polynomial, its error."""
    for name, dtype, terms, bits in (("FLOAT32", "f", 5, 14), ("FLOAT64", "d", 10, 41)):
        found = [rounded(one, dtype) for one in minimax(exp_tail, exp_weight, -REACH, REACH, terms)]
        yield f"{name}_EXP", found, dtype, exp_error(found)
        high, low = split_ln2(bits, dtype)
        yield f"{name}_LN2_HIGH", high, dtype, 0.0
        yield f"{name}_LN2_LOW", low, dtype, 0.0
        yield f"{name}_LOG2_E", rounded(1 / mpmath.log(2), dtype), dtype, 0.0
    found = [rounded(one, "d") for one in minimax(log_tail, lambda z: z, mpmath.mpf(0), FARTHEST, 7)]
    yield "LOG1P", found, "d", log_error(found)


def main() -> None:
    """Print them."""
    for name, found, dtype, error in constants():
        suffix = "f" if dtype == "f" else ""
        values = found if isinstance(found, list) else [found]
        print(name, ", ".join(f"{one.hex()}{suffix}" for one in values))
        if error:
            print(f"    relative error at most 2^{float(mpmath.log(error, 2)):.1f}")


if __name__ == "__main__":
    main()
