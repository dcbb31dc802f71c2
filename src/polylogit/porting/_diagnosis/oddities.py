"""What is plain to see in two arrays and makes any figure of their difference meaningless: NaN, infinities, zeros.

Plain NumPy; knows nothing of frameworks, faults and reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.pieces import extremes, pieces, wide

if TYPE_CHECKING:
    from polylogit._spec.formulas import Array

__all__ = ["oddities"]


def oddities(r: Array, c: Array, *, floor: float | None = None) -> str:
    """What only one of two arrays of one shape has, with counts; empty if there is nothing of the kind.

    With a `floor`, entries up to it count as 0, of which one side alone may have some.
    """
    if r.shape != c.shape or not r.size:
        return ""
    tests = {"NaN": np.isnan, "infinite": np.isinf}
    counts = dict.fromkeys([(what, side) for what in (*tests, "0") for side in ("reference", "candidate")], 0)
    for place in pieces(r.shape):
        sides = {"reference": wide(r[place]), "candidate": wide(c[place])}
        for what, test in tests.items():
            here, there = (test(one) for one in sides.values())
            counts[what, "reference"] += int((here & ~there).sum())
            counts[what, "candidate"] += int((there & ~here).sum())
        if floor is not None:
            here, there = (np.abs(one) for one in sides.values())
            counts["0", "reference"] += int(((here <= floor) & (there > 2 * floor)).sum())
            counts["0", "candidate"] += int(((there <= floor) & (here > 2 * floor)).sum())
    low, high = extremes(c)
    if low == high and r.size > 1 and not any(counts[what, "candidate"] for what in tests):
        return f"the candidate is {low:.4g} throughout"
    said = [
        f"{count} of {r.size} entries {what} in the {side} alone" for (what, side), count in counts.items() if count
    ]
    return " and ".join(said)
