"""Times of the NumPy backend and of what it is measured against, by pytest-benchmark.

    pytest tests/benchmarks/bench_numpy.py --benchmark-json times.json

Run by naming the file; the test suite does not collect it. For ratios, `ratios.py` calls the two in turns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import polylogit

SHAPES = [(8,), (1000,), (10**6, 10), (10**5, 100), (10**4, 1000), (312, 32000), (78, 128256), (1, 10**7)]
SCIPY = {"softmax": special.softmax, "log_softmax": special.log_softmax}


def logits(shape: tuple[int, ...], dtype: str) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def name_of(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # SciPy sums float16 in float16
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@pytest.mark.parametrize("library", ["polylogit", "scipy"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows(benchmark: Any, name: str, library: str, shape: tuple[int, ...], axis: int, dtype: str) -> None:
    benchmark.group = f"{name} {name_of(shape)} axis {axis} {dtype}"
    x = logits(shape, dtype)
    if library == "scipy":
        benchmark(SCIPY[name], x, axis=axis)
    else:
        benchmark(getattr(polylogit, name), x, axis)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(8,), (1000,), (10**7,)], ids=name_of)
@pytest.mark.parametrize("library", ["polylogit", "scipy", "naive"])
def test_sigmoid(benchmark: Any, library: str, shape: tuple[int, ...], dtype: str) -> None:
    benchmark.group = f"sigmoid {name_of(shape)} {dtype}"
    functions = {"polylogit": polylogit.sigmoid, "scipy": special.expit, "naive": lambda x: 1 / (1 + np.exp(-x))}
    benchmark(functions[library], logits(shape, dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@pytest.mark.parametrize("what", ["forward", "vjp", "pullback", "jvp"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid"])
def test_derivatives(benchmark: Any, name: str, what: str, shape: tuple[int, ...]) -> None:
    benchmark.group = f"derivatives of {name} {name_of(shape)}"
    function, x = getattr(polylogit, name), logits(shape, "float32")
    _, pullback = polylogit.vjp(function, x)
    calls = {
        "forward": lambda: function(x),
        "vjp": lambda: polylogit.vjp(function, x)[1](x),
        "pullback": lambda: pullback(x),
        "jvp": lambda: polylogit.jvp(function, x, x),
    }
    benchmark(calls[what])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(10**6, 10), (78, 128256), (1, 10**7)], ids=name_of)
def test_threads(benchmark: Any, shape: tuple[int, ...], threads: int) -> None:
    benchmark.group = f"softmax {name_of(shape)} on threads"
    x = logits(shape, "float32")
    polylogit.set_num_threads(threads)
    try:
        benchmark(polylogit.softmax, x)
    finally:
        polylogit.set_num_threads(1)
