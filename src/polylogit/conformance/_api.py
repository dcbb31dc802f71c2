"""`run`, `sharded`, `cases`, `check`, `search`, `replay`: what `polylogit.conformance` offers, put together."""

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
from polylogit.conformance._selection import Selection
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
        Their names; all that are known by default, of which those not installed are reported as missing.
        ``"array_api:MODULE"`` is a library of the array API standard that needs no backend of its own.
    operations : iterable of str, optional
        All by default.
    level : {"quick", "full"}, optional
        How many cases.
    device : str, optional
        As the framework calls it, or "cpu", "cuda" or "cuda:1" for each of them; the CPU by default. NumPy's arrays
        lie in the host's memory, where nothing else is asked of NumPy by name.
    isolate : bool, optional
        Each backend in a process of its own, so that a crash is a result.
    seed : int, optional
        Of the random logits.
    require : iterable of str, optional
        Backends whose absence makes the run inconclusive.
    expected_failures : path or list, optional
        A TOML file of what is known to fail, or the tables that it would hold.
    strict : bool, optional
        Whether an expected failure that passes, or has expired, fails the run.
    progress : callable, optional
        ``progress(backend, event)``, called for every event.
    only, skip, max_size, budget
        As in `check`; the seconds of `budget` are those of each process.

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
    """Examine arrays that are split over devices and processes, on every engine that has them.

    PyTorch's DTensor over as many processes as parts, JAX's arrays over as many devices (by what JAX does itself, and
    inside ``shard_map``), TensorFlow's layouts over as many logical devices. Besides values and derivatives each case
    asks that the result be split as the logits are, and that no row be gathered; what is exchanged and the memory that
    a part takes are in the details of the results.

    Parameters
    ----------
    backends : iterable of str, optional
        Their names; all that have split arrays by default, of which those not installed are reported as missing.
    level : {"quick", "full"}, optional
        How many cases.
    parts : sequence of int, optional
        Into how many parts an array is split, in turn.
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
    """The ids of the cases that `run` would run, without running them.

    Each backend is asked for what it declares in a process of its own, so that no framework is imported here.

    Parameters
    ----------
    backends, operations, level, device, seed
        As in `run`; by default all backends that are installed.
    dtypes : iterable, optional
        Of the logits; by default all that a backend serves at this level.

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
    """By operation and dtype, as reports have them, whichever process ended first."""
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
    # Asked for all backends, NumPy's arrays lie where they can lie.
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
    """That of the framework, where the package that was found is a plug-in with a version of its own."""
    if job.version:
        report.environment["backends"][job.backend] = job.version


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, as plain data."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {name: value for name, value in plain.items() if not (value is None or value is False or value in ([], {}))}


def _selection(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that say which cases are run; refused here if no case could be."""
    chosen = {name: options[name] for name in ("only", "skip", "max_size", "budget") if name in options}
    Selection(**chosen)
    return chosen


def _count(report: Report, ran: Iterable[Any]) -> None:
    """Note how many cases were left out, where any were."""
    left_out: Counter[str] = Counter()
    for one in ran:
        left_out.update(one.left_out)
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
    """Certify someone's own implementation of an operation.

    Parameters
    ----------
    implementation : callable or str
        ``implementation(x, axis=-1)``, for sigmoid ``implementation(x)``, on the backend's arrays; or where it is, as
        ``"module:function"``: it then runs in a process of its own, which knows neither what is right nor which case
        it is in, and a crash or a hang is the result of one case. What its
        signature does not offer (``axis``, ``where``, ``dtype``) is not asked of it. To say that it does not support
        something, let it raise ``NotImplementedError``; a clean refusal (TypeError, ValueError and the like) of what
        not every kernel must have (integers, several axes, unusual memory layouts, 0-d and empty arrays) counts the
        same. Either is reported as ``unsupported`` and never as passed. A wrong number is always a failure.
    operation : str
        The function of polylogit that it is to compute, by name.
    backend : str, optional
        On whose arrays.
    vjp : callable or str, optional
        ``vjp(x, cotangent, axis=-1)``, for sigmoid ``vjp(x, cotangent)``, given as the implementation is, where the
        framework has no autodiff or the kernel brings its own gradient.
    level : {"quick", "full"}, optional
    device : str, optional
    dtypes : iterable, optional
        Those to be held to; by default all that the implementation serves.
    expected_failures : path or list, optional
        As in `run`.
    seed : int, optional
    name : str, optional
        In the report.
    strict : bool, optional
        Whether what is only less accurate than its bound fails the run, and an expected failure that passes or has
        expired.
    checks : sequence of str, optional
        The checks to run; all by default.
    search : int, optional
        After the listed cases, how many others to try of each dtype, as `search` does.
    rounded_once : bool, optional
        Whether 16-bit results fail that are not what float32 arithmetic, rounded once at the end, gives. It is always
        reported, as `Report.rounded_once`.
    conventions : mapping, optional
        By which other conventions than the contract's the implementation is right, and is held to: ``default-axis``
        (an axis or None), ``axis-none`` (the axis that None means), ``axis`` (``"flattens"``), ``empty-row`` (of a row
        of nothing but -inf: ``"zeros"`` or ``"uniform"``), ``masked-row`` (of one that is masked out: ``"nan"`` or
        ``"uniform"``). By default those in its attribute ``conventions``, if it has one.
    invariant : bool, optional
        Whether a row's result must have the same bits whatever the batch, its place in it, the repetition, the strides
        and the threads. How far apart they are is always reported, as `Report.invariance`.
    only, skip : sequence of str, optional
        Shell patterns for the name of a check, ``check/dtype/case`` or an id: only these cases are run, or all but
        these.
    max_size : int, optional
        Logits in one array; cases with more are not run. Such as an interpreter of kernels can bear.
    budget : float, optional
        Seconds; when they are over, no further case is begun. Cases that are not run are never counted as passed.
    progress : callable, optional
        ``progress(backend, event)``, called for every event, as in `run`.

    Returns
    -------
    Report

    Notes
    -----
    A callable runs in the caller's process, so one that hangs or aborts takes it along. What is given by its name does
    not, nor do the registered backends that `run` examines.

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
    """Look for a call that fails among those that nobody listed, and for the smallest one.

    What `check` takes an implementation through is the same at every run. This draws calls with hypothesis instead,
    judges each by the same exact values and bounds (with room for a sum taken in any order), and shrinks what fails to
    the shortest row of the plainest numbers that still does. Needs the extra ``search``.

    Parameters
    ----------
    implementation, operation, backend, vjp, device, dtypes, name
        As in `check`.
    max_examples : int, optional
        How many calls to try, for each dtype and each of value, vjp and jvp.
    seed : int, optional
        The search of one program is the same at every run with the same seed; another one looks elsewhere.

    Returns
    -------
    Report
        A result for each dtype and kind of call. Where one failed, ``polylogit replay`` runs that call again by its id.

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
    """Refuse an implementation that the kit finds wrong; what `polylogit.register_implementation` asks.

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
    """Run one case again, alone, by its id.

    Parameters
    ----------
    identifier : str
        As a report shows it.
    implementation, vjp : callable, optional
        What was checked, where it cannot be imported by the name in the id.
    device : str, optional

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
    """As `replay`, and the numbers themselves; None where the case is no single call that went wrong."""
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
