"""The facts of a case after it ran: the arguments of the call, and the rows and entries that are wrong.

`facts` returns plain data, in which `polylogit.conformance._grouping` finds what failures have in common. For a case
that passes, the facts describe all its rows. For one that fails, they describe the row with the worst error and, under
``fine``, the rows and entries of the same case that are right. Knows cases; no operation and no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._data.layouts import LAYOUTS

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Case, Setting
    from polylogit.conformance._compare import Comparison, Seen

__all__ = ["facts"]

# What a behaviour is asked for, by the module of its check.
_ASKED = {"laws": "law", "compiled": "compiler", "arguments": "integers"}


def facts(setting: Setting, case: Case, found: Comparison) -> dict[str, Any]:
    """The facts of a case and of its outcome, as plain data."""
    known: dict[str, Any] = {"kind": case.kind}
    if case.x is not None:
        if setting.operation.takes_axis:
            known.update(_asked(case.axis, np.ndim(case.x)) if case.axis_given else {"axis argument": "left out"})
        known.update(ndim=int(np.ndim(case.x)), layout=case.layout, masked=case.where is not None)
        known["contiguous"] = _contiguous(case.layout, np.shape(case.x))
        if case.kind != "values":
            known["cotangent layout"] = case.directions_layout
        if case.into is not None:
            known["into"] = case.into.name
    elif case.arguments and isinstance(case.arguments[0], str):
        known[_ASKED.get(getattr(case.behaviour, "__module__", "").rpartition(".")[2], "asked")] = case.arguments[0]
    if found.vacuous:
        known["vacuous"] = True
    if found.seen is not None and found.seen.inputs.size:
        known.update(_of_rows(found.seen, failed=found.verdict != "passed"))
    return known


def _contiguous(layout: str, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape and layout has no gaps, with its entries in the order of the indices."""
    if layout in LAYOUTS:
        return bool(LAYOUTS[layout](np.empty(shape, np.float32)).flags.c_contiguous)
    return layout == "contiguous"


def _asked(axis: Any, ndim: int) -> dict[str, str]:
    """The kind of axis ("last", "first", "middle", "several" or "all"), and how it was passed."""
    axes = {
        one % max(ndim, 1) for one in (range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,))
    }
    where = "last"
    if len(axes) > 1:
        where = "all" if len(axes) == ndim else "several"
    elif axes and ndim and min(axes) < ndim - 1:
        where = "middle" if min(axes) else "first"
    written = (
        "None" if axis is None else "a tuple" if isinstance(axis, tuple) else "negative" if axis < 0 else "positive"
    )
    return {"axis": where, "axis argument": written}


def _of_rows(seen: Seen, *, failed: bool) -> dict[str, Any]:
    shape = (-1, seen.inputs.shape[-1])
    inputs, over, telling = (one.reshape(shape) for one in (seen.inputs, seen.over, seen.telling))
    cotangent = np.asarray(seen.directions[0]).reshape(shape) if len(seen.directions) else None
    known: dict[str, Any] = {"length": int(inputs.shape[1]), "rows": len(inputs)}
    if not (failed and over.any()):
        return {**known, **_rows_of(inputs, cotangent, np.ones(len(inputs), dtype=bool), telling)}
    worst = np.zeros(over.shape, dtype=bool)
    worst[seen.row, seen.index] = True
    known.update(_rows_of(inputs, cotangent, worst.any(-1), worst), wrong=int(over.any(-1).sum()))
    one = slice(seen.row, seen.row + 1)
    side = np.sign(inputs[one]) == np.sign(inputs[seen.row, seen.index])
    # How near to what is right it goes wrong: all wrong rows, and the wrong entries on one side of the worst row.
    rows = over.any(-1)
    near = _ranges(inputs[rows], None if cotangent is None else cotangent[rows], over[rows])
    known["edges"] = near | _entries(inputs[one], over[one] & side)
    # The rows that are right; and the entries that are, in rows that are not, too.
    fine = _rows_of(inputs, cotangent, ~over.any(-1), telling)
    fine["ranges"].update(_entries(inputs, ~over & telling))
    return {**known, "fine": fine}


def _rows_of(inputs: Array, cotangent: Array | None, rows: Any, telling: Array) -> dict[str, Any]:
    """The kinds of values in some of these rows, and ranges of the numbers of the rows in which something shows."""
    both = np.logical_and(rows, telling.any(-1))
    classes = _classes(inputs[rows], None if cotangent is None else cotangent[rows])
    return {
        "values": classes,
        "ranges": _ranges(inputs[both], None if cotangent is None else cotangent[both], telling[both]),
    }


def _classes(rows: Array, cotangent: Array | None) -> list[str]:
    if not len(rows):
        return []
    finite, low, length = np.isfinite(rows), np.isneginf(rows), rows.shape[-1]
    top = np.equal(rows, rows.max(-1, keepdims=True)) & finite.any(-1, keepdims=True)
    alone, several = top.sum(-1) == 1, length > 1
    classes = {
        "-inf": low.any(-1),
        "only -inf": low.all(-1),
        "+inf": np.isposinf(rows).any(-1),
        "nan": np.isnan(rows).any(-1),
        "one finite": (finite.sum(-1) == 1) & several,
        "all equal": np.equal(rows, rows[:, :1]).all(-1) & several,
        "maximum first": top[:, 0] & alone & several,
        "maximum last": top[:, -1] & alone & several,
    }
    if cotangent is not None:
        classes["equal cotangent"] = np.equal(cotangent, cotangent[:, :1]).all(-1) & several
        classes["one cotangent"] = ((cotangent != 0).sum(-1) == 1) & several
    return [name for name, has in classes.items() if has.any()]


def _ranges(rows: Array, cotangent: Array | None, chosen: Array) -> dict[str, list[float]]:
    """The ranges of the rows' numbers, and of those of the chosen entries."""
    if not len(rows):
        return {}
    low, finite = np.isneginf(rows), np.isfinite(rows)
    numbers = {
        "leading": np.where(low.all(-1), 0, np.argmin(low, -1)),
        "trailing": np.where(low.all(-1), 0, np.argmin(low[:, ::-1], -1)),
    }
    if (some := finite.any(-1)).any():
        top = np.where(finite, rows, -np.inf).max(-1)[some]
        bottom = np.where(finite, rows, np.inf).min(-1)[some]
        with np.errstate(over="ignore"):
            numbers.update(top=top, magnitude=np.maximum(np.abs(top), np.abs(bottom)), spread=top - bottom)
    if cotangent is not None:
        numbers["cotangent"] = np.abs(cotangent).max(-1)
    return {name: _range(values) for name, values in numbers.items()} | _entries(rows, chosen)


def _entries(rows: Array, chosen: Array) -> dict[str, list[float]]:
    """For the chosen entries: the distance of the finite ones from the maximum of their row, and the logits."""
    finite = np.isfinite(rows)
    known: dict[str, list[float]] = {}
    if (some := chosen & ~np.isnan(rows)).any():
        known["logit"] = _range(rows[some])
    if (some := chosen & finite).any():
        with np.errstate(all="ignore"):
            distance = np.where(finite, rows, -np.inf).max(-1, keepdims=True) - rows
        known["distance"] = _range(distance[some])
    return known


def _range(values: Array) -> list[float]:
    return [float(f"{float(np.clip(edge, -1e308, 1e308)):.6g}") for edge in (values.min(), values.max())]
