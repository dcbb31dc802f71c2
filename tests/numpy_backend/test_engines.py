"""Each instruction set and the pure path serve, are named, and agree within the bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import polylogit
from polylogit._backends.numpy import compiled

from .rows import ALL, BOTH, FLOATS, RNG, SHAPES, UNTOLD, assert_within, axes_of, call

ENGINES = (*compiled.instruction_sets(), "pure")
EACH = pytest.mark.parametrize("engine", ENGINES)
KERNELS = Path(__file__).resolve().parents[2] / "src" / "polylogit" / "_backends" / "numpy" / "kernels"


@EACH
@BOTH
@FLOATS
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_values_lie_within_the_bound_with_each(engine: str, name: str, dtype: Any, shape: Any, axis: Any) -> None:
    x = (RNG(0).standard_normal(shape) * 5).astype(dtype)
    with compiled.use(engine):
        assert_within(name, call(name, x, axis=axis), x, axes_of(shape, axis))


@EACH
@BOTH
@FLOATS
@pytest.mark.parametrize("length", [128, 1024, 5000, 100_000])
def test_no_length_makes_a_sum_drift(engine: str, name: str, dtype: Any, length: int) -> None:
    # Terms of half a unit in the last place of the leading 1 and a little less: a chain of additions loses them all.
    eps = np.finfo(dtype).eps
    x = np.full(length, np.log(eps / 2 * 0.97), dtype)
    x[0] = 0
    others = (length - 1) * np.exp(x[1].astype(np.longdouble))
    for y in (x, np.ascontiguousarray(np.stack([x] * 70, 1))):
        with compiled.use(engine):
            found = call(name, y, axis=0)
        found = found if y.ndim == 1 else found[:, 3]
        if name == "softmax":
            assert abs(found.astype(np.longdouble).sum() - 1) <= (2 + np.log2(length)) * eps
            assert abs(found[0] * (1 + others) - 1) <= (2 + np.log2(length)) * eps
        else:
            # What is left of the leading entry is the sum of all others.
            assert abs(found[0] / -np.log1p(others) - 1) <= 8 * eps


@EACH
def test_each_is_named_while_it_serves(engine: str) -> None:
    backend = polylogit.get_backend("numpy")
    before = backend.engine
    with compiled.use(engine):
        assert backend.engine.partition(":")[0] == engine
    assert backend.engine == before


def test_what_is_not_there_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="avx1024"), compiled.use("avx1024"):
        pass


@ALL
@pytest.mark.skipif(not compiled.instruction_sets(), reason="the extension was not built")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", ">f8", "int16"])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_kernels_and_the_pure_path_agree(name: str, dtype: str, axis: int) -> None:
    rng = RNG(4)
    x = (rng.standard_normal((60, 90)) * 4).astype(np.dtype(dtype))
    g = rng.standard_normal((60, 90)).astype(x.dtype if x.dtype.kind != "i" else float)
    mask = rng.random((60, 90)) < 0.8
    kwargs: dict[str, Any] = {} if name == "sigmoid" else {"axis": axis, "where": mask}
    found = []
    for engine in (compiled.instruction_sets()[-1], "pure"):
        with compiled.use(engine):
            y, pullback = polylogit.vjp(getattr(polylogit, name), x, **kwargs)
            _, pushed = polylogit.jvp(getattr(polylogit, name), x, g, **kwargs)
            slope = polylogit.gradient(getattr(polylogit, name), g, **kwargs)
            found.append((y, pullback(g), pushed, polylogit.jvp(slope, x, g)[1]))
    for mine, plain in zip(*found, strict=True):
        assert mine.dtype == plain.dtype
        # Derivatives are differences of numbers of the size of 1 or so.
        eps = float(ml_dtypes.finfo(mine.dtype).eps)
        np.testing.assert_allclose(mine.astype(float), plain.astype(float), 40 * eps, 8 * eps)


def asked_for(engine: str) -> subprocess.CompletedProcess[str]:
    program = "import polylogit; print(polylogit.get_backend('numpy').capabilities()['engine'])"
    environment = {**os.environ, "POLYLOGIT_NUMPY_ENGINE": engine}
    return subprocess.run([sys.executable, "-c", program], env=environment, check=False, capture_output=True, text=True)


@EACH
def test_the_environment_can_ask_for_each_and_reports_name_it(engine: str) -> None:
    assert asked_for(engine).stdout.strip().partition(":")[0] == engine


def test_an_environment_that_asks_for_what_is_not_there_is_told_what_is() -> None:
    shown = asked_for("avx1024").stderr
    assert "'avx1024' was asked for" in shown
    assert ", ".join(ENGINES) in shown


def test_the_command_line_says_which_it_is() -> None:
    command = [sys.executable, "-m", "polylogit", "backends", "--devices"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    engine, colon, _ = polylogit.get_backend("numpy").engine.partition(":")
    assert f"({engine}{colon or ')'}" in shown


def test_without_the_extension_the_pure_path_serves_and_says_why() -> None:
    program = (
        "import sys; sys.modules['polylogit._backends.numpy._kernels'] = None\n"
        "import numpy as np, polylogit\n"
        "print(polylogit.get_backend('numpy').engine)\n"
        "print(polylogit.softmax(np.zeros(4, np.float32)).tolist(), polylogit.sigmoid(np.zeros((2, 0))).shape)"
    )
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, env=UNTOLD, check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[0].startswith("pure: the extension")
    assert shown.splitlines()[1] == "[0.25, 0.25, 0.25, 0.25] (2, 0)"


def test_free_threaded_builds_need_no_lock() -> None:
    assert "Py_MOD_GIL_NOT_USED" in (KERNELS / "module.c").read_text()
