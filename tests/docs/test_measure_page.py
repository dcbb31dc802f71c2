"""The figures by which the kit is measured: the page's are those of what the program printed."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PRINTED = DOCS / "_static" / "measure.txt"


def table() -> dict[str, list[tuple[int, int]]]:
    """Title of the row -> (count, of how many) for the kit, fixed tolerances, and those on float16 as well."""
    rows = {}
    for line in PRINTED.read_text().splitlines()[1:-1]:
        rows[line[:40].strip()] = [(int(count), int(whole)) for count, whole in re.findall(r"(\d+) of (\d+)", line)]
    return rows


def test_the_page_says_what_was_printed() -> None:
    rows = table()
    accused, twins = rows.pop("right implementations accused"), rows.pop("right twins of faults accused *")
    assert twins[0] == (0, 7)
    caught, allclose, with_float16 = (sum(row[column][0] for row in rows.values()) for column in range(3))
    faults = sum(row[0][1] for row in rows.values())
    right = accused[0][1]
    text = " ".join((DOCS / "conformance.md").read_text().split())
    assert (
        f"It catches {caught} of {faults} faults and fails {accused[0][0]} of {right} correct implementations" in text
    )
    assert f"With float32 and float64 that catches {allclose} of {faults}" in text
    assert with_float16 == faults
    assert f"including {accused[2][0]} of the {right} correct implementations" in text


def test_all_were_caught_and_nobody_was_accused() -> None:
    rows = table()
    assert rows.pop("right implementations accused")[0][0] == 0
    assert rows.pop("right twins of faults accused *")[0][0] == 0
    assert rows["published faults caught"][0] == (27, 27)
    assert all(count == whole for (count, whole), *_ in rows.values())
