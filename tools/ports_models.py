"""The models that `ports` ports: small, with random weights large enough for a fault to show.

Knows PyTorch and transformers, and no fault.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from typing import Any

import numpy as np
import torch

__all__ = ["MODELS", "Model", "Torch", "depth", "inputs", "original", "pad", "place", "same_module", "with_weights"]

BATCH, TOKENS, TARGETS, VOCABULARY, WIDTH = 4, 12, 10, 100, 64
_LENGTHS = np.array([[12], [9], [7], [5]])  # of the batch's rows; the rest is padding


@dataclasses.dataclass(frozen=True)
class Model:
    """One row of the table: how a model is made in each framework, and what it is called on."""

    kind: str  # the class's first words: Bert, GPT2
    task: str  # and its last
    config: dict[str, Any]
    # What record() of the Flax module is called on beside `inputs`: arguments that the class would have made.
    flax_more: dict[str, Any] = dataclasses.field(default_factory=dict)
    names: dict[str, str] = dataclasses.field(default_factory=dict)  # the Flax names of the reference's activations
    # Activations that mean the same and have another layout or shape in Flax; `--drop` leaves them out.
    other_shapes: str = "$^"


def _positions() -> np.ndarray:
    return np.broadcast_to(np.arange(TOKENS), (BATCH, TOKENS)).copy()


MODELS = {
    "bert": Model(
        "Bert", "ForMaskedLM",
        {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4,
         "intermediate_size": 2 * WIDTH, "max_position_embeddings": 32},
        {"position_ids": _positions(), "token_type_ids": np.zeros((BATCH, TOKENS), np.int64), "head_mask": None},
    ),
    "gpt2": Model(
        "GPT2", "LMHeadModel",
        {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 4, "n_head": 4, "n_positions": 32, "use_cache": False,
         "bos_token_id": 0, "eos_token_id": 0},
        {"position_ids": _positions()}, {"transformer.drop": "transformer.dropout"},
    ),
    "vit": Model(
        "ViT", "ForImageClassification",
        {"hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH,
         "image_size": 24, "patch_size": 6, "num_labels": 10, "hidden_dropout_prob": 0.1,
         "attention_probs_dropout_prob": 0.1},
        other_shapes=r"patch_embeddings\.projection",
    ),
    "t5": Model(
        "T5", "ForConditionalGeneration",
        {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 16, "d_ff": 2 * WIDTH, "num_layers": 4, "num_heads": 4,
         "use_cache": False, "decoder_start_token_id": 0},
        other_shapes=r"EncDecAttention\.1$|decoder\.block\.\d\.3$|block\.\d\.layer\.\d\.1$",
    ),
}  # fmt: skip


def inputs(name: str) -> dict[str, Any]:
    """What every side is called on."""
    rng = np.random.default_rng(1)
    if name == "vit":
        return {"pixel_values": rng.normal(size=(BATCH, 3, 24, 24)).astype(np.float32)}
    given = {"input_ids": rng.integers(1, VOCABULARY, (BATCH, TOKENS)), "attention_mask": pad(name).astype(np.int64)}
    if name == "t5":
        given["decoder_input_ids"] = rng.integers(1, VOCABULARY, (BATCH, TARGETS))
        given["decoder_attention_mask"] = pad(name, "decoder").astype(np.int64)
    return given


def pad(name: str, stack: str = "") -> np.ndarray:
    """True where there is something to attend to."""
    if name == "vit":
        return np.ones((BATCH, 17), bool)
    return np.arange(TARGETS if stack == "decoder" else TOKENS) < _LENGTHS


def depth(name: str) -> int:
    """How many layers each stack has."""
    config = MODELS[name].config
    return next(config[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if key in config)


def configured(name: str, **changes: Any) -> Any:
    """The model's configuration, with some settings changed."""
    import transformers

    one = MODELS[name]
    return getattr(transformers, f"{one.kind}Config")(**{**one.config, **changes})


def original(name: str, *, std: float = 0.15, attention: str = "eager", **changes: Any) -> Any:
    """The model in PyTorch; `std` is that of its matrices. Seeds are fixed."""
    import transformers

    one = MODELS[name]
    cls = getattr(transformers, one.kind + one.task)
    model = cls._from_config(configured(name, **changes), attn_implementation=attention).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            moved = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(moved * std)
            else:  # biases around 0, the weights of norms around 1: where they start
                parameter.add_(0.2 * moved)
    return model


def with_weights(model: Any, edit: Any) -> Any:
    """A copy whose weights were changed; `edit` gets them by name, as NumPy arrays."""
    model = copy.deepcopy(model)
    state = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    edit(state)
    model.load_state_dict({key: torch.tensor(np.ascontiguousarray(value)) for key, value in state.items()})
    return model


class Probabilities(torch.nn.Module):
    """A model with the softmax of its logits at the end."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Any) -> Any:
        return torch.softmax(self.model(**given)["logits"], -1)


# --- where in a model an activation is -------------------------------------------------------------------------------

_LAYER = re.compile(r"\b(?:layer|layers|h|block|blocks)[._](\d+)")
# The part of a layer (or of the model) that a name belongs to: the first that is found in it.
_PARTS = (
    (re.compile(r"embedding|\bwte\b|\bwpe\b|\bdrop(out)?\b|\bshared\b|embed_tokens|position_ids"), "embeddings"),
    (re.compile(r"norm|\bln_"), "norm"),
    (re.compile(r"att(entio)?n|query|key|value"), "attention"),
    (re.compile(r"intermediate|mlp|output\.dense|dense"), "mlp"),
    (re.compile(r"classifier|pooler|\bcls\b|lm_head|^output|logits|probabilities"), "head"),
)
_T5 = re.compile(r"\b(encoder|decoder)\.block\.(\d+)\.layer\.(\d+)(\.layer_norm)?")


def place(name: str) -> tuple[str, int, str]:
    """Encoder or decoder, the layer (-1 outside of one), and the part: attention, mlp, norm, embeddings, head, block.

    Two activations are in the same module if these are equal.
    """
    if found := _T5.search(name):
        parts = {"encoder": ("attention", "mlp"), "decoder": ("attention", "cross-attention", "mlp")}[found[1]]
        return found[1], int(found[2]), "norm" if found[4] else parts[int(found[3])]
    layer = int(found[1]) if (found := _LAYER.search(name)) else -1
    inner = name[found.end() :] if found else name
    if layer >= 0 and re.search(r"output\.(LayerNorm|layer_?norm)", inner):
        return "", layer, "norm"
    pattern = [(one, part) for one, part in _PARTS if not (layer >= 0 and part in ("embeddings", "head"))]
    part = next((part for one, part in pattern if one.search(inner)), "block" if layer >= 0 else "head")
    return "", layer, part


def same_module(model: str, first: str, fault: str) -> bool:
    """Whether the first divergence is where the fault is: inside that module, or in the same part of the same layer.

    What a softmax call takes and returns is in the attention whose call it is, or in the head.
    """
    stem = re.sub(r"\bh_(\d)", r"h.\1", first.replace("/", "."))  # as Keras names it
    stem = re.sub(r"^model\.|^\(model\)", "", stem)
    stem = re.sub(r"^(bert|transformer|vit)\.", "", stem)
    if call := re.match(r"softmax:(\d+)\.", stem):
        calls = softmax_calls(model)
        number = int(call[1]) - 1
        return place(fault) == (calls[number] if number < len(calls) else ("", -1, "head"))
    if stem == fault or re.match(re.escape(fault) + r"[.:#]", stem):
        return True
    return place(stem) == place(fault)


def softmax_calls(model: str) -> list[tuple[str, int, str]]:
    """The places of a model's softmax calls, in order of computation."""
    layers = range(depth(model))
    if model != "t5":
        return [("", layer, "attention") for layer in layers]
    parts = ("attention", "cross-attention")
    return [("encoder", layer, "attention") for layer in layers] + [
        ("decoder", layer, part) for layer in layers for part in parts
    ]


class Torch:
    """A port that stays in PyTorch: fused attention, fewer bits."""

    def __init__(self, name: str, model: Any, label: str) -> None:
        self.name, self.model, self.framework = name, model, label
        self.fault = None
        self.names: dict[str, str] = {}
        self.outputs = model
        self.record_inputs: dict[str, Any] | None = None  # what `inputs` has is all

    def recorded(self, record: Any) -> Any:
        return record(self.model)

    def broken(self) -> Any:
        return contextlib.nullcontext()
