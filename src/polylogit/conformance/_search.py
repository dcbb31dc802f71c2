"""The random search: runs and compares random calls like any case, and reports the smallest one that fails.

Knows how a call becomes a case; the strategies know what to draw. Needs the extra ``search``.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit._extras import command
from polylogit.conformance._case import Case
from polylogit.conformance._compare import Comparison
from polylogit.conformance._data.reproducer import KINDS, Call
from polylogit.conformance._results import SEARCH
from polylogit.conformance._run_case import result_of, run
from polylogit.errors import BackendUnavailableError, ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance._case import Setting
    from polylogit.conformance._results import Result

_PLAINER = 24  # so many logits of what was found are looked at one by one
_TRIES = re.compile(r"(\d+) tries of (\w+)")


def _kinds(setting: Setting) -> tuple[str, ...]:
    """The kinds of calls to search: values, and the derivatives that the implementation has."""
    implementation = setting.implementation
    offered = (True, implementation.differentiates, implementation.differentiates_forward)
    return tuple(kind for kind, has in zip(KINDS, offered, strict=True) if has)


def _answered(setting: Setting, call: Call) -> Comparison:
    """One call, compared with exact values. Only a matrix along its last axis is required of every kernel."""
    plain = call.x.ndim == 2 and call.axis == -1 and call.where is None
    # Of a kernel that brings no gradient of its own, the framework may be unable to differentiate it.
    optional = not plain or (call.kind != "values" and setting.implementation.composed)
    directions = () if call.g is None else (call.g,)
    options: dict[str, Any] = {"where": call.where, "optional": optional, "eager": True}
    return run(setting, Case("", call.x, call.kind, directions, call.axis, **options))


def searched(setting: Setting, max_examples: int) -> Iterator[Result]:
    """Search for a call that fails; one result for each kind of call."""
    if max_examples < 1:
        message = f"search={max_examples!r} tries nothing; give the number of calls to try, for example 500."
        raise ConformanceError(message)
    for kind in _kinds(setting):
        yield _search(setting, kind, max_examples)


def replayed(setting: Setting, case: str, watch: list[tuple[Setting, Comparison]] | None = None) -> Result:
    """The result of the case in an id: one call, or a whole search that found nothing."""
    if whole := _TRIES.fullmatch(case):
        return _search(setting, whole[2], int(whole[1]))
    found = _answered(setting, Call.of(case))
    if watch is not None:
        watch.append((setting, found))
    return result_of(setting, SEARCH, case, found)


def _search(setting: Setting, kind: str, max_examples: int) -> Result:
    imported = "hypothesis" in sys.modules
    try:
        from polylogit.conformance import strategies  # hypothesis only where it is used
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        message = f"the search for counterexamples needs hypothesis; install it with: {command('search')}"
        raise BackendUnavailableError(message, name="hypothesis") from None
    if not imported:  # what it keeps for next time is not left in the folder of whoever runs the command
        from hypothesis.configuration import set_hypothesis_home_dir

        set_hypothesis_home_dir(Path(tempfile.gettempdir(), "polylogit-hypothesis"))
    tries = _Tries(setting)
    drawn = strategies.calls(
        setting.operation.name,
        setting.dtype.name,
        kind,
        axis=setting.implementation.offers_axis,
        where=setting.implementation.offers_where if kind == "values" else setting.implementation.offers_vjp_where,
    )
    smallest = strategies.smallest(drawn, tries.fails, max_examples=max_examples, seed=setting.seed)
    if smallest is None and tries.ended is not None:
        call, found = tries.ended
        return result_of(setting, SEARCH, call.line(setting.dtype), found)
    if smallest is None:
        return result_of(setting, SEARCH, f"{max_examples} tries of {kind}", tries.verdict())
    smallest = _plainer(smallest, lambda call: _answered(setting, call).verdict == "failed")
    found = _answered(setting, smallest)
    if found.verdict != "failed":
        found = tries.last
        found.message += "; the same call has passed as well: the implementation does not repeat itself"
    return result_of(setting, SEARCH, smallest.line(setting.dtype), found)


def _plainer(call: Call, fails: Callable[[Call], bool]) -> Call:
    """Move each logit as near to 0 as it still fails, because hypothesis stays within the list it drew from."""
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
    """The outcomes of the calls of one search."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._passed = self._numbers = 0
        self._worst: float | None = None
        self._told = False
        self._refused = ""
        self.last = Comparison()
        self.ended: tuple[Call, Comparison] | None = None

    def fails(self, call: Any) -> bool:
        """Whether a call fails."""
        found = _answered(self._setting, call)
        if found.verdict == "failed":
            self.last = found
            return True
        if found.verdict in ("crashed", "timeout"):
            # Shrinking would crash or wait once more for each step.
            self.ended = self.ended or (call, found)
            return False
        if found.verdict != "passed":
            self._refused = found.message
            return False
        self._passed += 1
        self._numbers += found.cases
        self._told |= not found.vacuous
        if found.error is not None:
            self._worst = max(found.error, self._worst or 0.0)
        return False

    def verdict(self) -> Comparison:
        """The verdict of a search that found nothing."""
        if not self._passed:
            return Comparison("unsupported", message=self._refused)
        if not self._told:
            return Comparison("inconclusive", message="no call that was tried could have failed")
        return Comparison(error=self._worst, cases=self._numbers)
