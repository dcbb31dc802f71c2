"""The extension's entry points trust nothing: any operation, shape, stride, offset, format and range, hostile or not.

What is refused is refused with an exception; what is served is what the public functions say, and nothing beyond the
outputs is written to. ``POLYLOGIT_TEST_EXAMPLES`` sets how many calls are drawn.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import polylogit
from polylogit._backends.numpy import compiled

pytestmark = pytest.mark.skipif(not compiled.instruction_sets(), reason="the extension was not built")
EXAMPLES = int(os.environ.get("POLYLOGIT_TEST_EXAMPLES", "1000"))
KERNELS: Any = importlib.import_module("polylogit._backends.numpy._kernels") if compiled.instruction_sets() else None
LETTERS = {letter: name for name, letter in compiled._LETTERS.items()}
GUARD = 64  # bytes on both sides of what an array may span


def size_of(letter: str) -> int:
    return 1 if letter in "?bB1234" else 2 if letter in "hHeE" else 4 if letter in "iIf" else 8


@st.composite
def strided(draw: st.DrawFn, shape: tuple[int, ...], letter: str) -> np.ndarray:
    """An array of bare integers of that shape, in memory of its own with guards, with strides of any sign and size."""
    size = size_of(letter)
    order = draw(st.permutations(range(len(shape))))
    strides, reach = [0] * len(shape), size
    for axis in order:
        step = reach * draw(st.integers(1, 2)) + draw(st.sampled_from([0, 0, 0, 1, size]))
        strides[axis] = draw(st.sampled_from([step, step, -step, 0] if draw(st.booleans()) else [step]))
        reach = max(reach, abs(strides[axis]) * shape[axis])
    below = sum(-stride * (count - 1) for stride, count in zip(strides, shape, strict=True) if stride < 0 and count)
    offset = GUARD + below + draw(st.sampled_from([0, 0, 1, 3]))
    total = offset + sum(abs(stride) * count for stride, count in zip(strides, shape, strict=True)) + size + GUARD
    memory = np.frombuffer(bytearray(draw(st.randoms(use_true_random=False)).randbytes(total)), np.uint8)
    return np.ndarray(shape, f"u{size}", memory, offset, strides)


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of `apply`, sound more often than not."""
    dimensions = draw(st.integers(0, 4))
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=dimensions, max_size=dimensions)))
    if dimensions and draw(st.integers(0, 9)) == 0:
        shape = (*shape[:-1], draw(st.integers(20, 2100)))
    operation = draw(st.integers(0, 6))
    along = draw(st.booleans()) if operation in (0, 1, 5) else False
    wide = draw(st.booleans())
    needed = [True, along or operation in (2, 3, 4, 6), False, True, along]
    arrays, formats = [], ""
    for number in range(5):
        letter = "?" if number == 2 else draw(st.sampled_from("fdeE1234" if number >= 3 else "fdfdeE1234bBhHiIqQ?"))
        wanted = needed[number] or (number in (2, 4) and draw(st.integers(0, 3)) == 0)
        if draw(st.integers(0, 40)) == 0:
            wanted = not wanted
        other = shape if draw(st.integers(0, 60)) else (*shape, 2)
        arrays.append(draw(strided(other, letter)) if wanted else None)
        formats += draw(st.sampled_from([letter] * 60 + list("fdx\x01"))) + draw(st.sampled_from("==~"))
    axes = bytes(draw(st.lists(st.integers(0, 1), min_size=dimensions, max_size=dimensions)))
    if draw(st.integers(0, 40)) == 0:
        axes += b"\x01"
    if draw(st.integers(0, 20)) == 0 and arrays[0] is not None:
        arrays[draw(st.integers(3, 4))] = arrays[0]
    return {
        "job": (operation, along, wide, axes, formats, tuple(arrays)),
        "stage": draw(st.sampled_from([-1, 0, 0, 0, 0, 1, 2, 3])),
        "range": draw(st.one_of(st.none(), st.tuples(st.integers(-2, 9), st.integers(-2, 9)))),
        "states": draw(st.sampled_from(["right", "right", "short", "none"])),
    }


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(call=jobs())
def test_hostile_calls_are_served_or_refused_and_nothing_else_is_written(call: dict[str, Any]) -> None:
    job, arrays = call["job"], call["job"][5]
    before = [None if array is None else np.array(array.base) for array in arrays]
    written = [np.zeros(0, bool) if array is None else np.zeros(array.base.size, bool) for array in arrays]
    for array, bytes_of in zip(arrays[3:], written[3:], strict=True):
        if array is not None:
            start = array.__array_interface__["data"][0] - array.base.__array_interface__["data"][0]
            for index in np.ndindex(array.shape):
                at = start + sum(i * stride for i, stride in zip(index, array.strides, strict=True))
                bytes_of[at : at + array.itemsize] = True
    units = segments = 0
    try:
        units, segments, states = KERNELS.apply(*job, -1, 0, 0, None)
        memory = {"right": np.empty(states), "short": np.empty(max(0, states - 1)), "none": None}[call["states"]]
        if call["stage"] in (1, 2) and memory is not None:
            memory[:] = 0
        first, last = call["range"] or (0, units * (segments if call["stage"] > 0 else 1))
        KERNELS.apply(*job, call["stage"], first, last, memory)
    except (ValueError, TypeError, BufferError, OverflowError):
        pass
    for array, was, mine in zip(arrays, before, written, strict=True):
        if array is not None and was is not None:
            changed = array.base != was
            assert not (changed & ~mine).any()


@settings(max_examples=max(100, EXAMPLES // 10), deadline=None, suppress_health_check=list(HealthCheck))
@given(call=jobs())
def test_what_is_served_is_what_the_pure_path_computes(call: dict[str, Any]) -> None:
    operation, _, _, axes, formats, (x, _, _, out, _) = call["job"]
    if operation > 1 or x is None or out is None or out.shape != x.shape:
        return
    kinds = [LETTERS.get(letter) for letter in formats[0::2]]
    if kinds[0] is None or kinds[3] not in ("float32", "float64") or len(axes) != x.ndim:
        return
    if any(np.dtype(kind).itemsize != array.itemsize for kind, array in ((kinds[0], x), (kinds[3], out))):
        return
    swapped = formats[1] == "~"
    logits = x.view(np.dtype(kinds[0]).newbyteorder("S") if swapped else np.dtype(kinds[0]))
    name = ("softmax", "log_softmax")[operation]
    chosen = tuple(axis for axis, reduced in enumerate(axes) if reduced)
    found = []
    for engine in (compiled.instruction_sets()[-1], "pure"):
        with compiled.use(engine), np.errstate(all="ignore"):
            found.append(getattr(polylogit, name)(logits, chosen, dtype=kinds[3]))
    eps = float(np.finfo(kinds[3]).eps)
    np.testing.assert_allclose(found[0], found[1], 1000 * eps, float(np.finfo(kinds[3]).smallest_normal) * 4)


def plain(*arrays: Any, formats: str = "f=f=?=f=f=", axes: bytes = b"\1", **changed: Any) -> Any:
    values = {"operation": 0, "along": False, "wide": False, "stage": 0, "first": 0, "last": 1, "states": None}
    values |= changed
    kinds = (values["operation"], values["along"], values["wide"], axes, formats, arrays)
    return KERNELS.apply(*kinds, values["stage"], values["first"], values["last"], values["states"])


def test_wrong_arguments_are_refused_by_name() -> None:
    x, out = np.zeros(8, np.float32), np.zeros(8, np.float32)
    assert plain(x, None, None, out, None) is None
    for arrays, match in (
        ((x, None, None, x, None), "overlaps"),
        ((x, None, None, np.zeros(16, np.float32)[:8].view()[::-1][:4], None), "different shapes"),
        ((x, None, None, np.broadcast_to(np.zeros(1, np.float32), 8), None), "read-only|writ"),
        ((x, None, None, np.zeros(8), None), "bytes of an element"),
        ((x, None, None, None, None), "do not fit"),
        ((None, None, None, out, None), "do not fit"),
        ((x, None, None, out), "five arrays"),
        ((x, None, np.zeros(8, np.float32), out, None), "bytes of an element"),
        ((x, None, None, out, out), "overlaps"),
    ):
        with pytest.raises((ValueError, BufferError), match=match):
            plain(*arrays)
    shared = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (8,), (0,))
    with pytest.raises(ValueError, match="share memory"):
        plain(x, None, None, shared, None)
    for changed in ({"operation": 7}, {"operation": -1}, {"stage": 4}, {"first": 1, "last": 0}, {"last": 2},
                    {"along": True}, {"stage": 1}, {"axes": b"\1\1"}, {"formats": "f=f=?=f="}):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            plain(x, None, None, out, None, **changed)
    with pytest.raises(ValueError, match="avx1024"):
        KERNELS.use("avx1024")


def test_more_than_2_to_the_31_elements_are_numbered_right() -> None:
    # One row whose entries are all the same place in memory, and a result of which only the end is ever written.
    count = 2**31 + 100
    x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (count,), (0,))
    out = np.empty(count, np.uint8)
    job = (1, False, False, b"\1", "f=f=?=3=f=", (x, None, None, out, None))
    units, segments, size = KERNELS.apply(*job, -1, 0, 0, None)
    assert (units, segments) == (1, -(-count // 262144))
    states = np.empty(size)
    KERNELS.apply(*job, 1, 0, segments, states)
    KERNELS.apply(*job, 2, segments - 2, segments, states)
    want = np.array(-np.log(count)).astype(ml_dtypes.float8_e5m2).view(np.uint8)
    assert (out[-65536:] == want).all()
