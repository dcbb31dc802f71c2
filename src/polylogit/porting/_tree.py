"""The tree of modules from dotted names, with the verdict on each, for the HTML page of a comparison.

Knows results and their figures; nothing of HTML.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from typing import TYPE_CHECKING

from polylogit.porting._figures import Figure, figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polylogit.porting._results import Activation, Results

__all__ = ["LIMITS", "Node", "Tree", "tree_of"]

# The worst first. What was not compared says nothing of what contains it.
STATES = ("disagrees", "beyond", "inconclusive", "agrees", "not compared")
_STEP = re.compile(r"[./]")
# So many rows are read at a glance, and none of them is folded away.
FEW = 24
# Names with more parts than this are no paths.
DEEPEST = 30
# The ends of the bars, in powers of ten of what rounding does.
LIMITS = (-1.0, 7.0)


@dataclasses.dataclass
class Node:
    """A part of the models, and its own parts.

    Attributes
    ----------
    name : str
        The name within the part that contains it.
    path : str
        The name in the reference.
    row : Activation or None
        The comparison of the part itself.
    reason : str
        Why the part was not compared.
    first : bool
        Whether it is the first divergence.
    """

    name: str
    path: str
    row: Activation | None = None
    reason: str = ""
    first: bool = False
    parts: dict[str, Node] = dataclasses.field(default_factory=dict)
    # Filled in once the tree is whole: how many parts there are within, by their state, and the worst of their figures.
    within: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    worst: Figure | None = None
    open: bool = False

    @property
    def state(self) -> str:
        """The status of the part itself; for a mere container, the worst of its contents."""
        if self.row is not None:
            return self.row.status
        return next((state for state in STATES if self.within[state]), STATES[-1])

    @property
    def figure(self) -> Figure | None:
        """The error of the part; for a mere container, the worst of its contents."""
        return figure(self.row) if self.row is not None else self.worst

    @property
    def reach(self) -> float:
        """The length of its bar, in percent."""
        return 0.0 if self.figure is None else reach(self.figure.value)

    @property
    def failing(self) -> int:
        """The number of inner parts that do not agree."""
        return self.within["disagrees"] + self.within["beyond"]

    @property
    def compared(self) -> int:
        """The number of inner parts that were compared."""
        return self.within.total() - self.within["not compared"]

    def finish(self, *, unfold: bool) -> None:
        """Sum up the contents, and unfold the path to the first divergence, or everything."""
        self._join()
        for part in self.parts.values():
            part.finish(unfold=unfold)
            own = part.row.status if part.row is not None else "not compared" if part.reason else ""
            self.within += part.within
            self.within[own] += bool(own)
            inner = figure(part.row) if part.row is not None else None
            figures = [one for one in (self.worst, part.worst, inner) if one is not None]
            self.worst = max(figures, key=lambda one: one.value, default=None)
            self.open |= part.first or part.open
        self.open |= unfold

    def _join(self) -> None:
        """Merge a container with its only part if that is a container, too: "model.layers" as one entry."""
        while len(self.parts) == 1 and self.row is None and not self.reason and self.path:
            (part,) = self.parts.values()
            if not part.parts:
                return
            self.name, self.path, self.parts = f"{self.name}.{part.name}", part.path, part.parts
            self.row, self.reason, self.first = part.row, part.reason, part.first


@dataclasses.dataclass
class Tree:
    """The parts of the models, and the names that were not compared and belong to none of them."""

    parts: list[Node]
    others: list[str]
    units: list[str]


def reach(value: float) -> float:
    """The position on a bar of a multiple of the rounding error, in percent; logarithmic."""
    low, high = LIMITS
    if not value > 0:
        return 0.0
    power = math.log10(value) if math.isfinite(value) else high
    return round(100.0 * min(1.0, max(0.01, (power - low) / (high - low))), 1)


def tree_of(found: Results) -> Tree | None:
    """The tree from the names; None if they have no parts."""
    if not any(_STEP.search(one.name) for one in found.activations):
        return None
    root = Node("", "")
    first = found.first_divergence
    for one in found.activations:
        node = _at(root, one.name)
        if node.row is not None:  # a name that is there twice
            node = node.parts.setdefault(f"#{len(node.parts) + 2}", Node(f"#{len(node.parts) + 2}", one.name))
        node.row, node.first = one, one.name == first and not one.verdict.agrees
        first = None if node.first else first
    others = []
    for name, reason in _reasons(found.unmatched):
        if _steps(name)[0] not in root.parts:
            others.append(name if reason == ONE_SIDE else f"{name}: {reason}")
        elif (node := _at(root, name)).row is None and not node.reason:
            node.reason = reason
    root.finish(unfold=len(found.activations) <= FEW)
    units = dict.fromkeys(figure(one).unit for one in found.activations)
    return Tree(list(root.parts.values()), others, list(units))


ONE_SIDE = "only on one side"


def _reasons(unmatched: Iterable[str]) -> Iterator[tuple[str, str]]:
    for one in unmatched:
        name, _, reason = one.partition(": ")
        yield name, reason or ONE_SIDE


def _steps(name: str) -> list[str]:
    """The parts of a name; text in parentheses is no path, as in "(the model itself)"."""
    return [name] if name.startswith("(") else _STEP.split(name, maxsplit=DEEPEST)


def _at(root: Node, name: str) -> Node:
    node = root
    for end, step in zip(_ends(name), _steps(name), strict=True):
        node = node.parts.setdefault(step, Node(step, name[:end]))
    return node


def _ends(name: str) -> Iterator[int]:
    at = 0
    for step in _steps(name):
        at += len(step)
        yield at
        at += 1
