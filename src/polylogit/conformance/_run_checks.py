"""Runs the checks on one implementation in this process, or lists the names of their cases.

Knows implementations, checks and results; nothing of processes and reports.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.dtypes import dtypes_named
from polylogit._spec.operations import DEFINITIONS
from polylogit.conformance._budget import check_level
from polylogit.conformance._case import Setting
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._compare import Comparison
from polylogit.conformance._request import EndedError, Request
from polylogit.conformance._results import WHOLE, Result
from polylogit.conformance._run_case import quiet, raised, refusal, result_of, run
from polylogit.conformance._search import searched
from polylogit.conformance._selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._request import Subject

    Watched = tuple[Setting, Comparison]


def run_checks(
    implementation: Subject,
    level: str = "full",
    seed: int = 0,
    dtypes: Iterable[str] | None = None,
    checks: Sequence[str] | None = None,
    *,
    case: str | None = None,
    kept: dict[str, Array] | None = None,
    among: Sequence[str] | None = None,
    search: int = 0,
    watch: list[Watched] | None = None,
    selection: Selection | None = None,
    invariant: bool = False,
    begin: Callable[[str], None] | None = None,
) -> Iterator[Result]:
    """Run every check on one implementation, result by result.

    Parameters
    ----------
    implementation : Subject
    level : {"quick", "full"}
    seed : int
    dtypes : iterable of str, optional
        The dtypes to run, all of which must be supported; by default those that the implementation supports.
    checks : sequence of str, optional
        The names of checks, from `CHECKS`.
    case : str, optional
        The only case to run.
    kept : dict, optional
        Receives the values of the cases that are compared between backends, by operation, check, dtype and case.
    among : sequence of str, optional
        The dtypes to run, if the implementation supports them; unlike in `dtypes`, an unsupported one is not a failure.
    search : int, optional
        The number of random calls to add, for each dtype and kind; see `polylogit.conformance._search`.
    watch : list, optional
        Receives the setting of each case and its outcome, with the numbers.
    selection : Selection, optional
        Selects the cases, and counts them.
    invariant : bool, optional
        Whether a row's result must have the same bits regardless of its surroundings.
    begin : callable, optional
        Called with the id of each case before it runs.
    """
    selection = selection or Selection()
    served = 0
    refused: list[Result] = []
    for setting in _settings(implementation, level, seed, dtypes, among, invariant=invariant):
        no = not_served(setting, asked=dtypes is not None, selection=selection, begin=begin)
        if no is not None and no.verdict in ("crashed", "timeout", "inconclusive"):
            yield no
        elif no is not None:
            refused.append(no)
            continue
        served += 1
        for name in _checks(setting, checks):
            yield from _check(setting, name, case, kept, selection, begin, watch)
        if search and not implementation.given_up and not selection.spent:
            yield from searched(setting, search)
    for result in refused:
        if not served and among is None and result.details.pop("raised", False):
            result.verdict = "failed"
    yield from refused
    if implementation.given_up:
        said = f"{implementation.given_up}; {selection.left_out['given up']} cases were not run"
        yield Result(implementation.name, implementation.operation, verdict="inconclusive", message=said, seed=seed)


def list_cases(
    implementation: Subject,
    level: str = "full",
    seed: int = 0,
    dtypes: Iterable[str] | None = None,
    checks: Sequence[str] | None = None,
    *,
    among: Sequence[str] | None = None,
    selection: Selection | None = None,
) -> Iterator[str]:
    """The ids of the cases that `run_checks` would run if every available dtype is supported; runs none."""
    for setting in _settings(implementation, level, seed, dtypes, among):
        if implementation.keeps(setting.dtype) and not implementation.declines(setting.dtype):
            for name in _checks(setting, checks):
                for case in CHECKS[name](setting):
                    identifier = result_of(setting, name, case.name, Comparison()).id
                    if selection is None or not selection.why_not(name, case, identifier):
                        yield identifier


def count_cases(
    implementations: Iterable[Subject],
    level: str,
    seed: int = 0,
    dtypes: Iterable[str] | None = None,
    checks: Sequence[str] | None = None,
    selection: Selection | None = None,
) -> dict[str, int]:
    """The number of cases for each operation and dtype, as ``"softmax float32"``, if supported; runs none."""
    asked, counts = selection or Selection(), Counter[str]()
    for implementation in implementations:
        for setting in _settings(implementation, level, seed, dtypes, None):
            if implementation.keeps(setting.dtype) and not implementation.declines(setting.dtype):
                for name in _checks(setting, checks):
                    for case in CHECKS[name](setting):
                        wanted = asked.wants(name, case, result_of(setting, name, case.name, Comparison()).id)
                        counts[f"{implementation.operation} {setting.dtype.name}"] += wanted
    return dict(counts)


def _settings(
    implementation: Subject,
    level: str,
    seed: int,
    dtypes: Iterable[str] | None,
    among: Sequence[str] | None,
    *,
    invariant: bool = False,
) -> Iterator[Setting]:
    check_level(level)
    entry = DEFINITIONS[implementation.operation]
    for dtype in dtypes_named(among or dtypes, storage=True):
        setting = Setting(implementation, entry, dtype, level, seed, invariant)
        if dtypes is not None or not dtype.computed_in or setting.budget("storage dtypes"):
            yield setting


def _checks(setting: Setting, checks: Sequence[str] | None) -> Sequence[str]:
    return (setting.budget("checks") or tuple(CHECKS)) if checks is None else checks


def not_served(
    setting: Setting, *, asked: bool, selection: Selection, begin: Callable[[str], None] | None
) -> Result | None:
    """Why a dtype is not tested; empty if it is."""
    implementation, dtype = setting.implementation, setting.dtype
    result = result_of(setting, "dtypes", "served", Comparison("unsupported"))
    if said := implementation.lacks(dtype) or implementation.declines(dtype):
        result.message = said
        return result
    if implementation.given_up:  # its cases are only counted
        return None
    if selection.after:  # it has been asked before
        selection.after = "" if selection.after == result.id else selection.after
        return None
    if begin is not None:
        begin(result.id)
    try:
        with quiet():
            answer = implementation.ask(Request(np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]]), dtype.name))
    except EndedError as error:
        result.verdict, result.message = error.verdict, str(error)
        result.details = {"stderr": error.tail} if error.tail else {}
        return result
    except Exception as error:  # noqa: BLE001  an array that cannot even be looked at
        result.verdict, result.message = "inconclusive", f"{type(error).__name__}: {error}"
        return result
    if answer.error is None or not refusal(answer.error, implementation, optional=True):
        return None
    instead = not isinstance(answer.error, NotImplementedError)
    result.message = f"refused with {raised(answer.error)}"
    result.details = {"raised": instead}
    if asked and instead:
        result.verdict = "failed"
    return result


def _check(
    setting: Setting,
    name: str,
    only: str | None,
    kept: dict[str, Array] | None,
    selection: Selection,
    begin: Callable[[str], None] | None,
    watch: list[Watched] | None,
) -> Iterator[Result]:
    verdicts = set()
    told = False
    before = _unseen(selection)
    for case in CHECKS[name](setting):
        if only is not None and case.name != only:
            continue
        identifier = result_of(setting, name, case.name, Comparison()).id
        if setting.implementation.given_up and not selection.why_not(name, case, identifier):
            selection.left_out["given up"] += 1
            continue
        if not selection.wants(name, case, identifier):
            continue
        if begin is not None:
            begin(identifier)
        start = time.monotonic()
        found = run(setting, case)
        if watch is not None:
            watch.append((setting, found))
        result = result_of(setting, name, case.name, found)
        result.seconds = round(time.monotonic() - start, 4)
        verdicts.add(found.verdict)
        told |= found.verdict == "passed" and not found.vacuous
        # Gradients where cotangents are of one size: an absolute difference means something there.
        comparable = name == "values" or (name == "vjp" and case.name.startswith("alone-") and "huge" not in case.name)
        if kept is not None and found.values is not None and comparable:
            kept[f"{result.operation}/{name}/{result.dtype}/{case.name}"] = found.values
        yield result
    whole = only is None and _unseen(selection) == before
    if "passed" in verdicts and not told and "failed" not in verdicts and whole:
        message = "no case of this check could have failed: a constant would have passed each"
        yield result_of(setting, name, WHOLE, Comparison("inconclusive", message=message))


def _unseen(selection: Selection) -> int:
    """How many cases were left out for their size or the time: one of them may have been the one that tells."""
    return selection.left_out["max_size"] + selection.left_out["budget"]
