"""One comparison of numbers: exact values and their bounds on one side, what came back on the other."""

import math

import numpy as np
import pytest

from polylogit._spec.doubledouble import DD
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._compare import Comparison, Expected, compare

FLOAT32, FLOAT16, FLOAT8 = DTYPES["float32"], DTYPES["float16"], DTYPES["float8_e4m3fn"]
TINY = FLOAT32.smallest_normal
INF, NAN = math.inf, math.nan


def expected(exact, bound=0.125, dtype=FLOAT32, *, low=0.0, inputs=None, **more):
    """What is expected of one row; the bound of each entry, or of all."""
    high = np.array([exact], dtype=float)
    given = np.zeros_like(high) if inputs is None else np.array([inputs], dtype=float)
    bounds = np.broadcast_to(np.asarray(bound, dtype=float), high.shape)
    return Expected(given, DD(high, np.full_like(high, low)), bounds, dtype, **more)


def judged(exact, got, bound=0.125, dtype=FLOAT32, **more):
    return compare(expected(exact, bound, dtype, **more), np.array([got], dtype=float))


# --- the fraction of the bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "error", "verdict"),
    [
        (0.5, 0.0, "passed"),
        (0.5625, 0.5, "passed"),
        (0.375, 1.0, "passed"),
        (0.625 + 2**-10, 1.0078125, "failed"),
        (0.25, 2.0, "failed"),
    ],
)
def test_the_error_is_a_fraction_of_the_bound_and_1_still_passes(got, error, verdict):
    found = judged([0.5, 0.25], [got, 0.25])
    assert (found.error, found.verdict, found.cases) == (error, verdict, 2)


def test_both_parts_of_the_exact_value_count():
    assert judged([0.5], [0.5], bound=2.0**-40, low=2.0**-40).error == 1.0
    assert judged([0.5], [0.5], bound=2.0**-40, low=-(2.0**-41)).error == 0.5
    assert judged([0.5], [0.5 + 2.0**-40], bound=2.0**-40, low=2.0**-40).error == 0.0


def test_a_bound_of_0_takes_the_exact_value_alone():
    assert judged([0.0, 1.0], [0.0, 1.0], bound=0.0).error == 0.0
    assert judged([0.0, 1.0], [1e-300, 1.0], bound=0.0).error == INF
    assert judged([0.0, 1.0], [0.0, 1.0 - 2**-53], bound=0.0).error == INF


def test_the_worst_entry_is_named_with_its_row_and_its_distance_from_the_maximum():
    exact = np.array([[0.5, 0.5], [0.25, 0.75]])
    inputs = np.array([[0.0, 0.0], [1.0, 3.5]])
    given = Expected(inputs, DD(exact, np.zeros_like(exact)), np.full_like(exact, 0.125), FLOAT32)
    found = compare(given, np.array([[0.5, 0.5625], [0.5, 0.75]]), names=["first", "second"])
    assert (found.row, found.length, found.distance, found.error) == (1, 2, 2.5, 2.0)
    assert (found.seen.row, found.seen.index) == (1, 0)
    np.testing.assert_array_equal(found.seen.over, [[False, False], [True, False]])
    assert not judged([0.5, 0.25], [0.625, 0.25]).seen.over.any()
    assert judged([0.5, 0.25, 0.25], [0.5, 0.25, 0.25]).length == 3
    assert "row 'second' (length 2), entry 0: expected 0.25, got 0.5" in found.message
    assert found.message.endswith("2 times the bound")
    assert found.details["row"] == "second"
    unnamed = compare(given, np.array([[0.5, 0.5625], [0.5, 0.75]]), names=["first"])
    assert unnamed.message.startswith("row 1 (length 2)")
    assert unnamed.details["row"] == 1


@pytest.mark.parametrize(
    ("inputs", "distance"), [([0.0, -3.0], 3.0), ([-INF, -3.0], 0.0), ([5.0, -INF], 0.0), ([-INF, -INF], 0.0)]
)
def test_the_distance_of_an_entry_is_0_unless_both_are_finite(inputs, distance):
    assert judged([0.5, 0.5], [0.5, 1.0], inputs=inputs).distance == distance


def test_nothing_to_compare_passes_and_shows_nothing():
    found = judged([], [])
    assert (found.verdict, found.cases, found.vacuous, found.error) == ("passed", 0, True, None)
    assert (found.message, found.length, found.distance, found.row, found.lost) == ("", 0, 0.0, 0, False)
    assert (Comparison().cases, Comparison().vacuous) == (0, False)


# --- numbers that were flushed to 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "passes"),
    [(0.0, True), (2 * TINY, True), (3 * TINY, True), (3.5 * TINY, False), (-TINY, False), (NAN, False)],
)
def test_below_a_limit_anything_from_0_to_one_smallest_normal_number_more_will_do(got, passes):
    found = judged([2 * TINY, 0.5], [got, 0.5], bound=TINY / 4, zero_below=4 * TINY)
    assert (found.verdict == "passed") is passes
    assert (found.error == 0.0) is passes


def test_what_was_flushed_has_no_error():
    assert judged([2 * TINY, 3 * TINY], [0.0, 0.0], bound=TINY / 4, zero_below=4 * TINY).error == 0.0


def test_the_limit_itself_is_not_below_it_and_an_exact_0_stays_exact():
    assert judged([4 * TINY, 0.5], [0.0, 0.5], bound=TINY / 4, zero_below=4 * TINY).verdict == "failed"
    assert judged([0.0, 0.5], [TINY / 2, 0.5], bound=0.0, zero_below=4 * TINY).verdict == "failed"
    assert judged([0.0, 0.5], [TINY / 2, 0.5], bound=TINY / 4, zero_below=4 * TINY).verdict == "passed"
    assert judged([0.0, 0.5], [-TINY / 2, 0.5], bound=TINY / 4, zero_below=4 * TINY).verdict == "failed"


def test_a_negative_value_may_be_flushed_from_its_own_side():
    options = {"bound": TINY / 4, "zero_below": 4 * TINY}
    assert judged([-2 * TINY, 0.5], [-0.5 * TINY, 0.5], **options).verdict == "passed"
    assert judged([-2 * TINY, 0.5], [0.5 * TINY, 0.5], **options).verdict == "failed"


# --- NaN and infinities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [NAN, INF, -INF, 0.5])
@pytest.mark.parametrize("got", [NAN, INF, -INF, 0.5])
def test_a_special_value_is_matched_by_itself_alone(exact, got):
    same = exact == got or (math.isnan(exact) and math.isnan(got))
    found = judged([exact, 0.25], [got, 0.25])
    assert found.error == (0.0 if same else INF)
    assert found.verdict == ("passed" if same else "failed")


def test_where_the_dtype_ends_its_largest_number_and_its_infinity_will_do():
    """-65519 is the last number that rounds to the largest of float16; what is exact there is exact."""
    largest = FLOAT16.max
    for got in (-INF, -largest, -largest * (1 - FLOAT16.eps)):
        assert judged([-largest - 8, -1.0], [got, -1.0], dtype=FLOAT16, bound=64.0).error == 0.0
        assert judged([-2 * largest, -1.0], [got, -1.0], dtype=FLOAT16, bound=64.0).error == 0.0
    for got in (INF, largest, NAN, -largest * (1 - 4 * FLOAT16.eps)):
        assert judged([-2 * largest, -1.0], [got, -1.0], dtype=FLOAT16, bound=64.0).error == INF
    assert judged([-INF, -1.0], [-largest, -1.0], dtype=FLOAT16, bound=0.0).error == INF
    assert judged([-INF, -1.0], [-INF, -1.0], dtype=FLOAT16, bound=0.0).error == 0.0
    assert judged([-largest / 2, -1.0], [-INF, -1.0], dtype=FLOAT16, bound=64.0).error == INF


def test_the_largest_number_itself_is_a_number_like_others():
    largest, eps = FLOAT16.max, FLOAT16.eps
    assert 0.9 < judged([-largest, -1.0], [-largest * (1 - eps), -1.0], dtype=FLOAT16, bound=64.0).error < 1
    assert judged([-largest * (1 - eps), -1.0], [-INF, -1.0], dtype=FLOAT16, bound=64.0).error == INF
    assert judged([-2 * largest, -1.0], [-largest * (1 - 2 * eps), -1.0], dtype=FLOAT16, bound=64.0).error == 0.0
    assert judged([-2 * largest, -1.0], [-largest * (1 - 3 * eps), -1.0], dtype=FLOAT16, bound=64.0).error == INF
    assert judged([-2 * largest, -1.0], [-INF, -1.0], dtype=FLOAT16, bound=0.5).error == 0.0
    assert judged([-FLOAT8.max, -1.0], [NAN, -1.0], dtype=FLOAT8, bound=1.0).error == INF


def test_a_dtype_without_infinities_ends_in_nan_or_in_its_largest_number():
    for got in (NAN, -FLOAT8.max):
        assert judged([-INF, -1.0], [got, -1.0], dtype=FLOAT8, bound=0.0).error == 0.0
        assert judged([-2 * FLOAT8.max, -1.0], [got, -1.0], dtype=FLOAT8, bound=1.0).error == 0.0
    assert judged([-FLOAT8.max / 2, -1.0], [NAN, -1.0], dtype=FLOAT8, bound=1.0).error == INF


def test_where_nan_is_expected_another_number_may_be_as_good():
    either = np.array([[True, False]])
    assert judged([NAN, NAN], [0.0, NAN], either=either).error == 0.0
    assert judged([NAN, NAN], [0.0, 0.0], either=either).error == INF
    assert judged([NAN, NAN], [1.0, NAN], either=either).error == INF
    assert judged([NAN, NAN], [1.0, NAN], either=either, other=1.0).error == 0.0


# --- what a comparison shows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "options", "vacuous"),
    [
        ([0.5, 0.25], {}, False),
        ([0.5, 0.375], {}, True),  # the first value is within the bound of the other
        ([0.5, 0.625], {}, True),
        ([0.125, -0.125], {}, True),  # 0 would do
        ([0.126, -0.25], {}, False),
        ([TINY, 3 * TINY], {"bound": TINY / 8, "zero_below": 4 * TINY}, True),
        ([TINY, 4 * TINY], {"bound": TINY / 8, "zero_below": 4 * TINY}, False),
        ([NAN, 0.5], {}, False),
        ([0.5, 0.5], {"bound": 0.0}, True),
        ([0.5, 0.25], {"bound": [0.25, 0.125]}, False),  # the first value is not within the bound of the second
    ],
)
def test_a_case_that_a_constant_passes_is_vacuous(exact, options, vacuous):
    assert judged(exact, exact, **options).vacuous is vacuous


def test_entries_tell_something_where_another_number_would_have_shown():
    found = judged(
        [0.5, 0.125, NAN, 3 * TINY, 4 * TINY],
        [0.5, 0.125, NAN, 0, 4 * TINY],
        bound=[0.125, 0.125, 0.125, TINY / 8, TINY / 8],
        zero_below=4 * TINY,
    )
    np.testing.assert_array_equal(found.seen.telling, [[True, False, False, False, True]])


@pytest.mark.parametrize(
    ("got", "lost"), [(0.75, False), (1.25, False), (0.6, False), (0.5, True), (1.5, True), (NAN, True)]
)
def test_half_of_a_value_gone_is_lost(got, lost):
    found = judged([1.0, 0.25], [got, 0.25], bound=0.0625)
    assert found.lost is lost
    assert judged([1.0, 0.25], [1.0, 0.25], bound=0.0625).lost is False
    assert judged([1.0, 0.25], [1.25, 0.125], bound=0.125).lost is False  # half of the second is within its bound
    assert judged([1.0, 0.25], [1.0, 0.125], bound=0.1).lost is True


def test_a_failure_shows_the_16_entries_around_the_worst():
    exact = np.arange(1.0, 41.0)
    for index, start in ((0, 0), (8, 0), (9, 1), (20, 12), (32, 24), (39, 24)):
        got = exact.copy()
        got[index] += 1
        found = judged(exact, got, inputs=exact)
        details = found.details
        assert (details["index"], details["shown_from"], details["length"]) == (index, start, 40)
        assert details["expected_row"] == details["inputs"] == list(exact[start : start + 16])
        assert details["got_row"] == list(got[start : start + 16])
        assert (details["expected"], details["got"], details["bound"]) == (exact[index], got[index], 0.125)
    short = judged([0.5, 0.25], [0.5, 0.5]).details
    assert (short["shown_from"], short["expected_row"]) == (0, [0.5, 0.25])


def test_the_words_of_a_failure_leave_out_what_says_nothing():
    eps = FLOAT32.eps
    assert judged([1.0, 0.25], [1 + 4 * eps, 0.25], bound=2 * eps).message == (
        "row 0 (length 2), entry 0: expected 1, got 1.0000005, 4 ulp off, 2 times the bound"
    )
    assert judged([0.0, 0.25], [0.5, 0.25], bound=0.0).message == "row 0 (length 2), entry 0: expected 0, got 0.5"


# --- 16 bits, rounded once --------------------------------------------------------------------------------------------


def test_what_is_within_the_bound_but_not_rounded_once_is_told_and_passes():
    once = np.array([[0.03125, 0.03125]])
    found = judged([0.5, 0.25], [0.5, 0.3125], dtype=FLOAT16, once=once)
    assert (found.verdict, found.error, found.once) == ("passed", 0.5, 2.0)
    assert "entry 1: expected 0.25, got 0.3125" in found.message
    assert found.message.endswith("2 times the bound; that bound is what float32 arithmetic, rounded once, leaves")
    assert found.details["bound"] == 0.03125
    right = judged([0.5, 0.25], [0.5, 0.28125], dtype=FLOAT16, once=once)
    assert (right.once, right.message) == (1.0, "")
    wrong = judged([0.5, 0.25], [0.5, 0.5], dtype=FLOAT16, once=once)
    assert (wrong.verdict, wrong.once, wrong.details["bound"]) == ("failed", 8.0, 0.125)
    assert "rounded once" not in wrong.message
    assert judged([0.5, 0.25], [0.5, 0.3125]).once is None


def test_the_row_that_is_not_rounded_once_is_called_by_its_name():
    exact = np.array([[0.5, 0.25]] * 2)
    given = Expected(exact, DD(exact, 0 * exact), exact / 4, FLOAT16, once=exact / 16)
    got = exact + np.array([[0, 0], [0, 0.03125]])
    assert compare(given, got, names=["first", "second"]).message.startswith("row 'second'")
    assert compare(given, got, names=["first"]).message.startswith("row 1 ")
