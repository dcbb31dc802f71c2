"""The declarative table of operations: exact value, derivatives, bounds, laws and domain of each.

Checks, reports and the porting diagnosis read this table; adding an operation is one entry. Knows the reference and the
bounds, and no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np

from polylogit.conformance import bounds
from polylogit.conformance import doubledouble as dd
from polylogit.conformance.reference import Points, Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.conformance.doubledouble import DD
    from polylogit.conformance.formats import Array

    Bound = Callable[..., Array]

__all__ = ["OPERATIONS", "Derivative", "Operation"]


@dataclass(frozen=True, slots=True)
class Derivative:
    """A directional derivative in closed form and the bound on its error.

    ``value(state, *directions) -> DD`` and ``bound(state, format, *directions)``, directions as float64 arrays.
    """

    value: Callable[..., DD]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes
    ----------
    name : str
        Of the public function.
    state : type
        `Rows` where elements are normalised together, `Points` where each stands for itself.
    value : callable
        ``value(state) -> DD``.
    formula : callable
        ``formula(row, i)``, the same in mpmath: the definition, written down as plainly as can be.
    bound : callable
        ``bound(state, format)``, the largest error of the value.
    vjp, jvp, second : Derivative
        Pullback of a cotangent, push-forward of a tangent, and the derivative along `h` of the pullback of `g`.
    unit : float
        Size below which the error is absolute, so that units in the last place say nothing of smaller results.
    masked : float
        Value of an entry that takes no part, and of one at -inf.
    top : float or None
        The value where a row has one entry; None where rows mean nothing.
    infinite : float or None
        The value at +inf; None where it makes the row NaN.
    laws : tuple of str
        Names of the laws in `polylogit.conformance.laws` that it keeps.
    definition, domain : str
        For the documentation.
    """

    name: str
    state: Any
    value: Callable[..., DD]
    formula: Callable[[list[Any], int], Any]
    bound: Bound
    vjp: Derivative
    jvp: Derivative
    second: Derivative
    unit: float
    masked: float
    top: float | None
    infinite: float | None
    laws: tuple[str, ...]
    definition: str
    domain: str

    @property
    def rowwise(self) -> bool:
        """Whether elements are normalised together along an axis."""
        return self.state is Rows


def _softmax_derivative(state: Rows, g: Array) -> DD:
    direction = dd.from_float(g)
    return dd.mul(state.probabilities, dd.add(direction, dd.neg(state.mean(direction))))


def _softmax_second(state: Rows, g: Array, h: Array) -> DD:
    parts = []
    for direction in (dd.from_float(g), dd.from_float(h)):
        parts.append(dd.add(direction, dd.neg(state.mean(direction))))
    product = dd.mul(*parts)
    return dd.mul(state.probabilities, dd.add(product, dd.neg(state.mean(product))))


def _log_softmax_vjp(state: Rows, g: Array) -> DD:
    direction = dd.from_float(g)
    return dd.add(direction, dd.neg(dd.mul(state.probabilities, dd.total(direction))))


def _log_softmax_jvp(state: Rows, t: Array) -> DD:
    direction = dd.from_float(t)
    return dd.add(direction, dd.neg(state.mean(direction)))


def _log_softmax_second(state: Rows, g: Array, h: Array) -> DD:
    return dd.neg(dd.mul(_softmax_derivative(state, h), dd.total(dd.from_float(g))))


def _softmax_formula(row: list[Any], i: int) -> Any:
    return 1 / mpmath.fsum(mpmath.exp(x - row[i]) for x in row)


def _log_softmax_formula(row: list[Any], i: int) -> Any:
    most = max(row)
    others = mpmath.fsum(mpmath.exp(x - most) for j, x in enumerate(row) if j != row.index(most))
    return (row[i] - most) - mpmath.log1p(others)


def _slope(state: Points, g: Array) -> DD:
    return dd.mul(state.slopes, dd.from_float(g))


def _curvature(state: Points, g: Array, h: Array) -> DD:
    return dd.mul(dd.mul(state.curvatures, dd.from_float(g)), dd.from_float(h))


_SOFTMAX_FIRST = Derivative(_softmax_derivative, bounds.softmax_first)
_SIGMOID_FIRST = Derivative(_slope, bounds.sigmoid_first)

OPERATIONS = {
    entry.name: entry
    for entry in (
        Operation(
            name="softmax",
            state=Rows,
            value=lambda state: state.probabilities,
            formula=_softmax_formula,
            bound=bounds.softmax,
            vjp=_SOFTMAX_FIRST,
            jvp=_SOFTMAX_FIRST,  # the Jacobian is symmetric
            second=Derivative(_softmax_second, bounds.softmax_second),
            unit=0.0,
            masked=0.0,
            top=1.0,
            infinite=None,
            laws=(
                "rows sum to one",
                "shift",
                "order",
                "permutation",
                "two entries are a sigmoid",
                "exp of log_softmax",
            ),
            definition="exp(x_i) / sum_j exp(x_j)",
            domain="rows of reals and -inf with at least one real",
        ),
        Operation(
            name="log_softmax",
            state=Rows,
            value=lambda state: state.log_probabilities,
            formula=_log_softmax_formula,
            bound=bounds.log_softmax,
            vjp=Derivative(_log_softmax_vjp, bounds.log_softmax_vjp),
            jvp=Derivative(_log_softmax_jvp, bounds.log_softmax_jvp),
            second=Derivative(_log_softmax_second, bounds.log_softmax_second),
            unit=1.0,
            masked=-np.inf,
            top=0.0,
            infinite=None,
            laws=("exponentials sum to one", "shift", "order", "permutation"),
            definition="x_i - log(sum_j exp(x_j))",
            domain="rows of reals and -inf with at least one real",
        ),
        Operation(
            name="sigmoid",
            state=Points,
            value=lambda state: state.probabilities,
            formula=lambda row, i: 1 / (1 + mpmath.exp(-row[i])),
            bound=bounds.sigmoid,
            vjp=_SIGMOID_FIRST,
            jvp=_SIGMOID_FIRST,
            second=Derivative(_curvature, bounds.sigmoid_second),
            unit=0.0,
            masked=0.0,
            top=None,
            infinite=1.0,
            laws=("reflection", "order", "permutation"),
            definition="1 / (1 + exp(-x))",
            domain="reals, -inf and +inf",
        ),
    )
}
