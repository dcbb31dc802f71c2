"""Conventions other than the contract's, which a kernel may declare, or which the kit recognises.

A convention is a name and a value. The conventions of axes say which axes a call means; those of rows say what a row
without entries gives. Knows cases and the table of operations; runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from polylogit._spec.dtypes import Array
    from polylogit._spec.operations import Definition
    from polylogit.conformance._case import Case

__all__ = ["SAID", "axes_meant", "checked", "empty_rows", "others"]

# What the contract says, and in which words a report says that something else was found.
SAID: dict[str, tuple[str, str]] = {
    "default-axis": ("-1", "the default axis is {value}"),
    "axis-none": ("all axes", "axis=None means axis {value}"),
    "axis": ("one", "an axis means it and all after it, flattened"),
    "empty-row": ("nan", "a row of nothing but -inf gives {value}"),
    "masked-row": ("zeros", "a row that is masked out entirely gives {value}"),
}
_ROWS: dict[str, Callable[[Definition, int], float]] = {
    "nan": lambda _definition, _n: np.nan,
    "zeros": lambda definition, _n: definition.masked,
    "uniform": lambda definition, n: -float(np.log(n)) if definition.masked else 1.0 / n,
}


def checked(conventions: Mapping[str, Any] | None) -> dict[str, str]:
    """The conventions as text, after checking that each is known.

    Raises
    ------
    ConformanceError
        For a name or value that does not exist.
    """
    given = {name: str(value) for name, value in (conventions or {}).items()}
    for name, value in given.items():
        if name not in SAID:
            message = f"convention {name!r} does not exist; the conventions are {', '.join(SAID)}."
            raise ConformanceError(message)
        known = _ROWS if name.endswith("-row") else ("flattens",) if name == "axis" else None
        if known and value not in known:
            message = f"{name}={value!r} does not exist; the values of {name} are {', '.join(known)}."
            raise ConformanceError(message)
        if not known and value not in ("None", "last", "first") and not value.lstrip("-").isdigit():
            message = f"{name}={value!r} is no axis; write a number, None, first or last."
            raise ConformanceError(message)
    return given


def _axis(value: str) -> Any:
    return {"None": None, "first": 0, "last": -1}.get(value) if not value.lstrip("-").isdigit() else int(value)


def axes_meant(case: Case, ndim: int, conventions: Mapping[str, str]) -> Case:
    """The case with the axis that these conventions mean by the axis of the call."""
    if not case.axis_given and "default-axis" in conventions:
        return replace(case, axis=_axis(conventions["default-axis"]))
    if case.axis_given and case.axis is None and "axis-none" in conventions:
        return replace(case, axis=_axis(conventions["axis-none"]))
    if conventions.get("axis") == "flattens" and case.axis_given and isinstance(case.axis, int) and ndim:
        return replace(case, axis=tuple(range(case.axis % ndim, ndim)))
    return case


def empty_rows(name: str, definition: Definition, conventions: Mapping[str, str], n: int) -> float | None:
    """The result for a row of length `n` without entries; None for the contract's value."""
    value = conventions.get(name)
    return None if value is None else _ROWS[value](definition, max(n, 1))


def others(case: Case, x: Array, *, takes_axis: bool) -> Iterator[tuple[str, str]]:
    """The conventions by which a case could be right: names and values."""
    if not takes_axis:
        return
    ndim = x.ndim
    if not case.axis_given:
        yield "default-axis", "None"
        for axis in range(ndim - 1):
            yield "default-axis", str(axis)
    elif case.axis is None:
        yield "axis-none", "last"
        for axis in range(ndim - 1):
            yield "axis-none", str(axis)
    elif isinstance(case.axis, int) and ndim and case.axis % ndim < ndim - 1:
        yield "axis", "flattens"
    if case.where is not None:
        for value in ("nan", "uniform"):
            yield "masked-row", value
    elif np.isneginf(x).any():
        for value in ("zeros", "uniform"):
            yield "empty-row", value
