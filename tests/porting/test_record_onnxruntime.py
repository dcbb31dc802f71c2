"""An ONNX model's parts, as its exporter wrote them down, are recorded under the paths that the original has."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from polylogit.porting import compare, isolate, record

X = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
W = {name: np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32) for seed, name in enumerate("qk")}


def graph(scopes: str) -> Any:
    """Two linear layers in a block, the scores and the weights; `scopes` says how a node tells where it comes from."""
    place = onnx.helper.make_tensor_value_info
    nodes = []
    for operation, inputs, name, path in (
        ("MatMul", ["x", "q"], "left", ["block", "block.query"]),
        ("MatMul", ["x", "k"], "product", ["block", "block.key"]),
        ("Add", ["product", "b"], "right", ["block", "block.key"]),
        ("Mul", ["left", "right"], "scores", ["block"]),
        ("Softmax", ["scores"], "weights", ["block"]),
        ("Mul", ["weights", "x"], "y", []),
    ):
        label = "/".join(["", *(step.rpartition(".")[2] for step in path), name]) if scopes == "names" else name
        nodes.append(onnx.helper.make_node(operation, inputs, [name], name=label))
        if scopes == "metadata":
            nodes[-1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", *path, name]))
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in (*W.items(), ("b", np.ones(6, np.float32)))]
    one = onnx.helper.make_graph(
        nodes,
        "model",
        [place("x", onnx.TensorProto.FLOAT, [None, 6])],
        [place("y", onnx.TensorProto.FLOAT, [None, 6])],
        weights,
    )
    return onnx.helper.make_model(one, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("scopes", ["metadata", "names"])
def test_a_part_is_what_its_last_node_computes(scopes: str) -> None:
    found = record(graph(scopes))(X)
    np.testing.assert_allclose(found["block.query"], X @ W["q"], rtol=1e-5)
    np.testing.assert_array_equal(found["block.key"], found["right"])
    np.testing.assert_array_equal(found["block"], found["weights"])
    assert {"block:softmax:1.scores", "block:softmax:1.weights"} <= set(found)


def test_a_model_that_does_not_say_has_its_nodes_and_softmax_calls() -> None:
    found = record(graph(""))(X)
    assert {"left", "right", "softmax:1.scores"} <= set(found)
    assert "block" not in found


def test_what_cannot_be_read_as_a_path_is_left_alone() -> None:
    model = graph("metadata")
    for node in model.graph.node:
        node.metadata_props[0].value = "__import__('os').getcwd()"
    assert "block" not in record(model)(X)


@pytest.mark.requires("torch")
def test_a_fault_is_in_the_part_that_has_it() -> None:
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = torch.nn.Linear(6, 6, bias=False), torch.nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.query(x) * self.key(x), -1)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: Any) -> Any:
            return self.block(x) * x

    original = Model()
    with torch.no_grad():
        original.block.query.weight.copy_(torch.tensor(W["q"].T))
        original.block.key.weight.copy_(torch.tensor(W["k"].T))
        original.block.key.bias.fill_(1.0)
    assert compare(record(original), record(graph("metadata")), inputs=X).agrees
    without_bias = graph("metadata")
    without_bias.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(np.zeros(6, np.float32), "b"))
    found = compare(record(original), record(without_bias), inputs=X)
    assert found.first_divergence == "block.key"
    assert found.cause.name == "missing-bias"
    # Its parts cannot be called by themselves: the run of the whole says as much.
    whole = isolate(original, record(without_bias), torch.tensor(X))
    assert (whole.first_divergence, whole.cause.name) == ("block.key", "missing-bias")
    assert whole.whole
    assert "isolat" in whole.summary()
