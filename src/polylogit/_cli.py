"""The command line, with click: the commands of ``polylogit``.

Exit status 0 agrees, 1 disagrees, 2 usage, 3 inconclusive. Knows the public functions of the kit and of the porting
tools, and imports either only when its command runs.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import polylogit as library
from polylogit._info import backends as installed
from polylogit._info import information, tried
from polylogit._operations import listed
from polylogit._outline import new_backend
from polylogit.errors import PolylogitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._operations import OperationName

__all__ = ["polylogit"]


def _usage(function: Callable[..., Any]) -> Callable[..., Any]:
    """What polylogit raises on purpose is a wrong use of the command, status 2, and no traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except PolylogitError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)  # as shells have it

    return wrapped


def _paired(values: tuple[str, ...], form: str) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, other in pairs:
        if not (name and equals and other):
            raise click.BadParameter(f"{name + equals + other!r}; write {form}")
    return {name: other for name, _, other in pairs}


def _pairs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return _paired(values, "NAME=VALUE")


def _reports(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, words in (
        ("markdown", "Write Markdown, for the summary of a job."),
        ("html", "Write one HTML file to look at."),
        ("junit", "Write JUnit XML."),
        ("json", "Write JSON, in a documented schema; - writes it alone to standard output."),
    ):
        function = click.option(
            f"--{name}",
            f"{name}_path",
            type=click.Path(dir_okay=False, allow_dash=name == "json"),
            metavar="F",
            help=words,
        )(function)
    return function


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--level", type=click.Choice(["quick", "full"]), default="full", show_default=True, help="How many cases."
        ),
        click.option("--device", help="Where to make arrays, as the framework calls it, for example cuda."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random logits."),
        click.option(
            "--expected-failures",
            type=click.Path(exists=True, dir_okay=False),
            metavar="F",
            help="TOML file of what is known to fail.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="What is less accurate than its bound fails, as does an expected failure that passes or has expired.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="PATTERN",
            help="Cases to run, by a check's name, check/dtype/case or an id; * stands for anything.",
        ),
        click.option("--skip", multiple=True, metavar="PATTERN", help="Cases to leave out, likewise."),
        click.option("--max-size", type=click.IntRange(1), metavar="N", help="Leave out arrays of more logits."),
        click.option("--budget", type=float, metavar="SECONDS", help="Begin no further case when they are over."),
    ):
        function = option(function)
    return _reports(function)


_CHOICE = ("only", "skip", "max_size", "budget")  # options that say which cases are run


def _finish(report: Any, paths: dict[str, str | None]) -> None:
    from polylogit._io import write_whole
    from polylogit.conformance._reports import terminal  # rich only where it is used

    machine = paths.get("json_path") == "-"  # standard output belongs to a program
    terminal.show(report, terminal.console(stderr=machine))
    if machine:
        from polylogit.conformance._reports import json_report

        click.echo(json_report.render(report), nl=False)
    for kind in ("json", "junit", "html"):
        if (path := paths.get(f"{kind}_path")) and path != "-":
            getattr(report, f"to_{kind}")(path)
    if paths.get("markdown_path"):
        write_whole(str(paths["markdown_path"]), report.to_markdown())
    sys.exit(report.status)


@click.group()
@click.version_option(library.__version__, prog_name="polylogit")
def polylogit() -> None:
    """One softmax, log_softmax and sigmoid for four frameworks, and the proof that they agree."""


@polylogit.command()
def backends() -> None:
    """What is installed, and why something is not available."""
    from rich.markup import escape
    from rich.table import Table

    from polylogit.conformance._reports.terminal import console

    table = Table("backend", "version", "status", "devices")
    found = tried([info.name for info in installed() if info.installed])
    for info in installed():
        said = found.get(info.name, {"error": f"{info.reason}; {info.install}"})
        works = "[green]works[/]" + (f" ({escape(said['engine'])})" if said.get("engine") else "")
        status = "[red]" * info.installed + escape(said["error"]) if said["error"] else works
        table.add_row(info.name, said.get("version") or info.version or "", status, said.get("devices", ""))
    console().print(table)


polylogit.command()(_usage(new_backend))


@polylogit.command()
@click.option("--backend", "names", multiple=True, help="A backend to run; all that are installed by default.")
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="MODULE", help="A library of the array API standard to run."
)
@click.option("--operation", "operations", multiple=True, help="An operation to run; all by default.")
@click.option("--require", multiple=True, metavar="NAME", help="A backend without which the run is inconclusive.")
@click.option("--list", "listing", is_flag=True, help="Print the ids of the cases, a line each, and run none.")
@click.option("--sharded", is_flag=True, help="Examine arrays that are split over devices and processes instead.")
@click.option(
    "--parts",
    multiple=True,
    type=click.IntRange(2),
    default=(2, 4),
    show_default=True,
    help="With --sharded: into how many, in turn.",
)
@_common
@_usage
def conform(
    names: tuple[str, ...],
    namespaces: tuple[str, ...],
    operations: tuple[OperationName, ...],
    require: tuple[str, ...],
    listing: bool,
    sharded: bool,
    parts: tuple[int, ...],
    **options: Any,
) -> None:
    """Compare every backend with exact values, each in a process of its own."""
    from polylogit import conformance
    from polylogit.conformance._reports.terminal import Live

    if sharded:
        if given := [name for name in (*_CHOICE, "device", "seed") if options[name]] + ["operation"] * bool(operations):
            message = f"--sharded asks the same of all engines; leave out --{given[0].replace('_', '-')}."
            raise click.UsageError(message)
        judging = {name: options[name] for name in ("level", "expected_failures", "strict")}
        _finish(conformance.sharded([*names, *require] or None, parts=parts, **judging), options)

    names += tuple(f"array_api:{module}" for module in namespaces)
    if listing:
        asked = {name: options[name] for name in ("level", "device", "seed")}
        click.echo("\n".join(conformance.cases([*names, *require] or None, operations or None, **asked)))
        return

    chosen = dict.fromkeys([*(names or [info.name for info in installed()]), *require])
    with Live([name for name in chosen if (info := information(name)) and info.installed]) as live:
        report = conformance.run(
            names or None,
            operations or None,
            level=options["level"],
            device=options["device"],
            seed=options["seed"],
            require=require,
            expected_failures=options["expected_failures"],
            strict=options["strict"],
            progress=live,
            **{name: options[name] for name in _CHOICE},
        )
    _finish(report, options)


@polylogit.command()
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option("--operation", required=True, help=f"What it computes: {listed()}.")
@click.option("--backend", default="numpy", show_default=True, help="On whose arrays.")
@click.option("--vjp", metavar="MODULE:FUNCTION", help="Its gradient: vjp(x, cotangent, axis=-1).")
@click.option("--dtype", "dtypes", multiple=True, help="A dtype it must serve; those that it serves by default.")
@click.option(
    "--search", type=click.IntRange(0), default=0, metavar="N", help="Try N calls besides that nobody listed."
)
@click.option(
    "--convention",
    "conventions",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="One that it is right by, other than the contract's, for example default-axis=None.",
)
@click.option("--rounded-once", is_flag=True, help="16-bit results that were rounded more than once fail.")
@click.option("--invariant", is_flag=True, help="Results that depend on the batch, strides or threads fail.")
@_common
@_usage
def check(
    target: str,
    operation: OperationName,
    backend: str,
    vjp: str | None,
    dtypes: tuple[str, ...],
    search: int,
    conventions: dict[str, str],
    **options: Any,
) -> None:
    """Certify a function of your own, in a process of its own."""
    from polylogit import conformance
    from polylogit.conformance._reports.terminal import Live

    with Live([backend], [target]) as live:
        report = conformance.check(
            target,
            operation,
            backend=backend,
            vjp=vjp,
            level=options["level"],
            device=options["device"],
            dtypes=dtypes or None,
            expected_failures=options["expected_failures"],
            seed=options["seed"],
            name=target,
            strict=options["strict"],
            search=search,
            conventions=conventions,
            progress=live,
            **{name: options[name] for name in ("rounded_once", "invariant", *_CHOICE)},
        )
    _finish(report, options)


@polylogit.command()
@click.argument("identifier", metavar="ID")
@click.option("--vjp", metavar="MODULE:FUNCTION", help="The gradient that was checked.")
@click.option("--device", help="Where to make arrays.")
@click.option(
    "--save", type=click.Path(dir_okay=False), metavar="F", help="Write the arrays of the call to an .npz file."
)
@_usage
def replay(identifier: str, vjp: str | None, device: str | None, save: str | None) -> None:
    """Run one failing case again, alone, and print the call, to be pasted into Python."""
    from polylogit.conformance._api import replay_in_full
    from polylogit.conformance._reports import terminal

    report, call = replay_in_full(identifier, vjp=vjp, device=device)
    for result in report.results:
        terminal.show_case(result, call.python(save or "case.npz") if call is not None else "")
    if save is not None and call is not None:
        call.save(save)
        click.echo(f"the arrays are in {save}", err=True)
    elif save is not None:
        click.echo(f"nothing was written to {save}: the case is no single call that went wrong", err=True)
    sys.exit(report.status)


_FILE = click.Path(dir_okay=False, path_type=Path)


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return _paired(values, "REFERENCE_NAME=CANDIDATE_NAME")


@polylogit.command()
@click.argument("reference")
@click.argument("candidate")
@click.option("--inputs", metavar="FILE", help="Inputs for two callables, from a file of arrays.")
@click.option("--cotangent", metavar="FILE", help="Compare gradients too, for this cotangent.")
@click.option("--name", "names", multiple=True, callback=_names, metavar="HERE=THERE", help="Pair two activations.")
@click.option("--isolate", is_flag=True, help="Compare two models module by module, each on the original's inputs.")
@click.option("--strict", is_flag=True, help="Beyond rounding fails too, even where nothing explains it.")
@click.option("--html", type=_FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=_FILE, help="Write the verdicts as JSON.")
@_usage
def compare(
    reference: str,
    candidate: str,
    inputs: str | None,
    cotangent: str | None,
    names: dict[str, str],
    isolate: bool,
    strict: bool,
    html: Path | None,
    json_path: Path | None,
) -> None:
    """Compare the CANDIDATE's outputs with the REFERENCE's, and name the cause if they differ.

    Each is a file of arrays (.npy, .npz, .safetensors, .pt, .pth, .h5, .hdf5), of a model (.keras, .onnx, .tflite), or
    module:callable. Models and callables need --inputs. With --isolate both are models, and each module of the
    candidate is run on the original's own inputs. Names may be patterns, as in "h.*=block_*". The exit status is 0 if
    they agree, 1 if they differ, 2 for bad usage and 3 if the comparison could not have failed; what is beyond rounding
    by few times and has no cause differs with --strict alone.
    """
    from polylogit.porting._files import compare_files, isolate_files
    from polylogit.porting._progress import bar

    if isolate and cotangent is not None:
        message = "--isolate compares no gradients; leave out --cotangent."
        raise click.UsageError(message)
    run: Any = isolate_files if isolate else functools.partial(compare_files, cotangent=cotangent)
    with bar():
        found = run(reference, candidate, inputs=inputs, names=names or None)
    click.echo(found.summary())
    _write(found, html, json_path)
    sys.exit({"agrees": 0, "beyond": int(strict), "disagrees": 1, "inconclusive": 3}[found.status])


def _write(found: Any, html: Path | None, json_path: Path | None) -> None:
    try:
        if html is not None:
            found.to_html(html)
        if json_path is not None:
            found.to_json(json_path)
    except OSError as error:
        message = f"the report cannot be written: {error}"
        raise click.UsageError(message) from error


@polylogit.command(name="compare-tokens")
@click.argument("reference")
@click.argument("candidate")
@click.option("--tokens", required=True, metavar="FILE", help="The ids of the chosen tokens.")
@click.option("--mask", metavar="FILE", help="Which positions count: booleans, or 0 and 1.")
@click.option("--dtype", help="The coarsest dtype in which either engine computes, for example bfloat16.")
@click.option("--strict", is_flag=True, help="Beyond rounding fails too, even where nothing explains it.")
@click.option("--html", type=_FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=_FILE, help="Write the verdict and the measures as JSON.")
@_usage
def compare_tokens(
    reference: str,
    candidate: str,
    tokens: str,
    mask: str | None,
    dtype: str | None,
    strict: bool,
    html: Path | None,
    json_path: Path | None,
) -> None:
    """Compare the log-probabilities that two engines give to the same TOKENS, and name the cause if they differ.

    Each file holds one array: the log-probability of each token, or rows of logits or log-probabilities over the
    vocabulary; or two, "ids" and "logprobs", for the top k. The exit status is 0 if they agree, 1 if they differ, 2 for
    bad usage and 3 if it cannot be told.
    """
    from polylogit.porting._files import compare_token_files
    from polylogit.porting._progress import bar

    with bar():
        found = compare_token_files(reference, candidate, tokens=tokens, mask=mask, dtype=dtype)
    click.echo(found.summary())
    _write(found, html, json_path)
    beyond = 1 if strict else 0
    sys.exit({"within rounding": 0, "beyond rounding": beyond, "different": 1, "inconclusive": 3}[found.verdict])


def _shape(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.lower().replace(",", "x").split("x")
    if not all(part.strip().isdigit() for part in parts):
        raise click.BadParameter(f"{text!r} is no shape; write, for example, 4096x393216")
    return tuple(int(part) for part in parts)


def _axis(_context: click.Context, _option: click.Parameter, text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        axes = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no axis; write -1, 0,1 or none") from error
    first, *others = axes
    return (first, *others) if others else first


def _logits(targets: tuple[str, ...], shape: tuple[int, ...] | None, **drawn: Any) -> Any:
    """What a test puts in, from files, functions or a distribution."""
    import numpy as np

    from polylogit.conformance import drawing
    from polylogit.conformance._implementation import load

    if bool(targets) == (shape is not None):
        raise click.UsageError("say what the test puts in: --shape and --distribution, or --inputs.")
    if shape is not None:
        return drawing(shape, **drawn)
    found: list[Any] = []
    for target in targets:
        if not target.endswith((".npy", ".npz")):
            found.append(load(target))
            continue
        try:
            loaded = np.load(target, allow_pickle=False)
        except (OSError, ValueError) as error:
            message = f"--inputs {target}: {error}"
            raise click.UsageError(message) from error
        found += list(loaded.values()) if hasattr(loaded, "values") else [loaded]
    return found


@polylogit.command()
@click.option("--operation", required=True, help=f"What is tested: {listed()}.")
@click.option("--dtype", required=True, help="Of the logits: float16, bfloat16, float32 or float64.")
@click.option("--atol", type=float, required=True, help="The absolute tolerance.")
@click.option("--rtol", type=float, required=True, help="The relative tolerance.")
@click.option("--shape", callback=_shape, metavar="AxBxC", help="Of logits that are drawn.")
@click.option(
    "--distribution",
    default="normal",
    show_default=True,
    help="Of logits that are drawn: uniform (0 to 1), centred (-0.5 to 0.5), symmetric (-1 to 1), normal, masked "
    "(normal, -inf where negative), lognormal, integers, ramp or zeros.",
)
@click.option("--scale", type=float, default=1.0, show_default=True, help="What they are multiplied by.")
@click.option("--shift", type=float, default=0.0, show_default=True, help="What is added to them.")
@click.option(
    "--inputs", "targets", multiple=True, metavar="FILE.npy|MODULE:FUNCTION", help="The test's own logits, instead."
)
@click.option("--axis", callback=_axis, default="-1", show_default=True, help="For several, 0,1; for all, none.")
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME|MODULE:FUNCTION",
    help="How results are compared, allclose by default: allclose, maximum, mean, relative, cosine, rounded, baseline, "
    "flash-attention, row sums, or a function of two arrays. Of several, all must pass.",
)
@click.option("--compared", default="result", show_default=True, help="result, nll, mean nll or sum nll.")
@click.option("--gradient", is_flag=True, help="The test compares the gradient.")
@click.option("--cotangent", metavar="NAME|FILE.npy", help="Of the gradient: normal, uniform, ones, mean nll, ...")
@click.option("--reference", metavar="DTYPE", help="Of the right answer; that of the results by default.")
@click.option("--equal-nan", is_flag=True, help="NaN is close to NaN.")
@click.option("--digits", type=int, default=0, show_default=True, help="After the point, for rounded.")
@click.option("--rows", type=click.IntRange(1), help="How many rows to use; a number that takes seconds by default.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--json", "json_path", metavar="F|-", help="Write everything as JSON, with - to the output.")
@click.option("--markdown", "markdown_path", metavar="F", help="Write Markdown, for the summary of a job.")
@_usage
def audit(
    operation: OperationName,
    targets: tuple[str, ...],
    shape: tuple[int, ...] | None,
    distribution: str,
    scale: float,
    shift: float,
    compare: tuple[str, ...],
    cotangent: str | None,
    json_path: str | None,
    markdown_path: str | None,
    **options: Any,
) -> None:
    """Say what a test of yours would let through: zeros, a constant, the input, and which faults of the catalogue.

    The exit status is 0 if all of them would fail the test, otherwise 1.
    """
    from polylogit import conformance
    from polylogit._io import write_whole
    from polylogit.conformance._implementation import load

    how = tuple(load(one) if ":" in one else one for one in compare) or ("allclose",)
    if cotangent is not None and cotangent.endswith(".npy"):
        (given,) = _logits((cotangent,), None)
    else:
        given = cotangent
    found = conformance.audit(
        _logits(targets, shape, distribution=distribution, scale=scale, shift=shift),
        operation,
        compare=how if len(how) > 1 else next(iter(how)),
        cotangent=given,
        **options,
    )
    click.echo(found.to_json() if json_path == "-" else found.summary())
    try:
        if json_path not in (None, "-"):
            found.to_json(json_path)
        if markdown_path is not None:
            write_whole(markdown_path, found.to_markdown())
    except OSError as error:
        message = f"the report cannot be written: {error}"
        raise click.UsageError(message) from error
    sys.exit(found.status)
