"""Shared by the commands: argument types with completion, common options, and the output of reports.

Knows click, the table of commands, and the names of backends, operations and dtypes; imports neither the kit nor the
porting tools until a report is written.
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

# For the group and for each command, so that a command that is called on its own has them, too.
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
# The dtypes in `polylogit._spec.dtypes`, repeated here because it would import NumPy; a test compares.
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
    """A parameter that takes a word of a list, or an alias; completes it, and suggests the nearest for a typo."""

    name = "name"

    def __init__(self, *names: str, aliases: dict[str, str] | None = None) -> None:
        self._names, self._aliases = names, aliases or {}

    def names(self) -> tuple[str, ...]:
        """The words of the list."""
        return self._names

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The list, as a `click.Choice` shows it."""
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word, or the one that an alias means."""
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
        """The words that begin with `incomplete`."""
        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]


class _Backend(Names):
    """The name of a backend, including plug-ins and libraries of the array API standard."""

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
    """The type of a dtype parameter, for these names (all by default) and their common aliases."""
    short = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "float": "float32"}
    return Names(*(names or DTYPES), aliases=short | {"double": "float64", "fp64": "float64"})


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator for a command of the table, which adds its summary, its statuses, its example and its errors."""

    def made(function: Callable[..., Any]) -> click.Command:
        below = "\n\n".join(f"\b\n{part}" for part in footer(name).split("\n\n"))
        return click.command(name, short_help=COMMANDS[name].line, epilog=below, context_settings=HELP)(
            _usage(function)
        )

    return made


def _usage(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an error of polylogit into a usage error, with status 2 and without a traceback."""

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
        ("markdown", "Write Markdown, for the job summary."),
        ("html", "Write one HTML page."),
        ("junit", "Write JUnit XML."),
        ("json", "Write JSON, in a documented schema; - writes only JSON to standard output."),
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
            help="The number of cases: quick takes seconds to minutes, full takes minutes.",
        ),
        click.option("--device", help="The device for the arrays, as the framework names it, for example cuda."),
        click.option(
            "--seed",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="The seed of the random logits.",
        ),
        click.option(
            "--expected-failures",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="TOML file of expected failures.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="Fail results that are less accurate than their bound, and expected failures that pass or expired.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="PATTERN",
            help="Cases to run, by the name of a check, check/dtype/case or an id; * matches anything.",
        ),
        click.option("--skip", multiple=True, metavar="PATTERN", help="Cases to skip, in the form of --only."),
        click.option("--max-size", type=click.IntRange(1), metavar="N", help="Skip arrays of more than N logits."),
        click.option("--budget", type=float, metavar="SECONDS", help="Start no new case after that time."),
    ):
        function = option(function)
    return reports(function)


CHOICE = ("only", "skip", "max_size", "budget")  # options that select cases


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
