"""PyTorch: in a module, exported by torch.export, and as ONNX run by ONNX Runtime, with the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch

import polylogit
from contract.conftest import expected_value
from contract.exact import check

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = ("softmax", "log_softmax", "sigmoid")


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return polylogit.softmax(self.out(polylogit.sigmoid(self.hidden(x))), axis=-1)


class Operation(torch.nn.Module):
    """One of the operations, of the logits themselves."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = getattr(polylogit, name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def logits(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype("float32") * 3)


def test_a_module_learns_with_it() -> None:
    model, x = Classifier(), logits(64, 4)
    labels = x[:, :3].argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = -model(x)[torch.arange(64), labels].log().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_an_exported_program_gives_the_bits_of_the_module_for_another_batch() -> None:
    model = Classifier().eval()
    program = torch.export.export(model, (logits(5, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert torch.equal(program.module()(logits(9, 4)), model(logits(9, 4)))


# PyTorch's exporter copies a class of its own that it has deprecated.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_onnx_runtime_runs_the_exported_model_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        Operation(name).eval(), (logits(5, 7),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    x = logits(9, 7).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: x})
    exact = expected_value(name, x)
    if name == "sigmoid":
        # ONNX Runtime takes a small result from 1, whose rounding it then has: docs/wild.md.
        exact = exact._replace(tolerance=np.full(x.shape, np.finfo("float32").eps))
    check(got, exact)
