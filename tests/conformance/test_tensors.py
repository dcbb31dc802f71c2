"""The kit on tensors: views, autograd and compilation; what PyTorch itself computes is no fault."""

import pytest

from polylogit import conformance

from .measure import first_failure

pytest.importorskip("torch")

from .kernels.tensors import FAULTY, RIGHT


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_caught(name):
    operation, implementation = FAULTY[name]
    found = first_failure(operation, implementation, None, "torch")
    assert found is not None
    assert found.message


# PyTorch's own code, and one step after another in its tensors, are what the processor may change.
TELLING = ("PyTorch's softmax", "step by step")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.processor] * (name in TELLING)) for name in RIGHT]
)
def test_a_right_implementation_is_not_accused(name):
    operation, implementation = RIGHT[name]
    report = conformance.check(implementation, operation, backend="torch", level="quick", name=name.replace(" ", "-"))
    assert report.passed, report.summary()
