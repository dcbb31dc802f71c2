"""What a check works with: a subject, an operation of the table, a format, a level and a seed.

`Context.values` is the one way from logits to a verdict; the checks differ in the logits. Knows no framework.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance.judge import Expectation, Outcome, judge
from polylogit.spec import bounds
from polylogit.spec.doubledouble import DD
from polylogit.spec.dtypes import finfo
from polylogit.spec.exact import exact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit.conformance.subject import Answer, Subject
    from polylogit.spec.dtypes import Array, Finfo
    from polylogit.spec.operations import Definition

__all__ = ["Context", "Trial", "from_rows", "refusal", "to_rows"]

# What code raises when it says no. Arithmetic errors, exhausted memory and broken names are no way of saying it.
_REFUSALS = (NotImplementedError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ImportError)


@dataclass(slots=True)
class Trial:
    """One case, not yet run."""

    case: str
    run: Callable[[], Outcome]


def refusal(error: Exception, subject: Subject, *, optional: bool) -> bool:
    """Whether an exception says "not supported" rather than showing a fault.

    ``NotImplementedError`` always does. Of someone's own callable any other clean error does too where what was asked
    is not what every kernel must have (`optional`); a registered backend owes the whole contract.
    """
    if isinstance(error, NotImplementedError):
        return True
    if not optional or not subject.own:
        return False
    foreign = subject.backend.name != "numpy" and (
        isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] not in ("builtins", "numpy")
    )
    return isinstance(error, _REFUSALS) or (foreign and not isinstance(error, RecursionError))


def to_rows(x: Array, axis: Any) -> Array:
    """Two-dimensional: the axes normalised together at the end, joined; all others joined before them."""
    if axis is None or x.ndim == 0:
        return x.reshape(1, -1)
    axes = tuple(one % x.ndim for one in (axis if isinstance(axis, tuple) else (axis,)))
    size = int(np.prod([x.shape[one] for one in axes], dtype=int))
    moved = np.moveaxis(x, sorted(axes), range(x.ndim - len(axes), x.ndim))
    return moved.reshape(x.size // size if size else int(np.prod(moved.shape[: x.ndim - len(axes)])), size)


def from_rows(flat: Array, shape: tuple[int, ...], axis: Any) -> Array:
    """Undo `to_rows`."""
    if axis is None or not shape:
        return flat.reshape(shape)
    axes = sorted(one % len(shape) for one in (axis if isinstance(axis, tuple) else (axis,)))
    others = [one for one in range(len(shape)) if one not in axes]
    moved = flat.reshape([shape[one] for one in (*others, *axes)])
    return np.moveaxis(moved, range(len(shape) - len(axes), len(shape)), axes)


class Context:
    """See the module's first lines."""

    def __init__(self, subject: Subject, operation: Definition, dtype: Finfo, level: str, seed: int) -> None:
        self.subject, self.operation, self.dtype, self.level, self.seed = subject, operation, dtype, level, seed
        self.keep_values = False
        self.any_order = False  # whether sums may be added up one by one; see `bounds.any_order`

    @property
    def costly(self) -> bool:
        """Whether few shapes are asked for: each is compiled anew, or there is little time."""
        return bool(self.subject.backend.always_compiles) or self.hasty

    @property
    def hasty(self) -> bool:
        """Whether there is little time: at level quick, for each of several backends and for what is compiled anew.

        A kernel of one's own is one alone.
        """
        return self.level == "quick" and (not self.subject.own or bool(self.subject.backend.always_compiles))

    @property
    def light(self) -> bool:
        """Whether this format is asked for the essentials alone; float32 is asked for all."""
        if self.sparse:
            return True
        if self.dtype.name == "float32":
            return False
        return self.hasty or (self.costly and not self.subject.own and self.dtype.name != "float16")

    @property
    def sparse(self) -> bool:
        """Whether it is a storage format of a backend: what shows how results are rounded is all that can go wrong."""
        return bool(self.dtype.computed_in) and not self.subject.own

    def rng(self, *what: object) -> np.random.Generator:
        """Random numbers for one case."""
        from polylogit.conformance.cases import generator  # noqa: PLC0415

        return generator(self.seed, self.operation.takes_axis, self.dtype.name, *what)

    @functools.cached_property
    def flushes(self) -> bool:
        """Whether subnormal results come out as 0, of what could not be 0 for another reason.

        float16 alone needs the question: its smallest normal number is within reach of any longer row, so that a sum
        that overflowed looks like results flushed to 0.
        """
        if self.dtype.name != "float16":
            return True
        probes = (
            (np.array([[0.0, -10.2]]), np.zeros((1, 20000))) if self.operation.takes_axis else (np.array([[-10.2]]),)
        )
        for probe in probes:
            answer = self.subject.answer(self.subject.array(self.dtype.round(probe), self.dtype.name))
            if answer.values is not None and (answer.values == 0).any():
                return True
        return False

    # --- from logits to a verdict ------------------------------------------------------------------------------

    def values(
        self,
        x: Array,
        axis: Any = -1,
        layout: str = "contiguous",
        names: Sequence[str] = (),
        *,
        optional: bool = False,
        where: Array | None = None,
        into: Finfo | None = None,
        call: Callable[[Any], Any] | None = None,
        slack: float = 1.0,
    ) -> Outcome:
        """Run the subject on logits and judge the values.

        Parameters
        ----------
        x : array
            Rounded to the format here.
        axis, layout, names
            How to ask, and what the rows are called.
        optional : bool
            Whether refusing is allowed.
        where : array of bool, optional
            A mask, passed to the subject.
        into : Finfo, optional
            Passed as ``dtype=``.
        call : callable, optional
            In place of the subject: takes the framework's array.
        slack : float, optional
            How many times the bound the error may be.
        """
        x = self.dtype.logits(x)
        array = self.subject.array(x, self.dtype.name, layout)
        kwargs: dict[str, Any] = {}
        if where is not None:
            kwargs["where"] = self.subject.array(where, "bool")
        if into is not None:
            kwargs["dtype"] = self.subject.array(np.zeros(1), into.name).dtype
        if call is None:
            answer = self.subject.answer(array, axis, **kwargs)
        else:
            answer = self.subject.guarded(lambda: call(array), like=array)
        return self.judged(answer, x, axis, names, optional=optional, where=where, into=into, slack=slack)

    def judged(
        self,
        answer: Answer,
        x: Array,
        axis: Any,
        names: Sequence[str] = (),
        *,
        optional: bool = False,
        where: Array | None = None,
        into: Finfo | None = None,
        slack: float = 1.0,
    ) -> Outcome:
        """Judge an answer for logits `x`."""
        bad = self.unusable(answer, x.shape, into or self.dtype, optional=optional)
        if bad is not None:
            return bad
        assert answer.values is not None  # noqa: S101  an answer without an error has values
        target = into or self.dtype
        dtype = min(target, finfo(answer.dtype) or target, key=lambda one: one.precision)
        expected = self.expectation(x, axis, dtype, where)
        expected.bound = expected.bound * slack
        outcome = judge(expected, to_rows(answer.values, self._axis(axis)), names)
        if outcome.verdict == "passed" and answer.dtype != target.name:
            outcome.verdict, outcome.message = "failed", f"the result is {answer.dtype}; it should be {target.name}"
        if outcome.verdict == "passed" and answer.notes:
            outcome.verdict, outcome.message = "failed", "; ".join(answer.notes)
        if self.keep_values and x.size <= 1 << 15:
            outcome.values = answer.values
        return outcome

    def unusable(self, answer: Answer, shape: tuple[int, ...], dtype: Finfo, *, optional: bool) -> Outcome | None:
        """The outcome of an exception or a wrong shape; None where there are values to judge."""
        if answer.error is not None:
            said = f"{type(answer.error).__name__}: {answer.error}".splitlines()[0][:300]
            if refusal(answer.error, self.subject, optional=optional):
                return Outcome("unsupported", message=f"refused with {said}")
            return Outcome("failed", message=f"raised {said}", details={"shape": list(shape), "dtype": dtype.name})
        if answer.values is not None and answer.values.shape != tuple(shape):
            return Outcome(
                "failed", message=f"the result has the shape {answer.values.shape}, the input {tuple(shape)}"
            )
        return None

    def _axis(self, axis: Any) -> Any:
        return axis if self.operation.takes_axis else None

    def _room(self, found: Any, dtype: Finfo) -> float:
        return bounds.any_order(found, dtype) if self.any_order else 1.0

    def expectation(self, x: Array, axis: Any, dtype: Finfo, where: Array | None = None) -> Expectation:
        """What the table says of these logits, in rows."""
        axis = self._axis(axis)
        rows = to_rows(x, axis)
        mask = None
        if where is not None:
            mask = to_rows(np.broadcast_to(where, x.shape), axis)
            rows = np.where(mask, rows, -np.inf)
        if not rows.size:
            return Expectation(rows, DD(rows, rows), rows, dtype)
        found = exact(self.operation.exact, rows, dtype)
        high, low = self.operation.value(found)
        bound = bounds.allowed(self.operation.bound, found, high, dtype) * self._room(found, dtype)
        high, low = np.where(found.regular, high, np.nan), np.where(found.regular, low, 0.0)
        either = None
        if self.subject.own and self.operation.at_infinity is None:
            # A kernel may give the limit beside an infinite logit; only at the logit itself there is no number.
            either = (
                ~np.isnan(rows).any(-1, keepdims=True) & np.isposinf(rows).any(-1, keepdims=True) & ~np.isposinf(rows)
            )
        if mask is not None:
            empty = ~mask.any(-1, keepdims=True)
            high = np.where(~mask | empty, self.operation.masked, high)
        zero_below = bounds.flushable(dtype) if self.flushes else 0.0
        return Expectation(rows, DD(high, low), bound, dtype, zero_below, either, self.operation.masked)

    # --- derivatives -------------------------------------------------------------------------------------------

    def derivative(
        self,
        kind: str,
        x: Array,
        directions: Sequence[Array],
        axis: Any,
        run: Callable[..., Any],
        names: Sequence[str] = (),
        *,
        optional: bool = False,
        where: Array | None = None,
        layout: str = "contiguous",
        at: str = "contiguous",
    ) -> Outcome:
        """Run a derivative of the subject and judge it.

        Parameters
        ----------
        kind : {"vjp", "jvp", "second"}
            Which entry of the table says what is expected.
        x, directions : arrays
            Logits; cotangent, tangent or both. Rounded to the format here.
        run : callable
            ``run(x, *directions, axis)`` on the framework's arrays.
        axis, names, optional, where, layout
            As in `values`; `layout` is that of the directions, `at` that of the logits.
        """
        subject, dtype = self.subject, self.dtype
        x = dtype.logits(x)
        rounded = [dtype.logits(direction) for direction in directions]
        array = subject.array(x, dtype.name, at)
        given = [subject.array(direction, dtype.name, layout) for direction in rounded]
        kwargs = {} if where is None else {"where": subject.array(where, "bool")}
        answer = subject.guarded(lambda: run(array, *given, axis, **kwargs), like=array)
        for name, before, after in (
            ("the input", x, array),
            *(("the cotangent", *pair) for pair in zip(rounded, given, strict=True)),
        ):
            if not np.array_equal(subject.host(after), before, equal_nan=True):
                answer.notes.append(f"{name} was modified")
        bad = self.unusable(answer, x.shape, dtype, optional=optional)
        if bad is not None:
            return bad
        assert answer.values is not None  # noqa: S101
        return self._judge_derivative(kind, answer, x, rounded, axis, names, where)

    def _judge_derivative(
        self,
        kind: str,
        answer: Answer,
        x: Array,
        directions: Sequence[Array],
        axis: Any,
        names: Sequence[str],
        where: Array | None,
    ) -> Outcome:
        axis, dtype = self._axis(axis), self.dtype
        rows, flat = to_rows(x, axis), [to_rows(direction, axis) for direction in directions]
        mask = np.ones(rows.shape, dtype=bool)
        if where is not None:
            mask = to_rows(np.broadcast_to(where, x.shape), axis)
            rows, flat = np.where(mask, rows, -np.inf), [np.where(mask, one, 0.0) for one in flat]
        if not rows.size:
            return Outcome(vacuous=True)
        found = exact(self.operation.exact, rows, dtype)
        entry = getattr(self.operation, kind)
        high, low = entry.value(found, *flat)
        bound = bounds.allowed(entry.bound, found, high, dtype, *flat) * self._room(found, dtype)
        if self.subject.composed and self.operation.takes_axis:
            bound = bound + bounds.through_maximum(found, dtype, bound, flat)
        got = to_rows(np.asarray(answer.values), axis)
        masked = ~mask | (where is not None and ~mask.any(-1, keepdims=True))
        high, low, bound = (np.where(masked, 0.0, part) for part in (high, low, bound))
        # Where the value is NaN so is the gradient, or anything.
        usable = found.regular | masked
        got, high, low = (np.where(usable, part, 0.0) for part in (got, high, low))
        expected = Expectation(rows, DD(high, low), bound, dtype, bounds.gradient_flushable(dtype))
        outcome = judge(expected, got, names)
        if outcome.details:
            line = np.unravel_index(int(np.argmax(_size(got - high, bound))), got.shape)[0]
            outcome.details["directions"] = [[float(v) for v in one[line][:16]] for one in flat]
        if outcome.verdict == "passed" and answer.dtype != dtype.name:
            outcome.verdict, outcome.message = "failed", f"the gradient is {answer.dtype}; it should be {dtype.name}"
        if outcome.verdict == "passed" and answer.notes:
            outcome.verdict, outcome.message = "failed", "; ".join(answer.notes)
        if self.keep_values and x.size <= 1 << 15:
            outcome.values = answer.values
        return outcome


def _size(error: Array, bound: Array) -> Array:
    with np.errstate(all="ignore"):
        ratio = np.abs(error) / np.where(bound > 0, bound, 1e-300)
    return np.where(np.isnan(ratio), np.inf, ratio)
