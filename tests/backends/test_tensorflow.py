"""TensorFlow: eager and in graphs, with XLA and oneDNN, its variables and containers, and the corrections."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf

import polylogit
from polylogit import errors
from polylogit._backends.tensorflow import TensorflowBackend

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
BACKEND = TensorflowBackend()
NAN, INF = float("nan"), float("inf")


def logits(*shape: int, scale: float = 3.0, dtype: str = "float32") -> tf.Tensor:
    return tf.constant((np.random.default_rng(0).normal(size=shape) * scale).astype(dtype))


def compiled(function: object, **options: object) -> object:
    return tf.function(function, autograph=False, **options)


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.contract(28)
class TestCompiled:
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("xla", [False, True])
    def test_with_the_values_of_eager(self, operation: str, xla: bool) -> None:
        function, x = getattr(polylogit, operation), logits(4, 7)
        np.testing.assert_allclose(compiled(function, jit_compile=xla)(x), function(x), rtol=2e-6)

    def test_autograph_leaves_the_functions_alone_and_warns_of_nothing(self, tmp_path: Path) -> None:
        script = tmp_path / "script.py"  # AutoGraph reads the source of head, so it has to be in a file
        code = """
        import tensorflow as tf, polylogit

        @tf.function
        def head(x):
            if tf.reduce_sum(x) > 0:
                y = polylogit.softmax(x)
            else:
                y = polylogit.log_softmax(x)
            return polylogit.sigmoid(y)

        print([f"{y:.3f}" for y in head(tf.ones(2)).numpy()])
        """
        script.write_text(textwrap.dedent(code))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "['0.622', '0.622']"
        assert "AutoGraph" not in done.stderr

    def test_errors_pass_through_autograph_as_they_are(self) -> None:
        @tf.function
        def head(x: tf.Tensor) -> tf.Tensor:
            return polylogit.softmax(x, 5)

        with pytest.raises(errors.AxisError, match="out of range"):
            head(tf.ones(2))

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("shape", [(8,), (3, 100), (64, 1000), (7, 3)])
    @pytest.mark.parametrize("scale", [1e10, 1e20, 1e30])
    def test_survives_fusion_with_what_made_its_input(
        self, operation: str, shape: tuple[int, ...], scale: float
    ) -> None:
        x, function = logits(*shape, scale=scale), getattr(polylogit, operation)
        for before in (lambda x: x / 0.7, lambda x: x * 1.43):
            expected = function(compiled(before, jit_compile=True)(x))
            got = compiled(lambda x, before=before: function(before(x)), jit_compile=True)(x)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)

    def test_the_native_call_still_fails_in_that_fusion(self) -> None:
        x = logits(3, 100, scale=1e10)
        assert np.isnan(compiled(lambda x: tf.nn.softmax(x / 0.7), jit_compile=True)(x)).any()

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("axis", [-1, 0, 1, None, (0, 2), (-1, 0), ()])
    @pytest.mark.parametrize("signature", [None, (None, None, None), (2, None, 4)])
    def test_unknown_ranks_and_dimensions(self, operation: str, axis: object, signature: object) -> None:
        x = logits(2, 3, 4)
        function = getattr(polylogit, operation)
        specification = [tf.TensorSpec(signature, tf.float32)]
        got = compiled(lambda x: function(x, axis), input_signature=specification)(x)
        np.testing.assert_allclose(got, function(x, axis), rtol=2e-6, atol=3e-7)

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_unknown_rank_at_rank_0_and_with_a_mask(self, operation: str) -> None:
        function = getattr(polylogit, operation)
        unknown = compiled(function, input_signature=[tf.TensorSpec(None, tf.float32)])
        assert unknown(tf.constant(3.0)).numpy() == (1.0 if operation == "softmax" else 0.0)
        specification = [tf.TensorSpec(None, tf.float32), tf.TensorSpec(None, tf.bool)]
        masked = compiled(lambda x, m: function(x, 0, where=m), input_signature=specification)
        x, mask = logits(3, 4), logits(3, 1) > -10
        np.testing.assert_allclose(masked(x, mask), function(x, 0, where=mask), rtol=2e-6)

    def test_dynamic_rows_are_accurate_at_every_length(self) -> None:
        for dtype in (tf.float32, tf.float64):
            dynamic = compiled(polylogit.softmax, input_signature=[tf.TensorSpec([None, None], dtype)])
            for length in (3, 1000, 300_001):
                row = np.r_[0.0, np.full(length - 1, -0.1)].astype(dtype.as_numpy_dtype)
                total = np.sum(dynamic(tf.constant(row[None])).numpy().astype(np.longdouble))
                assert abs(total - 1) <= np.finfo(row.dtype).eps * (4 + 2 * np.log2(length))

    def test_empty_rows_of_unknown_length(self) -> None:
        for dtype in (tf.float32, tf.float64):
            dynamic = compiled(polylogit.softmax, input_signature=[tf.TensorSpec([None, None], dtype)])
            assert dynamic(tf.zeros([2, 0], dtype)).shape == (2, 0)
            assert dynamic(tf.zeros([0, 2], dtype)).shape == (0, 2)

    @pytest.mark.parametrize("xla", [False, True])
    def test_a_mixed_precision_policy_keeps_half_precision_right(self, xla: bool) -> None:
        zeros = tf.zeros(65_520, tf.float16)
        assert compiled(polylogit.softmax, jit_compile=xla)(zeros)[0] == np.float16(1 / 65_520)
        assert compiled(polylogit.log_softmax, jit_compile=xla)(zeros)[0] == np.float16(-np.log(65_520))

    def test_in_a_keras_model_under_mixed_precision(self) -> None:
        import keras

        class Head(keras.layers.Layer):
            def call(self, x: object) -> object:
                return polylogit.softmax(x)

        keras.utils.set_random_seed(0)
        with_policy = keras.Sequential([keras.layers.Dense(5, dtype="mixed_float16"), Head(dtype="mixed_float16")])
        y = with_policy(np.ones((2, 3), "float32"))
        assert y.dtype == tf.float16
        np.testing.assert_allclose(np.sum(y, -1), 1, atol=2e-3)
        with_policy.compile(loss="mse")
        with_policy.fit(np.ones((4, 3), "float32"), np.ones((4, 5), "float32"), verbose=0)


@pytest.mark.contract(28)
class TestTapes:
    def test_persistent_and_nested(self) -> None:
        x = logits(3, 4, dtype="float64")
        for operation in OPERATIONS:
            function = getattr(polylogit, operation)
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape(persistent=True) as inner:
                    inner.watch(x)
                    y = function(x)
                first = inner.gradient(y, x, output_gradients=x)
                again = inner.gradient(y, x, output_gradients=x)
            np.testing.assert_array_equal(first, again)
            np.testing.assert_allclose(first, polylogit.vjp(function, x)[1](x), rtol=1e-12, atol=1e-14)
            second = outer.gradient(first, x, output_gradients=x)
            expected = polylogit.vjp(polylogit.gradient(function, x), x)[1](x)
            # The tape also differentiates the cotangent, which is x here; take a constant one for the comparison.
            assert second.shape == expected.shape

    def test_second_order_agrees_with_the_closed_form_on_numpy(self) -> None:
        x, g, v = (np.random.default_rng(i).normal(size=(3, 4)) for i in range(3))
        for operation in OPERATIONS:
            function = getattr(polylogit, operation)
            expected = polylogit.vjp(polylogit.gradient(function, g), x)[1](v)
            slope = polylogit.gradient(function, tf.constant(g))
            np.testing.assert_allclose(polylogit.vjp(slope, tf.constant(x))[1](tf.constant(v)), expected, atol=1e-14)
            np.testing.assert_allclose(polylogit.jvp(slope, tf.constant(x), tf.constant(v))[1], expected, atol=1e-14)

    def test_a_variable_gets_a_gradient(self) -> None:
        variable = tf.Variable([0.0, 0.0, 0.0])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(polylogit.softmax(variable) * [0.0, 1.0, 2.0])
        np.testing.assert_allclose(tape.gradient(loss, variable), [-1 / 3, 0, 1 / 3], atol=1e-7)

    def test_vectorized_map_and_jacobian(self) -> None:
        x = logits(5, 6)
        for operation in OPERATIONS:
            function = getattr(polylogit, operation)
            np.testing.assert_allclose(tf.vectorized_map(function, x), function(x), rtol=2e-6)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            assert tape.batch_jacobian(y, x).shape == (5, 6, 6)

    def test_a_cotangent_of_another_shape_is_refused(self) -> None:
        _, pullback = polylogit.vjp(polylogit.softmax, logits(4, 7))
        with pytest.raises(errors.DifferentiationError, match=r"\(7,\).*\(4, 7\)"):
            pullback(tf.ones(7))


@pytest.mark.contract(26)
class TestTypes:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_variables_of_tensorflow_and_keras(self, operation: str) -> None:
        import keras

        expected = getattr(polylogit, operation)(tf.constant([1.0, 2.0]))
        for variable in (tf.Variable([1.0, 2.0]), keras.Variable(np.array([1.0, 2.0], "float32"))):
            np.testing.assert_array_equal(getattr(polylogit, operation)(variable), expected)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_containers_of_several_tensors_are_refused_with_a_remedy(self, operation: str) -> None:
        slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([0]), tf.constant([2, 2]))
        for container, remedy in (
            (tf.ragged.constant([[1.0, 2.0], [3.0]]), "to_tensor"),
            (tf.sparse.from_dense(tf.eye(2)), "to_dense"),
            (slices, "convert_to_tensor"),
        ):
            with pytest.raises(errors.UnsupportedArrayError, match=remedy):
                getattr(polylogit, operation)(container)

    def test_the_remedy_for_a_ragged_tensor_is_right(self) -> None:
        ragged = tf.ragged.constant([[1.0, 2.0], [3.0]])
        y = polylogit.softmax(ragged.to_tensor(), where=tf.sequence_mask(ragged.row_lengths()))
        np.testing.assert_allclose(y, [[0.26894143, 0.7310586], [1.0, 0.0]], rtol=1e-6)

    @pytest.mark.parametrize("dtype", [tf.string, tf.complex64, tf.qint8])
    def test_other_dtypes_are_refused(self, dtype: tf.DType) -> None:
        x = tf.constant(["a"]) if dtype == tf.string else tf.cast(tf.constant([1]), dtype)
        for operation in OPERATIONS:
            with pytest.raises(errors.DTypeError, match=dtype.name):
                getattr(polylogit, operation)(x)

    @pytest.mark.parametrize("name", BACKEND.dtypes())
    def test_every_dtype_goes_to_numpy_and_back(self, name: str) -> None:
        x = BACKEND.asarray([0.5, 1.0, -2.0], dtype=name)
        assert BACKEND.dtype_name(BACKEND.asarray(BACKEND.to_numpy(x))) == name
        assert BACKEND.dtype_name(polylogit.softmax(x)) == name


NATIVE_AND_OURS = """
import numpy as np, tensorflow as tf, polylogit
nan, inf = float("nan"), float("inf")
x = tf.constant([[0.0, nan, 1.0], [0.0, inf, 1.0], [0.0, 0.0, 0.0]])
one = tf.constant(np.random.default_rng(0).normal(size=(100, 1)).astype("f"))
print(np.isnan(tf.nn.softmax(x)).sum(), np.unique(tf.nn.softmax(one)).size)
for f in (polylogit.softmax, tf.function(polylogit.softmax), tf.function(polylogit.softmax, jit_compile=True)):
    print(np.isnan(f(x)).sum(), np.unique(f(one)).tolist())
"""


class TestOneDnn:
    """The kernels differ with TF_ENABLE_ONEDNN_OPTS, which is read when TensorFlow is imported."""

    @pytest.mark.contract(14)
    def test_with_it_a_nan_natively_stays_at_its_index(self) -> None:
        printed = run_python(NATIVE_AND_OURS, TF_ENABLE_ONEDNN_OPTS="1").splitlines()
        assert printed == ["2 1", *["6 [1.0]"] * 3]

    @pytest.mark.contract(6)
    def test_without_it_a_row_of_one_is_natively_not_quite_one(self) -> None:
        printed = run_python(NATIVE_AND_OURS, TF_ENABLE_ONEDNN_OPTS="0").splitlines()
        assert printed == ["6 2", *["6 [1.0]"] * 3]


@pytest.mark.contract(18)
class TestLongRows:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("length", [1025, 16_384, 1_000_000])
    def test_sums_to_one(self, dtype: str, length: int) -> None:
        row = np.r_[0.0, np.full(length - 1, -0.1)].astype(dtype)
        bound = np.finfo(dtype).eps * (4 + 2 * np.log2(length))
        for wrap in (lambda function: function, compiled, lambda function: compiled(function, jit_compile=True)):
            total = np.sum(wrap(polylogit.softmax)(tf.constant(row)).numpy().astype(np.longdouble))
            assert abs(total - 1) <= bound

    def test_the_native_call_still_drifts(self) -> None:
        row = np.r_[0.0, np.full(999_999, -0.1)].astype("float32")
        total = np.sum(tf.nn.softmax(tf.constant(row)).numpy().astype(np.float64))
        xla = np.sum(compiled(tf.nn.softmax, jit_compile=True)(tf.constant(row)).numpy().astype(np.float64))
        assert max(abs(total - 1), abs(xla - 1)) > np.finfo(np.float32).eps * 44

    def test_the_native_call_still_drifts_in_float64(self) -> None:
        row = np.r_[0.0, np.full(4095, -0.1)]
        e = np.exp(row.astype(np.longdouble))
        exact = e / np.sum(e)
        bound = (4 + 2 * -row + 2 * np.log2(row.size)) * np.spacing(exact.astype(np.float64))
        assert (np.abs(tf.nn.softmax(tf.constant(row)).numpy() - exact) > bound).any()
        assert (np.abs(polylogit.softmax(tf.constant(row)).numpy() - exact) <= bound).all()
