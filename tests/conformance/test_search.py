"""The open-ended search: finds what is planted, shrinks it, names it in a line, and accuses nobody."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylogit import conformance
from polylogit.conformance import strategies
from polylogit.conformance._data.reproducer import Call
from polylogit.errors import BackendUnavailableError, ConformanceError
from polylogit.spec.dtypes import DTYPES

from .kernels.faults import FAULTS, right_sigmoid, right_vjp_softmax, softmax
from .kernels.unusual import UNUSUAL

TRIES = 200


def spoiled(x, axis, where):
    y = softmax(x, axis)
    return (1.5 * y).astype(y.dtype) if where else y


def a_large_value_in_a_longer_row(x, axis=-1):
    return spoiled(x, axis, x.ndim and x.shape[-1] >= 5 and (x > 3).any())


def a_row_of_a_hundred(x, axis=-1):
    return spoiled(x, axis, x.ndim and x.shape[-1] >= 100)


def the_middle_of_three_dimensions(x, axis=-1):
    return spoiled(x, axis, x.ndim == 3 and axis in (1, -2))


def found(implementation, operation="softmax", **options):
    report = conformance.search(implementation, operation, dtypes=["float32"], max_examples=4 * TRIES, **options)
    assert report.status == 1, report.summary()
    return report.failures[0]


def test_a_planted_fault_is_shrunk_to_a_short_row_of_plain_numbers():
    call = Call.of(found(a_large_value_in_a_longer_row).case)
    assert call.x.shape == (5,)
    assert call.axis == -1
    assert sorted(call.x) == [0, 0, 0, 0, 4]


def test_the_length_at_which_it_begins_is_found():
    assert found(a_row_of_a_hundred).case == "x=0*100"


def test_the_axis_on_which_it_shows_is_found():
    call = Call.of(found(the_middle_of_three_dimensions).case)
    assert call.x.ndim == 3
    assert call.axis == 1
    assert not call.x.any()


def test_a_wrong_gradient_is_found_by_its_cotangent():
    def vjp(x, g, axis=-1):
        gradient = right_vjp_softmax(x, g, axis)
        return 2 * gradient if x.shape[-1] > 2 and (g < 0).any() else gradient

    failure = found(softmax, vjp=vjp)
    call = Call.of(failure.case)
    assert call.kind == "vjp"
    assert call.x.shape[-1] == 3
    assert call.g.min() < 0
    assert failure.details["directions"]


def test_the_result_says_what_any_failing_case_says():
    failure = found(a_large_value_in_a_longer_row)
    assert failure.check == "search"
    assert failure.error > 1
    assert {"inputs", "expected", "got", "bound"} <= set(failure.details)
    assert failure.message.startswith("row 0 (length 5)")


def test_what_is_found_is_the_same_at_every_run_with_that_seed_and_is_replayed_by_its_id():
    failure = found(a_large_value_in_a_longer_row, seed=3)
    assert found(a_large_value_in_a_longer_row, seed=3).id == failure.id
    (again,) = conformance.replay(failure.id, implementation=a_large_value_in_a_longer_row).results
    assert again == failure
    (healed,) = conformance.replay(failure.id, implementation=softmax).results
    assert healed.verdict == "passed"


def test_an_implementation_that_does_not_repeat_itself_is_told_so():
    calls = []

    def once(x, axis=-1):
        calls.append(x)
        return spoiled(x, axis, len(calls) == 20)

    assert "does not repeat itself" in found(once).message


@pytest.mark.parametrize(
    "name", ["the usual softmax", "rows one by one", "position-dependent last bits", "plain NumPy"]
)
def test_a_right_implementation_is_not_accused(name):
    operation, implementation, vjp = UNUSUAL[name]
    dtypes = ["float64", "float32"]
    report = conformance.search(implementation, operation, vjp=vjp, dtypes=dtypes, max_examples=TRIES, name="right")
    assert report.passed, report.summary()
    searched = [result for result in report.results if result.check == "search"]
    assert all(result.verdict == "passed" and 0 < result.error <= 1 for result in searched)
    assert all(result.cases > TRIES for result in searched)


@pytest.mark.requires("torch")
def test_of_pytorch_the_derivatives_are_searched_too():
    import torch

    report = conformance.search(torch.softmax, "softmax", backend="torch", dtypes=["float32"], max_examples=60)
    assert [result.case.rpartition(" ")[2] for result in report.results] == ["values", "vjp", "jvp"]
    assert report.passed, report.summary()


@pytest.mark.parametrize("name", ["no_max_softmax", "log_of_softmax", "sigmoid_one_minus", "vjp_softmax_diagonal_only"])
def test_published_faults_are_found_without_a_list(name):
    operation, implementation, vjp = FAULTS[name]
    assert found(implementation, operation, vjp=vjp).case


def test_check_searches_after_its_cases():
    report = conformance.check(
        right_sigmoid, "sigmoid", level="quick", dtypes=["float32"], checks=["special"], search=20
    )
    assert report.passed
    assert report.results[-1].case == "20 tries of values"
    again = conformance.replay(report.results[-1].id, implementation=right_sigmoid)
    assert again.results == [report.results[-1]]


def test_a_search_of_nothing_is_refused():
    with pytest.raises(ConformanceError, match="search=-1 tries nothing"):
        conformance.check(softmax, "softmax", checks=(), search=-1)


def test_without_hypothesis_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "polylogit.conformance.strategies")
    monkeypatch.delattr(conformance, "strategies", raising=False)
    with pytest.raises(BackendUnavailableError, match=r"polylogit\[search\]"):
        conformance.search(softmax, "softmax", dtypes=["float32"])


def test_nothing_else_of_the_kit_imports_hypothesis():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import numpy as np; from polylogit import conformance\n"
        "conformance.check(lambda x: 1 / (1 + np.exp(-x)), 'sigmoid', level='quick', dtypes=['float64'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# --- the line that a call is written in ---


@pytest.mark.parametrize(
    "line",
    [
        "x=0*4,4",
        "x=0.1,-0,inf,-inf,nan,1e+30",
        "x=2x3:1,2,3,4,5,6;axis=0",
        "x=2x1x2:0*4;axis=None",
        "x=2x2:1*4;axis=0+-1;where=2x1:1,0",
        "x=1,2;where=:1",
        "vjp;x=0,1;g=1,0",
        "jvp;x=2x1:0,1;axis=-2;g=2x1:1*2",
    ],
)
def test_a_call_is_the_line_it_was_read_from(line):
    assert Call.of(line).line(DTYPES["float32"]) == line


@pytest.mark.parametrize(
    "line",
    ["", "x", "x=a", "x=1;y=2", "x=2x2:1,2", "vjp;x=1", "x=1;g=1", "vjp;x=1,2;g=1", "x=1;axis=a", "x=0*99999999"],
)
def test_a_line_that_stands_for_no_call_is_refused(line):
    with pytest.raises(ConformanceError, match="stands for no call"):
        Call.of(line)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_spelt_so_that_they_come_back(dtype):
    dtype = DTYPES[dtype]

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(strategies.calls("softmax", dtype, where=True))
    def comes_back(call):
        again = Call.of(call.line(dtype))
        assert np.array_equal(dtype.round(again.x), call.x, equal_nan=True)
        assert again.axis == call.axis
        assert (again.where is None) == (call.where is None)
        assert call.where is None or np.array_equal(again.where, call.where)

    comes_back()


# --- what is drawn ---


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_have_the_dtype_and_the_shape_asked_for(dtype):
    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.data())
    def drawn(data):
        shape = data.draw(strategies.shapes())
        x = data.draw(strategies.logits(dtype, shape))
        assert x.dtype == DTYPES[dtype].dtype
        assert x.shape == shape
        finite = data.draw(strategies.logits(dtype, special=False)).astype(float)
        assert np.isfinite(finite).all()
        assert data.draw(strategies.cotangents(shape, dtype)).shape == shape

    drawn()


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_axes_and_masks_are_ones_that_numpy_takes(data):
    shape = data.draw(st.one_of(st.just(()), strategies.shapes()))
    axis = data.draw(strategies.axes(shape))
    if shape:
        np.zeros(shape).sum(axis=axis)
    mask = data.draw(strategies.masks(shape))
    assert mask.dtype == bool
    assert np.broadcast_shapes(mask.shape, shape) == shape


EDGES = {
    "ties": lambda x, dtype: (x == x.max()).sum() > 1,
    "minus infinity": lambda x, dtype: np.isneginf(x).any(),
    "plus infinity": lambda x, dtype: np.isposinf(x).any(),
    "nan": lambda x, dtype: np.isnan(x).any(),
    "subnormal": lambda x, dtype: ((x != 0) & (np.abs(x) < dtype.smallest_normal)).any(),
    "the largest": lambda x, dtype: (x == dtype.max).any(),
    "a huge offset": lambda x, dtype: x.min() > min(1e6, dtype.max / 8) and np.ptp(x) > 0,
    "a long tail": lambda x, dtype: x.size > 1000 and np.ptp(x) > 0,
    "a drifting sum": lambda x, dtype: x.size > 50 and (x == dtype.round(-1.1)).sum() > 40 and x.max() > -1,
    "a gap beyond the exponential": lambda x, dtype: np.isfinite(x).all() and np.ptp(x) > 104,
    "small differences at a great height": lambda x, dtype: x.size > 1 and x.min() > 100 and 0 < np.ptp(x) < 8,
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_edges_are_reached(edge, dtype):
    dtype = DTYPES[dtype]

    def reached(call):
        with np.errstate(all="ignore"):
            return bool(EDGES[edge](call.x.ravel(), dtype))

    drawn = strategies.calls("softmax", dtype)
    assert strategies.smallest(drawn, reached, max_examples=1500) is not None


def test_masks_hide_some_and_none_and_all():
    for wanted in (np.all, lambda mask: not mask.any(), lambda mask: mask.any() and not mask.all()):
        drawn = strategies.masks((2, 3))
        assert strategies.smallest(drawn, lambda mask, wanted=wanted: bool(wanted(mask)), max_examples=300) is not None
