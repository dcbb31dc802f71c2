"""Recorders: the activations of each framework's models, in order and by name, ready for `compare`."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any, NamedTuple

import numpy as np
import pytest

import polylogit
from polylogit.errors import ComparisonError, RecordingWarning
from polylogit.porting import compare, record, tap

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
W1, B1 = RNG.standard_normal((4, 8)).astype(np.float32), RNG.standard_normal(8).astype(np.float32)
W2, B2 = RNG.standard_normal((8, 3)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)


def plain(x: Any) -> Any:
    hidden = tap("hidden", x @ W1 + B1)
    scores = tap("scores", np.maximum(hidden, 0) @ W2 + B2)
    return polylogit.softmax(scores)


def torch_model() -> Any:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(-1))
    weights = {"0.weight": W1.T, "0.bias": B1, "2.weight": W2.T, "2.bias": B2}
    model.load_state_dict(polylogit.convert(weights, "torch"))
    return model.eval()


def keras_model() -> Any:
    import keras

    layers = [
        keras.layers.Dense(8, activation="relu", name="first"),
        keras.layers.Dense(3, name="second"),
        keras.layers.Softmax(name="head"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.set_weights([W1, B1, W2, B2])
    return model


def test_a_plain_function_records_its_taps() -> None:
    found = record(plain)(X)
    assert list(found) == ["hidden", "scores", "softmax:1.scores", "softmax:1.weights", "output"]
    np.testing.assert_array_equal(found["output"], plain(X))


def test_taps_do_nothing_outside_a_recording() -> None:
    assert tap("x", X) is X


def test_a_part_called_twice_is_two_activations() -> None:
    assert list(record(lambda x: tap("a", tap("a", x) + 1))(X)) == ["a", "a#2", "output"]


def test_what_is_no_model_or_computes_nothing_is_an_error() -> None:
    with pytest.raises(ComparisonError, match="cannot be recorded"):
        record(3)
    with pytest.raises(ComparisonError, match="computed no arrays"):
        record(lambda x: None)(X)


def test_a_recording_that_raises_leaves_no_trace() -> None:
    def broken(x: Any) -> Any:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        record(broken)(X)
    assert tap("x", X) is X


class Pair(NamedTuple):
    hidden: Any
    weights: Any


def test_outputs_are_named_for_what_they_are() -> None:
    def named(output: Any) -> list[str]:
        return list(record(lambda _: output)(X))

    assert named(X) == ["output"]
    assert named((X, [X, X])) == ["output[0]", "output[1][0]", "output[1][1]"]
    assert named({"logits": X, "loss": None}) == ["output.logits"]
    assert named(Pair(X, X)) == ["output.hidden", "output.weights"]
    assert named(types.SimpleNamespace(logits=X, size=3)) == ["output.logits"]


def test_a_model_may_take_the_common_inputs_in_its_own_way() -> None:
    def apart(*, first: Any, second: Any) -> Any:
        return first - second

    inputs = {"pair": np.stack([X, 2 * X])}
    recorded = record(apart, prepare=lambda pair: {"first": pair[0], "second": pair[1]})
    assert compare(record(lambda pair: pair[0] - pair[1]), recorded, inputs=inputs).agrees
    assert compare(lambda x: x + 1, record(lambda x, y: x + y, prepare=lambda x: (x, 1)), inputs=X).agrees
    turned = record(lambda x: x.sum(0), prepare=lambda x: x.T)
    assert compare(lambda x: x.sum(1), turned, inputs=X).agrees


def test_a_model_of_which_only_the_output_is_seen_is_a_warning_that_says_what_to_do() -> None:
    class Server:
        def __call__(self, x: Any) -> Any:
            return 2 * x

    with pytest.warns(RecordingWarning, match=r"of the Server nothing but the output was seen\. Record the model"):
        assert list(record(Server())(X)) == ["output"]
    assert list(record(Server().__call__)(X)) == ["output"]  # a function has no parts


@pytest.mark.requires("torch")
def test_torch_modules_are_recorded_in_order_and_left_as_they_were() -> None:
    model = torch_model()
    found = record(model)(polylogit.convert(X, "torch"))
    outputs = ["0", "1", "2", "3:softmax:1.scores", "3:softmax:1.weights", "3", "output"]
    assert [name for name in found if ":input" not in name] == outputs
    assert [name for name in found if ":input" in name] == ["0:input", "1:input", "2:input", "3:input"]
    assert found["1:input"] is found["0"]
    assert not any(part._forward_hooks for part in model.modules())
    names = {"0": "hidden", "2": "scores", "output": "output"}
    assert compare(record(model), record(plain), inputs=X, names=names).agrees


@pytest.mark.requires("torch", "tensorflow")
def test_keras_layers_are_recorded_and_compared_with_gradients() -> None:
    import keras

    before = keras.layers.Layer.__call__
    names = {"1": "first", "2": "second", "3": "head"}
    g = RNG.standard_normal((6, 3)).astype(np.float32)
    found = compare(record(torch_model()), record(keras_model()), inputs=X, cotangent=g, names=names)
    assert found.agrees, str(found)
    assert [one.name for one in found.activations] == ["1", "2", "3", "output", "gradient"]
    assert keras.layers.Layer.__call__ is before


@pytest.mark.requires("torch", "tensorflow")
def test_the_layer_that_was_ported_wrongly_is_named() -> None:
    model = keras_model()
    first, second = model.get_layer("first"), model.get_layer("second")
    second.set_weights([W2, np.zeros_like(B2)])
    found = compare(record(torch_model()), record(model), inputs=X, names={"1": "first", "2": "second", "3": "head"})
    assert found.first_divergence == "2"
    assert found.cause is not None
    assert found.cause.name == "missing-bias"
    np.testing.assert_allclose(found.cause.parameters["bias"], B2, rtol=1e-4, atol=1e-5)
    assert first is not second


@pytest.mark.requires("torch", "tensorflow")
def test_a_keras_model_on_pytorch_is_recorded_layer_by_layer() -> None:
    """It is a torch module too, in a process of its own since Keras chooses its backend once."""
    code = (
        "import keras, numpy as np; from polylogit.porting import record\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name='scores')])\n"
        "recorded = record(model)\n"
        "print(recorded.framework, *recorded(np.ones((2, 4), 'float32')))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", "scores:input", "scores", "output"]


# --- torch: what is made of modules ----------------------------------------------------------------------------------


def attention() -> Any:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x: Any, *, scale: Any = None) -> Any:
            scores = self.query(x) @ self.key(x).T
            weights = torch.softmax(scores if scale is None else scores * scale, -1)
            return weights @ x, weights

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = Attention(), torch.nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            x, _ = self.attention(x, scale=torch.tensor(0.5))
            return {"logits": self.head(self.attention(x)[0])}

    torch.manual_seed(0)
    return Model().eval()


def outputs(found: Any) -> list[str]:
    return [name for name in found if ":input" not in name]


@pytest.mark.requires("torch")
def test_names_are_paths_and_inputs_apart_in_the_order_of_computation() -> None:
    found = record(attention())(polylogit.convert(X, "torch"))
    assert list(found)[:8] == [
        "attention:input",
        "attention:input[scale]",
        "attention.query:input",
        "attention.query",
        "attention.key:input",
        "attention.key",
        "attention:softmax:1.scores",
        "attention:softmax:1.weights",
    ]
    assert outputs(found)[4:] == [
        "attention[0]",
        "attention[1]",
        "attention.query#2",
        "attention.key#2",
        "attention:softmax:2.scores",
        "attention:softmax:2.weights",
        "attention#2[0]",
        "attention#2[1]",
        "head",
        "output.logits",
    ]
    assert found["attention#2:input"] is found["attention[0]"]


@pytest.mark.requires("torch")
def test_exported_programs_are_recorded_node_by_node_under_the_paths_of_the_original() -> None:
    import torch

    model, x = attention(), polylogit.convert(X, "torch")
    program = torch.export.export(model, (x,))
    for exported in (program, program.module()):
        found = compare(record(model), record(exported), inputs=X)
        assert found.agrees, str(found)
        names = [one.name for one in found.activations]
        assert {"attention.query", "attention.key", "attention:softmax:1.scores", "head", "output.logits"} <= set(names)
    keywords = torch.export.export(model, (), {"x": x}).module()
    assert "softmax" in record(keywords)(x=x)


@pytest.mark.requires("torch")
def test_compiled_modules_have_the_names_of_the_original() -> None:
    import torch

    model, x = attention(), polylogit.convert(X, "torch")
    expected = list(record(model)(x))
    assert list(record(torch.compile(model))(x)) == expected
    model.attention = torch.compile(model.attention)
    assert list(record(model)(x)) == expected


@pytest.mark.requires("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_modules_are_a_warning() -> None:
    import torch

    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()))
    with pytest.warns(RecordingWarning, match="nothing but the output"):
        record(scripted)(polylogit.convert(X, "torch"))


@pytest.mark.requires("torch")
@pytest.mark.requires("onnxruntime")
def test_onnx_models_are_recorded_node_by_node(tmp_path: Any) -> None:
    import onnx

    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Softmax", ["positive"], ["p"], axis=-1),
    ]
    ends = [helper.make_tensor_value_info(name, number, [6, size]) for name, size in (("x", 4), ("p", 8))]
    graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], [onnx.numpy_helper.from_array(W1, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    for given in (model, tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
        found = record(given)(X.astype(np.float64))
        assert list(found) == ["hidden", "positive", "softmax:1.scores", "softmax:1.weights", "p", "output"]
        np.testing.assert_allclose(found["output"], polylogit.softmax(np.maximum(X @ W1, 0)), rtol=1e-5)
    with pytest.raises(ComparisonError, match=r"has no inputs \['y'\]; it takes \['x'\]"):
        record(model)(y=X)


# --- Keras -----------------------------------------------------------------------------------------------------------


KERAS = """
import keras, numpy as np
from polylogit.porting import record

class Encoder(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="encoder")
        self.attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
        self.wide = keras.layers.Dense(8, activation="relu", name="wide")

    def call(self, x):
        return self.wide(self.attention(x, x))

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(), keras.layers.Dense(3, activation="softmax", name="head")

    def call(self, x):
        return self.head(self.encoder(x))

found = record(Model())(np.ones((2, 5, 8), "float32"))
print(*(name for name in found if ":input" not in name))
"""


@pytest.mark.requires("torch", "tensorflow", "jax")
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_names_are_paths_and_attention_shows_its_weights(backend: str) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", KERAS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "encoder.attention.query",
        "encoder.attention.key",
        "encoder.attention.value",
        "encoder.attention:softmax:1.scores",
        "encoder.attention:softmax:1.weights",
        "encoder.attention.attention_output",
        "encoder.attention",
        "encoder.wide:linear",
        "encoder.wide",
        "encoder",
        "head:linear",
        "head:softmax:2.scores",
        "head:softmax:2.weights",
        "head",
        "output",
    ]


@pytest.mark.requires("torch", "tensorflow")
def test_an_activation_within_a_keras_layer_is_no_difference() -> None:
    import torch

    model = torch.nn.Sequential()
    model.first, model.relu = torch.nn.Linear(4, 8), torch.nn.ReLU()
    model.second, model.head = torch.nn.Linear(8, 3), torch.nn.Softmax(-1)
    model.load_state_dict(
        {
            f"{name}.{key}": value
            for name, pair in {"first": {"weight": W1.T, "bias": B1}, "second": {"weight": W2.T, "bias": B2}}.items()
            for key, value in polylogit.convert(pair, "torch").items()
        }
    )
    found = compare(record(model), record(keras_model()), inputs=X)
    assert found.agrees, str(found)
    pairs = [(one.name, one.candidate_name) for one in found.activations]
    assert pairs == [("first", "first:linear"), ("second", "second"), ("head", "head"), ("output", "output")]


@pytest.mark.requires("tensorflow")
def test_tf_keras_models_are_recorded_layer_by_layer() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    layers = [tf_keras.layers.Dense(8, activation="relu", name="first"), tf_keras.layers.Softmax(name="head")]
    recorded = record(tf_keras.Sequential([tf_keras.Input((4,)), *layers]))
    assert recorded.framework == "tensorflow"
    expected = ["first:linear", "first", "head:softmax:1.scores", "head:softmax:1.weights", "head", "output"]
    assert outputs(recorded(X)) == expected
