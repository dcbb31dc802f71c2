"""Failures are grouped by cause: a fault planted in one place gives one group, which says where."""

import dataclasses

import numpy as np
import pytest

from polylogit import conformance
from polylogit.conformance._conditions import _loosely
from polylogit.conformance._grouping import grouped
from polylogit.conformance._results import CONVENTION, INACCURATE, WRONG


def softmax(x, axis=-1):
    wide = x.astype(np.float64 if x.dtype.kind in "biu" else np.result_type(x, np.float32))
    e = np.exp(wide - wide.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def sigmoid(x):
    wide = x.astype(np.float64 if x.dtype.kind in "biu" else np.result_type(x, np.float32))
    e = np.exp(-np.abs(wide))
    y = np.where(wide < 0, e / (1 + e), 1 / (1 + e))
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def pullback(x, cotangent, axis=-1):
    y, g = (one.astype(np.float64) for one in (softmax(x.astype(np.float64), axis), cotangent))
    return (y * (g - (y * g).sum(axis=axis, keepdims=True))).astype(x.dtype)


def scaled(where):
    """A softmax that is 10 % off where that holds, entry by entry or for the whole array."""

    def kernel(x, axis=-1):
        y = softmax(x, axis)
        if x.dtype.kind in "biu" or not x.size:
            return y
        return np.where(where(x, axis), y * y.dtype.type(0.9), y).astype(y.dtype)

    return kernel


def check(kernel, operation="softmax", **options):
    report = conformance.check(kernel, operation, level="quick", **{"dtypes": ["float32"], **options})
    assert report.failures
    return grouped(report), report


def below_maximum(x, axis):
    top = np.where(np.isfinite(x), x, -np.inf).max(axis=axis, keepdims=True)
    return np.isfinite(x) & (top - x > 30.0)


def last(x, axis):
    return x.ndim < 2 or axis in (-1, x.ndim - 1, (-1,))


# What is planted, and the words that must be in the description of the largest group. The kit's cases decide what there
# is to see: nothing is off where the answer is exactly 0.
PLANTED = {
    "the axis is not the last": lambda x, axis: not last(x, axis),
    "the array is not contiguous": lambda x, axis: not x.flags.c_contiguous,
    "rows have 1000 entries or more": lambda x, axis: last(x, axis) and axis is not None and x.shape[-1] >= 1000,
    "an entry is 30": below_maximum,
    "a row begins with -inf": lambda x, axis: np.isneginf(np.take(x, [0], axis=-1)) if x.ndim else False,
}


@pytest.mark.parametrize("words", PLANTED)
def test_a_fault_planted_in_one_place_is_one_group_that_says_where(words):
    groups, report = check(scaled(PLANTED[words]))
    first = groups[0]
    assert words in first.headline
    numbers = [one for one in report.failures if one.details.get("got") is not None]
    assert len(first.results) >= 0.9 * len(numbers)
    assert first.passes <= 0.1 * len(first.results)


def test_of_two_faults_each_is_a_group():
    def kernel(x, axis=-1):
        y = scaled(PLANTED["the axis is not the last"])(x, axis)
        return y if x.dtype != np.float16 else (y * np.float16(0.5)).astype(y.dtype)

    groups, _ = check(kernel, dtypes=["float32", "float16"])
    assert any("the axis is not the last" in one.headline for one in groups)
    assert any("the dtype is float16" in one.headline or "16 bits" in one.headline for one in groups)


def test_a_gradient_that_is_wrong_is_a_group_of_its_own():
    groups, report = check(softmax, vjp=lambda x, g, axis=-1: -pullback(x, g, axis))
    assert "the gradient is asked for" in groups[0].headline
    assert {one.check for one in groups[0].results} == {"vjp"}
    assert "directions" in groups[0].smallest.details
    assert len(groups[0].results) >= 0.9 * len(report.failures)


def test_a_clipped_sigmoid_is_said_to_fail_beyond_where_it_is_clipped():
    groups, _ = check(lambda x: sigmoid(np.clip(x, -20, 20).astype(x.dtype)), "sigmoid")
    assert any(f"a logit is -{edge}" in groups[0].headline for edge in ("20", "20.1", "20.2", "20.3", "20.4", "20.5"))


def test_what_raises_is_apart_from_what_is_wrong():
    def kernel(x, axis=-1):
        if x.ndim == 2 and x.shape[0] == 1:
            raise ZeroDivisionError("one row")
        return scaled(PLANTED["the axis is not the last"])(x, axis)

    groups, _ = check(kernel)
    raised = [one for one in groups if "raised ZeroDivisionError" in one.symptoms]
    assert raised
    assert all(len(one.symptoms) == 1 for one in raised)
    assert any("the axis is not the last" in one.headline for one in groups)


def test_a_kernel_that_is_wrong_throughout_fails_everywhere():
    results = [conformance.Result("k", "softmax", "values", "float32", f"n{n}", "failed") for n in range(9)]
    (group,) = grouped(conformance.Report(results))
    assert group.headline == "fails everywhere: 9 cases"


# --- the search alone -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passing():
    report = conformance.check(softmax, "softmax", level="quick", dtypes=["float32", "float16"], vjp=pullback)
    assert report.passed
    return report.results


def planted(results, fails):
    """The same results, as if the cases of which that holds had failed."""
    kept = []
    for one in results:
        if one.verdict == "passed" and not one.facts.get("vacuous"):
            bad = {"verdict": "failed", "finding": WRONG, "details": {"expected": 1.0, "got": 2.0}}
            kept.append(dataclasses.replace(one, **bad) if fails(one) else one)
    return conformance.Report(kept)


ATTRIBUTES = ("axis", "axis argument", "layout", "contiguous", "kind", "ndim", "length", "cotangent layout")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_whatever_attribute_failures_share_they_are_one_group_without_a_pass(passing, name):
    values = {one.facts[name] for one in passing if name in one.facts}
    tried = 0
    for value in values:
        report = planted(passing, lambda one, value=value: one.facts.get(name) == value)
        if not 3 <= len(report.failures) < len(report.results):
            continue
        groups = grouped(report)
        assert [len(one.results) for one in groups] == [len(report.failures)], (name, value)
        assert groups[0].passes == 0
        tried += 1
    assert tried


@pytest.mark.parametrize("name", ["dtype", "check"])
def test_so_are_those_of_one_dtype_or_check(passing, name):
    for value in {getattr(one, name) for one in passing}:
        report = planted(passing, lambda one, value=value: getattr(one, name) == value)
        if len(report.failures) >= 3:
            assert [len(one.results) for one in grouped(report)] == [len(report.failures)]


def test_nothing_is_lost_and_nothing_is_in_two_groups(passing):
    rng = np.random.default_rng(0)
    for share in (0.003, 0.03, 0.3):
        drawn = {one.id for one in passing if rng.random() < share}
        report = planted(passing, lambda one, drawn=drawn: one.id in drawn)
        ids = [one.id for group in grouped(report) for one in group.results]
        assert sorted(ids) == sorted(one.id for one in report.failures)


def test_failures_without_a_cause_are_not_given_one(passing):
    rng = np.random.default_rng(1)
    drawn = {one.id for one in passing if rng.random() < 0.02}
    report = planted(passing, lambda one: one.id in drawn)
    unexplained = [one for group in grouped(report) if group.pattern is None for one in group.results]
    assert len(unexplained) > 0.6 * len(report.failures)


def test_what_every_case_has_is_not_said_of_failures(passing):
    """Results of behaviours have no length, so that having one tells some passes apart, and says nothing."""
    report = planted(passing, lambda one: one.dtype == "float16" and one.facts.get("length", 0) >= 1)
    assert not any(" entries" in group.headline for group in grouped(report))


def test_a_wrong_dtype_is_one_symptom_whatever_the_dtypes():
    bad = [result(one, verdict="failed", message=f"the result is {came}; it should be {due}")
           for one, (came, due) in enumerate([("float32", "bfloat16"), ("float64", "float16")])]  # fmt: skip
    (group,) = grouped(conformance.Report(bad))
    assert group.symptoms == {"the result has another dtype than it should": 2}


def test_the_smallest_case_comes_first(passing):
    report = planted(passing, lambda one: one.facts.get("axis") == "first")
    (group,) = grouped(report)
    sizes = [one.facts["length"] * one.facts["rows"] for one in group.results]
    assert sizes == sorted(sizes)


# --- other findings ---------------------------------------------------------------------------------------------------


def result(number, **fields):
    return conformance.Result("numpy+k", "softmax", "axes", "float32", f"case-{number}", **fields)


def test_another_convention_is_one_line_however_many_cases():
    said = {"verdict": "convention", "finding": CONVENTION, "convention": "default-axis=None"}
    message = "the default axis is None; by the contract -1"
    (group,) = grouped(conformance.Report([result(one, **said, message=message) for one in range(36)]))
    assert group.headline == "the default axis is None: 36 cases; by the contract -1"


def test_what_is_less_accurate_is_apart_and_has_its_factor():
    less = [result(one, verdict="inaccurate", finding=INACCURATE, error=1.0 + 0.2 * one) for one in (1, 2)]
    (group,) = grouped(conformance.Report([result(0), *less]))
    assert (group.finding, group.worst, len(group.results)) == (INACCURATE, 1.4, 2)


def test_a_crash_is_a_group_by_its_cause():
    died = [conformance.Result("k", "softmax", verdict="crashed", message=f"ended by SIGSEGV at n{n}") for n in (3, 4)]
    hung = conformance.Result("k", "softmax", verdict="timeout", message="no sign of life")
    groups = grouped(conformance.Report([*died, hung]))
    assert sorted((one.finding, len(one.results)) for one in groups) == [("crashed", 2), ("timeout", 1)]


@pytest.mark.parametrize("number", [5e-324, -5e-324, 1.2345e-310, 2.0**-149, 1e308])
def test_a_threshold_of_any_size_has_words(number, passing):
    """Down to the smallest subnormal number, whose order is no float."""
    bad = [
        dataclasses.replace(one, verdict="failed", finding=WRONG, facts={"ranges": {"top": [number, number]}})
        for one in passing[:3]
    ]
    groups = grouped(conformance.Report(bad + passing[3:]))
    assert all(group.headline for group in groups)


@pytest.mark.parametrize(
    ("edge", "up", "text"),
    [(1.2345, False, "1.23"), (0.1, True, "0.1"), (1.2345, True, "1.24"), (-1.2345, False, "-1.24"),
     (0.00099999, True, "0.001"),
     (5e-324, False, "4.94e-324"), (5e-324, True, "4.94e-324"), (1e308, True, "1e+308"), (1000.0, True, "1000")],
)  # fmt: skip
def test_a_threshold_is_rounded_to_the_side_that_leaves_the_zone_no_smaller(edge, up, text):
    assert _loosely(edge, up=up) == text
