"""A worked port: a transformer block trained in PyTorch, moved to Flax and to Keras, and three ways to get it wrong.

The model reads a handwritten digit as eight tokens, the rows of its picture; one attention head, a small MLP and a
classifier. The weights move with `polylogit.convert`; `polylogit.porting.compare` checks the ports activation by
activation and gradient by gradient. All three write their attention by hand, as people do, and mark what is worth
comparing with `tap`. The data comes with scikit-learn.

    python docs/porting/worked_port.py
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen
import jax
import keras
import numpy as np
import torch
from sklearn.datasets import load_digits

import polylogit
from polylogit.porting import Comparison, compare, record, tap

WIDTH, CLASSES = 32, 10
LAYERS = {"embed": WIDTH, "query": WIDTH, "key": WIDTH, "value": WIDTH, "mixed": WIDTH, "wide": 64, "narrow": WIDTH}


# --- the original ----------------------------------------------------------------------------------------------------


class TorchModel(torch.nn.Module):
    """The original."""

    def __init__(self) -> None:
        super().__init__()
        size = 8
        for name, width in LAYERS.items():
            self.add_module(name, torch.nn.Linear({"embed": 8, "narrow": 64}.get(name, size), width))
            size = WIDTH
        self.head = torch.nn.Linear(8 * WIDTH, CLASSES)

    def forward(self, x: Any) -> Any:
        """Pictures of the shape (batch, 8, 8) to probabilities."""
        x = self.embed(x)
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = tap("scores", query @ key.transpose(1, 2) / math.sqrt(WIDTH))
        attention = tap("attention", polylogit.softmax(scores))
        x = x + self.mixed(attention @ value)
        x = x + self.narrow(torch.relu(self.wide(x)))
        return polylogit.softmax(self.head(x.flatten(1)))


def train(pictures: Any, labels: Any, steps: int = 200) -> TorchModel:
    """Cross-entropy through `polylogit.log_softmax`, which takes the probabilities' logarithm without underflow."""
    torch.manual_seed(0)
    model = TorchModel()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    logits: list[Any] = []
    model.head.register_forward_hook(lambda _module, _inputs, output: logits.append(output))
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (128,))
        logits.clear()
        model(pictures[chosen])
        loss = -polylogit.log_softmax(logits[0])[torch.arange(128), labels[chosen]].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.head._forward_hooks.clear()
    return model.eval()


# --- the ports -------------------------------------------------------------------------------------------------------


class FlaxModel(flax.linen.Module):
    """The port to Flax; `mistake` breaks it."""

    mistake: str = ""

    @flax.linen.compact
    def __call__(self, x: Any) -> Any:
        """As the original."""
        layer = {name: flax.linen.Dense(width, name=name) for name, width in LAYERS.items()}
        x = layer["embed"](x)
        query, key, value = layer["query"](x), layer["key"](x), layer["value"](x)
        scale = 1.0 if self.mistake == "scale" else math.sqrt(WIDTH)
        scores = tap("scores", query @ key.swapaxes(1, 2) / scale)
        attention = tap("attention", polylogit.softmax(scores, axis=1 if self.mistake == "axis" else -1))
        x = x + layer["mixed"](attention @ value)
        x = x + layer["narrow"](jax.nn.relu(layer["wide"](x)))
        head = flax.linen.Dense(CLASSES, use_bias=self.mistake != "bias", name="head")
        return polylogit.softmax(head(x.reshape(len(x), -1)))


class KerasModel(keras.Model):
    """The port to Keras; `mistake` breaks it."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.parts = [keras.layers.Dense(width, name=name) for name, width in LAYERS.items()]
        self.head = keras.layers.Dense(CLASSES, name="head", use_bias=mistake != "bias")

    def call(self, x: Any) -> Any:
        """As the original."""
        layer = {part.name: part for part in self.parts}
        x = layer["embed"](x)
        query, key, value = layer["query"](x), layer["key"](x), layer["value"](x)
        scale = 1.0 if self.mistake == "scale" else math.sqrt(WIDTH)
        scores = tap("scores", query @ keras.ops.swapaxes(key, 1, 2) / scale)
        attention = tap("attention", polylogit.softmax(scores, axis=1 if self.mistake == "axis" else -1))
        x = x + layer["mixed"](attention @ value)
        x = x + layer["narrow"](keras.ops.relu(layer["wide"](x)))
        return polylogit.softmax(self.head(keras.ops.reshape(x, (-1, 8 * WIDTH))))


def to_flax(model: TorchModel, mistake: str = "") -> Any:
    """The port with the original's weights: torch keeps matrices transposed."""
    weights = polylogit.convert(model.state_dict(), "numpy")
    parts = {
        name: {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]} for name in (*LAYERS, "head")
    }
    if mistake == "bias":
        del parts["head"]["bias"]
    return record(FlaxModel(mistake), {"params": polylogit.convert(parts, "jax")})


def to_keras(model: TorchModel, mistake: str = "") -> Any:
    """The port with the original's weights."""
    weights = polylogit.convert(model.state_dict(), "numpy")
    port = KerasModel(mistake)
    port(np.zeros((1, 8, 8), np.float32))  # Keras makes the weights when it sees an input
    for part in (*port.parts, port.head):
        both = [weights[f"{part.name}.weight"].T, weights[f"{part.name}.bias"]]
        part.set_weights(both if part.use_bias else both[:1])
    return record(port)


# --- comparing -------------------------------------------------------------------------------------------------------


def digits() -> tuple[Any, Any]:
    """Pictures between 0 and 1, and labels, as torch tensors."""
    data = load_digits()
    return torch.tensor(data.images / 16.0, dtype=torch.float32), torch.tensor(data.target)


def compared(model: TorchModel, port: Any, pictures: Any) -> Comparison:
    """The port against the original on 32 pictures, with gradients for random cotangents."""
    cotangent = np.random.default_rng(0).normal(size=(32, CLASSES)).astype(np.float32)
    return compare(record(model), port, inputs=pictures[:32], cotangent=cotangent)


def main() -> None:
    """Train, port, compare, break, and compare again."""
    pictures, labels = digits()
    model = train(pictures[397:], labels[397:])
    accuracy = (model(pictures[:397]).argmax(-1) == labels[:397]).float().mean()
    print(f"test accuracy of the original: {accuracy:.1%}")
    for name, port in (("Flax", to_flax), ("Keras", to_keras)):
        print(f"\n{name}\n{compared(model, port(model), pictures)}")
        for mistake in ("scale", "axis", "bias"):
            found = compared(model, port(model, mistake), pictures)
            assert found.cause is not None
            print(f"\n{name}, {mistake}: first at {found.first_divergence!r}, {found.cause.name}")
            print(f"  {found.cause.explanation}\n  fix: {found.cause.fix}")


if __name__ == "__main__":
    main()
