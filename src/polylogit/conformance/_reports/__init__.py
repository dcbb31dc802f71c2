"""The report formats, one module for each; all read the same plain data. None knows a framework.

This module has what several formats share: the command that runs a case again, and a failing row as a small table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._numbers import below, shortest, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polylogit.conformance._results import Result, Results

__all__ = ["EXCHANGE", "Window", "computed", "exchanges", "of_storage", "others", "replay_command", "shares", "window"]

EXCHANGE = ("subject", "operation", "case", "bytes exchanged", "memory beyond the part", "part")


def exchanges(report: Results) -> list[tuple[str, ...]]:
    """The bytes that parts exchanged and the memory that they took, one row per case; none if nothing was split."""
    rows = []
    for one in report.results:
        measured = [one.details.get(name) for name in EXCHANGE[3:]]
        if measured[0] is not None or measured[1] is not None:
            numbers = ["" if size is None else f"{size:,}" for size in measured]
            rows.append((one.subject, one.operation, f"{one.check}: {one.case}", *numbers))
    return rows


def replay_command(identifier: str) -> str:
    """The command that runs one case again."""
    return f"polylogit replay '{identifier}'"


def of_storage(result: Result) -> bool:
    """Whether the bound is that of a storage dtype (float8), whose own rounding nearly reaches it."""
    dtype = DTYPES.get(result.rounded_to)
    return dtype is not None and bool(dtype.computed_in)


def computed(report: Results) -> list[Result]:
    """The results in all other dtypes."""
    return [one for one in report.results if not of_storage(one)]


@dataclass(frozen=True, slots=True)
class Window:
    """The entries of a failing row around the worst one, as text.

    Attributes
    ----------
    places : list of int
        The indices of the entries.
    lines : dict of str to list of str
        The values of the entries as text, by name: a list for each name.
    wrong : list of bool
        Whether each entry is wrong; `worst` is the position of the worst one.
    length : int
        The length of the whole row.
    """

    places: list[int]
    lines: dict[str, list[str]]
    wrong: list[bool]
    worst: int
    length: int


def window(result: Result, most: int = 16) -> Window | None:
    """The failing row, or its part around the worst entry; None if no row failed."""
    details = result.details
    names = ("inputs", "expected_row", "got_row", "index", "bound")
    if any(name not in details for name in names):
        return None
    inputs, expected, got = ([float(value) for value in details[name]] for name in names[:3])
    start, worst = details.get("shown_from", 0), details["index"] - details.get("shown_from", 0)
    first = max(0, min(worst - most // 2, len(inputs) - most))
    part = slice(first, first + most)
    given, rounded = DTYPES.get(result.dtype), DTYPES.get(result.rounded_to)
    lines = _logits(inputs, part, given)
    if "where" in details:
        lines["where"] = [str(one) for one in details["where"][part]]
    for name, values in zip(("cotangent", "direction"), details.get("directions", ()), strict=False):
        lines[name] = [shortest(float(value), given) for value in values[part]]
    pairs = [side_by_side(r, c, rounded) for r, c in zip(expected[part], got[part], strict=True)]
    right = [_right(r, c, rounded) for r, c in zip(expected[part], got[part], strict=True)]
    # What is nearest to the right value is not what came, and no further off than rounding: shown as what came.
    lines["expected"] = [came if fine else text for (text, came), fine in zip(pairs, right, strict=True)]
    lines["got"] = [came for _, came in pairs]
    wrong = [not fine for fine in right]
    wrong[worst - first] = True
    lines["expected"][worst - first] = pairs[worst - first][0]
    places = list(range(start + first, start + first + len(wrong)))
    return Window(places, lines, wrong, worst - first, details.get("length", len(inputs)))


def _logits(inputs: list[float], part: slice, dtype: Any) -> dict[str, list[str]]:
    if (far := below(inputs)) is not None:
        top, distances = far
        return {f"inputs, {shortest(top, dtype)} +": [shortest(one) for one in distances[part]]}
    return {"inputs": [shortest(one, dtype) for one in inputs[part]]}


def _right(right: float, came: float, dtype: Any) -> bool:
    """Whether this is the right number up to a few ulp; the worst entry is marked in any case."""
    if math.isnan(right) or math.isnan(came):
        return math.isnan(right) and math.isnan(came)
    if math.isinf(right) or math.isinf(came) or dtype is None:
        return right == came
    return abs(right - came) <= 16 * float(dtype.ulp(right))


def shares(counts: dict[str, int]) -> str:
    """The kinds of failures, with their counts if there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def others(identifiers: Iterable[str], subject: str) -> list[str]:
    """Ids without the parts that all of them share."""
    return [one.removeprefix(f"{subject}/") for one in identifiers]
