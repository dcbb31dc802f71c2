"""Recorders: what every part of a model computes, as the ordered mapping that `compare` takes.

`record` wraps a model of any library into a callable that returns its activations by name, in the order in which they
were computed: one module a library here, and the softmax calls on the way by `_taps`. Only the library that a model
comes from is imported.
"""

from __future__ import annotations

from polylogit.porting._recorders._record import LIBRARIES, Recorder, record
from polylogit.porting._recorders._recording import tap

__all__ = ["LIBRARIES", "Recorder", "record", "tap"]
