"""Paddle through polylogit: the whole kit, and what it does not ask."""

import math

import numpy as np
import paddle
import pytest

import polylogit
from polylogit import conformance, errors


def test_every_case_of_level_quick_agrees_with_exact_values():
    report = conformance.run(["paddle"], level="quick")
    assert report.status == 0, report.summary()
    assert report.environment["backends"]["paddle"] == paddle.__version__


def test_a_tensor_is_served_without_naming_the_backend():
    y = polylogit.softmax(paddle.to_tensor([3.2, 5.1, 2.7]))
    assert isinstance(y, paddle.Tensor)
    np.testing.assert_allclose(y.numpy(), [0.12059, 0.80627, 0.07314], atol=5e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_minus_infinity_is_exactly_nothing_which_it_is_not_to_paddle(dtype):
    x = paddle.to_tensor([0.0] + [-math.inf] * 16, dtype=dtype)
    assert polylogit.softmax(x).tolist() == [1.0] + [0.0] * 16
    assert polylogit.log_softmax(x).tolist() == [0.0] + [-math.inf] * 16
    assert polylogit.sigmoid(x).tolist() == [0.5] + [0.0] * 16


def test_paddle_differentiates_it_in_a_function_of_the_users():
    x = paddle.to_tensor([1.0, 2.0, 3.0], stop_gradient=False)
    loss = -polylogit.log_softmax(x)[2]
    loss.backward()
    assert np.allclose(x.grad.numpy(), polylogit.softmax(x).numpy() - [0.0, 0.0, 1.0], atol=1e-6)


def test_derivatives_stay_connected_to_what_the_logits_were_made_of():
    x = paddle.to_tensor([0.5, -1.0], dtype="float64", stop_gradient=False)
    y, pullback = polylogit.vjp(polylogit.sigmoid, 2.0 * x)
    (second,) = paddle.grad(pullback(paddle.ones([2], "float64")).sum(), x)
    s = y.detach().numpy()
    np.testing.assert_allclose(second.numpy(), 2.0 * s * (1 - s) * (1 - 2 * s), rtol=1e-13)


def test_forward_mode_which_paddle_lacks_serves_any_function():
    x, t = paddle.to_tensor([0.3, 0.7], dtype="float64"), paddle.to_tensor([1.0, 2.0], dtype="float64")
    _, along = polylogit.jvp(lambda x: paddle.exp(x) * x, x, t)
    np.testing.assert_allclose(along.numpy(), np.exp(x.numpy()) * (1 + x.numpy()) * t.numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32", "bool", "complex64"])
def test_convert_keeps_the_dtype_both_ways(name):
    x = paddle.to_tensor([1, 0, 1]).astype(name)
    there = polylogit.convert(x, "numpy")
    assert there.dtype.name == name
    back = polylogit.convert(there, "paddle")
    assert back.dtype == x.dtype
    assert polylogit.convert(back, "numpy").tolist() == there.tolist()


def test_what_paddle_lacks_is_refused_with_a_remedy():
    with pytest.raises(errors.DTypeError, match="Paddle has no tensors of dtype uint64"):
        polylogit.softmax(np.zeros(2, np.uint64), backend="paddle")
    with pytest.raises(errors.ConversionError, match="sparse"):
        polylogit.convert(paddle.sparse.sparse_coo_tensor([[0], [1]], [1.0], [2, 2]), "numpy")


def test_a_port_to_paddle_is_compared_as_any_other():
    x = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    paddles = paddle.nn.functional.softmax
    agree = polylogit.porting.compare(polylogit.softmax, lambda x: paddles(paddle.to_tensor(x)), inputs=x)
    assert agree.agrees, agree.summary()
    wrong = polylogit.porting.compare(polylogit.softmax, lambda x: paddles(paddle.to_tensor(x), axis=0), inputs=x)
    assert not wrong.agrees
