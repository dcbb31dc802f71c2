"""One small transformer encoder in PyTorch, Flax (Linen and NNX) and Keras, with the same weights and other names.

Each is what a person would write in its framework; nothing of polylogit is in them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

WIDTH, HEADS, LENGTH, LAYERS = 16, 2, 5, 2
X = np.random.default_rng(0).standard_normal((3, LENGTH, WIDTH)).astype(np.float32)
# What a layer is called in PyTorch, and in the others.
NAMES = {
    "norm1": "ln_a",
    "query": "q",
    "key": "k",
    "value": "v",
    "out": "o",
    "norm2": "ln_b",
    "up": "fc",
    "down": "proj",
}


@functools.cache
def torch_class() -> Any:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
            self.value, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            split = [one(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in (self.query, self.key, self.value)]
            scores = split[0] @ split[1].transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
            return self.out((torch.softmax(scores, -1) @ split[2]).transpose(1, 2).flatten(-2))

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attention = torch.nn.LayerNorm(WIDTH), Attention()
            self.norm2, self.up = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 4 * WIDTH)
            self.act, self.down = torch.nn.GELU(), torch.nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.down(self.act(self.up(self.norm2(x))))

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    return Encoder


def torch_encoder() -> Any:
    """The original, with weights off their start."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = torch_class()()
        for one in model.parameters():
            one += 0.1 * torch.randn(one.shape, generator=generator)
    return model.eval()


def weights(model: Any) -> dict[str, Any]:
    """The original's weights by the names of the ports: "block_0.attn.q" -> (matrix or scale, bias)."""
    state = {name: one.detach().numpy() for name, one in model.named_parameters()}
    found = {}
    for name in state:
        path = name.removesuffix(".weight")
        if path == name:
            continue
        *above, last = path.replace("blocks.", "block_").replace("attention", "attn").split(".")
        matrix = state[name].T if state[name].ndim == 2 else state[name]
        found[".".join([*above, NAMES[last]])] = matrix, state[f"{path}.bias"]
    return found


def linen_encoder(fault: str = "") -> Any:
    import flax.linen as nn
    import jax.numpy as jnp

    class Attn(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            q, k, v = (nn.Dense(WIDTH, name=name)(x).reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for name in "qkv")
            scores = q @ k.swapaxes(-1, -2) / (1.0 if fault == "scale" else (WIDTH // HEADS) ** 0.5)
            mixed = nn.softmax(scores, axis=-2 if fault == "axis" else -1) @ v
            return nn.Dense(WIDTH, name="o")(mixed.swapaxes(1, 2).reshape(x.shape))

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            mixed = Attn(name="attn")(nn.LayerNorm(epsilon=1e-5, name="ln_a")(x))
            x = mixed if fault == "residual" else x + mixed
            hidden = nn.Dense(4 * WIDTH, name="fc")(
                nn.LayerNorm(epsilon=1e-6 if fault == "epsilon" else 1e-5, name="ln_b")(x)
            )
            return x + nn.Dense(WIDTH, name="proj")(nn.gelu(hidden, approximate=fault == "gelu"))

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for layer in range(LAYERS):
                x = Block(name=f"block_{layer}")(x)
            return jnp.asarray(x)

    return Encoder()


def linen_variables(found: dict[str, Any]) -> dict[str, Any]:
    import jax.numpy as jnp

    tree: dict[str, Any] = {}
    for path, (matrix, bias) in found.items():
        *above, last = path.split(".")
        node = functools.reduce(lambda at, name: at.setdefault(name, {}), above, tree)
        node[last] = {"kernel" if matrix.ndim == 2 else "scale": jnp.asarray(matrix), "bias": jnp.asarray(bias)}
    return {"params": tree}


def nnx_encoder(found: dict[str, Any]) -> Any:
    from flax import nnx

    class Attn(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.q, self.k, self.v, self.o = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(4))

        def __call__(self, x: Any) -> Any:
            q, k, v = (one(x).reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for one in (self.q, self.k, self.v))
            mixed = nnx.softmax(q @ k.swapaxes(-1, -2) / (WIDTH // HEADS) ** 0.5) @ v
            return self.o(mixed.swapaxes(1, 2).reshape(x.shape))

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.ln_a, self.attn = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs), Attn(rngs)
            self.ln_b, self.fc = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs), nnx.Linear(WIDTH, 64, rngs=rngs)
            self.proj = nnx.Linear(64, WIDTH, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = x + self.attn(self.ln_a(x))
            return x + self.proj(nnx.gelu(self.fc(self.ln_b(x)), approximate=False))

    class Encoder(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.block_0, self.block_1 = Block(rngs), Block(rngs)

        def __call__(self, x: Any) -> Any:
            return self.block_1(self.block_0(x))

    import jax.numpy as jnp

    model = Encoder(nnx.Rngs(0))
    for path, (matrix, bias) in found.items():
        part = functools.reduce(getattr, path.split("."), model)
        kernel: Any = part.kernel if matrix.ndim == 2 else part.scale  # type: ignore[attr-defined]
        kernel[...], part.bias[...] = jnp.asarray(matrix), jnp.asarray(bias)  # type: ignore[attr-defined]
    return model


def keras_encoder(found: dict[str, Any], *, scale: float = (WIDTH // HEADS) ** 0.5) -> Any:
    """A functional model, whose attention is of one kind of layer with layers inside."""
    import keras

    class Attn(keras.layers.Layer):
        def __init__(self, **keywords: Any) -> None:
            super().__init__(**keywords)
            self.q, self.k, self.v, self.o = (keras.layers.Dense(WIDTH) for _ in range(4))

        def build(self, shape: Any) -> None:
            for one in (self.q, self.k, self.v, self.o):
                one.build(shape)

        def call(self, x: Any) -> Any:
            ops = keras.ops
            q, k, v = (
                ops.transpose(ops.reshape(one(x), (-1, LENGTH, HEADS, WIDTH // HEADS)), (0, 2, 1, 3))
                for one in (self.q, self.k, self.v)
            )
            scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / scale
            mixed = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
            return self.o(ops.reshape(mixed, (-1, LENGTH, WIDTH)))

    x = given = keras.Input((LENGTH, WIDTH))
    for layer in range(LAYERS):
        norms = [keras.layers.LayerNormalization(epsilon=1e-5, name=f"block_{layer}_ln_{name}") for name in "ab"]
        x = keras.layers.Add()([x, Attn(name=f"block_{layer}_attn")(norms[0](x))])
        hidden = keras.layers.Dense(4 * WIDTH, activation="gelu", name=f"block_{layer}_fc")(norms[1](x))
        x = keras.layers.Add()([x, keras.layers.Dense(WIDTH, name=f"block_{layer}_proj")(hidden)])
    model = keras.Model(given, x)
    for path, values in found.items():
        block, *rest = path.split(".")
        layer = model.get_layer(f"{block}_{rest[0]}")
        (getattr(layer, rest[1]) if len(rest) > 1 else layer).set_weights(list(values))
    return model
