"""What only a GPU can show of JAX."""

from __future__ import annotations

import jax
import pytest

import polylogit
from polylogit import conformance


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "sigmoid"])
def test_nothing_is_transferred(operation: str) -> None:
    x, function = jax.device_put(jax.numpy.ones((3, 600)), jax.devices("cuda")[0]), getattr(polylogit, operation)
    with jax.transfer_guard("disallow"):
        y, pullback = polylogit.vjp(function, x)
        assert function(x).devices() == pullback(y).devices() == x.devices()


def test_the_contract_holds() -> None:
    report = conformance.run(["jax"], device="cuda", level="quick")
    assert report.passed, report.summary()
