"""The faults of the kit's catalogue as its tests run them: name -> (operation, implementation, vjp or None)."""

from polylogit.conformance import _catalogue as catalogue
from polylogit.conformance._catalogue.steps import (  # noqa: F401  the right ones, for the tests that need one
    lanes,
    log_softmax,
    right_log_softmax,
    right_sigmoid,
    right_softmax,
    right_vjp_log_softmax,
    right_vjp_sigmoid,
    right_vjp_softmax,
    softmax,
)


def table(faults):
    return {fault.name: (fault.operation, fault.function, fault.vjp) for fault in faults}


FAULTS = table(catalogue.PUBLISHED)
UNPUBLISHED = table(catalogue.UNPUBLISHED)
