"""The command line, in click: one module for each group of related commands.

Their names, summaries and exit statuses are in `polylogit._commands`. Knows the public functions of the kit and of the
porting tools, and imports them only when a command needs them.
"""

from __future__ import annotations

import sys
from typing import Any

import click

import polylogit as library
from polylogit._cli.audits import audit
from polylogit._cli.kit import check, conform, replay
from polylogit._cli.options import HELP, command
from polylogit._cli.ports import compare, compare_tokens
from polylogit._commands import DEVICES, INTERRUPTED, SUMMARY, show_backends
from polylogit._outline import new_backend

__all__ = ["compare", "compare_tokens", "polylogit"]


class _Group(click.Group):
    """The group of commands; an interruption ends any of them with the shell's usual status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)


@click.group(cls=_Group, help=SUMMARY, context_settings=HELP)
@click.version_option(library.__version__, prog_name="polylogit")
def polylogit() -> None:
    """Run a command."""


@command("backends")
@click.option("--devices", is_flag=True, help=DEVICES)
def backends(devices: bool) -> None:
    """List the backends: whether each is installed, its version, and how to install it if not.

    Imports no framework unless --devices is given.
    """
    click.echo(show_backends(devices=devices))


for _one in (backends, conform, check, replay, compare, compare_tokens, audit, command("new-backend")(new_backend)):
    polylogit.add_command(_one)
