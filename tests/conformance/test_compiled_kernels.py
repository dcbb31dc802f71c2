"""Where a framework compiles each shape anew, fewer are asked for, and what shows a fault is still among them."""

import inspect

import numpy as np
import pytest

from polylogit import conformance

from .kernels.faults import FAULTS
from .kernels.reported import REPORTED
from .measure import first_failure

jax = pytest.importorskip("jax")

# Each shows in one place of all that is asked: a shape, an axis, a length, a format or a cotangent.
SHOWN_ONCE = {
    name: {**FAULTS, **REPORTED}[name]
    for name in (
        "bf16_vector_path_no_max",
        "f16_sum_overflow",
        "unsigned_wraparound",
        "vjp_log_softmax_f16_overflow",
        "logarithm_twice_beyond_100000",
        "wider_than_65536",
        "three_dimensions_last_axis",
        "ones_at_the_end",
        "only_ones_before",
        "vjp_softmax_many_rows",
        "vjp_softmax_last_axis_only",
        "sigmoid_integer_part",
    )
}


def on_jax(function):
    """A function of NumPy arrays as one of JAX's."""

    def called(*args, **kwargs):
        given = [np.array(one) if isinstance(one, jax.Array) else one for one in args]
        return jax.numpy.asarray(function(*given, **kwargs))

    called.__signature__ = inspect.signature(function)
    return called


@pytest.mark.parametrize("name", SHOWN_ONCE)
def test_a_fault_that_shows_in_one_place_is_caught(name):
    operation, implementation, vjp = SHOWN_ONCE[name]
    found = first_failure(operation, on_jax(implementation), vjp and on_jax(vjp), "jax")
    assert found is not None
    assert found.message


def test_a_right_kernel_is_not_accused_and_is_compiled_a_few_dozen_times_for_each_format():
    traced = []

    @jax.jit
    def sigmoid(x):
        traced.append((x.shape, x.dtype.name))
        y = jax.nn.sigmoid(x.astype(jax.numpy.result_type(x, np.float32)))  # in float16 it is 0 from -11.1 on
        return y.astype(x.dtype) if jax.numpy.issubdtype(x.dtype, np.floating) else y

    report = conformance.check(sigmoid, "sigmoid", backend="jax", level="quick")
    assert report.passed, report.summary()
    shapes = {dtype: sum(one == dtype for _, one in set(traced)) for _, dtype in set(traced)}
    assert max(shapes.values()) <= 50, shapes
