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
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.module import _context as module_context
from ports_faults import WHERE, Fault, Ops, Scene
from ports_models import MODELS, inputs, pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    def __call__(self, *arguments: Any, **given: Any) -> Any:
        return _head(self.model(*arguments, **given)["logits"], self.fault)


def _head(logits: Any, fault: str) -> Any:
    if fault == "batch":
        return jax.nn.softmax(logits, axis=0)
    once = jax.nn.softmax(logits, axis=-1)
    return jax.nn.softmax(once, axis=-1) if fault == "twice" else once


class Flax:
    """A port, with a fault or without one."""

    def __init__(self, name: str, torch_model: Any, fault: Fault | None = None, dtype: str = "float32") -> None:
        import transformers

        self.name, self.fault = name, fault
        self.framework = "Flax" if dtype == "float32" else f"Flax {dtype}"
        one = MODELS[name]
        self.names = one.names
        cls = getattr(transformers, f"Flax{one.kind}{one.task}")
        with tempfile.TemporaryDirectory() as folder:
            torch_model.save_pretrained(folder)
            with _replaced(_patches(name, None)):
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
        """The recorder of the class, or of its module where only the output of the class is seen."""
        module, params = self.model.module, self.model.params
        if self.fault is not None and self.fault.head:
            found = record(_Probabilities(module, self.fault.head), {"params": {"model": params}})
        elif _class_is_seen(self.model, self.name, record):
            more = {"train": True, "dropout_rng": jax.random.PRNGKey(0)} if self._drops else {}
            return record(self.model, **more)
        else:
            more = {"deterministic": False, "rngs": {"dropout": jax.random.PRNGKey(0)}} if self._drops else {}
            found = record(module, {"params": params}, **more)
        if self.name != "vit":
            return found
        # The class would have turned the channels to the end.
        return lambda pixel_values, **more: found(jnp.transpose(jnp.asarray(pixel_values), (0, 2, 3, 1)), **more)

    @property
    def record_inputs(self) -> dict[str, Any]:
        """What the module needs that the class would have made."""
        if self._seen and not (self.fault is not None and self.fault.head):
            return {}
        return MODELS[self.name].flax_more

    @property
    def _seen(self) -> bool:
        from polylogit.porting import record

        return _class_is_seen(self.model, self.name, record)

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Within the block, calling the port has the fault."""
        with _replaced(_patches(self.name, self.fault)):
            yield


@contextlib.contextmanager
def _replaced(changes: Iterator[tuple[Any, str, Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for owner, attribute, value in changes:
            stack.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)
        yield


_seen: dict[str, bool] = {}


def _class_is_seen(model: Any, name: str, record: Any) -> bool:
    """Whether `record` sees more of a class of transformers than its output; asked once a model."""
    if name not in _seen:
        try:
            _seen[name] = len(record(model)(**inputs(name))) > len(MODELS) + 5
        except Exception:  # noqa: BLE001  whatever is missing, the module can be recorded
            _seen[name] = False
    return _seen[name]


# --- what is replaced ------------------------------------------------------------------------------------------------


class _Module:
    """A module of which one name is replaced, seen by the modules that look it up there."""

    def __init__(self, module: Any, **changes: Any) -> None:
        self.__dict__.update(changes, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _transformers(name: str) -> Any:
    return importlib.import_module(f"transformers.models.{name}.modeling_flax_{name}")


def _patches(name: str, fault: Fault | None) -> Iterator[tuple[Any, str, Any]]:
    if name == "t5":
        yield _transformers(name), "jnp", _Module(jnp, clip=_clip)
    if fault is None:
        return
    module = _transformers(name)
    if fault.mask or fault.scores or fault.softmax:
        positions: dict[int, Any] = {}
        if name == "t5":

            def kept(original: Any, self: Any, queries: int, keys: int) -> Any:
                positions[queries] = original(self, queries, keys)
                return positions[queries]

            yield _subclass(module, "FlaxT5Attention", "compute_bias", kept)
        yield module, "dot_product_attention_weights", _attention(name, fault, positions)
    if make := _WRITTEN.get((fault.patch, name)) or _WRITTEN.get((fault.patch, "")):
        yield from make(module)


def _attention(name: str, fault: Fault, positions: dict[int, Any]) -> Callable[..., Any]:
    """Flax's function with a fault inside.

    `positions` are T5's biases, by the number of queries; what is given has the mask added to them.
    """
    afflicted = "decoder" if fault.within[name].startswith("decoder") else "encoder"

    def weights(query: Any, key: Any, bias: Any = None, **_: Any) -> Any:
        stack, layer = _here()
        # A mask, and what is in one layer, is at fault in one stack alone.
        here = fault.in_layer(layer) and (stack == afflicted or not (fault.mask or fault.layers))
        causal = name == "gpt2" or stack == "decoder"
        keys = pad(name, "decoder" if stack == "decoder" else "")
        scene = Scene(OPS, keys, query.shape[1], causal)
        scores = jnp.einsum("...qhd,...khd->...hqk", query / np.sqrt(query.shape[-1]).astype(np.float32), key)
        if here and fault.scores:
            scores = fault.scores(scene, scores)
        if here and fault.mask:
            bias = fault.mask(scene, bias) + (positions[query.shape[1]] if positions else 0.0)
        if bias is not None:
            scores = scores + bias
        if here and fault.softmax:
            return fault.softmax(scene, scores)
        return jax.nn.softmax(scores).astype(query.dtype)

    return weights


def _here() -> tuple[str, int]:
    """The stack and the layer of the module that is being called."""
    path = module_context.module_stack[-1].path
    stack = "cross" if "EncDecAttention" in path else "decoder" if "decoder" in path else "encoder"
    return stack, next((int(step) for step in path if step.isdigit()), -1)


def _subclass(module: Any, name: str, method: str, change: Callable[..., Any]) -> tuple[Any, str, Any]:
    """A subclass in a class's place whose method is `change`, which gets the original, unwrapped, first."""
    base = getattr(module, name)
    original = getattr(getattr(base, method), "__wrapped__", getattr(base, method))

    def changed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return change(original, self, *arguments, **keywords)

    changed.__name__ = method  # what Flax calls it among its intermediates
    return module, name, type(name, (base,), {method: changed, "__module__": base.__module__})


def _clip(x: Any, *bounds: Any, a_max: Any = None, **more: Any) -> Any:
    """With the keyword that T5's module in transformers uses, and that JAX no longer has."""
    return jnp.clip(x, *bounds, **more) if a_max is None else jnp.clip(x, max=a_max)


def _layer_of(part: Any) -> int:
    """Of the encoder, where there are two stacks."""
    if "decoder" in part.path:
        return -1
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


def _no_t5_residual(module: Any) -> Iterator[Any]:
    def call(original: Any, self: Any, states: Any, deterministic: bool = True) -> Any:
        if _layer_of(self) != WHERE:
            return original(self, states, deterministic=deterministic)
        inner = self.DenseReluDense(self.layer_norm(states), deterministic=deterministic)
        return self.dropout(inner, deterministic=deterministic)

    yield _subclass(module, "FlaxT5LayerFF", "__call__", call)


def _no_relative_bias(module: Any) -> Iterator[Any]:
    def none(original: Any, self: Any, queries: int, keys: int) -> Any:
        return 0 * original(self, queries, keys)

    yield _subclass(module, "FlaxT5Attention", "compute_bias", none)


def _vit_head_layout(module: Any) -> Iterator[Any]:
    def call(original: Any, self: Any, states: Any, **keywords: Any) -> Any:
        if _layer_of(self) != WHERE:
            return original(self, states, **keywords)
        heads = self.config.num_attention_heads
        q, k, v = (
            part(states).reshape(*states.shape[:2], -1, heads).swapaxes(-1, -2)
            for part in (self.query, self.key, self.value)
        )
        weights = module.dot_product_attention_weights(q, k)
        found = jnp.einsum("...hqk,...khd->...qhd", weights, v).reshape(states.shape)
        return (found, weights) if keywords.get("output_attentions") else (found,)

    yield _subclass(module, "FlaxViTSelfAttention", "__call__", call)


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
    ("heads", "t5"): _head_layout("FlaxT5Attention"),
    ("heads", "vit"): _vit_head_layout,
    ("residual", "vit"): _no_residual("FlaxViTOutput"),
    ("residual", "t5"): _no_t5_residual,
    ("relative bias", "t5"): _no_relative_bias,
    ("residual", "bert"): _no_residual("FlaxBertSelfOutput"),
    ("residual", "gpt2"): _no_gpt2_residual,
    ("embedding scale", ""): _embedding(_scaled),
    ("positions", ""): _embedding(_shifted),
}
