"""``polylogit compare`` and ``polylogit compare-tokens``: compare a port with its original, or two engines.

Knows the public functions of the porting tools, and imports them only when a command runs.
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


# Errors and advice name the arguments of Python functions; on the command line these are options.
_PYTHON_NAMES = 'names={"name here": "name there"}'
_ARGUMENT = re.compile(r"\b(inputs|cotangent|tokens|mask|dtype|name)s?=(?=[\s,;.:]|$)")
_NO_OPTION = ", or candidate_inputs= where the two take different ones"


def _as_options(text: str) -> str:
    """A text about arguments in Python as a text about the options of the command."""
    text = text.replace(_PYTHON_NAMES, '--name "HERE=THERE"').replace(_NO_OPTION, "")
    return _ARGUMENT.sub(r"--\1", text)


@contextlib.contextmanager
def _spelt_as_options() -> Iterator[None]:
    try:
        yield
    except PolylogitError as error:
        raise click.UsageError(_as_options(str(error))) from error


@command("compare")
@click.argument("reference")
@click.argument("candidate")
@click.option("--inputs", metavar="FILE", help="A file with the inputs of models and callables.")
@click.option("--cotangent", metavar="FILE", help="A file with a cotangent, to compare gradients too.")
@click.option(
    "--name", "names", multiple=True, callback=_names, metavar="HERE=THERE", help="Pair two activations or modules."
)
@click.option("--isolate", is_flag=True, help="Compare two models module by module, each with the original's inputs.")
@click.option(
    "--strict", is_flag=True, help="Fail differences beyond rounding, even without a known cause or measured noise."
)
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

    Each is a file of arrays (.npy, .npz, .safetensors, .pt, .pth, .h5, .hdf5), a model file (.keras, .onnx, .tflite)
    or module:callable. Models and callables need --inputs. With --isolate, both are models, and each module of the
    candidate runs on the original's own inputs. Names may be patterns, as in "h.*=block_*". The exit status is 0 if
    they agree, 1 if they differ, 2 for wrong usage and 3 if the comparison could not have failed. A difference slightly
    beyond rounding, without a known cause, fails only with --strict; so does a difference beyond the bounds, up to
    1.2e-4, if noise was not measured.
    """
    from polylogit.porting._files import compare_files, isolate_files

    if isolate and cotangent is not None:
        message = "--isolate compares no gradients; leave out --cotangent."
        raise click.UsageError(message)
    run: Any = isolate_files if isolate else functools.partial(compare_files, cotangent=cotangent)
    with _spelt_as_options(), _progress.bar():
        found = run(reference, candidate, inputs=inputs, names=names or None)
    for line in found.summary().splitlines():
        click.echo(_as_options(line) if line.startswith("  fix: ") else line)
    write(found, html, json_path)
    allowed = int(strict and bool(found.allowed))
    sys.exit({"agrees": allowed, "beyond": int(strict), "disagrees": 1, "inconclusive": 3}[found.status])


@command("compare-tokens")
@click.argument("reference")
@click.argument("candidate")
@click.option("--tokens", required=True, metavar="FILE", help="A file with the ids of the chosen tokens.")
@click.option("--mask", metavar="FILE", help="A file that marks the positions that count, with booleans or 0 and 1.")
@click.option(
    "--dtype", type=dtypes(), help="The coarsest dtype in which either engine computes, for example bfloat16."
)
@click.option("--strict", is_flag=True, help="Fail differences beyond rounding, even without a known cause.")
@click.option("--html", type=FILE, help="Write a report as one HTML page.")
@click.option("--json", "json_path", type=FILE, help="Write the verdict and the statistics as JSON.")
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
    """Compare the log-probabilities of two engines for the same tokens, and name the cause if they differ.

    Each file holds one array (the log-probability of each token, or rows of logits or log-probabilities over the
    vocabulary) or two, "ids" and "logprobs", for the top k. The exit status is 0 if they agree, 1 if they differ, 2 for
    wrong usage and 3 if the comparison is inconclusive.
    """
    from polylogit.porting._files import compare_token_files

    with _spelt_as_options(), _progress.bar():
        found = compare_token_files(reference, candidate, tokens=tokens, mask=mask, dtype=dtype)
    click.echo(found.summary())
    write(found, html, json_path)
    beyond = 1 if strict else 0
    sys.exit({"within rounding": 0, "beyond rounding": beyond, "different": 1, "inconclusive": 3}[found.verdict])
