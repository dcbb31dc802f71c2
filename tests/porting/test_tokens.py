"""Two engines that score the same tokens: what is named, what is not, and what is measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import polylogit
from polylogit._cli import compare_tokens as command
from polylogit.errors import ComparisonError
from polylogit.porting import compare_tokens


def sibling(name: str) -> Any:
    """A module of this folder, whatever the way in which pytest imports tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


harness = sibling("tokens_harness")

RNG = np.random.default_rng(0)
LOGITS = (2 * RNG.standard_normal((4, 12, 40))).astype(np.float32)
TOKENS = np.argmax(LOGITS + RNG.gumbel(size=LOGITS.shape), axis=-1)
ROWS = np.asarray(polylogit.log_softmax(LOGITS))
CHOSEN = harness.pick(ROWS, TOKENS)


# --- right and wrong pairs in numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", harness.RIGHT, ids=lambda one: one.__name__)
def test_right_engines_agree(make: Any) -> None:
    outcomes = [harness.outcome(pair, "") for _, _, pair in harness.pairs(make, 3, seed=1)]
    assert "accused" not in outcomes
    assert outcomes.count("beyond") <= 1


@pytest.mark.parametrize("make", harness.FAULTS, ids=lambda one: one.__name__)
def test_a_fault_gets_its_name_and_no_other(make: Any) -> None:
    outcomes = [harness.outcome(pair, harness.FAULTS[make]) for _, _, pair in harness.pairs(make, 4, seed=1)]
    assert "wrong" not in outcomes
    assert "passed" not in outcomes
    assert "unknown" not in outcomes or outcomes.count("unknown") <= 1


# --- what a cause says -----------------------------------------------------------------------------------------------


def test_a_temperature_is_found_from_whole_rows_of_one_side() -> None:
    hot = harness.pick(np.asarray(polylogit.log_softmax(LOGITS / np.float32(0.7))), TOKENS)
    for reference, candidate, found in ((LOGITS, hot, 0.7), (hot, LOGITS, 1 / 0.7), (ROWS, hot, 0.7)):
        cause = compare_tokens(reference, candidate, tokens=TOKENS).cause
        assert cause is not None
        assert cause.name == "temperature"
        assert cause.parameters["temperature"] == pytest.approx(found, rel=1e-5)


def test_a_temperature_cannot_be_told_from_the_chosen_tokens_alone() -> None:
    hot = harness.pick(np.asarray(polylogit.log_softmax(LOGITS / np.float32(0.7))), TOKENS)
    found = compare_tokens(CHOSEN, hot, tokens=TOKENS)
    assert found.verdict == "different"
    assert found.cause is not None
    assert found.cause.name == "unknown"


@pytest.mark.parametrize(("k", "p"), [(5, None), (None, 0.9)])
def test_a_truncated_support_gives_its_rule(k: int | None, p: float | None) -> None:
    order = np.argsort(-LOGITS, axis=-1)
    sort = np.take_along_axis(ROWS, order, axis=-1)
    keep = np.arange(40) < k if k else np.cumsum(np.exp(sort), axis=-1) - np.exp(sort) < p
    kept = np.zeros(LOGITS.shape, bool)
    np.put_along_axis(kept, order, np.broadcast_to(keep, kept.shape), axis=-1)
    cut = np.where(kept, LOGITS, -np.inf)
    tokens = np.argmax(cut + RNG.gumbel(size=cut.shape), axis=-1)
    whole = np.asarray(polylogit.log_softmax(cut))
    rule = f"top-k with k = {k}" if k else f"top-p with p = {p}"
    for candidate in (whole, harness.pick(whole, tokens)):
        cause = compare_tokens(LOGITS, candidate, tokens=tokens).cause
        assert cause is not None
        assert cause.name == "truncated-support"
        assert cause.parameters["rule"] == rule
        assert rule in cause.explanation


def test_a_top_k_that_is_normalised_over_itself_is_a_truncated_support() -> None:
    top = harness.top(ROWS, 8)
    top["logprobs"] = np.asarray(polylogit.log_softmax(top["logprobs"]))
    cause = compare_tokens(ROWS, top, tokens=TOKENS).cause
    assert cause is not None
    assert (cause.name, cause.parameters["rule"]) == ("truncated-support", "top-k with k = 8")


def test_columns_of_padding_are_counted_as_logits_of_zero() -> None:
    padded = np.concatenate([LOGITS, np.zeros((4, 12, 24), np.float32)], axis=-1)
    candidate = harness.pick(np.asarray(polylogit.log_softmax(padded)), TOKENS)
    cause = compare_tokens(LOGITS, candidate, tokens=TOKENS).cause
    assert cause is not None
    assert cause.name == "extra-sink"
    assert "24 logits of 0" in cause.explanation


def test_a_cause_leaves_less_than_the_runner_up() -> None:
    cause = compare_tokens(CHOSEN, -CHOSEN, tokens=TOKENS).cause
    assert cause is not None
    assert cause.name == "sign"
    assert cause.runner_up is not None
    assert cause.residual == 0.0 < 0.1 < cause.runner_up.residual


# --- masks and what is outside the support ---------------------------------------------------------------------------


def test_positions_outside_the_mask_do_not_count() -> None:
    mask = np.arange(12) < 9
    mask = np.broadcast_to(mask, TOKENS.shape)
    candidate = np.where(mask, CHOSEN, np.nan)
    assert compare_tokens(CHOSEN, candidate, tokens=TOKENS, mask=mask).agrees
    found = compare_tokens(CHOSEN, np.where(mask, CHOSEN, 0.0).astype(np.float32), tokens=TOKENS)
    assert found.cause is not None
    assert found.cause.name == "padding-counted"


def test_tokens_outside_the_support_are_given_by_position_and_never_as_a_number() -> None:
    candidate = CHOSEN.copy()
    candidate[1, 3], candidate[2, 5] = -np.inf, np.nan
    found = compare_tokens(CHOSEN, candidate, tokens=TOKENS)
    assert found.verdict == "different"
    assert found.outside == {"reference": (), "candidate": ((1, 3),)}
    assert found.invalid == {"reference": (), "candidate": ((2, 5),)}
    assert found.worst_position in ((1, 3), (2, 5))
    assert found.mean == found.kl == 0.0
    assert np.isnan(found.differences[1, 3])


def test_tokens_outside_both_supports_agree() -> None:
    both = CHOSEN.copy()
    both[0, 0] = -np.inf
    found = compare_tokens(both, both, tokens=TOKENS)
    assert found.agrees
    assert found.outside["reference"] == ((0, 0),)


def test_a_top_k_without_the_token_is_not_compared_there() -> None:
    found = compare_tokens(CHOSEN, harness.top(ROWS, 3), tokens=TOKENS)
    assert found.agrees
    assert found.unlisted
    assert found.counted == TOKENS.size - len(found.unlisted)


# --- measures --------------------------------------------------------------------------------------------------------


def test_the_measures_are_those_of_the_differences() -> None:
    other = (LOGITS + 0.1 * RNG.standard_normal(LOGITS.shape)).astype(np.float32)
    rows = np.asarray(polylogit.log_softmax(other.astype(np.float64)))
    found = compare_tokens(LOGITS, other, tokens=TOKENS)
    exact = np.asarray(polylogit.log_softmax(LOGITS.astype(np.float64)))
    d = harness.pick(rows - exact, TOKENS)
    assert found.kl_method == "exact"
    assert found.kl == pytest.approx(np.mean(np.sum(np.exp(exact) * (exact - rows), axis=-1)))
    assert found.mean == pytest.approx(d.mean())
    assert found.mean_absolute == pytest.approx(np.abs(d).mean())
    assert found.weight_mean == pytest.approx(np.exp(d).mean())
    assert found.weight_largest == pytest.approx(np.exp(d).max())
    assert found.effective_sample_size == pytest.approx(np.exp(d).sum() ** 2 / np.sum(np.exp(2 * d)) / d.size)
    assert found.worst == pytest.approx(d[found.worst_position])
    estimated = compare_tokens(harness.pick(exact, TOKENS), harness.pick(rows, TOKENS), tokens=TOKENS)
    assert estimated.kl_method == "k3"
    assert estimated.kl == pytest.approx(np.mean(np.exp(d) - 1 - d))


def test_noise_of_sixteen_bits_is_judged_by_sixteen_bits_where_it_is_meant() -> None:
    noisy = harness.pick(ROWS + 0.01 * np.abs(ROWS) * RNG.standard_normal(ROWS.shape), TOKENS).astype(np.float32)
    asked = compare_tokens(CHOSEN, noisy, tokens=TOKENS)
    assert asked.verdict == "inconclusive"
    assert 'dtype="bfloat16"' in asked.hint
    assert compare_tokens(CHOSEN, noisy, tokens=TOKENS, dtype="bfloat16").agrees
    assert compare_tokens(CHOSEN, CHOSEN.astype(ml_dtypes.bfloat16), tokens=TOKENS).agrees


def test_a_cause_behind_the_noise_of_sixteen_bits_is_hinted_at_until_they_are_declared() -> None:
    noisy = LOGITS + 0.01 * np.abs(LOGITS) * RNG.standard_normal(LOGITS.shape)
    hot = harness.pick(np.asarray(polylogit.log_softmax(noisy / 0.5)), TOKENS).astype(np.float32)
    found = compare_tokens(LOGITS, hot, tokens=TOKENS)
    assert found.cause is not None
    assert found.cause.name == "unknown"
    assert 'the cause is temperature: pass dtype="' in found.hint
    assert found.hint in str(found)
    assert found.hint.replace('"', "&#34;") in found._repr_html_()
    declared = compare_tokens(LOGITS, hot, tokens=TOKENS, dtype="bfloat16").cause
    assert declared is not None
    assert declared.name == "temperature"


def test_beyond_rounding_is_neither_agreement_nor_a_cause() -> None:
    candidate = CHOSEN.copy()
    candidate[0, 0] += np.float32(2e-3)
    times = compare_tokens(CHOSEN, candidate, tokens=TOKENS).times
    candidate[0, 0] = CHOSEN[0, 0] + np.float32(2e-3 * 4 / times)
    found = compare_tokens(CHOSEN, candidate, tokens=TOKENS)
    assert found.verdict == "beyond rounding"
    assert not found.agrees
    assert found.cause is None
    assert found.times == pytest.approx(4, rel=0.05)


def test_what_could_not_have_differed_is_inconclusive() -> None:
    zeros = np.zeros(TOKENS.shape, np.float32)
    assert compare_tokens(zeros, zeros, tokens=TOKENS).verdict == "inconclusive"
    assert compare_tokens(CHOSEN, CHOSEN, tokens=TOKENS, mask=zeros).verdict == "inconclusive"


def test_a_single_sequence_needs_no_batch() -> None:
    assert compare_tokens(LOGITS[0], CHOSEN[0], tokens=TOKENS[0]).agrees
    found = compare_tokens(CHOSEN[0, 1:], CHOSEN[0, :-1], tokens=TOKENS[0, 1:])
    assert found.cause is not None
    assert (found.cause.name, found.cause.parameters["offset"]) == ("position-offset", -1)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": CHOSEN[:, 1:]}, r"the reference has the shape \(4, 11\) and tokens \(4, 12\)"),
        ({"candidate": {"ids": TOKENS}}, "pass an array, or"),
        ({"tokens": TOKENS.astype(np.float32)}, "pass the ids, integers"),
        ({"tokens": TOKENS + 40, "reference": LOGITS}, "not in the vocabulary of 40"),
        ({"mask": np.ones(3)}, r"mask= has the shape \(3,\)"),
        ({"mask": TOKENS}, "pass booleans or 0 and 1"),
        ({"dtype": "float12"}, "dtype='float12' is not known"),
        ({"candidate": TOKENS}, "in a floating dtype"),
        ({"candidate": {"ids": TOKENS, "logprobs": CHOSEN}}, r"both need the shape \(4, 12, 'k'\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(arguments: dict[str, Any], message: str) -> None:
    given = {"reference": CHOSEN, "candidate": CHOSEN, "tokens": TOKENS} | arguments
    with pytest.raises(ComparisonError, match=message):
        compare_tokens(given.pop("reference"), given.pop("candidate"), **given)


# --- reports and the command -----------------------------------------------------------------------------------------


def test_reports_say_the_verdict_the_cause_and_the_measures(tmp_path: Any) -> None:
    candidate = np.append(-CHOSEN.ravel()[1:], np.nan).reshape(CHOSEN.shape)
    for found in (
        compare_tokens(CHOSEN, -CHOSEN, tokens=TOKENS),
        compare_tokens(CHOSEN, CHOSEN, tokens=TOKENS),
        compare_tokens(CHOSEN, candidate, tokens=TOKENS),
    ):
        assert repr(found).startswith(f"<TokenComparison {found.verdict}: 48 tokens")
        assert "\n" not in repr(found)
        assert "KL divergence" in str(found)
        found.to_json(tmp_path / "r.json")
        found.to_html(tmp_path / "r.html")
        written = json.loads((tmp_path / "r.json").read_text())
        assert written["verdict"] == found.verdict
        assert written["effective_sample_size"] == pytest.approx(found.effective_sample_size)
        page = (tmp_path / "r.html").read_text()
        for text in (page, found._repr_html_()):
            assert "importance weights" in text
            assert found.cause is None or found.cause.name in text


@pytest.fixture
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    np.save("tokens.npy", TOKENS)
    np.save("logits.npy", LOGITS)
    np.save("chosen.npy", CHOSEN)
    np.save("loss.npy", -CHOSEN)
    np.save("mask.npy", np.ones_like(TOKENS))
    np.save("none.npy", np.zeros_like(TOKENS))
    np.savez("top.npz", **harness.top(ROWS, 5))
    np.savez("two.npz", a=CHOSEN, b=CHOSEN)
    slightly = CHOSEN.copy()
    slightly[0, 0] += np.float32(5e-4)
    np.save("slightly.npy", slightly)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["logits.npy", "chosen.npy"], 0),
        (["logits.npy", "top.npz", "--mask", "mask.npy"], 0),
        (["logits.npy", "loss.npy"], 1),
        (["chosen.npy", "slightly.npy"], 0),
        (["chosen.npy", "slightly.npy", "--strict"], 1),
        (["chosen.npy", "chosen.npy", "--mask", "none.npy"], 3),
        (["logits.npy", "two.npz"], 2),
        (["logits.npy", "missing.npy"], 2),
        (["logits.npy", "json:dumps"], 2),
    ],
)
def test_the_exit_status_of_the_command(folder: Any, arguments: list[str], status: int) -> None:
    result = CliRunner().invoke(command, [*arguments, "--tokens", "tokens.npy", "--json", "r.json", "--html", "r.html"])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    assert (folder / "r.json").exists() == (folder / "r.html").exists() == (status != 2)
