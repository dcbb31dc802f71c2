"""The report as JSON, in a versioned schema (JSON Schema, `SCHEMA`)."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from polylogit._io import plain_json
from polylogit.conformance._results import BAD, FINDINGS, STATUS, Result
from polylogit.conformance._verdict import verdict

if TYPE_CHECKING:
    from polylogit.conformance._results import Results

__all__ = ["SCHEMA", "VERSION", "render"]

VERSION = 2

_REQUIRED = ["id", *(part.name for part in fields(Result))]
_NUMBER = {"description": "a number, or NaN, inf or -inf as a string", "type": ["number", "string", "null"]}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "polylogit conformance report",
    "type": "object",
    "required": ["schema", "status", "passed", "verdict", "environment", "results", "pairs"],
    "properties": {
        "schema": {"const": VERSION},
        "status": {"enum": [0, 1, 3], "description": "0 agrees, 1 disagrees, 3 inconclusive"},
        "passed": {"type": "boolean"},
        "verdict": {
            "type": "object",
            "description": "what a program needs: the word, the findings of each kind, the causes",
            "required": [
                "status",
                "word",
                "sentence",
                "counts",
                "findings",
                "conventions",
                "rounded_once",
                "rounded_once_error",
                "invariance",
                "left_out",
                "groups",
            ],
            "properties": {
                "status": {"enum": [0, 1, 3]},
                "word": {"enum": list(STATUS.values())},
                "sentence": {"type": "string", "description": "the last line of the report"},
                "counts": {"type": "object", "description": "results by verdict"},
                "findings": {"type": "object", "description": "cases by kind of finding", "required": list(FINDINGS)},
                "conventions": {"type": "object", "description": "cases that are right by another one, by name=value"},
                "rounded_once": {"type": ["boolean", "null"], "description": "of 16-bit results; null: not measured"},
                "rounded_once_error": {**_NUMBER, "description": "the worst of them over what that leaves"},
                "invariance": {
                    "type": "object",
                    "description": "by what a row must not depend on, how many ulp apart its results are; 0: same bits",
                },
                "left_out": {"type": "string", "description": "what was asked of a run that left cases out"},
                "groups": {
                    "type": "array",
                    "description": "what does not pass, by cause, the smallest case of each",
                    "items": {
                        "type": "object",
                        "required": [
                            "finding",
                            "disagrees",
                            "subject",
                            "operation",
                            "headline",
                            "pattern",
                            "cases",
                            "passes",
                            "error",
                            "symptoms",
                            "smallest",
                            "ids",
                        ],
                        "properties": {
                            "pattern": {
                                "type": ["string", "null"],
                                "description": "where it fails, in words; empty for everywhere, null for nothing found",
                            },
                            "passes": {"type": "integer", "description": "results that pass where the pattern says"},
                            "error": {**_NUMBER, "description": "the worst as a fraction of its bound"},
                            "smallest": {"type": "object", "required": ["id", "message", "error", "python"]},
                            "ids": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "environment": {
            "type": "object",
            "description": "versions, level, seed, seconds, processor, its instruction sets as NumPy finds them; "
            "capabilities holds what each framework says of the processor and of its switches",
            "required": ["machine", "processor", "instruction_sets", "backends", "capabilities"],
        },
        "pairs": {
            "type": "array",
            "description": "largest differences between two backends",
            "items": {
                "type": "object",
                "required": ["first", "second", "operation", "check", "dtype", "ulp", "absolute"],
            },
        },
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": _REQUIRED,
                "properties": {
                    "id": {"type": "string", "description": "what polylogit replay takes"},
                    "subject": {"type": "string", "description": "a backend, or backend+module:function"},
                    "message": {"type": "string", "description": "of anything but a pass, what is wrong"},
                    "details": {
                        "type": "object",
                        "description": "inputs, where, expected, got, bound, row, index, directions (the cotangent); "
                        "call and python, how to ask it again",
                    },
                    "length": {"type": "integer", "description": "entries of the row with the worst error"},
                    "distance": {**_NUMBER, "description": "how far below the maximum the worst error is"},
                    "seed": {"type": "integer"},
                    "cases": {"type": "integer", "description": "how many numbers were compared"},
                    "verdict": {"enum": ["passed", "inaccurate", "unsupported", "expected-failure", *BAD]},
                    "finding": {"enum": ["", *FINDINGS], "description": "of what does not pass as it is"},
                    "convention": {"type": "string", "description": "name=value of the one that it is right by"},
                    "once": {**_NUMBER, "description": "error over what computing in float32 and rounding once leaves"},
                    "error": {**_NUMBER, "description": "the worst error as a fraction of its bound"},
                    "seconds": {"type": "number", "description": "how long the case took to ask and to judge"},
                    "facts": {"type": "object", "description": "how it was asked, and of what kind its logits are"},
                },
            },
        },
    },
}


def render(report: Results) -> str:
    """The whole report."""
    head = {"schema": VERSION, "status": report.status, "passed": report.passed, "verdict": verdict(report)}
    body = {**head, **report.as_dict()}
    return json.dumps(plain_json(body), indent=1) + "\n"
