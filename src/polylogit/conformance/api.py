"""`run`, `check` and `replay`: what `polylogit.conformance` offers, put together from the parts."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polylogit
from polylogit.__about__ import __version__
from polylogit.conformance import expectations, pairs, runner, searching
from polylogit.conformance.context import Context
from polylogit.conformance.examine import LEVELS, examine
from polylogit.conformance.machine import machine
from polylogit.conformance.results import SEARCH, Report, Result
from polylogit.conformance.subject import Subject
from polylogit.errors import ConformanceError, UnknownBackendError
from polylogit.info import backends as installed
from polylogit.spec.dtypes import DTYPES, dtypes_named
from polylogit.spec.operations import DEFINITIONS, definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["check", "replay", "run", "search", "verify_implementation"]


def run(
    backends: Iterable[str] | None = None,
    operations: Iterable[str] | None = None,
    *,
    level: str = "full",
    device: str | None = None,
    isolate: bool = True,
    seed: int = 0,
    require: Iterable[str] = (),
    expected_failures: Any = None,
    strict: bool = False,
    progress: Callable[[str, dict[str, Any]], None] | None = None,
) -> Report:
    """Run the conformance kit on registered backends.

    Parameters
    ----------
    backends : iterable of str, optional
        Their names; all that are known by default, of which those not installed are reported as missing.
    operations : iterable of str, optional
        All by default.
    level : {"quick", "full"}, optional
        How many cases.
    device : str, optional
        As the framework calls it; the CPU by default.
    isolate : bool, optional
        Each backend in a process of its own, so that a crash is a result.
    seed : int, optional
        Of the random logits.
    require : iterable of str, optional
        Backends whose absence makes the run inconclusive.
    expected_failures : path or list, optional
        See `polylogit.conformance.expectations`.
    strict : bool, optional
        Whether an expected failure that passes, or has expired, fails the run.
    progress : callable, optional
        ``progress(backend, event)``, called for every event.

    Returns
    -------
    Report
    """
    start = time.monotonic()
    if level not in LEVELS:
        message = f"level={level!r} does not exist; the levels are {' and '.join(LEVELS)}."
        raise ConformanceError(message)
    chosen = tuple(DEFINITIONS) if operations is None else tuple(operations)
    for operation in chosen:
        definition(operation)
    known = {info.name: info for info in installed()}
    required = tuple(require)
    names = list(dict.fromkeys([*(known if backends is None else backends), *required]))
    unknown = [name for name in names if name not in known]
    if unknown:
        message = f"backend {unknown[0]!r} is not registered; known are {', '.join(known)}."
        raise UnknownBackendError(message)
    report = Report(environment=_environment(level, seed, [known[name] for name in names]))
    wanted = required if backends is None else names
    jobs = []
    for name in names:
        if known[name].installed:
            jobs.append(runner.Job(name, chosen, level, seed, device))
        else:
            report.results.append(_missing(known[name], required=name in wanted))
    _run_all(jobs, report, isolate=isolate, progress=progress)
    expectations.apply(report, expectations.read(expected_failures), strict=strict)
    report.environment["seconds"] = runner.elapsed(start)
    return report


def _missing(info: Any, *, required: bool) -> Result:
    message = f"{info.reason or 'not installed'}; install it with: {info.install}"
    return Result(
        info.name, verdict="missing", message=message, details={"install": info.install, "required": required}
    )


def _run_all(jobs: Sequence[runner.Job], report: Report, *, isolate: bool, progress: Any) -> None:
    if not isolate:
        for job in jobs:
            backend = polylogit.get_backend(job.backend)
            report.environment["capabilities"][job.backend] = backend.capabilities()
            for operation in job.operations:
                subject = Subject(backend, operation, device=job.device)
                report.results.extend(examine(subject, job.level, job.seed))
        return
    with runner.values_folder() as folder:
        folders = {job.backend: Path(folder, job.backend) for job in jobs}
        for job in jobs:
            folders[job.backend].mkdir()
            job.values = str(folders[job.backend])
        runner.run_jobs(jobs, progress)
        order = {name: position for position, name in enumerate((*DEFINITIONS, *DTYPES, ""))}
        for job in jobs:
            report.results.extend(sorted(job.results, key=lambda one: (order[one.operation], order[one.dtype])))
            report.environment["capabilities"][job.backend] = job.capabilities
        report.pairs = pairs.differences(folders)


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


def check(
    implementation: Callable[..., Any] | str,
    operation: str,
    *,
    backend: str = "numpy",
    vjp: Callable[..., Any] | str | None = None,
    level: str = "full",
    device: str | None = None,
    dtypes: Iterable[Any] | None = None,
    expected_failures: Any = None,
    seed: int = 0,
    name: str | None = None,
    strict: bool = False,
    checks: Sequence[str] | None = None,
    search: int = 0,
) -> Report:
    """Certify someone's own implementation of an operation.

    Parameters
    ----------
    implementation : callable or str
        ``implementation(x, axis=-1)``, for sigmoid ``implementation(x)``, on the backend's arrays; or where it is, as
        ``"module:function"``: it then runs in a process of its own, so that a crash or a hang is a result. What its
        signature does not offer (``axis``, ``where``, ``dtype``) is not asked of it. To say that it does not support
        something, let it raise ``NotImplementedError``; a clean refusal (TypeError, ValueError and the like) of what
        not every kernel must have (integers, several axes, unusual memory layouts, 0-d and empty arrays) counts the
        same. Either is reported as ``unsupported`` and never as passed. A wrong number is always a failure.
    operation : {"softmax", "log_softmax", "sigmoid"}
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
        A TOML file, or what it would hold; see `polylogit.conformance.expectations`.
    seed : int, optional
    name : str, optional
        In the report.
    strict : bool, optional
        Whether an expected failure that passes, or has expired, fails the run.
    checks : sequence of str, optional
        The checks to run; all by default.
    search : int, optional
        After the listed cases, how many others to try of each dtype, as `search` does.

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
    report = Report(environment=_environment(level, seed, [info for info in installed() if info.name == backend]))
    if vjp is not None and isinstance(vjp, str) is not isinstance(implementation, str):
        message = f"vjp={vjp!r} must be given as the implementation is: as a callable, or as 'module:function'."
        raise ConformanceError(message)
    if isinstance(implementation, str):
        own: dict[str, Any] = {"target": implementation, "vjp": vjp, "name": name or implementation, "search": search}
        own["dtypes"] = None if dtypes is None else [dtype.name for dtype in dtypes_named(dtypes)]
        job = runner.Job(backend, (operation,), level, seed, device, checks, own=own)
        runner.run_jobs([job])
        if job.refusal:
            raise ConformanceError(job.refusal)
        report.results.extend(job.results)
        report.environment["capabilities"][backend] = job.capabilities
    elif _is_callable(implementation):
        found = polylogit.get_backend(backend)
        report.environment["capabilities"][found.name] = found.capabilities()
        named = f"{found.name}+{name or _name(implementation)}"
        subject = Subject(found, operation, implementation, vjp, named, device)  # type: ignore[arg-type]
        report.results.extend(examine(subject, level, seed, dtypes, checks, search=search))
    else:
        message = f"check was given {implementation!r}; pass a callable implementation(x, axis=-1)."
        raise ConformanceError(message)
    expectations.apply(report, expectations.read(expected_failures), strict=strict)
    report.environment["seconds"] = runner.elapsed(start)
    return report


def search(
    implementation: Callable[..., Any],
    operation: str,
    *,
    backend: str = "numpy",
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
        A result for each dtype and kind of call. Where one failed, `polylogit replay` runs that call again by its id.

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
    return check(
        implementation,
        operation,
        backend=backend,
        vjp=vjp,
        device=device,
        dtypes=dtypes,
        seed=seed,
        name=name,
        checks=(),
        search=max_examples,
    )


def _is_callable(given: Any) -> bool:
    return callable(given)


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}:{name}".replace("/", ".")


def verify_implementation(implementation: Callable[..., Any], operation: str, backend: str) -> None:
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
    vjp: Callable[..., Any] | None = None,
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
    """
    parts = _split(identifier)
    entry = definition(parts["operation"])
    backend, plus, target = parts["subject"].partition("+")
    if plus and implementation is None:
        implementation = expectations.load(target)
    found = polylogit.get_backend(backend)
    subject = Subject(found, parts["operation"], implementation, vjp, parts["subject"], device)
    report = Report(environment=_environment("any", int(parts["seed"])))
    if parts["check"] == SEARCH:
        (dtype,) = dtypes_named([parts["dtype"]])
        context = Context(subject, entry, dtype, "full", int(parts["seed"]))
        report.results = [searching.replayed(context, parts["case"])]
        return report
    for level in LEVELS:
        results = list(
            examine(subject, level, int(parts["seed"]), [parts["dtype"]], [parts["check"]], only=parts["case"])
        )
        report.results = [one for one in results if one.case == parts["case"]]
        if report.results:
            return report
    message = f"{identifier!r} names no case; copy an id from a report made by this version of polylogit."
    raise ConformanceError(message)


def _split(identifier: str) -> Mapping[str, str]:
    from polylogit.conformance.checks import CHECKS  # noqa: PLC0415  heavy only here

    body, _, seed = identifier.rpartition("@") if "@" in identifier else (identifier, "", "0")
    parts = body.split("/")
    if len(parts) != 5 or parts[2] not in (*CHECKS, SEARCH) or not seed.isdigit():  # noqa: PLR2004
        message = f"{identifier!r} is no id of a case; ids look like numpy/softmax/values/float32/n17."
        raise ConformanceError(message)
    names = ("subject", "operation", "check", "dtype", "case")
    return {**dict(zip(names, parts, strict=True)), "seed": seed}
