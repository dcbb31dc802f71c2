"""The table of faults, by family. To add a cause, add an entry to the module of its family. Knows no framework."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from polylogit._backends.base import SPELLING
from polylogit.porting._diagnosis.faults import (
    attention,
    axes,
    backward,
    epsilons,
    functions,
    layers,
    logits,
    masks,
    order,
    precision,
    weights,
)

if TYPE_CHECKING:
    from polylogit.porting._diagnosis.faults.fault import Fault

__all__ = ["FAMILIES", "FAULTS", "GRADIENT_FAULTS", "listing"]

_FAMILIES = (axes, functions, logits, epsilons, order, masks, attention, layers, weights, precision)
FAULTS: dict[str, Fault] = {fault.name: fault for family in _FAMILIES for fault in family.FAULTS}
GRADIENT_FAULTS: dict[str, Fault] = {fault.name: fault for fault in backward.FAULTS}
# The names of the faults of each family.
FAMILIES: dict[str, tuple[str, ...]] = {
    family.__name__.rpartition(".")[2]: tuple(fault.name for fault in family.FAULTS)
    for family in (*_FAMILIES, backward)
}


def listing(spelling: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    r"""The name, the explanation and the fix of every cause, with ``<name>`` for the parameters of a diagnosis.

    Parameters
    ----------
    spelling : dict, optional
        `Backend.spelling` of the framework in which the fixes are written; NumPy's by default.

    Examples
    --------
    >>> from polylogit.porting._diagnosis.faults import listing
    >>> for name, sentence, fix in listing()[:1]:
    ...     print(name, sentence, fix, sep="\n")
    wrong-axis
    The candidate is normalised over axis <axes>, the reference over axis <right_axes>.
    polylogit.softmax(x, axis=<axis>)
    """
    code = {**SPELLING, **(spelling or {})}
    return [
        (fault.name, _with_places(fault.explanation), _with_places(code.get(fault.fix, fault.fix)))
        for fault in (*FAULTS.values(), *GRADIENT_FAULTS.values())
    ]


def _with_places(template: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", r"<\1>", template)
