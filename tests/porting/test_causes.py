"""Causes in attention and in layers: right twins are never accused, and look-alikes get their own name or none.

The faults themselves, in hundreds, come from `harness.py`; see `test_diagnose.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polylogit.porting import compare


def sibling(name: str) -> Any:
    """A module of this folder, whatever the way in which pytest imports tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


harness = sibling("harness")
SEEDS = range(6)


def cause(reference: Any, candidate: Any, **before: Any) -> str | None:
    """The name of the cause, None where the two agree."""
    found = compare({**before, "y": reference}, {**before, "y": candidate})
    return None if found.agrees else found.cause.name  # type: ignore[union-attr]


def named(reference: Any, candidate: Any, **before: Any) -> Any:
    found = compare({**before, "y": reference}, {**before, "y": candidate}).cause
    assert found is not None
    return found


def attention(seed: int) -> Any:
    return harness.Attention(np.random.default_rng(seed))


def hidden(seed: int, *shape: int) -> Any:
    return harness.draw(np.random.default_rng(seed), shape or (3, 16, 48), 1.0)


# --- right twins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_with_other_numbers_filled_in_agree(seed: int) -> None:
    one = attention(seed)
    mask = one.causal & one.padding
    one.fill = -np.inf
    reference = one.weights(mask)
    one.fill = -1e9
    assert cause(reference, one.weights(mask), scores=one.x) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_a_norm_in_float64_agrees_with_one_in_float32(norm: str, seed: int) -> None:
    x, f = hidden(seed), getattr(harness, norm)
    weight, bias = hidden(seed + 1, 48), hidden(seed + 2, 48)
    exact = f(x.astype(np.float64), weight, bias).astype(np.float32)
    assert cause(f(x, weight, bias), exact, before=x) is None


@pytest.mark.parametrize("function", [*range(6)])
def test_an_activation_function_in_float64_agrees_with_one_in_float32(function: int) -> None:
    x, f = hidden(function), harness.ACTIVATIONS[function]
    assert cause(f(x), f(x.astype(np.float64)).astype(np.float32), before=x) is None


def test_a_residual_connection_added_in_another_order_agrees() -> None:
    x, y, z = (hidden(seed) for seed in range(3))
    assert cause((x + y) + z, x + (y + z), x=x, y=y, z=z) is None


# --- what is seen among others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_that_are_capped_under_a_causal_mask_are_named(seed: int) -> None:
    """More than half of the entries are masked on both sides, and say nothing."""
    one = attention(seed)
    mask = one.causal & one.padding
    scores = np.where(mask, one.x, np.float32(-np.inf))
    capped = np.where(mask, np.float32(2) * np.tanh(one.x / np.float32(2)), np.float32(-np.inf))
    found = named(scores, capped)
    assert found.name == "softcap"
    assert found.parameters["cap"] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_residual_that_only_two_earlier_activations_make_is_named(seed: int) -> None:
    """As in a block with two connections, where what the first adds up to is no part's output."""
    before, mixed, normed, mlp = (hidden(seed + step) for step in range(4))
    found = named((before + mixed) + mlp, mlp, before=before, mixed=mixed, normed=normed, mlp=mlp)
    assert (found.name, found.parameters["name"]) == ("missing-residual", "mixed + before")
    assert cause((before + mixed) + mlp, before + hidden(seed + 9), before=before, mixed=mixed, mlp=mlp) == "unknown"


# --- look-alikes of masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_two_masks_that_have_nothing_to_do_with_each_other_have_no_name(seed: int) -> None:
    rng, one = np.random.default_rng(seed), attention(seed)
    masks = [(rng.random(one.x.shape) < 0.6) | np.eye(one.n, dtype=bool) for _ in range(2)]
    assert cause(*(one.weights(mask) for mask in masks)) == "unknown"


@pytest.mark.parametrize("seed", SEEDS)
def test_another_mask_over_other_scores_has_no_name(seed: int) -> None:
    one, other = attention(seed), attention(seed)
    other.x = other.x + hidden(seed + 9, *other.x.shape)
    assert cause(one.weights(one.causal), other.weights(np.tril(one.everything, 1))) == "unknown"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_causal_mask_off_by_one_is_no_rounding_where_the_scores_are_known(seed: int) -> None:
    one = attention(seed)
    one.fill = np.finfo(np.float32).min
    scores = np.where(one.causal, one.x, np.float32(one.fill))
    candidate = one.weights(np.tril(one.everything, -1))
    assert cause(one.weights(one.causal), candidate, scores=scores) == "causal-off-by-one"


@pytest.mark.parametrize("seed", SEEDS)
def test_rounded_scores_are_named_where_masked_scores_are_known(seed: int) -> None:
    one = attention(seed)
    one.fill = np.finfo(np.float32).min
    scores = np.where(one.causal, one.x, np.float32(one.fill))
    reference = one.weights(one.causal)
    one.x = one.x.astype(np.float16).astype(np.float32)
    assert cause(reference, one.weights(one.causal), scores=scores) == "float16-rounding"


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_not_taken_for_logits_where_most_is_masked(seed: int) -> None:
    one = attention(seed)
    one.fill = -np.inf
    mask = np.tril(one.everything, 0) & ~np.tril(one.everything, -3)
    reference, candidate = one.weights(mask), one.weights(mask, -2)
    before = {"scores": one.x, "others": hidden(seed, *one.x.shape)}
    assert cause(reference, candidate, **before) == "wrong-axis"


def test_a_window_says_how_wide_the_two_are() -> None:
    one = attention(1)
    window = one.causal & ~np.tril(one.everything, -4)
    found = named(one.weights(one.causal & one.padding), one.weights(window & one.padding))
    assert found.explanation == "The candidate's queries see the last 4 positions, the reference's all positions."


@pytest.mark.parametrize(("shift", "words"), [(1, "sees the next position"), (-1, "no query sees its own")])
def test_a_causal_mask_says_which_way_it_is_off(shift: int, words: str) -> None:
    one = attention(1)
    found = named(one.weights(one.causal), one.weights(np.tril(one.everything, shift)))
    assert words in found.explanation


def test_weights_times_one_number_have_no_sink() -> None:
    p = attention(0).weights(True)
    assert cause(p, (p * 0.9).astype(np.float32)) != "extra-sink"


def test_a_cap_is_found() -> None:
    x = hidden(0) * 5
    found = named(x, 30 * np.tanh(x / 30))
    assert found.name == "softcap"
    assert found.parameters["cap"] == pytest.approx(30, rel=1e-4)


# --- look-alikes of layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_times_any_factor_are_no_epsilon_of_a_norm(seed: int) -> None:
    x, factor = hidden(seed), 1 + 0.01 * hidden(seed + 1, 3, 16, 1)
    assert cause(x, x * factor) == "unknown"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_epsilon_of_a_norm_is_no_factor_of_the_logits(seed: int) -> None:
    x = 0.3 * hidden(seed) * np.exp(0.2 * hidden(seed + 1, 3, 16, 1))
    found = named(harness.rms_norm(x, 1, 0, 1e-6), harness.rms_norm(x, 1, 0, 1e-3), before=x)
    assert found.name == "norm-epsilon"
    assert found.parameters["epsilon"] == pytest.approx(1e-3, rel=1e-2)


def test_what_differs_for_many_reasons_lacks_no_bias() -> None:
    x = hidden(0)
    many = x + 1e-4 * hidden(1) + 3e-4 * hidden(2, 48)
    assert cause(x, many) in (None, "unknown")


def test_a_factor_amid_the_model_is_no_scale_of_embeddings() -> None:
    x = hidden(0, 3, 16, 64)
    assert cause(x, 8 * x, before=hidden(1, 3, 16, 64)) == "scaled-logits"
    assert cause(x, 8 * x) == "embedding-scale"


def test_any_other_order_of_channels_is_no_layout_of_heads() -> None:
    x, order = hidden(0), np.random.default_rng(0).permutation(48)
    assert cause(x, x[..., order]) == "class-permutation"


def test_height_and_width_exchanged_is_no_layout() -> None:
    x = hidden(0, 2, 3, 8, 8)
    assert cause(x, x.swapaxes(-1, -2)) == "transposed"


def test_a_shift_of_what_is_no_table_is_no_offset_of_positions() -> None:
    x = hidden(0)
    assert cause(x, np.roll(x, 1, axis=1)) != "position-offset"


def test_rows_that_are_masked_have_no_epsilon() -> None:
    x, mask = hidden(0), np.random.default_rng(1).random((3, 16, 1)) < 0.7
    assert cause(x, x * mask) == "unknown"


def test_a_transposed_weight_has_no_name_where_rows_are_too_few_to_find_the_weight() -> None:
    x, weight = hidden(0, 2, 12, 32), hidden(1, 32, 32)
    assert cause(x @ weight, x @ weight.T, before=x) == "unknown"


def test_another_weight_is_no_transposed_one() -> None:
    x, weight, other = hidden(0, 8, 16, 32), hidden(1, 32, 32), hidden(2, 32, 32)
    assert cause(x @ weight, x @ other, before=x) == "unknown"


def test_half_a_residual_connection_has_no_name() -> None:
    x, y = hidden(0), hidden(1)
    assert cause(x + y, x / 2 + y, x=x, y=y) == "unknown"


def test_noise_after_an_activation_function_is_no_other_form_of_it() -> None:
    x = hidden(0)
    y = harness.GELUS[0](x)
    assert cause(y, y + np.float32(0.003) * hidden(1), before=x) == "unknown"


def test_a_layout_says_that_the_values_agree() -> None:
    x = hidden(0, 2, 5, 8, 8)
    found = compare(x, np.moveaxis(x, 1, -1)).cause
    assert found is not None
    assert found.name == "layout"
    assert "agree once they are moved" in found.explanation
    assert found.fix == "x = np.transpose(x, (0, 3, 1, 2))"
