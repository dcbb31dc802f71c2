"""Line plots as SVG with only the standard library, so that the same data give the same file everywhere.

A figure is a grid of panels under one legend. Knows lines, axes and themes, and nothing of what is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, GAP, MARGIN = 980, 22, 16
LEFT, TOP, BOTTOM = 62, 30, 44  # of a panel: room for the numbers, the title, the axis
FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
MARKS_EVERY = 4  # points; lines that lie on each other have their marks in turn
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with a number at each tick; `log` for equal steps of equal factors."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False
    sign: str = ""  # before every number

    def part(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        if self.log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def number(self, value: float) -> str:
        """What is written at a tick."""
        if self.log and not 0.1 <= value <= 1000:  # what is easily read as it is
            return f"{self.sign}10{str(round(math.log10(value))).translate(SUPERSCRIPTS)}"
        return self.sign + f"{value:,g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Style:
    """How lines of one name are drawn: the name of an ink, and a mark for a thin line; wide and pale without."""

    name: str
    ink: str
    mark: str = ""  # "circle", "square", "diamond" or "triangle"
    width: float = 1.3
    opacity: float = 1.0
    every: int = MARKS_EVERY  # of the points, one has a mark


@dataclass
class Panel:
    """Lines over two axes: by the style's place in the figure, ``(x, y)`` in order, y None where there is none."""

    title: str
    x: Axis
    y: Axis
    lines: list[list[tuple[float, float | None]]]
    limit: list[tuple[float, float]] = field(default_factory=list)  # a dashed line
    limit_name: str = ""


@dataclass
class Figure:
    """Panels in rows under a legend; what is said by `description` to those who cannot see it."""

    description: str
    legend: list[tuple[str, list[Style]]]  # rows of it, each with its heading
    panels: list[list[Panel]]
    height: int = 230  # of a panel

    @property
    def styles(self) -> list[Style]:
        """In the order of each panel's lines."""
        return [style for _, row in self.legend for style in row]


def draw(figure: Figure, theme: dict[str, str]) -> str:
    """The picture."""
    head = 24 * len(figure.legend) + 10
    total = head + (figure.height + 8) * len(figure.panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" font-family="{FONT}" '
        f'font-size="12">',
        f"<title>{escape(figure.description)}</title>",
    ]
    for number, (heading, styles) in enumerate(figure.legend):
        y = 16 + 24 * number
        out.append(_text(LEFT, y, heading, theme["ink"], 'font-weight="600"'))
        for place, style in enumerate(styles):
            x = LEFT + 190 + 165 * place
            out.append(_line([(x, y - 4.0), (x + 36, y - 4.0)], style, theme))
            if style.mark:
                out.append(_mark(style, x + 18, y - 4, theme))
            out.append(_text(x + 44, y, style.name, theme["ink"]))
    for row, panels in enumerate(figure.panels):
        width = (WIDTH - 2 * MARGIN - GAP * (len(panels) - 1)) / len(panels)
        for column, panel in enumerate(panels):
            x = MARGIN + column * (width + GAP)
            box = (x + LEFT, head + row * (figure.height + 8) + TOP, width - LEFT, figure.height - TOP - BOTTOM)
            out += _panel(panel, figure.styles, box, theme)
    return "\n".join([*out, "</svg>"]) + "\n"


def _panel(panel: Panel, styles: list[Style], box: tuple[float, ...], theme: dict[str, str]) -> list[str]:
    left, top, width, height = box
    right, bottom = left + width, top + height

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * panel.x.part(x), bottom - height * min(1.0, panel.y.part(y))

    out = [_text(left, top - 11, panel.title, theme["ink"], 'font-weight="600"')]
    for tick in panel.x.ticks:
        x = left + width * panel.x.part(tick)
        out.append(_stroke(x, top, x, bottom, theme["line"]))
        out.append(_text(x, bottom + 17, panel.x.number(tick), theme["faint"], 'text-anchor="middle"'))
    for tick in panel.y.ticks:
        y = bottom - height * panel.y.part(tick)
        out.append(_stroke(left, y, right, y, theme["line"]))
        out.append(_text(left - 7, y + 4, panel.y.number(tick), theme["faint"], 'text-anchor="end"'))
    out.append(_stroke(left, bottom, right, bottom, theme["faint"]))
    out.append(_text(left + width / 2, bottom + 36, panel.x.label, theme["ink"], 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 {left - 52:.1f} {top + height / 2:.1f})"'
    out.append(_text(left - 52, top + height / 2, panel.y.label, theme["ink"], turned))
    if panel.limit:
        out.append(_limit(panel, [place(*point) for point in panel.limit], theme))
    for number, (style, points) in enumerate(zip(styles, panel.lines, strict=True)):
        placed = [None if y is None else place(x, y) for x, y in points]
        for run in _runs(placed):
            out.append(_line(run, style, theme))
        if style.mark:
            shown = [
                point for index, point in enumerate(placed) if point and index % style.every == number % style.every
            ]
            out += [_mark(style, *point, theme) for point in shown]
    return out


def _limit(panel: Panel, points: list[tuple[float, float]], theme: dict[str, str]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="{theme["ink"]}" stroke-dasharray="5 4"/>'
    # Beside the line's middle, on the side where there is room above a line that rises.
    x, y = points[len(points) // 2]
    side = 'text-anchor="end"' if points[-1][1] < points[0][1] else 'text-anchor="middle"'
    return drawn + _text(x - 6, y - 7, panel.limit_name, theme["ink"], side)


def _runs(points: list[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _text(x: float, y: float, words: str, fill: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" {more}>{escape(words)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, ink: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{ink}"/>'


def _line(points: list[tuple[float, float]], style: Style, theme: dict[str, str]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f'stroke="{theme[style.ink]}" stroke-width="{style.width:g}" stroke-opacity="{style.opacity:g}"'
    return f'<polyline points="{path}" fill="none" {look} stroke-linejoin="round" stroke-linecap="round"/>'


_SHAPES = {
    "square": "M-3.2 -3.2H3.2V3.2H-3.2Z",
    "diamond": "M0 -4.4L4.4 0L0 4.4L-4.4 0Z",
    "triangle": "M0 -4.2L4.2 3.4H-4.2Z",
    "circle": "M-3.5 0A3.5 3.5 0 1 0 3.5 0A3.5 3.5 0 1 0 -3.5 0Z",
}


def _mark(style: Style, x: float, y: float, theme: dict[str, str]) -> str:
    look = f'fill="{theme["paper"]}" stroke="{theme[style.ink]}" stroke-width="1.5"'
    return f'<path d="{_SHAPES[style.mark]}" transform="translate({x:.1f} {y:.1f})" {look}/>'
