"""One process of an engine: ``python -m polylogit.conformance._sharded.worker ENGINE PARTS RANK FOLDER LEVEL``.

Every rank runs the same cases in the same order; the first judges the answers and writes one result per line. Knows
engines only by name.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylogit.conformance._compare import Comparison
from polylogit.conformance._results import WRONG, Result
from polylogit.conformance._sharded.cases import judged, questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit.conformance._sharded.cases import Question

SAID = ("verdict", "error", "message", "details", "length", "distance", "cases", "finding")


def _tried(function: Callable[[], Comparison]) -> Comparison:
    try:
        return function()
    except Exception as error:  # noqa: BLE001  whatever a framework raises is what the case came to
        return Comparison("failed", message=f"raised {type(error).__name__}: {error}"[:600])


def _answer(engine: Any, question: Question, dimensions: int, judge: Callable[[Any, Any], Comparison]) -> Comparison:
    return judge(question, engine.answer(question, dimensions))


def _shown(fact: Callable[[], str]) -> Comparison:
    wrong = fact()
    return Comparison("failed", message=wrong) if wrong else Comparison()


def main(name: str, parts: int, rank: int, folder: Path, level: str) -> None:
    """Run all cases; see the module."""
    engine: Any = importlib.import_module(f"polylogit.conformance._sharded.engines.{name}").Engine(rank, parts, folder)
    subject = f"{name}+{parts} parts"
    # The others take part in every exchange, and the first has all of the answer.
    judge: Callable[[Any, Any], Comparison] = judged if rank == 0 else (lambda *_: Comparison())
    with (folder / f"results-{rank}").open("w", encoding="utf-8") as file:

        def write(operation: str, check: str, dtype: str, case: str, found: Comparison) -> None:
            if found.verdict == "failed":
                found.finding = found.finding or WRONG
            said: dict[str, Any] = {key: getattr(found, key) for key in SAID}
            file.write(json.dumps(asdict(Result(subject, operation, check, dtype, case, **said)), default=str) + "\n")
            file.flush()

        for dimensions in engine.meshes:
            for question in questions(dimensions, level):
                if not question.whole_parts and not engine.uneven:
                    continue
                found = _tried(partial(_answer, engine, question, dimensions, judge))
                if found.verdict == "failed" and (reason := engine.gaps.get((question.check, question.case))):
                    found = Comparison("unsupported", message=f"{reason}: {found.message}")
                write(question.operation, question.check, question.dtype, question.case, found)
        for case, fact in engine.facts(level):
            found = _tried(partial(_shown, fact))
            write("softmax", "sharded", "float32", case, found)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
