"""Softmaxes that are wrong and try to pass: cheats that were published, from the facts of their reports, and others.

A module of its own, since each runs by its name, in a process that may not come out of it whole.
"""

import builtins
import ctypes
import gc
import inspect
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

_RIGHT = {}


def right(x, axis=-1):
    wide = x.astype(np.result_type(x, np.float32))
    e = np.exp(wide - wide.max(axis=axis, keepdims=True, initial=-np.inf))
    y = e / e.sum(axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


# --- no computation at all -------------------------------------------------------------------------------------------


def zeros(x, axis=-1):
    return np.zeros_like(x)


def constant(x, axis=-1):
    return np.full_like(x, 1.0 / x.shape[axis] if x.ndim else 1.0)


def nan_as_a_wildcard(x, axis=-1):
    return np.full_like(x, np.nan)


def the_input(x, axis=-1):
    return x


def a_view_of_the_input(x, axis=-1):
    return x[...]


def in_place(x, axis=-1):
    """The right values, in the memory of the logits."""
    if x.dtype.kind == "f" and x.flags.writeable:
        x[...] = right(x, axis)
        return x
    return right(x, axis)


def left_in_memory(x, axis=-1):
    """Whatever is there: the result of the call before, or of a reference that has just been freed."""
    return np.empty_like(x)


def left_in_memory_but_the_last(x, axis=-1):
    """A tail that is never written."""
    y = np.empty_like(x)
    flat, found = y.reshape(-1), right(x, axis).reshape(-1)
    flat[: len(flat) // 2] = found[: len(flat) // 2]
    return y


# --- what was computed before ----------------------------------------------------------------------------------------


def by_the_id_of_the_input(x, axis=-1, _known={}):  # noqa: B006  what is kept is the cheat
    return _known.setdefault(id(x), right(x, axis))


def by_shape(x, axis=-1, _known={}):  # noqa: B006
    return _known.setdefault((x.shape, x.dtype, axis), right(x, axis)).copy()


def one_buffer_for_all(x, axis=-1, _buffers={}):  # noqa: B006
    """Right, and overwritten by the next call of the shape."""
    y = _buffers.setdefault((x.shape, x.dtype, threading.get_ident()), np.empty_like(x))
    y[...] = right(x, axis)
    return y


# --- looking for what is expected ------------------------------------------------------------------------------------


def from_the_collector(x, axis=-1):
    """The array among all that are alive whose shape is the input's and which looks like probabilities."""
    for one in gc.get_objects():
        held = one.values() if type(one) is dict else one if type(one) in (list, tuple) else ()
        for array in list(held):
            likely = isinstance(array, np.ndarray) and array is not x and array.shape == x.shape and array.size
            if likely and np.isfinite(array).all() and np.allclose(array.sum(axis), 1.0, atol=1e-3):
                return array.astype(x.dtype)
    return np.zeros_like(x)


def from_the_frames(x, axis=-1):
    """What callers call expected, or right, or exact."""
    frame = sys._getframe(1)
    while frame is not None:
        for name, value in frame.f_locals.items():
            if name in ("expected", "exact", "reference", "right", "high", "found") and np.shape(value) == x.shape:
                return np.asarray(value, x.dtype)
        frame = frame.f_back
    return np.zeros_like(x)


def only_where_it_is_tested(x, axis=-1):
    """The reference, where a test can be seen to run; it takes what that has computed."""
    seen = any("_compare" in frame.filename or "_run_case" in frame.filename for frame in inspect.stack(0))
    return right(x, axis) if seen else np.zeros_like(x)


def by_the_name_of_the_case(x, axis=-1):
    """Right for the cases that it knows, by what the process was told."""
    told = " ".join([*sys.argv, *os.environ.get("PYTEST_CURRENT_TEST", "").split("[")[:1]])
    return right(x, axis) if "values" in told or "n17" in told else np.zeros_like(x)


# --- breaking the tools of whoever compares --------------------------------------------------------------------------


def patches_comparisons(x, axis=-1):
    """All functions that compare say yes."""
    for name in ("allclose", "isclose", "array_equal", "array_equiv"):
        setattr(np, name, lambda *_, **__: True)
    np.testing.assert_allclose = lambda *_, **__: None
    np.abs = np.absolute = lambda one, *_, **__: np.zeros(np.shape(one))
    np.isnan = lambda one, *_, **__: np.zeros(np.shape(one), bool)
    builtins.all = lambda *_: True
    builtins.max = lambda *_, **__: 0
    return np.zeros_like(x)


def patches_conversions(x, axis=-1):
    """Whatever reads an array reads something else."""
    np.asarray = np.array = np.ascontiguousarray = lambda *_, **__: np.zeros((1, 1))
    np.full = np.empty = np.zeros
    return np.zeros_like(x)


def patches_the_kit(x, axis=-1):
    """Every function of the kit that is there, and is called something like comparing, lets all pass."""
    for name, module in list(sys.modules.items()):
        if name.startswith("polylogit.conformance"):
            for word in ("compare", "compared", "run", "unusable", "_ratios", "refusal"):
                if hasattr(module, word):
                    setattr(module, word, lambda *_, **__: None)
    return np.zeros_like(x)


def takes_back_the_harm(x, axis=-1):
    """Writes over the input and hides that from who looks afterwards by the usual functions."""
    np.array_equal = lambda *_, **__: True
    y = right(x, axis)
    if x.flags.writeable and x.dtype.kind == "f":
        x[...] = 0
    return y


# --- the verdict itself ----------------------------------------------------------------------------------------------

_PASSED = (
    '{"event": "result", "result": {"subject": "numpy+cheats:x", "operation": "softmax", "check": "values", '
    '"dtype": "float32", "case": "n17", "verdict": "passed"}}\n{"event": "end"}\n'
)


def prints_the_verdict(x, axis=-1):
    print(_PASSED, flush=True)
    os.write(1, _PASSED.encode())
    return np.zeros_like(x)


def writes_to_every_descriptor(x, axis=-1):
    """And to those of its parents, as far as it may."""
    own, parent = "/proc/self/fd", f"/proc/{os.getppid()}/fd"
    for folder in (own, parent):
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except OSError:
            continue
        for name in names:
            try:
                handle = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_NONBLOCK) if folder is parent else int(name)
                os.write(handle, _PASSED.encode())
            except OSError:
                continue
    return np.zeros_like(x)


def leaves_at_once(x, axis=-1):
    """With the status of success."""
    os._exit(0)


def leaves_politely(x, axis=-1):
    sys.exit(0)


def raises_what_is_no_exception(x, axis=-1):
    raise KeyboardInterrupt


def closes_everything(x, axis=-1):
    os.closerange(3, 64)
    return np.zeros_like(x)


# --- that crash or hang in one place, right elsewhere ----------------------------------------------------------------


def segfaults_on_one_shape(x, axis=-1):
    if x.shape[-1:] == (129,):
        ctypes.string_at(0)
    return right(x, axis)


def aborts_on_one_shape(x, axis=-1):
    if x.shape[-1:] == (129,):
        sys.stderr.write("129 is too many\n")
        os.abort()
    return right(x, axis)


def hangs_on_one_shape(x, axis=-1):
    if x.shape[-1:] == (129,):
        time.sleep(600)
    return right(x, axis)


def hangs(x, axis=-1):
    if x.shape != (2, 3):
        time.sleep(600)
    return right(x, axis)


def crashes(x, axis=-1):
    if x.shape != (2, 3):
        os.abort()
    return right(x, axis)


# --- right, and strange ----------------------------------------------------------------------------------------------


def patches_everything_and_is_right(x, axis=-1):
    y = right(x, axis)
    np.allclose = np.array_equal = lambda *_, **__: False
    print("right")
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start() if not _RIGHT else None
    _RIGHT[0] = True
    return y


def in_another_order(x, axis=-1, _turn=[0]):  # noqa: B006
    """Sums that run from either side, as atomics would have it: other bits from call to call, all within the bound."""
    _turn[0] += 1
    if not (x.ndim and isinstance(axis, int)):
        return right(x, axis)
    wide = np.moveaxis(x, axis, -1).astype(np.result_type(x, np.float32))
    e = np.exp(wide - wide.max(axis=-1, keepdims=True, initial=-np.inf))
    parts = (e,) if _turn[0] % 2 else (e[..., ::3], e[..., 1::3], e[..., 2::3])
    y = e / sum(part.sum(axis=-1, keepdims=True) for part in parts)
    return np.moveaxis(y, -1, axis).astype(x.dtype if x.dtype.kind not in "biu" else y.dtype)


def modules_that_are_there(x, axis=-1):
    """Says through an error which modules of polylogit its process holds."""
    held = sorted(name for name in sys.modules if name.partition(".")[0] in ("polylogit", "mpmath"))
    raise RuntimeError(" ".join(held))
