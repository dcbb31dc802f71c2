"""`compare`: what it takes, how it aligns, when it refuses, and what it reports."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit.errors import ComparisonError
from polylogit.porting import compare

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5)).astype(np.float32)
P = polylogit.softmax(X)


def test_equal_outputs_agree_and_have_no_cause() -> None:
    found = compare(P, P.copy())
    assert found.agrees
    assert found.status == "agrees"
    assert found.cause is None
    assert found.first_divergence is None


def test_float32_noise_agrees_and_a_wrong_element_does_not() -> None:
    assert compare(P, polylogit.softmax(X.astype(np.float64)).astype(np.float32)).agrees
    big = polylogit.softmax(RNG.standard_normal((1000, 100)).astype(np.float32))
    wrong = big.copy()
    wrong[7, 3] *= 1.01
    found = compare(big, wrong)
    assert found.status == "disagrees"
    assert found.cause is not None
    assert found.cause.name == "unknown"


def test_nan_and_infinities_are_compared_by_position() -> None:
    with_nan = P.copy()
    with_nan[2] = np.nan
    assert compare(with_nan, with_nan.copy()).agrees
    moved = P.copy()
    moved[3] = np.nan
    assert not compare(with_nan, moved).agrees
    assert not compare(P, with_nan).agrees
    logits = X.copy()
    logits[0, 0] = -np.inf
    assert compare(logits, logits.copy()).agrees
    assert not compare(logits, -logits).agrees


@pytest.mark.parametrize("values", [np.full((4, 3), 0.25), np.zeros((4, 3)), np.full((4, 3), np.nan), np.zeros((0, 3))])
def test_agreement_that_could_not_fail_is_inconclusive(values: Any) -> None:
    found = compare(values, values.copy())
    assert found.status == "inconclusive"
    assert not found.agrees


@pytest.mark.parametrize(("here", "there"), [(1.0, 2.0), (0.5, 0.4), (-3.0, -3.5), (1.0, np.nan), (0.0, 1e-3)])
def test_single_numbers_that_differ_disagree(here: float, there: float) -> None:
    assert compare(here, there).status == "disagrees"
    assert compare({"x": X, "loss": np.float32(here)}, {"x": X, "loss": there}).first_divergence == "loss"
    assert compare(lambda x: x.sum() * here, lambda x: x.sum() * there, inputs=X).status == "disagrees"
    assert compare(here, here).agrees


def test_channels_last_are_no_difference_with_as_many_channels_as_rows_and_columns() -> None:
    image = RNG.standard_normal((2, 6, 6, 6)).astype(np.float32)
    logits = image.mean(axis=(2, 3))
    last = np.ascontiguousarray(np.moveaxis(image, 1, -1))
    found = compare({"conv": image, "output": logits}, {"conv": last, "output": logits})
    assert found.agrees, str(found)
    wrong = compare({"conv": image, "output": logits}, {"conv": last + 0.5 * last**2, "output": logits})
    assert wrong.first_divergence == "conv"
    assert wrong.cause is not None
    assert wrong.cause.name != "layout"
    assert not compare({"output": image}, {"output": last}).agrees  # of a result, the layout counts


def test_what_is_plain_to_see_is_said_in_place_of_a_figure() -> None:
    one = P.copy()
    one[2, 3] = np.nan
    masked, turned = (np.where(mask, X[:5], -np.inf) for mask in (np.tri(5) > 0, np.tri(5).T > 0))
    plain = {
        "1 of 30 entries NaN in the candidate alone": (P, one),
        "the candidate is 0 throughout": (X, np.zeros_like(X)),
        "10 of 25 entries 0 in the reference alone": (polylogit.softmax(masked), polylogit.softmax(turned)),
        "of the shapes (6, 5) and (5, 6)": (X, X.T),
    }
    for words, (here, there) in plain.items():
        found = str(compare(here, there))
        assert words in found
        assert "∞" not in found
        assert "e+3" not in found


def test_what_to_do_is_not_what_was_done() -> None:
    wrong = P + 0.01 * P**2
    functions = {"record(original)": lambda x: P + 0 * x, "isolate": lambda x: {"p": P + 0 * x, "x": x}}
    assert "inputs=" in str(compare(P, wrong))
    for words, function in functions.items():
        scaled = (lambda f: lambda x: {"p": wrong + 0 * x, "x": x} if isinstance(f(x), dict) else wrong + 0 * x)(
            function
        )
        found = compare(function, scaled, inputs=X)
        assert found.cause is not None
        assert words in found.cause.fix
        assert "inputs=" not in found.cause.fix


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["a"]}, "maps names to names"),
        ({"names": {"outptu": "output"}}, "the nearest is 'output'"),
        ({"names": {"q*": "p*"}}, r"the pattern 'q\*' of names= fits no name of the reference"),
        ({"cotangent": np.ones((4, 3))}, r"the shape \(4, 3\), and the output of the reference has \(6, 5\)"),
    ],
)
def test_arguments_of_the_wrong_kind_are_said_so(given: Any, words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        compare(lambda x: 2 * x, lambda x: 2 * x, inputs=X, **given)


def test_a_path_is_no_output() -> None:
    with pytest.raises(ComparisonError, match="compare_files"):
        compare("a.npz", "b.npz")


def test_what_a_function_raises_is_said_once_and_may_be_its_own_mistake() -> None:
    def boom(x: Any) -> Any:
        raise RuntimeError("boom")

    with pytest.raises(ComparisonError, match="could not be called") as raised:
        compare(lambda x: x, boom, inputs={"x": X})
    assert str(raised.value).count("boom") == 1
    assert "['x']" in str(raised.value)


def test_a_factor_that_is_a_root_is_undone_as_one() -> None:
    for factor, fix in ((8**-0.5, "x = x / 8**-0.5"), (0.125, "x = x / 0.125"), (24**0.5, "x = x / 24**0.5")):
        cause = compare(X, (X * factor).astype(np.float32)).cause
        assert cause is not None
        assert cause.fix == fix


def test_a_mask_is_said_to_be_filled_with_what_the_scores_hold() -> None:
    mask = np.tri(5) > 0
    r, c = (polylogit.softmax(np.where(mask, X[:5], fill)) for fill in (-np.inf, 0.0))
    scores = np.where(mask, X[:5], -np.inf)
    known = compare({"scores": scores, "p": r}, {"scores": scores, "p": c}).cause
    assert known is not None
    assert "about 0:" in known.explanation
    unknown = compare(r, c).cause
    assert unknown is not None
    assert "the mean of its row's others" in unknown.explanation


def test_what_a_mask_filled_in_bfloat16_is_set_aside() -> None:
    import ml_dtypes

    scores = np.where(np.tri(5) > 0, X[:5], -1e9)
    found = compare({"bias": scores, "p": P}, {"bias": scores.astype(ml_dtypes.bfloat16), "p": P})
    assert found.activations[0].verdict.agreement.peak < 0.01


def test_a_constant_against_something_else_disagrees() -> None:
    assert compare(P, np.full_like(P, 0.2)).status == "disagrees"
    assert compare(np.full_like(P, 0.2), P).status == "disagrees"


def test_the_first_activation_that_differs_is_named_and_diagnosed() -> None:
    left = {"hidden": X, "scores": 2 * X, "p": polylogit.softmax(2 * X)}
    right = {"hidden": X, "scores": X, "p": polylogit.softmax(X)}
    found = compare(left, right)
    assert found.first_divergence == "scores"
    assert [one.status for one in found.activations] == ["agrees", "disagrees", "disagrees"]
    assert found.cause is not None
    assert found.cause.name == "scaled-logits"


def test_a_fault_between_two_parts_is_found_in_what_goes_into_the_second() -> None:
    rng = np.random.default_rng(4)
    hidden, weight = rng.normal(size=(40, 24)).astype(np.float32), rng.normal(size=(24, 8)).astype(np.float32)
    sides = []
    for activation in (lambda x: x * (x > 0), lambda x: x * polylogit.sigmoid(x)):
        between = activation(hidden)
        sides.append({"fc1": hidden, "fc2:input": between, "fc2": between @ weight, "output": between @ weight})
    found = compare(*sides)
    assert (found.first_divergence, found.cause.name) == ("fc2:input", "wrong-activation")
    assert [one.name for one in found.activations] == ["fc1", "fc2:input", "fc2", "output"]
    # Where the part itself is at fault, what goes into it is no row of the report.
    other = {**sides[0], "fc2": hidden @ weight, "output": hidden @ weight}
    assert [one.name for one in compare(sides[0], other).activations] == ["fc1", "fc2", "output"]


def test_names_map_the_reference_to_the_candidate() -> None:
    found = compare({"a": X, "p": P}, {"b": X, "q": P, "more": X}, names={"a": "b", "p": "q"})
    assert found.agrees
    assert found.unmatched == ("more",)


def test_missing_and_unknown_names_are_errors_that_list_what_there_is() -> None:
    with pytest.raises(ComparisonError, match=r"the reference has \['a', 'p'\], the candidate \['b'\]"):
        compare({"a": X, "p": P}, {"b": X[:3]})
    with pytest.raises(ComparisonError, match=r"names= maps \['zzz'\]"):
        compare({"a": X}, {"a": X}, names={"zzz": "a"})
    with pytest.raises(ComparisonError, match=r"lacks \['nowhere'\]"):
        compare({"a": X}, {"a": X}, names={"a": "nowhere"})
    with pytest.raises(ComparisonError, match="no activations"):
        compare({}, {"a": X})


def test_shapes_that_cannot_correspond_are_an_error() -> None:
    with pytest.raises(ComparisonError, match=r"\(6, 5\) in the reference and \(6, 4\)"):
        compare(P, P[:, :4])
    with pytest.raises(ComparisonError, match="cannot correspond"):
        compare(P, np.zeros((0, 5)))


def test_axes_of_size_one_do_not_matter() -> None:
    assert compare(P, P[:, None, :]).agrees


def test_what_is_not_numbers_is_an_error() -> None:
    for given in (np.array(["a"]), np.array([1j]), np.array([object()])):
        with pytest.raises(ComparisonError, match="only real numbers"):
            compare(given, given)
    with pytest.raises(ComparisonError, match="cannot be compared"):
        compare(object(), object())


# --- callables -------------------------------------------------------------------------------------------------------


def test_callables_are_called_with_inputs() -> None:
    assert compare(polylogit.softmax, lambda x: polylogit.softmax(x), inputs=X).agrees
    found = compare(polylogit.softmax, lambda x: polylogit.softmax(x, axis=0), inputs=X)
    assert found.cause is not None
    assert found.cause.name == "wrong-axis"
    assert compare(lambda x, y: x + y, lambda x, y: y + x, inputs=(X, X)).agrees
    assert compare(lambda *, a: 2 * a, lambda *, a: a + a, inputs={"a": X}).agrees


def test_callables_need_inputs_and_outputs_do_not() -> None:
    with pytest.raises(ComparisonError, match="without inputs="):
        compare(polylogit.softmax, polylogit.softmax)
    with pytest.raises(ComparisonError, match="one side is callable"):
        compare(polylogit.softmax, P, inputs=X)
    with pytest.raises(ComparisonError, match="are for callables"):
        compare(P, P, inputs=X)


def test_a_callable_that_raises_is_an_error_that_quotes_it() -> None:
    def broken(x: Any) -> Any:
        raise RuntimeError("no such layer")

    with pytest.raises(ComparisonError, match=r"the candidate could not be called.*no such layer"):
        compare(polylogit.softmax, broken, inputs=X)


def test_gradients_on_numpy_are_compared_by_the_closed_forms() -> None:
    found = compare(polylogit.softmax, polylogit.softmax, inputs=X, cotangent=X)
    assert [one.name for one in found.activations] == ["output", "gradient"]
    assert found.agrees


def test_a_gradient_that_cancels_altogether_is_inconclusive() -> None:
    # The rows of softmax sum to one, so that their sum has no gradient.
    found = compare(polylogit.softmax, polylogit.softmax, inputs=X, cotangent=1.0)
    assert found.status == "inconclusive"


@pytest.mark.parametrize("factor", [0.5, -1.0, 6.0, 1 / 6])
def test_gradients_among_the_activations_are_judged_as_gradients(factor: float) -> None:
    found = compare({"p": P, "weight.grad": X}, {"p": P, "weight.grad": X * np.float32(factor)})
    assert found.cause is not None
    assert found.cause.name == "gradient-scale"
    assert found.cause.parameters["factor"] == pytest.approx(factor, rel=1e-5)
    if factor == 6.0:
        assert "batch size" in found.cause.explanation


def test_a_gradient_of_zeros_is_missing_and_nan_at_masks_is_named() -> None:
    masked = np.where(X > 0.5, 0.0, X).astype(np.float32)
    broken = masked.copy()
    broken[1] = np.where(masked[1] == 0, np.nan, masked[1])
    broken[2] = np.where(masked[2] == 0, np.nan, masked[2])
    assert (masked == 0).any()
    cases = {"gradient-missing": np.zeros_like(X), "gradient-masked-nan": broken}
    for name, candidate in cases.items():
        cause = compare({"x.grad": masked}, {"x.grad": candidate}).cause
        assert cause is not None
        assert cause.name == name


# --- reports ---------------------------------------------------------------------------------------------------------


def test_the_json_report_holds_the_verdict_and_no_nan(tmp_path: Any) -> None:
    broken = P.copy()
    broken[0, 0] = np.nan
    found = compare({"x": X, "p": P}, {"x": X, "p": broken})
    found.to_json(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert report["schema"] == "polylogit.comparison/1"
    assert report["status"] == "disagrees"
    assert report["first_divergence"] == "p"
    assert report["activations"][1]["shape"] == [6, 5]
    assert report["cause"]["name"] == "unknown"


def test_the_page_shows_the_diagnosis_and_escapes_names(tmp_path: Any) -> None:
    found = compare({"<b>p</b>": P}, {"<b>p</b>": polylogit.softmax(2 * X)})
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "scaled-logits" in page
    assert "x = x / 2" in page
    assert "&lt;b&gt;p&lt;/b&gt;" in page
    assert "<b>p</b>" not in page
    assert "http" not in page  # self-contained


def test_an_interrupted_report_leaves_the_old_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare(P, P)
    target = tmp_path / "report.json"
    target.write_text("old")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        found.to_json(target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_summary_says_what_to_do() -> None:
    text = str(compare(P, polylogit.log_softmax(X)))
    assert "log-of-reference" in text
    assert "fix:" in text
