"""GPT-2 written again in Keras, on the backend that KERAS_BACKEND names, with the faults of `ports` inside.

Here the port's code is ours, so that each fault is a line of it; the weights are those of the original.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops
from ports_faults import WHERE, Fault, Ops, Scene
from ports_models import MODELS, VOCABULARY, WIDTH, depth, pad

__all__ = ["Keras"]

OPS = Ops(
    array=ops.convert_to_tensor,
    softmax=lambda x, axis: ops.softmax(x, axis=axis),
    cast=ops.cast,
    where=ops.where,
    exp=ops.exp,
    tanh=ops.tanh,
    sum=lambda x, axis: ops.sum(x, axis=axis, keepdims=True),
    max=lambda x, axis: ops.max(x, axis=axis, keepdims=True),
)
_HEADS = 4
_PATCHES = ("", "heads", "embedding scale", "positions", "residual")
_ACTIVATIONS = {
    "gelu_new": lambda x: ops.gelu(x, approximate=True),
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "relu": ops.relu,
}


class _Attention(keras.layers.Layer):
    def __init__(self, layer: int, fault: Fault | None) -> None:
        super().__init__(name="attn")
        self.here = fault if fault is not None and fault.in_layer(layer) else None
        self.c_attn = keras.layers.Dense(3 * WIDTH, name="c_attn")
        self.c_proj = keras.layers.Dense(WIDTH, name="c_proj")

    def _split(self, x: Any) -> Any:
        size = WIDTH // _HEADS
        if self.here is not None and self.here.patch == "heads":
            return ops.transpose(ops.reshape(x, (*x.shape[:2], size, _HEADS)), (0, 3, 1, 2))
        return ops.transpose(ops.reshape(x, (*x.shape[:2], _HEADS, size)), (0, 2, 1, 3))

    def call(self, x: Any, tokens: Any) -> Any:
        q, k, v = (self._split(part) for part in ops.split(self.c_attn(x), 3, axis=-1))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / (WIDTH // _HEADS) ** 0.5
        scene = Scene(OPS, pad("gpt2"), x.shape[1], causal=True)
        causal = ops.convert_to_tensor(scene.allowed_by_causality)
        allowed = ops.logical_and(ops.cast(tokens, "bool")[:, None, None, :], causal)
        mask = ops.where(allowed, 0.0, -1e9)
        fault = self.here
        if fault is not None and fault.mask:
            mask = fault.mask(scene, mask)
        if fault is not None and fault.scores:
            scores = fault.scores(scene, scores)
        change = fault.softmax if fault is not None else None
        weights = change(scene, scores + mask) if change else ops.softmax(scores + mask, axis=-1)
        context = ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), x.shape)
        return self.c_proj(context)


class _Mlp(keras.layers.Layer):
    def __init__(self, activation: str) -> None:
        super().__init__(name="mlp")
        self.c_fc = keras.layers.Dense(4 * WIDTH, name="c_fc")
        self.c_proj = keras.layers.Dense(WIDTH, name="c_proj")
        self.act = _ACTIVATIONS[activation]

    def call(self, x: Any) -> Any:
        return self.c_proj(self.act(self.c_fc(x)))


class _Block(keras.layers.Layer):
    def __init__(self, layer: int, fault: Fault | None, settings: dict[str, Any]) -> None:
        super().__init__(name=f"h_{layer}")
        self.residual = not (fault is not None and fault.patch == "residual" and layer == WHERE)
        self.ln_1 = keras.layers.LayerNormalization(epsilon=settings["layer_norm_epsilon"], name="ln_1")
        self.attn = _Attention(layer, fault)
        self.ln_2 = keras.layers.LayerNormalization(epsilon=settings["layer_norm_epsilon"], name="ln_2")
        self.mlp = _Mlp(settings["activation_function"])

    def call(self, x: Any, tokens: Any) -> Any:
        x = x + self.attn(self.ln_1(x), tokens)
        inner = self.mlp(self.ln_2(x))
        return x + inner if self.residual else inner


class _GPT2(keras.Model):
    def __init__(self, fault: Fault | None) -> None:
        super().__init__(name="transformer")
        changes = fault.config.get("gpt2", {}) if fault else {}
        settings = {"layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", **changes}
        self.patch = fault.patch if fault else ""
        self.head = fault.head if fault else ""
        self.wte = keras.layers.Embedding(VOCABULARY, WIDTH, name="wte")
        self.wpe = keras.layers.Embedding(MODELS["gpt2"].config["n_positions"], WIDTH, name="wpe")
        self.h = [_Block(layer, fault, settings) for layer in range(depth("gpt2"))]
        self.ln_f = keras.layers.LayerNormalization(epsilon=settings["layer_norm_epsilon"], name="ln_f")

    def call(self, input_ids: Any, attention_mask: Any = None) -> Any:
        positions = np.arange(input_ids.shape[1])[None] + (self.patch == "positions")
        x = self.wte(input_ids)
        if self.patch == "embedding scale":
            x = x * WIDTH**0.5
        x = x + self.wpe(ops.convert_to_tensor(positions))
        for block in self.h:
            x = block(x, attention_mask)
        logits = ops.matmul(self.ln_f(x), ops.transpose(self.wte.embeddings))
        if not self.head:
            return {"logits": logits}
        if self.head == "batch":
            return ops.softmax(logits, axis=0)
        return ops.softmax(ops.softmax(logits, axis=-1), axis=-1)


class Keras:
    """A port, with a fault or without one."""

    names: dict[str, str] = {}  # noqa: RUF012
    record_inputs: dict[str, Any] | None = None  # what the original takes is all

    def __init__(self, name: str, torch_model: Any, fault: Fault | None = None, _: str = "float32") -> None:
        self.name, self.fault = name, fault
        self.framework = f"Keras on {keras.backend.backend()}"
        self.model = _GPT2(fault)
        # An array of NumPy becomes one of the backend, which builds the layers.
        self.model(np.ones((4, 12), "int32"), attention_mask=np.ones((4, 12), "int32"))
        state = {key: value.numpy() for key, value in torch_model.state_dict().items()}
        for weight in self.model.weights:
            weight.assign(state[_original_name(weight.path)])

    @staticmethod
    def ports(name: str) -> bool:
        """Whether there is a port of this model."""
        return name == "gpt2"

    @staticmethod
    def offers(_: str, fault: Fault) -> bool:
        """Whether this fault can be put in here."""
        return fault.patch in _PATCHES

    @property
    def outputs(self) -> Any:
        return self.model

    def recorded(self, record: Any) -> Any:
        return record(self.model)

    def broken(self) -> Any:
        return contextlib.nullcontext()


def _original_name(path: str) -> str:
    """What a weight is called in PyTorch."""
    words = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"}
    *parts, last = path.replace("/h_", "/h/").split("/")
    return ".".join([*parts, words.get(last, last)])
