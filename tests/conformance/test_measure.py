"""Every published fault is caught, and no right implementation is accused."""

import numpy as np
import pytest

from polylogit import conformance

from .kernels.classes import CLASS_OF, CLASSES, TWINS
from .kernels.faults import FAULTS, UNPUBLISHED
from .kernels.reported import REPORTED
from .kernels.unusual import UNUSUAL
from .measure import ALL, WIDE, first_failure, tolerance_verdict

ALL_FAULTS = {**FAULTS, **UNPUBLISHED}
# Right ones that differ in what the processor does for them: NumPy's exp, exp2, tanh and sums, products of matrices.
TELLING = ("plain NumPy", "the usual log_softmax", "sigmoid by its formula", "base two", "tanh with a corrected tail",
           "online, blocks of 32", "sum as a tree", "gradient by the Jacobian")  # fmt: skip
# The others are asked for a wide dtype and a narrow one, by turns; measure.py asks all of them for every dtype.
HALVES = (("float64", "float16"), ("float32", "bfloat16"))
OTHERS = [name for name in UNUSUAL if name not in TELLING]


@pytest.mark.processor
@pytest.mark.parametrize("name", ALL_FAULTS)
def test_a_fault_is_caught(name):
    found = first_failure(*ALL_FAULTS[name])
    assert found is not None
    assert found.message


def test_a_report_on_a_fault_says_so():
    operation, implementation, vjp = FAULTS["no_max_softmax"]
    report = conformance.check(implementation, operation, vjp=vjp, level="quick")
    assert report.status == 1, report.summary()
    assert not report.passed
    assert report.failures[0].message


@pytest.mark.parametrize("name", REPORTED)
def test_a_fault_that_users_reported_is_caught(name):
    found = first_failure(*REPORTED[name])
    assert found is not None
    assert found.message


@pytest.mark.parametrize("name", CLASSES)
def test_a_fault_where_the_answer_is_exact_far_from_all_or_16_bits_wide_is_caught(name):
    narrow = ("float16", "bfloat16") if CLASS_OF[name].startswith("16 bits") else None
    assert first_failure(*CLASSES[name], rounded_once=True, among=narrow) is not None, CLASS_OF[name]


@pytest.mark.parametrize("name", TWINS)
def test_a_right_twin_of_such_a_fault_is_not_accused(name):
    assert first_failure(*TWINS[name], rounded_once=True) is None


@pytest.mark.processor
@pytest.mark.parametrize("name", TELLING)
def test_a_right_implementation_is_not_accused(name):
    operation, implementation, vjp = UNUSUAL[name]
    report = conformance.check(implementation, operation, vjp=vjp, level="quick", name=name.replace(" ", "-"))
    assert report.passed, report.summary()


@pytest.mark.parametrize(("name", "among"), [(name, HALVES[turn % 2]) for turn, name in enumerate(OTHERS)])
def test_a_right_implementation_of_another_kind_is_not_accused(name, among):
    assert first_failure(*UNUSUAL[name], among=among) is None


def test_fixed_tolerances_let_faults_through_and_accuse_the_right():
    missed = [name for name, entry in FAULTS.items() if tolerance_verdict(*entry, WIDE)]
    assert len(missed) > len(FAULTS) / 2
    accused = [name for name, entry in UNUSUAL.items() if not tolerance_verdict(*entry, ALL)]
    assert accused


def test_what_is_refused_is_reported_as_such_and_never_as_passed():
    def only_float32(x, axis=-1):
        if x.dtype != np.float32 or axis != -1:
            raise NotImplementedError("float32 on the last axis")
        e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
        return e / e.sum(axis, keepdims=True)

    report = conformance.check(only_float32, "softmax", level="quick")
    assert report.passed, report.summary()
    assert {result.dtype for result in report.results if result.verdict == "passed"} == {"float32"}
    refused = [result for result in report.results if result.verdict == "unsupported"]
    assert {result.dtype for result in refused} >= {"float64", "float16", "bfloat16"}
    assert all("float32 on the last axis" in result.message for result in refused if result.check == "axes")


def test_a_dtype_that_was_asked_for_must_be_served():
    def never(x, axis=-1):
        raise ValueError("no")

    assert conformance.check(never, "softmax", level="quick", dtypes=["float32"]).status == 1
    assert conformance.check(never, "softmax", level="quick").status == 1


def test_a_kernel_that_serves_nothing_is_inconclusive():
    def nothing(x, axis=-1):
        raise NotImplementedError("later")

    assert conformance.check(nothing, "softmax", level="quick").status == 3


def test_expected_failures_are_kept_apart_and_stale_ones_fail_under_strict(tmp_path):
    operation, implementation, _ = FAULTS["empty_axis_crash"]
    expected = tmp_path / "expected.toml"
    expected.write_text('[[expected]]\nreason = "known"\ncheck = "shapes"\ncase = "empty*"\n')

    def check(kernel, expected, **options):
        asked = {"level": "quick", "checks": ["shapes"], "expected_failures": expected}
        return conformance.check(kernel, operation, **asked, **options)

    report = check(implementation, expected)
    assert report.passed, report.summary()
    assert any(result.verdict == "expected-failure" for result in report.results)

    right = UNUSUAL["the usual log_softmax"][1]
    assert check(right, expected).passed
    strict = check(right, expected, strict=True)
    assert strict.status == 1

    old = [{"reason": "known", "check": "shapes", "case": "empty*", "expires": "2020-01-01"}]
    assert check(implementation, old).status == 1
