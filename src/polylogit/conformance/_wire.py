"""The protocol between a judge and the process of a kernel: a JSON header and the bytes of arrays.

Nothing is unpickled. Everything from the kernel's process is validated; a malformed frame ends the conversation.
"""

from __future__ import annotations

import builtins
import json
import struct
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._request import Answer, Request, in_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylogit._spec.dtypes import Array

_LENGTH = struct.Struct("<QQ")  # of the header and of all arrays together
_MOST = 1 << 32  # bytes; a frame that says it is longer is none
_SAID = 2000  # characters of an error's text
_OTHERS = {
    name: np.dtype(name) for kind in ("int", "uint") for name in (f"{kind}8", f"{kind}16", f"{kind}32", f"{kind}64")
}
_KNOWN: dict[str, np.dtype[Any]] = {
    **{name: one.dtype for name, one in DTYPES.items()},
    **_OTHERS,
    "bool": np.dtype(bool),
    "longdouble": np.dtype(np.longdouble),
}
_PLAIN = [one.name for one in fields(Request) if one.name not in ("x", "directions", "where")]

# Looked up before any code under test is imported, which may put something else in their places.
_dumps, _loads, _tobytes, _frombuffer = json.dumps, json.loads, np.ndarray.tobytes, np.frombuffer


class BrokenFrameError(Exception):
    """The bytes that arrived are no frame."""


def send(stream: Any, header: Any, arrays: Sequence[Array] = ()) -> None:
    """Write a frame."""
    described = [[_name(one.dtype), list(one.shape)] for one in arrays]
    blobs = [_tobytes(one) for one in arrays]
    text = _dumps({"header": header, "arrays": described}).encode()
    stream.write(b"".join((_LENGTH.pack(len(text), sum(map(len, blobs))), text, *blobs)))
    stream.flush()


def receive(stream: Any) -> tuple[Any, list[Array]] | None:
    """Read a frame; None at the end.

    Raises
    ------
    BrokenFrameError
        If the bytes are not a frame.
    """
    first = stream.read(_LENGTH.size)
    if len(first) < _LENGTH.size:
        return None
    sizes = _LENGTH.unpack(first)
    if sum(sizes) > _MOST:
        raise BrokenFrameError
    text, rest = (stream.read(size) for size in sizes)
    if len(text) < sizes[0] or len(rest) < sizes[1]:
        return None
    try:
        frame = _loads(text)
        arrays, start = [], 0
        for name, shape in frame["arrays"]:
            dtype = _KNOWN[name]
            if any(type(side) is not int or side < 0 for side in shape):
                raise BrokenFrameError
            count = 1
            for side in shape:
                count *= side
            # A copy: what is read from a pipe may not be written to, and a kernel may be asked for just that.
            held = _frombuffer(rest, dtype, count, start) if count else np.empty(0, dtype)
            arrays.append(held.reshape(shape).copy())
            start += count * dtype.itemsize
        return frame["header"], arrays
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenFrameError from error


def _name(dtype: np.dtype[Any]) -> str:
    return "longdouble" if dtype.char == "g" else dtype.newbyteorder("=").name


# --- requests --------------------------------------------------------------------------------------------------------


def request_as_plain(request: Request, arrays: list[Array]) -> dict[str, Any]:
    """A request for the header of a frame; adds its arrays to those of the frame."""
    plain: dict[str, Any] = {name: getattr(request, name) for name in _PLAIN}
    plain["directions"] = len(request.directions)
    plain["where"] = request.where is not None
    arrays += [in_dtype(one, request.dtype) for one in (request.x, *request.directions)]
    if request.where is not None:
        arrays.append(np.asarray(request.where, bool))
    return plain


def request_of(plain: dict[str, Any], arrays: list[Array]) -> Request:
    """The request; its arrays are taken from those of the frame."""
    given = {name: plain[name] for name in _PLAIN}
    if isinstance(given["axis"], list):
        given["axis"] = tuple(given["axis"])
    x, *directions = (arrays.pop(0) for _ in range(1 + plain["directions"]))
    return Request(x, directions=directions, where=arrays.pop(0) if plain["where"] else None, **given)


# --- answers and errors ----------------------------------------------------------------------------------------------


def answer_as_plain(answer: Answer, arrays: list[Array]) -> dict[str, Any]:
    """An answer for the header of a frame; adds its arrays to those of the frame."""
    held = [one for one in (answer.values, answer.again) if one is not None]
    arrays += held
    error = None if answer.error is None else error_as_plain(answer.error)
    return {"dtype": answer.dtype, "error": error, "notes": answer.notes, "arrays": len(held)}


def answer_of(plain: dict[str, Any], arrays: list[Array]) -> Answer:
    """The answer, its numbers as float64."""
    try:
        held = [arrays.pop(0).astype(np.float64) for _ in range(int(plain["arrays"]))]
        error = None if plain["error"] is None else error_of(plain["error"])
        notes = [str(note)[:_SAID] for note in plain["notes"]]
        values, again = (*held, None, None)[:2]
        if (values is None) is (error is None):
            raise BrokenFrameError
        return Answer(values, str(plain["dtype"]), error, notes, again)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as broken:
        raise BrokenFrameError from broken


def error_as_plain(error: BaseException) -> dict[str, Any]:
    """An exception as its type, the base classes of the type, and its text."""
    try:
        text = str(error)[:_SAID]
    except Exception:  # noqa: BLE001  it cannot even say what it is
        text = ""
    line = [one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins"]
    return {"type": type(error).__name__, "module": type(error).__module__, "of": line, "text": text}


def error_of(plain: dict[str, Any]) -> Exception:
    """An exception of the same type, as far as it is one of Python's own."""
    known = (getattr(builtins, str(name), None) for name in plain["of"])
    base = next((one for one in known if isinstance(one, type) and issubclass(one, Exception)), RuntimeError)
    text, name = str(plain["text"]), str(plain["type"])
    members = {"__init__": lambda _self, *_: None, "__str__": lambda _self: text, "__module__": str(plain["module"])}
    made: Any = type(name, (base,), members)(*("", b"", 0, 0, "") if issubclass(base, UnicodeError) else ())
    return cast("Exception", made)
