"""What the kit found in implementations of others: each as a few lines of Python, and its verification by exact arithmetic.

The lines need neither polylogit nor its kit; they leave the result in ``y``. `judged` compares it with the closed form in
mpmath, from the logits that a finding names, and does not ask the kit.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WRONG, CONVENTION, INACCURATE = "wrong", "another convention", "less accurate"
_PRECISION = {"float64": (53, -1074), "float32": (24, -149), "float16": (11, -24), "bfloat16": (8, -133)}


@dataclass(frozen=True)
class Finding:
    """One fault.

    `row`: the logits, an expression that gives a list. `first`: what the first numbers of ``y`` belong to, an index into
    it. `cotangent`: where ``y`` is a gradient. `masked`: the indices that take no part. `crashes`: the process ends.
    """

    name: str
    packages: tuple[str, ...]
    operation: str
    code: str
    row: str
    dtype: str = "float32"
    kind: str = WRONG
    said: str = ""
    report: str = ""
    first: int = 0
    cotangent: str = ""
    masked: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    crashes: bool = False


def exact(finding: Finding, count: int) -> tuple[list[Any], list[float]]:
    """The first `count` numbers as they should be, with 60 digits, and how far each logit is below the maximum."""
    import mpmath

    mpmath.mp.dps = 60
    row = [float(value) for value in eval(finding.row, {"inf": math.inf, "nan": math.nan})]
    kept = [place for place in range(len(row)) if place not in finding.masked]
    if finding.operation == "sigmoid":
        value = {x: mpmath.mpf(1) / (1 + mpmath.exp(-mpmath.mpf(x))) if math.isfinite(x) else
                 mpmath.mpf({math.inf: 1, -math.inf: 0}.get(x, "nan")) for x in set(row)}  # fmt: skip
        return [value[x] for x in row[:count]], [max(0.0, -x) if math.isfinite(x) else 0.0 for x in row[:count]]
    top = max((row[place] for place in kept), default=-math.inf)
    counts = Counter(row[place] for place in kept)
    bad = any(math.isnan(row[place]) or row[place] == math.inf for place in kept) or top == -math.inf

    def power(x: float) -> Any:
        return mpmath.exp(mpmath.mpf(x) - mpmath.mpf(top)) if x > -math.inf else mpmath.mpf(0)

    nothing = 0 if finding.operation == "softmax" else -mpmath.inf
    if bad:
        return [mpmath.mpf("nan") if place in kept else nothing for place in range(min(count, len(row)))], [0.0] * count
    total = sum(times * power(x) for x, times in counts.items())
    distances = [top - x if x > -math.inf else 0.0 for x in row[:count]]
    if finding.cotangent:
        g = [mpmath.mpf(value) for value in eval(finding.cotangent)]
        y = {x: power(x) / total for x in counts}
        if finding.operation == "softmax":
            mean = sum(g[place] * y[row[place]] for place in kept)
            found = [y[row[place]] * (g[place] - mean) if place in kept else mpmath.mpf(0) for place in range(count)]
        else:
            whole = sum(g[place] for place in kept)
            found = [g[place] - y[row[place]] * whole if place in kept else mpmath.mpf(0) for place in range(count)]
        return found, distances
    values = []
    for place in range(min(count, len(row))):
        if place in finding.masked:
            values.append(nothing)
        elif finding.operation == "softmax":
            values.append(power(row[place]) / total)
        else:
            x = row[place]
            values.append(mpmath.mpf(x) - top - mpmath.log(total) if x > -math.inf else -mpmath.inf)
    return values, distances


def judged(finding: Finding, got: list[float]) -> dict[str, Any]:
    """Whether the finding holds: the worst number, what it should be, and how many units in the last place are between.

    It holds where a number is missing, or off by more than rounding explains: 8 + 2 d + 2 log2(n) units, d the distance
    from the maximum, of float32 for 16 bits, whose results may be off by one of their own units as well.
    """
    import mpmath

    length = len(eval(finding.row, {"inf": math.inf, "nan": math.nan}))
    values, distances = exact(finding, len(got))
    precision, lowest = _PRECISION[finding.dtype]
    worst: dict[str, Any] = {"holds": False, "times": -1.0}
    for place, (number, value, distance) in enumerate(zip(got, values, distances, strict=False)):
        wanted = mpmath.mpf(value)
        if mpmath.isnan(wanted) or mpmath.isinf(wanted) or not math.isfinite(number):
            same = (math.isnan(number) and mpmath.isnan(wanted)) or (not math.isnan(number) and number == wanted)
            times, units = (0.0, 0.0) if same else (math.inf, math.inf)
        elif wanted == 0:
            times, units = (0.0, 0.0) if number == 0 else (math.inf, math.inf)
        else:
            spacing = mpmath.mpf(2) ** max(int(mpmath.floor(mpmath.log(abs(wanted), 2))) + 1 - precision, lowest)
            units = float(abs(number - wanted) / spacing)
            zone = finding.dtype != "float16" and abs(wanted) < mpmath.mpf(2) ** (lowest + precision + 1)
            allowed = (8 + 2 * distance + 2 * math.log2(max(2, length))) * (1 if precision > 23 else 2.0 ** (precision - 24))
            times = 0.0 if zone and 0 <= number <= 2 * wanted else units / (allowed + (precision < 24))
        if times > worst["times"]:
            worst = {"place": place, "got": repr(number), "exact": mpmath.nstr(wanted, 9), "times": times,
                     "units": units}  # fmt: skip
    worst["holds"] = worst["times"] > 1.0
    return {key: ("inf" if value == math.inf else value) for key, value in worst.items()}


_KERAS = {"KERAS_BACKEND": "numpy"}
_ONNX = """import numpy as np, onnx.helper as h, {runtime}
i, o = (h.make_tensor_value_info(n, {kind}, [{size}]) for n in "xy")
m = h.make_model(h.make_graph([h.make_node("{node}", ["x"], ["y"])], "g", [i], [o]), ir_version=8, opset_imports=[h.make_opsetid("", 17)])
y = {call}; print(y)"""
_ORT = 'ort.InferenceSession(m.SerializeToString()).run(None, {{"x": np.array({x}, np.{dtype})}})[0]'
_REFERENCE = 'ReferenceEvaluator(m).run(None, {{"x": {x}}})[0]'
_OPENVINO = 'np.array(ov.compile_model(ov.Core().read_model(m.SerializeToString(), b""), "CPU")([{x}])[0])'


def _ort(node: str, kind: int, dtype: str, x: str) -> str:
    call = _ORT.format(x=x, dtype=dtype)
    return _ONNX.format(runtime="onnxruntime as ort", kind=kind, size=x.count(",") + 1, node=node, call=call)


def _reference(node: str, kind: int, size: int, x: str) -> str:
    code = _ONNX.format(runtime="onnx", kind=kind, size=size, node=node, call=_REFERENCE.format(x=x))
    return code.replace(", onnx\n", "\nfrom onnx.reference import ReferenceEvaluator\n")


def _openvino(node: str, kind: int, x: str, dtype: str) -> str:
    given = f"np.array({x}, np.{dtype})"
    return _ONNX.format(
        runtime="openvino as ov", kind=kind, size=x.count(",") + 1, node=node, call=_OPENVINO.format(x=given)
    )


FINDINGS = [
    Finding("SciPy: unsigned logits wrap", ("scipy",), "softmax",
            "import numpy as np, scipy.special\ny = scipy.special.softmax(np.array([1, 2, 3], np.uint8))\nprint(y)",
            "[1, 2, 3]", "float64", report="cupy/cupy#6823",
            said="The maximum is subtracted in uint8: 1 - 3 is 254, whose exponential overflows."),
    Finding("SciPy: the sum of float16 overflows", ("scipy",), "softmax",
            "import numpy as np, scipy.special\ny = scipy.special.softmax(np.zeros(65520, np.float16))\nprint(y[:3])",
            "[0] * 65520", "float16", said="The sum of 65,520 ones is infinite in float16."),
    Finding("SciPy: log_softmax of as many", ("scipy",), "log_softmax",
            "import numpy as np, scipy.special\ny = scipy.special.log_softmax(np.zeros(65520, np.float16))\nprint(y[:3])",
            "[0] * 65520", "float16", said="The same sum."),
    Finding("SciPy: the sum of bfloat16 stops", ("scipy", "ml_dtypes"), "softmax",
            "import numpy as np, ml_dtypes, scipy.special\ny = scipy.special.softmax(np.zeros(512, ml_dtypes.bfloat16))\nprint(y[:3])",
            "[0] * 512", "bfloat16", said="256 + 1 is 256 in bfloat16."),
    Finding("scikit-learn: the sum of float16 overflows", ("scikit-learn",), "softmax",
            "import numpy as np\nfrom sklearn.utils.extmath import softmax\ny = softmax(np.zeros((1, 65520), np.float16))[0]; print(y[:3])",
            "[0] * 65520", "float16", said="The same sum, in the dtype of the logits."),
    Finding("torch: log_softmax of 65,520 float16 zeros", ("torch",), "log_softmax",
            "import torch\ny = torch.log_softmax(torch.zeros(65520, dtype=torch.float16), -1)\nprint(y[:3])",
            "[0] * 65520", "float16", said="On the CPU the sum is one of float16, and infinite."),
    Finding("torch: the sum of a long column drifts", ("torch",), "softmax",
            "import torch\nx = torch.full((4_000_000, 1), -1.1); x[0] = 0\ny = torch.softmax(x, 0)[:, 0]; print(y[:3], y.double().sum())",
            "[0] + [-1.10000002384185791015625] * 3999999", kind=INACCURATE,
            said="One running sum in float32 for each column; the probabilities of a column sum to more than 1."),
    Finding("torch.masked: what is masked out enters the gradient", ("torch",), "log_softmax",
            "import torch\nx = torch.tensor([0., 1., 2.], requires_grad=True); m = torch.tensor([True, True, False])\ntorch.masked.log_softmax(x, 0, mask=m).backward(torch.tensor([1., 0., 9.])); y = x.grad; print(y)",
            "[0, 1, 2]", cotangent="[1, 0, 9]", masked=(2,), said="The cotangent of an entry that takes no part is taken into their sum."),
    Finding("An additive mask keeps NaN", ("torch",), "softmax",
            "import torch\nx, m = torch.tensor([float('nan'), 1., 2.]), torch.tensor([False, True, True])\ny = torch.softmax(x + torch.where(m, 0., torch.finfo(x.dtype).min), 0); print(y)",
            "[nan, 1, 2]", masked=(0,), said="NaN plus the lowest number is NaN. A mask by where would have hidden it."),
    Finding("torch.compile: logits of uint8", ("torch",), "softmax",
            "import torch\nx = torch.tensor([1, 2, 3], dtype=torch.uint8)\ny = torch.compile(torch.softmax)(x, -1); print(y)",
            "[1, 2, 3]", said="Uncompiled, it is refused with an error; compiled, the result is uint8."),
    Finding("TensorFlow: softmax of one class", ("tensorflow",), "softmax",
            "import os; os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'\nimport tensorflow as tf\ny = tf.nn.softmax(tf.zeros((8, 1)))[:1]; print(y)", "[0]",
            kind=INACCURATE, report="tensorflow/tensorflow#116933",
            said="Without oneDNN (as on other processors than x86), with eight rows or more, the reciprocal is an approximation: one class has the probability 1 - 2^-24."),
    Finding("TensorFlow: the sum of float16 overflows", ("tensorflow",), "softmax",
            "import tensorflow as tf\ny = tf.nn.softmax(tf.zeros(65536, tf.float16))\nprint(y[:3])", "[0] * 65536", "float16",
            said="A sum in float16."),
    Finding("TensorFlow: log_softmax of as many", ("tensorflow",), "log_softmax",
            "import tensorflow as tf\ny = tf.nn.log_softmax(tf.zeros(65536, tf.float16))\nprint(y[:3])", "[0] * 65536",
            "float16", said="A sum in float16."),
    Finding("TensorFlow: NaN stays in its place", ("tensorflow",), "softmax",
            "import tensorflow as tf\ny = tf.nn.softmax(tf.constant([0., float('nan'), 1.]))\nprint(y)", "[0, nan, 1]",
            said="With oneDNN, the default on x86."),
    Finding("JAX: unsigned logits wrap", ("jax",), "softmax",
            "import jax, jax.numpy as jnp\ny = jax.nn.softmax(jnp.array([1, 2, 3], jnp.uint8))\nprint(y)", "[1, 2, 3]",
            said="1 - 3 is 254 in uint8."),
    Finding("JAX: the sum of float16 overflows", ("jax",), "softmax",
            "import jax, jax.numpy as jnp\ny = jax.nn.softmax(jnp.zeros(65520, jnp.float16))\nprint(y[:3])", "[0] * 65520",
            "float16", said="A sum in float16."),
    Finding("JAX: sigmoid of -12 in float16", ("jax",), "sigmoid",
            "import jax, jax.numpy as jnp\ny = jax.nn.sigmoid(jnp.array([-12.], jnp.float16))\nprint(y)", "[-12]", "float16",
            said="exp(12) is infinite in float16, in which everything is computed."),
    Finding("JAX: the gradient of log_softmax in float16", ("jax",), "log_softmax",
            "import jax, jax.numpy as jnp\nx = jnp.ones(2**17, jnp.float16)\ny = jax.vjp(jax.nn.log_softmax, x)[1](x)[0]; print(y[:3])",
            "[1] * 2**17", "float16", cotangent="[1] * 2**17", report="jax-ml/jax#40409",
            said="The sum of the cotangents overflows in float16."),
    Finding("Keras on NumPy: unsigned logits", ("keras",), "sigmoid",
            "import numpy as np, keras\ny = keras.ops.sigmoid(np.array([3], np.uint8))\nprint(y)", "[3]",
            environment=_KERAS, said="-3 is 253 in uint8."),
    Finding("Keras on NumPy: softmax of unsigned logits", ("keras",), "softmax",
            "import numpy as np, keras\ny = keras.ops.softmax(np.array([1, 2, 3], np.uint8))\nprint(y)", "[1, 2, 3]",
            environment=_KERAS, said="1 - 3 is 254."),
    Finding("Keras: the mask of the Softmax layer", ("keras",), "softmax",
            "import numpy as np, keras\nx, m = np.array([[-1e10, 5, -1e10]], 'float32'), np.array([[True, False, True]])\ny = keras.layers.Softmax()(x, mask=m)[0]; print(y)",
            "[-1e10, 5, -1e10]", masked=(1,), environment=_KERAS, report="keras-team/keras#21123",
            said="-1e9 is added where masked out, which is far above the others here."),
    Finding("ONNX Runtime: Sigmoid of -18", ("onnxruntime", "onnx"), "sigmoid", _ort("Sigmoid", 1, "float32", "[-18]"),
            "[-18]", report="microsoft/onnxruntime#26281, #24685", said="1 - sigmoid(18), whose small result is lost."),
    Finding("ONNX Runtime: Sigmoid of -15", ("onnxruntime", "onnx"), "sigmoid", _ort("Sigmoid", 1, "float32", "[-15]"),
            "[-15]", report="microsoft/onnxruntime#26281, #24685", said="The same, a fifth too large."),
    Finding("ONNX Runtime: LogSoftmax loses NaN", ("onnxruntime", "onnx"), "log_softmax",
            _ort("LogSoftmax", 11, "float64", "[1, np.nan]"), "[1, nan]", "float64",
            said="In double: a positive logarithm of a probability beside a NaN."),
    Finding("onnx reference: LogSoftmax is the logarithm of Softmax", ("onnx",), "log_softmax",
            _reference("LogSoftmax", 1, 2, "np.array([0, -104], np.float32)"), "[0, -104]",
            said="-inf where the probability is 0 in float32."),
    Finding("onnx reference: the sum of float16 overflows", ("onnx",), "softmax",
            _reference("Softmax", 10, 65520, "np.zeros(65520, np.float16)").replace("print(y)", "print(y[:3])"),
            "[0] * 65520", "float16", said="A sum in float16."),
    Finding("OpenVINO: a NaN is lost", ("openvino", "onnx"), "softmax",
            _openvino("Softmax", 1, "[np.nan, 1]", "float32"), "[nan, 1]", report="openvinotoolkit/openvino#35897",
            said="The probability beside a NaN is 0."),
    Finding("OpenVINO: double is computed in float32", ("openvino", "onnx"), "softmax",
            _openvino("Softmax", 11, "[0, -110]", "float64"), "[0, -110]", "float64",
            said="exp(-110) is 0 in float32, and no small number in double."),
    Finding("OpenVINO: double of nothing but -inf", ("openvino", "onnx"), "softmax",
            _openvino("Softmax", 11, "[-np.inf, -np.inf]", "float64"), "[-inf, -inf]", "float64", kind=CONVENTION,
            said="-inf becomes the lowest number of float32: uniform, and NaN in float32."),
    Finding("MLX: log_softmax of one class", ("mlx",), "log_softmax",
            "import mlx.core as mx, mlx.nn as nn\ny = nn.log_softmax(mx.zeros((1, 1)))\nprint(y)", "[0]", crashes=True,
            said="The process ends."),
    Finding("MLX: the sum of a long row drifts", ("mlx",), "softmax",
            "import mlx.core as mx\nx = mx.full((65537,), -1.1); x[0] = 0\ny = mx.softmax(x); print(y[:3])",
            "[0] + [-1.10000002384185791015625] * 65536", kind=INACCURATE, said="A sum in float32, in few lanes."),
    Finding("MLX: the sum of bfloat16 stops", ("mlx",), "softmax",
            "import mlx.core as mx\nx = mx.zeros(512, mx.bfloat16)\ny = mx.softmax(x).astype(mx.float32); print(y[:3])",
            "[0] * 512", "bfloat16", said="256 + 1 is 256; precise=True is right."),
    Finding("Paddle: -inf is -64", ("paddlepaddle",), "softmax",
            "import paddle\ny = paddle.nn.functional.softmax(paddle.to_tensor([0., float('-inf')]))\nprint(y)", "[0, -inf]",
            report="PaddlePaddle/Paddle#69859", said="Distances from the maximum are clipped at -64."),
    Finding("Paddle: log_softmax likewise", ("paddlepaddle",), "log_softmax",
            "import paddle\ny = paddle.nn.functional.log_softmax(paddle.to_tensor([0., float('-inf')]))\nprint(y)",
            "[0, -inf]", report="PaddlePaddle/Paddle#69859", said="The same."),
    Finding("thinc: sigmoid is clipped", ("thinc",), "sigmoid",
            "import numpy as np, thinc.api\ny = thinc.api.NumpyOps().sigmoid(np.array([-30.], 'float32'))\nprint(y)", "[-30]",
            said="Logits are clipped at -20."),
    Finding("ncnn: Sigmoid of NaN", ("ncnn",), "sigmoid",
            "import numpy as np, ncnn\nn = ncnn.Net(); n.load_param_mem('7767517\\n2 2\\nInput x 0 1 x\\nSigmoid y 1 1 x y\\n')\ne, x = n.create_extractor(), np.array([np.nan], 'float32'); e.input('x', ncnn.Mat(x).clone()); y = np.array(e.extract('y')[1]); print(y)",
            "[nan]", said="A NaN becomes a probability."),
    Finding("MNN: sigmoid of NaN", ("MNN",), "sigmoid",
            "import MNN.expr as F\nx = F.const([float('nan')], [1], F.NCHW, F.float)\ny = F.sigmoid(x).read(); print(y)", "[nan]",
            said="A NaN becomes certainty."),
    Finding("MNN: -inf among eight", ("MNN",), "softmax",
            "import MNN.expr as F\nx = F.const([0.] * 7 + [float('-inf')], [1, 8], F.NCHW, F.float)\ny = F.softmax(x, 1).read(); print(y)",
            "[0] * 7 + [-inf]", said="The exponential is clipped: not 0."),
    Finding("XGBoost: sigmoid of -inf", ("xgboost",), "sigmoid",
            "import numpy as np, xgboost as xgb\nd = xgb.DMatrix(np.zeros((1, 1)), base_margin=[-np.inf], label=[0])\ny = xgb.Booster({'objective': 'binary:logistic', 'base_score': 0.5}, [d]).predict(d); print(y)",
            "[-inf]", said="The exponential's argument is clipped: not 0."),
]  # fmt: skip
