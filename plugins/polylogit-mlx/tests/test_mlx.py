"""MLX through polylogit: the whole kit, and what it does not ask."""

import math

import mlx.core as mx
import numpy as np
import pytest
from polylogit_mlx import double

import polylogit
from polylogit import conformance, errors


def test_every_case_of_level_quick_agrees_with_exact_values():
    report = conformance.run(["mlx"], level="quick")
    assert report.status == 0, report.summary()
    assert report.environment["backends"]["mlx"] == mx.__version__


def test_an_array_is_served_without_naming_the_backend():
    y = polylogit.softmax(mx.array([3.2, 5.1, 2.7]))
    assert isinstance(y, mx.array)
    np.testing.assert_allclose(np.array(y), [0.12059, 0.80627, 0.07314], atol=5e-6)


def test_log_softmax_serves_the_shape_on_which_mlx_nn_ends_the_process():
    assert polylogit.log_softmax(mx.zeros((3, 1))).tolist() == [[0.0]] * 3


def test_float64_has_its_digits():
    x = np.concatenate([np.linspace(-745.0, 709.0, 5001), [0.0, -0.0, -math.inf, math.inf, math.nan]])
    with np.errstate(all="ignore"):
        right = np.exp(x)
    got = np.array(double.exp(mx.array(x, dtype=mx.float64)))
    np.testing.assert_allclose(got, right, rtol=8 * np.finfo(float).eps, atol=2.0**-1074)
    n = np.linspace(1.0, 1e6, 5001)
    np.testing.assert_allclose(np.array(double.log(mx.array(n, dtype=mx.float64))), np.log(n), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("transform", [mx.compile, mx.vmap], ids=["compile", "vmap"])
def test_it_can_be_transformed(transform):
    x = mx.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
    assert np.allclose(np.array(transform(polylogit.softmax)(x)), np.array(mx.softmax(x, axis=-1)), atol=1e-6)


def test_mlx_differentiates_it_in_a_function_of_the_users():
    x, target = mx.array([1.0, 2.0, 3.0]), mx.array([0.0, 0.0, 1.0])
    slope = mx.grad(lambda x: -(polylogit.log_softmax(x) * target).sum())(x)
    assert np.allclose(np.array(slope), np.array(mx.softmax(x) - target), atol=1e-6)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32", "bool", "complex64"])
def test_convert_keeps_the_dtype_both_ways(name):
    x = mx.array([1, 0, 1]).astype(getattr(mx, "bool_" if name == "bool" else name))
    there = polylogit.convert(x, "numpy")
    assert there.dtype.name == name
    back = polylogit.convert(there, "mlx")
    assert back.dtype == x.dtype
    assert back.tolist() == x.tolist()


def test_a_tracer_is_not_converted():
    def traced(x):
        with pytest.raises(errors.ConversionError, match="outside of compile"):
            polylogit.convert(x, "numpy")
        return x

    mx.compile(traced)(mx.zeros(2))


def test_what_mlx_lacks_is_refused_with_a_remedy():
    with pytest.raises(errors.DTypeError, match="MLX has no dtype"):
        polylogit.get_backend("mlx").asarray([1.0], dtype="float128")
    with pytest.raises(errors.ConversionError, match="MLX has no dtype complex128"):
        polylogit.convert(np.zeros(1, complex), "mlx")
    with pytest.raises(errors.DTypeError, match="complex64"):
        polylogit.softmax(mx.zeros(2, dtype=mx.complex64))


def test_a_port_to_mlx_is_compared_as_any_other():
    x = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    agree = polylogit.porting.compare(polylogit.softmax, lambda x: mx.softmax(mx.array(x), axis=-1), inputs=x)
    assert agree.agrees, agree.summary()
    wrong = polylogit.porting.compare(polylogit.softmax, lambda x: mx.softmax(mx.array(x), axis=0), inputs=x)
    assert not wrong.agrees
