"""Shared helpers: import an object by name, write a file completely or not at all, write numbers that JSON lacks.

Standard library only; knows nothing of polylogit.
"""

from __future__ import annotations

import math
import os
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["plain_json", "resolve", "write_whole"]


def resolve(target: str) -> Any:
    """Import the object that ``"module:name"`` names; modules are also found in the current directory.

    Raises
    ------
    ValueError
        For a text of another form.
    Exception
        Any exception from the import; AttributeError if the module has no such name.
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        message = f'{target!r} names no object; write "module:name", for example "my_kernels:softmax".'
        raise ValueError(message)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return pkgutil.resolve_name(target)


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file completely or not at all: an interruption leaves the old file or none. Creates folders."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def plain_json(value: Any) -> Any:
    """The data in terms of JSON: NaN and infinities as "nan", "inf" and "-inf", unknown objects as text."""
    if isinstance(value, dict):
        return {str(key): plain_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
