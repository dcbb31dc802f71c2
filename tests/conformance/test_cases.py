"""Cases are records: named without being run, the same at every run, and enough to run them again."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import polylogit
from polylogit import conformance
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.operations import DEFINITIONS
from polylogit.conformance._case import Setting
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._implementation import Implementation
from polylogit.conformance._run_case import run

from .kernels.faults import right_sigmoid, softmax


def setting(operation="softmax", dtype="float32", level="quick", seed=0, function=None, backend="numpy"):
    implementation = Implementation(polylogit.get_backend(backend), operation, function)
    return Setting(implementation, DEFINITIONS[operation], DTYPES[dtype], level, seed)


KERNELS = {"softmax": softmax, "sigmoid": right_sigmoid, "log_softmax": None}


@pytest.mark.parametrize("operation", KERNELS)
@pytest.mark.parametrize("check", CHECKS)
def test_a_case_is_plain_data_that_another_process_could_run(check, operation):
    here = setting(operation, function=KERNELS[operation])
    for case in CHECKS[check](here):
        if case.x is not None and case.x.size > 1 << 16:
            continue
        found, again = run(here, case), run(here, pickle.loads(pickle.dumps(case)))
        assert (again.verdict, again.error, again.message) == (found.verdict, found.error, found.message)


def numbers(case):
    return [part for part in (case.x, *case.directions, case.where, *case.arguments) if isinstance(part, np.ndarray)]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("check", ["values", "special", "axes", "masks", "vjp", "laws"])
def test_cases_are_the_same_at_every_run_and_others_with_another_seed(check, dtype):
    first, again, other = ([*CHECKS[check](setting(dtype=dtype, level="full", seed=seed))] for seed in (7, 7, 8))
    assert [case.name for case in first] == [case.name for case in again]
    for one, two in zip(first, again, strict=True):
        for a, b in zip(numbers(one), numbers(two), strict=True):
            np.testing.assert_array_equal(a, b)
    pairs = [(one, two) for one in first for two in other if one.name == two.name]
    assert any(
        not np.array_equal(a, b, equal_nan=True)
        for one, two in pairs
        for a, b in zip(numbers(one), numbers(two), strict=True)
    )


@pytest.mark.parametrize("check", CHECKS)
def test_the_names_within_a_check_are_all_different(check, backend):
    for operation in DEFINITIONS:
        for level in ("quick", "full"):
            names = [case.name for case in CHECKS[check](setting(operation, level=level, backend=backend.name))]
            assert len(set(names)) == len(names)


def test_what_is_listed_is_what_is_run(backend):
    report = conformance.run([backend.name], ["sigmoid"], level="quick")
    listed = conformance.cases([backend.name], ["sigmoid"], level="quick")
    assert listed == [result.id for result in report.results if result.case != "served"]


@pytest.mark.requires("torch")
def test_cases_are_listed_without_importing_the_framework():
    code = (
        "import sys\nfrom polylogit import conformance\n"
        "ids = conformance.cases(['torch'], ['softmax'], level='quick')\n"
        "print(sum('/bfloat16/' in one for one in ids) > 10, 'torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["True", "False"]


def test_a_seed_is_part_of_the_id():
    assert all(name.endswith("@3") for name in conformance.cases(["numpy"], ["sigmoid"], level="quick", seed=3))
