"""``polylogit audit``: shows which wrong results a test would let through.

Knows the public functions of the kit, and imports them only when the command runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from polylogit import _progress
from polylogit._cli.options import FILE, OPERATION, Written, command, dtypes, writing
from polylogit._io import write_whole

if TYPE_CHECKING:
    from polylogit._operations import OperationName

__all__ = ["audit"]

# The names in `polylogit.conformance._audit`, repeated here because it would import the kit; a test compares.
DISTRIBUTIONS = ["uniform", "centred", "symmetric", "normal", "masked", "lognormal", "integers", "ramp", "zeros"]
COMPARED = ["result", "nll", "mean nll", "sum nll"]
_AUDITED = dtypes("float16", "bfloat16", "float32", "float64")


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
    """The inputs of a test, from files, functions or a distribution."""
    import numpy as np

    from polylogit.conformance import drawing
    from polylogit.conformance._implementation import load

    if bool(targets) == (shape is not None):
        raise click.UsageError("give the inputs of the test: --shape and --distribution, or --inputs.")
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


@command("audit")
@click.option("--operation", type=OPERATION, required=True, help="The operation that the test tests.")
@click.option("--dtype", type=_AUDITED, required=True, help="The dtype of the logits.")
@click.option("--atol", type=float, required=True, help="The absolute tolerance.")
@click.option("--rtol", type=float, required=True, help="The relative tolerance.")
@click.option("--shape", callback=_shape, metavar="AxBxC", help="The shape of random logits.")
@click.option(
    "--distribution",
    type=click.Choice(DISTRIBUTIONS),
    default="normal",
    show_default=True,
    help="The distribution of random logits: uniform lies between 0 and 1, centred between -0.5 and 0.5, symmetric "
    "between -1 and 1, and masked is normal with negative logits replaced by -inf.",
)
@click.option("--scale", type=float, default=1.0, show_default=True, help="A factor for random logits.")
@click.option("--shift", type=float, default=0.0, show_default=True, help="A constant to add to them after that.")
@click.option(
    "--inputs",
    "targets",
    multiple=True,
    metavar="FILE.npy|MODULE:FUNCTION",
    help="The test's own logits, instead of random ones.",
)
@click.option(
    "--axis", callback=_axis, default="-1", show_default=True, help="The axis; 0,1 for several, none for all."
)
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME|MODULE:FUNCTION",
    help="How the test compares results, allclose by default: allclose, maximum, mean, relative, cosine, rounded, "
    "baseline, flash-attention, row sums, or a function of two arrays. If given several times, all must pass.",
)
@click.option(
    "--compared",
    type=click.Choice(COMPARED),
    default="result",
    show_default=True,
    help="Whether the test compares the result, or a loss computed from it.",
)
@click.option("--gradient", is_flag=True, help="The test compares the gradient.")
@click.option(
    "--cotangent", metavar="NAME|FILE.npy", help="With --gradient, the cotangent: normal, uniform, ones, mean nll, ..."
)
@click.option("--reference", type=_AUDITED, help="The dtype of the expected values; by default that of the results.")
@click.option("--equal-nan", is_flag=True, help="Treat NaN as close to NaN.")
@click.option(
    "--digits", type=int, default=0, show_default=True, help="With --compare rounded: digits after the decimal point."
)
@click.option("--rows", type=click.IntRange(1), help="How many rows to use; by default as many as take seconds.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The seed of the random numbers.")
@click.option(
    "--json",
    "json_path",
    type=Written(allow_dash=True),
    metavar="FILE|-",
    help="Write everything as JSON; - writes it to standard output.",
)
@click.option("--markdown", "markdown_path", type=FILE, metavar="FILE", help="Write Markdown, for the job summary.")
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
    """Show what your test would let through: zeros, a constant, the input, and which faults of the catalogue."""
    from polylogit import conformance
    from polylogit.conformance._implementation import load

    how = tuple(load(one) if ":" in one else one for one in compare) or ("allclose",)
    if cotangent is not None and cotangent.endswith(".npy"):
        (given,) = _logits((cotangent,), None)
    else:
        given = cotangent
    with _progress.bar(what="computing the expected values"):
        found = conformance.audit(
            _logits(targets, shape, distribution=distribution, scale=scale, shift=shift),
            operation,
            compare=how if len(how) > 1 else next(iter(how)),
            cotangent=given,
            **options,
        )
    click.echo(found.to_json() if json_path == "-" else found.summary())
    with writing():
        if json_path not in (None, "-"):
            found.to_json(json_path)
        if markdown_path is not None:
            write_whole(markdown_path, found.to_markdown())
    sys.exit(found.status)
