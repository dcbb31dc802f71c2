"""Adapters that turn other projects' implementations into functions of NumPy, PyTorch, TensorFlow or JAX arrays.

`ADAPTERS` is the table: the name, the package, the kind of arrays, the operation, how to make the function, and the
conventions that its documentation declares. A framework is imported when one of its functions is made, each in a
separate process. Nothing here computes, so all errors are the implementations' own.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Adapter:
    """One implementation.

    `packages`: whose versions are told, the first of which it belongs to. `conventions`: what its documentation says.
    `threads`: whether it says that it may be called from several. `largest`: how many elements are asked of what
    interprets or is slow; more are refused by the adapter.
    """

    name: str
    packages: tuple[str, ...]
    operation: str
    backend: str
    make: Callable[[], Callable[..., Any]]
    conventions: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    threads: bool = True
    largest: int | None = None
    dtypes: tuple[str, ...] | None = None


def named(path: str) -> Callable[[], Any]:
    """The function of that name, once it is asked for."""

    def make() -> Any:
        parts = path.split(".")
        for count in range(len(parts) - 1, 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:count]))
            except ModuleNotFoundError:
                continue
            return functools.reduce(getattr, parts[count:], found)
        raise ModuleNotFoundError(path)

    return make


# --- SciPy, scikit-learn, Numba --------------------------------------------------------------------------------------


def sklearn_softmax() -> Callable[..., Any]:
    from sklearn.utils.extmath import softmax

    def on_matrices(x: Any) -> Any:
        if x.ndim != 2:
            raise NotImplementedError("matrices")
        return softmax(x)

    return on_matrices


def numba_softmax() -> Callable[..., Any]:
    import math

    import numba

    @numba.guvectorize(["(float32[:], float32[:])", "(float64[:], float64[:])"], "(n)->(n)", nopython=True)
    def softmax(x: Any, y: Any) -> None:
        top = -np.inf
        for value in x:
            top = value if value > top or math.isnan(value) else top
        total = x.dtype.type(0)
        for i in range(x.size):
            y[i] = math.exp(x[i] - top)
            total += y[i]
        for i in range(x.size):
            y[i] /= total

    return softmax


def numba_sigmoid(**options: Any) -> Callable[..., Any]:
    import math

    import numba

    return numba.vectorize(["float32(float32)", "float64(float64)"], nopython=True, **options)(
        lambda x: 1 / (1 + math.exp(-x))
    )


# --- torch ------------------------------------------------------------------------------------------------------------


def torch_function(name: str) -> Callable[..., Any]:
    import torch

    function = getattr(torch, name)
    return lambda x, dim=-1: function(x, dim=dim)


def torch_sigmoid() -> Callable[..., Any]:
    import torch

    return lambda x: torch.sigmoid(x)


def torch_exp_logsigmoid() -> Callable[..., Any]:
    import torch

    return lambda x: torch.exp(torch.nn.functional.logsigmoid(x))


def torch_softmin() -> Callable[..., Any]:
    import torch

    def softmin(x: Any, dim: Any = -1) -> Any:
        if dim is None:  # deprecated: which axis is meant depends on how many there are
            raise NotImplementedError("a dimension must be named")
        return torch.nn.functional.softmin(-x, dim=dim)

    return softmin


def torch_attention(kind: str) -> Callable[..., Any]:
    """Scaled dot-product attention shows its probabilities: the logits are the mask, the values an identity."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def probabilities(x: Any) -> Any:
        if x.ndim != 2 or not x.numel() or x.shape[-1] > 2100:
            raise NotImplementedError("matrices of up to 2,100 columns")
        rows, n = x.shape
        query, key = torch.zeros(1, 1, rows, 8, dtype=x.dtype), torch.zeros(1, 1, n, 8, dtype=x.dtype)
        values = torch.eye(n, dtype=x.dtype)[None, None]
        with sdpa_kernel(getattr(SDPBackend, kind)):
            return torch.nn.functional.scaled_dot_product_attention(query, key, values, attn_mask=x[None, None])[0, 0]

    return probabilities


def torch_masked(name: str) -> Callable[..., Any]:
    import torch

    function = getattr(torch.masked, name)

    def masked(x: Any, dim: int = -1, where: Any = None) -> Any:
        if not isinstance(dim, int):  # as it is documented
            raise NotImplementedError("one dimension")
        mask = None if where is None else where.broadcast_to(x.shape)
        return function(x, dim=dim, mask=mask)

    return masked


def torch_additive(x: Any, dim: int = -1, where: Any = None) -> Any:
    """The lowest number of the dtype added where masked out, as ports of attention do."""
    import torch

    if where is not None:
        x = x + torch.where(where, 0.0, torch.finfo(x.dtype).min).to(x.dtype)
    return torch.softmax(x, dim)


def torch_compiled(name: str) -> Callable[..., Any]:
    import torch

    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 100_000
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    function = torch.compile(getattr(torch, name), fullgraph=True)
    if name == "sigmoid":
        return lambda x: function(x)
    return lambda x, dim=-1: function(x, dim=dim)


# --- TensorFlow and JAX, Keras ----------------------------------------------------------------------------------------


def tf_function(name: str) -> Callable[..., Any]:
    import tensorflow as tf

    function = getattr(tf.nn, name)
    return (lambda x: function(x)) if name == "sigmoid" else (lambda x, axis=-1: function(x, axis=axis))


def jax_masked(name: str) -> Callable[..., Any]:
    import jax

    function = getattr(jax.nn, name)
    return lambda x, axis=-1, where=None: function(x, axis=axis, where=where)


def jax_function(name: str) -> Callable[..., Any]:
    import jax

    function = getattr(jax.nn, name)
    return (lambda x: function(x)) if name == "sigmoid" else (lambda x, axis=-1: function(x, axis=axis))


def keras_function(name: str) -> Callable[..., Any]:
    import keras

    function = getattr(keras.ops, name)
    return (lambda x: function(x)) if name == "sigmoid" else (lambda x, axis=-1: function(x, axis=axis))


def keras_layer() -> Callable[..., Any]:
    import keras

    return lambda x, axis=-1, where=None: keras.layers.Softmax(
        axis=axis, dtype=keras.backend.standardize_dtype(x.dtype)
    )(x, mask=where)


def pallas_softmax() -> Callable[..., Any]:
    """A block at a time in the interpreter, as JAX's own examples write it."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl

    def kernel(x: Any, y: Any) -> None:
        wide = x[...].astype(jnp.float32)
        e = jnp.exp(wide - jnp.max(wide, axis=-1, keepdims=True))
        y[...] = (e / jnp.sum(e, axis=-1, keepdims=True)).astype(y.dtype)

    def softmax(x: Any) -> Any:
        if x.ndim != 2 or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
            raise NotImplementedError("matrices of floating numbers")
        return pl.pallas_call(kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)

    return softmax


# --- exchange formats -------------------------------------------------------------------------------------------------


@functools.cache
def onnx_model(operator: str, dtype: str, shape: tuple[int, ...], axis: int, opset: int) -> bytes:
    """A model of one node."""
    from onnx import TensorProto, checker, helper

    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}[dtype]
    attributes = {} if operator == "Sigmoid" else {"axis": axis}
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def onnx_function(operator: str, run: Callable[[bytes], Callable[[Any], Any]], opset: int = 17) -> Callable[..., Any]:
    """A function that makes a model for each shape and keeps what was loaded of it."""
    loaded = functools.lru_cache(64)(run)

    def called(x: Any, axis: int = -1) -> Any:
        if x.dtype.name not in ("float32", "float64", "float16") or not x.ndim or not x.size:
            raise NotImplementedError("floating arrays of one dimension at least, not empty")
        if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
            raise NotImplementedError("one axis")
        return loaded(onnx_model(operator, x.dtype.name, x.shape, axis, opset))(np.ascontiguousarray(x))

    return (lambda x: called(x)) if operator == "Sigmoid" else called


def onnxruntime_run(model: bytes) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotImplementedError(str(error)) from error
    return lambda x: session.run(None, {"x": x})[0]


def reference_run(model: bytes) -> Callable[[Any], Any]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load_from_string(model))
    return lambda x: session.run(None, {"x": x})[0]


def openvino_run(model: bytes) -> Callable[[Any], Any]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda x: np.array(compiled([x])[0])


def litert(operation: str, delegate: bool) -> Callable[..., Any]:
    """A TensorFlow function converted and interpreted, with XNNPACK or with the kernels of the interpreter alone."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    function = {"softmax": tf.nn.softmax, "log_softmax": tf.nn.log_softmax, "sigmoid": tf.nn.sigmoid}[operation]
    kind = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    @functools.lru_cache(64)
    def loaded(shape: tuple[int, ...]) -> Any:
        concrete = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32))
        content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kind, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    def called(x: Any) -> Any:
        if x.dtype != np.float32 or x.ndim != 2 or not x.size or x.size > 1_000_000:
            raise NotImplementedError("matrices of float32")
        interpreter = loaded(x.shape)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(x))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return called


# --- others ----------------------------------------------------------------------------------------------------------


def xgboost_function(objective: str) -> Callable[..., Any]:
    """What a booster without trees makes of its base margins."""
    import xgboost

    def called(x: Any) -> Any:
        many = objective == "multi:softprob"
        if x.dtype != np.float32 or not x.size or x.size > 100_000 or (many and (x.ndim != 2 or x.shape[1] < 2)):
            raise NotImplementedError("float32; of several classes matrices")
        options = {"objective": objective, "base_score": 0.5, "nthread": 1, "verbosity": 0}
        margins = np.ascontiguousarray(x) if many else x.ravel()
        if many:
            options["num_class"] = x.shape[1]
        data = xgboost.DMatrix(np.zeros((len(margins), 1)), base_margin=margins, label=np.zeros(len(margins)))
        return xgboost.Booster(options, [data]).predict(data).reshape(x.shape)

    return called


def thinc_function(name: str) -> Callable[..., Any]:
    from thinc.api import NumpyOps

    function = getattr(NumpyOps(), name)

    def called(x: Any) -> Any:
        if x.dtype not in (np.float32, np.float64) or (name == "softmax" and x.ndim != 2):
            raise NotImplementedError("float32 and float64")
        return function(x.copy())

    return called


def ncnn_function(layer: str) -> Callable[..., Any]:
    import ncnn

    @functools.cache
    def loaded() -> Any:
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = net.opt.use_fp16_packed = False
        extra = " 0=1 1=1" if layer == "Softmax" else ""
        text = f"7767517\n2 2\nInput x 0 1 x\n{layer} y 1 1 x y{extra}\n"
        net.load_param_mem(text)
        net.load_model_mem(b"\0" * 16) if hasattr(net, "load_model_mem") else None
        return net

    def called(x: Any) -> Any:
        if x.dtype != np.float32 or x.ndim != 2 or not x.size:
            raise NotImplementedError("matrices of float32")
        extractor, kept = loaded().create_extractor(), np.ascontiguousarray(x)  # which a Mat does not keep alive
        extractor.input("x", ncnn.Mat(kept).clone())
        return np.array(extractor.extract("y")[1])

    return called


def mnn_function(name: str) -> Callable[..., Any]:
    import MNN

    def called(x: Any) -> Any:
        if x.dtype != np.float32 or x.ndim != 2 or not x.size:
            raise NotImplementedError("matrices of float32")
        given = MNN.expr.const(x.ravel().tolist(), list(x.shape), MNN.expr.NCHW, MNN.expr.float)
        return np.array(getattr(MNN.expr, name)(given, *((1,) if name == "softmax" else ())).read(), dtype=np.float32)

    return called


def mlx_function(name: str) -> Callable[..., Any]:
    import mlx.core as mx

    def called(x: Any, axis: Any = -1) -> Any:
        if x.dtype not in (np.float32, np.float16):
            raise NotImplementedError("float32 and float16")
        given = mx.array(x)
        return np.array(mx.sigmoid(given) if name == "sigmoid" else mx.softmax(given, axis=axis))

    return (lambda x: called(x)) if name == "sigmoid" else called


def paddle_function(name: str) -> Callable[..., Any]:
    import paddle

    function = getattr(paddle.nn.functional, name)

    def called(x: Any, axis: int = -1) -> Any:
        if x.dtype not in (np.float32, np.float64) or not x.ndim:
            raise NotImplementedError("float32 and float64")
        given = paddle.to_tensor(np.ascontiguousarray(x))
        return (function(given) if name == "sigmoid" else function(given, axis=axis)).numpy()

    return (lambda x: called(x)) if name == "sigmoid" else called


def triton_softmax() -> Callable[..., Any]:
    """A row a program, as the language's tutorial has it; in the interpreter."""
    import torch
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(x, y, n, block: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0)
        places = tl.arange(0, block)
        logits = tl.load(x + row * n + places, mask=places < n, other=-float("inf")).to(tl.float32)
        e = tl.exp(logits - tl.max(logits, axis=0))
        tl.store(y + row * n + places, e / tl.sum(e, axis=0), mask=places < n)

    def softmax(x: Any) -> Any:
        if x.ndim != 2 or not x.numel() or x.dtype not in (torch.float32, torch.float16):
            raise NotImplementedError("matrices of float32 or float16")
        x = x.detach().contiguous()
        y = torch.empty_like(x)
        kernel[(x.shape[0],)](x, y, x.shape[1], block=triton.next_power_of_2(x.shape[1]))
        return y

    return softmax


def liger_softmax() -> Callable[..., Any]:
    from liger_kernel.ops.softmax import _softmax_forward

    def softmax(x: Any) -> Any:
        import torch

        if x.ndim != 2 or not x.numel() or x.dtype != torch.float32:
            raise NotImplementedError("matrices of float32")
        return _softmax_forward(x.detach().contiguous())[0]

    return softmax


def _both(make: Callable[[str], Any], *names: str) -> list[tuple[str, Callable[[], Any]]]:
    return [(name, functools.partial(make, name)) for name in names]


_THREE = ("softmax", "log_softmax", "sigmoid")
_NODES = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid"}


def _table() -> list[Adapter]:
    made = [
        Adapter(
            "scipy.special.softmax",
            ("scipy", "numpy"),
            "softmax",
            "numpy",
            named("scipy.special.softmax"),
            {"default-axis": None},
        ),
        Adapter(
            "scipy.special.log_softmax",
            ("scipy", "numpy"),
            "log_softmax",
            "numpy",
            named("scipy.special.log_softmax"),
            {"default-axis": None},
        ),
        Adapter("scipy.special.expit", ("scipy", "numpy"), "sigmoid", "numpy", named("scipy.special.expit")),
        Adapter("sklearn.utils.extmath.softmax", ("scikit-learn", "numpy"), "softmax", "numpy", sklearn_softmax),
        Adapter("Numba, guvectorize, plain loop", ("numba", "numpy"), "softmax", "numpy", numba_softmax),
        Adapter(
            "Numba, vectorize, fastmath",
            ("numba", "numpy"),
            "sigmoid",
            "numpy",
            functools.partial(numba_sigmoid, fastmath=True),
        ),
        Adapter("torch.softmax", ("torch",), "softmax", "torch", functools.partial(torch_function, "softmax")),
        Adapter(
            "torch.log_softmax", ("torch",), "log_softmax", "torch", functools.partial(torch_function, "log_softmax")
        ),
        Adapter("torch.sigmoid", ("torch",), "sigmoid", "torch", torch_sigmoid),
        Adapter("torch.exp(logsigmoid)", ("torch",), "sigmoid", "torch", torch_exp_logsigmoid),
        Adapter("torch softmin of -x", ("torch",), "softmax", "torch", torch_softmin),
        Adapter(
            "torch SDPA, math",
            ("torch",),
            "softmax",
            "torch",
            functools.partial(torch_attention, "MATH"),
            {"empty-row": "zeros"},
        ),
        Adapter(
            "torch.masked.softmax",
            ("torch",),
            "softmax",
            "torch",
            functools.partial(torch_masked, "softmax"),
            {"masked-row": "nan"},
        ),
        Adapter(
            "torch.masked.log_softmax",
            ("torch",),
            "log_softmax",
            "torch",
            functools.partial(torch_masked, "log_softmax"),
            {"masked-row": "nan"},
        ),
        Adapter("additive mask of finfo.min, torch", ("torch",), "softmax", "torch", lambda: torch_additive),
        Adapter("torch.compile(softmax)", ("torch",), "softmax", "torch", functools.partial(torch_compiled, "softmax")),
        Adapter("torch.compile(sigmoid)", ("torch",), "sigmoid", "torch", functools.partial(torch_compiled, "sigmoid")),
    ]
    for name in _THREE:
        axis = {} if name == "sigmoid" else {"axis-none": "last"}
        make = functools.partial(tf_function, name)
        made.append(Adapter(f"tf.nn.{name}", ("tensorflow",), name, "tensorflow", make, axis))
    for name in _THREE:
        made.append(
            Adapter(
                f"jax.nn.{name}",
                ("jax",),
                name,
                "jax",
                functools.partial(jax_masked if name != "sigmoid" else jax_function, name),
            )
        )
    for backend in ("numpy", "torch", "tensorflow", "jax"):
        packages = ("keras", backend)
        for name in _THREE:
            made.append(
                Adapter(
                    f"keras.ops.{name}, {backend}",
                    packages,
                    name,
                    backend,
                    functools.partial(keras_function, name),
                    environment={"KERAS_BACKEND": backend},
                )
            )
    made.append(
        Adapter(
            "keras.layers.Softmax, tensorflow",
            ("keras", "tensorflow"),
            "softmax",
            "tensorflow",
            keras_layer,
            environment={"KERAS_BACKEND": "tensorflow"},
        )
    )
    runs = (
        ("ONNX Runtime", "onnxruntime", onnxruntime_run),
        ("onnx reference", "onnx", reference_run),
        ("OpenVINO", "openvino", openvino_run),
    )
    for title, package, run in runs:
        for name in _THREE:
            made.append(
                Adapter(
                    f"{title} {_NODES[name]}",
                    (package, "onnx"),
                    name,
                    "numpy",
                    functools.partial(onnx_function, _NODES[name], run),
                    threads=package != "openvino",
                )
            )
    made.append(
        Adapter(
            "ONNX Runtime Softmax, opset 11",
            ("onnxruntime", "onnx"),
            "softmax",
            "numpy",
            functools.partial(onnx_function, "Softmax", onnxruntime_run, 11),
            {"axis": "flattens"},
        )
    )
    for title, delegate in (("LiteRT, XNNPACK", True), ("LiteRT, its own kernels", False)):
        for name in _THREE:
            made.append(
                Adapter(
                    f"{title}: {name}",
                    ("ai-edge-litert", "tensorflow"),
                    name,
                    "numpy",
                    functools.partial(litert, name, delegate),
                    threads=False,
                )
            )
    made += [
        Adapter(
            "XGBoost multi:softprob",
            ("xgboost",),
            "softmax",
            "numpy",
            functools.partial(xgboost_function, "multi:softprob"),
        ),
        Adapter(
            "XGBoost binary:logistic",
            ("xgboost",),
            "sigmoid",
            "numpy",
            functools.partial(xgboost_function, "binary:logistic"),
        ),
        Adapter("thinc softmax", ("thinc",), "softmax", "numpy", functools.partial(thinc_function, "softmax")),
        Adapter("thinc sigmoid", ("thinc",), "sigmoid", "numpy", functools.partial(thinc_function, "sigmoid")),
        Adapter(
            "ncnn Softmax", ("ncnn",), "softmax", "numpy", functools.partial(ncnn_function, "Softmax"), threads=False
        ),
        Adapter(
            "ncnn Sigmoid", ("ncnn",), "sigmoid", "numpy", functools.partial(ncnn_function, "Sigmoid"), threads=False
        ),
        Adapter("MNN softmax", ("MNN",), "softmax", "numpy", functools.partial(mnn_function, "softmax"), threads=False),
        Adapter("MNN sigmoid", ("MNN",), "sigmoid", "numpy", functools.partial(mnn_function, "sigmoid"), threads=False),
        Adapter(
            "mlx.core.softmax", ("mlx",), "softmax", "numpy", functools.partial(mlx_function, "softmax"), threads=False
        ),
        Adapter(
            "mlx.core.sigmoid", ("mlx",), "sigmoid", "numpy", functools.partial(mlx_function, "sigmoid"), threads=False
        ),
    ]
    for name in _THREE:
        made.append(
            Adapter(f"paddle {name}", ("paddlepaddle",), name, "numpy", functools.partial(paddle_function, name))
        )
    interpreted = {"environment": {"TRITON_INTERPRET": "1"}, "threads": False, "largest": 20_000}
    made += [
        Adapter("Triton, a row a program, interpreted", ("triton",), "softmax", "torch", triton_softmax, **interpreted),
        Adapter(
            "Liger softmax, interpreted", ("liger-kernel", "triton"), "softmax", "torch", liger_softmax, **interpreted
        ),
        Adapter("Pallas, one block, interpreted", ("jax",), "softmax", "jax", pallas_softmax),
    ]
    return made


ADAPTERS = {adapter.name: adapter for adapter in _table()}
