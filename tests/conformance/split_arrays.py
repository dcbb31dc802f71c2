"""What the tests of split arrays share: one run of an engine at the level quick, and a look at its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit import conformance

if TYPE_CHECKING:
    from polylogit.conformance import Report, Result


def asked(engine: str, parts: int) -> Report:
    """The engine's own run; imports a framework in a process, or in several."""
    return conformance.sharded([engine], level="quick", parts=(parts,))


def found(report: Report, check: str, case: str) -> list[Result]:
    """The results of a case, of each operation that has it."""
    results = [one for one in report.results if (one.check, one.case) == (check, case)]
    assert results, f"{check} {case} was not asked"
    return results


def right(results: list[Result]) -> None:
    for one in results:
        assert one.verdict == "passed", f"{one.id}: {one.message}"


def numbers_a_row(result: Result, rows: int, itemsize: int = 4) -> float:
    """How many numbers for each row went into one exchange."""
    return float(result.details["bytes exchanged"]) / (rows * itemsize)
