"""Scores with a bias of positions: a fault of the product of queries and keys has its name, whatever is added to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from polylogit.porting import compare

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH, LENGTH, HEADS, SIZE = 3, 12, 4, 8


class Attention:
    """Queries, keys and a bias for each head and distance, as relative positions have them; masked causally, or not."""

    def __init__(self, seed: int, *, masked: bool) -> None:
        rng = np.random.default_rng(seed)
        self.queries, self.keys = rng.normal(size=(2, BATCH, LENGTH, HEADS * SIZE)).astype(np.float32)
        distance = np.arange(LENGTH) - np.arange(LENGTH)[:, None]
        self.bias = rng.normal(size=(HEADS, 2 * LENGTH)).astype(np.float32)[:, distance + LENGTH]
        self.mask = np.where(masked & (distance > 0), np.float32(-1e9), np.float32(0))

    def product(self, heads: Callable[[Any], Any] | None = None) -> Any:
        def split(x: Any) -> Any:
            return x.reshape(BATCH, LENGTH, HEADS, SIZE)

        queries, keys = ((heads or split)(one) for one in (self.queries, self.keys))
        return np.einsum("bqhd,bkhd->bhqk", queries, keys)

    def scores(self, change: Callable[[Any], Any] = lambda x: x, **options: Any) -> Any:
        return (change(self.product(**options)) + self.bias + self.mask).astype(np.float32)

    def named(self, candidate: Any) -> str | None:
        before = {"q": self.queries, "k": self.keys}
        found = compare({**before, "scores": self.scores()}, {**before, "scores": candidate})
        return None if found.agrees else found.cause.name  # type: ignore[union-attr]


FAULTS = {
    "scaled-logits": lambda x: x / np.float32(8**0.5),
    "softcap": lambda x: 5 * np.tanh(x / 5),
    "bfloat16-rounding": lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32),
    "float16-rounding": lambda x: x.astype(np.float16).astype(np.float32),
}


@pytest.mark.parametrize("masked", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_product_is_named(name: str, masked: bool) -> None:
    for seed in range(3):
        one = Attention(seed, masked=masked)
        assert one.named(one.scores(FAULTS[name])) == name


@pytest.mark.parametrize("masked", [False, True], ids=["all", "causal"])
def test_heads_that_are_split_the_other_way_are_named(masked: bool) -> None:
    one = Attention(0, masked=masked)
    other = one.scores(heads=lambda x: x.reshape(BATCH, LENGTH, SIZE, HEADS).swapaxes(-1, -2))
    assert one.named(other) == "head-layout"


def test_another_bias_is_none_of_these() -> None:
    one, other = (Attention(seed, masked=True) for seed in (0, 1))
    assert one.named((one.product() + other.bias + one.mask).astype(np.float32)) not in {*FAULTS, "head-layout"}


def test_other_keys_have_no_name() -> None:
    one = Attention(0, masked=True)
    wrong = np.einsum("bqhd,bkhd->bhqk", *(one.keys.reshape(BATCH, LENGTH, HEADS, SIZE),) * 2)
    assert one.named((wrong + one.bias + one.mask).astype(np.float32)) == "unknown"


def test_right_ports_agree() -> None:
    one = Attention(0, masked=True)
    exact = np.einsum(
        "bqhd,bkhd->bhqk", *(x.astype(np.float64).reshape(BATCH, LENGTH, HEADS, SIZE) for x in (one.queries, one.keys))
    )
    assert one.named((exact + one.bias + one.mask).astype(np.float32)) is None


def test_masked_scores_are_compared_whatever_they_are_called() -> None:
    one = Attention(0, masked=True)
    right, wrong = one.scores(), one.scores(lambda x: x + np.float32(0.01) * x**2)
    assert compare({"a": right}, {"a": right * np.float32(1)}).agrees
    assert not compare({"a": right}, {"a": wrong}).agrees


def test_a_massive_activation_is_no_mask() -> None:
    x = np.random.default_rng(0).normal(size=(4, 16, 64)).astype(np.float32)
    x[..., 7] = -2e4
    other = x.copy()
    other[..., 7] = -2.1e4
    assert not compare({"a": x}, {"a": other}).agrees
