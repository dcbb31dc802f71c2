"""The common look of all HTML reports: one style sheet, one frame, and the picture of a row, in ``templates``.

Knows numbers and HTML, and nothing of what is reported. jinja2 is imported when a page is written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["picture", "render"]

_TALL, _STEP, _LEFT, _TOP = 120, 30, 58, 16
_VISIBLE = 0.03  # of the height; a smaller difference is drawn on a logarithmic axis


def render(name: str, **values: Any) -> str:
    """Fill in a template. All text is escaped, because names and messages may hold anything."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polylogit", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def picture(
    right: Sequence[float], came: Sequence[float], wrong: Sequence[bool], worst: int, places: Sequence[int]
) -> dict[str, Any]:
    """The data for the picture of a row: a bar for each right value, a dot for each result, wrong ones marked.

    Parameters
    ----------
    right, came : sequence of float
    wrong : sequence of bool
    worst : int
        The position of the entry that is most wrong.
    places : sequence of int
        The entries' numbers, for the axis.

    Returns
    -------
    dict
        Coordinates and texts for the macro ``row_picture``.
    """
    values = [value for value in (*right, *came) if math.isfinite(value)]
    scale = _scale(values, float(right[worst]), float(came[worst]))
    base = scale.place(0.0)
    entries = []
    for at, (expected, got) in enumerate(zip(right, came, strict=True)):
        x, y = _LEFT + _STEP * at + _STEP // 2, scale.place(expected)
        entries.append(
            {
                "x": x,
                "place": places[at],
                "wrong": bool(wrong[at]),
                "worst": at == worst,
                "top": min(y, base),
                "height": max(abs(base - y), 1.0) if math.isfinite(expected) else 0.0,
                "none": "" if math.isfinite(expected) else _word(expected),
                "dot": scale.place(got),
                "came": "" if math.isfinite(got) else _word(got),
            }
        )
    wide = _LEFT + _STEP * len(entries) + 8
    ends = [{"y": scale.place(value) + 3.5, "text": text} for value, text in scale.ends]
    return {"entries": entries, "width": wide, "height": _TALL + _TOP + 22, "base": base, "left": _LEFT, "ends": ends}


class _Scale:
    """The vertical position of a number in the picture."""

    def __init__(self, low: float, high: float, *, logarithmic: bool, sign: float = 1.0) -> None:
        self._low, self._high, self._logarithmic, self._sign = low, high, logarithmic, sign
        self.ends = [(high, f"{high:.2g}"), (low, f"{low:.2g}")]
        if logarithmic:  # in powers of ten; what is 0 is drawn at the lower end
            low, high = (sign * 10.0**edge if edge > -320 else 0.0 for edge in (self._low, self._high))
            self.ends = [(high, f"{high:.0e}"), (0.0, f"≤ {low:.0e}")]

    def place(self, value: float) -> float:
        """The distance from the top in units of the picture; the edge for a number that is not finite."""
        if math.isnan(value) or value == math.inf:
            return _TOP
        if value == -math.inf:
            return _TOP + _TALL
        if self._logarithmic:
            size = self._sign * value
            value = max(math.log10(size), self._low) if size > 0 else self._low
        part = (value - self._low) / (self._high - self._low)
        return round(_TOP + _TALL * (1.0 - min(1.0, max(0.0, part))), 1)


def _scale(values: Sequence[float], right: float, came: float) -> _Scale:
    """A linear scale from 0, or a logarithmic one if the worst difference would not be visible."""
    low, high = min([0.0, *values]), max([0.0, *values])
    high = high if high > low else low + 1.0
    hidden = math.isfinite(right) and math.isfinite(came) and abs(right - came) < _VISIBLE * (high - low)
    if hidden and low * high == 0.0:
        sign = 1.0 if high > 0.0 else -1.0
        sizes = [math.log10(sign * value) for value in values if sign * value > 0.0]
        if sizes and max(sizes) - min(sizes) > 1.0:
            low, high = min(sizes), math.ceil(max(sizes))
            return _Scale(low - 0.1 * (high - low), float(high), logarithmic=True, sign=sign)
    return _Scale(low, high, logarithmic=False)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
