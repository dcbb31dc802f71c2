"""The closed-form derivatives of the NumPy backend, first and second order.

With p the probabilities kept from the forward, softmax's Jacobian is diag(p) - p p', which is symmetric; log_softmax's
is I - 1 p'; sigmoid's is p (1 - p). The second derivative of <g, f(x)> is a Hessian, symmetric too, so that its
pullback is its derivative along a direction. It knows NumPy and the operations alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from polylogit.backends import numpy_operations as operations
from polylogit.errors import DifferentiationError

if TYPE_CHECKING:
    from polylogit.backends.numpy_geometry import AnyArray, AnyDType

__all__ = ["OPERATIONS", "Linearization", "Point", "along", "linearize"]


class Point(NamedTuple):
    """An operation and where it is to be differentiated: the value's dtype is `result`, that of gradients `given`.

    With a cotangent it is ``x -> pull(cotangent)`` that is to be differentiated.
    """

    operation: str
    array: AnyArray
    axes: tuple[int, ...]
    mask: AnyArray | None
    result: AnyDType
    given: AnyDType
    work: AnyDType
    cotangent: AnyArray | None = None


class Linearization(ABC):
    """A function at a point: its value, and its derivative applied from either side."""

    operation: ClassVar[str] = ""

    def __init__(self, point: Point) -> None:
        _, array, self.axes, self.mask, self.result, self.given, self.work, _ = point
        self.value = np.empty_like(array, dtype=self.result)
        self.kept = np.empty_like(array, dtype=self.work)
        self.forward(array)

    @abstractmethod
    def forward(self, array: AnyArray) -> None:
        """Fill `value` and `kept`."""

    @abstractmethod
    def pull(self, cotangent: AnyArray) -> AnyArray:
        """The cotangent of the argument, in its dtype."""

    @abstractmethod
    def push(self, tangent: AnyArray) -> AnyArray:
        """The tangent of the value, in its dtype."""

    @abstractmethod
    def bend(self, cotangent: AnyArray, direction: AnyArray) -> AnyArray:
        """The derivative of ``pull(cotangent)`` along a direction, in the argument's dtype."""

    def prepare_to_bend(self, array: AnyArray) -> None:
        """Keep what `bend` needs of the argument, beyond what is kept for the first order: by default, nothing."""
        return

    def _less_mean(self, direction: AnyArray, dtype: AnyDType, *, times_p: bool = False) -> AnyArray:
        """The direction less its mean under the probabilities, and times those if asked for."""
        out = np.empty_like(self.kept, dtype=dtype)
        operations.subtract_mean(direction, self.kept, out, self.axes, self.mask, times_p=times_p)
        return out


class _Softmax(Linearization):
    operation = "softmax"

    def forward(self, array: AnyArray) -> None:
        operations.softmax(array, self.value, self.axes, self.mask, self.work, self.kept)

    def pull(self, cotangent: AnyArray) -> AnyArray:
        return self._less_mean(cotangent, self.given, times_p=True)

    def push(self, tangent: AnyArray) -> AnyArray:
        return self._less_mean(tangent, self.result, times_p=True)

    def bend(self, cotangent: AnyArray, direction: AnyArray) -> AnyArray:
        product = self._less_mean(direction, self.work)
        with np.errstate(all="ignore"):
            product *= self._less_mean(cotangent, self.work)
        return self._less_mean(product, self.given, times_p=True)


class _LogSoftmax(Linearization):
    operation = "log_softmax"

    def forward(self, array: AnyArray) -> None:
        operations.log_softmax(array, self.value, self.axes, self.mask, self.work, self.kept)

    def pull(self, cotangent: AnyArray) -> AnyArray:
        out = np.empty_like(self.kept, dtype=self.given)
        operations.subtract_share(cotangent, self.kept, out, self.axes, self.mask)
        return out

    def push(self, tangent: AnyArray) -> AnyArray:
        return self._less_mean(tangent, self.result)

    def bend(self, cotangent: AnyArray, direction: AnyArray) -> AnyArray:
        curve = self._less_mean(direction, self.work, times_p=True)
        where = True if self.mask is None else self.mask
        with np.errstate(all="ignore"):
            total = np.add.reduce(cotangent, axis=self.axes, dtype=np.float64, keepdims=True, where=where)
            curve *= -total.astype(self.work)
        return curve.astype(self.given, copy=False)


class _Sigmoid(Linearization):
    operation = "sigmoid"

    def forward(self, array: AnyArray) -> None:
        operations.sigmoid(array, self.value, self.work, self.kept)

    def _times(self, direction: AnyArray, other: AnyArray, dtype: AnyDType) -> AnyArray:
        out = np.empty_like(self.kept, dtype=dtype)
        operations.multiply(direction, other, out)
        return out

    def pull(self, cotangent: AnyArray) -> AnyArray:
        return self._times(cotangent, self.kept, self.given)

    def push(self, tangent: AnyArray) -> AnyArray:
        return self._times(tangent, self.kept, self.result)

    def prepare_to_bend(self, array: AnyArray) -> None:
        # 1 - 2 p is -tanh(x / 2), which is so computed without the cancellation near x = 0.
        self.turn = array.astype(self.work)
        with np.errstate(all="ignore"):
            self.turn /= -2
            np.tanh(self.turn, out=self.turn)
        operations.multiply(self.turn.copy(), self.kept, self.turn)

    def bend(self, cotangent: AnyArray, direction: AnyArray) -> AnyArray:
        return self._times(direction, self._times(cotangent, self.turn, self.work), self.given)


class _SecondOrder(Linearization):
    """``x -> pull(cotangent)``, linearised in its turn."""

    def __init__(self, first: Linearization, array: AnyArray, cotangent: AnyArray) -> None:
        # A copy, as all that is kept: the caller may write into the array before pulling back.
        self.first, self.cotangent = first, cotangent.astype(first.work)
        self.value = first.pull(self.cotangent)
        first.prepare_to_bend(array)

    def forward(self, array: AnyArray) -> None:
        """The first order's is enough."""

    def pull(self, cotangent: AnyArray) -> AnyArray:
        return self.first.bend(self.cotangent, cotangent)

    def push(self, tangent: AnyArray) -> AnyArray:
        return self.first.bend(self.cotangent, tangent)

    def bend(self, cotangent: AnyArray, direction: AnyArray) -> AnyArray:
        message = (
            "polylogit.gradient of a gradient was to be differentiated: a third derivative, for which there is no "
            "closed form here. Take it with an array of torch, jax or tensorflow."
        )
        raise DifferentiationError(message)


OPERATIONS: dict[str, type[Linearization]] = {cls.operation: cls for cls in (_Softmax, _LogSoftmax, _Sigmoid)}


def linearize(point: Point) -> Linearization:
    """The linearisation of an operation or, with a cotangent, of its pullback."""
    first = OPERATIONS[point.operation](point)
    return first if point.cotangent is None else _SecondOrder(first, point.array, point.cotangent)


def along(point: Point, tangent: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The value and its derivative along a tangent, for which nothing has to be kept."""
    if point.cotangent is not None:
        linear = linearize(point)
        return linear.value, linear.push(tangent)
    operation, array, axes, mask, result, _, work, _ = point
    value, pushed = np.empty_like(array, dtype=result), np.empty_like(array, dtype=result)
    operations.along(operation, array, tangent, value, axes, mask, work, pushed)
    return value, pushed
