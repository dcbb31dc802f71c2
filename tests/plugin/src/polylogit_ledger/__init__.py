"""`Ledger`: a small array that owns its numbers, one ``array.array`` of doubles and a shape."""

from polylogit_ledger.ledger import Ledger

__all__ = ["Ledger"]
