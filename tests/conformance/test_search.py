"""The open-ended search: finds what is planted, shrinks it, names it in a line, and accuses nobody."""

import subprocess
import sys

import pytest

from polylogit import conformance
from polylogit.conformance._data.reproducer import Call
from polylogit.errors import BackendUnavailableError, ConformanceError

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
    monkeypatch.delitem(sys.modules, "polylogit.conformance.strategies", raising=False)
    monkeypatch.delattr(conformance, "strategies", raising=False)
    with pytest.raises(BackendUnavailableError, match=r"pip install .*\"hypothesis>="):
        conformance.search(softmax, "softmax", dtypes=["float32"])


def test_nothing_else_of_the_kit_imports_hypothesis():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import numpy as np; from polylogit import conformance\n"
        "conformance.check(lambda x: 1 / (1 + np.exp(-x)), 'sigmoid', level='quick', dtypes=['float64'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
