"""Row 22: reverse mode, forward mode and second order, on every backend, by the closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polylogit

from .conftest import Subject, expected_derivative, expected_second
from .exact import check


def drawn(*shape: int, dtype: str = "float32", seed: int = 0, scale: float = 3.0) -> Any:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(dtype)


@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_first_derivatives_agree_with_the_closed_forms(eager: Subject, operation: str, dtype: str) -> None:
    with eager.all64():
        for shape in ((7,), (3, 130)):
            eager.check_derivatives(operation, eager.numpy(eager.array(drawn(*shape), dtype)))


@pytest.mark.contract(22)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_derivatives_agree_with_the_closed_forms(eager: Subject, operation: str, dtype: str) -> None:
    with eager.all64():
        for shape in ((3, 33),):
            eager.check_second(operation, drawn(*shape, dtype=dtype))


@pytest.mark.contract(22)
@pytest.mark.parametrize("axis", [0, None, (0, 2), ()])
def test_second_derivatives_along_other_axes(eager: Subject, row_operation: str, axis: Any) -> None:
    eager.check_second(row_operation, drawn(2, 3, 4), axis=axis)


@pytest.mark.contract(22)
def test_second_derivatives_of_long_rows(eager: Subject, row_operation: str) -> None:
    eager.check_second(row_operation, drawn(2, 3000))
    eager.check_second(row_operation, drawn(3000, 2), axis=0)


@pytest.mark.contract(22)
@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_the_gradient_is_finite_where_probabilities_underflow(eager: Subject, row_operation: str, kind: str) -> None:
    x = np.array([[0, -200, -1000, 0], [1e30, 0, -1e30, 1e30], [3e38, -3e38, 0, 1]], "float32")
    direction = drawn(3, 4, seed=1, scale=1)
    got = eager.derivative(kind, row_operation, x, direction)
    assert np.isfinite(got).all()
    check(got, expected_derivative(kind, row_operation, x, direction))
    eager.check_second(row_operation, x)


@pytest.mark.contract(22)
def test_the_pullback_may_be_called_more_than_once_and_with_any_cotangent(eager: Subject, operation: str) -> None:
    x = drawn(3, 4)
    y, pullback = polylogit.vjp(getattr(polylogit, operation), eager.array(x))
    np.testing.assert_allclose(eager.numpy(y), eager.call(operation, x), rtol=1e-6)
    one_hot, zero = np.zeros((3, 4), "float32"), np.zeros((3, 4), "float32")
    one_hot[:, 1] = 1
    for cotangent in (drawn(3, 4, seed=1), one_hot, -one_hot, drawn(3, 4, seed=1), zero, np.ones((3, 4), "float32")):
        got = eager.numpy(pullback(eager.array(cotangent)))
        check(got, expected_derivative("vjp", operation, x, cotangent), str(eager))


@pytest.mark.contract(22)
def test_a_cotangent_of_another_shape_is_an_error(eager: Subject, operation: str) -> None:
    function, x = getattr(polylogit, operation), eager.array(drawn(3, 4))
    _, pullback = polylogit.vjp(function, x)
    for wrong in (drawn(4), drawn(4, 3), drawn(1, 4), drawn(1, 3, 4)):
        with pytest.raises(polylogit.errors.DifferentiationError, match="shape"):
            pullback(eager.array(wrong))
        with pytest.raises(polylogit.errors.DifferentiationError, match="shape"):
            polylogit.jvp(function, x, eager.array(wrong))


@pytest.mark.contract(22)
def test_both_modes_give_the_value_of_the_plain_call(eager: Subject, operation: str) -> None:
    function, x = getattr(polylogit, operation), drawn(3, 4)
    for value in (
        polylogit.vjp(function, eager.array(x))[0],
        polylogit.jvp(function, eager.array(x), eager.array(x))[0],
    ):
        np.testing.assert_allclose(eager.numpy(value), eager.call(operation, x), rtol=3e-7)


@pytest.mark.contract(22)
def test_reverse_and_forward_mode_are_transposes_of_each_other(eager: Subject, operation: str) -> None:
    x, u, v = (drawn(3, 5, dtype="float64", seed=seed, scale=1) for seed in range(3))
    with eager.all64():
        back = eager.derivative("vjp", operation, x, u)
        forth = eager.derivative("jvp", operation, x, v)
    assert np.vdot(back, v) == pytest.approx(np.vdot(u, forth), rel=1e-13)


@pytest.mark.contract(22)
def test_a_python_list_is_differentiated_on_the_named_backend(eager: Subject, operation: str) -> None:
    y, pullback = polylogit.vjp(getattr(polylogit, operation), [1.0, 2.0, 3.0], backend=eager.name)
    got = eager.numpy(pullback(eager.array([1.0, 0.0, 0.0], eager.backend.dtype_name(y))))
    x = np.array([1, 2, 3], got.dtype)
    check(got, expected_derivative("vjp", operation, x, np.array([1, 0, 0], got.dtype)))


@pytest.mark.contract(22)
def test_a_function_of_ones_own(backend_name: str) -> None:
    def entropy(x: Any) -> Any:
        return -(polylogit.softmax(x) * polylogit.log_softmax(x))

    subject = Subject(backend_name, "eager")
    x = subject.array(np.float32([1, 2, 3]))
    if not subject.backend.differentiates:
        with pytest.raises(polylogit.errors.DifferentiationError, match=r"entropy.*torch, jax or tensorflow"):
            polylogit.vjp(entropy, x)
        with pytest.raises(polylogit.errors.DifferentiationError):
            polylogit.jvp(entropy, x, x)
        return
    y, pullback = polylogit.vjp(entropy, x)
    p = np.exp([1.0, 2, 3]) / np.exp([1.0, 2, 3]).sum()
    np.testing.assert_allclose(subject.numpy(y), -p * np.log(p), rtol=1e-5)
    total = -(p * np.log(p)).sum()
    np.testing.assert_allclose(
        subject.numpy(pullback(subject.array(np.ones(3, "float32")))), -p * (np.log(p) + total), rtol=1e-4, atol=1e-6
    )


@pytest.mark.contract(22)
@pytest.mark.parametrize("operation_mode", ["vjp", "jvp"])
def test_what_cannot_be_called_cannot_be_differentiated(eager: Subject, operation_mode: str) -> None:
    arguments = [eager.array(np.ones(2, "float32"))] * (2 if operation_mode == "jvp" else 1)
    with pytest.raises(TypeError, match="function"):
        getattr(polylogit, operation_mode)("softmax", *arguments)


@pytest.mark.contract(22)
@pytest.mark.requires("torch")
@pytest.mark.parametrize("length", [5, 3000])
def test_pytorchs_own_backward_and_double_backward(operation: str, length: int) -> None:
    import torch

    x, c, u = drawn(2, length), drawn(2, length, seed=1), drawn(2, length, seed=2)
    leaf = torch.tensor(x, requires_grad=True)
    y = getattr(polylogit, operation)(leaf)
    (first,) = torch.autograd.grad(y, leaf, torch.tensor(c), create_graph=True)
    check(first.detach().numpy(), expected_derivative("vjp", operation, x, c))
    (second,) = torch.autograd.grad(first, leaf, torch.tensor(u))
    check(second.numpy(), expected_second(operation, x, c, u))


@pytest.mark.contract(22)
@pytest.mark.requires("tensorflow")
@pytest.mark.parametrize("length", [5, 3000])
def test_tensorflows_nested_tapes(operation: str, length: int) -> None:
    import tensorflow as tf

    x, c, u = drawn(2, length), drawn(2, length, seed=1), drawn(2, length, seed=2)
    variable = tf.Variable(x)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = getattr(polylogit, operation)(variable)
        first = inner.gradient(y, variable, output_gradients=tf.constant(c))
    check(first.numpy(), expected_derivative("vjp", operation, x, c))
    check(outer.gradient(first, variable, output_gradients=tf.constant(u)).numpy(), expected_second(operation, x, c, u))


@pytest.mark.contract(22)
@pytest.mark.requires("jax")
@pytest.mark.parametrize("mode", ["jacfwd", "jacrev", "jit"])
def test_jaxs_jacobians(operation: str, mode: str) -> None:
    import jax

    function, x = getattr(polylogit, operation), drawn(5)
    jacobian = jax.jit(jax.jacrev(function)) if mode == "jit" else getattr(jax, mode)(function)
    got = np.asarray(jacobian(jax.numpy.asarray(x)))
    for row, direction in zip(got, np.eye(5, dtype="float32"), strict=True):
        check(row, expected_derivative("vjp", operation, x, direction), mode)
