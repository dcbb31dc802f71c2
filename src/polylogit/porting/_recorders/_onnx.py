"""ONNX: each node's output becomes an output of the graph, and ONNX Runtime computes them all.

Needs the extra ``onnx``. The runtime's optimisations are off, which would merge the nodes.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import convert
from polylogit.errors import BackendUnavailableError, ComparisonError
from polylogit.porting._recorders._recording import Plan, active, nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["plan"]

_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_DTYPES = {"float": "float32", "double": "float64"}  # where NumPy has another word


def plan(model: Any, _: Any = None) -> Plan:
    """How an ONNX model, or the file of one, is recorded."""
    try:
        onnx, onnxruntime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
    except ImportError as error:
        message = f'recording an ONNX model needs {error.name}; install it with: pip install "polylogit[onnx]"'
        raise BackendUnavailableError(message, name=error.name) from error
    import contextlib

    if isinstance(model, (str, os.PathLike)):
        try:
            model = onnx.load(os.fspath(model))
        except Exception as error:
            message = f"{os.fspath(model)!r} is no readable ONNX file: {error}. Check the path, or export it again."
            raise ComparisonError(message) from error
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    returned = [output.name for output in whole.graph.output]
    computed = [name for node in whole.graph.node for name in node.output if name]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed if name not in returned)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def call(*arguments: Any, **keywords: Any) -> Any:
        values = _inputs(session, arguments, keywords)
        names = [output.name for output in session.get_outputs()]
        values |= dict(zip(names, session.run(names, values), strict=True))
        recording = active.get()
        if recording is not None:
            constants = {one.name: onnx.numpy_helper.to_array(one) for one in whole.graph.initializer}
            for node, name in _in_order(whole):
                operation = _OPERATIONS.get(node.op_type)
                if operation:
                    recording.add_softmax(operation, (constants | values).get(node.input[0]), values[name])
                recording.add(name, values[name])
        return values[returned[0]] if len(returned) == 1 else {name: values[name] for name in returned}

    return Plan(call, lambda _: contextlib.nullcontext(), nothing)


def _in_order(model: Any) -> Iterator[tuple[Any, str]]:
    """The nodes that compute something, with the names of what they do; a file lists them in order of computation."""
    for node in model.graph.node:
        if node.op_type not in ("Constant", "ConstantOfShape", "Shape"):
            yield from ((node, name) for name in node.output if name)


def _inputs(session: Any, arguments: Any, keywords: Any) -> dict[str, Any]:
    """The inputs by name, as NumPy arrays of the dtypes that the model declares."""
    declared = {one.name: one.type.removeprefix("tensor(").removesuffix(")") for one in session.get_inputs()}
    if len(arguments) > len(declared):
        message = f"the ONNX model takes {list(declared)}, and {len(arguments)} inputs were given; pass these."
        raise ComparisonError(message)
    given = {**dict(zip(declared, arguments, strict=False)), **keywords}
    unknown = [name for name in given if name not in declared]
    if unknown:
        message = f"the ONNX model has no inputs {unknown}; it takes {list(declared)}. Name them so, or use prepare=."
        raise ComparisonError(message)
    arrays = {name: np.asarray(convert(value, "numpy")) for name, value in given.items()}
    return {
        name: value.astype(_DTYPES.get(declared[name], declared[name]), copy=False)
        if value.dtype.kind in "biuf" and declared[name] != "bfloat16"
        else value
        for name, value in arrays.items()
    }
