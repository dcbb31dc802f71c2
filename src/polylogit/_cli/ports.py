"""``polylogit compare`` and ``polylogit compare-tokens``: a port and its original, two engines.

Imports the porting tools when it runs.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from polylogit import _progress
from polylogit._cli.options import FILE, command, dtypes, paired, write
from polylogit.errors import PolylogitError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["compare", "compare_tokens"]


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return paired(values, "REFERENCE_NAME=CANDIDATE_NAME")


# The porting tools name their arguments as Python has them; on the command line only these are options.
_ARGUMENT = re.compile(r"\b(inputs|cotangent|tokens|mask|dtype)=(?=[\s,;.]|$)")
_NO_OPTION = ", or candidate_inputs= where the two take different ones"


@contextlib.contextmanager
def _spelt_as_options() -> Iterator[None]:
    try:
        yield
    except PolylogitError as error:
        message = _ARGUMENT.sub(r"--\1", str(error).replace(_NO_OPTION, ""))
        raise click.UsageError(message) from error


@command("compare")
@click.argument("reference")
@click.argument("candidate")
@click.option("--inputs", metavar="FILE", help="Inputs for two callables, from a file of arrays.")
@click.option("--cotangent", metavar="FILE", help="Compare gradients too, for this cotangent.")
@click.option("--name", "names", multiple=True, callback=_names, metavar="HERE=THERE", help="Pair two activations.")
@click.option("--isolate", is_flag=True, help="Compare two models module by module, each on the original's inputs.")
@click.option("--strict", is_flag=True, help="Beyond rounding fails too, even where nothing explains it.")
@click.option("--html", type=FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=FILE, help="Write the verdicts as JSON.")
def compare(
    reference: str,
    candidate: str,
    inputs: str | None,
    cotangent: str | None,
    names: dict[str, str],
    isolate: bool,
    strict: bool,
    html: str | None,
    json_path: str | None,
) -> None:
    """Compare the CANDIDATE's outputs with the REFERENCE's, and name the cause if they differ.

    Each is a file of arrays (.npy, .npz, .safetensors, .pt, .pth, .h5, .hdf5), of a model (.keras, .onnx, .tflite), or
    module:callable. Models and callables need --inputs. With --isolate both are models, and each module of the
    candidate is run on the original's own inputs. Names may be patterns, as in "h.*=block_*". The exit status is 0 if
    they agree, 1 if they differ, 2 for bad usage and 3 if the comparison could not have failed; a difference of a few
    roundings without a known cause fails only with --strict.
    """
    from polylogit.porting._files import compare_files, isolate_files

    if isolate and cotangent is not None:
        message = "--isolate compares no gradients; leave out --cotangent."
        raise click.UsageError(message)
    run: Any = isolate_files if isolate else functools.partial(compare_files, cotangent=cotangent)
    with _spelt_as_options(), _progress.bar():
        found = run(reference, candidate, inputs=inputs, names=names or None)
    click.echo(found.summary())
    write(found, html, json_path)
    sys.exit({"agrees": 0, "beyond": int(strict), "disagrees": 1, "inconclusive": 3}[found.status])


@command("compare-tokens")
@click.argument("reference")
@click.argument("candidate")
@click.option("--tokens", required=True, metavar="FILE", help="The ids of the chosen tokens.")
@click.option("--mask", metavar="FILE", help="Which positions count: booleans, or 0 and 1.")
@click.option(
    "--dtype", type=dtypes(), help="The coarsest dtype in which either engine computes, for example bfloat16."
)
@click.option("--strict", is_flag=True, help="Beyond rounding fails too, even where nothing explains it.")
@click.option("--html", type=FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=FILE, help="Write the verdict and the measures as JSON.")
def compare_tokens(
    reference: str,
    candidate: str,
    tokens: str,
    mask: str | None,
    dtype: str | None,
    strict: bool,
    html: str | None,
    json_path: str | None,
) -> None:
    """Compare the log-probabilities that two engines give to the same TOKENS, and name the cause if they differ.

    Each file holds one array: the log-probability of each token, or rows of logits or log-probabilities over the
    vocabulary; or two, "ids" and "logprobs", for the top k. The exit status is 0 if they agree, 1 if they differ, 2 for
    bad usage and 3 if it cannot be told.
    """
    from polylogit.porting._files import compare_token_files

    with _spelt_as_options(), _progress.bar():
        found = compare_token_files(reference, candidate, tokens=tokens, mask=mask, dtype=dtype)
    click.echo(found.summary())
    write(found, html, json_path)
    beyond = 1 if strict else 0
    sys.exit({"within rounding": 0, "beyond rounding": beyond, "different": 1, "inconclusive": 3}[found.verdict])
