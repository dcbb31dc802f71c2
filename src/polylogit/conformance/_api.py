"""`run`, `sharded`, `cases`, `check`, `search`, `replay`: the public functions of `polylogit.conformance`.

Each combines the parts of the kit: it prepares jobs, has them run, and returns a report. Knows no framework and no rule
of any check.
"""

from __future__ import annotations

import platform
import time
from collections import Counter, deque
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polylogit
from polylogit.__about__ import __version__
from polylogit._info import backends as installed
from polylogit._info import information
from polylogit._progress import say
from polylogit._spec.dtypes import DTYPES, dtypes_named
from polylogit._spec.operations import DEFINITIONS, definition
from polylogit.conformance import _cross_backend, _runner, _xfail
from polylogit.conformance._budget import LEVELS, check_level
from polylogit.conformance._case import Setting
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._conventions import checked
from polylogit.conformance._implementation import implementation_of
from polylogit.conformance._machine import machine
from polylogit.conformance._replay import Replayed
from polylogit.conformance._report import Report
from polylogit.conformance._results import SEARCH, Result, held_to
from polylogit.conformance._run_checks import count_cases, run_checks
from polylogit.conformance._search import replayed
from polylogit.conformance._selection import Selection, matched
from polylogit.conformance._sharded.launch import sharded_results, split_subject
from polylogit.errors import ConformanceError, UnknownBackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from polylogit._operations import OperationName
    from polylogit._types import BackendName, Level


def run(
    backends: Iterable[BackendName] | None = None,
    operations: Iterable[OperationName] | None = None,
    *,
    level: Level = "full",
    device: str | None = None,
    isolate: bool = True,
    seed: int = 0,
    require: Iterable[str] = (),
    expected_failures: Any = None,
    strict: bool = False,
    progress: Callable[[str, dict[str, Any]], None] | None = None,
    only: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    max_size: int | None = None,
    budget: float | None = None,
) -> Report:
    """Run the conformance kit on registered backends.

    Parameters
    ----------
    backends : iterable of str, optional
        The names of the backends, by default all known ones; those that are not installed are reported as missing.
        ``"array_api:MODULE"`` names a library that follows the array API standard and needs no backend.
    operations : iterable of str, optional
        The operations, by default all.
    level : {"quick", "full"}, optional
        The number of cases.
    device : str, optional
        The device for the arrays, as the framework names it, or "cpu", "cuda" or "cuda:1" for any framework; by default
        the CPU. Unless NumPy is named in `backends`, its arrays stay on the host.
    isolate : bool, optional
        Whether to run each backend in a separate process, so that a crash is only a result.
    seed : int, optional
        The seed of the random logits.
    require : iterable of str, optional
        Backends that must be installed, or the run is inconclusive.
    expected_failures : path or list, optional
        A TOML file of expected failures, or its tables.
    strict : bool, optional
        Whether results that are less accurate than their bound fail the run, and expected failures that pass or have
        expired.
    progress : callable, optional
        ``progress(backend, event)``, called for every event.
    only, skip, max_size, budget
        As in `check`; `budget` applies to each process.

    Returns
    -------
    Report
    """
    start = time.monotonic()
    required = tuple(require)
    known, jobs = _jobs(backends, operations, level, seed, device, required)
    options = _given(only=only, skip=skip, max_size=max_size, budget=budget)
    selection = _selection(options)
    report = Report(environment=_environment(level, seed, [known[job.backend] for job in jobs]))
    report.environment["options"] = options
    missing = [known[job.backend] for job in jobs if not known[job.backend].installed]
    for info in missing:
        message = f"{info.reason or 'not installed'}; install it with: {info.install}"
        details = {"install": info.install, "required": info.name in required or backends is not None}
        report.results.append(Result(info.name, verdict="missing", message=message, details=details))
    present = [job for job in jobs if known[job.backend].installed]
    if isolate:
        with TemporaryDirectory(prefix="polylogit-") as folder:
            folders = {job.backend: Path(folder, str(place)) for place, job in enumerate(present)}
            for job in present:
                job.selection = selection
                folders[job.backend].mkdir()
                job.values, job.counting = str(folders[job.backend]), progress is not None
            _runner.run_jobs(present, progress)
            report.pairs = _cross_backend.differences(folders)
        for job in present:
            report.results.extend(sorted(job.results, key=lambda one: _place(one.id)))
            report.environment["capabilities"][job.backend] = job.capabilities
            _set_version(report, job)
        _count(report, present)
    else:
        asked = Selection(**selection)
        for job in present:
            report.environment["capabilities"][job.backend] = polylogit.get_backend(job.backend).capabilities()
            for operation in job.operations:
                implementation = implementation_of(job.backend, operation, device=job.device)
                report.results.extend(run_checks(implementation, level, seed, selection=asked))
        _count(report, [asked])
    return _finished(report, expected_failures, strict, start)


def sharded(
    backends: Iterable[BackendName] | None = None,
    *,
    level: Level = "full",
    parts: Sequence[int] = (2, 4),
    expected_failures: Any = None,
    strict: bool = False,
) -> Report:
    """Test arrays that are split over devices and processes, on every engine that has them.

    For each number of parts, this splits a PyTorch DTensor over as many processes, a JAX array over as many devices
    (with automatic partitioning, and inside ``shard_map``), and a TensorFlow tensor with a layout over as many logical
    devices. Besides values and derivatives, each case requires that the result be split like the logits, and that no
    row be gathered. The details of the results have the bytes exchanged and the memory of a part.

    Parameters
    ----------
    backends : iterable of str, optional
        The names of the backends, by default all that have split arrays; those that are not installed are reported as
        missing.
    level : {"quick", "full"}, optional
        The number of cases.
    parts : sequence of int, optional
        The numbers of parts to test.
    expected_failures, strict
        As in `run`.

    Returns
    -------
    Report
    """
    check_level(level)
    if not parts or any(isinstance(one, bool) or not isinstance(one, int) or one < 2 for one in parts):
        message = f"parts={parts!r}: an array is split into two parts or more; pass for example parts=(2, 4)."
        raise ConformanceError(message)
    start = time.monotonic()
    results = sharded_results(backends, parts, level)
    names = {result.subject.partition("+")[0] for result in results}
    report = Report(results, environment=_environment(level, 0, [one for one in installed() if one.name in names]))
    report.environment["options"] = {"sharded": list(parts)}
    return _finished(report, expected_failures, strict, start)


def cases(
    backends: Iterable[BackendName] | None = None,
    operations: Iterable[OperationName] | None = None,
    *,
    level: Level = "full",
    device: str | None = None,
    dtypes: Iterable[Any] | None = None,
    seed: int = 0,
) -> list[str]:
    """List the ids of the cases that `run` would run, without running them.

    A separate process asks each backend for what it supports, so this process imports no framework.

    Parameters
    ----------
    backends, operations, level, device, seed
        As in `run`; by default all installed backends.
    dtypes : iterable, optional
        The dtypes of the logits; by default all that a backend supports at this level.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from polylogit import conformance
    >>> ids = conformance.cases(["numpy"], ["softmax"], level="quick", dtypes=["bfloat16"])
    >>> [name for name in ids if "/axes/" in name or "/shapes/" in name]
    ['numpy/softmax/shapes/bfloat16/2x3']
    """
    known, jobs = _jobs(backends, operations, level, seed, device, ())
    present = [job for job in jobs if known[job.backend].installed]
    for job in present:
        job.listing, job.dtypes = True, deque(dtype.name for dtype in dtypes_named(dtypes, storage=True))
    waiting = {job.backend for job in present}

    def told(backend: str, event: dict[str, Any]) -> None:
        if event["event"] == "end":
            waiting.discard(backend)
            say("backends asked for their cases", len(present) - len(waiting), len(present))

    _runner.run_jobs(present, told)
    if broken := [result for job in present for result in job.results]:
        message = f"{broken[0].subject} could not be asked for its cases: {broken[0].message}"
        raise ConformanceError(message)
    return [identifier for job in present for identifier in sorted(job.listed, key=_place)]


def _place(identifier: str) -> tuple[int, int]:
    """The sort key of reports, operation and dtype, so that the order does not depend on which process ended first."""
    operation, _, dtype = identifier.split("/")[1:4]
    return (*DEFINITIONS, "").index(operation), (*DTYPES, "").index(dtype)


def _jobs(
    backends: Iterable[str] | None,
    operations: Iterable[str] | None,
    level: str,
    seed: int,
    device: str | None,
    required: Sequence[str],
) -> tuple[dict[str, Any], list[_runner.Job]]:
    check_level(level)
    chosen = tuple(DEFINITIONS) if operations is None else tuple(operations)
    for operation in chosen:
        definition(operation)
    known = {info.name: info for info in installed()}
    names = list(dict.fromkeys([*(known if backends is None else backends), *required]))
    for name in names:
        if name in known:
            continue
        if (info := information(name)) is None:
            message = f"backend {name!r} is not registered; known are {', '.join(known)}."
            raise UnknownBackendError(message)
        known[name] = info
    # If all backends run, NumPy's arrays stay on the host.
    devices = {name: None if name == "numpy" and backends is None else device for name in names}
    return known, [_runner.Job(name, chosen, level, seed, devices[name]) for name in names]


def _environment(level: str, seed: int, infos: Iterable[Any] = ()) -> dict[str, Any]:
    return {
        "polylogit": __version__,
        "python": platform.python_version(),
        **machine(),
        "level": level,
        "seed": seed,
        "backends": {info.name: info.version for info in infos if info.installed},
        "capabilities": {},
    }


def _set_version(report: Report, job: _runner.Job) -> None:
    """Report the version of the framework, not that of the plug-in that was found."""
    if job.version:
        report.environment["backends"][job.backend] = job.version


def _given(**options: Any) -> dict[str, Any]:
    """The options that differ from their defaults, as plain data."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {name: value for name, value in plain.items() if not (value is None or value is False or value in ([], {}))}


def _selection(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that select cases; raises an error if they are invalid."""
    chosen = {name: options[name] for name in ("only", "skip", "max_size", "budget") if name in options}
    Selection(**chosen)
    return chosen


def _count(report: Report, ran: Iterable[Any]) -> None:
    """Note in the report how many cases were left out, if any."""
    left_out: Counter[str] = Counter()
    for one in ran:
        left_out.update(one.left_out)
    asked = report.environment.get("options", {}).get("only", ())
    if idle := [one for one in asked if not any(matched(result.check, result.id, [one]) for result in report.results)]:
        report.environment["unmatched"] = idle
    if left_out:
        runs = sum(bool(result.case) and result.check != SEARCH for result in report.results)
        report.environment.update(left_out=dict(left_out), cases_run=runs)


def _finished(
    report: Report, expected_failures: Any, strict: bool, start: float, *, rounded_once: bool = False
) -> Report:
    for result in report.results:
        held_to(result, strict=strict, rounded_once=rounded_once)
    _xfail.apply(report, _xfail.read(expected_failures), strict=strict)
    report.environment["seconds"] = round(time.monotonic() - start, 2)
    return report


def check(
    implementation: Callable[..., Any] | str,
    operation: OperationName,
    *,
    backend: BackendName = "numpy",
    vjp: Callable[..., Any] | str | None = None,
    level: Level = "full",
    device: str | None = None,
    dtypes: Iterable[Any] | None = None,
    expected_failures: Any = None,
    seed: int = 0,
    name: str | None = None,
    strict: bool = False,
    checks: Sequence[str] | None = None,
    search: int = 0,
    rounded_once: bool = False,
    conventions: Mapping[str, Any] | None = None,
    invariant: bool = False,
    only: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    max_size: int | None = None,
    budget: float | None = None,
    progress: Callable[[str, dict[str, Any]], None] | None = None,
) -> Report:
    """Test your own implementation of an operation.

    Parameters
    ----------
    implementation : callable or str
        ``implementation(x, axis=-1)``, or ``implementation(x)`` for sigmoid, on the backend's arrays. A string
        ``"module:function"`` runs it in a separate process, which knows neither the expected values nor the case, so a
        crash or a hang is the result of a single case. Arguments that its signature lacks (``axis``, ``where``,
        ``dtype``) are not tested. To declare that it does not support something, raise ``NotImplementedError``.
        Features that a kernel need not have (integers, several axes, unusual memory layouts, 0-d and empty arrays) may
        also be refused with a TypeError, a ValueError or the like. Both are reported as ``unsupported``, never as
        passed. A wrong number is always a failure.
    operation : str
        The name of the operation that it computes: softmax, log_softmax or sigmoid.
    backend : str, optional
        The backend whose arrays it takes.
    vjp : callable or str, optional
        ``vjp(x, cotangent, axis=-1)``, or ``vjp(x, cotangent)`` for sigmoid, in the same form as the implementation.
        Pass it if the framework has no autodiff, or if the kernel has a separate gradient.
    level : {"quick", "full"}, optional
        The number of cases.
    device : str, optional
        The device for the arrays, as in `run`.
    dtypes : iterable, optional
        The dtypes that it must support; by default all that it does.
    expected_failures : path or list, optional
        As in `run`.
    seed : int, optional
        The seed of the random logits.
    name : str, optional
        The name for the report.
    strict : bool, optional
        Whether results that are less accurate than their bound fail the run, and expected failures that pass or have
        expired.
    checks : sequence of str, optional
        The checks to run; by default all.
    search : int, optional
        The number of random cases to try after the listed ones, for each dtype, as `search` does.
    rounded_once : bool, optional
        Whether to fail 16-bit results that are less accurate than float32 arithmetic, rounded once at the end. This is
        always reported, as `Report.rounded_once`.
    conventions : mapping, optional
        Conventions other than the contract's that the implementation follows, and is tested against: ``default-axis``
        (an axis or None), ``axis-none`` (the axis that None means), ``axis`` (``"flattens"``), ``empty-row`` (for a row
        of only -inf: ``"zeros"`` or ``"uniform"``), ``masked-row`` (for a row with every entry masked: ``"nan"`` or
        ``"uniform"``). By default those in its attribute ``conventions``, if it has one.
    invariant : bool, optional
        Whether a row's result must have the same bits for every batch, position in it, repetition, strides and number
        of threads. The largest difference is always reported, as `Report.invariance`.
    only, skip : sequence of str, optional
        Shell patterns for the name of a check, ``check/dtype/case`` or an id: run only these cases, or all others.
    max_size : int, optional
        Skip cases with more logits in one array, for example because a kernel's interpreter is slow.
    budget : float, optional
        Start no new case after so many seconds. Skipped cases are never counted as passed.
    progress : callable, optional
        ``progress(backend, event)``, called for every event, as in `run`.

    Returns
    -------
    Report

    Notes
    -----
    A callable runs in the caller's process, which it stops if it hangs or aborts. An implementation given by name
    does not, nor do the registered backends that `run` tests.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> def forgetful(x, axis=-1):
    ...     e = np.exp(x)  # without the maximum
    ...     return e / e.sum(axis=axis, keepdims=True)
    >>> conformance.check(forgetful, "softmax", level="quick", dtypes=["float64"]).passed
    False
    """
    start = time.monotonic()
    definition(operation)
    given: Any = implementation
    if not (callable(given) or isinstance(given, str)):
        message = f"check was given {given!r}; pass a callable implementation(x, axis=-1)."
        raise ConformanceError(message)
    if vjp is not None and isinstance(vjp, str) is not isinstance(given, str):
        message = f"vjp={vjp!r} must be given as the implementation is: as a callable, or as 'module:function'."
        raise ConformanceError(message)
    declared = checked(conventions)
    options = _given(only=only, skip=skip, max_size=max_size, budget=budget, conventions=declared)
    options |= _given(strict=strict, rounded_once=rounded_once, invariant=invariant)
    selection = _selection(options)
    report = Report(environment=_environment(level, seed, [info for info in installed() if info.name == backend]))
    capabilities, report.environment["options"] = report.environment["capabilities"], options
    if isinstance(given, str):
        kernel: dict[str, Any] = {
            "function": given,
            "vjp": vjp,
            "name": name or given,
            "search": search,
            "conventions": declared,
            "invariant": invariant,
        }
        kernel["dtypes"] = None if dtypes is None else [dtype.name for dtype in dtypes_named(dtypes)]
        job = _runner.Job(backend, (operation,), level, seed, device, checks, kernel=kernel, selection=selection)
        job.counting = progress is not None
        _runner.run_jobs([job], progress)
        if job.refusal:
            raise ConformanceError(job.refusal)
        report.results.extend(job.results)
        capabilities[backend] = job.capabilities
        _set_version(report, job)
        _count(report, [job])
    else:
        found = implementation_of(backend, operation, given, vjp, name, device)
        capabilities[found.backend.name] = found.backend.capabilities()
        found.conventions.update(declared)
        asked = Selection(**selection)
        more: dict[str, Any] = {"search": search, "selection": asked, "invariant": invariant}
        if progress is not None:
            progress(backend, {"event": "ready"})
            total = count_cases([found], level, seed, dtypes, checks, Selection(**selection))
            progress(backend, {"event": "total", "of": total})
        for result in run_checks(found, level, seed, dtypes, checks, **more):
            report.results.append(result)
            if progress is not None:
                progress(backend, {"event": "result", "result": asdict(result)})
        if progress is not None:
            progress(backend, {"event": "end"})
        _count(report, [asked])
    return _finished(report, expected_failures, strict, start, rounded_once=rounded_once)


def search(
    implementation: Callable[..., Any],
    operation: OperationName,
    *,
    backend: BackendName = "numpy",
    vjp: Callable[..., Any] | None = None,
    max_examples: int = 500,
    device: str | None = None,
    dtypes: Iterable[Any] | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Search for a failing call beyond the listed cases, and shrink it to the smallest one.

    `check` runs the same cases every time. This function draws calls with hypothesis instead, compares each with the
    same exact values and bounds (which allow for a sum taken in any order), and shrinks a failure to the shortest row
    of the simplest numbers that still fails. Needs the extra ``search``.

    Parameters
    ----------
    implementation, operation, backend, vjp, device, dtypes, name
        As in `check`.
    max_examples : int, optional
        The number of calls to try, for each dtype and each of value, vjp and jvp.
    seed : int, optional
        The same program with the same seed repeats the same search; another seed tries other calls.

    Returns
    -------
    Report
        One result for each dtype and kind of call. ``polylogit replay`` runs a failing call again, by its id.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit import conformance
    >>> def hasty(x, axis=-1):
    ...     e = np.exp(x - np.maximum(x.max(axis=axis, keepdims=True), 0))  # the maximum starts at 0
    ...     return e / e.sum(axis=axis, keepdims=True)
    >>> report = conformance.search(hasty, "softmax", dtypes=["float32"])
    >>> report.failures[0].case
    'x=-104'
    """
    given: dict[str, Any] = {"backend": backend, "vjp": vjp, "device": device, "dtypes": dtypes, "seed": seed}
    return check(implementation, operation, **given, name=name, checks=(), search=max_examples)


def verify_implementation(implementation: Callable[..., Any], operation: OperationName, backend: BackendName) -> None:
    """Raise an error if the kit finds an implementation wrong; for `polylogit.register_implementation`.

    Raises
    ------
    ConformanceError
        With the failures in its message.
    """
    report = check(implementation, operation, backend=backend, level="quick")
    if not report.passed:
        message = f"the implementation of {operation} on {backend} does not keep the contract; {report.summary()}"
        raise ConformanceError(message)


def replay(
    identifier: str,
    *,
    implementation: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | str | None = None,
    device: str | None = None,
) -> Report:
    """Run one case again, on its own, by its id.

    Parameters
    ----------
    identifier : str
        The id, as a report shows it.
    implementation, vjp : callable, optional
        The functions that were checked, if they cannot be imported by the name in the id.
    device : str, optional
        The device for the arrays, as in `run`.

    Returns
    -------
    Report
    """
    return replay_in_full(identifier, implementation=implementation, vjp=vjp, device=device)[0]


def replay_in_full(
    identifier: str,
    *,
    implementation: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | str | None = None,
    device: str | None = None,
) -> tuple[Report, Replayed | None]:
    """Like `replay`, with the numbers of the call; None if the case is not a single failing call."""
    body, at, seed = identifier.rpartition("@")
    parts = (body if at else identifier).split("/")
    if (asked := split_subject(parts[0])) is not None:
        report = Report(sharded_results(asked[:1], asked[1:]), environment=_environment("full", 0))
        report.results = [one for one in report.results if one.id == identifier]
        if not report.results:
            message = f"{identifier!r} names no case; copy an id from a report made by this version of polylogit."
            raise ConformanceError(message)
        return report, None
    if len(parts) != 5 or parts[2] not in (*CHECKS, SEARCH) or not (seed.isdigit() or not at):
        message = f"{identifier!r} is no id of a case; ids look like numpy/softmax/values/float32/n17."
        raise ConformanceError(message)
    subject, operation, check_, dtype, case = parts
    backend, _, target = subject.partition("+")
    found = implementation_of(backend, operation, implementation or target or None, vjp, target or None, device)
    number = int(seed) if at else 0
    watch: list[Any] = []
    report = Report(environment=_environment("any", number))
    if check_ == SEARCH:
        setting = Setting(found, definition(operation), dtypes_named([dtype])[0], "full", number)
        report.results = [replayed(setting, case, watch)]
        return report, _replayed(watch)
    for level in LEVELS:
        results = run_checks(found, level, number, [dtype], [check_], case=case, watch=watch)
        report.results = [one for one in results if one.case == case]
        if report.results:
            return report, _replayed(watch)
    message = f"{identifier!r} names no case; copy an id from a report made by this version of polylogit."
    raise ConformanceError(message)


def _replayed(watch: Sequence[Any]) -> Replayed | None:
    if not watch:
        return None
    setting, found = watch[0]
    if found.seen is None or not found.seen.call:
        return None
    return Replayed(setting.implementation, found.seen, setting.dtype)
