"""Beside the result a call needs little, whatever the size, the axis, the dtype and the layout.

What NumPy allocates is counted by tracemalloc; what the kernels allocate is theirs alone, so the process is asked.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

import polylogit

from .rows import BOTH, RNG, call


@pytest.mark.parametrize(
    ("dtype", "shape", "axis", "where"),
    [
        ("f4", (10**6, 6), 1, False),
        ("f4", (10**6, 6), 0, False),
        ("f4", (10**6, 6), 1, True),
        ("f2", (6, 10**6), 0, False),
        ("f2", (2000, 3000), 0, False),
        ("f8", (60, 100, 1000), (0, 2), False),
        ("f8", (1000, 6000), 0, False),
        ("f8", (6 * 10**6,), 0, False),
    ],
)
@BOTH
def test_memory_beyond_the_result_does_not_grow(name: str, dtype: str, shape: Any, axis: Any, where: bool) -> None:
    x = (RNG(16).standard_normal(shape) * 10).astype(dtype)
    kwargs = {"where": np.ones(shape, bool)} if where else {}
    tracemalloc.start()
    try:
        result = call(name, x, axis=axis, **kwargs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes <= 4 * 2**20


@BOTH
@pytest.mark.parametrize(("shape", "axis"), [((3, 300_000), 1), ((5000, 40), 0), ((700, 900), 0), ((2000, 7), 1)])
def test_a_jvp_is_that_of_the_pullback_and_keeps_nothing(name: str, shape: tuple[int, ...], axis: int) -> None:
    x, tangent = RNG(22).standard_normal((2, *shape)) * 3
    mask = RNG(23).random(shape) < 0.9
    tangent[~mask] = np.nan
    function = getattr(polylogit, name)
    tracemalloc.start()
    try:
        y, pushed = polylogit.jvp(function, x, tangent, axis=axis, where=mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - y.nbytes - pushed.nbytes <= 4 * 2**20
    np.testing.assert_array_equal(y, function(x, axis, where=mask))
    p = polylogit.softmax(x, axis, where=mask)
    centred = np.where(mask, tangent, 0) - (p * np.where(mask, tangent, 0)).sum(axis, keepdims=True)
    expected = np.where(mask, p * centred if name == "softmax" else centred, 0)
    np.testing.assert_allclose(pushed, expected, rtol=1e-10, atol=1e-13)


RESIDENT = """
import sys
import numpy as np
import polylogit

def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

dtype, axis, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
x = np.random.default_rng(0).standard_normal((3000, 4000)).astype(dtype)
function = getattr(polylogit, name)
function(x[:400, :400].copy(), axis)  # what is loaded once
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
y = function(x, axis)
print(resident("VmHWM") - before - y.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the highest resident size is Linux's to tell")
@BOTH
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_process_grows_by_little_more_than_the_result(name: str, axis: int, dtype: str) -> None:
    command = [sys.executable, "-c", RESIDENT, dtype, str(axis), name]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(found) <= 4 * 2**20
