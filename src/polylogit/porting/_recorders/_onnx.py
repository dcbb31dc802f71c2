"""Records ONNX models: the output of every node becomes an output of the graph, which ONNX Runtime computes.

Needs the extra ``onnx``. The runtime's optimisations are off, because they merge nodes. Exporters write down the module
that each node comes from, so modules are recorded under their paths as well.
"""

from __future__ import annotations

import ast
import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import convert
from polylogit._extras import command
from polylogit.errors import BackendUnavailableError, ComparisonError
from polylogit.porting._recorders._recording import Plan, active, ends, nothing

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["plan"]

_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_NOTHING = ("Constant", "ConstantOfShape", "Shape")  # what these return is no activation
_DTYPES = {"float": "float32", "double": "float64"}  # where NumPy has another word


def plan(model: Any, _: Any = None) -> Plan:
    """The plan to record an ONNX model, or a file with one."""
    try:
        onnx, onnxruntime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
    except ImportError as error:
        message = f"recording an ONNX model needs {error.name}; install it with: {command('onnx')}"
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
    # In order of computation, as the file lists them.
    by_name = {name: one for one in whole.graph.node if one.op_type not in _NOTHING for name in one.output if name}
    paths = {name: _paths(one) for name, one in by_name.items()}
    parts = _parts(by_name, paths, returned)
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def call(*arguments: Any, **keywords: Any) -> Any:
        values = _inputs(session, arguments, keywords)
        names = [output.name for output in session.get_outputs()]
        values |= dict(zip(names, session.run(names, values), strict=True))
        recording = active.get()
        if recording is not None:
            constants = {one.name: onnx.numpy_helper.to_array(one) for one in whole.graph.initializer}
            for name, node in by_name.items():
                if operation := _OPERATIONS.get(node.op_type):
                    recording.inside += paths[name][-1:]
                    recording.add_softmax(operation, (constants | values).get(node.input[0]), values[name])
                    del recording.inside[len(recording.inside) - len(paths[name][-1:]) :]
                recording.add(name, values[name])
                for path in parts.get(name, ()):
                    recording.end(recording.begin(path, (), {}), values[name])
        return values[returned[0]] if len(returned) == 1 else {name: values[name] for name in returned}

    return Plan(call, lambda _: contextlib.nullcontext(), nothing)


def _paths(node: Any) -> list[str]:
    """The modules that contain a node, the outermost first, as the exporter wrote them down."""
    scopes = next((one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"), "")
    if scopes:
        try:
            return [path for path in ast.literal_eval(scopes)[:-1] if path]
        except (SyntaxError, ValueError):
            return []
    steps = [step for step in node.name.split("/")[:-1] if step]  # "/encoder/layer.0/MatMul"
    return [".".join(steps[:count]) for count in range(1, len(steps) + 1)]


def _parts(by_name: Mapping[str, Any], paths: Mapping[str, list[str]], returned: list[str]) -> Mapping[str, list[str]]:
    """For each value by name, the paths of the modules that return it, inner ones first."""
    inside: dict[str, list[str]] = {}
    users: dict[str, list[str]] = {name: ["the caller"] for name in returned}
    for name, node in by_name.items():
        for path in paths[name]:
            inside.setdefault(path, []).append(name)
        for taken in node.input:
            users.setdefault(taken, []).append(name)
    return ends(
        {path: names for path, names in inside.items() if path not in by_name}, lambda name: users.get(name, [])
    )


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
