"""A kernel's process holds nothing that could help it to pass, and whatever it does there, the judge is elsewhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from polylogit import conformance
from polylogit.conformance._remote import HANGS, IN_A_ROW, RemoteImplementation
from polylogit.conformance._request import EndedError, Request
from polylogit.errors import ConformanceError

from .kernels import cheats

HERE = Path(__file__).parent

CHEATS = (
    "zeros",
    "constant",
    "nan_as_a_wildcard",
    "the_input",
    "a_view_of_the_input",
    "in_place",
    "left_in_memory",
    "left_in_memory_but_the_last",
    "by_the_id_of_the_input",
    "by_shape",
    "one_buffer_for_all",
    "from_the_collector",
    "from_the_frames",
    "only_where_it_is_tested",
    "by_the_name_of_the_case",
    "patches_comparisons",
    "patches_conversions",
    "patches_the_kit",
    "takes_back_the_harm",
    "prints_the_verdict",
    "leaves_politely",
    "raises_what_is_no_exception",
)


@pytest.fixture
def by_name(tmp_path, monkeypatch):
    shutil.copy(HERE / "kernels" / "cheats.py", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def check(name, **options):
        given = {"level": "quick", "dtypes": ["float32"], "only": ["values"], **options}
        return conformance.check(f"cheats:{name}", "softmax", **given)

    return check


@pytest.fixture
def remote(tmp_path, monkeypatch):
    shutil.copy(HERE / "kernels" / "cheats.py", tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{HERE.parents[1] / 'src'}")
    made = []

    def start(name, limit=60.0):
        kernel = {"function": f"cheats:{name}", "vjp": None, "name": name}
        made.append(RemoteImplementation(kernel, "numpy", "softmax", None, limit))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_passes(by_name, name):
    report = by_name(name)
    assert report.status == 1, report.summary()


@pytest.mark.parametrize("name", ["leaves_at_once", "closes_everything", "writes_to_every_descriptor"])
def test_a_process_that_is_gone_has_shown_nothing(by_name, name):
    report = by_name(name)
    assert report.status == 3, report.summary()
    assert not report.counts.get("passed")


@pytest.mark.parametrize("name", ["right", "patches_everything_and_is_right", "in_another_order"])
def test_what_is_right_passes_whatever_else_it_does(by_name, name):
    report = by_name(name, only=["values", "special", "repeat"])
    assert report.status == 0, report.summary()


def test_memory_that_was_not_written_is_named(by_name):
    report = by_name("left_in_memory_but_the_last")
    assert any("memory that was not written" in result.message for result in report.failures), report.summary()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_view_of_the_input", "expected"),
        ("in_place", "the input was modified"),
        ("takes_back_the_harm", "the input was modified"),
        ("one_buffer_for_all", "the results of two calls share memory"),
    ],
)
def test_what_happens_to_memory_is_named(by_name, name, words):
    assert any(words in result.message for result in by_name(name).failures)


def test_a_callable_in_this_process_is_looked_at_in_the_same_way():
    options = {"level": "quick", "dtypes": ["float32"], "only": ["values"]}
    for name in ("in_place", "left_in_memory_but_the_last", "one_buffer_for_all"):
        assert conformance.check(getattr(cheats, name), "softmax", **options).status == 1
    report = conformance.check(cheats.in_another_order, "softmax", **options)
    assert report.passed, report.summary()


def test_the_process_of_a_kernel_holds_nothing_of_what_is_right(remote):
    answer = remote("modules_that_are_there").ask(Request(np.zeros((2, 3)), "float32"))
    held = str(answer.error).split()
    assert "polylogit.conformance._implementation" in held
    forbidden = ("exact", "operations", "bounds", "doubledouble", "formulas")
    assert not [name for name in held if name.startswith("mpmath") or name.rpartition(".")[2] in forbidden]
    assert not [name for name in held if "_checks" in name or name.endswith(("_compare", "_run_case", "_case"))]


# --- crashes and hangs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cause"), [("segfaults_on_one_shape", "SIGSEGV"), ("aborts_on_one_shape", "SIGABRT")])
def test_a_crash_is_one_case_and_the_next_one_goes_on(by_name, name, cause):
    report = by_name(name, only=["values/float32/n*"])
    ended = [result for result in report.results if result.verdict == "crashed"]
    assert [result.case for result in ended] == ["n129"]
    assert cause in ended[0].message
    assert report.counts["passed"] > 10
    assert report.status == 3
    if name.startswith("aborts"):
        assert "129 is too many" in ended[0].details["stderr"]


def test_a_hang_is_one_case_and_the_next_one_goes_on(by_name, monkeypatch):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", "4")
    report = by_name("hangs_on_one_shape", only=["values/float32/n*"])
    ended = [result for result in report.results if result.verdict == "timeout"]
    assert [result.case for result in ended] == ["n129"]
    assert report.counts["passed"] > 10
    assert report.status == 3


@pytest.mark.parametrize(("name", "verdict", "often"), [("hangs", "timeout", HANGS), ("crashes", "crashed", IN_A_ROW)])
def test_after_a_few_the_rest_is_given_up_and_counted(by_name, monkeypatch, name, verdict, often):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", "3")
    report = by_name(name, only=["values/float32/n*"])
    assert report.counts[verdict] == often
    assert not report.counts.get("passed")
    (given_up,) = [result for result in report.results if result.verdict == "inconclusive"]
    assert "given up after" in given_up.message
    left_out = report.environment["left_out"]
    assert left_out["given up"] > 5
    assert left_out["only"] > left_out["given up"]  # what was not asked for was not given up
    assert report.status == 3


def test_a_process_is_started_again_after_it_ended(remote):
    implementation = remote("segfaults_on_one_shape")
    with pytest.raises(EndedError, match="SIGSEGV"):
        implementation.ask(Request(np.zeros((2, 129)), "float32"))
    assert implementation.ask(Request(np.zeros((1, 2)), "float32")).values.tolist() == [[0.5, 0.5]]


def test_a_kernel_that_cannot_be_loaded_is_a_wrong_use(by_name):
    with pytest.raises(ConformanceError, match="cannot be loaded: AttributeError"):
        by_name("not_there")


# --- options ---------------------------------------------------------------------------------------------------------


def test_only_and_skip_choose_by_check_case_and_id(by_name):
    report = by_name("right", only=["special", "values/float32/n1*"], skip=["*n17"])
    cases = {(result.check, result.case) for result in report.results}
    assert ("values", "n1") in cases
    assert ("values", "n17") not in cases
    assert {check for check, _ in cases} == {"special", "values"}


def test_a_verdict_on_some_of_the_cases_says_so(by_name):
    report = by_name("right", only=["special"])
    ran = report.counts["passed"]
    assert report.environment["options"] == {"only": ["special"]}
    assert report.environment["cases_run"] == ran
    assert f"agrees on what was asked (--only special; {ran} of " in report.summary().splitlines()[0]
    assert "of what was asked" not in by_name("right", only=["*"]).summary()


def test_threads_can_be_skipped(by_name):
    report = by_name("right", only=None, skip=["threads"])
    assert report.passed, report.summary()
    assert "threads" not in {result.check for result in report.results}


def test_the_largest_array_is_said(by_name):
    report = by_name("right", only=None, max_size=5000)
    assert report.passed, report.summary()
    assert "70000x3" not in {result.case for result in report.results}
    assert report.environment["left_out"]["max_size"] > 5


def test_when_the_time_is_over_no_further_case_begins_and_none_passes(by_name):
    report = by_name("right", only=None, budget=1e-9)
    assert not report.counts.get("passed")
    assert report.status == 3
    assert report.environment["left_out"]["budget"] > 100


@pytest.mark.parametrize(
    ("options", "words"),
    [({"only": "values"}, "no list of patterns"), ({"max_size": 0}, "leaves no case"), ({"budget": -1}, "leaves no")],
)
def test_options_that_leave_nothing_are_refused(by_name, options, words):
    with pytest.raises(ConformanceError, match=words):
        by_name("right", **options)


def test_the_command_takes_the_options(tmp_path):
    shutil.copy(HERE / "kernels" / "cheats.py", tmp_path)
    command = [sys.executable, "-m", "polylogit", "check", "cheats:right", "--operation", "softmax", "--level", "quick"]
    options = ["--only", "special", "--skip", "*float16*", "--max-size", "5000", "--budget", "100", "--rounded-once"]
    more = ["--convention", "masked-row=nan", "--dtype", "float32", "--json", "report.json"]
    done = subprocess.run([*command, *options, *more], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "report.json").read_text())["environment"]["options"]
    assert written["only"] == ["special"]
    assert written["conventions"] == {"masked-row": "nan"}
    assert written["rounded_once"] is True
    assert "on what was asked" in done.stdout


# --- invariance ------------------------------------------------------------------------------------------------------


def by_batch(x, axis=-1):
    """A row alone is summed in another order than rows together."""
    y = cheats.right(x.astype(np.float64), axis).astype(x.dtype)
    return np.nextafter(y, np.float32(0)) if x.ndim == 2 and x.shape[0] == 1 else y


def test_bits_that_depend_on_the_batch_are_reported_and_fail_where_that_was_asked_for():
    options = {"level": "quick", "dtypes": ["float32"], "only": ["invariance"]}
    report = conformance.check(by_batch, "softmax", **options)
    assert report.passed, report.summary()
    assert report.invariance["batch"] == pytest.approx(1.0, abs=0.5)
    assert report.invariance["strides"] == report.invariance["repetition"] == 0
    report = conformance.check(by_batch, "softmax", invariant=True, **options)
    assert {result.case.partition("-")[0] for result in report.failures} == {"batch"}


def test_the_same_bits_everywhere_pass(by_name):
    report = by_name("right", only=["invariance"], invariant=True)
    assert set(report.invariance) == {"batch", "place", "repetition", "strides", "threads"}
