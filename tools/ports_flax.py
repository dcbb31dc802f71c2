"""The ports of `ports` to Flax, by transformers' own conversion, and how a fault is put into them.

A fault is put in for a time: the classes and functions that a module of transformers looks up by name are replaced
within a block. A subclass is put in a class's place, so that what records a model sees the same tree.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ports_faults import WHERE, Fault, Ops, Scene
from ports_models import MODELS, pad

__all__ = ["Flax"]

OPS = Ops(
    array=jnp.asarray,
    softmax=lambda x, axis: jax.nn.softmax(x, axis=axis),
    cast=lambda x, dtype: x.astype(dtype),
    where=jnp.where,
    exp=jnp.exp,
    tanh=jnp.tanh,
    sum=lambda x, axis: jnp.sum(x, axis=axis, keepdims=True),
    max=lambda x, axis: jnp.max(x, axis=axis, keepdims=True),
)


class _Probabilities(nn.Module):
    """A model with a softmax at the end: the right one, or one of those that a fault names."""

    model: nn.Module
    fault: str = ""

    @nn.compact
    def __call__(self, **given: Any) -> Any:
        return _head(self.model(**given)["logits"], self.fault)


def _head(logits: Any, fault: str) -> Any:
    if fault == "batch":
        return jax.nn.softmax(logits, axis=0)
    once = jax.nn.softmax(logits, axis=-1)
    return jax.nn.softmax(once, axis=-1) if fault == "twice" else once


class Flax:
    """A port, with a fault or without one."""

    framework = "Flax"

    def __init__(self, name: str, torch_model: Any, fault: Fault | None = None, dtype: str = "float32") -> None:
        import transformers

        self.name, self.fault = name, fault
        one = MODELS[name]
        cls = getattr(transformers, f"Flax{one.kind}{one.task}")
        with tempfile.TemporaryDirectory() as folder:
            torch_model.save_pretrained(folder)
            self.model = cls.from_pretrained(folder, from_pt=True, dtype=getattr(jnp, dtype))
        if dtype != "float32":
            self.model.params = jax.tree.map(lambda x: x.astype(dtype), self.model.params)
        if fault is not None and name in fault.config:
            config = copy.deepcopy(self.model.config)
            for key, value in fault.config[name].items():
                setattr(config, key, value)
            self.model = copy.copy(self.model)
            self.model._config, self.model._module = config, self.model.module.clone(config=config)

    @property
    def outputs(self) -> Any:
        """The port as a user calls it."""
        if self.fault is not None and self.fault.head:
            model, head = self.model, self.fault.head
            return lambda **given: _head(jnp.asarray(model(**given)["logits"]), head)
        if self._drops:
            return functools.partial(self.model, train=True, dropout_rng=jax.random.PRNGKey(0))
        return self.model

    @property
    def _drops(self) -> bool:
        return self.fault is not None and self.fault.patch == "dropout"

    def recorded(self, record: Any) -> Any:
        """The recorder of the module."""
        module, params = self.model.module, self.model.params
        if self.fault is not None and self.fault.head:
            return record(_Probabilities(module, self.fault.head), {"params": {"model": params}})
        more = {"deterministic": False, "rngs": {"dropout": jax.random.PRNGKey(0)}} if self._drops else {}
        return record(module, {"params": params}, **more)

    @property
    def record_inputs(self) -> dict[str, Any]:
        """What the module needs that the class would have made."""
        return MODELS[self.name].flax_more

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Within the block, calling the port has the fault."""
        with contextlib.ExitStack() as stack:
            for owner, attribute, value in _patches(self.name, self.fault):
                stack.callback(setattr, owner, attribute, getattr(owner, attribute))
                setattr(owner, attribute, value)
            yield


# --- what is replaced ------------------------------------------------------------------------------------------------


def _transformers(name: str) -> Any:
    return importlib.import_module(f"transformers.models.{name}.modeling_flax_{name}")


def _patches(name: str, fault: Fault | None) -> Iterator[tuple[Any, str, Any]]:
    if fault is None:
        return
    module = _transformers(name)
    if fault.mask or fault.scores or fault.softmax:
        yield module, "dot_product_attention_weights", _attention(name, fault)
    if make := _WRITTEN.get((fault.patch, name)) or _WRITTEN.get((fault.patch, "")):
        yield from make(module)


def _attention(name: str, fault: Fault) -> Callable[..., Any]:
    """Flax's function with a fault inside; calls are counted, since it is not told its layer."""
    calls = iter(range(10**6))
    layers = MODELS[name].config.get("num_hidden_layers") or MODELS[name].config["n_layer"]

    def weights(query: Any, key: Any, bias: Any = None, **_: Any) -> Any:
        layer = next(calls) % layers
        here = fault.in_layer(layer)
        scene = Scene(OPS, pad(name), query.shape[1], causal=name == "gpt2")
        scores = jnp.einsum("...qhd,...khd->...hqk", query / np.sqrt(query.shape[-1]).astype(np.float32), key)
        if here and fault.scores:
            scores = fault.scores(scene, scores)
        if here and fault.mask:
            bias = fault.mask(scene, bias)
        if bias is not None:
            scores = scores + bias
        if here and fault.softmax:
            return fault.softmax(scene, scores)
        return jax.nn.softmax(scores).astype(query.dtype)

    return weights


def _subclass(module: Any, name: str, method: str, change: Callable[..., Any]) -> tuple[Any, str, Any]:
    """A subclass in a class's place whose method is `change`, which gets the original, unwrapped, first."""
    base = getattr(module, name)
    original = getattr(getattr(base, method), "__wrapped__", getattr(base, method))

    def changed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return change(original, self, *arguments, **keywords)

    changed.__name__ = method  # what Flax calls it among its intermediates
    return module, name, type(name, (base,), {method: changed, "__module__": base.__module__})


def _layer_of(part: Any) -> int:
    return next((int(step) for step in part.path if step.isdigit()), -1)


def _head_layout(class_name: str) -> Callable[[Any], Iterator[Any]]:
    def split(original: Any, self: Any, states: Any) -> Any:
        right = original(self, states)
        if _layer_of(self) != WHERE:
            return right
        *rows, heads, size = right.shape
        return states.reshape(*rows, size, heads).swapaxes(-1, -2)

    def make(module: Any) -> Iterator[Any]:
        yield _subclass(module, class_name, "_split_heads", split)

    return make


def _no_residual(class_name: str) -> Callable[[Any], Iterator[Any]]:
    """For BERT, whose residual is an argument of its own."""

    def call(original: Any, self: Any, states: Any, residual: Any, **keywords: Any) -> Any:
        return original(self, states, residual * (_layer_of(self) != WHERE), **keywords)

    def make(module: Any) -> Iterator[Any]:
        yield _subclass(module, class_name, "__call__", call)

    return make


def _no_gpt2_residual(module: Any) -> Iterator[Any]:
    """GPT-2's second residual, of the MLP."""
    seen = {}

    def mlp(original: Any, self: Any, *arguments: Any, **keywords: Any) -> Any:
        seen["mlp"] = original(self, *arguments, **keywords)
        return seen["mlp"]

    def block(original: Any, self: Any, *arguments: Any, **keywords: Any) -> Any:
        found = original(self, *arguments, **keywords)
        return (seen["mlp"], *found[1:]) if _layer_of(self) == WHERE else found

    yield _subclass(module, "FlaxGPT2MLP", "__call__", mlp)
    yield _subclass(module, "FlaxGPT2Block", "__call__", block)


class _Module:
    """A module of which one name is replaced, seen by the modules that look it up there."""

    def __init__(self, module: Any, **changes: Any) -> None:
        self.__dict__.update(changes, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _embedding(change: Callable[..., Any]) -> Callable[[Any], Iterator[Any]]:
    def make(module: Any) -> Iterator[Any]:
        _, _, embed = _subclass(nn, "Embed", "__call__", change)
        yield module, "nn", _Module(nn, Embed=embed)

    return make


def _scaled(original: Any, self: Any, tokens: Any) -> Any:
    found = original(self, tokens)
    return found * self.features**0.5 if self.num_embeddings == 100 else found


def _shifted(original: Any, self: Any, tokens: Any) -> Any:
    return original(self, tokens + 1 if self.num_embeddings == 32 else tokens)


_WRITTEN: dict[tuple[str, str], Callable[[Any], Iterator[Any]]] = {
    ("heads", "bert"): _head_layout("FlaxBertSelfAttention"),
    ("heads", "gpt2"): _head_layout("FlaxGPT2Attention"),
    ("residual", "bert"): _no_residual("FlaxBertSelfOutput"),
    ("residual", "gpt2"): _no_gpt2_residual,
    ("embedding scale", ""): _embedding(_scaled),
    ("positions", ""): _embedding(_shifted),
}
