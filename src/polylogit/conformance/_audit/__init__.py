"""What somebody's test would let through: `audit` puts the catalogue before it."""

from polylogit.conformance._audit.inputs import drawing
from polylogit.conformance._audit.result import Audit, Outcome
from polylogit.conformance._audit.run import audit

__all__ = ["Audit", "Outcome", "audit", "drawing"]
