"""`Fault`, an entry of the catalogue, and how the modules that define faults collect them.

A fault is a complete implementation or gradient that is wrong in one respect and right in all others: a NumPy function
of float16, bfloat16, float32 and float64 arrays. Knows no operation's arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from polylogit.conformance._catalogue.steps import RIGHT, Function, lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.dtypes import Array


Made = TypeVar("Made")

# What a fault needs of a call, other than values, to show.
NEEDS = {
    "mask": "a mask",
    "dtype argument": "a dtype argument",
    "integers": "logits that are integers",
    "dtype": "a look at the dtype of the result",
    "empty": "an empty array",
    "layout": "an array that is not contiguous in memory",
    "calls": "more than one call, or a look at the inputs afterwards",
    "axis": "another axis, or another number of dimensions",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the catalogue.

    Attributes
    ----------
    name : str
    operation : str
    wrong : str
        What is wrong, in a sentence.
    function : callable
        ``function(x, axis=-1)``; for sigmoid ``function(x)``. It is correct if the fault is in the gradient.
    vjp : callable or None
        For a fault in the gradient: ``vjp(x, cotangent, axis=-1)``; for sigmoid ``vjp(x, cotangent)``.
    reports : tuple of str
        Issues that report the fault in a released implementation, as ``owner/repository#number``.
    needs : str
        What a call needs to reveal the fault; see `NEEDS`. Empty if certain logits are enough.
    dtypes : tuple of str
        The dtypes that the fault concerns; empty for all.
    least_rows : int
        The number of rows that an array must have to reveal the fault.
    """

    name: str
    operation: str
    wrong: str
    function: Function
    vjp: Function | None = None
    reports: tuple[str, ...] = ()
    needs: str = ""
    dtypes: tuple[str, ...] = ()
    least_rows: int = 0

    @property
    def part(self) -> str:
        """Whether the value or the gradient is wrong."""
        return "value" if self.vjp is None else "gradient"


class Collected(list[Fault]):
    """Collects the faults that a module defines; each method is a decorator that takes the facts of the entry."""

    def value(self, operation: str, wrong: str, *reports: str, **facts: Any) -> Callable[[Made], Made]:
        """Register an implementation for any axis, or a class whose instances are implementations."""

        def enter(made: Made) -> Made:
            function: Any = made() if isinstance(made, type) else made
            self.append(Fault(_name(made), operation, wrong, function, None, reports, **facts))
            return made

        return enter

    def rows(
        self, operation: str, wrong: str, *reports: str, **facts: Any
    ) -> Callable[[Callable[[Array], Array]], Callable[[Array], Array]]:
        """Register a kernel of rows, which gets a matrix in a wide dtype and works along the last axis."""

        def enter(kernel: Callable[[Array], Array]) -> Callable[[Array], Array]:
            self.append(Fault(kernel.__name__, operation, wrong, lanes(kernel), None, reports, **facts))
            return kernel

        return enter

    def gradient(self, operation: str, wrong: str, *reports: str, **facts: Any) -> Callable[[Made], Made]:
        """Register a gradient of an implementation whose value is right."""

        def enter(made: Made) -> Made:
            vjp: Any = made() if isinstance(made, type) else made
            self.append(Fault(_name(made), operation, wrong, RIGHT[operation][0], vjp, reports, **facts))
            return made

        return enter


def _name(made: Any) -> str:
    name: str = getattr(made, "entry", "") or made.__name__
    return name
