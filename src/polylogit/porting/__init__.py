"""Compares a port of a model with its original in another framework, and names the mistake if they differ.

`compare` compares two outputs, two sets of named activations or two callables. `record` returns the named activations
of a model of any framework. `isolate` compares module by module, each on the original's own inputs. `compare_tokens`
compares the log-probabilities of two engines. Needs the extra ``conformance``.
"""

from __future__ import annotations

from polylogit.errors import BackendUnavailableError, ComparisonError

try:
    from polylogit.porting._compare import compare
    from polylogit.porting._diagnosis.verdict import Diagnosis
    from polylogit.porting._files import compare_files, load, save
    from polylogit.porting._isolate import Isolation, isolate
    from polylogit.porting._recorders import record, tap
    from polylogit.porting._report import Comparison
    from polylogit.porting._tokens.compare import compare_tokens
    from polylogit.porting._tokens.report import TokenComparison
except ModuleNotFoundError as error:
    if error.name != "ml_dtypes":
        raise
    from polylogit._extras import command

    message = f"polylogit.porting needs ml_dtypes; install it with: {command('conformance')}"
    raise BackendUnavailableError(message, name=error.name) from error

__all__ = [
    "Comparison",
    "ComparisonError",
    "Diagnosis",
    "Isolation",
    "TokenComparison",
    "compare",
    "compare_files",
    "compare_tokens",
    "isolate",
    "load",
    "record",
    "save",
    "tap",
]
