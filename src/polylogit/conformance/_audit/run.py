"""`audit`: runs a test on stand-ins that compute nothing, on the faults of the catalogue, and on right implementations.

Knows the catalogue, the exact values and the rules of comparison; no framework.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from polylogit._progress import steps
from polylogit._spec import bounds
from polylogit._spec.doubledouble import DD
from polylogit._spec.dtypes import dtypes_named
from polylogit._spec.exact import exact
from polylogit._spec.operations import definition
from polylogit.conformance._audit import rules
from polylogit.conformance._audit.inputs import LOSSES, Input, Loss, cotangent, inputs, loss
from polylogit.conformance._audit.result import INPUTS, TOLERANCE, Audit, Outcome
from polylogit.conformance._catalogue import CATALOGUE, NEEDS, RIGHT, Fault
from polylogit.conformance._catalogue.steps import RIGHT as USUAL
from polylogit.conformance._compare import Expected
from polylogit.conformance._compare import compare as compared
from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._operations import OperationName
    from polylogit._spec.dtypes import Array, Finfo
    from polylogit._spec.operations import Definition

__all__ = ["audit"]

_DTYPES = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}
_DTYPES |= {"fp64": "float64", "double": "float64"}
_AUDITED = ("float16", "bfloat16", "float32", "float64")
# Needs that no comparison of two results can meet; whether the others are met depends on the array and the axis.
_NEVER = ("mask", "dtype argument", "dtype", "integers", "calls")


@dataclass(frozen=True, slots=True)
class _Test:
    """The audited test: what it compares, and how."""

    operation: Definition
    dtype: Finfo
    reference: Finfo
    gradient: bool
    axis: Any
    compare: Any
    terms: rules.Terms
    loss: str


@dataclass(slots=True, eq=False)
class _Case:
    """One input with the right answer, in rows.

    Attributes
    ----------
    one : Input
    g : array or None
        The cotangent, in the input's shape.
    right : array
        The right answer, rounded to the dtype of the reference.
    expected : Expected
        Exact values with the bound of the kit; for 16 bits the bound for rounding once.
    usual : array
        The result of the usual implementation, in the input's shape and dtype.
    loss : Loss or None
        The loss, if the test compares a loss instead of the result.
    usual_margin : float or None
        The error of the usual implementation in multiples of the tolerance, once computed.
    """

    one: Input
    g: Array | None
    right: Array
    expected: Expected
    usual: Array
    loss: Loss | None
    usual_margin: float | None = None


def audit(
    inputs: Any,
    operation: OperationName,
    *,
    atol: float,
    rtol: float,
    dtype: Any = "float32",
    axis: Any = -1,
    gradient: bool = False,
    cotangent: Any = None,
    compare: Any = "allclose",
    compared: Literal["result", "nll", "mean nll", "sum nll"] = "result",
    reference: Any = None,
    equal_nan: bool = False,
    digits: int = 0,
    rows: int | None = None,
    seed: int = 0,
) -> Audit:
    """Show what a test of softmax, log_softmax or sigmoid would let through.

    The audit runs the test on stand-ins (zeros, a constant, the input, results in another order), on every fault of
    the catalogue, and on right implementations of many kinds.

    Parameters
    ----------
    inputs : array, list of arrays, or callable
        The logits of the test; the test passes if it passes for each array. A callable is called with a
        ``numpy.random.Generator``, or without arguments if it takes none; `polylogit.conformance.drawing` makes such a
        callable from a shape and a distribution. Values are rounded to `dtype`.
    operation : str
        The operation that the test tests.
    atol, rtol : float
        The tolerances of the test.
    dtype : dtype or str, optional
        The dtype of the logits and the results: float16, bfloat16, float32 or float64.
    axis : int, tuple of int or None, optional
        The axis over which the test normalises.
    gradient : bool, optional
        Whether the test compares the gradient instead of the value.
    cotangent : str, array or callable, optional
        The cotangent of the gradient: "normal" (the default), "uniform", "ones", that of a loss ("nll", "mean nll",
        "sum nll"), an array in the shape of the logits, or a callable of a random generator and that shape.
    compare : str, callable or sequence, optional
        How the test compares results; see Notes. A callable takes the two arrays (bfloat16 as float32) and returns
        whether they are close, or raises AssertionError. If a sequence is given, all must pass.
    compared : {"result", "nll", "mean nll", "sum nll"}, optional
        For log_softmax, whether the test compares the result, or the negative log-likelihood of a class in each row,
        like a test of cross-entropy.
    reference : dtype or str, optional
        The dtype of the expected values, by default that of the results. They are compared in the wider of the two.
    equal_nan : bool, optional
        Whether NaN is close to NaN.
    digits : int, optional
        The number of digits after the decimal point, for "rounded".
    rows : int, optional
        How many rows of each array to use, as representatives of all; by default as many as take seconds.
    seed : int, optional
        The seed of everything random.

    Returns
    -------
    Audit

    Raises
    ------
    ConformanceError
        For inputs, a dtype or a comparison that cannot be audited.
    UnknownOperationError
        For an operation that does not exist.

    Notes
    -----
    The comparisons, where ``off`` is the difference and ``ref`` the right answer:

    ================= ======================================================================
    "allclose"        ``|off| <= atol + rtol |ref|``, as NumPy's and PyTorch's
    "maximum"         ``max |off| <= atol + rtol max |ref|``
    "mean"            ``mean |off| <= atol + rtol mean |ref|``
    "relative"        ``|off| / (|ref| + atol) <= rtol``
    "cosine"          ``1 - cosine similarity <= atol``
    "rounded"         equal after rounding to `digits` digits
    "baseline"        ``max |off|`` at most `rtol` (2 if it is 0) times that of a plain
                      implementation, plus `atol`
    "flash-attention" the same with twice, plus twice the error of adding and subtracting 0.3
    "row sums"        ``|sum - 1| <= atol + rtol``; a name may come with its own tolerances,
                      as in ``("row sums", 1e-4, 0.0)``
    ================= ======================================================================

    A fault passes because the tolerance hides it, or because its result is right on these inputs; the bounds of the kit
    decide which. A fault that concerns another dtype, a mask, another axis or more than one call does not apply.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> x = 5 * np.random.default_rng(0).normal(size=(8, 512))
    >>> found = conformance.audit(x, "softmax", atol=1e-3, rtol=1e-3, dtype="float32")
    >>> found
    <Audit of softmax, float32, value: zeros fail; ...>
    >>> found["epsilon_in_numerator"].reason
    'the tolerance hides it'
    """
    test = _test(
        operation, dtype, reference, axis, compare, compared, gradient, atol, rtol, equal_nan=equal_nan, digits=digits
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from faulty arithmetic
        given = _inputs(inputs, test, rows, seed)
        cases = [_case(test, one, cotangent, seed) for one in steps(given, "inputs, computed exactly")]
        faults = [fault for fault in CATALOGUE if _concerns(test, fault)]
        outcomes = [
            *_stand_ins(test, cases),
            *(_fault(test, cases, fault) for fault in steps(faults, "faults of the catalogue")),
            *_right(test, cases),
        ]
    return Audit(
        operation=test.operation.name,
        dtype=test.dtype.name,
        part="gradient" if gradient else "value" if compared == "result" else compared,
        compare=rules.name_of(compare),
        atol=float(atol),
        rtol=float(rtol),
        axis=axis if test.operation.takes_axis else None,
        shapes=tuple(one.x.shape for one in given),
        rows=sum(one.rows for one in given),
        rows_in_all=sum(one.rows_in_all for one in given),
        outcomes=tuple(outcomes),
    )


def _inputs(given: Any, test: _Test, rows: int | None, seed: int) -> tuple[Input, ...]:
    if rows is not None and rows < 1:
        message = f"rows={rows} leaves nothing to judge; give at least 1."
        raise ConformanceError(message)
    return inputs(given, test.dtype, test.axis, takes_axis=test.operation.takes_axis, rows=rows, seed=seed)


def _test(
    operation: str,
    dtype: Any,
    reference: Any,
    axis: Any,
    compare: Any,
    compared: str,
    gradient: bool,
    atol: float,
    rtol: float,
    *,
    equal_nan: bool,
    digits: int,
) -> _Test:
    defined = definition(operation)
    kind = _dtype(dtype)
    rules.check(compare)
    for name, value in (("atol", atol), ("rtol", rtol)):
        if not 0 <= value < math.inf:
            message = f"{name}={value!r} is no tolerance; give a finite number that is not negative."
            raise ConformanceError(message)
    if compared not in ("result", *LOSSES):
        message = f"compared={compared!r} is not known; it is 'result', {', '.join(map(repr, LOSSES))}."
        raise ConformanceError(message)
    if compared != "result" and (defined.name != "log_softmax" or gradient):
        message = f"compared={compared!r} is a loss of log_softmax's values; of gradients, choose it by cotangent=."
        raise ConformanceError(message)
    totals = _totals(defined.name)
    terms = rules.Terms(float(atol), float(rtol), equal_nan, digits, kind, totals=totals)
    wide = kind if reference is None else _dtype(reference)
    return _Test(defined, kind, wide, gradient, axis, compare, terms, "" if compared == "result" else compared)


def _dtype(dtype: Any) -> Finfo:
    named = _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    (found,) = dtypes_named([named])
    if found.name not in _AUDITED:
        message = f"dtype={found.name} cannot be audited, since the catalogue has no faults of it; it has "
        raise ConformanceError(message + f"{', '.join(_AUDITED)}.")
    return found


def _totals(operation: str) -> Callable[[Array], Array]:
    if operation == "log_softmax":
        return lambda y: np.asarray(np.exp(y).sum(-1))
    return lambda y: np.asarray(y.sum(-1))


# --- what is right ---------------------------------------------------------------------------------------------------


def _case(test: _Test, one: Input, given: Any, seed: int) -> _Case:
    kind, operation = test.dtype, test.operation
    g = cotangent(given, one, kind, seed) if test.gradient else None
    rows = one.flat(one.x.astype(np.float64))
    directions = [one.flat(g.astype(np.float64))] if g is not None else []
    value, limit = _exactly(test, rows, directions) if rows.size else (DD(rows, rows), rows)
    usual = USUAL[operation.name][1 if test.gradient else 0]
    loss_of = loss(one, test.loss, seed) if test.loss else None
    case = _Case(
        one=one,
        g=g,
        right=test.reference.round(value.hi),
        expected=Expected(rows, value, limit, kind),
        usual=np.asarray(usual(*_arguments(test, one, g))),
        loss=loss_of,
    )
    if test.loss:
        assert loss_of is not None
        case.right = test.reference.round(loss_of.of(value.hi))
    return case


def _exactly(test: _Test, rows: Array, directions: list[Array]) -> tuple[DD, Array]:
    """The exact values and their bounds; for 16 bits, those of float32 arithmetic that is rounded once."""
    kind, operation = test.dtype, test.operation
    found = exact(operation.exact, rows, kind)
    if test.gradient:
        value, bound = operation.vjp.value(found, *directions), operation.vjp.bound
    else:
        value, bound = operation.value(found), operation.bound
    allowed = bounds.rounded_once if kind.wide.precision > kind.precision else bounds.allowed
    limit = allowed(bound, found, value.hi, kind, *directions)
    limit = np.where(np.isinf(rows) & (value.hi == 0), 0.0, limit)  # 0 is exact there
    return _special(operation, value, found.regular, rows, gradient=test.gradient), limit


def _special(operation: Definition, value: DD, regular: Array, rows: Array, *, gradient: bool) -> DD:
    """The exact values, with NaN for rows that have none, and the limits at infinities."""
    high, low = value
    high, low = np.where(regular, high, np.nan), np.where(regular, low, 0.0)
    if not gradient and operation.at_infinity is not None:
        high = np.where(np.isposinf(rows), operation.at_infinity, high)
    return DD(high, low)


def _arguments(test: _Test, one: Input, g: Array | None) -> tuple[Any, ...]:
    arrays = (one.x,) if g is None else (one.x, g)
    return (*arrays, test.axis) if test.operation.takes_axis else arrays


# --- the test itself -------------------------------------------------------------------------------------------------


def _margin(test: _Test, case: _Case, got: Array) -> float:
    """The error of a result as the test sees it, in multiples of its tolerance."""
    if got.shape != case.one.x.shape:
        return math.inf
    if _same(case, got):  # true of many faults, if the inputs do not show them
        if case.usual_margin is None:
            case.usual_margin = _compared(test, case, case.usual)
        return case.usual_margin
    return _compared(test, case, got)


def _compared(test: _Test, case: _Case, got: Array) -> float:
    terms = replace(test.terms, baseline=_seen(case, case.usual))
    return rules.margin(test.compare, _seen(case, got), case.right, terms)


def _seen(case: _Case, result: Array) -> Array:
    """The part of a result that the test compares."""
    rows = case.one.flat(np.asarray(result).astype(np.float64))
    return rows if case.loss is None else case.loss.of(rows)


def _is_wrong(case: _Case, got: Array) -> bool:
    """Whether a result is wrong by the bounds of the kit."""
    if got.shape != case.one.x.shape or _same(case, got):
        return bool(got.shape != case.one.x.shape)
    return compared(case.expected, case.one.flat(got.astype(np.float64))).verdict != "passed"


def _worst(test: _Test, cases: list[_Case], results: list[Array]) -> tuple[float, bool]:
    """The largest margin over the inputs, and whether a result is wrong although the margin does not show it."""
    margin = max(_margin(test, *pair) for pair in zip(cases, results, strict=True))
    return margin, margin <= 1.0 and any(_is_wrong(*pair) for pair in zip(cases, results, strict=True))


def _said(name: str, kind: str, margin: float, is_wrong: bool, **facts: Any) -> Outcome:
    if margin <= 1.0:
        return Outcome(name, kind, "passed", TOLERANCE if is_wrong else INPUTS, margin, **facts)
    return Outcome(name, kind, "caught", "", margin, **facts)


# --- what computes nothing -------------------------------------------------------------------------------------------


def _stand_ins(test: _Test, cases: list[_Case]) -> list[Outcome]:
    """The outcomes of zeros, constants, the input, and results in another order; for several candidates, the best."""
    made = [_candidates(test, case) for case in cases]
    out = []
    for name in dict.fromkeys(name for candidates in made for name in candidates):
        each = [candidates.get(name, [case.usual]) for candidates, case in zip(made, cases, strict=True)]
        tried = []
        for at in range(max(map(len, each))):
            tried.append(_worst(test, cases, [one[min(at, len(one) - 1)] for one in each]))
        margin, wrong = min(tried)
        out.append(_said(name, "stand-in", margin, wrong))
    return out


def _candidates(test: _Test, case: _Case) -> dict[str, list[Array]]:
    one, dtype = case.one, test.dtype.dtype
    exact_rows = case.expected.exact.hi
    usual = one.flat(case.usual.astype(np.float64))
    made: dict[str, list[Array]] = {
        "zeros": [np.zeros(one.x.shape, dtype)],
        "a constant": [np.full(one.x.shape, level, dtype) for level in _levels(test, case)],
        "the input": [one.x.astype(dtype)],
    }
    if test.operation.masked == -math.inf and not test.gradient:
        x = one.flat(one.x.astype(np.float64))
        finite = x[np.isfinite(x) & np.isfinite(exact_rows)] - exact_rows[np.isfinite(x) & np.isfinite(exact_rows)]
        levels = {float(finite.mean()), float((finite.min() + finite.max()) / 2)} if finite.size else {0.0}
        made["the input less a constant"] = [
            one.back(test.dtype.round(x - level)).astype(dtype) for level in sorted(levels)
        ]
    if case.g is not None:
        made["the cotangent"] = [case.g]
    made["entries in reverse order"] = [one.back(usual[:, ::-1]).astype(dtype)]
    made["rows in another order"] = [one.back(np.roll(usual, 1, axis=0)).astype(dtype)]
    if not test.operation.takes_axis or one.rows == 1:
        del made["rows in another order"]
    return made


def _levels(test: _Test, case: _Case) -> list[float]:
    """The constants that are closest, in one sense or another, to the values that the test compares."""
    # A single number, as a mean is, would be its own constant; that is no finding.
    values = -case.right if case.right.ndim == 1 and case.right.size > 1 else case.expected.exact.hi
    finite = values[np.isfinite(values)]
    if not finite.size:
        return [0.0]
    low, high = float(finite.min()), float(finite.max())
    levels = [float(finite.mean()), (low + high) / 2, float(np.median(finite))]
    if low * high > 0:
        levels.append(2 * low * high / (low + high))  # as far from either, relative to it
    return [level for level in dict.fromkeys(levels) if abs(level) <= test.dtype.max] or [0.0]


# --- the catalogue ---------------------------------------------------------------------------------------------------


def _concerns(test: _Test, fault: Fault) -> bool:
    return fault.operation == test.operation.name and (fault.part == "gradient") == test.gradient


def _fault(test: _Test, cases: list[_Case], fault: Fault) -> Outcome:
    facts: dict[str, Any] = {"wrong": fault.wrong, "reports": fault.reports}
    reason = _reason(test, cases, fault)
    if reason:
        return Outcome(fault.name, "fault", "not applicable", reason, **facts)
    results = []
    for case in cases:
        try:
            function = fault.vjp if test.gradient else fault.function
            assert function is not None
            results.append(np.asarray(function(*_arguments(test, case.one, case.g))))
        except Exception:  # noqa: BLE001  whatever it raises, the test does not pass
            return Outcome(fault.name, "fault", "caught", "raises an exception", math.inf, **facts)
    if fault.needs and all(_same(case, result) for case, result in zip(cases, results, strict=True)):
        return Outcome(fault.name, "fault", "not applicable", f"needs {NEEDS[fault.needs]}", **facts)
    return _said(fault.name, "fault", *_worst(test, cases, results), **facts)


def _reason(test: _Test, cases: list[_Case], fault: Fault) -> str:
    """Why a fault does not apply; empty if that is unknown before it is tried."""
    if fault.dtypes and test.dtype.name not in fault.dtypes:
        return f"concerns {' and '.join(fault.dtypes)} alone"
    if fault.needs in _NEVER:
        return f"needs {NEEDS[fault.needs]}"
    if any(case.one.rows < fault.least_rows <= case.one.rows_in_all for case in cases):
        return f"shows from {fault.least_rows:,} rows on, and fewer were used"
    return ""


def _same(case: _Case, result: Array) -> bool:
    return result.shape == case.usual.shape and result.tobytes() == case.usual.tobytes()


def _right(test: _Test, cases: list[_Case]) -> list[Outcome]:
    out = []
    for name, (operation, function, vjp) in RIGHT.items():
        chosen = vjp if test.gradient else function
        if operation != test.operation.name or chosen is None:
            continue
        results = []
        try:
            for case in cases:
                result = chosen(*_arguments(test, case.one, case.g))
                results.append(np.asarray(result[0] if isinstance(result, tuple) else result))
        except Exception as error:  # noqa: BLE001  they refuse what they were not written for
            out.append(Outcome(name, "right", "not applicable", f"refuses: {error}"))
            continue
        margin, _ = _worst(test, cases, results)
        out.append(Outcome(name, "right", "passed" if margin <= 1.0 else "caught", "", margin))
    return out
