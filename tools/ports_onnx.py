"""The ports of `ports` to ONNX Runtime, exported from PyTorch, and how a fault is put into them.

A fault is in the model that is exported: in its weights, its settings, or the function of its attention.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from ports_faults import Fault, Ops, Scene
from ports_models import depth, inputs, original, pad

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Onnx"]

OPS = Ops(
    array=torch.tensor,
    softmax=torch.softmax,
    cast=lambda x, dtype: x.to(getattr(torch, dtype)),
    where=torch.where,
    exp=torch.exp,
    tanh=torch.tanh,
    sum=lambda x, axis: torch.sum(x, axis, keepdim=True),
    max=lambda x, axis: torch.amax(x, axis, keepdim=True),
)
_ONE_FUNCTION = ("gpt2", "vit")  # the models whose attention is one function of their module


class _Logits(torch.nn.Module):
    """The logits alone, which is what is exported, or a softmax of them that a fault names."""

    def __init__(self, model: Any, head: str) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, *given: Any) -> Any:
        logits = self.model(**dict(zip(inputs(self.name), given, strict=True)))["logits"]
        if not self.head:
            return logits
        return torch.softmax(logits, 0) if self.head == "batch" else torch.softmax(torch.softmax(logits, -1), -1)


class Onnx:
    """A port, with a fault or without one."""

    framework = "ONNX Runtime"
    record_inputs: dict[str, Any] | None = None  # what the original takes is all
    names = {"output.logits": "output"}  # noqa: RUF012

    def __init__(self, name: str, torch_model: Any, fault: Fault | None = None, _: str = "float32") -> None:
        self.name, self.fault = name, fault
        if fault is not None and name in fault.config:
            changed = original(name, **fault.config[name])
            changed.load_state_dict(torch_model.state_dict())
            torch_model = changed
        exported = _Logits(torch_model, fault.head if fault else "")
        exported.name = name
        given = tuple(torch.tensor(value) for value in inputs(name).values())
        with tempfile.TemporaryDirectory() as folder, _attention(name, fault), torch.no_grad():
            path = Path(folder, "port.onnx")
            torch.onnx.export(exported.eval(), given, path, dynamo=True, external_data=False, verbose=False,
                              input_names=list(inputs(name)), output_names=["logits"])  # fmt: skip
            self.model = onnx.load(path)
        self.session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])

    @staticmethod
    def ports(name: str) -> bool:
        """Whether there is a port of this model."""
        return name != "t5"

    @staticmethod
    def offers(name: str, fault: Fault) -> bool:
        """Whether this fault can be put in here."""
        inside = fault.mask or fault.scores or fault.softmax
        return not fault.patch and (not inside or name in _ONE_FUNCTION)

    def outputs(self, **given: Any) -> dict[str, Any] | Any:
        taken = {one.name for one in self.session.get_inputs()}
        (found,) = self.session.run(None, {key: np.asarray(value) for key, value in given.items() if key in taken})
        return found if self.fault is not None and self.fault.head else {"logits": found}

    def recorded(self, record: Any) -> Any:
        return record(self.model)

    def broken(self) -> Any:
        return contextlib.nullcontext()


@contextlib.contextmanager
def _attention(name: str, fault: Fault | None) -> Iterator[None]:
    """Within the block, the model's attention in PyTorch has the fault."""
    if fault is None or not (fault.mask or fault.scores or fault.softmax):
        yield
        return
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    calls = iter(range(10**6))

    def attention(_: Any, query: Any, key: Any, value: Any, mask: Any = None, *more: Any, **keywords: Any) -> Any:
        here = fault.in_layer(next(calls) % depth(name))
        scene = Scene(OPS, pad(name), query.shape[2], causal=name == "gpt2")
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if here and fault.scores:
            scores = fault.scores(scene, scores)
        bias = fault.mask(scene, mask) if here and fault.mask else OPS.array(
            np.where(scene.allowed(), 0.0, -1e30).astype(np.float32)
        )  # fmt: skip
        weights = (fault.softmax if here and fault.softmax else _softmax)(scene, scores + bias)
        return (weights @ value).transpose(1, 2), weights

    before = module.eager_attention_forward
    module.eager_attention_forward = attention
    try:
        yield
    finally:
        module.eager_attention_forward = before


def _softmax(_: Scene, scores: Any) -> Any:
    return torch.softmax(scores, -1)
