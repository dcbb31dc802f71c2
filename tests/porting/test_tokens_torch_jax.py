"""Two real engines, one small transformer: PyTorch samples, JAX scores, and each then does something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polylogit.porting import compare_tokens

pytestmark = pytest.mark.requires("torch", "jax")

BATCH, TIME, WIDTH, VOCABULARY = 4, 24, 32, 300


def weights() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"embed": (VOCABULARY, WIDTH), "place": (TIME, WIDTH), "head": (WIDTH, VOCABULARY)}
    shapes |= dict.fromkeys(("q", "k", "v", "o", "up", "down"), (WIDTH, WIDTH))
    return {name: (rng.standard_normal(shape) / WIDTH**0.25).astype(np.float32) for name, shape in shapes.items()}


def norm(x: Any) -> Any:
    x = x - x.mean(-1, keepdims=True)
    return x / ((x * x).mean(-1, keepdims=True) + 1e-5) ** 0.5  # not var, which torch divides by one less


def model(xp: Any, softmax: Any, w: dict[str, Any], ids: Any, hidden: Any) -> Any:
    """One block of attention and one layer, in the words that both libraries have."""
    x = w["embed"][ids] + w["place"]
    y = norm(x)
    scores = (y @ w["q"]) @ xp.swapaxes(y @ w["k"], -1, -2) / WIDTH**0.5
    x = x + softmax(xp.where(hidden, -xp.inf, scores)) @ (y @ w["v"]) @ w["o"]
    x = x + xp.maximum(norm(x) @ w["up"], 0 * x) @ w["down"]
    return norm(x) @ w["head"]


@pytest.fixture(scope="module")
def engines() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import torch

    ids = np.random.default_rng(1).integers(VOCABULARY, size=(BATCH, TIME))
    hidden = ~np.tri(TIME, dtype=bool)
    there = {name: torch.tensor(one) for name, one in weights().items()}
    here = {name: jnp.asarray(one) for name, one in weights().items()}
    with torch.no_grad():
        sampler = _Torch(torch)
        logits = model(sampler, lambda x: torch.softmax(x, -1), there, torch.tensor(ids), torch.tensor(hidden))
        narrow = {name: one.bfloat16() for name, one in there.items()}
        halved = model(sampler, lambda x: torch.softmax(x, -1), narrow, torch.tensor(ids), torch.tensor(hidden))
        torch.manual_seed(0)
        tokens = torch.distributions.Categorical(logits=logits).sample()
    scored = model(jnp, jax.nn.softmax, here, jnp.asarray(ids), jnp.asarray(hidden))
    return {"torch": logits, "bfloat16": halved, "jax": scored, "tokens": tokens}


class _Torch:
    """NumPy's arguments for torch's functions, where they differ."""

    def __init__(self, torch: Any) -> None:
        self.swapaxes, self.maximum, self.inf = torch.swapaxes, torch.maximum, float("inf")
        self.where = lambda condition, x, y: y.masked_fill(condition, x)


def chosen_by_jax(engines: dict[str, Any], logits: Any) -> Any:
    import jax
    import jax.numpy as jnp

    rows = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(rows, jnp.asarray(engines["tokens"].numpy())[..., None], axis=-1)[..., 0]


def test_the_two_agree_in_every_form(engines: dict[str, Any]) -> None:
    import jax

    values, ids = jax.lax.top_k(jax.nn.log_softmax(engines["jax"]), 50)
    chosen = chosen_by_jax(engines, engines["jax"])
    for candidate in (engines["jax"], chosen, {"ids": ids, "logprobs": values}):
        found = compare_tokens(engines["torch"], candidate, tokens=engines["tokens"])
        assert found.agrees, found
        assert found.kl < 1e-9


def test_bfloat16_is_within_its_own_rounding_and_not_within_that_of_float32(engines: dict[str, Any]) -> None:
    import torch

    rows = torch.log_softmax(engines["bfloat16"].float(), -1)
    chosen = rows.gather(-1, engines["tokens"][..., None])[..., 0]
    asked = compare_tokens(engines["jax"], chosen, tokens=engines["tokens"])
    assert asked.verdict == "inconclusive"
    assert compare_tokens(engines["jax"], chosen, tokens=engines["tokens"], dtype="bfloat16").agrees
    assert compare_tokens(engines["jax"], engines["bfloat16"], tokens=engines["tokens"]).agrees


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda x: x / 0.8, "temperature"),
        (lambda x: x.astype("bfloat16").astype("float32"), "16-bit-logits"),
        (lambda x: x[::-1], "batch-permutation"),
    ],
)
def test_what_one_of_them_does_besides_is_named(engines: dict[str, Any], broken: Any, name: str) -> None:
    chosen = chosen_by_jax(engines, broken(engines["jax"]))
    cause = compare_tokens(engines["torch"], chosen, tokens=engines["tokens"]).cause
    assert cause is not None
    assert cause.name == name
