"""The exact definition of each operation: value, derivatives, bounds and laws.

Checks, reports, diagnosis and documentation read it; a new operation is one entry here and one in
`polylogit._operations`. Knows exact arithmetic and bounds, and no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polylogit._operations import OPERATIONS, named
from polylogit._spec import bounds
from polylogit._spec import doubledouble as dd
from polylogit._spec.exact import Elements, Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._operations import Operation
    from polylogit._spec.doubledouble import DD
    from polylogit._spec.dtypes import Array

    Bound = Callable[..., Array]

__all__ = ["DEFINITIONS", "Definition", "Derivative", "definition"]


@dataclass(frozen=True, slots=True)
class Derivative:
    """A directional derivative in closed form and the bound on its error.

    ``value(exact, *directions) -> DD`` and ``bound(exact, finfo, *directions)``, directions as float64 arrays.
    """

    value: Callable[..., DD]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Definition:
    """The exact definition of one operation.

    Attributes
    ----------
    operation : Operation
        Its entry in `polylogit._operations`.
    exact : type
        `Rows` or `Elements`: the exact quantities from which its values are computed, for an array of logits.
    value : callable
        ``value(exact) -> DD``.
    bound : callable
        ``bound(exact, finfo)``, the largest error of the value.
    vjp, jvp, second : Derivative
        Pullback of a cotangent, push-forward of a tangent, and the derivative along `h` of the pullback of `g`.
    unit : float
        The size below which the error is absolute, so that ulps are meaningless for smaller results.
    at_infinity : float or None
        The value at +inf; None if +inf makes the row NaN.
    laws : tuple of str
        The names of the laws in `polylogit.conformance._checks.laws` that it obeys.
    """

    operation: Operation
    exact: Any
    value: Callable[..., DD]
    bound: Bound
    vjp: Derivative
    jvp: Derivative
    second: Derivative
    unit: float
    at_infinity: float | None
    laws: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the public function."""
        return self.operation.name

    @property
    def takes_axis(self) -> bool:
        """Whether entries are normalised jointly along an axis."""
        return self.operation.takes_axis

    @property
    def masked(self) -> float:
        """The value of a masked entry, and of one at -inf."""
        return self.operation.masked


def _softmax_derivative(exact: Rows, g: Array) -> DD:
    direction = dd.from_float(g)
    return dd.mul(exact.probabilities, dd.add(direction, dd.neg(exact.mean(direction))))


def _softmax_second(exact: Rows, g: Array, h: Array) -> DD:
    parts = []
    for direction in (dd.from_float(g), dd.from_float(h)):
        parts.append(dd.add(direction, dd.neg(exact.mean(direction))))
    product = dd.mul(*parts)
    return dd.mul(exact.probabilities, dd.add(product, dd.neg(exact.mean(product))))


def _log_softmax_vjp(exact: Rows, g: Array) -> DD:
    direction = dd.from_float(g)
    return dd.add(direction, dd.neg(dd.mul(exact.probabilities, dd.total(direction))))


def _log_softmax_jvp(exact: Rows, t: Array) -> DD:
    direction = dd.from_float(t)
    return dd.add(direction, dd.neg(exact.mean(direction)))


def _log_softmax_second(exact: Rows, g: Array, h: Array) -> DD:
    return dd.neg(dd.mul(_softmax_derivative(exact, h), dd.total(dd.from_float(g))))


def _slope(exact: Elements, g: Array) -> DD:
    return dd.mul(exact.slopes, dd.from_float(g))


def _curvature(exact: Elements, g: Array, h: Array) -> DD:
    return dd.mul(dd.mul(exact.curvatures, dd.from_float(g)), dd.from_float(h))


_SOFTMAX_FIRST = Derivative(_softmax_derivative, bounds.softmax_first)
_SIGMOID_FIRST = Derivative(_slope, bounds.sigmoid_first)

DEFINITIONS = {
    entry.name: entry
    for entry in (
        Definition(
            OPERATIONS["softmax"],
            exact=Rows,
            value=lambda exact: exact.probabilities,
            bound=bounds.softmax,
            vjp=_SOFTMAX_FIRST,
            jvp=_SOFTMAX_FIRST,  # the Jacobian is symmetric
            second=Derivative(_softmax_second, bounds.softmax_second),
            unit=0.0,
            at_infinity=None,
            laws=(
                "rows sum to one",
                "shift",
                "order",
                "permutation",
                "two entries are a sigmoid",
                "exp of log_softmax",
            ),
        ),
        Definition(
            OPERATIONS["log_softmax"],
            exact=Rows,
            value=lambda exact: exact.log_probabilities,
            bound=bounds.log_softmax,
            vjp=Derivative(_log_softmax_vjp, bounds.log_softmax_vjp),
            jvp=Derivative(_log_softmax_jvp, bounds.log_softmax_jvp),
            second=Derivative(_log_softmax_second, bounds.log_softmax_second),
            unit=1.0,
            at_infinity=None,
            laws=("exponentials sum to one", "shift", "order", "permutation"),
        ),
        Definition(
            OPERATIONS["sigmoid"],
            exact=Elements,
            value=lambda exact: exact.probabilities,
            bound=bounds.sigmoid,
            vjp=_SIGMOID_FIRST,
            jvp=_SIGMOID_FIRST,
            second=Derivative(_curvature, bounds.sigmoid_second),
            unit=0.0,
            at_infinity=1.0,
            laws=("reflection", "order", "permutation"),
        ),
    )
}


def definition(name: str) -> Definition:
    """The definition of the operation of that name.

    Raises
    ------
    UnknownOperationError
        For a name that does not exist.
    """
    return DEFINITIONS[named(name).name]
