"""The recorders: return the activations of a model as the ordered mapping that `compare` takes.

`record` wraps a model of any library in a callable that returns its activations by name, in order of computation. There
is one module for each library, and `_taps` for the softmax calls. Only the library of the model is imported.
"""

from __future__ import annotations

from polylogit.porting._recorders._record import LIBRARIES, Recorder, record
from polylogit.porting._recorders._recording import tap

__all__ = ["LIBRARIES", "Recorder", "record", "tap"]
