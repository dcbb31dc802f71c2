"""`load`, `save` and comparisons of files: outputs come from files or ``module:callable``.

The suffix of a file names its format, and its first bytes must agree. Knows no format: `polylogit.porting._formats`
reads and writes them.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit._io import resolve
from polylogit.errors import ComparisonError
from polylogit.porting._call import as_numpy
from polylogit.porting._compare import compare
from polylogit.porting._formats import FORMATS, WRITERS
from polylogit.porting._isolate import isolate
from polylogit.porting._tokens.compare import compare_tokens

if TYPE_CHECKING:
    from polylogit.porting._isolate import Isolation
    from polylogit.porting._report import Comparison
    from polylogit.porting._tokens.report import TokenComparison

__all__ = ["compare_files", "compare_token_files", "isolate_files", "load", "save"]

_KNOWN = ", ".join(FORMATS)


def load(source: str | os.PathLike[str]) -> Any:
    """Load an array, named arrays or a callable from a file or ``module:callable``.

    Parameters
    ----------
    source : str or path
        A file of arrays (.npy, .npz, .safetensors, .pt, .pth, .h5, .hdf5), a model file (.keras, .onnx, .tflite), or
        ``"package.module:name"``; modules are also found in the current directory. Some formats need a library beyond
        the extra ``conformance``: PyTorch, h5py, Keras, onnxruntime or ai-edge-litert.

    Returns
    -------
    ndarray, mapping of str to ndarray, or callable
        A mapping keeps the order in which the arrays were written, if the file records it, and reads each array
        only when it is needed.

    Raises
    ------
    ComparisonError
        If the file is missing, malformed, pickled or of another kind, if a library is not installed, or if the callable
        cannot be imported.
    """
    text = os.fspath(source)
    path = Path(text)
    if path.suffix in FORMATS:
        if not path.is_file():
            message = f"the file {text!r} does not exist, or is a folder. Check the path."
            raise ComparisonError(message)
        return _read(path)
    if ":" in text:
        return _import(text)
    message = f"{text!r} is neither a file ending in {_KNOWN} nor module:callable. Save the outputs "
    message += "with polylogit.porting.save or numpy.savez, or name a function."
    raise ComparisonError(message)


def _read(path: Path) -> Any:
    form = FORMATS[path.suffix]
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if not start.startswith(form.magic):
            raise ValueError(f"it begins with {start!r} and not with {form.magic!r}")
        found = form.read(path)
    except Exception as error:
        message = (
            f"{str(path)!r} is no readable {path.suffix} file: {error}. Write arrays with polylogit.porting.save, "
            "numpy.save or numpy.savez; pickled objects are never loaded."
        )
        raise ComparisonError(message) from error
    if isinstance(found, Mapping) and not found:
        message = f"{str(path)!r} holds no arrays; save at least one."
        raise ComparisonError(message)
    return found


def save(path: str | os.PathLike[str], activations: Mapping[str, Any]) -> None:
    """Save named activations of any framework, in order, for `load` and `compare_files`.

    Parameters
    ----------
    path : str or path
        A path ending in .npz or .safetensors. The latter also holds bfloat16 and float8; since its writers sort the
        arrays, their order is stored in the metadata.
    activations : mapping of str to array
        The activations, as a recorder returns them.

    Raises
    ------
    ComparisonError
        For another suffix, or a value that is no array of real numbers.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from polylogit.porting import load, record, save, tap
    >>> recorded = record(lambda x: tap("squares", x * x).sum())(np.arange(3.0))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "activations.safetensors"
    >>> save(path, recorded)
    >>> list(load(path))
    ['squares', 'output']
    """
    target = Path(path)
    if target.suffix not in WRITERS:
        message = f"{os.fspath(path)!r} ends in none of {', '.join(WRITERS)}; choose one of these."
        raise ComparisonError(message)
    arrays = {str(name): as_numpy(one, f"the activation {name!r}") for name, one in activations.items()}
    narrow = [name for name, one in arrays.items() if one.dtype.kind not in "biuf"]
    if narrow and target.suffix == ".npz":
        name = narrow[0]
        message = f"{name!r} is {arrays[name].dtype.name}, which .npz does not keep; write .safetensors."
        raise ComparisonError(message)
    partial = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        WRITERS[target.suffix](partial, arrays)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


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
    """Compare two files, or two ``module:callable`` with inputs from a file, as `polylogit.porting.compare` does.

    Parameters
    ----------
    reference, candidate : str or path
        As for `load`.
    inputs, cotangent : str or path, optional
        For callables: a file of arrays; several arrays are passed by name.
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
        given["cotangent"] = _single(load(cotangent), "the cotangent")
    found = compare(load(reference), load(candidate), **given)
    return dataclasses.replace(found, sources=(_dated(reference), _dated(candidate)))


def _dated(source: str | os.PathLike[str]) -> str:
    """The source; for a file, with the time when it was written."""
    text = os.fspath(source)
    if not Path(text).is_file():
        return text
    written = datetime.datetime.fromtimestamp(Path(text).stat().st_mtime).astimezone()
    return f"{text}, written {written:%Y-%m-%d %H:%M:%S %Z}"


def isolate_files(
    reference: str,
    candidate: str,
    *,
    inputs: str | os.PathLike[str] | None,
    names: dict[str, str] | None = None,
) -> Isolation:
    """Isolate two ``module:callable`` with inputs from a file, as `polylogit.porting.isolate` does.

    Parameters
    ----------
    reference, candidate : str
        As for `load`: models, or functions that call a model.
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
    found = isolate(*models, _positional(load(inputs)), names=names)
    return dataclasses.replace(found, sources=(_dated(reference), _dated(candidate)))


def _positional(arrays: Any) -> Any:
    """The inputs as arguments: ``arr_0``, ``arr_1`` are the names that numpy.savez gives to positional arrays."""
    if isinstance(arrays, Mapping):
        named = dict(arrays)
        return tuple(named.values()) if all(name.startswith("arr_") for name in named) else named
    return arrays


def compare_token_files(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    tokens: str | os.PathLike[str],
    mask: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
) -> TokenComparison:
    """Compare the tokens of two files, each with one array, or with "ids" and "logprobs" for the top k."""
    sides = []
    for path, what in ((reference, "the reference"), (candidate, "the candidate")):
        found = load(path)
        top = isinstance(found, Mapping) and set(found) == {"ids", "logprobs"}
        sides.append(dict(found) if top else _single(found, what))
    counts = None if mask is None else _single(load(mask), "the mask")
    return compare_tokens(*sides, tokens=_single(load(tokens), "the tokens"), mask=counts, dtype=dtype)


def _single(arrays: Any, what: str) -> Any:
    if callable(arrays):
        message = f"{what} is a callable, and a file with an array is needed; save what it returns."
        raise ComparisonError(message)
    if isinstance(arrays, Mapping):
        if len(arrays) != 1:
            message = f"the file of {what} holds {len(arrays)} arrays; write one that holds a single array."
            raise ComparisonError(message)
        return next(iter(arrays.values()))
    return arrays
