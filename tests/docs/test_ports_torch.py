"""How tools/ports.py judges a diagnosis: which modules are the same, and that each fault is where it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    """A module of tools, which is no package."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return sys.modules[name]


models, faults = tool("ports_models"), tool("ports_faults")

SAME = [
    ("bert", "bert.encoder.layer.1.attention.self[0]", "encoder.layer.1.attention.self"),
    ("bert", "bert.encoder.layer.1.attention.output.LayerNorm", "encoder.layer.1.attention.output"),
    ("bert", "softmax:2.weights", "encoder.layer.1.attention.self"),
    ("gpt2", "h_1.attn.c_attn", "h.1.attn"),
    ("gpt2", "model.transformer.h.1.0", "h.1"),
    ("t5", "softmax:6.scores", "decoder.block.0.layer.1"),
    ("t5", "softmax:5.scores", "decoder.block.0.layer.0"),
    ("vit", "softmax:5.weights", "output"),
]
OTHER = [
    ("bert", "bert.encoder.layer.2.attention.self[0]", "encoder.layer.1.attention.self"),
    ("bert", "bert.encoder.layer.1.output.LayerNorm", "encoder.layer.1.output.dense"),
    ("bert", "softmax:1.scores", "embeddings.LayerNorm"),
    ("gpt2", "transformer.h.1.ln_2", "h.1.attn"),
    ("gpt2", "transformer.h.10.attn", "h.1.attn"),
    ("gpt2", "transformer.h.1", "h.1.mlp"),
    ("t5", "decoder.block.1.layer.0.SelfAttention.q", "encoder.block.1.layer.0"),
]


@pytest.mark.parametrize(("model", "first", "fault"), SAME)
def test_a_divergence_inside_the_faults_module_is_at_the_right_module(model: str, first: str, fault: str) -> None:
    assert models.same_module(model, first, fault)


@pytest.mark.parametrize(("model", "first", "fault"), OTHER)
def test_a_divergence_in_another_layer_or_part_is_not(model: str, first: str, fault: str) -> None:
    assert not models.same_module(model, first, fault)


def test_a_model_has_each_fault_once() -> None:
    for model in models.MODELS:
        names = [fault.name for fault in faults.faults_of(model)]
        assert len(names) == len(set(names)) >= 20, model


def test_a_fault_changes_something_in_each_of_its_models() -> None:
    for fault in faults.FAULTS:
        inside = fault.mask or fault.scores or fault.softmax or fault.patch or fault.head
        for model in fault.models:
            assert inside or model in fault.weights or model in fault.config, (fault.name, model)
