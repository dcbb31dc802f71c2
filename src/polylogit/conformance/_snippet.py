"""A failing call as lines of Python that need neither polylogit nor the kit, ready for a bug report.

`reproducer` writes them while the numbers are available, with the import and the arrays as users of the backend write
them. Knows no framework.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._numbers import shortest, side_by_side

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array, Finfo
    from polylogit.conformance._compare import Seen
    from polylogit.conformance._request import Subject

__all__ = ["call_line", "list_code", "paste", "reproducer"]

_SHORT = 700  # characters of the arrays that a report shows
_LONG = 4000  # and of those that a replay prints
_LINE = 100
# How an array comes to lie in memory as the failing one did, for those of NumPy.
_LAID_OUT = {
    "transposed": "np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1)",
    "strided": "np.repeat(x, 2, axis=-1)[..., ::2]",
    "strided-rows": "np.repeat(x, 3, axis=0)[::3]",
    "later-rows": "np.concatenate([x[:2], x])[2:]",
    "offset": "np.pad(x, [(1, 0)] + [(0, 0)] * (x.ndim - 2) + [(2, 1)])[1:, ..., 2:-1]",
    "swapped-axes": "np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)",
    "fortran": "np.asfortranarray(x)",
    "reversed": "np.ascontiguousarray(x[..., ::-1])[..., ::-1]",
    "reversed-rows": "np.ascontiguousarray(x[::-1])[::-1]",
    "broadcast": "np.broadcast_to(x[:1], x.shape)",
    "big-endian": 'x.astype(x.dtype.newbyteorder(">"))',
}


def list_code(values: Array, dtype: Finfo | None = None) -> str:
    """Nested lists that hold exactly these numbers, with repetitions written once: ``[-inf] * 64 + [0]``."""
    if values.ndim == 0:
        return str(bool(values)) if values.dtype == bool else shortest(float(values), dtype)
    parts: list[str] = []
    single: list[str] = []
    for text, same in groupby(list_code(one, dtype) for one in values):
        count = len(list(same))
        if count <= 3:
            single += [text] * count
            continue
        parts += [f"[{', '.join(single)}]"] if single else []
        parts.append(f"[{text}] * {count}")
        single = []
    if single or not parts:
        parts.append(f"[{', '.join(single)}]")
    return " + ".join(parts)


def _folded(code: str) -> str:
    """Nested lists too long for a line, with one innermost list per line."""
    return code if len(code) <= _LINE else code.replace("], [", "],\n    [").replace("] + [[", "] + [\n    [")


def reproducer(implementation: Subject, seen: Seen, dtype: Finfo) -> str:
    """Write the failing call, or only its failing row, in a few lines; empty if too long or impossible to write.

    Parameters
    ----------
    implementation : Subject
    seen : Seen
        The values that were compared.
    dtype : Finfo
        The dtype of the logits.
    """
    for call in (seen.call, _row_alone(seen)):
        if call and (lines := _lines(implementation, call, dtype, _SHORT)):
            alone = call is not seen.call
            return "\n".join([*lines[:-1], f"print({lines[-1]})  # {_right(seen, dtype, alone=alone)}"])
    return ""


def paste(implementation: Subject, seen: Seen, dtype: Finfo, saved: str = "") -> str:
    """The whole call as Python to paste; large arrays come from the file."""
    if not seen.call:
        return ""
    lines = _lines(implementation, seen.call, dtype, 4000, fold=True) or _lines(
        implementation, seen.call, dtype, 0, saved
    )
    if not lines:
        return ""
    right, came = side_by_side(float(seen.expected[seen.row][seen.index]), float(seen.got[seen.row][seen.index]), dtype)
    place = np.unravel_index(int(seen.call["places"][seen.row][seen.index]), np.shape(seen.call["x"]))
    shown = f"y[{', '.join(str(int(one)) for one in place)}]" if place else "y"
    return "\n".join([*lines[:-1], f"y = {lines[-1]}", f"print({shown})  # right: {right}; came: {came}"])


def call_line(seen: Seen, dtype: Finfo) -> str:
    """The call in the one-line notation for `polylogit replay`, after ``search/DTYPE/``; empty if too long."""
    from polylogit.conformance._data.reproducer import KINDS, Call

    for call in (seen.call, _row_alone(seen)):
        if call and call["kind"] in KINDS and call["x"].size <= _SHORT * 16:
            g = call["g"][0] if call["g"] else None
            line = Call(call["x"], call["kind"], call["axis"], call["where"], g).line(dtype)
            if len(line) <= _SHORT:
                return line
    return ""


def _row_alone(seen: Seen) -> dict[str, Any]:
    """The call with only the failing row, along the same kind of axis; empty if there is none."""
    call, n = seen.call, seen.inputs.shape[-1]
    if not call or isinstance(call["axis"], tuple) or call["axis"] is None or call["x"].ndim < 2 or not n:
        return {}
    last = call["axis"] % call["x"].ndim == call["x"].ndim - 1
    shape, axis = ((1, n), -1) if last else ((n, 1), 0)
    g = tuple(np.asarray(one)[seen.row].reshape(shape) for one in seen.directions)
    where = None if call["where"] is None else call["rows_where"][seen.row].reshape(shape)
    return {**call, "x": call["rows"][seen.row].reshape(shape), "axis": axis, "where": where, "g": g}


def _lines(
    implementation: Subject,
    call: dict[str, Any],
    dtype: Finfo,
    most: int,
    saved: str = "",
    *,
    fold: bool = False,
) -> list[str]:
    """Imports, arrays, and the call as an expression at the end; none if they exceed `most` lines."""
    arrays: dict[str, Array] = {"x": np.asarray(call["x"]), **dict(zip("gh", call["g"], strict=False))}
    if call["where"] is not None:
        arrays["where"] = np.asarray(call["where"])
    spell, numpy = implementation.backend.spell, implementation.on_numpy
    called = _call(implementation, call)
    if not spell("import") or not called or (not saved and sum(one.size for one in arrays.values()) > most):
        return []
    if saved:
        made = {name: f'data["{name}"].tolist()' for name in arrays}
    else:
        made = {name: list_code(one, None if name == "where" else dtype) for name, one in arrays.items()}
        if sum(map(len, made.values())) > most:
            return []
        if fold:
            made = {name: _folded(values) for name, values in made.items()}
    body = []
    for name, values in made.items():
        kind = "bool" if name == "where" else call.get("dtype", dtype.name)
        body.append(f"{name} = {spell('array', values=values, dtype=kind)}")
    layout = _LAID_OUT.get(call["layout"]) if numpy else None
    if layout:
        body.append(f"x = {layout}")
    elif call["layout"] != "contiguous":
        body[-1] += f"  # {call['layout']} in memory"
    head = ["from math import inf, nan"] if any(word in line for line in body for word in ("inf", "nan")) else []
    head.append(spell("import"))
    if numpy and DTYPES.get(call.get("dtype", dtype.name), dtype).dtype.kind == "V":
        head.append(f"import ml_dtypes  # {dtype.name}")
    if saved:
        head += [] if numpy else ["import numpy as np"]
        body.insert(0, f'data = np.load("{saved}")  # --save {saved} writes it')
    return [*head, *_imported(implementation, call), *body, called]


def _imported(implementation: Subject, call: dict[str, Any]) -> list[str]:
    if not implementation.is_kernel:
        return ["import polylogit"]
    functions = [implementation.name.partition("+")[2]]
    if call["kind"] != "values" and implementation.vjp is not None:
        functions = [f"{implementation.vjp.__module__}:{_name(implementation.vjp)}"]
    lines = []
    for label in functions:
        module, _, name = label.partition(":")
        importable = module and name and "<" not in label and all(part.isidentifier() for part in name.split("."))
        first = name.partition(".")[0]
        lines.append(f"from {module} import {first}" if importable else f"{_word(label)} = ...  # {label}")
    return lines


def _word(label: str) -> str:
    last = label.rpartition(":")[2].rpartition(".")[2]
    return last if last.isidentifier() else "function"


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _call(implementation: Subject, call: dict[str, Any]) -> str:
    """The call as an expression; empty if it takes more than one."""
    label = implementation.name.partition("+")[2]
    name = label.rpartition(":")[2] if implementation.is_kernel else f"polylogit.{implementation.operation}"
    if not all(part.isidentifier() for part in name.split(".")) or "<" in label:
        name = _word(label)
    arguments = ["x"]
    if implementation.offers_axis and call["axis_given"]:
        arguments.append(f"{implementation.axis_name}={call['axis']!r}")
    if call["where"] is not None:
        arguments.append("where=where")
    if call.get("into"):
        arguments.append(f'dtype="{call["into"]}"')
    value = f"{name}({', '.join(arguments)})"
    if call["kind"] == "values":
        return value
    if call["kind"] != "vjp":
        return ""
    if implementation.vjp is not None:
        name = _word(_name(implementation.vjp))
        return f"{name}({', '.join(['x', 'g', *arguments[1:]])})"
    if not implementation.is_kernel:
        options = "".join(f", {one}" for one in arguments[1:])
        return f"polylogit.vjp(polylogit.{implementation.operation}, x{options})[1](g)"
    return str(implementation.backend.spell("pullback", call=value))


def _right(seen: Seen, dtype: Finfo, *, alone: bool) -> str:
    """The right values and the result, for the row if that is short, else for the worst entry."""
    expected, got = seen.expected[seen.row], seen.got[seen.row]
    row = "" if len(seen.expected) == 1 or alone else f" in row {seen.row}"
    if len(expected) <= 8 and not alone:
        pairs = [side_by_side(float(r), float(c), dtype) for r, c in zip(expected, got, strict=True)]
        same = [bool(r == c or (math.isnan(r) and math.isnan(c))) for r, c in zip(expected, got, strict=True)]
        right = ", ".join(came if equal else r for (r, came), equal in zip(pairs, same, strict=True))
        text = f"right{row}: {right}; came: {', '.join(came for _, came in pairs)}"
        if len(text) <= _LINE:
            return text
    right, came = side_by_side(float(expected[seen.index]), float(got[seen.index]), dtype)
    said = f"right{row} at entry {seen.index}: {right}"
    return f"{said}; beside the other rows came: {came}" if alone else f"{said}; came: {came}"
