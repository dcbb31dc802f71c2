"""The checks: each is a generator of cases for a setting, listed in `CHECKS`.

A check defines the cases, and the budget decides how many. The cases have the same names and numbers in every run with
the same level and seed. No check knows a framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance._checks import arguments, behaviour, compiled, gradients, invariance, laws, structure, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance._case import Case, Setting

CHECKS: dict[str, Callable[[Setting], Iterator[Case]]] = {
    "threads": behaviour.threads,  # first, so that the first calls of the process come from many threads
    "values": values.values,
    "exhaustive": values.exhaustive,
    "special": values.special,
    "axes": structure.axes,
    "layouts": structure.layouts,
    "shapes": structure.shapes,
    "masks": arguments.masks,
    "dtypes": arguments.dtypes,
    "errors": arguments.errors,
    "laws": laws.laws,
    "repeat": behaviour.repeat,
    "invariance": invariance.invariance,
    "vjp": gradients.vjp,
    "jvp": gradients.jvp,
    "second order": gradients.second_order,
    "compiled": compiled.compiled,
}
