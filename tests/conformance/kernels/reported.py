"""Faults that users reported, as the tests of the kit run them."""

from polylogit.conformance._catalogue import REPORTED as _REPORTED

from .faults import table

REPORTED = table(_REPORTED)
