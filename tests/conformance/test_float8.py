"""float8: computed in a wider format and rounded once; asked of backends, and of kernels that say they serve it."""

import ml_dtypes
import numpy as np
import pytest

import polylogit
from polylogit import conformance
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.operations import DEFINITIONS
from polylogit.conformance._implementation import Implementation
from polylogit.conformance._run_checks import run_checks

from .kernels.faults import right_vjp_softmax, softmax
from .kernels.unusual import UNUSUAL

FLOAT8 = ("float8_e4m3fn", "float8_e5m2")


@pytest.mark.parametrize("name", FLOAT8)
def test_the_formats_are_those_of_ml_dtypes(name):
    dtype, facts = DTYPES[name], ml_dtypes.finfo(name)
    assert (dtype.eps, dtype.smallest_normal, dtype.smallest_subnormal, dtype.max) == tuple(
        float(one) for one in (facts.eps, facts.smallest_normal, facts.smallest_subnormal, facts.max)
    )
    assert dtype.has_infinity == np.isinf(np.float32(np.inf).astype(dtype.dtype).astype(np.float32))


@pytest.mark.parametrize("name", FLOAT8)
@pytest.mark.parametrize("operation", DEFINITIONS)
def test_a_backend_rounds_once(backend, operation, name):
    results = list(run_checks(Implementation(backend, operation), "full", among=[name]))
    assert {result.verdict for result in results} == {"passed"}
    # Half a unit is nearly used up, so that a second rounding would show.
    assert max(result.error for result in results if result.error is not None) > 0.9


@pytest.mark.parametrize("name", FLOAT8)
@pytest.mark.parametrize("right", ["the usual softmax", "the usual log_softmax", "the usual sigmoid"])
def test_a_kernel_that_declares_it_is_held_to_it(right, name):
    operation, implementation, vjp = UNUSUAL[right]
    report = conformance.check(implementation, operation, vjp=vjp, dtypes=[name], level="quick", name="right")
    assert report.passed, report.summary()
    assert sum(result.verdict == "passed" for result in report.results) > 200


def inside(x, axis=-1):
    """Subtraction, exponential and sum each rounded to the format."""
    if "float8" not in x.dtype.name:
        return softmax(x, axis)
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True))
        return (e / e.sum(axis, keepdims=True)).astype(x.dtype)


def vjp_inside(x, g, axis=-1):
    if "float8" not in x.dtype.name:
        return right_vjp_softmax(x, g, axis)
    y = softmax(x, axis)
    return (y * (g - (g * y).sum(axis, keepdims=True))).astype(x.dtype)


@pytest.mark.parametrize("name", FLOAT8)
def test_arithmetic_within_the_format_is_a_fault(name):
    assert conformance.check(inside, "softmax", dtypes=[name], checks=["values"], level="quick").status == 1
    report = conformance.check(softmax, "softmax", vjp=vjp_inside, dtypes=[name], checks=["vjp"], level="quick")
    assert report.status == 1


def test_a_kernel_that_does_not_declare_it_is_not_asked_for_it():
    report = conformance.check(inside, "softmax", level="quick", checks=["values", "dtypes"])
    assert report.passed, report.summary()
    assert not {result.dtype for result in report.results} & set(FLOAT8)


def test_the_search_draws_it_where_it_is_asked_for():
    report = conformance.search(inside, "softmax", dtypes=[FLOAT8[1]], max_examples=200)
    assert report.status == 1
    assert conformance.search(softmax, "softmax", dtypes=FLOAT8, max_examples=200).passed


def test_numpy_is_asked_for_it_at_every_level():
    report = conformance.run(["numpy"], ["sigmoid"], level="quick", isolate=False)
    assert {result.dtype for result in report.results} >= set(FLOAT8)
    assert polylogit.get_backend("numpy").dtypes()[-1].startswith("float8")
