"""What the commands share: the kinds of arguments, with completion; options; how a report is given out.

Knows click, the table of commands and the names of backends, operations and dtypes.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from polylogit import _registry as registry
from polylogit._commands import COMMANDS, INTERRUPTED, footer
from polylogit._io import check_writable, write_whole
from polylogit._operations import OPERATIONS
from polylogit.errors import PolylogitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BACKEND",
    "CHOICE",
    "FILE",
    "HELP",
    "OPERATION",
    "Names",
    "Written",
    "command",
    "common",
    "dtypes",
    "finish",
    "paired",
    "write",
    "writing",
]

# Of the group and of each command: click keeps what a command was first called with, be it called by itself.
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
# The dtypes of results, as `polylogit._spec.dtypes` has them, which would import NumPy; a test compares.
DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
if TYPE_CHECKING:
    _Kind = click.ParamType[str]
else:
    _Kind = click.ParamType  # generic from click 8.4 on


class Written(click.Path):
    """A file to be written when the work is done; refused before it begins where that cannot be."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path as it was given."""
        found = str(super().convert(value, param, ctx))
        if found != "-" or not self.allow_dash:
            try:
                check_writable(found)
            except OSError as error:
                self.fail(f"{str(value)!r} cannot be written: {error.strerror}", param, ctx)
        return found


FILE = Written()
OPERATION = click.Choice(list(OPERATIONS))


class Names(_Kind):
    """A word out of a list, or one that stands for one of them; the list is shown, completed and asked back from."""

    name = "name"

    def __init__(self, *names: str, aliases: dict[str, str] | None = None) -> None:
        self._names, self._aliases = names, aliases or {}

    def names(self) -> tuple[str, ...]:
        """All that may be written."""
        return self._names

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The list, as of a `click.Choice`."""
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word itself, or what it stands for."""
        if value in self.names():
            return value
        if value in self._aliases:
            return self._aliases[value]
        import difflib  # only for an error

        close = difflib.get_close_matches(str(value).lower(), [*self.names(), *self._aliases], n=1)
        meant = f" Did you mean {self._aliases.get(close[0], close[0])!r}?" if close else ""
        message = f"{value!r} is not one of {', '.join(self.names())}.{meant}"
        raise click.BadParameter(message, ctx, param)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The words that begin so."""
        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]


class _Backend(Names):
    """The name of a backend, a plug-in's or a library's of the array API standard among them."""

    def names(self) -> tuple[str, ...]:
        registry.scan_entry_points()
        return tuple(registry.SPECIFICATIONS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = registry.specification_of(value)
        except PolylogitError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx) if found is None else found.name


BACKEND = _Backend(aliases=registry.ALIASES)


def dtypes(*names: str) -> Names:
    """The names of dtypes, all by default, with what others call them."""
    short = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}
    return Names(*(names or DTYPES), aliases=short | {"double": "float64", "fp64": "float64"})


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of the table: its line in the list, its statuses and example below its help, and its errors."""

    def made(function: Callable[..., Any]) -> click.Command:
        below = "\n\n".join(f"\b\n{part}" for part in footer(name).split("\n\n"))
        return click.command(name, short_help=COMMANDS[name].line, epilog=below, context_settings=HELP)(
            _usage(function)
        )

    return made


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
            sys.exit(INTERRUPTED)

    return wrapped


def paired(values: tuple[str, ...], form: str) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, other in pairs:
        if not (name and equals and other):
            raise click.BadParameter(f"{name + equals + other!r}; write {form}")
    return {name: other for name, _, other in pairs}


def pairs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return paired(values, "NAME=VALUE")


def reports(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, words in (
        ("markdown", "Write Markdown, for the summary of a job."),
        ("html", "Write one HTML file to look at."),
        ("junit", "Write JUnit XML."),
        ("json", "Write JSON, in a documented schema; - writes it alone to standard output."),
    ):
        function = click.option(
            f"--{name}",
            f"{name}_path",
            type=Written(allow_dash=name == "json"),
            metavar="FILE",
            help=words,
        )(function)
    return function


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--level",
            type=click.Choice(["quick", "full"]),
            default="full",
            show_default=True,
            help="How many cases: quick takes seconds to minutes, full minutes.",
        ),
        click.option("--device", help="Where to make arrays, as the framework calls it, for example cuda."),
        click.option(
            "--seed",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Of the random numbers from which logits are made.",
        ),
        click.option(
            "--expected-failures",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
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
    return reports(function)


CHOICE = ("only", "skip", "max_size", "budget")  # options that say which cases are run


def finish(report: Any, paths: dict[str, str | None]) -> None:
    from polylogit.conformance._reports import terminal  # rich only where it is used

    machine = paths.get("json_path") == "-"  # standard output belongs to a program
    terminal.show(report, terminal.console(stderr=machine))
    if machine:
        from polylogit.conformance._reports import json_report

        click.echo(json_report.render(report), nl=False)
    with writing():
        for kind in ("json", "junit", "html"):
            if (path := paths.get(f"{kind}_path")) and path != "-":
                getattr(report, f"to_{kind}")(path)
        if paths.get("markdown_path"):
            write_whole(str(paths["markdown_path"]), report.to_markdown())
    sys.exit(report.status)


def write(found: Any, html: str | None, json_path: str | None) -> None:
    with writing():
        if html is not None:
            found.to_html(html)
        if json_path is not None:
            found.to_json(json_path)


@contextlib.contextmanager
def writing(what: str = "the report") -> Iterator[None]:
    """A disk that has filled up meanwhile, and the like, end the command with a message."""
    try:
        yield
    except OSError as error:
        message = f"{what} cannot be written: {error}"
        raise click.UsageError(message) from error
