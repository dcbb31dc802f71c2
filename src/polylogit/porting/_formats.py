"""The formats of files that hold outputs or a model, by suffix: how to read and, for some, how to write them.

Arrays are read one at a time, when they are needed, in the order in which they were written. Nothing is unpickled, and
no reference to another file is followed. A library is imported when one of its files is read. Knows nothing of
comparisons.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit import convert
from polylogit._extras import command
from polylogit.errors import ComparisonError

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

__all__ = ["FORMATS", "WRITERS", "Arrays", "Format"]

# In the metadata of a safetensors file, the names in the order in which they were written, as JSON.
ORDER = "polylogit.order"


class Arrays(Mapping[str, Any]):
    """The arrays of a file by name; each is read again whenever it is needed, and not kept."""

    def __init__(self, path: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], Any]) -> None:
        self._path, self._names, self._read = path, shapes, read

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        return self._names[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        try:
            return self._read(name)
        except Exception as error:
            message = f"{name!r} of {str(self._path)!r} cannot be read: {error}. Write the file again."
            raise ComparisonError(message) from error

    def __contains__(self, name: object) -> bool:
        return name in self._names  # that of Mapping would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<Arrays of {str(self._path)!r}: {', '.join(self._names)}>"


class Format(NamedTuple):
    """One file format.

    Attributes
    ----------
    read : callable
        Reads a path; returns an array, a mapping of arrays, or a model, which is a callable.
    magic : bytes
        The first bytes of such a file; empty if they do not identify the format.
    """

    read: Callable[[Path], Any]
    magic: bytes = b""


def _needed(module: str, extra: str) -> Any:
    """Import a library, or raise an error that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"reading it needs {module.partition('.')[0]}; install it with: {command(extra)}"
        raise ValueError(message) from error


# --- arrays ----------------------------------------------------------------------------------------------------------


def _npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        others = [name for name in names if not name.endswith(".npy")]
        if others:
            raise ValueError(f"it holds {others[0]!r}, which is not an array")
        # In the order of the archive, which is that in which they were written.
        shapes = {name.removesuffix(".npy"): _checked_shape(archive, name) for name in names}

    def read(name: str) -> Any:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]

    return Arrays(path, shapes, read)


def _checked_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape of an array in an archive, from its first bytes alone; checks that it can be read."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f"{name!r} is of version {version}, which holds named fields and no plain numbers")
        shape, _, dtype = headers[version](file)
        if dtype.hasobject:
            raise ValueError(f"{name!r} holds pickled objects")
        said, entry = file.tell() + math.prod(shape) * dtype.itemsize, archive.getinfo(name)
        if said != entry.file_size:
            raise ValueError(f"{name!r} says that it takes {said:,} bytes and takes {entry.file_size:,}")
        if said > _MOST_BYTES and said > _MOST_EXPANDED * entry.compress_size:
            raise ValueError(
                f"{name!r} would expand from {entry.compress_size:,} to {said:,} bytes; beyond {_MOST_BYTES:,} an "
                f"array may expand {_MOST_EXPANDED} times at most, so save it with numpy.savez, uncompressed"
            )
        return tuple(shape)


# Of a compressed array. Nothing but a constant is pressed so far, and nobody compares constants of that size.
_MOST_BYTES = 1 << 32
_MOST_EXPANDED = 500


def _safetensors(path: Path) -> Arrays:
    library = _needed("safetensors", "conformance")
    if path.stat().st_size < 8:
        raise ValueError("it is too short")

    def read(name: str) -> Any:
        with library.safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    with library.safe_open(path, framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in _in_order(path, list(file.keys()))}
    return Arrays(path, shapes, read)


def _in_order(path: Path, names: list[str]) -> list[str]:
    """The names in the order of the metadata, or of the data in the file, which the format's writers sort by dtype."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    try:
        order = {name: place for place, name in enumerate(json.loads(header["__metadata__"][ORDER]))}
    except (KeyError, TypeError, ValueError):
        order = {}
    return sorted(names, key=lambda name: (order.get(name, len(order)), header[name]["data_offsets"][0]))


def _torch(path: Path) -> Any:
    torch = _needed("torch", "torch")
    # Mapped where the file's format allows it: what is not looked at is not read, and what was, may be dropped again.
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than tensors, a whole model perhaps: save its outputs") from error
    if isinstance(found, torch.Tensor):
        return convert(found.detach(), "numpy")
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, and not a tensor or a dict of tensors")
    tensors = dict(_tensors(found, torch.Tensor))
    shapes = {name: tuple(one.shape) for name, one in tensors.items()}
    return Arrays(path, shapes, lambda name: convert(tensors[name].detach(), "numpy"))


def _tensors(found: Mapping[Any, Any], tensor: type, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of a dict and its nested dicts, as in a checkpoint; other values are left out."""
    for key, value in found.items():
        if isinstance(value, tensor):
            yield f"{path}{key}", value
        elif isinstance(value, Mapping):
            yield from _tensors(value, tensor, f"{path}{key}.")


def _hdf5(path: Path) -> Arrays:
    h5py = _needed("h5py", "hdf5")
    with h5py.File(path, "r") as file:
        shapes = {name: tuple(file[name].shape) for name in _datasets(h5py, file["/"], "")}

    def read(name: str) -> Any:
        with h5py.File(path, "r") as file:
            return file[name][()]

    return Arrays(path, shapes, read)


def _datasets(h5py: Any, group: Any, path: str) -> Iterator[str]:
    """The numeric datasets by path, in order of creation if the group records it."""
    tracked = group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
    names: list[bytes] = []
    group.id.links.iterate(names.append, idx_type=h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME)
    for name in (one.decode() for one in names):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue  # a link may lead out of the file
        one = group[name]
        if isinstance(one, h5py.Group):
            yield from _datasets(h5py, one, f"{path}{name}/")
        elif isinstance(one, h5py.Dataset):
            if one.external or one.is_virtual:
                raise ValueError(f"{path + name!r} keeps its numbers in another file")
            if one.dtype.kind in "biuf":
                yield path + name


# --- models ----------------------------------------------------------------------------------------------------------


def _keras(path: Path) -> Any:
    keras = _needed("keras", "tensorflow")
    return keras.models.load_model(path, compile=False, safe_mode=True)


class _Session:
    """A model in a runtime, as a callable of positional or named inputs."""

    def __init__(self, inputs: dict[str, str], run: Callable[[dict[str, Array]], dict[str, Any]]) -> None:
        self._inputs, self._run = inputs, run

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """The output, or the outputs by name."""
        names = list(self._inputs)
        if len(arguments) > len(names) or set(keywords) - set(names):
            raise TypeError(f"the model takes {names}, and got {len(arguments)} inputs and {sorted(keywords)}")
        values = dict(zip(names, arguments, strict=False)) | keywords
        given = {name: np.asarray(convert(one, "numpy")).astype(self._inputs[name]) for name, one in values.items()}
        found = self._run(given)
        return found if len(found) > 1 else next(iter(found.values()))


# What ONNX calls a dtype, where NumPy has another word.
_ONNX_DTYPES = {"float": "float32", "double": "float64", "bool": "bool"}


def _onnx(path: Path) -> Any:
    runtime = _needed("onnxruntime", "onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [one.name for one in session.get_outputs()]

    def run(values: dict[str, Array]) -> dict[str, Any]:
        return dict(zip(outputs, session.run(outputs, values), strict=True))

    dtypes = {one.name: one.type.removeprefix("tensor(").removesuffix(")") for one in session.get_inputs()}
    known: dict[str, str] = {name: _ONNX_DTYPES.get(str(dtype), str(dtype)) for name, dtype in dtypes.items()}
    return _Session(known, run)


def _tflite(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own interpreter says that the other one is to be used
        interpreter = _interpreter()(model_path=str(path))
    names = _names_before_conversion(interpreter)
    inputs = {names.get(one["index"], str(one["name"])): one for one in interpreter.get_input_details()}

    def run(values: dict[str, Array]) -> dict[str, Any]:
        for name, value in values.items():
            interpreter.resize_tensor_input(inputs[name]["index"], value.shape)
        interpreter.allocate_tensors()
        for name, value in values.items():
            interpreter.set_tensor(inputs[name]["index"], value)
        interpreter.invoke()
        indices = {names.get(one["index"], str(one["name"])): one["index"] for one in interpreter.get_output_details()}
        return {name: interpreter.get_tensor(index) for name, index in indices.items()}

    return _Session({name: np.dtype(one["dtype"]).name for name, one in inputs.items()}, run)


def _names_before_conversion(interpreter: Any) -> dict[int, str]:
    """The original names of the inputs and outputs of a converted model, by index; empty without a signature."""
    if len(interpreter.get_signature_list()) != 1:
        return {}
    signature = interpreter.get_signature_runner()
    details = (*signature.get_input_details().items(), *signature.get_output_details().items())
    return {one["index"]: name for name, one in details}


def _interpreter() -> Any:
    """The small runtime, or TensorFlow's interpreter."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        return _needed("tensorflow", "tflite").lite.Interpreter


FORMATS: dict[str, Format] = {
    ".npy": Format(functools.partial(np.load, allow_pickle=False), b"\x93NUMPY"),
    ".npz": Format(_npz, b"PK"),
    ".safetensors": Format(_safetensors),
    ".pt": Format(_torch),
    ".pth": Format(_torch),
    ".h5": Format(_hdf5, b"\x89HDF\r\n\x1a\n"),
    ".hdf5": Format(_hdf5, b"\x89HDF\r\n\x1a\n"),
    ".keras": Format(_keras, b"PK"),
    ".onnx": Format(_onnx),
    ".tflite": Format(_tflite),
}


# --- writing ---------------------------------------------------------------------------------------------------------


def _write_npz(path: Path, arrays: dict[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_safetensors(path: Path, arrays: dict[str, Array]) -> None:
    library = _needed("safetensors.numpy", "conformance")
    contiguous = {name: np.ascontiguousarray(one) for name, one in arrays.items()}
    library.save_file(contiguous, path, metadata={ORDER: json.dumps(list(arrays))})


WRITERS: dict[str, Callable[[Path, dict[str, Array]], None]] = {".npz": _write_npz, ".safetensors": _write_safetensors}
