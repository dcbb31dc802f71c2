"""Porting a model from one framework to another: whether the port is right, and if not, why.

`compare` takes two outputs, two sets of named activations or two callables; the recorders of `record` gather named
activations from the models of each framework.
"""

from __future__ import annotations

from polylogit.errors import ComparisonError
from polylogit.porting.compare import Comparison, compare
from polylogit.porting.diagnose import Diagnosis
from polylogit.porting.files import compare_files, load
from polylogit.porting.record import record, tap

__all__ = ["Comparison", "ComparisonError", "Diagnosis", "compare", "compare_files", "load", "record", "tap"]
