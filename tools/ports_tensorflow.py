"""The ports of `ports` to TensorFlow, by transformers' own conversion, and how a fault is put into them.

What is inside attention is changed where transformers' layers call their softmax, within a block.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from ports_faults import WHERE, Fault, Ops, Scene
from ports_models import MODELS, configured, depth, pad

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TensorFlow"]

OPS = Ops(
    array=tf.constant,
    softmax=lambda x, axis: tf.nn.softmax(x, axis=axis),
    cast=tf.cast,
    where=tf.where,
    exp=tf.exp,
    tanh=tf.tanh,
    sum=lambda x, axis: tf.reduce_sum(x, axis=axis, keepdims=True),
    max=lambda x, axis: tf.reduce_max(x, axis=axis, keepdims=True),
)
_MASKED = ("bert", "gpt2")  # the models whose mask can be changed here


class TensorFlow:
    """A port, with a fault or without one."""

    names: dict[str, str] = {}  # noqa: RUF012
    record_inputs: dict[str, Any] = {}  # noqa: RUF012  the class takes what the original takes

    def __init__(self, name: str, torch_model: Any, fault: Fault | None = None, dtype: str = "float32") -> None:
        import transformers

        self.name, self.fault = name, fault
        self.framework = "TensorFlow" if dtype == "float32" else f"TensorFlow {dtype}"
        one = MODELS[name]
        cls = getattr(transformers, f"TF{one.kind}{one.task}")
        changes = fault.config.get(name, {}) if fault else {}
        with tempfile.TemporaryDirectory() as folder:
            torch_model.save_pretrained(folder)
            self.model = cls.from_pretrained(folder, from_pt=True, config=configured(name, **changes))

    @staticmethod
    def offers(name: str, fault: Fault) -> bool:
        """Whether this fault can be put in here."""
        if fault.mask:
            return name in _MASKED
        return fault.patch in ("", "dropout") or (fault.patch == "heads" and name in _MASKED)

    @property
    def outputs(self) -> Any:
        if self.fault is not None and self.fault.head:
            model, head = self.model, self.fault.head
            return lambda **given: _head(tf.convert_to_tensor(model(**given)["logits"]), head)
        return functools.partial(self.model, training=True) if self._drops else self.model

    @property
    def _drops(self) -> bool:
        return self.fault is not None and self.fault.patch == "dropout"

    def recorded(self, record: Any) -> Any:
        if self.fault is not None and self.fault.head:
            return record(self.outputs)
        return record(self.model, training=True) if self._drops else record(self.model)

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Within the block, calling the port has the fault."""
        with contextlib.ExitStack() as stack:
            for owner, attribute, value in _patches(self.name, self.model, self.fault):
                stack.callback(setattr, owner, attribute, getattr(owner, attribute))
                setattr(owner, attribute, value)
            yield


def _head(logits: Any, fault: str) -> Any:
    if fault == "batch":
        return tf.nn.softmax(logits, axis=0)
    once = tf.nn.softmax(logits, axis=-1)
    return tf.nn.softmax(once, axis=-1) if fault == "twice" else once


def _attentions(name: str, model: Any) -> list[tuple[str, int, Any]]:
    """The stack, the number and the layer of each attention."""
    layers = range(depth(name))
    if name == "gpt2":
        return [("encoder", layer, model.transformer.h[layer].attn) for layer in layers]
    if name == "t5":
        return [("encoder", layer, model.encoder.block[layer].layer[0].SelfAttention) for layer in layers] + [
            (stack, layer, getattr(model.decoder.block[layer].layer[number], kind))
            for layer in layers
            for stack, number, kind in (("decoder", 0, "SelfAttention"), ("cross", 1, "EncDecAttention"))
        ]
    return [("encoder", layer, getattr(model, name).encoder.layer[layer].attention.self_attention) for layer in layers]


def _patches(name: str, model: Any, fault: Fault | None) -> Iterator[tuple[Any, str, Any]]:
    if fault is None:
        return
    module = importlib.import_module(f"transformers.models.{name}.modeling_tf_{name}")
    now: dict[str, Any] = {"here": False}
    if fault.mask or fault.scores or fault.softmax:
        for stack, layer, part in _attentions(name, model):
            here = fault.in_layer(layer) and (stack == "encoder" or not (fault.mask or fault.layers))
            yield part, "call", _noted(part.call, now, here)
            if here and fault.mask and name == "gpt2":
                yield part, "_attn", functools.partial(_masked_attention, part, module, fault)
            if here and fault.mask and name == "bert":
                yield part, "call", _with_mask(part.call, now, fault)
        yield module, "stable_softmax", _softmax(name, module.stable_softmax, fault, now)
    if fault.patch == "heads":
        part = _attentions(name, model)[WHERE][2]
        attribute = "split_heads" if name == "gpt2" else "transpose_for_scores"
        yield part, attribute, _other_layout(getattr(part, attribute))


def _noted(call: Any, now: dict[str, Any], here: bool) -> Any:
    @functools.wraps(call)
    def noted(*arguments: Any, **keywords: Any) -> Any:
        now["here"] = here
        return call(*arguments, **keywords)

    return noted


def _with_mask(call: Any, now: dict[str, Any], fault: Fault) -> Any:
    @functools.wraps(call)
    def masked(hidden_states: Any, attention_mask: Any = None, *arguments: Any, **keywords: Any) -> Any:
        now["here"] = True
        scene = Scene(OPS, pad("bert"), hidden_states.shape[1], causal=False)
        return call(hidden_states, fault.mask(scene, attention_mask), *arguments, **keywords)  # type: ignore[misc]

    return masked


def _masked_attention(part: Any, module: Any, fault: Fault, q: Any, k: Any, v: Any, *arguments: Any, **_: Any) -> Any:
    scores = tf.matmul(q, k, transpose_b=True) / np.sqrt(q.shape[-1]).astype(np.float32)
    scene = Scene(OPS, pad("gpt2"), q.shape[2], causal=True)
    weights = module.stable_softmax(scores + fault.mask(scene, None), axis=-1)  # type: ignore[misc]
    return [tf.matmul(weights, v), weights][: 1 + bool(arguments[2])]


def _softmax(name: str, original: Any, fault: Fault, now: dict[str, Any]) -> Any:
    def softmax(logits: Any, axis: Any = None, **_: Any) -> Any:
        if not now["here"]:
            return original(logits, axis=axis)
        keys = pad(name)[:, : logits.shape[-1]]
        scene = Scene(OPS, keys, logits.shape[-2], causal=name == "gpt2")
        if fault.scores:
            logits = fault.scores(scene, logits)
        return fault.softmax(scene, logits) if fault.softmax else original(logits, axis=axis)

    return softmax


def _other_layout(split: Any) -> Any:
    @functools.wraps(split)
    def changed(states: Any, *arguments: Any) -> Any:
        _, heads, tokens, size = split(states, *arguments).shape
        return tf.transpose(tf.reshape(states, (-1, tokens, size, heads)), (0, 3, 1, 2))

    return changed
