"""GPT-2 of transformers in PyTorch, its port to Flax and one to Keras: each is wrong, is found out, and is repaired.

    pip install ".[ports]"
    python docs/porting/transformers_port.py

The weights are random and nothing is downloaded. The Flax port is transformers' own; the Keras port is written here.
"""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import torch
import transformers
from keras import ops

from polylogit.porting import compare, isolate, record

LAYERS, HEADS, WIDTH, VOCABULARY, POSITIONS = 4, 4, 64, 100, 32


# --- the original ----------------------------------------------------------------------------------------------------


def gpt2() -> Any:
    """The original, which divides the scores of each layer by the layer's number as well."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        initializer_range=0.15,
        scale_attn_by_inverse_layer_idx=True,
        use_cache=False,
    )
    return transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()


def sentences() -> dict[str, Any]:
    """Four sentences of different lengths, padded on the right."""
    tokens = torch.randint(VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([[12], [9], [12], [7]])
    return {"input_ids": tokens, "attention_mask": (torch.arange(12) < lengths).long()}


# --- the port to Flax ------------------------------------------------------------------------------------------------


def to_flax(model: Any) -> Any:
    """By transformers' own conversion."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return transformers.FlaxGPT2LMHeadModel.from_pretrained(folder, from_pt=True)


def repaired(port: Any) -> Any:
    """The same port with the scale of each layer put into its queries, which are the first third of c_attn."""
    port.params = copy.deepcopy(port.params)
    for layer, block in port.params["transformer"]["h"].items():
        queries = block["attn"]["c_attn"]
        scale = 1 / (int(layer) + 1)
        queries["kernel"] = queries["kernel"].at[:WIDTH].multiply(scale)  # Flax keeps this one (out, in)
        queries["bias"] = queries["bias"].at[:WIDTH].multiply(scale)
    return port


# --- the port to Keras -----------------------------------------------------------------------------------------------


class Attention(keras.layers.Layer):
    """Of one layer; `causal` says whether a token may not see the next."""

    def __init__(self, layer: int, causal: bool) -> None:
        super().__init__(name="attn")
        self.scale, self.causal = (WIDTH / HEADS) ** -0.5 / (layer + 1), causal
        self.c_attn = keras.layers.Dense(3 * WIDTH, name="c_attn")
        self.c_proj = keras.layers.Dense(WIDTH, name="c_proj")

    def call(self, x: Any, attention_mask: Any) -> Any:
        """As the original."""
        batch, length, _ = x.shape
        parts = ops.reshape(self.c_attn(x), (batch, length, 3, HEADS, WIDTH // HEADS))
        query, key, value = ops.transpose(parts, (2, 0, 3, 1, 4))
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) * self.scale
        seen = ops.cast(attention_mask, "bool")[:, None, None, :]
        if self.causal:
            seen = ops.logical_and(seen, ops.tril(ops.ones((length, length), "bool")))
        weights = ops.softmax(ops.where(seen, scores, -1e9))
        return self.c_proj(ops.reshape(ops.swapaxes(ops.matmul(weights, value), 1, 2), x.shape))


class MLP(keras.layers.Layer):
    """The other half of a layer; GELU is exact or approximated by tanh."""

    def __init__(self, approximate: bool) -> None:
        super().__init__(name="mlp")
        self.approximate = approximate
        self.c_fc = keras.layers.Dense(4 * WIDTH, name="c_fc")
        self.c_proj = keras.layers.Dense(WIDTH, name="c_proj")

    def call(self, x: Any) -> Any:
        """As the original."""
        return self.c_proj(keras.activations.gelu(self.c_fc(x), approximate=self.approximate))


class Block(keras.layers.Layer):
    """One layer."""

    def __init__(self, layer: int, causal: bool, approximate: bool) -> None:
        super().__init__(name=f"h_{layer}")
        self.ln_1 = keras.layers.LayerNormalization(epsilon=1e-5, name="ln_1")
        self.attn = Attention(layer, causal)
        self.ln_2 = keras.layers.LayerNormalization(epsilon=1e-5, name="ln_2")
        self.mlp = MLP(approximate)

    def call(self, x: Any, attention_mask: Any) -> Any:
        """As the original."""
        x = x + self.attn(self.ln_1(x), attention_mask)
        return x + self.mlp(self.ln_2(x))


class KerasGPT2(keras.Model):
    """The port, right or with one or two mistakes."""

    def __init__(self, causal: bool, approximate: bool) -> None:
        super().__init__(name="transformer")
        self.wte = keras.layers.Embedding(VOCABULARY, WIDTH, name="wte")
        self.wpe = keras.layers.Embedding(POSITIONS, WIDTH, name="wpe")
        self.h = [Block(layer, causal, approximate) for layer in range(LAYERS)]
        self.ln_f = keras.layers.LayerNormalization(epsilon=1e-5, name="ln_f")

    def call(self, input_ids: Any, attention_mask: Any) -> Any:
        """As the original."""
        x = self.wte(input_ids) + self.wpe(ops.arange(input_ids.shape[1])[None])
        for block in self.h:
            x = block(x, attention_mask)
        return {"logits": ops.matmul(self.ln_f(x), ops.transpose(self.wte.embeddings))}


def to_keras(model: Any, causal: bool = True, approximate: bool = True) -> Any:
    """The port with the original's weights, which have the same names and the same layout."""
    port = KerasGPT2(causal, approximate)
    port(**{name: value.numpy() for name, value in sentences().items()})  # Keras makes the weights when it sees inputs
    weights = model.state_dict()
    words = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight", "bias": "bias"}
    for weight in port.weights:
        *parts, last = weight.path.replace("/h_", "/h/").split("/")
        weight.assign(weights[".".join([*parts, words[last]])].numpy())
    return port


# --- comparing -------------------------------------------------------------------------------------------------------

NAMES = {"transformer.h.*": "h_*"}  # what Keras calls a layer; a port without such names is compared by the original's


def outputs(original: Any, port: Any) -> None:
    """In one line."""
    print(compare(original, port, inputs=sentences()))


def recorded(original: Any, port: Any) -> None:
    """With all activations: the first that differs, and why."""
    found = compare(record(original), record(port), inputs=sentences(), names=NAMES)
    states = [one.status for one in found.activations]
    print(
        f"{len(states) - states.count('agrees')} of {len(states)} activations differ\nfirst: {found.first_divergence}"
    )
    print(f"{found.cause.name}: {found.cause.explanation}\nfix: {found.cause.fix}")


def isolated(original: Any, port: Any) -> None:
    """Module by module, each on the original's own inputs: all that differ, and why."""
    found = isolate(original, port, sentences())
    for one in found.activations:
        if one.status == "disagrees":
            print(f"{one.name}, {found.places.get(one.name, 'itself')}\n  {one.verdict.cause.explanation}")


def main() -> None:
    """The ports as they come, what is said of them, and the ports repaired."""
    original = gpt2()
    flax = to_flax(original)
    keras_port = to_keras(original, causal=False, approximate=False)
    for name, port in (("Flax", flax), ("Keras", keras_port)):
        for ask in (outputs, recorded, isolated):
            print(f"\n[{name}, {ask.__name__}]")
            ask(original, port)
    print("\n[Flax, repaired]")
    outputs(original, repaired(flax))
    print("\n[Keras, with the mask]")
    outputs(original, to_keras(original, approximate=False))
    print("\n[Keras, repaired]")
    outputs(original, to_keras(original))
    print("\n[end]")


if __name__ == "__main__":
    main()
