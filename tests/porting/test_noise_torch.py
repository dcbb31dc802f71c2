"""Noise is measured: what is within rounding agrees, what is beyond says how many times, and nothing hides in it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from polylogit.porting import compare, record
from polylogit.porting._diagnosis.agreement import Precision
from polylogit.porting._diagnosis.noise import BEYOND, LIMIT, Measured

X = np.random.default_rng(0).standard_normal((4, 12, 32)).astype(np.float32)


class Block(torch.nn.Module):
    def __init__(self, approximate: str = "none", epsilon: float = 1e-5) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(32, eps=epsilon)
        self.wide, self.act, self.back = torch.nn.Linear(32, 64), torch.nn.GELU(approximate), torch.nn.Linear(64, 32)

    def forward(self, x: Any) -> Any:
        return x + self.back(self.act(self.wide(self.norm(x))))


def model(**options: Any) -> Any:
    torch.manual_seed(0)
    blocks = [Block(**options) for _ in range(3)]
    for block in blocks:
        torch.nn.init.normal_(block.norm.weight, 1.0, 0.3)
    return torch.nn.Sequential(*blocks).eval()


@pytest.mark.parametrize("fault", [{"approximate": "tanh"}, {"epsilon": 1e-3}])
def test_a_fault_far_below_any_fixed_limit_is_no_agreement(fault: dict[str, Any]) -> None:
    found = compare(model(), model(**fault), inputs=X)
    assert not found.agrees
    assert found.activations[0].verdict.times > LIMIT


def test_the_cause_shows_with_all_activations() -> None:
    found = compare(record(model()), record(model(approximate="tanh")), inputs=X)
    assert found.first_divergence == "0.act"
    assert found.cause is not None
    assert found.cause.name == "gelu-approximation"


def test_another_order_of_additions_is_within_rounding() -> None:
    original = model()

    def port(x: Any) -> Any:
        for block in original:
            y = block.norm(x).flip(-1) @ block.wide.weight.T.flip(0) + block.wide.bias
            x = x + (block.act(y).flip(-1) @ block.back.weight.T.flip(0) + block.back.bias)
        return x

    found = compare(original, port, inputs=X)
    assert found.agrees, str(found)
    assert found.activations[0].verdict.times < LIMIT
    assert "times rounding" in found.summary()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_port_in_16_bits_agrees_and_a_bias_that_it_lacks_shows(dtype: Any) -> None:
    original = model()
    port = copy.deepcopy(original).to(dtype)
    found = compare(record(original), record(port, prepare=lambda x: x.to(dtype)), inputs=X)
    assert found.agrees, str(found)
    with torch.no_grad():
        port[1].back.bias.zero_()
    found = compare(record(original), record(port, prepare=lambda x: x.to(dtype)), inputs=X)
    assert found.first_divergence == "1.back"
    assert found.cause is not None
    assert found.cause.name == "missing-bias"


def test_a_model_is_left_as_it_was() -> None:
    original = model()
    before = copy.deepcopy(original.state_dict())
    compare(record(original), record(model()), inputs=X)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert all(one.dtype == torch.float32 for one in original.parameters())


def test_dropout_in_the_original_is_no_noise() -> None:
    original = torch.nn.Sequential(model(), torch.nn.Dropout(0.5)).train()
    torch.manual_seed(1)
    assert not compare(original, torch.nn.Sequential(model(), torch.nn.Dropout(0.5)).train(), inputs=X).agrees


def test_functions_of_numpy_are_run_in_float64() -> None:
    weight = np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32)

    def reference(x: Any) -> Any:
        return np.tanh(x @ weight)

    found = compare(reference, lambda x: np.tanh(x[..., ::-1] @ weight[::-1]), inputs=X)
    assert found.agrees
    assert not compare(reference, lambda x: np.tanh(x @ weight) * np.float32(1 + 3e-5), inputs=X).agrees


# --- the measure ------------------------------------------------------------------------------------------------------


def measured(exact: Any, other: Any, error: float = 1e-7) -> float:
    rng = np.random.default_rng(2)
    size = np.abs(exact) + np.median(np.abs(exact))
    return Measured(exact, np.abs(error * size * rng.standard_normal(exact.shape)), other).times("scale", FLOAT32)


FLOAT32 = Precision.of("float32")
EXACT = np.random.default_rng(3).standard_normal((8, 16, 64))


def test_noise_of_the_same_size_is_about_once() -> None:
    noisy = EXACT * (1 + 1e-7 * np.random.default_rng(4).standard_normal(EXACT.shape))
    assert 0.3 < measured(EXACT, noisy) < 3


def test_a_massive_channel_hides_nothing_in_the_others() -> None:
    massive = EXACT.copy()
    massive[:, 0, 7] = 3000.0
    wrong = massive.copy()
    wrong[..., 3] += 1e-5
    assert measured(massive, wrong) > BEYOND


def test_one_wrong_entry_is_beyond_all_noise() -> None:
    wrong = EXACT.copy()
    wrong[3, 5, 9] += 1e-4
    assert measured(EXACT, wrong) > BEYOND


def test_infinities_in_other_places_are_no_noise() -> None:
    wrong = EXACT.copy()
    wrong[0, 0, 0] = np.inf
    assert measured(EXACT, wrong) == np.inf
