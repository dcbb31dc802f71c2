"""BERT of transformers in PyTorch, exported to ONNX and to TFLite: without its mask, found out, and repaired.

    pip install ".[ports]"
    python docs/porting/onnx_port.py

The weights are random and nothing is downloaded. To TFLite the model goes by way of transformers' TensorFlow class.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import torch
import transformers

from polylogit.porting import compare, load, record

warnings.filterwarnings("ignore")  # of the exporters, and of the interpreter for its successor


def bert() -> Any:
    """The original, with a classifier on top."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
        initializer_range=0.15,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config).eval()


def sentences() -> dict[str, Any]:
    """Four sentences of different lengths, padded on the right."""
    tokens = torch.randint(100, (4, 12), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([[12], [9], [12], [7]])
    return {"input_ids": tokens, "attention_mask": (torch.arange(12) < lengths).long()}


def tokens_alone(input_ids: Any, **_: Any) -> Any:
    """What a model that was exported without its mask can be given."""
    return {"input_ids": input_ids}


# --- ONNX ------------------------------------------------------------------------------------------------------------


class Logits(torch.nn.Module):
    """What is exported: tensors in, one tensor out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        """The logits."""
        return self.model(input_ids, attention_mask)["logits"]


def to_onnx(model: Any, path: Path, *inputs: str) -> None:
    """The model of these inputs."""
    given = tuple(sentences()[name] for name in inputs)
    torch.onnx.export(
        Logits(model).eval(),
        given,
        path,
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=inputs,
        output_names=["logits"],
    )


# --- TFLite ----------------------------------------------------------------------------------------------------------


def to_tensorflow(model: Any, folder: Path) -> Any:
    """The model in TensorFlow, by transformers' own conversion."""
    model.save_pretrained(folder)
    return transformers.TFBertForSequenceClassification.from_pretrained(folder, from_pt=True)


def to_tflite(port: Any, path: Path, *, mask: bool = True, quantized: bool = False) -> None:
    """A model of TensorFlow; of 8 bits are the weights alone."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 12), tf.int32, name=name) for name in sentences()])
    def serve(input_ids: Any, attention_mask: Any) -> Any:
        seen = attention_mask if mask else tf.ones_like(attention_mask)
        return {"logits": port(input_ids=input_ids, attention_mask=seen).logits}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], port)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantized else []
    path.write_bytes(converter.convert())


def softmaxes(path: Path) -> Any:
    """A function that runs a TFLite model and returns what each of its softmax nodes does, and the output."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        # A delegate keeps what it computes to itself.
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    signature = interpreter.get_signature_runner()
    inputs, (output,) = signature.get_input_details(), signature.get_output_details().values()

    def call(**given: Any) -> dict[str, Any]:
        for name, value in given.items():
            interpreter.resize_tensor_input(inputs[name]["index"], value.shape)
        interpreter.allocate_tensors()
        for name, value in given.items():
            interpreter.set_tensor(inputs[name]["index"], value.astype("int32"))
        interpreter.invoke()
        nodes = [one for one in interpreter.get_tensor_details() if one["name"].endswith("/Softmax")]
        found = {one["name"].partition("/")[2]: interpreter.get_tensor(one["index"]) for one in nodes}
        return {**found, "output": interpreter.get_tensor(output["index"])}

    return call


# --- comparing -------------------------------------------------------------------------------------------------------

NAMES = {"output.logits": "output"}  # one tensor has no name of its own
SOFTMAXES = NAMES | {
    f"bert.encoder.layer.{layer}.attention.self:softmax:{layer + 1}.weights": (
        f"bert/encoder/layer_._{layer}/attention/self/Softmax"
    )
    for layer in range(2)
}


def told(found: Any) -> None:
    """What was compared, the first that differs, and why."""
    states = [one.status for one in found.activations]
    print(f"{len(states) - states.count('agrees')} of {len(states)} differ")
    if found.cause is not None:
        print(f"first: {found.first_divergence}\n{found.cause.name}: {found.cause.explanation}")


def main() -> None:
    """Export, compare, mend, and compare again."""
    original, inputs = bert(), sentences()
    numbers = {name: value.numpy() for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        to_onnx(original, folder / "alone.onnx", "input_ids")
        to_onnx(original, folder / "masked.onnx", "input_ids", "attention_mask")
        recorded = record(str(folder / "alone.onnx"), prepare=tokens_alone)
        print("[ONNX, nodes]")
        nodes = list(recorded(**numbers))
        print(f"{len(nodes)} values, in order of computation:", *nodes[:6], "...", *nodes[-8:-2])
        print("\n[ONNX, without the mask]")
        told(compare(record(original), recorded, inputs=inputs, names=NAMES))
        print("\n[ONNX, repaired]")
        print(compare(original, load(folder / "masked.onnx"), inputs=inputs))
        told(compare(record(original), record(str(folder / "masked.onnx")), inputs=inputs, names=NAMES))

        port = to_tensorflow(original, folder)
        to_tflite(port, folder / "alone.tflite", mask=False)
        to_tflite(port, folder / "masked.tflite")
        to_tflite(port, folder / "eight.tflite", quantized=True)
        print("\n[TFLite, without the mask]")
        told(compare(original, load(folder / "alone.tflite"), inputs=inputs))
        print("\n[TFLite, softmax nodes]")
        told(compare(record(original), softmaxes(folder / "alone.tflite"), inputs=inputs, names=SOFTMAXES))
        print("\n[TFLite, repaired]")
        print(compare(original, load(folder / "masked.tflite"), inputs=inputs))
        told(compare(record(original), softmaxes(folder / "masked.tflite"), inputs=inputs, names=SOFTMAXES))
        print("\n[TFLite, 8 bits]")
        print(compare(original, load(folder / "eight.tflite"), inputs=inputs))
        print("\n[end]")


if __name__ == "__main__":
    main()
