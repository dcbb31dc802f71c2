"""Open-ended search: calls that nobody listed, judged as every case is, and the smallest one that fails as a result.

Knows how a call is put to a subject and judged; what is drawn is the strategies' knowledge. Needs the extra ``search``.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polylogit.conformance.calls import KINDS, Call
from polylogit.conformance.examine import quietly, result_of
from polylogit.conformance.judge import Outcome
from polylogit.conformance.results import SEARCH
from polylogit.errors import BackendUnavailableError, ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.conformance.results import Result

__all__ = ["answered", "kinds", "replayed", "searched"]

_PLAINER = 24  # so many logits of what was found are looked at one by one
_TRIES = re.compile(r"(\d+) tries of (\w+)")


def kinds(context: Context) -> tuple[str, ...]:
    """What can be asked of the subject: its values, and the derivatives that it has."""
    subject = context.subject
    offered = {"values": True, "vjp": subject.differentiates, "jvp": subject.differentiates_forward}
    return tuple(kind for kind in KINDS if offered[kind])


def answered(context: Context, call: Call) -> Outcome:
    """One call, judged. Only a matrix along its last axis is what every kernel must serve."""
    context.any_order = True
    plain = call.x.ndim == 2 and call.axis == -1 and call.where is None  # noqa: PLR2004
    if call.kind == "values":
        return context.values(call.x, call.axis, where=call.where, optional=not plain)
    runs: dict[str, Callable[..., Any]] = {"vjp": context.subject.pull, "jvp": context.subject.push}
    run = runs[call.kind]
    # Of a kernel that brings no gradient of its own, the framework may be unable to differentiate it.
    optional = not plain or (context.subject.own and context.subject.vjp is None)
    return context.derivative(call.kind, call.x, [call.g], call.axis, run, optional=optional, where=call.where)  # type: ignore[list-item]


def searched(context: Context, max_examples: int) -> Iterator[Result]:
    """Search for a call that fails; one result for each kind of call."""
    if max_examples < 1:
        message = f"search={max_examples!r} tries nothing; give the number of calls to try, for example 500."
        raise ConformanceError(message)
    for kind in kinds(context):
        yield _search(context, kind, max_examples)


def replayed(context: Context, case: str) -> Result:
    """The result that has this case in its id: one call, or a whole search that found nothing."""
    if whole := _TRIES.fullmatch(case):
        return _search(context, whole[2], int(whole[1]))
    call = Call.of(case)
    return result_of(context, SEARCH, case, quietly(lambda: answered(context, call)))


def _search(context: Context, kind: str, max_examples: int) -> Result:
    try:
        from polylogit.conformance import strategies  # noqa: PLC0415  hypothesis only where it is used
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        message = 'the search for counterexamples needs hypothesis; install it with: pip install "polylogit[search]"'
        raise BackendUnavailableError(message, name="hypothesis") from None
    tries = _Tries(context)
    drawn = strategies.calls(
        context.operation.name,
        context.dtype.name,
        kind,
        axis=context.subject.offers_axis,
        where=context.subject.offers_where and (kind == "values" or context.subject.vjp is None),
    )
    found = strategies.smallest(drawn, tries.fails, max_examples=max_examples, seed=context.seed)
    if found is None:
        return result_of(context, SEARCH, f"{max_examples} tries of {kind}", tries.verdict())
    found = _plainer(found, lambda call: quietly(lambda: answered(context, call)).verdict == "failed")
    outcome = quietly(lambda: answered(context, found))
    if outcome.verdict != "failed":
        outcome = tries.last
        outcome.message += "; the same call has passed as well: the implementation does not repeat itself"
    return result_of(context, SEARCH, found.line(context.dtype), outcome)


def _plainer(call: Call, fails: Callable[[Call], bool]) -> Call:
    """Each logit as near to 0 as it fails still; hypothesis does not leave the list that it drew one from."""
    for index in range(min(call.x.size, _PLAINER)):
        value = float(call.x.flat[index])
        size = min(abs(value), 2.0**60) if value == value else 2.0**60
        for step in (0.0, *(2.0**power for power in range(61))):
            if step >= size:
                break
            nearer = _with(call, index, math.copysign(step, value))
            if not fails(nearer):
                continue
            low, high = step / 2.0, step
            while high - low > 1.0:
                middle = (low + high) // 2.0
                if fails(closer := _with(call, index, math.copysign(middle, value))):
                    high, nearer = middle, closer
                else:
                    low = middle
            call = nearer
            break
    return call


def _with(call: Call, index: int, value: float) -> Call:
    x = call.x.copy()
    x.flat[index] = value + 0.0  # no minus zero
    return replace(call, x=x)


class _Tries:
    """What the calls of one search came to."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._passed = self._numbers = 0
        self._worst: float | None = None
        self._told = False
        self._refused = ""
        self.last = Outcome()

    def fails(self, call: Any) -> bool:
        """Whether a call fails."""
        outcome = quietly(lambda: answered(self._context, call))
        if outcome.verdict == "failed":
            self.last = outcome
            return True
        if outcome.verdict != "passed":
            self._refused = outcome.message
            return False
        self._passed += 1
        self._numbers += outcome.cases
        self._told |= not outcome.vacuous
        if outcome.error is not None:
            self._worst = max(outcome.error, self._worst or 0.0)
        return False

    def verdict(self) -> Outcome:
        """Of a search that found nothing."""
        if not self._passed:
            return Outcome("unsupported", message=self._refused)
        if not self._told:
            return Outcome("inconclusive", message="no call that was tried could have failed")
        return Outcome(error=self._worst, cases=self._numbers)
