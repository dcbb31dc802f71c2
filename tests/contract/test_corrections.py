"""For each correction of a backend: the native call still breaks the contract, and polylogit does not.

The first half of each test fails when a framework is repaired, and then the correction can go; the second half fails
when the correction is taken out. Whether a defect can be there at all is asked of the framework: of which kernels serve
(oneDNN's or Eigen's), not of switches or of the processor. Where it cannot, the session's summary says that it was not
met, and the second half is tested all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import polylogit
from frameworks import older

from .conftest import Subject, expected_derivative, expected_value
from .exact import check

pytestmark = pytest.mark.processor

if TYPE_CHECKING:
    from collections.abc import Callable

    Met = Callable[[bool, str], bool]


@pytest.fixture
def met(record_property: Any) -> Met:
    """``met(there, defect)``: whether a native defect can be there; where it cannot, the session's summary names it."""

    def met(there: bool, defect: str) -> bool:
        if not there:
            record_property("native defect not met", defect)
        return there

    return met


@pytest.fixture(scope="module")
def onednn() -> bool:
    """Whether oneDNN serves TensorFlow's softmax."""
    from polylogit._backends.tensorflow import onednn_serves

    return onednn_serves()


def breaks(native: Callable[[], Any], operation: str, x: Any, **kwargs: Any) -> bool:
    """Whether the native call raises or is off by more than the contract allows."""
    try:
        got = np.asarray(native())
        check(got, expected_value(operation, x, **kwargs))
    except Exception:  # noqa: BLE001  a native call may fail in any way
        return True
    return False


def constant(length: int, dtype: str = "float32") -> Any:
    x = np.full(length, -0.1, dtype)
    x[0] = 0
    return x


# --- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.mark.contract(18)
@pytest.mark.requires("torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_pytorchs_running_sums_drift_over_long_rows(row_operation: str, dtype: str, axis: int) -> None:
    import torch

    x = constant(1_000_000, dtype)
    x = x if axis == -1 else x[:, None]
    native = getattr(torch, row_operation)
    assert breaks(lambda: native(torch.tensor(x), axis).numpy(), row_operation, x, axis=axis)
    Subject("torch", "eager").check_values(row_operation, (x, {"axis": axis}))


@pytest.mark.contract(3)
@pytest.mark.requires("torch")
def test_pytorchs_float16_log_softmax_overflows_its_sum() -> None:
    import torch

    x = np.zeros(65_520, "float16")
    assert torch.isinf(torch.log_softmax(torch.tensor(x), -1)).all()
    Subject("torch", "eager").check_values("log_softmax", x)


@pytest.mark.contract(4)
@pytest.mark.requires("torch")
def test_pytorchs_dtype_argument_casts_before_it_computes(row_operation: str) -> None:
    import torch

    x = np.float32([2049, 2048])
    native = getattr(torch, row_operation)
    assert breaks(lambda: native(torch.tensor(x), -1, dtype=torch.float16).numpy(), row_operation, x, dtype="float16")
    Subject("torch", "eager").check_values(row_operation, x, dtype="float16")


# --- TensorFlow ------------------------------------------------------------------------------------------------------


@pytest.mark.contract(14)
@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tensorflows_onednn_softmax_keeps_a_nan_to_its_own_index(bad: float, met: Met, onednn: bool) -> None:
    import tensorflow as tf

    for x in (np.float32([[0, bad, 1]]), np.float32([[0] * 8 + [bad] + [1] * 8])):
        native = tf.nn.softmax(tf.constant(x)).numpy()
        if bad != np.inf and met(onednn, "TensorFlow: oneDNN's softmax keeps a NaN to its own index"):
            assert not np.isnan(native).all()
        for mode in ("eager", "graph"):
            Subject("tensorflow", mode).check_values("softmax", x)


@pytest.mark.contract(6)
@pytest.mark.requires("tensorflow")
def test_tensorflows_softmax_without_onednn_is_one_ulp_low_for_rows_of_one(met: Met, onednn: bool) -> None:
    import tensorflow as tf

    x = np.linspace(-50, 50, 100, dtype="float32")[:, None]
    native = tf.nn.softmax(tf.constant(x)).numpy()
    if met(not onednn, "TensorFlow: Eigen's softmax of rows of one is an ulp low"):
        assert (native != 1).any()
    for mode in ("eager", "graph"):
        (value,) = Subject("tensorflow", mode).check_values("softmax", x)
        assert (value == 1).all()


@pytest.mark.contract(9)
@pytest.mark.requires("tensorflow")
def test_tensorflows_onednn_softmax_refuses_0d_and_6d_tensors(met: Met, onednn: bool) -> None:
    import tensorflow as tf

    for x in (np.float32(1), np.zeros((2,) * 6, "float32")):
        if x.ndim == 0 or met(onednn, "TensorFlow: oneDNN's softmax refuses six dimensions"):
            assert breaks(lambda x=x: tf.raw_ops.Softmax(logits=tf.constant(x)), "softmax", x)
        for mode in ("eager", "graph"):
            Subject("tensorflow", mode).check_values("softmax", x)


@pytest.mark.contract(18)
@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize(("operation", "mode"), [("softmax", "eager"), ("softmax", "xla"), ("log_softmax", "xla")])
def test_tensorflows_running_sums_drift_over_long_rows(operation: str, mode: str, met: Met, onednn: bool) -> None:
    import tensorflow as tf

    subject, x = Subject("tensorflow", mode), constant(300_000)
    native = subject.compiled(lambda x: getattr(tf.nn, operation)(x))
    drifts = onednn if mode == "eager" else not older("tensorflow", "2.21")  # XLA's of 2.18 do not
    if met(drifts, f"TensorFlow: the sums of {'oneDNN' if mode == 'eager' else 'XLA'} drift over long rows"):
        assert breaks(lambda: native(tf.constant(x)), operation, x)
    subject.check_values(operation, x)


@pytest.mark.contract(3)
@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_tensorflows_float16_sums_overflow(mode: str) -> None:
    import tensorflow as tf

    subject, x = Subject("tensorflow", mode), np.zeros(65_520, "float16")
    assert np.isinf(subject.compiled(tf.nn.log_softmax)(tf.constant(x)).numpy()).all()
    if mode == "xla":
        assert breaks(lambda: subject.compiled(tf.nn.softmax)(tf.constant(x)), "softmax", x)
    subject.check_values("softmax", x)
    subject.check_values("log_softmax", x)


@pytest.mark.contract(8)
@pytest.mark.requires("tensorflow")
def test_tensorflow_takes_no_axis_for_the_last_one(row_operation: str) -> None:
    import tensorflow as tf

    x = np.float32([[1, 2], [3, 4]])
    assert breaks(lambda: getattr(tf.nn, row_operation)(tf.constant(x), axis=None), row_operation, x, axis=None)
    Subject("tensorflow", "eager").check_values(row_operation, x, axis=None)


# --- JAX -------------------------------------------------------------------------------------------------------------


@pytest.mark.contract(3)
@pytest.mark.requires("jax")
@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_jaxs_float16_sums_overflow(row_operation: str, mode: str) -> None:
    import jax

    subject, x = Subject("jax", mode), np.zeros(65_520, "float16")
    native = subject.compiled(getattr(jax.nn, row_operation))
    assert breaks(lambda: native(jax.numpy.asarray(x)), row_operation, x)
    subject.check_values(row_operation, x)


@pytest.mark.contract(3)
@pytest.mark.contract(22)
@pytest.mark.requires("jax")
def test_jaxs_float16_cotangents_overflow_their_sum() -> None:
    import jax

    x = np.ones(2**17, "float16")
    native = jax.vjp(jax.nn.log_softmax, jax.numpy.asarray(x))[1](jax.numpy.asarray(x))[0]
    assert not np.isfinite(np.asarray(native)).all()
    got = Subject("jax", "eager").derivative("vjp", "log_softmax", x, x)
    check(got, expected_derivative("vjp", "log_softmax", x, x))


@pytest.mark.contract(21)
@pytest.mark.requires("jax")
def test_jaxs_float16_sigmoid_underflows_early() -> None:
    import jax

    x = np.float16([-11.2, -12.0, -15.0])
    assert (np.asarray(jax.nn.sigmoid(jax.numpy.asarray(x))) == 0).any()
    (value,) = Subject("jax", "eager").check_values("sigmoid", x)
    assert (value > 0).all()


@pytest.mark.contract(1)
@pytest.mark.requires("jax")
def test_jaxs_unsigned_logits_wrap_around(row_operation: str) -> None:
    import jax

    x = np.uint8([1, 2, 3])
    with np.errstate(all="ignore"):
        assert breaks(lambda: getattr(jax.nn, row_operation)(jax.numpy.asarray(x)), row_operation, x.astype("float32"))
    Subject("jax", "eager").check_values(row_operation, x)


# --- XLA, under both -------------------------------------------------------------------------------------------------


def scaled() -> tuple[Any, Any, Any]:
    """Logits, what they are multiplied by, and the exact softmax of the product."""
    x, scale = (np.random.default_rng(0).normal(size=(8, 64)) * 1e10).astype("float32"), np.float32(1 / 0.7)
    return x, scale, expected_value("softmax", x * scale)


def contracts(subject: Subject) -> bool:
    """Whether the compiler makes one fused operation, which rounds once, of a product and a sum."""
    a, c = np.float32([1 + 2**-12] * 64), np.float32([-1 - 2**-11] * 64)
    found = subject.compiled(lambda a, c: a * a + c)(subject.array(a), subject.array(c))
    return bool((subject.numpy(found) != 0).any())


@pytest.mark.contract(17)
@pytest.mark.requires("jax")
def test_jax_recomputes_scaled_logits_differently_inside_one_kernel(met: Met) -> None:
    import jax

    x, scale, exact = scaled()
    if met(contracts(Subject("jax", "jit")), "JAX: XLA recomputes scaled logits by a fused multiply-add"):
        with pytest.raises(AssertionError, match="wrong"):
            check(np.asarray(jax.jit(lambda x: jax.nn.softmax(x * scale))(x)), exact)
    check(np.asarray(jax.jit(lambda x: polylogit.softmax(x * scale))(jax.numpy.asarray(x))), exact)


@pytest.mark.contract(17)
@pytest.mark.requires("tensorflow")
def test_tensorflow_recomputes_scaled_logits_differently_inside_one_kernel(met: Met) -> None:
    import tensorflow as tf

    x, scale, exact = scaled()
    native = tf.function(lambda x: tf.nn.softmax(x * scale), jit_compile=True, autograph=False)
    if met(contracts(Subject("tensorflow", "xla")), "TensorFlow: XLA recomputes scaled logits by a fused multiply-add"):
        with pytest.raises(AssertionError, match="wrong"):
            check(native(tf.constant(x)).numpy(), exact)
    compiled = tf.function(lambda x: polylogit.softmax(x * scale), jit_compile=True, autograph=False)
    check(compiled(tf.constant(x)).numpy(), exact)
