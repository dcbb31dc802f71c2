"""The base class of the containers: it unpacks, calls the public function on the contents, and packs the result.

A container implements `axes`, `apply` and the methods of every backend. Knows the public functions, and no library.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from polylogit._backends.base import Backend
from polylogit._derivatives import gradient, jvp, vjp
from polylogit._functions import log_softmax, sigmoid, softmax
from polylogit._operations import OPERATIONS
from polylogit.errors import DifferentiationError, TemperatureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback

__all__ = ["Container"]


class Container(Backend):
    """Containers of another backend's arrays, whose labels the result keeps."""

    differentiates = False
    takes_numpy_masks = True
    takes_temperature = True

    @abstractmethod
    def axes(self, x: Any, axis: Any) -> Any:
        """``axis=`` with names replaced by numbers."""

    @abstractmethod
    def apply(self, inner: Callable[..., Any], x: Any, others: dict[str, Any]) -> Any:
        """``inner(values, **others)`` with the labels of `x`; the others are unpacked, too, and must fit it."""

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None) -> Any:
        """See `polylogit.softmax`."""
        return self._call(softmax, x, axis=axis, where=where, dtype=dtype, temperature=temperature)

    def log_softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None, temperature: Any = None) -> Any:
        """See `polylogit.log_softmax`."""
        return self._call(log_softmax, x, axis=axis, where=where, dtype=dtype, temperature=temperature)

    def sigmoid(self, x: Any, dtype: Any = None, temperature: Any = None) -> Any:
        """See `polylogit.sigmoid`."""
        return self._call(sigmoid, x, dtype=dtype, temperature=temperature)

    def _call(self, function: Callable[..., Any], x: Any, **options: Any) -> Any:
        plain, others = self._split(x, options)
        return self.apply(lambda values, **inside: function(values, **plain, **inside), x, others)

    def _split(self, x: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments that every array gets unchanged, and those that are containers themselves."""
        given = {name: value for name, value in options.items() if value is not None or name == "axis"}
        others = {"where": given.pop("where")} if "where" in given else {}
        if self.owns_value(given.get("temperature")):
            message = (
                f"temperature= is a {type(given['temperature']).__qualname__}, whose labels would be lost; pass a "
                "number, or temperature.to_numpy() to go by position."
            )
            raise TemperatureError(message)
        if "axis" in given:
            given["axis"] = self.axes(x, given["axis"])
        return given, others

    def owns_value(self, value: Any) -> bool:
        """Whether a value is a container of this library."""
        return type(value).__module__.partition(".")[0] == self.name

    def vjp(self, function: Callable[..., Any], x: Any, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """For polylogit's own operations, computed on the contents."""
        derivative = self._derivative(function, x, kwargs, lambda f, values, g, given: vjp(f, values, **given)[1](g))
        return function(x, **kwargs), derivative

    def jvp(self, function: Callable[..., Any], x: Any, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """For polylogit's own operations, computed on the contents."""
        derivative = self._derivative(function, x, kwargs, lambda f, values, t, given: jvp(f, values, t, **given)[1])
        return function(x, **kwargs), derivative(tangent)

    def _derivative(
        self, function: Any, x: Any, kwargs: dict[str, Any], way: Callable[..., Any]
    ) -> Callable[[Any], Any]:
        second = hasattr(function, "__polylogit_gradient__")
        operation, options = (function.operation, function.kwargs) if second else (function, kwargs)
        if getattr(operation, "__polylogit_operation__", None) not in OPERATIONS:
            message = (
                f"{function!r} cannot be differentiated on a {type(x).__module__}.{type(x).__qualname__}; pass "
                f"polylogit.{', '.join(OPERATIONS)} or a polylogit.gradient of them, with their "
                "arguments after x: polylogit.vjp(polylogit.softmax, x, temperature=2.0); or the array inside."
            )
            raise DifferentiationError(message)
        plain, others = self._split(x, options)
        if second:
            others["cotangent"] = function.cotangent

        def inner(values: Any, direction: Any, cotangent: Any = None, **inside: Any) -> Any:
            given = {**plain, **inside}
            if second:
                return way(gradient(operation, cotangent, **given), values, direction, {})
            return way(operation, values, direction, given)

        return lambda direction: self.apply(inner, x, {"direction": direction, **others})
