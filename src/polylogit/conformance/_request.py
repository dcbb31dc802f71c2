"""The request to an implementation and its answer, as plain data that can go to another process.

`Subject` is the interface of an implementation for cases: its facts, and four kinds of requests. Knows neither what is
right nor any framework.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit._spec.dtypes import Array, Finfo

TWICE = 1 << 16  # calls on so many logits or fewer are made twice


@dataclass(slots=True, eq=False)
class Request:
    """One call of an implementation.

    Attributes
    ----------
    x : array of float64, or of values to convert to `dtype`
    dtype : str
        The dtype of the logits.
    kind : {"values", "vjp", "jvp", "reverse", "forward"}
    axis : int, tuple of int or None
    axis_given : bool
        False if the call leaves out the axis.
    layout, directions_layout : str
        The memory layouts; see `polylogit.conformance._data.layouts`.
    directions : sequence of arrays
        The cotangent or tangent of a derivative.
    where : array of bool or None
    into : str
        The name of the dtype passed as ``dtype=``; empty for none.
    eager : bool
        Whether a derivative is run operation by operation.
    compiler : str
        The backend's compiler to use; empty for none.
    doubled : bool
        Whether `x` holds half the logits, doubled before the call, and the result is doubled and halved after it.
    twice : bool
        Whether to make the call twice, each time with different contents in the memory that it may receive.
    """

    x: Array
    dtype: str
    kind: str = "values"
    axis: Any = -1
    axis_given: bool = True
    layout: str = "contiguous"
    directions: Sequence[Array] = ()
    directions_layout: str = "contiguous"
    where: Array | None = None
    into: str = ""
    eager: bool = False
    compiler: str = ""
    doubled: bool = False
    twice: bool = False


@dataclass(slots=True)
class Answer:
    """The outcome of one call.

    Attributes
    ----------
    values : array of float64 or None
        The result on the host; None if an exception was raised.
    dtype : str
        The result's dtype.
    error : Exception or None
        The exception that was raised.
    notes : list of str
        Violations noticed during the call: the input modified, another array type, another device.
    again : array of float64 or None
        The result of the second call, if its bits differ.
    """

    values: Array | None
    dtype: str = ""
    error: Exception | None = None
    notes: list[str] = field(default_factory=list)
    again: Array | None = None


class EndedError(Exception):
    """The process of the code under test crashed or hung; `verdict` is ``"crashed"`` or ``"timeout"``."""

    def __init__(self, verdict: str, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.verdict, self.tail = verdict, tail


class Subject(ABC):
    """The interface of an implementation for cases.

    Attributes
    ----------
    name : str
        The name in results.
    operation : str
    backend : object
        The backend whose arrays it takes. For an implementation in another process: only its name and declarations.
    is_kernel : bool
        Whether it is a user's own function.
    vjp : object or None
        The separate gradient of the implementation.
    offers_axis, offers_where, offers_dtype, default_axis, default_vjp_axis, offers_vjp_where : bool
        The arguments in its signature, and in that of its gradient.
    on_numpy : bool
        Whether the backend's arrays are NumPy's own.
    layouts : tuple of str
        The memory layouts that the arrays may have; empty if they have no strides.
    given_up : str
        Why no more calls are made; empty while calls continue.
    """

    name: str
    operation: str
    backend: Any
    is_kernel: bool
    takes_axis: bool
    vjp: Any
    offers_axis: bool
    offers_where: bool
    offers_dtype: bool
    default_axis: bool
    default_vjp_axis: bool
    offers_vjp_where: bool
    axis_name: str
    on_numpy: bool
    layouts: tuple[str, ...]
    conventions: dict[str, str]
    given_up: str = ""

    # --- to ask ------------------------------------------------------------------------------------------------

    @abstractmethod
    def ask(self, request: Request) -> Answer:
        """The answer to one request; raises an error if the framework cannot create the arrays."""

    @abstractmethod
    def ask_in_turn(self, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
        """The answers to several requests, and the numbers of those calls whose result a later call changed."""

    @abstractmethod
    def ask_at_once(self, requests: Sequence[Request], calls: int) -> list[list[Answer]]:
        """The different answers of concurrent threads, each of which repeats its own request."""

    @abstractmethod
    def ask_changed(self, first: Request, second: Request) -> Answer:
        """The answer for the array of the first request, after its values were replaced by those of the second."""

    @abstractmethod
    def lacks(self, dtype: Finfo) -> str:
        """Why the framework has no arrays of this dtype here (JAX without x64 has no float64); empty if it has."""

    def keeps(self, dtype: Finfo) -> bool:
        """Whether the framework has arrays of this dtype."""
        return not self.lacks(dtype)

    @abstractmethod
    def declines(self, dtype: Finfo) -> str:
        """Why a universal function cannot take this dtype: it has no loop for it; empty if it can."""

    # --- what follows ------------------------------------------------------------------------------------------

    @property
    def composed(self) -> bool:
        """Whether the gradient comes from the framework's autodiff through the steps of the kernel."""
        return self.is_kernel and self.vjp is None

    @property
    def differentiates(self) -> bool:
        """Whether gradients can be tested at all."""
        return bool(self.backend.differentiates) or not self.composed

    @property
    def differentiates_forward(self) -> bool:
        """Whether forward mode and second order can be tested."""
        return not self.is_kernel or (bool(self.backend.differentiates) and self.vjp is None)

    @functools.cached_property
    def flushes_float16(self) -> bool:
        """Whether subnormal float16 results become 0, for numbers that could not be 0 for another reason.

        This matters only for float16: its smallest normal number is within reach of any longer row, so an overflowed
        sum looks like results that were flushed to 0.
        """
        rows = (np.array([[0.0, -10.2]]), np.zeros((1, 20000))) if self.takes_axis else (np.array([[-10.2]]),)
        answers = [self.ask(Request(row, "float16")) for row in rows]
        return any(answer.values is not None and bool((answer.values == 0).any()) for answer in answers)


def in_dtype(values: Any, dtype: str) -> Array:
    """A NumPy array of these values in a dtype given by name, including those of ml_dtypes."""
    return np.asarray(values).astype(DTYPES[dtype].dtype if dtype in DTYPES else dtype)
