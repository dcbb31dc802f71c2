"""``polylogit conform``, ``check`` and ``replay``: the commands of the conformance kit.

Knows its public functions, and imports them only when a command runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from polylogit import _progress
from polylogit._cli.options import BACKEND, CHOICE, FILE, OPERATION, command, common, dtypes, finish, pairs, writing
from polylogit._info import backends as installed
from polylogit._info import information

if TYPE_CHECKING:
    from polylogit._operations import OperationName

__all__ = ["check", "conform", "replay"]


@command("conform")
@click.option(
    "--backend", "names", type=BACKEND, multiple=True, help="A backend to run; by default all installed ones."
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="MODULE",
    help="A library to run that follows the array API standard.",
)
@click.option("--operation", "operations", type=OPERATION, multiple=True, help="An operation to run; by default all.")
@click.option(
    "--require", type=BACKEND, multiple=True, help="A backend that must be installed, or the run is inconclusive."
)
@click.option("--list", "listing", is_flag=True, help="Print the ids of the cases, one per line, without running them.")
@click.option("--sharded", is_flag=True, help="Test arrays that are split over devices and processes instead.")
@click.option(
    "--parts",
    multiple=True,
    type=click.IntRange(2),
    default=(2, 4),
    show_default=True,
    help="With --sharded: the number of parts; several are tested in turn.",
)
@common
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
    """Compare every backend with exact values, each in a separate process."""
    from polylogit import conformance
    from polylogit.conformance._reports.terminal import Live

    if sharded:
        if given := [name for name in (*CHOICE, "device", "seed") if options[name]] + ["operation"] * bool(operations):
            message = f"--sharded runs the same cases on all engines; leave out --{given[0].replace('_', '-')}."
            raise click.UsageError(message)
        judging = {name: options[name] for name in ("level", "expected_failures", "strict")}
        with _progress.bar(what="starting processes"):
            report = conformance.sharded([*names, *require] or None, parts=parts, **judging)
        finish(report, options)

    names += tuple(f"array_api:{module}" for module in namespaces)
    if listing:
        asked = {name: options[name] for name in ("level", "device", "seed")}
        with _progress.bar(what="asking backends for their cases"):
            found = conformance.cases([*names, *require] or None, operations or None, **asked)
        click.echo("\n".join(found))
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
            **{name: options[name] for name in CHOICE},
        )
    finish(report, options)


@command("check")
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option("--operation", type=OPERATION, required=True, help="The operation that the function computes.")
@click.option(
    "--backend", type=BACKEND, default="numpy", show_default=True, help="The backend whose arrays it takes and returns."
)
@click.option("--vjp", metavar="MODULE:FUNCTION", help="The gradient of the function: vjp(x, cotangent, axis=-1).")
@click.option(
    "--dtype", "asked", type=dtypes(), multiple=True, help="A dtype that it must support; by default each that it does."
)
@click.option("--search", type=click.IntRange(0), default=0, metavar="N", help="Also try N randomly generated calls.")
@click.option(
    "--convention",
    "conventions",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="A convention other than the contract's that the function follows, for example default-axis=None.",
)
@click.option("--rounded-once", is_flag=True, help="Fail 16-bit results that were rounded more than once.")
@click.option("--invariant", is_flag=True, help="Fail results that depend on the batch, strides or threads.")
@common
def check(
    target: str,
    operation: OperationName,
    backend: str,
    vjp: str | None,
    asked: tuple[str, ...],
    search: int,
    conventions: dict[str, str],
    **options: Any,
) -> None:
    """Check your own function, in a separate process."""
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
            dtypes=asked or None,
            expected_failures=options["expected_failures"],
            seed=options["seed"],
            name=target,
            strict=options["strict"],
            search=search,
            conventions=conventions,
            progress=live,
            **{name: options[name] for name in ("rounded_once", "invariant", *CHOICE)},
        )
    finish(report, options)


@command("replay")
@click.argument("identifier", metavar="ID")
@click.option("--vjp", metavar="MODULE:FUNCTION", help="The gradient of the function, as passed to check.")
@click.option("--device", help="The device for the arrays, as the framework names it.")
@click.option("--save", type=FILE, metavar="FILE", help="Write the arrays of the call to an .npz file.")
def replay(identifier: str, vjp: str | None, device: str | None, save: str | None) -> None:
    """Run one failing case again, on its own, and print the call, ready to paste into Python."""
    from polylogit.conformance._api import replay_in_full
    from polylogit.conformance._reports import terminal

    with _progress.bar(what="running the case"):
        report, call = replay_in_full(identifier, vjp=vjp, device=device)
    for result in report.results:
        terminal.show_case(result, call.python(save or "case.npz") if call is not None else "")
    if save is not None and call is not None:
        with writing("the file of arrays"):
            call.save(save)
        click.echo(f"the arrays are in {save}", err=True)
    elif save is not None:
        click.echo(f"nothing was written to {save}: the case is not a single failing call", err=True)
    sys.exit(report.status)
