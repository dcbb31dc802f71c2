"""Calls the kernels in C: which arrays they can process, and how work is divided among threads.

The extension is optional. If it was not built, or lacks a dtype or an operation, `polylogit._backends.numpy.pure` is
used instead; both have the same two functions. Knows NumPy and the extension.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._backends.numpy import threads
from polylogit.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    AnyArray = np.ndarray[Any, Any]
    AnyDType = np.dtype[Any]

_kernels: Any = None
MISSING = ""
try:
    _kernels = importlib.import_module("polylogit._backends.numpy._kernels")
except ModuleNotFoundError:
    MISSING = "the extension was not built; install polylogit where there is a C compiler, or a wheel of this platform"
except ImportError as error:
    MISSING = f"the extension cannot be imported ({error})"

__all__ = ["MISSING", "combine", "engine", "forward", "implementation", "instruction_sets", "serves", "set_up", "use"]

_OPERATIONS = ("softmax", "log_softmax", "softmax_pull", "less_mean", "log_softmax_pull", "sigmoid", "multiply")
_LETTERS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    "float16": "e",
    "bfloat16": "E",
    "float8_e4m3fn": "1",
    "float8_e4m3fnuz": "2",
    "float8_e5m2": "3",
    "float8_e5m2fnuz": "4",
}
_WORK = (np.dtype(np.float32), np.dtype(np.float64))
_TO_SHARE = 2**20  # bytes, below which threads are not worth waking
_ALL, _SUMS, _RESULTS = range(3)
_pure = False  # whether the kernels were told to leave everything to the pure path


# --- which path serves, and with which instructions -----------------------------------------------------------------


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets of this processor for which there are kernels, the slowest first; empty if none.

    Examples
    --------
    >>> from polylogit._backends.numpy import compiled
    >>> set(compiled.instruction_sets()) <= {"sse2", "avx2", "avx512", "neon", "plain"}
    True
    """
    if _kernels is None:
        return ()
    order = ("plain", "neon", "sse2", "avx2", "avx512")
    return tuple(sorted(_kernels.instruction_sets(), key=order.index))


def engine() -> str:
    """The code for NumPy arrays: an instruction set of the kernels in C, or "pure" with the reason.

    Examples
    --------
    >>> import polylogit
    >>> polylogit.get_backend("numpy").engine.partition(":")[0] in ("avx512", "avx2", "sse2", "neon", "plain", "pure")
    True
    """
    if _kernels is None:
        return f"pure: {MISSING}"
    return "pure: as was asked for" if _pure else str(_kernels.instruction_sets()[-1])


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Compute with this instruction set, one of `instruction_sets`, or with "pure", within the block.

    For tests and measurements; it applies to the whole process. The environment variable ``POLYLOGIT_NUMPY_ENGINE``
    does the same from the start.

    Examples
    --------
    >>> import polylogit
    >>> from polylogit._backends.numpy import compiled
    >>> with compiled.use("pure"):
    ...     polylogit.softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    before = "pure" if _pure else engine()
    _choose(name)
    _limit()
    try:
        yield
    finally:
        _choose(before.partition(":")[0])
        _limit()


def _choose(name: str) -> None:
    global _pure  # one setting a process
    if name not in (*instruction_sets(), "pure"):
        known = ", ".join((*instruction_sets(), "pure"))
        message = f"{name!r} was asked for as the engine of the NumPy backend; name one of those here: {known}."
        raise SettingError(message)
    if name != "pure":
        _kernels.use(name)
    _pure = name == "pure"


if asked := os.environ.get("POLYLOGIT_NUMPY_ENGINE"):
    _choose(asked)


def _limit(count: int | None = None) -> None:
    """Set the size up to which the extension handles a call alone, without threads and the pure path."""
    if _kernels is not None:
        count = threads.get_num_threads() if count is None else count
        _kernels.serve_up_to(-1 if _pure else sys.maxsize if count == 1 else _TO_SHARE)


def set_up(softmax: Any, log_softmax: Any, sigmoid: Any) -> None:
    """Set the functions that handle calls which the extension cannot handle in one step."""
    if _kernels is not None:
        _kernels.set_up(np.ndarray, np.empty_like, softmax, log_softmax, sigmoid)
        # Large arrays come by here until the number of threads has been read.
        _kernels.serve_up_to(-1 if _pure else _TO_SHARE)
        threads.listen(_limit)


def implementation(operation: str) -> Callable[..., Any] | None:
    """The extension's function for plain arrays, which leaves others to those of `set_up`; None without it."""
    function: Callable[..., Any] | None = getattr(_kernels, operation, None)
    return function


def serves(operation: str, work: AnyDType, *dtypes: AnyDType) -> bool:
    """Whether the kernels have the operation or product, can compute in the dtype `work`, and know all other dtypes."""
    if _kernels is None or _pure:
        return False
    return operation in _OPERATIONS and work in _WORK and None not in map(_letter, dtypes)


@functools.cache
def _letter(dtype: AnyDType) -> str | None:
    """The letter of a dtype, if the kernels know it; cached, because NumPy builds a dtype's name on every access."""
    return _LETTERS.get(dtype.name)


# --- calls ------------------------------------------------------------------------------------------------------------


def forward(
    operation: str,
    x: AnyArray,
    out: AnyArray,
    axes: tuple[int, ...],
    mask: AnyArray | None,
    work: AnyDType,
    kept: AnyArray | None = None,
    tangent: AnyArray | None = None,
) -> None:
    """As `polylogit._backends.numpy.pure.forward`."""
    _run(operation, tangent is not None, work, axes, (x, tangent, mask, out, kept))


def combine(
    operation: str, g: AnyArray, p: AnyArray | None, out: AnyArray, axes: tuple[int, ...], mask: AnyArray | None
) -> None:
    """As `polylogit._backends.numpy.pure.combine`."""
    _run(operation, False, out.dtype if p is None else p.dtype, axes, (g, p, mask, out, None))


def _run(
    operation: str, along: bool, work: AnyDType, axes: tuple[int, ...], arrays: tuple[AnyArray | None, ...]
) -> None:
    x = arrays[0]
    assert x is not None
    formats = "".join("f=" if array is None else _format(array.dtype) for array in arrays)
    raw = tuple(None if array is None else _raw(array) for array in arrays)
    reduced = bytes(axis in axes for axis in range(x.ndim))
    job = (_OPERATIONS.index(operation), along, work == _WORK[1], reduced, formats, raw)
    units, segments, states = _kernels.apply(*job, -1, 0, 0, None)
    count = threads.get_num_threads() if x.nbytes >= _TO_SHARE else 1
    if count == 1 or units * segments == 1:
        _kernels.apply(*job, _ALL, 0, units, None)
    elif units >= 4 * count or segments == 1:
        threads.each(lambda part: _kernels.apply(*job, _ALL, *part, None), _parts(units, count))
    else:
        # Few long rows: their segments are shared.
        memory = np.empty(states)
        for stage in (_SUMS, _RESULTS):
            parts = _parts(units * segments, count)
            threads.each(lambda part, stage=stage: _kernels.apply(*job, stage, *part, memory), parts)  # type: ignore[misc]


def _parts(units: int, count: int) -> list[tuple[int, int]]:
    edges = [units * part // count for part in range(count + 1)]
    return [(first, last) for first, last in itertools.pairwise(edges) if last > first]


def _format(dtype: AnyDType) -> str:
    return f"{_letter(dtype)}{'=' if dtype.isnative else '~'}"


def _raw(array: AnyArray) -> AnyArray:
    """The array as bare integers: buffers know neither the dtypes of ml_dtypes nor the other byte order."""
    return array if array.dtype in _WORK else array.view(f"u{array.dtype.itemsize}")
