"""A device has one name for every framework, "cpu" or "cuda:1", beside what the framework calls it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polylogit
from frameworks import DIFFERENTIATING
from polylogit import conformance, errors
from polylogit.conformance._api import _jobs


@pytest.mark.parametrize("name", DIFFERENTIATING)
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_an_array_can_be_made_on_the_cpu_by_that_name(name: str, device: str) -> None:
    backend = polylogit.get_backend(name)
    x: Any = backend.asarray(np.ones(2, np.float32), device=device)
    assert polylogit.softmax(x).device == x.device


@pytest.mark.parametrize("device", ["tpu:7", "cpu:9", "cuda:9"])
@pytest.mark.parametrize("name", [name for name in DIFFERENTIATING if name != "torch"])
def test_a_device_that_is_not_there_is_refused_and_none_taken_for_it(name: str, device: str) -> None:
    with pytest.raises(errors.ConversionError, match=rf"(?i)device='{device}' is none that .* it has .*cpu:0"):
        polylogit.get_backend(name).asarray(np.ones(2, np.float32), device=device)


def test_asked_for_all_backends_the_kit_leaves_numpy_on_the_host() -> None:
    _, jobs = _jobs(None, ["sigmoid"], "quick", 0, "cuda", ())
    assert {job.device for job in jobs if job.backend != "numpy"} <= {"cuda"}
    assert {job.device for job in jobs if job.backend == "numpy"} == {None}
    with pytest.raises(errors.ConformanceError, match=r"numpy cannot create arrays on device"):
        conformance.run(["numpy"], operations=["sigmoid"], level="quick", device="cuda", isolate=False)
