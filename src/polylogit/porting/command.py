"""The command ``polylogit compare``: files or callables in, a verdict, an exit status and reports out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from polylogit.errors import PolylogitError

__all__ = ["compare_command"]

# As for every command: 0 agrees, 1 disagrees, 3 inconclusive, and 2 (by click.UsageError) where it could not be done.
EXIT_STATUS = {"agrees": 0, "disagrees": 1, "inconclusive": 3}

_FILE = click.Path(dir_okay=False, path_type=Path)


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, other in pairs:
        if not (name and equals and other):
            raise click.BadParameter(f"{name + equals + other!r}; write REFERENCE_NAME=CANDIDATE_NAME")
    return {name: other for name, _, other in pairs}


@click.command("compare")
@click.argument("reference")
@click.argument("candidate")
@click.option("--inputs", metavar="FILE", help="Inputs for two callables: .npy, .npz or .safetensors.")
@click.option("--cotangent", metavar="FILE", help="Compare gradients too, for this cotangent.")
@click.option("--name", "names", multiple=True, callback=_names, metavar="HERE=THERE", help="Pair two activations.")
@click.option("--html", type=_FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=_FILE, help="Write the verdicts as JSON.")
def compare_command(
    reference: str,
    candidate: str,
    inputs: str | None,
    cotangent: str | None,
    names: dict[str, str],
    html: Path | None,
    json_path: Path | None,
) -> None:
    """Compare the CANDIDATE's outputs with the REFERENCE's, and name the cause if they differ.

    Each is a .npy, .npz or .safetensors file, or module:callable. The exit status is 0 if they agree, 1 if they
    differ, 2 for bad usage and 3 if the comparison could not have failed.
    """
    from polylogit.porting.files import compare_files

    try:
        found = compare_files(reference, candidate, inputs=inputs, cotangent=cotangent, names=names or None)
        click.echo(found.summary())
        if html is not None:
            found.to_html(html)
        if json_path is not None:
            found.to_json(json_path)
    except PolylogitError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        message = f"the report cannot be written: {error}"
        raise click.UsageError(message) from error
    sys.exit(EXIT_STATUS[found.status])
