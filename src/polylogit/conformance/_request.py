"""What is asked of an implementation, and what it answers, as plain data that can go to another process.

`Subject` is what cases see of an implementation: its facts, and four ways to ask. Knows neither what is right nor any
framework.
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
    """One call.

    Attributes
    ----------
    x : array of float64, or of what is to be converted to `dtype`
    dtype : str
        Of the logits.
    kind : {"values", "vjp", "jvp", "reverse", "forward"}
    axis : int, tuple of int or None
    axis_given : bool
        False where the axis is left out of the call.
    layout, directions_layout : str
        In memory; see `polylogit.conformance._data.layouts`.
    directions : sequence of arrays
        The cotangent or tangent of a derivative.
    where : array of bool or None
    into : str
        Name of the dtype that is passed as ``dtype=``; empty for none.
    eager : bool
        Whether a derivative is run operation by operation.
    compiler : str
        Which of the backend's compilers to call through; empty for none.
    doubled : bool
        Whether the call stands between a doubling and a halving, of half the logits.
    twice : bool
        Whether it is made twice, each time with memory around that holds something else.
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
    """What came back from one call.

    Attributes
    ----------
    values : array of float64 or None
        The result on the host; None where an exception was raised.
    dtype : str
        The result's dtype.
    error : Exception or None
        What was raised.
    notes : list of str
        Breaches seen on the way: input modified, another type of array, another device.
    again : array of float64 or None
        What the same call gave the second time, where its bits are others.
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
    """What cases see of an implementation.

    Attributes
    ----------
    name : str
        In results.
    operation : str
    backend : object
        Whose arrays it takes. Of an implementation in another process only what it is called and what it declares.
    is_kernel : bool
        Whether it is a user's own function.
    vjp : object or None
        The gradient that it brings.
    offers_axis, offers_where, offers_dtype, default_axis, default_vjp_axis, offers_vjp_where : bool
        What its signature takes, and that of the gradient that it brings.
    on_numpy : bool
        Whether the backend's arrays are NumPy's own.
    layouts : tuple of str
        The memory layouts that the arrays may have; none where they have no strides.
    given_up : str
        Why nothing more is asked of it; empty as long as something is.
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
        """The answer to one request; raises where the framework cannot make the arrays."""

    @abstractmethod
    def ask_in_turn(self, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
        """The answers to several, and those calls of which a later one changed the result, by number."""

    @abstractmethod
    def ask_at_once(self, requests: Sequence[Request], calls: int) -> list[list[Answer]]:
        """The different answers of threads that run at once, each with a request that it repeats."""

    @abstractmethod
    def ask_changed(self, first: Request, second: Request) -> Answer:
        """The answer for the array of the first request, asked before and holding the second's values now."""

    @abstractmethod
    def lacks(self, dtype: Finfo) -> str:
        """Why the framework has no arrays of this dtype here (JAX without x64 has no float64). Empty if it has."""

    def keeps(self, dtype: Finfo) -> bool:
        """Whether it has."""
        return not self.lacks(dtype)

    @abstractmethod
    def declines(self, dtype: Finfo) -> str:
        """Why a universal function cannot take this dtype: it has no loop for it. Empty if it can."""

    # --- what follows ------------------------------------------------------------------------------------------

    @property
    def composed(self) -> bool:
        """Whether the gradient is that of the steps that the kernel is written in, by the framework's autodiff."""
        return self.is_kernel and self.vjp is None

    @property
    def differentiates(self) -> bool:
        """Whether gradients can be asked for at all."""
        return bool(self.backend.differentiates) or not self.composed

    @property
    def differentiates_forward(self) -> bool:
        """Whether forward mode and second order can be asked for."""
        return not self.is_kernel or (bool(self.backend.differentiates) and self.vjp is None)

    @functools.cached_property
    def flushes_float16(self) -> bool:
        """Whether subnormal float16 results come out as 0, of what could not be 0 for another reason.

        Of other dtypes nobody need ask: the smallest normal number of float16 is within reach of any longer row, so
        that a sum that overflowed looks like results flushed to 0.
        """
        rows = (np.array([[0.0, -10.2]]), np.zeros((1, 20000))) if self.takes_axis else (np.array([[-10.2]]),)
        answers = [self.ask(Request(row, "float16")) for row in rows]
        return any(answer.values is not None and bool((answer.values == 0).any()) for answer in answers)


def in_dtype(values: Any, dtype: str) -> Array:
    """A NumPy array of these values in a dtype by name, one of ml_dtypes among them."""
    return np.asarray(values).astype(DTYPES[dtype].dtype if dtype in DTYPES else dtype)
