"""Outputs from files: .npy, .npz and .safetensors, read without ever unpickling, and ``module:callable``.

The first bytes of a file decide what it is, and must agree with its name.
"""

from __future__ import annotations

import functools
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._io import resolve
from polylogit.errors import ComparisonError
from polylogit.porting._compare import compare
from polylogit.porting._isolate import isolate

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.porting._isolate import Isolation
    from polylogit.porting._report import Comparison

__all__ = ["compare_files", "isolate_files", "load"]

# suffix -> the bytes with which such a file begins
_MAGIC = {".npy": b"\x93NUMPY", ".npz": b"PK"}


def load(source: str | os.PathLike[str]) -> Any:
    """The array, the named arrays, or the callable that a path or ``module:callable`` names.

    Parameters
    ----------
    source : str or path
        A file ending in .npy, .npz or .safetensors, or ``"package.module:name"``; modules are also found in the
        current directory.

    Returns
    -------
    ndarray, dict of str to ndarray, or callable

    Raises
    ------
    ComparisonError
        For a file that is missing, malformed, pickled or of another kind, and for a callable that cannot be imported.
    """
    text = os.fspath(source)
    path = Path(text)
    if path.suffix in _READERS:
        if not path.is_file():
            message = f"the file {text!r} does not exist, or is a folder. Check the path."
            raise ComparisonError(message)
        return _read(path)
    if ":" in text:
        return _import(text)
    message = f"{text!r} is neither a file ending in .npy, .npz or .safetensors nor module:callable. Save the outputs "
    message += "with numpy.savez, or name a function."
    raise ComparisonError(message)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(8)
        magic = _MAGIC.get(path.suffix, b"")
        if not start.startswith(magic):
            raise ValueError(f"it begins with {start!r} and not with {magic!r}")
        found = _READERS[path.suffix](path)
    except Exception as error:
        message = (
            f"{str(path)!r} is no readable {path.suffix} file: {error}. Write it again as plain arrays with "
            "numpy.save, numpy.savez or safetensors; pickled objects are never loaded."
        )
        raise ComparisonError(message) from error
    if isinstance(found, dict) and not found:
        message = f"{str(path)!r} holds no arrays; save at least one."
        raise ComparisonError(message)
    return found


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        others = [name for name in archive.namelist() if not name.endswith(".npy")]
        if others:
            raise ValueError(f"it holds {others[0]!r}, which is not an array")
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    with np.load(path, allow_pickle=False) as arrays:
        # In the order of the archive, which is that in which they were written.
        return {name: arrays[name] for name in names}


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ValueError("reading it needs the package safetensors: pip install safetensors") from error
    if path.stat().st_size < 8:
        raise ValueError("it is too short")
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in _in_order(path, list(file.keys()))}


def _in_order(path: Path, names: list[str]) -> list[str]:
    """By the place of the data in the file: the order of writing, as far as the format keeps it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return sorted(names, key=lambda name: header[name]["data_offsets"][0])


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": functools.partial(np.load, allow_pickle=False),
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}


def _import(text: str) -> Any:
    try:
        found = resolve(text)
    except Exception as error:
        message = f"{text!r} cannot be imported: {type(error).__name__}: {error}. Write it as package.module:name."
        raise ComparisonError(message) from error
    if not callable(found):
        message = f"{text!r} is a {type(found).__name__}, which cannot be called; name a function or a model."
        raise ComparisonError(message)
    return found


def compare_files(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | None = None,
    cotangent: str | os.PathLike[str] | None = None,
    names: dict[str, str] | None = None,
) -> Comparison:
    """`polylogit.porting.compare` of two files, or of two ``module:callable`` with inputs from a file.

    Parameters
    ----------
    reference, candidate : str or path
        As for `load`.
    inputs, cotangent : str or path, optional
        For callables: .npy, .npz or .safetensors. Several arrays are passed by name.
    names : dict, optional
        The candidate's names for activations that the reference names differently.

    Returns
    -------
    Comparison
    """
    given: dict[str, Any] = {"names": names}
    if inputs is not None:
        given["inputs"] = _positional(load(inputs))
    if cotangent is not None:
        given["cotangent"] = _single(load(cotangent))
    return compare(load(reference), load(candidate), **given)


def isolate_files(
    reference: str,
    candidate: str,
    *,
    inputs: str | os.PathLike[str] | None,
    names: dict[str, str] | None = None,
) -> Isolation:
    """`polylogit.porting.isolate` of two ``module:callable``, with inputs from a file.

    Parameters
    ----------
    reference, candidate : str
        As for `load`: models, or functions that call one.
    inputs : str or path
        .npy, .npz or .safetensors. Several arrays are passed by name.
    names : dict, optional
        The candidate's names for modules of the reference; patterns with ``*``.

    Returns
    -------
    Isolation
    """
    if inputs is None:
        message = "modules are isolated in a run of both models; give the inputs to run them on in a file."
        raise ComparisonError(message)
    models = load(reference), load(candidate)
    for name, model in zip((reference, candidate), models, strict=True):
        if not callable(model):
            message = f"{name!r} holds arrays, and only models can be isolated; name them as module:model."
            raise ComparisonError(message)
    return isolate(*models, _positional(load(inputs)), names=names)


def _positional(arrays: Any) -> Any:
    """The names ``arr_0``, ``arr_1`` are those that numpy.savez gives to arrays without a name."""
    if isinstance(arrays, dict) and all(name.startswith("arr_") for name in arrays):
        return tuple(arrays.values())
    return arrays


def _single(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        if len(arrays) != 1:
            message = f"the file of the cotangent holds {len(arrays)} arrays; write one that holds a single array."
            raise ComparisonError(message)
        return next(iter(arrays.values()))
    return arrays
