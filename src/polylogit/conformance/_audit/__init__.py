"""`audit`: runs a test on the catalogue of faults, and shows which of them it would let through."""

from polylogit.conformance._audit.inputs import drawing
from polylogit.conformance._audit.result import Audit, Outcome
from polylogit.conformance._audit.run import audit

__all__ = ["Audit", "Outcome", "audit", "drawing"]
