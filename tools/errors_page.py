"""Write ``docs/errors.md`` from the exceptions and from the table of mistakes that the tests make.

    python tools/errors_page.py

tests/docs/test_errors_page.py fails if the committed page differs.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polylogit import errors

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
sys.path.insert(0, str(ROOT / "tests"))

import remedies  # noqa: E402  the table is the tests'

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARIES = {
    "Python, NumPy and SciPy": ("",),
    "PyTorch": ("torch",),
    "TensorFlow and Keras": ("tensorflow",),
    "JAX": ("jax",),
    "pandas, polars, xarray and PIL": ("pandas", "polars", "xarray", "PIL"),
}

TEXT = """\
<!-- Made by tools/errors_page.py from src/polylogit/errors.py and tests/remedies.py; change those. -->

# Error messages

An error message names the value, the rule that it breaks, and what to write instead. This page lists common
mistakes, with the remedy that the message names. The tests make each of these mistakes, look for the
remedy in the message, apply it literally, and compare the result: {count} combinations of mistake, operation
and framework.

```python
>>> import polylogit
>>> scores = {{"cat": 3.2, "dog": 5.1, "owl": 2.7}}
>>> polylogit.softmax(scores)
Traceback (most recent call last):
polylogit.errors.UnsupportedArrayError: x, an object of the type dict, is no array: it is a mapping of names to
values; pass list(x.values()).
>>> polylogit.softmax(list(scores.values())).round(3)
array([0.121, 0.806, 0.073])
```

## Keywords of other libraries

The logits are the first argument and have no name: PyTorch calls them `input`, SciPy and JAX `x`, TensorFlow `logits`.
The message for an unknown keyword shows the whole call. It begins like Python's own.

{keywords}

A mask is a boolean array that is True for entries that count. PyTorch's `key_padding_mask` is True for the others, so
the message writes `~key_padding_mask`; for a mask of numbers it writes a comparison.

## Objects that are not arrays

In the message, `x` stands for the object. For a list of such objects, the message shows the comprehension that converts
all of them.

{objects}

`None` has no remedy: the message says where it was found, such as `x[1]`.

## Other arguments

{arguments}

## Backends

`backend=`, `convert(x, to)`, `use_backend` and `get_backend` take a backend's name, the framework's module
(`backend=torch`), and the short names `"np"`, `"pytorch"`, `"tf"` and `"jnp"`. Any other word raises an
`UnknownBackendError`; if it resembles a name, the message suggests that name:

{backends}

## The exceptions

All are in `polylogit.errors` and derive from `PolylogitError`. Each is also the built-in exception that existing code
would catch.

{exceptions}
"""


def code(text: str) -> str:
    """As code in a cell of a table."""
    return "``" + text.replace("|", r"\|") + "``" if "`" in text else f"`{text}`".replace("|", r"\|")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """In Markdown; rows that are the same are one."""
    lines = [head, tuple("---" for _ in head), *dict.fromkeys(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def instead(row: remedies.Row) -> str:
    """What is written instead, for softmax where the operation can be chosen."""
    operation = row.operations[0]
    remedy = ", ".join(row.remedy).replace("{f}", operation)
    whole = row.error == "ArgumentError" or f"polylogit.{operation}" in remedy or remedy.startswith("jax.jit")
    return remedy if whole else f"{operation}({remedy})"


def argument(row: remedies.Row) -> str:
    """The argument that is written instead, or the whole call where it is the first."""
    _, _, written = row.right.partition("x, ")
    return written.removesuffix(")").format(remedy=row.remedy[0]) if written else instead(row)


def objects() -> str:
    """A table for each library."""
    parts = []
    for title, needs in LIBRARIES.items():
        found = [row for row in remedies.OBJECTS if (row.needs[0] if row.needs else "") in needs]
        rows = [(row.what, code(instead(row)), code(row.error)) for row in found]
        parts.append(f"### {title}\n\n" + table(("what was passed", "write", "exception"), rows))
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    keywords = [(row.what, code(instead(row))) for row in remedies.KEYWORDS if row.operations[0] == "softmax"]
    foreign = next(row for row in remedies.DTYPES if "torch" in row.needs)
    # Of those that differ in the framework alone the first, which is NumPy's.
    rows = list({row.what: row for row in reversed(remedies.ARGUMENTS)}.values())
    arguments = [
        (row.what, code(row.call.format(f="softmax")), code(argument(row)), code(row.error))
        for row in (*reversed(rows), foreign)
    ]
    exceptions = []
    for name in errors.__all__:
        exception = getattr(errors, name)
        bases = [base.__name__ for base in exception.__bases__ if base is not errors.PolylogitError]
        exceptions.append((code(name), ", ".join(map(code, bases)), (inspect.getdoc(exception) or "").splitlines()[0]))
    return TEXT.format(
        count=len({(row, operation) for row in remedies.ROWS for operation in row.operations}),
        keywords=table(("instead of `softmax(x, ...)` with", "write"), keywords),
        objects=objects(),
        arguments=table(("mistake", "written", "write", "exception"), arguments),
        backends=table(("written", "asked back"), ((row.what, code(row.remedy[0])) for row in remedies.BACKENDS)),
        exceptions=table(("exception", "also a", "raised when"), exceptions),
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
