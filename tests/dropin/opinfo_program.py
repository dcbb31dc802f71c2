"""The samples on which PyTorch tests its own operators, given to polylogit's: values and gradients.

    pytest opinfo_program.py

``torch.testing._internal`` is no public interface, but it is in the wheel, and these samples are what a replacement is
held against. As it is imported it loads a profile of hypothesis, fixes flags and replaces methods, so that it gets a
process of its own; see test_opinfo_torch.py.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

import polylogit
from contract.conftest import expected_derivative, expected_value
from contract.exact import check

# What an operator of PyTorch is here.
NAMES = {"softmax": "softmax", "log_softmax": "log_softmax", "sigmoid": "sigmoid", "special.expit": "sigmoid"}
OPERATORS = [operator for operator in op_db if operator.name in NAMES]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def samples(operator: Any, dtype: torch.dtype) -> list[tuple[Any, dict[str, Any]]]:
    """Logits and arguments, under the names that they have here."""
    found = []
    for sample in operator.sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point):
        arguments = dict(sample.kwargs)
        if sample.args:
            (arguments["axis"],) = sample.args
        found.append((sample.input, arguments))
    return found


def host(x: torch.Tensor) -> Any:
    return polylogit.convert(x.detach(), "numpy", copy=True)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def test_every_operator_is_there() -> None:
    assert {operator.name for operator in OPERATORS} >= {"softmax", "log_softmax", "sigmoid"}


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: f"{one.name}-{one.variant_test_name}")
def test_values_and_gradients_are_within_the_bounds(operator: Any, dtype: torch.dtype) -> None:
    name = NAMES[operator.name]
    given = samples(operator, dtype)
    assert given
    for x, arguments in given:
        y = getattr(polylogit, name)(x, **arguments)
        result = arguments.get("dtype", dtype if dtype.is_floating_point else torch.float32)
        assert (y.dtype, y.shape) == (result, x.shape)
        where = {"axis": arguments.get("axis", -1), "dtype": name_of(result)}
        check(host(y), expected_value(name, host(x), **where), f"{name} {arguments}")
        if dtype.is_floating_point:
            g = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(y.shape))).to(result)
            (gradient,) = torch.autograd.grad(y, x, g)
            check(host(gradient), expected_derivative("vjp", name, host(x), host(g), **where), f"{name} {arguments}")


@pytest.mark.parametrize("operator", [one for one in OPERATORS if not one.variant_test_name], ids=lambda one: one.name)
def test_derivatives_pass_pytorchs_own_finite_differences(operator: Any) -> None:
    """Of the first and of the second order, along random directions, forward mode included."""
    for x, arguments in samples(operator, torch.float64):
        function = functools.partial(getattr(polylogit, NAMES[operator.name]), **arguments)
        assert torch.autograd.gradcheck(function, x, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, x, fast_mode=True)
