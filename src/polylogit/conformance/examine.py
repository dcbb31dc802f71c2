"""Running the checks on one subject, in this process: from trials to results.

Knows subjects, checks and results; processes and reports are others' business.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from polylogit.conformance.checks import CHECKS, OF_STORAGE
from polylogit.conformance.context import Context, refusal
from polylogit.conformance.judge import Outcome
from polylogit.conformance.results import Result
from polylogit.errors import ConformanceError
from polylogit.spec.dtypes import dtypes_named
from polylogit.spec.operations import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from polylogit.conformance.subject import Subject
    from polylogit.spec.dtypes import Array

    Keep = Callable[[Result, Array], None]

__all__ = ["LEVELS", "examine", "not_served", "quietly", "result_of"]

LEVELS = ("quick", "full")

# Checks whose values are compared between backends.
_COMPARED = ("values", "vjp")


def examine(
    subject: Subject,
    level: str = "full",
    seed: int = 0,
    dtypes: Iterable[str] | None = None,
    checks: Sequence[str] | None = None,
    only: str | None = None,
    keep: Keep | None = None,
    formats: Sequence[str] | None = None,
    search: int = 0,
) -> Iterator[Result]:
    """Every check on one subject, result by result.

    Parameters
    ----------
    subject : Subject
    level : {"quick", "full"}
    seed : int
    dtypes : iterable of str, optional
        Those asked for must be served; by default those that the subject serves are.
    checks : sequence of str, optional
        Names in `CHECKS`.
    only : str, optional
        The one case to run.
    keep : callable, optional
        ``keep(result, values)`` gets the values of the cases that backends are compared on.
    formats : sequence of str, optional
        Of the dtypes that the subject serves, those to run; unlike `dtypes`, not serving them is no failure.
    search : int, optional
        How many calls that nobody listed to try besides, of each dtype and kind; see `polylogit.conformance.searching`.
    """
    if level not in LEVELS:
        message = f"level={level!r} does not exist; the levels are {' and '.join(LEVELS)}."
        raise ConformanceError(message)
    entry = DEFINITIONS[subject.operation]
    served = 0
    refused: list[Result] = []
    # A kernel is asked for float8 only where it says that it serves it; of a backend the contract promises it, though
    # at level quick there is no time for the frameworks that compile each shape anew.
    storage = not subject.own and (level == "full" or not subject.backend.always_compiles)
    for dtype in dtypes_named(formats or dtypes, storage=storage):
        if dtype.computed_in and not storage and dtypes is None:
            continue
        context = Context(subject, entry, dtype, level, seed)
        no = not_served(context, asked=dtypes is not None)
        if no is not None:
            refused.append(no)
            continue
        served += 1
        for name in (OF_STORAGE if context.sparse else CHECKS) if checks is None else checks:
            yield from _check(context, name, only, keep)
        if search:
            from polylogit.conformance.searching import searched  # noqa: PLC0415  it needs this module

            yield from searched(context, search)
    if not served and formats is None:
        for result in refused:
            if result.details.pop("raised", False):
                result.verdict = "failed"
    yield from refused


def not_served(context: Context, *, asked: bool) -> Result | None:
    """Why a format is not asked for, if it is not."""
    subject, dtype = context.subject, context.dtype
    result = Result(subject.name, subject.operation, "dtypes", dtype.name, "served", "unsupported", seed=context.seed)
    if not subject.keeps(dtype):
        result.message = f"{subject.backend.name} has no {dtype.name} arrays here"
        return result
    if said := subject.declines(dtype):
        result.message = said
        return result
    with _quiet():
        answer = subject.answer(subject.array(np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]]), dtype.name))
    if answer.error is None or not refusal(answer.error, subject, optional=True):
        return None
    result.message = f"refused with {type(answer.error).__name__}: {answer.error}"
    result.details = {"raised": not isinstance(answer.error, NotImplementedError)}
    if asked and not isinstance(answer.error, NotImplementedError):
        result.verdict = "failed"
    return result


class _quiet:  # noqa: N801  a context manager
    """Warnings of the code under test are not what is being checked."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()

    def __exit__(self, *_: object) -> None:
        self._errors.__exit__(None, None, None)
        self._warnings.__exit__(None, None, None)


def _check(context: Context, name: str, only: str | None, keep: Keep | None) -> Iterator[Result]:
    verdicts: dict[str, int] = defaultdict(int)
    told = False
    context.keep_values = keep is not None and name in _COMPARED
    for trial in CHECKS[name](context):
        if only is not None and trial.case != only:
            continue
        outcome = quietly(trial.run)
        result = result_of(context, name, trial.case, outcome)
        verdicts[outcome.verdict] += 1
        told |= outcome.verdict == "passed" and not outcome.vacuous
        if keep is not None and outcome.values is not None:
            keep(result, outcome.values)
        yield result
    if verdicts["passed"] and not told and not verdicts["failed"] and only is None:
        message = "no case of this check could have failed: a constant would have passed each"
        yield result_of(context, name, "all", Outcome("inconclusive", message=message))


def quietly(run: Callable[[], Outcome]) -> Outcome:
    """Run a trial; warnings of the code under test are not what is being checked."""
    try:
        with _quiet():
            return run()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the framework may refuse to make the array
        return Outcome("inconclusive", message=f"the case could not be set up: {type(error).__name__}: {error}")


def result_of(context: Context, check: str, case: str, outcome: Outcome) -> Result:
    """What a case came to, under its full name."""
    return Result(
        subject=context.subject.name,
        operation=context.operation.name,
        check=check,
        dtype=context.dtype.name,
        case=case,
        verdict=outcome.verdict,
        error=outcome.error,
        message=outcome.message,
        details=outcome.details,
        length=outcome.length,
        distance=outcome.distance,
        seed=context.seed,
        cases=outcome.cases,
    )
