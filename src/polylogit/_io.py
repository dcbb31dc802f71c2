"""Shared helpers: import an object by name, write a file completely or not at all, write numbers that JSON lacks.

Standard library only; knows nothing of polylogit.
"""

from __future__ import annotations

import errno
import math
import os
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["check_writable", "plain_json", "resolve", "write_whole"]


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
    if module.endswith(".py") or {"/", os.sep} & set(module):
        file = Path(module)
        place = "" if file.parent == Path() else f", in the folder {str(file.parent)!r} or with it on PYTHONPATH"
        message = f"{module!r} is a file; name the module: {file.stem}:{name or 'softmax'}{place}."
        raise ValueError(message)
    if not (module and colon and name):
        message = f'{target!r} names no object; write "module:name", for example "my_kernels:softmax".'
        raise ValueError(message)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return pkgutil.resolve_name(target)


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file completely or not at all: an interruption leaves the old file or none. Creates folders.

    A symbolic link stays one, and the file that it points to is replaced. A pipe or a device is written to.
    """
    given = Path(path)
    if _is_stream(given):
        given.write_text(text, encoding="utf-8")
        return
    target = Path(os.path.realpath(given))
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


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError now that `write_whole` would raise; leaves nothing behind.

    Raises
    ------
    OSError
        For a folder, and for a file where none can be made.
    """
    given = Path(path)
    if _is_stream(given):
        if given.is_dir() or not os.access(given, os.W_OK):
            code = errno.EISDIR if given.is_dir() else errno.EACCES
            raise OSError(code, os.strerror(code), str(given))
        return
    folder = next(one for one in Path(os.path.realpath(given)).parents if one.exists())
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    Path(name).unlink()


def _is_stream(path: Path) -> bool:
    """Whether something is there that is no file, so that nothing may take its place."""
    return path.exists() and not path.is_file()


def plain_json(value: Any) -> Any:
    """The data in terms of JSON: NaN and infinities as "nan", "inf" and "-inf", unknown objects as text."""
    if isinstance(value, dict):
        return {str(key): plain_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
