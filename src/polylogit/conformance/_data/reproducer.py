"""The one-line notation of a call, which a search reports and `polylogit replay` runs again.

``x=0*4,4`` is a row of four zeros and a four; ``x=2x3:1,2,3,4,5,6;axis=0;where=2x1:1,0`` a masked matrix, and
``vjp;x=0,1;g=1,0`` the pullback of a cotangent. Knows numbers and their notation; no operation and no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Array, Finfo

KINDS = ("values", "vjp", "jvp")
_FIELDS = ("x", "axis", "where", "g")
_MOST = 1 << 24  # numbers that a line may stand for


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call with its arguments.

    Attributes
    ----------
    kind : {"values", "vjp", "jvp"}
        Whether the call asks for the value or for a derivative.
    x : array of float64
        The logits.
    axis : int, tuple of int or None
    where : array of bool or None
        The mask.
    g : array of float64 or None
        The cotangent or tangent of a derivative.
    """

    x: Array
    kind: str = "values"
    axis: Any = -1
    where: Array | None = None
    g: Array | None = None

    def line(self, dtype: Finfo) -> str:
        """The call as a line, with the shortest numbers that mean the same in the dtype."""
        parts = [] if self.kind == "values" else [self.kind]
        parts.append("x=" + _array_line(self.x, dtype))
        if self.axis != -1:
            axis = "+".join(map(str, self.axis)) if isinstance(self.axis, tuple) else str(self.axis)
            parts.append(f"axis={axis}")
        if self.where is not None:
            parts.append("where=" + _array_line(self.where.astype(float), dtype))
        if self.g is not None:
            parts.append("g=" + _array_line(self.g, dtype))
        return ";".join(parts)

    @classmethod
    def of(cls, line: str) -> Call:
        """Return the call that a line describes.

        Raises
        ------
        ConformanceError
            If the line describes no call.
        """
        kind, _, rest = line.partition(";") if line.partition(";")[0] in KINDS else ("values", "", line)
        try:
            fields = dict(part.split("=", 1) for part in rest.split(";"))
            if "x" not in fields or (kind == "values") == ("g" in fields) or not set(fields) <= set(_FIELDS):
                raise ValueError
            x = _array(fields["x"])
            where = _array(fields["where"]).astype(bool) if "where" in fields else None
            g = _array(fields["g"]) if "g" in fields else None
            if g is not None and g.shape != x.shape:
                raise ValueError
            return cls(x, kind, _axis(fields.get("axis", "-1")), where, g)
        except ValueError:
            message = f"{line!r} stands for no call; calls look like x=0*4,4 or vjp;x=2x2:1,2,3,4;axis=0;g=2x2:1,0*3."
            raise ConformanceError(message) from None


def _axis(text: str) -> Any:
    if text == "None":
        return None
    first, *others = (int(one) for one in text.split("+"))
    return (first, *others) if others else first


def _number(value: float, dtype: Finfo) -> str:
    # float32 holds every number of the narrower dtypes, and spells it shorter than float64 does.
    text = repr(value) if dtype.precision > 24 else str(np.float32(value))
    return text.removesuffix(".0")


def _array_line(values: Array, dtype: Finfo) -> str:
    runs = [(text, len(list(same))) for text, same in groupby(_number(float(one), dtype) for one in values.ravel())]
    text = ",".join(one if count == 1 else f"{one}*{count}" for one, count in runs)
    return text if values.ndim == 1 else "x".join(map(str, values.shape)) + ":" + text


def _array(text: str) -> Array:
    shape, colon, numbers = text.rpartition(":")
    values: list[Array] = []
    size = 0
    for run in filter(None, numbers.split(",")):
        number, _, count = run.partition("*")
        size += int(count or 1)
        if size > _MOST:
            raise ValueError
        values.append(np.full(int(count or 1), float(number)))
    flat = np.concatenate(values) if values else np.zeros(0)
    return flat.reshape([int(side) for side in shape.split("x") if side]) if colon else flat
