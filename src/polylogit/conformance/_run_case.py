"""Runs one case: sends the request to the implementation, and compares the answer with exact values.

`run` is the only way from a case to a comparison; the checks differ only in their cases. Knows no framework.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec import bounds
from polylogit._spec.doubledouble import DD
from polylogit._spec.dtypes import finfo
from polylogit._spec.exact import exact
from polylogit.conformance._case import Case
from polylogit.conformance._compare import Comparison, Expected, compare
from polylogit.conformance._conventions import SAID, axes_meant, empty_rows, others
from polylogit.conformance._facts import facts
from polylogit.conformance._request import TWICE, EndedError, Request
from polylogit.conformance._results import CONVENTION, INACCURATE, WRONG, Result, held_to
from polylogit.conformance._snippet import call_line, reproducer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polylogit._spec.dtypes import Array, Finfo
    from polylogit.conformance._case import Setting
    from polylogit.conformance._request import Answer, Subject

# What code raises when it says no. Arithmetic errors, exhausted memory and broken names are no way of saying it.
_REFUSALS = (NotImplementedError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ImportError)
_DEFINED = {"reverse": "second", "forward": "second"}  # where the table defines a kind of case under another name
# What a result takes over.
_SAID = (
    *("verdict", "error", "message", "details", "length", "distance", "cases"),
    *("finding", "convention", "once", "facts"),
)
# A factor of two to four of each bound is room for implementations that are right in another way. What is over it by
# less than that once more may have rounded more often than they do; beyond it something else is wrong.
_EXPLAINED = 4.0
_COMPARED = 1 << 15  # of larger results no values are kept to compare backends


class quiet:  # noqa: N801  a context manager
    """Suppress warnings of the code under test, which are not tested."""

    def __enter__(self) -> None:
        self._contexts = warnings.catch_warnings(), np.errstate(all="ignore")
        for context in self._contexts:
            context.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        for context in reversed(self._contexts):
            context.__exit__(None, None, None)


def run(setting: Setting, case: Case) -> Comparison:
    """The outcome of a case, and the facts about it."""
    found = _come_to(setting, case)
    found.facts = facts(setting, case, found)
    # Of a behaviour one call says nothing, but where it is a call on integers.
    integers = found.facts.get("integers", "")
    if found.seen is not None and found.seen.call and (case.behaviour is None or integers):
        if integers:
            found.seen.call["dtype"] = integers
        found.details["call"] = "" if integers or case.into is not None else call_line(found.seen, setting.dtype)
        found.details["python"] = reproducer(setting.implementation, found.seen, setting.dtype)
        found.details = {name: value for name, value in found.details.items() if value != ""}
    return found


def _come_to(setting: Setting, case: Case) -> Comparison:
    try:
        with quiet():
            if case.behaviour is not None:
                found: Comparison = case.behaviour(setting, *case.arguments)
                return found
            return _values(setting, case) if case.kind == "values" else _derivative(setting, case)
    except MemoryError:
        raise
    except EndedError as error:
        details = {"stderr": error.tail} if error.tail else {}
        return Comparison(error.verdict, message=str(error), details=details)
    except Exception as error:  # noqa: BLE001  the framework may refuse to make the array
        return Comparison("inconclusive", message=f"the case could not be set up: {type(error).__name__}: {error}")


def result_of(setting: Setting, check: str, case: str, found: Comparison) -> Result:
    """The outcome of a case, under its full name."""
    names = (setting.implementation.name, setting.operation.name, check, setting.dtype.name, case)
    said: dict[str, Any] = {name: getattr(found, name) for name in _SAID}
    if found.verdict == "failed" and not found.finding:
        said["finding"] = WRONG
    return Result(*names, **said, seed=setting.seed)


def refusal(error: Exception, implementation: Subject, *, optional: bool) -> bool:
    """Whether an exception means "not supported" rather than a fault.

    ``NotImplementedError`` always does. For a user's own kernel, any other ordinary error does, too, if the request was
    for a feature that not every kernel must have (`optional`); a registered backend must keep the whole contract.
    """
    if isinstance(error, NotImplementedError):
        return True
    if not optional or not implementation.is_kernel:
        return False
    # Frameworks and libraries say no by errors of their own.
    foreign = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] not in ("builtins", "numpy")
    return isinstance(error, _REFUSALS) or (foreign and not isinstance(error, (ArithmeticError, RecursionError)))


def _values(setting: Setting, case: Case) -> Comparison:
    implementation, dtype = setting.implementation, setting.dtype
    assert case.x is not None
    x = dtype.logits(case.x)
    return compared(setting, implementation.ask(_request(setting, case, x)), x, case)


def _request(setting: Setting, case: Case, x: Array, directions: Sequence[Array] = ()) -> Request:
    """A case as a request, which is all that an implementation sees of it."""
    return Request(
        x,
        setting.dtype.name,
        case.kind,
        case.axis,
        axis_given=case.axis_given,
        layout=case.layout,
        directions=directions,
        directions_layout=case.directions_layout,
        where=case.where,
        into=case.into.name if case.into is not None else "",
        eager=case.eager,
        # What the framework makes of a kernel by autodiff takes it long, and is its own.
        twice=setting.is_kernel and x.size <= TWICE and (case.kind == "values" or not setting.implementation.composed),
    )


def compared(setting: Setting, answer: Answer, x: Array, case: Case | None = None, axis: Any = -1) -> Comparison:
    """Compare an answer for the logits `x` with the exact values, without making a case."""
    case = case or Case("", axis=axis)
    target = case.into or setting.dtype
    bad = unusable(setting, answer, x.shape, target, optional=case.optional)
    if bad is not None:
        return bad
    dtype = setting.judged_in(min(target, finfo(answer.dtype) or target, key=lambda one: one.precision))

    def by(conventions: Mapping[str, str]) -> Comparison:
        meant = axes_meant(case, x.ndim, conventions)
        got = _rows(np.asarray(answer.values), _axis(setting, meant))
        return compare(_expected_values(setting, x, meant, dtype, conventions), got, case.names)

    found = _of_both(answer, lambda: _graded(setting, case, x, by))
    _asked(found, setting, case, x)
    return _finished(setting, found, answer, target, "result", case)


def _asked(found: Comparison, setting: Setting, case: Case, x: Array, directions: Sequence[Array] = ()) -> None:
    """Note the call itself, for reports."""
    if found.seen is None or found.verdict == "passed":
        return
    meant = axes_meant(case, x.ndim, setting.conventions)
    axis = _axis(setting, meant)
    asked = {name: getattr(case, name) for name in ("kind", "axis", "axis_given", "where", "layout")}
    places = _rows(np.arange(x.size).reshape(x.shape), axis)
    given, mask = _rows(x, axis), _mask(setting, x, meant)
    rows = {"rows": given, "rows_where": mask, "places": places}
    if mask is not None and "inputs" in found.details:  # -inf stood for what is masked out
        start = found.details["shown_from"]
        shown = found.seen.row, slice(start, start + len(found.details["inputs"]))
        found.details["inputs"] = [float(one) for one in given[shown]]
        found.details["where"] = [bool(one) for one in mask[shown]]
    found.seen.call = {**asked, **rows, "x": x, "g": tuple(directions), "into": case.into and case.into.name}


def _of_both(answer: Answer, judged: Callable[[], Comparison]) -> Comparison:
    """The outcome of an answer; if the same call gave other bits the second time, the worse outcome of the two.

    Both may be right: sums in an order that changes from run to run are, within the bound.
    """
    found, again = judged(), answer.again
    if again is None:
        return found
    first, answer.values = answer.values, again
    second = judged()
    if found.verdict != "passed" or second.verdict == "passed":
        answer.values, worse = first, found
    else:
        worse = second
    if worse.verdict != "passed":
        worse.message += "; the same call gave different bits: memory that was not written, or kept from call to call?"
    return worse


def _graded(setting: Setting, case: Case, x: Array, by: Callable[[Mapping[str, str]], Comparison]) -> Comparison:
    """The outcome of a comparison by the declared conventions; for a kernel, with the kind of the finding."""
    found = by(setting.conventions)
    if found.verdict != "failed":
        return found
    if setting.is_kernel:
        for name, value in others(case, x, takes_axis=setting.operation.takes_axis):
            if setting.conventions.get(name) != value:
                other = by({**setting.conventions, name: value})
                if other.verdict == "passed" and not other.vacuous:
                    other.verdict, other.finding, other.convention = "convention", CONVENTION, f"{name}={value}"
                    other.message = f"{SAID[name][1].format(value=value)}; by the contract {SAID[name][0]}"
                    other.details, other.seen = found.details, found.seen
                    return other
    return less_accurate(setting, found)


def less_accurate(setting: Setting, found: Comparison) -> Comparison:
    """Downgrade a failure that rounding can explain to "less accurate"; a backend must keep the bound all the same.

    Rounding explains nothing if half of a value or more is lost, nor in 16 bits, whose bounds allow for all the
    roundings that computing in the wider dtype avoids.
    """
    explained = found.error is not None and found.error <= _EXPLAINED and not found.lost
    if found.verdict == "failed" and explained and setting.dtype.wide.precision == setting.dtype.precision:
        found.finding = INACCURATE
        if setting.is_kernel:
            found.verdict = "inaccurate"
    return found


def _finished(setting: Setting, found: Comparison, answer: Answer, target: Finfo, what: str, case: Case) -> Comparison:
    if not setting.is_kernel:
        held_to(found, rounded_once=True)
    if found.verdict == "passed" and answer.dtype != target.name:
        found.verdict, found.message = "failed", f"the {what} is {answer.dtype}; it should be {target.name}"
    if found.verdict == "passed" and answer.notes:
        found.verdict, found.message = "failed", "; ".join(answer.notes)
    if answer.values is not None and answer.values.size <= _COMPARED:
        found.values = answer.values if case.rows is None else answer.values[: case.rows]
    return found


# Where a framework's own message does not say what has to be done with a function for the kit.
_HINTS = {
    "ConcretizationTypeError": 'the kit passes axis by keyword: jax.jit(function, static_argnames="axis")',
    "TracerBoolConversionError": 'the kit passes axis by keyword: jax.jit(function, static_argnames="axis")',
}


def raised(error: BaseException) -> str:
    """The exception of a function under test, in one line, with a remedy if there is one."""
    name = type(error).__name__
    said = f"{name}: {error}".splitlines()[0][:300]
    return f"{said} ({_HINTS[name]})" if name in _HINTS else said


def unusable(
    setting: Setting, answer: Answer, shape: tuple[int, ...], dtype: Finfo, *, optional: bool = False
) -> Comparison | None:
    """The outcome for an exception or a wrong shape; None if there are values to compare."""
    if answer.error is not None:
        said = raised(answer.error)
        if refusal(answer.error, setting.implementation, optional=optional):
            return Comparison("unsupported", message=f"refused with {said}")
        return Comparison("failed", message=f"raised {said}", details={"shape": list(shape), "dtype": dtype.name})
    if answer.values is not None and answer.values.shape != tuple(shape):
        message = f"the result has the shape {answer.values.shape}, the input {tuple(shape)}"
        return Comparison("failed", message=message)
    return None


def _derivative(setting: Setting, case: Case) -> Comparison:
    implementation, dtype = setting.implementation, setting.dtype
    assert case.x is not None
    x, directions = dtype.logits(case.x), [dtype.logits(direction) for direction in case.directions]
    answer = implementation.ask(_request(setting, case, x, directions))
    bad = unusable(setting, answer, x.shape, dtype, optional=case.optional)
    if bad is not None:
        return bad
    meant = axes_meant(case, x.ndim, setting.conventions)
    axis = _axis(setting, meant)
    flat = [_rows(direction, axis) for direction in directions]
    expected, usable = _expected_derivative(setting, x, flat, meant)
    if not expected.inputs.size:
        return Comparison(vacuous=True)

    def judged() -> Comparison:
        got = np.where(usable, _rows(np.asarray(answer.values), axis), 0.0)
        return less_accurate(setting, compare(expected, got, case.names))

    found = _of_both(answer, judged)
    if found.details:
        shown = slice(found.details["shown_from"], found.details["shown_from"] + len(found.details["inputs"]))
        found.details["directions"] = [[float(v) for v in one[found.row][shown]] for one in flat]
    if found.seen is not None:
        found.seen.directions = flat
    _asked(found, setting, case, x, directions)
    return _finished(setting, found, answer, dtype, "gradient", case)


# --- what is expected, in rows ---------------------------------------------------------------------------------------


def _axis(setting: Setting, case: Case) -> Any:
    return case.axis if setting.operation.takes_axis else None


def _rows(x: Array, axis: Any) -> Array:
    """The array in two dimensions: the normalised axes joined at the end, all others joined before them."""
    if axis is None or x.ndim == 0:
        return x.reshape(1, -1)
    axes = tuple(one % x.ndim for one in (axis if isinstance(axis, tuple) else (axis,)))
    size = int(np.prod([x.shape[one] for one in axes], dtype=int))
    moved = np.moveaxis(x, sorted(axes), range(x.ndim - len(axes), x.ndim))
    return moved.reshape(x.size // size if size else int(np.prod(moved.shape[: x.ndim - len(axes)])), size)


def _mask(setting: Setting, x: Array, case: Case) -> Array | None:
    return None if case.where is None else _rows(np.broadcast_to(case.where, x.shape), _axis(setting, case))


def _expected_values(setting: Setting, x: Array, case: Case, dtype: Finfo, conventions: Mapping[str, str]) -> Expected:
    operation, mask = setting.operation, _mask(setting, x, case)
    rows = _rows(x, _axis(setting, case))
    if mask is not None:
        rows = np.where(mask, rows, -np.inf)
    if not rows.size:
        return Expected(rows, DD(rows, rows), rows, dtype)
    found = exact(operation.exact, rows, dtype)
    high, low = operation.value(found)
    exact_there = np.isinf(rows)  # 0 or -inf at -inf, 1 at +inf: no rounding comes in there
    bound = np.where(exact_there, 0.0, bounds.allowed(operation.bound, found, high, dtype))
    once = None
    if dtype.wide.precision > dtype.precision and not dtype.computed_in:
        once = np.where(exact_there, 0.0, bounds.rounded_once(operation.bound, found, high, dtype))
    high, low = np.where(found.regular, high, np.nan), np.where(found.regular, low, 0.0)
    name = "empty-row" if mask is None else "masked-row"
    empty = (np.isneginf(rows) if mask is None else ~mask).all(-1, keepdims=True)
    nothing = empty_rows(name, operation, conventions, found.length)
    either = None
    if setting.is_kernel and operation.at_infinity is None:
        # A kernel may give the limit beside an infinite logit; only at the logit itself there is no number.
        infinite = np.isposinf(rows)
        either = ~np.isnan(rows).any(-1, keepdims=True) & infinite.any(-1, keepdims=True) & ~infinite
    if mask is not None:
        high = np.where(~mask | empty, operation.masked, high)
    if nothing is not None:
        high, bound = np.where(empty, nothing, high), np.where(empty, dtype.ulp(np.asarray(nothing)), bound)
    flushed = setting.dtype.name != "float16" or setting.implementation.flushes_float16
    zero_below = bounds.flushable(dtype) if flushed else 0.0
    return Expected(rows, DD(high, low), bound, dtype, zero_below, either, operation.masked, once)


def _expected_derivative(setting: Setting, x: Array, flat: list[Array], case: Case) -> tuple[Expected, Array]:
    """The expected derivative, and where it is compared: if the value is NaN, the gradient may be anything."""
    operation, mask = setting.operation, _mask(setting, x, case)
    dtype = setting.judged_in(setting.dtype)
    rows = _rows(x, _axis(setting, case))
    masked = np.zeros(rows.shape, dtype=bool)
    if mask is not None:
        rows, flat = np.where(mask, rows, -np.inf), [np.where(mask, one, 0.0) for one in flat]
        masked = ~mask | ~mask.any(-1, keepdims=True)
    if not rows.size:
        return Expected(rows, DD(rows, rows), rows, dtype), masked
    found = exact(operation.exact, rows, dtype)
    entry = getattr(operation, _DEFINED.get(case.kind, case.kind))
    high, low = entry.value(found, *flat)

    def most(found: Any, dtype: Finfo, *flat: Array) -> Array:
        allowed = entry.bound(found, dtype, *flat)
        if setting.implementation.composed and operation.takes_axis:
            allowed = allowed + bounds.through_maximum(found, dtype.wide, allowed, flat)
        return np.asarray(allowed)

    # No gradient comes from an infinite logit, and exactly none, unless -inf is what it gives.
    exact_there = masked | (np.isinf(rows) & (operation.masked == 0.0))
    bound, once = np.where(exact_there, 0.0, bounds.allowed(most, found, high, dtype, *flat)), None
    if dtype.wide.precision > dtype.precision and not dtype.computed_in:
        once = np.where(exact_there, 0.0, bounds.rounded_once(most, found, high, dtype, *flat))
    high, low = (np.where(masked, 0.0, part) for part in (high, low))
    usable = found.regular | masked
    if mask is not None and setting.conventions.get("masked-row", "zeros") != "zeros":
        usable = usable & mask.any(-1, keepdims=True)
    high, low = (np.where(usable, part, 0.0) for part in (high, low))
    return Expected(rows, DD(high, low), bound, dtype, bounds.gradient_flushable(dtype), once=once), usable
