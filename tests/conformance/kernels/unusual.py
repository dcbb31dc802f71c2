"""Right implementations, however unusual: the kit must pass every one."""

from polylogit.conformance._catalogue import UNUSUAL  # noqa: F401
