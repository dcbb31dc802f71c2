"""The checks: each a generator of trials for a context, listed in `CHECKS`.

A check names its cases, which are the same at every run with the same level and seed. None knows a framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit.conformance.checks import arguments, behaviour, compiled, gradients, laws, structure, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance.context import Context, Trial

__all__ = ["CHECKS", "OF_STORAGE"]

CHECKS: dict[str, Callable[[Context], Iterator[Trial]]] = {
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
    "vjp": gradients.vjp,
    "jvp": gradients.jvp,
    "second order": gradients.second_order,
    "compiled": compiled.compiled,
}

# What a backend's storage formats (float8) are asked; the rest is the arithmetic of the wider formats.
OF_STORAGE = ("values", "exhaustive", "special", "masks", "vjp", "jvp")
