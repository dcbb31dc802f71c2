"""Keras 3 on each of its backends: polylogit's functions in its layers, saved and loaded, and beside its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.conftest import expected_value
from contract.exact import check
from frameworks import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("keras_program.py")
BACKENDS = [name for name in ("tensorflow", "jax", "torch", "numpy") if name in INSTALLED]

pytestmark = pytest.mark.parametrize("keras", BACKENDS, indirect=True)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], Path]]]:
    """The program on every backend, all of them started at once: most of its time goes into imports."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    started = {}
    for name in BACKENDS:
        target = tmp_path_factory.mktemp(name) / "facts.npz"
        environment = {**os.environ, **one_thread, "KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"}
        with target.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen([sys.executable, PROGRAM, target], env=environment, stdout=log, stderr=log)
        started[name] = process, target
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def keras(request: pytest.FixtureRequest, programs: Any) -> tuple[dict[str, Any], Any]:
    """What the program says and the arrays that it computed, with Keras on one backend."""
    process, target = programs[request.param]
    assert process.wait() == 0, target.with_suffix(".log").read_text()
    arrays = dict(np.load(target))
    facts = json.loads(str(arrays.pop("facts")))
    assert facts["backend"] == request.param
    return facts, arrays


def test_a_dense_layer_learns_with_it(keras: Any) -> None:
    facts, _ = keras
    if facts["backend"] != "numpy":
        assert np.isfinite(facts["losses"]).all()
        assert facts["losses"][-1] < facts["losses"][0]


def test_a_model_that_was_saved_has_it_again_once_it_is_registered(keras: Any) -> None:
    facts, _ = keras
    assert facts["registered"] == [True, True]
    assert facts["cloned"] == [True, True]
    assert facts["same"]


def test_custom_objects_are_an_alternative_under_the_registered_name(keras: Any) -> None:
    facts, _ = keras
    assert facts["custom_objects"] == [True, True]
    assert "polylogit>sigmoid" in facts["without"]


def test_unregistered_keras_puts_its_own_function_of_that_name_in_place(keras: Any) -> None:
    """Whatever custom_objects says; the day this fails, docs/dropin.md may ask for less."""
    facts, _ = keras
    assert facts["unregistered"] == [False, False]


def test_a_symbolic_tensor_is_refused_with_a_remedy_that_works(keras: Any) -> None:
    facts, _ = keras
    assert "keras.layers.Activation(polylogit.softmax)(x)" in facts["refused"]
    # Each probability is right to 4 + 2d + 2 log2(n) units, so that a sum of at most 96 is far closer than this.
    assert facts["activation"] < 1e-5
    assert facts["layer"] < 1e-5


def test_a_weight_is_served_as_its_value(keras: Any) -> None:
    facts, _ = keras
    assert facts.get("weight", True)
    assert ("weight" in facts) == (facts["backend"] in ("tensorflow", "jax"))


def test_it_agrees_with_the_operations_of_keras_along_every_axis(keras: Any) -> None:
    _, arrays = keras
    x = arrays["x"]
    arrays = {name: values for name, values in arrays.items() if name != "x"}
    assert len(arrays) == 2 * (5 + 5 + 1)
    for name, values in arrays.items():
        _, operation, axis = name.split(" ", 2)
        check(values, expected_value(operation, x, axis=literal_eval(axis)), name)
