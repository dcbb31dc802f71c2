"""What a failure can be run again by: numbers that read back, lines of Python, a file of arrays."""

import io
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from polylogit import conformance
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._api import replay_in_full
from polylogit.conformance._numbers import below, shortest, side_by_side
from polylogit.conformance._reports import terminal, window
from polylogit.conformance._snippet import list_code

KERNELS = """
import numpy as np


def softmax(x, axis=-1):
    wide = x.astype(np.float64 if x.dtype.kind in "biu" else np.result_type(x, np.float32))
    e = np.exp(wide - wide.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def along_the_last(x, axis=-1):
    return softmax(x, -1 if isinstance(axis, int) and x.ndim else axis)


def reads_memory(x, axis=-1):
    return softmax(np.ascontiguousarray(x) if x.flags.c_contiguous else x[::-1].copy(), axis)


def wraps(x, axis=-1):
    e = np.exp((x - x.max(axis=axis, keepdims=True)).astype(np.result_type(x, np.float32)))
    y = e / e.sum(axis=axis, keepdims=True)
    return y if x.dtype.kind in "biu" else y.astype(x.dtype)


def padded(x, axis=-1):
    wide = np.where(np.isneginf(x), -1e4, x).astype(np.float32 if x.dtype != np.float64 else np.float64)
    return softmax(wide, axis).astype(x.dtype) if x.dtype.kind == "f" else softmax(x, axis)


def diagonal(x, cotangent, axis=-1):
    y = softmax(x, axis)
    return (cotangent * y * (1 - y)).astype(x.dtype)


def masks_nothing(x, axis=-1, where=None):
    return softmax(x, axis)
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    (tmp_path / "replayed_kernels.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("replayed_kernels", None)


def failures(function, *, vjp=None, **options):
    options = {"level": "quick", "dtypes": ["float32"], **options}
    given = {"vjp": f"replayed_kernels:{vjp}"} if vjp else {}
    report = conformance.check(f"replayed_kernels:{function}", "softmax", **given, **options)
    assert report.failures
    return report.failures


def value_of(code):
    """The value that the last line of a reproducer prints."""
    *lines, last = code.splitlines()
    call = last.removeprefix("print(").partition(")  # ")[0]
    assert last.startswith("print(")
    names = {}
    with np.errstate(all="ignore"):
        exec("\n".join(lines), names)
        return np.asarray(eval(call, names)).astype(np.float64)


FAULTY = [
    ("along_the_last", {}),
    ("reads_memory", {"checks": ("layouts",)}),
    ("wraps", {"checks": ("dtypes",)}),
    ("padded", {"dtypes": ["float32", "float16", "bfloat16"], "checks": ("values",)}),
    ("softmax", {"vjp": "diagonal", "checks": ("vjp",), "dtypes": ["float32", "bfloat16"]}),
    ("masks_nothing", {"checks": ("masks",)}),
]


@pytest.mark.parametrize(("function", "options"), FAULTY, ids=[name for name, _ in FAULTY])
@pytest.mark.usefixtures("kernels")
def test_the_lines_of_a_failure_show_it_without_polylogit(function, options):
    tried = 0
    for failure in failures(function, **options):
        code = failure.details.get("python", "")
        if not code or tried >= 12:
            continue
        tried += 1
        assert "polylogit" not in code
        came = value_of(code)
        if "beside the other rows" in code:  # of a row alone another wrong number may come
            assert not np.isclose(
                came.ravel()[failure.details["index"]], failure.details["expected"], rtol=1e-5, atol=0
            )
            continue
        assert failure.details["got"] in came or (math.isnan(failure.details["got"]) and np.isnan(came).any()), code
    assert tried


@pytest.mark.parametrize(("function", "options"), FAULTY, ids=[name for name, _ in FAULTY])
def test_a_replay_can_be_pasted_and_its_arrays_are_those_of_the_call(function, options, kernels):
    tried = 0
    for failure in failures(function, **options)[::7]:
        vjp = f"replayed_kernels:{options['vjp']}" if "vjp" in options else None
        report, call = replay_in_full(failure.id, vjp=vjp)
        assert report.results[0].verdict in ("failed", "convention")
        if call is None:  # several calls, or none that came to numbers
            continue
        code = call.python("case.npz")
        assert "polylogit" not in code
        call.save(kernels / "case.npz")
        names = {}
        with np.errstate(all="ignore"):
            exec(code.replace("print(", "shown = ("), names)
        data = np.load(kernels / "case.npz")
        np.testing.assert_array_equal(np.asarray(names["x"]).astype(np.float64), data["x"].astype(np.float64))
        np.testing.assert_array_equal(np.asarray(names["y"]).astype(np.float64), data["got"])
        assert float(names["shown"]) == failure.details["got"] or math.isnan(failure.details["got"])
        assert data["wrong"].any()
        assert data["x"].shape == data["expected"].shape == data["got"].shape == data["wrong"].shape
        assert ("g" in data) == ("vjp" in options)
        assert ("where" in data) == (function == "masks_nothing")
        tried += 1
    assert tried


@pytest.mark.usefixtures("kernels")
def test_arrays_that_are_too_large_to_read_come_from_the_file():
    failure = max(failures("along_the_last", checks=("axes",)), key=lambda one: one.facts["length"] * one.facts["rows"])
    _, call = replay_in_full(failure.id)
    code = call.python("arrays.npz")
    assert 'np.load("arrays.npz")' in code
    assert len(code) < 500


@pytest.mark.usefixtures("kernels")
def test_the_line_of_a_call_is_run_by_the_search():
    failure = next(one for one in failures("along_the_last", checks=("axes",)) if one.details.get("call"))
    subject, operation, _, dtype, _ = failure.id.split("/")
    again = conformance.replay("/".join((subject, operation, "search", dtype, failure.details["call"])))
    assert again.results[0].verdict == "failed"
    assert again.results[0].details["got"] == failure.details["got"]


@pytest.mark.usefixtures("kernels")
def test_the_cotangent_stands_with_a_gradient_s_failure_at_the_entries_that_are_shown():
    for failure in failures("softmax", vjp="diagonal", checks=("vjp",)):
        if "directions" in failure.details:
            (g,) = failure.details["directions"]
            assert len(g) == len(failure.details["inputs"])
            assert "cotangent" in window(failure).lines
    text = io.StringIO()
    terminal.show_case(failure, to=Console(file=text, width=200))
    assert "cotangent" in text.getvalue()


# --- numbers ----------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(allow_nan=False, width=64)


@given(NUMBERS, st.sampled_from(sorted(DTYPES)))
def test_a_number_reads_back_in_its_dtype(value, name):
    dtype = DTYPES[name]
    held = float(dtype.round(value))
    if math.isnan(held):
        return
    text = shortest(held, dtype)
    assert float(dtype.round(float(text))) == held
    assert len(text) <= len(repr(held))


@given(NUMBERS, NUMBERS, st.sampled_from(sorted(DTYPES)))
def test_two_numbers_that_differ_look_different(right, got, name):
    got = float(DTYPES[name].round(got))
    if right != got and not math.isnan(got):
        before, after = side_by_side(right, got, DTYPES[name])
        assert before != after


@given(st.lists(st.floats(-50.0, 50.0, width=32), min_size=2, max_size=6), st.sampled_from([-1e16, 3e7, -1e4, 0.0]))
def test_a_row_far_from_0_is_its_maximum_and_the_distances_from_it(row, far):
    row = [value + far for value in row]
    if (found := below(row)) is not None:
        top, distances = found
        assert top == max(row)
        assert [top + off for off in distances] == row
    elif far == -1e16 and len(set(row)) > 1:
        assert max(row) - min(row) > abs(far) / 1e3


def test_logits_that_look_alike_are_told_apart():
    row = [-1e16, -1e16 - 2.0, -1e16 - 14.0]
    assert below(row) == (-1e16, [0.0, -2.0, -14.0])
    assert below([1.0, 2.0, -3.0]) is None


ARRAYS = st.lists(st.sampled_from([0.0, -0.0, 1.5, math.inf, -math.inf, 0.1]), max_size=12)


@given(ARRAYS, st.sampled_from([(-1,), (1, -1), (-1, 1), (2, -1), (2, 1, -1)]))
def test_lists_hold_the_same_numbers(values, shape):
    if len(values) % 2 and 2 in shape:
        values = values[1:]
    array = np.array(values, dtype=np.float64)
    array = array.reshape([array.size // (2 if 2 in shape else 1) if side == -1 else side for side in shape])
    if array.size:
        again = np.array(eval(list_code(array), {"inf": math.inf, "nan": math.nan}))
        np.testing.assert_array_equal(again, array)
        np.testing.assert_array_equal(np.signbit(again), np.signbit(array))


def test_what_repeats_is_written_once():
    assert list_code(np.array([[-np.inf] * 64 + [0.5]])) == "[[-inf] * 64 + [0.5]]"
    assert list_code(np.full((3, 70), 2.0)) == "[[2] * 70, [2] * 70, [2] * 70]"
