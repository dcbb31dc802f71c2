"""An audit says of a test what it would let through, by running the catalogue through it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import polylogit
from polylogit import conformance
from polylogit._cli import polylogit as command
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance import _catalogue as catalogue
from polylogit.conformance._audit.inputs import COTANGENTS, DISTRIBUTIONS
from polylogit.conformance._audit.rules import RULES, Terms
from polylogit.conformance._audit.rules import margin as margin_of
from polylogit.errors import ConformanceError, UnknownOperationError

NORMAL = np.random.default_rng(5).normal(size=(24, 160))
WIDE = np.concatenate([NORMAL, 40 * NORMAL, np.where(NORMAL > 1, -np.inf, NORMAL), NORMAL - 1e4])


def audit(x: Any, operation: str = "softmax", **kwargs: Any) -> conformance.Audit:
    return conformance.audit(x, operation, **{"atol": 0.0, "rtol": 0.0, **kwargs})  # type: ignore[arg-type]


# --- what computes nothing --------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_zeros_pass_a_fixed_tolerance_at_many_classes(dtype: str, tolerance: float) -> None:
    test = conformance.drawing((4096, 393216), "uniform")
    found = audit(test, atol=tolerance, rtol=tolerance, dtype=dtype, rows=2)
    assert found.zeros
    assert found.constant
    assert not found.input
    assert not found.sound
    assert (found.rows, found.rows_in_all) == (2, 4096)
    assert found["zeros"].margin == pytest.approx(0.04 if tolerance == 1e-4 else 4e-4, rel=0.1)


def test_zeros_fail_the_kit() -> None:
    def zeros(x: Any, axis: int = -1) -> Any:
        return np.zeros_like(x)

    assert not conformance.check(zeros, "softmax", level="quick").passed


def test_the_input_less_a_constant_passes_where_logarithms_hardly_differ() -> None:
    x = conformance.drawing((64, 100_000), "uniform")
    assert audit(x, "log_softmax", atol=1e-2, rtol=1e-2, dtype="bfloat16", rows=2).constant
    assert audit(x, "log_softmax", atol=1e-2, rtol=1e-2, rows=2)["the input less a constant"].passed
    assert not audit(x, "log_softmax", atol=1e-5, rtol=1e-6, rows=2).constant
    assert not audit(NORMAL, "log_softmax", atol=1e-2, rtol=1e-2)["the input less a constant"].passed


def test_the_gradient_for_a_cotangent_of_ones_is_zero_and_so_are_zeros_and_constants() -> None:
    found = audit(NORMAL, atol=1e-6, rtol=1e-6, gradient=True, cotangent="ones")
    assert found.zeros
    assert found.constant
    assert not found["the cotangent"].passed
    assert not audit(NORMAL, atol=1e-6, rtol=1e-6, gradient=True).zeros


def test_an_element_of_a_mean_loss_may_be_anything_where_there_are_enough_of_them() -> None:
    x = conformance.drawing((16384, 50257))
    loss = {"gradient": True, "cotangent": "mean nll", "dtype": "bfloat16", "rows": 4}
    assert audit(x, "log_softmax", atol=1e-4, rtol=1e-3, **loss).zeros
    assert not audit(x, "log_softmax", atol=1e-6, rtol=1e-3, **loss).zeros


def test_a_loss_that_is_rounded_to_whole_numbers_tells_no_constant_from_it() -> None:
    x = conformance.drawing((16, 32), "uniform")
    found = audit(x, "log_softmax", compare="rounded", compared="mean nll")
    assert found.constant
    assert not found.zeros
    finer = audit(x, "log_softmax", compare="rounded", compared="mean nll", digits=4)
    assert not finer["a constant"].passed
    assert finer["the input less a constant"].passed  # the right constant, for the mean


def test_results_in_another_order_fail_where_entries_differ() -> None:
    found = audit(NORMAL, atol=1e-6, rtol=1e-5)
    assert {found[name].verdict for name in ("entries in reverse order", "rows in another order")} == {"caught"}


# --- faults --------------------


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "sigmoid"])
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_tolerance_of_zero_catches_all_that_differs(operation: str, gradient: bool, dtype: str) -> None:
    found = audit(WIDE, operation, dtype=dtype, gradient=gradient)
    assert not found.hidden
    assert {one.margin for one in found.passed} <= {0.0}
    assert found.caught


@pytest.mark.parametrize("compare", sorted(RULES))
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_tighter_tolerance_lets_no_more_pass(compare: str, dtype: str) -> None:
    passed: set[str] | None = None
    for tolerance in (1.0, 1e-2, 1e-4, 1e-8, 0.0):
        rtol = 0.0 if compare in ("baseline", "flash-attention") else tolerance
        found = audit(WIDE, atol=tolerance, rtol=rtol, dtype=dtype, compare=compare, equal_nan=True)
        names = {one.name for one in found.outcomes if one.passed}
        assert passed is None or names <= passed, tolerance
        passed = names


def test_why_a_fault_passes() -> None:
    found = audit(NORMAL, atol=1e-3, rtol=1e-3)
    assert found["approximate_reciprocal"].reason == "the tolerance hides it"
    assert found["no_max_softmax"].reason == "the inputs do not show it"
    assert found["leak_1e-12"].reason == "the inputs do not show it"
    assert set(found.passed) == {*found.hidden, *found.unseen}
    shown = audit([NORMAL, np.where(NORMAL > 1, -np.inf, NORMAL), NORMAL + 200], atol=1e-3, rtol=1e-3)
    assert shown["no_max_softmax"].verdict == "caught"
    assert shown["leak_1e-12"].reason == "the tolerance hides it"


def test_what_does_not_apply_is_not_counted() -> None:
    found = audit(NORMAL, atol=1e-3, rtol=1e-3)
    reasons = {one.name: one.reason for one in found.of("fault", "not applicable")}
    assert reasons["bf16_accumulator"] == "concerns bfloat16 alone"
    assert reasons["mask_multiplies_logits"] == "needs a mask"
    assert reasons["one_buffer"].startswith("needs more than one call")
    assert reasons["axis_ignored"] == "needs another axis, or another number of dimensions"
    assert reasons["rows_read_without_gaps"] == "needs an array that is not contiguous in memory"
    applicable = len(found.passed) + len(found.caught)
    assert applicable + len(reasons) == len(found.of("fault"))
    assert found.fraction == len(found.caught) / applicable


def test_an_axis_and_a_layout_apply_where_the_test_has_them() -> None:
    assert audit(NORMAL, atol=1e-3, rtol=1e-3, axis=0)["axis_ignored"].verdict == "caught"
    gaps = np.zeros((24, 320), np.float32)[:, :160]
    gaps[...] = NORMAL
    assert audit(gaps, atol=1e-3, rtol=1e-3)["rows_read_without_gaps"].verdict == "caught"


def test_faults_of_many_rows_do_not_apply_where_few_of_them_are_used() -> None:
    few = audit(conformance.drawing((2000, 64)), atol=1e-3, rtol=1e-3, rows=10)
    assert few["rows_beyond_grid"].verdict == "not applicable"
    assert audit(conformance.drawing((2000, 64)), atol=1e-3, rtol=1e-3)["rows_beyond_grid"].verdict == "caught"


def test_an_exception_fails_a_test() -> None:
    assert audit([np.zeros((3, 0)), NORMAL], "log_softmax", atol=1.0, rtol=1.0)["empty_axis_crash"].verdict == "caught"


# --- right implementations --------------------


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "sigmoid"])
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
def test_no_right_implementation_fails_a_generous_test(operation: str, gradient: bool) -> None:
    found = audit(NORMAL, operation, atol=1e-3, rtol=1e-2, gradient=gradient)
    assert found.of("right", "passed")
    assert not found.accused


def test_a_test_that_asks_for_the_last_bit_accuses_right_implementations() -> None:
    assert audit(NORMAL).accused


# --- comparisons --------------------


def test_functions_compare_as_their_libraries_do() -> None:
    def numpy_testing(got: Any, expected: Any) -> None:
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)

    def close(got: Any, expected: Any) -> bool:
        return np.allclose(got, expected, rtol=1e-3, atol=1e-3)

    named = audit(NORMAL, atol=1e-3, rtol=1e-3)
    for function in (numpy_testing, close):
        found = audit(NORMAL, compare=function)
        assert [one.verdict for one in found.outcomes] == [one.verdict for one in named.outcomes]
        assert found.compare == function.__name__


def test_of_several_comparisons_all_must_pass() -> None:
    alone = audit(NORMAL, atol=1e-2, rtol=1e-2, compare="allclose")
    sums = audit(NORMAL, atol=1e-6, rtol=1e-6, compare="row sums")
    both = audit(NORMAL, atol=1e-2, rtol=1e-2, compare=("allclose", ("row sums", 1e-6, 1e-6)))
    passed = [{one.name for one in found.outcomes if one.passed} for found in (alone, sums, both)]
    assert passed[2] == passed[0] & passed[1]


@pytest.mark.parametrize(
    ("compare", "off", "margin"),
    [
        ("allclose", [4e-3, 0.0], 2.0),  # of 1e-3 + 1e-3 * 1
        ("maximum", [4e-3, 0.0], 4 / 3),  # of 1e-3 + 1e-3 * 2
        ("mean", [4e-3, 0.0], 2 / 2.5),  # a mean of 2e-3, of 1e-3 + 1e-3 * 1.5
        ("relative", [4e-3, 0.0], 4 / 1.001),
        ("rounded", [0.4, 0.0], 0.0),
        ("rounded", [0.6, 0.0], np.inf),
        ("cosine", [0.0, 0.0], 0.0),
        ("cosine", [1.0, 2.0], 0.0),  # a multiple is as good
        ("cosine", [-1.0, -2.0], 1000.0),
    ],
)
def test_margins(compare: str, off: list[float], margin: float) -> None:
    expected = np.array([[1.0, 2.0]])
    terms = Terms(1e-3, 1e-3, equal_nan=False, digits=0, dtype=DTYPES["float64"])
    assert margin_of(compare, expected + off, expected, terms) == pytest.approx(margin, abs=1e-9)


def test_nan_is_close_to_nan_only_if_that_is_said() -> None:
    x = np.where(np.arange(160) == 3, np.nan, NORMAL)
    assert audit(x, atol=1.0, rtol=1.0).accused
    assert not audit(x, atol=1e-5, rtol=1e-5, equal_nan=True).accused
    assert audit(x, atol=1.0, rtol=1.0, equal_nan=True)["nan_to_zero"].verdict == "caught"


# --- inputs --------------------


def test_inputs_may_be_made_by_a_function() -> None:
    made = audit(lambda rng: rng.normal(size=(8, 33)), atol=1e-3, rtol=1e-3)
    again = audit(lambda rng: rng.normal(size=(8, 33)), atol=1e-3, rtol=1e-3)
    other = audit(lambda rng: rng.normal(size=(8, 33)), atol=1e-3, rtol=1e-3, seed=1)
    assert made == again
    assert made != other
    assert made.shapes == ((8, 33),)
    assert audit(lambda: [NORMAL, NORMAL[:2]], atol=1e-3, rtol=1e-3).shapes == ((24, 160), (2, 160))


def test_a_large_shape_is_never_made_whole() -> None:
    found = audit(conformance.drawing((1 << 20, 1 << 16)), atol=1e-3, rtol=1e-3, rows=1)
    assert found.shapes == ((1, 1 << 16),)
    assert found.rows_in_all == 1 << 20
    assert "1 of 1,048,576 rows" in found.summary()


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), None])
def test_rows_lie_along_the_axis_of_the_test(axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 5))
    found = audit(x, atol=1e-6, rtol=1e-5, axis=axis)
    assert not found.accused
    assert found["the input"].verdict == "caught"


def test_integers_and_lists_are_logits() -> None:
    assert audit([[1, 2, 3], [4, 5, 9]], atol=1e-5, rtol=1e-5).shapes == ((2, 3),)
    assert audit(np.arange(6).reshape(2, 3), atol=1e-5, rtol=1e-5).rows == 2


@pytest.mark.requires("torch")
def test_arrays_of_a_framework_are_read() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 9, dtype=torch.bfloat16)
    assert audit(x, atol=1e-3, rtol=1e-3, dtype=torch.bfloat16).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dtype": "float8_e5m2"}, "float8_e5m2 cannot be audited"),
        ({"dtype": "int32"}, "cannot judge"),
        ({"atol": -1.0}, "atol=-1.0 is no tolerance"),
        ({"rtol": float("nan")}, "rtol=nan is no tolerance"),
        ({"compare": "close enough"}, "is no comparison"),
        ({"compared": "loss"}, "compared='loss' is not known"),
        ({"compared": "nll"}, "is a loss of log_softmax"),
        ({"rows": 0}, "rows=0"),
        ({"gradient": True, "cotangent": "gamma"}, "cotangent='gamma' does not exist"),
        ({"gradient": True, "cotangent": np.zeros(3)}, "the cotangent has the shape"),
    ],
)
def test_what_cannot_be_audited_is_said(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConformanceError, match=says):
        audit(NORMAL, **wrong)


def test_inputs_that_are_no_logits_are_refused() -> None:
    for given in ([], np.zeros((3, 0)), "logits", np.zeros(3, complex), [None]):
        with pytest.raises(ConformanceError):
            audit(given)
    with pytest.raises(ConformanceError, match="distribution 'cauchy'"):
        conformance.drawing((3,), "cauchy")
    with pytest.raises(ConformanceError, match="shorter rows"):
        audit(conformance.drawing((2, 1 << 30)))
    with pytest.raises(UnknownOperationError):
        audit(NORMAL, "softmin")


def test_the_arrays_of_the_test_are_left_as_they_are() -> None:
    x = NORMAL.astype(np.float32)
    before = x.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(x, atol=1e-3, rtol=1e-3)
    assert np.array_equal(x, before)
    assert x.flags.writeable


# --- the catalogue --------------------


def test_every_entry_of_the_catalogue_has_a_name_a_sentence_and_runs() -> None:
    names = [fault.name for fault in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(fault.wrong.endswith(".") or fault.wrong.endswith(")") for fault in catalogue.CATALOGUE)
    assert all(report.count("#") == 1 and "/" in report for fault in catalogue.CATALOGUE for report in fault.reports)
    assert {fault.needs for fault in catalogue.CATALOGUE} <= {"", *catalogue.NEEDS}
    assert {name for fault in catalogue.CATALOGUE for name in fault.dtypes} <= set(DTYPES)


@pytest.mark.parametrize("name", sorted(name for name, (_, _, vjp) in catalogue.RIGHT.items() if vjp is None))
def test_right_implementations_are_near_the_usual_one(name: str) -> None:
    operation, function, _ = catalogue.RIGHT[name]
    x = NORMAL.astype(np.float32)
    np.testing.assert_allclose(function(x), getattr(polylogit, operation)(x.astype(np.float64)), rtol=1e-5)


# --- how it is written --------------------


def test_the_report_says_what_was_found_in_every_form() -> None:
    found = audit(NORMAL, atol=1e-2, rtol=1e-2, dtype="bfloat16")
    assert "\n" not in repr(found)
    assert found.zeros == ("zeros pass" in repr(found))
    said = json.loads(found.to_json())
    assert said["schema"] == "polylogit.audit/1"
    assert said["counts"]["passed"] == len(found.passed)
    assert len(said["outcomes"]) == len(found.outcomes)
    for text in (found.summary(), found.to_markdown(), found._repr_html_()):
        assert "approximate_reciprocal" in text
        assert "tenstorrent/tt-metal#52045" in text
    assert max(map(len, found.summary().splitlines())) <= 120
    with pytest.raises(KeyError, match="is no outcome"):
        found["nothing"]


def test_json_is_written_whole(tmp_path: Any) -> None:
    found = audit(NORMAL, atol=1e-2, rtol=1e-2)
    text = found.to_json(tmp_path / "audit.json")
    assert (tmp_path / "audit.json").read_text() == text


# --- the command --------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, ["audit", *arguments])


BASE = ("--operation", "softmax", "--dtype", "float32", "--atol", "1e-4", "--rtol", "1e-4")


def test_the_command_says_so_by_its_status() -> None:
    found = run(*BASE, "--shape", "64x20000", "--distribution", "uniform", "--rows", "4")
    assert found.exit_code == 1
    assert "zeros" in found.output
    assert "4 of 64 rows used" in found.output


def test_a_test_that_lets_nothing_pass_has_status_0(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("logits.npy", NORMAL)
    (tmp_path / "comparisons.py").write_text("def never(got, expected):\n    return False\n")
    found = run(*BASE, "--inputs", "logits.npy", "--compare", "comparisons:never")
    assert found.exit_code == 0, found.output


def test_the_command_writes_json_alone_to_its_output(tmp_path: Any) -> None:
    found = run(*BASE, "--shape", "8x64", "--json", "-")
    assert json.loads(found.output)["operation"] == "softmax"
    written = run(*BASE, "--shape", "8x64", "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md"))
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(found.output)
    assert "| fault |" in (tmp_path / "a.md").read_text()
    assert written.exit_code == 1


def test_the_command_reads_functions_and_archives(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody.py").write_text("def logits(rng):\n    return rng.normal(size=(5, 7))\n")
    np.savez("two.npz", a=NORMAL, b=NORMAL[:3])
    found = run(*BASE, "--inputs", "somebody:logits", "--inputs", "two.npz", "--json", "-")
    assert json.loads(found.output)["shapes"] == [[5, 7], [24, 160], [3, 160]]


def test_the_help_names_every_distribution_and_comparison() -> None:
    said = " ".join(run("--help").output.split())
    assert all(name in said for name in (*RULES, *DISTRIBUTIONS, *COTANGENTS[:3]))


@pytest.mark.parametrize(
    "arguments",
    [
        BASE,
        (*BASE, "--shape", "3x4", "--inputs", "x.npy"),
        (*BASE, "--inputs", "missing.npy"),
        (*BASE, "--inputs", "missing:function"),
        (*BASE, "--shape", "3y4"),
        (*BASE, "--shape", "3x4", "--axis", "x"),
        (*BASE, "--shape", "3x4", "--axis", "2"),
        (*BASE, "--shape", "3x4", "--distribution", "cauchy"),
        (*BASE, "--shape", "3x4", "--compare", "nothing"),
        ("--operation", "softmin", *BASE[2:], "--shape", "3x4"),
    ],
    ids=lambda arguments: " ".join(arguments[8:]) or "nothing",
)
def test_wrong_usage_has_status_2(arguments: tuple[str, ...]) -> None:
    found = run(*arguments)
    assert found.exit_code == 2
    assert "Error" in found.output
