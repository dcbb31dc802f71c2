"""The faults that `ports` puts into a port, as a table: what each does, the module it is in, the causes right for it.

A fault is written once for all frameworks, as changes of four kinds: of what happens around the softmax of attention
(its mask, its scores, the softmax itself), of the weights, of the configuration, and of a class of the port. What a
change is made of comes from the port's framework as an `Ops`; this module imports none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FAULTS", "Fault", "Ops", "Scene", "faults_of"]

EVERY = ("bert", "gpt2", "vit", "t5")
TEXT = ("bert", "gpt2", "t5")
CAUSAL = ("gpt2", "t5")
WHERE = 1  # the layer of a fault that is in one layer


class Ops(NamedTuple):
    """What a change of scores and weights needs, of one framework."""

    array: Callable[[Any], Any]
    softmax: Callable[[Any, int], Any]
    cast: Callable[[Any, str], Any]
    where: Callable[[Any, Any, Any], Any]
    exp: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    sum: Callable[[Any, int], Any]
    max: Callable[[Any, int], Any]


@dataclasses.dataclass(frozen=True)
class Scene:
    """Where a change happens: the framework, the padding of the batch (True is a token), causal or not."""

    ops: Ops
    pad: np.ndarray  # (batch, keys)
    queries: int
    causal: bool

    @property
    def allowed_by_causality(self) -> np.ndarray:
        shape = (self.queries, self.pad.shape[1])
        return np.tril(np.ones(shape, bool)) if self.causal else np.ones(shape, bool)

    def allowed(self, pad: np.ndarray | None = None, causal: np.ndarray | None = None) -> np.ndarray:
        """(batch, 1, queries, keys): who may see whom, with the parts given in place of the right ones."""
        pad = self.pad if pad is None else pad
        causal = self.allowed_by_causality if causal is None else causal
        return pad[:, None, None, :] & causal[None, None]


Change = Callable[[Scene, Any], Any]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row of the table.

    `within` are the modules in which it is, in the reference's names, by model; `causes` the names that are right,
    none where only "unknown" is. `mask`, `scores` and `softmax` change what is inside attention, in the layers of
    `layers`; `encoder` says that T5's encoder has it too. `weights` gets and changes the flat weights of the
    reference's state, `config` are settings, `patch` names a change that each framework writes for itself.
    """

    name: str
    causes: frozenset[str]
    within: dict[str, str]
    mask: Change | None = None
    scores: Change | None = None
    softmax: Change | None = None
    layers: tuple[int, ...] | None = None  # None is all
    weights: dict[str, Callable[[dict[str, Any]], None]] = dataclasses.field(default_factory=dict)
    config: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    patch: str = ""
    head: str = ""  # of the model with probabilities at its end: which softmax is wrong

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.within)

    def in_layer(self, layer: int) -> bool:
        return self.layers is None or layer in self.layers


# --- the modules, in the names of the PyTorch models -----------------------------------------------------------------


def attention(layer: int, models: tuple[str, ...] = EVERY) -> dict[str, str]:
    """The attention of a layer: its softmax."""
    paths = {
        "bert": f"encoder.layer.{layer}.attention.self",
        "gpt2": f"h.{layer}.attn",
        "vit": f"encoder.layer.{layer}.attention.attention",
        "t5": f"encoder.block.{layer}.layer.0",
    }
    return {model: paths[model] for model in models}


def decoder(layer: int) -> dict[str, str]:
    """The same where only causal attention has the fault."""
    return {"gpt2": f"h.{layer}.attn", "t5": f"decoder.block.{layer}.layer.0"}


# --- changes of masks ------------------------------------------------------------------------------------------------


def _filled(scene: Scene, allowed: np.ndarray, fill: float = -1e30) -> Any:
    return scene.ops.array(np.where(allowed, 0.0, fill).astype(np.float32))


def _masked(**parts: Callable[[Scene], np.ndarray]) -> Change:
    """A mask with some of its parts replaced: `pad` or `causal`."""
    return lambda scene, _: _filled(scene, scene.allowed(**{name: make(scene) for name, make in parts.items()}))


def _tokens(scene: Scene) -> np.ndarray:
    return np.ones_like(scene.pad)


def _band(low: int, high: int) -> Callable[[Scene], np.ndarray]:
    """Keys from `low` behind the query to `high` before it."""

    def make(scene: Scene) -> np.ndarray:
        distance = np.arange(scene.queries)[:, None] - np.arange(scene.pad.shape[1])
        return (distance <= low) & (distance >= high)

    return make


def _all(scene: Scene) -> np.ndarray:
    return np.ones((scene.queries, scene.pad.shape[1]), bool)


# --- changes of scores and of the softmax ----------------------------------------------------------------------------


def _unmasked(scene: Scene, scores: Any, changed: Any) -> Any:
    """Where a framework adds the mask before its softmax can be changed, what is masked stays so."""
    return scene.ops.where(scores > -5e3, changed, scores)


def _scaled(factor: float) -> Change:
    return lambda scene, scores: _unmasked(scene, scores, scores * factor)


def _rounded(dtype: str) -> Change:
    def change(scene: Scene, scores: Any) -> Any:
        return _unmasked(scene, scores, scene.ops.cast(scene.ops.cast(scores, dtype), "float32"))

    return change


def _capped(cap: float) -> Change:
    return lambda scene, scores: _unmasked(scene, scores, scene.ops.tanh(scores / cap) * cap)


def _over(axis: int) -> Change:
    return lambda scene, scores: scene.ops.softmax(scores, axis)


def _in_precision(dtype: str) -> Change:
    def change(scene: Scene, scores: Any) -> Any:
        return scene.ops.cast(scene.ops.softmax(scene.ops.cast(scores, dtype), -1), "float32")

    return change


def _with_more_in_the_sum(constant: float = 0.0, sink: float | None = None) -> Change:
    def change(scene: Scene, scores: Any) -> Any:
        ops = scene.ops
        top = ops.max(scores, -1)
        e = ops.exp(scores - top)
        more = constant if sink is None else ops.exp(sink - top)
        return e / (ops.sum(e, -1) + more)

    return change


def _twice(scene: Scene, scores: Any) -> Any:
    return scene.ops.softmax(scene.ops.softmax(scores, -1), -1)


# --- changes of weights, by their names in the reference -------------------------------------------------------------


def _weights(change: Callable[[Any], Any], *names: str) -> Callable[[dict[str, Any]], None]:
    def edit(state: dict[str, Any]) -> None:
        for name in names:
            state[name] = change(state[name])

    return edit


def _quantized(values: Any) -> Any:
    """8 bits, one scale a tensor."""
    step = np.abs(values).max() / 127
    return (np.round(values / step) * step).astype(values.dtype)


def _quantize_all(state: dict[str, Any]) -> None:
    for name, values in state.items():
        if values.ndim == 2:
            state[name] = _quantized(values)


def _quantize_layer(pattern: str) -> Callable[[dict[str, Any]], None]:
    def edit(state: dict[str, Any]) -> None:
        for name, values in state.items():
            if pattern in name and values.ndim == 2:
                state[name] = _quantized(values)

    return edit


_NAMES: dict[str, dict[str, str]] = {
    "square weight transposed": {
        "bert": "bert.encoder.layer.1.attention.output.dense.weight",
        "gpt2": "transformer.h.1.attn.c_proj.weight",
        "vit": "vit.encoder.layer.1.attention.output.dense.weight",
        "t5": "encoder.block.1.layer.0.SelfAttention.o.weight",
    },
    "bias dropped": {
        "bert": "bert.encoder.layer.2.intermediate.dense.bias",
        "gpt2": "transformer.h.2.mlp.c_fc.bias",
        "vit": "vit.encoder.layer.2.intermediate.dense.bias",
    },
    "norm weight dropped": {
        "bert": "bert.encoder.layer.1.output.LayerNorm.weight",
        "gpt2": "transformer.h.1.ln_2.weight",
        "vit": "vit.encoder.layer.1.layernorm_before.weight",
        "t5": "encoder.block.1.layer.1.layer_norm.weight",
    },
    "norm bias dropped": {
        "bert": "bert.encoder.layer.1.output.LayerNorm.bias",
        "gpt2": "transformer.h.1.ln_2.bias",
        "vit": "vit.encoder.layer.1.layernorm_before.bias",
    },
    "head bias dropped": {
        "bert": "cls.predictions.transform.dense.bias",
        "vit": "classifier.bias",
    },
    "key weight for query": {
        "bert": "bert.encoder.layer.2.attention.self.query.weight",
        "vit": "vit.encoder.layer.2.attention.attention.query.weight",
        "t5": "encoder.block.2.layer.0.SelfAttention.q.weight",
    },
}


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _edited(name: str, change: Callable[[Any], Any], *causes: str) -> Fault:
    names = _NAMES[name]
    return Fault(
        name, frozenset(causes), {model: _module(path) for model, path in names.items()},
        weights={model: _weights(change, path) for model, path in names.items()},
    )  # fmt: skip


def _swap_query_and_key(path: str) -> Callable[[dict[str, Any]], None]:
    other = path.replace("query", "key").replace(".q.", ".k.")

    def edit(state: dict[str, Any]) -> None:
        state[path] = state[other]

    return edit


# --- the table -------------------------------------------------------------------------------------------------------


def _inside(name: str, causes: str, within: dict[str, str], **changes: Any) -> Fault:
    return Fault(name, frozenset(causes.split()), within, **changes)


_ONE = (WHERE,)
_EMBEDDINGS = {"bert": "embeddings", "gpt2": "wte", "t5": "shared"}
_ACTIVATIONS = {
    "bert": "encoder.layer.0.intermediate", "gpt2": "h.0.mlp", "vit": "encoder.layer.0.intermediate",
    "t5": "encoder.block.0.layer.1",
}  # fmt: skip
_ERF_OR_TANH = {
    "bert": {"hidden_act": "gelu_new"}, "gpt2": {"activation_function": "gelu"}, "vit": {"hidden_act": "gelu_new"},
}  # fmt: skip
_RELU = {
    "bert": {"hidden_act": "relu"}, "gpt2": {"activation_function": "relu"}, "vit": {"hidden_act": "relu"},
    "t5": {"dense_act_fn": "gelu"},
}  # fmt: skip
_EPSILON = {
    "bert": {"layer_norm_eps": 1e-5}, "gpt2": {"layer_norm_epsilon": 1e-6}, "vit": {"layer_norm_eps": 1e-6},
    "t5": {"layer_norm_epsilon": 1e-5},
}  # fmt: skip
_FIRST_NORM = {
    "bert": "embeddings.LayerNorm", "gpt2": "h.0.ln_1", "vit": "encoder.layer.0.layernorm_before",
    "t5": "encoder.block.0.layer.0.layer_norm",
}  # fmt: skip
_RESIDUAL = {
    "bert": "encoder.layer.1.attention.output", "gpt2": "h.1", "vit": "encoder.layer.1", "t5": "encoder.block.1.layer.1"
}  # fmt: skip
_HEAD = {"bert": "output", "gpt2": "output", "vit": "output"}
_DROPOUT = {"bert": "embeddings", "gpt2": "drop", "vit": "embeddings", "t5": "encoder.dropout"}

FAULTS: tuple[Fault, ...] = (
    # attention: the scores and the softmax
    _inside("scale missing", "scaled-logits", attention(0, ("bert", "gpt2", "vit")), scores=_scaled(4.0)),
    _inside("scale missing in one layer", "scaled-logits", attention(1, ("bert", "gpt2", "vit")),
            scores=_scaled(4.0), layers=_ONE),
    _inside("scale added", "scaled-logits", {"t5": "encoder.block.0.layer.0"}, scores=_scaled(0.25)),
    _inside("softmax over queries in one layer", "wrong-axis", attention(1), softmax=_over(-2), layers=_ONE),
    _inside("softmax over heads in one layer", "wrong-axis", attention(1), softmax=_over(1), layers=_ONE),
    _inside("softmax twice in one layer", "double-softmax", attention(1), softmax=_twice, layers=_ONE),
    _inside("float16 softmax", "float16-rounding", attention(0), softmax=_in_precision("float16")),
    _inside("bfloat16 softmax", "bfloat16-rounding", attention(0), softmax=_in_precision("bfloat16")),
    _inside("bfloat16 scores", "bfloat16-rounding", attention(0), scores=_rounded("bfloat16")),
    _inside("1e-3 added to the sum", "epsilon-in-denominator", attention(0), softmax=_with_more_in_the_sum(1e-3)),
    _inside("a sink", "extra-sink", attention(0), softmax=_with_more_in_the_sum(sink=0.0)),
    _inside("scores capped at 5", "softcap", attention(0), scores=_capped(5.0)),
    # attention: the mask
    _inside("mask missing", "mask-missing padding-missing", attention(0, ("bert",)), mask=_masked(pad=_tokens)),
    _inside("mask missing", "mask-missing", decoder(0), mask=_masked(pad=_tokens, causal=_all)),
    _inside("mask inverted", "mask-inverted", attention(0, ("bert",)), mask=_masked(pad=lambda scene: ~scene.pad)),
    _inside("mask filled with -1e-9", "mask-fill mask-missing", attention(0, ("bert", "gpt2")),
            mask=lambda scene, _: _filled(scene, scene.allowed(), -1e-9)),
    _inside("mask filled with -10", "mask-fill", attention(0, ("bert", "gpt2")),
            mask=lambda scene, _: _filled(scene, scene.allowed(), -10.0)),
    _inside("causal mask missing", "causal-missing", decoder(0), mask=_masked(causal=_all)),
    _inside("padding mask missing", "padding-missing", decoder(0), mask=_masked(pad=_tokens)),
    _inside("causal, sees the next", "causal-off-by-one", decoder(0), mask=_masked(causal=_band(99, -1))),
    _inside("causal, not itself", "causal-off-by-one", decoder(0), mask=_masked(causal=_band(99, 1))),
    _inside("window of 4", "sliding-window", decoder(0), mask=_masked(causal=_band(3, 0))),
    _inside("padding on the other side", "padding-side", attention(0, TEXT),
            mask=_masked(pad=lambda scene: scene.pad[:, ::-1])),
    _inside("head layout", "head-layout", attention(1), patch="heads", layers=_ONE),
    # weights
    _edited("square weight transposed", np.transpose, "weight-transposed"),
    _edited("bias dropped", np.zeros_like, "missing-bias"),
    _edited("norm weight dropped", np.ones_like, "norm-weight-missing"),
    _edited("norm bias dropped", np.zeros_like, "missing-bias"),
    _edited("head bias dropped", np.zeros_like, "missing-bias"),
    Fault("key's weight for the query's", frozenset(), {
        model: _module(path) for model, path in _NAMES["key weight for query"].items()
    }, weights={model: _swap_query_and_key(path) for model, path in _NAMES["key weight for query"].items()}),
    Fault("one layer's weights in 8 bits", frozenset({"quantized-weights"}), {
        "bert": "encoder.layer.1.attention.self", "gpt2": "h.1.attn", "vit": "encoder.layer.1.attention.attention",
        "t5": "encoder.block.1.layer.0",
    }, weights={"bert": _quantize_layer("encoder.layer.1."), "gpt2": _quantize_layer("h.1."),
                "vit": _quantize_layer("encoder.layer.1."), "t5": _quantize_layer("encoder.block.1.")}),
    # settings and modules
    Fault("GELU: erf and tanh exchanged", frozenset({"gelu-approximation"}),
          {model: _ACTIVATIONS[model] for model in _ERF_OR_TANH}, config=_ERF_OR_TANH),
    Fault("another activation", frozenset({"wrong-activation"}), _ACTIVATIONS, config=_RELU),
    Fault("norm's epsilon", frozenset({"norm-epsilon"}), _FIRST_NORM, config=_EPSILON),
    Fault("dropout on", frozenset({"dropout-active"}), _DROPOUT, patch="dropout"),
    Fault("embeddings scaled", frozenset({"embedding-scale"}), _EMBEDDINGS, patch="embedding scale"),
    Fault("positions shifted by one", frozenset({"position-offset"}), {"bert": "embeddings", "gpt2": "wpe"},
          patch="positions"),
    Fault("relative bias missing", frozenset({"relative-bias"}), {"t5": "encoder.block.0.layer.0"},
          patch="relative bias"),
    Fault("residual missing", frozenset({"missing-residual"}), _RESIDUAL, patch="residual", layers=_ONE),
    # the softmax at the head
    Fault("double softmax at the head", frozenset({"double-softmax"}), _HEAD, head="twice"),
    Fault("softmax over the batch at the head", frozenset({"wrong-axis"}), _HEAD, head="batch"),
)  # fmt: skip


def faults_of(model: str) -> list[Fault]:
    """The faults of one model."""
    return [fault for fault in FAULTS if model in fault.within]
