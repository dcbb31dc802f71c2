"""Write the tables of ``docs/sharding.md`` from ``docs/_static/sharded.json``.

    polylogit conform --sharded --json docs/_static/sharded.json
    python tools/sharding_page.py

tests/docs/test_sharding_page.py fails if the committed page differs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, MEASURED = DOCS / "sharding.md", DOCS / "_static" / "sharded.json"
TITLES = {"jax": "JAX", "torch": "PyTorch", "tensorflow": "TensorFlow"}
_BLOCK = re.compile(r"(<!-- (\w+): made by tools/sharding_page.py -->\n).*?(<!-- end -->)", re.DOTALL)
CASES = (
    "along the row",
    "along the row, masked",
    "along the row, 16 bits",
    "beside the row",
    "rows down the columns",
    "both axes jointly",
    "uneven parts",
    "parts without entries",
    "a vocabulary",
    "two mesh axes, one along the row",
    "two mesh axes along the row",
)


def _subject(name: str) -> str:
    engine, _, parts = name.partition("+")
    return f"{TITLES[engine]}, {parts}"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in body)]) + "\n"


def _measured(results: list[dict[str, Any]]) -> list[str]:
    """The subjects whose exchanges were measured."""
    return list(dict.fromkeys(one["subject"] for one in results if "bytes exchanged" in one["details"]))


def exchanged(results: list[dict[str, Any]]) -> str:
    """Bytes of the largest exchange, by case and subject; they are the same for both operations."""
    subjects = _measured(results)
    rows = [["log_softmax", *map(_subject, subjects)]]
    for check, cases in (("values", CASES), ("vjp", CASES), ("jvp", CASES)):
        for case in cases:
            found = {
                one["subject"]: one["details"].get("bytes exchanged")
                for one in results
                if (one["operation"], one["check"], one["case"]) == ("log_softmax", check, case)
            }
            if any(found.get(name) is not None for name in subjects):
                cells = ["" if found.get(name) is None else f"{found[name]:,}" for name in subjects]
                rows.append([case if check == "values" else f"{check}: {case}", *cells])
    return _table(rows)


def memory(results: list[dict[str, Any]]) -> str:
    """The peak memory of a part beyond its logits."""
    rows = [["8 rows of 128,256", "logits of a part", "softmax", "log_softmax"]]
    for subject in _measured(results):
        found = {
            one["operation"]: one["details"]
            for one in results
            if (one["subject"], one["check"], one["case"]) == (subject, "values", "a vocabulary")
        }
        sizes = [found[name].get("memory beyond the part") for name in ("softmax", "log_softmax")]
        part = found["softmax"]["part"]
        rows.append([_subject(subject), f"{part / 2**20:.2f} MiB", *(f"{size / 2**20:.2f} MiB" for size in sizes)])
    return _table(rows)


def errors(results: list[dict[str, Any]]) -> str:
    """The worst error as a fraction of its bound, and the numbers of cases."""
    rows = [["engine", "cases", "worst error over its bound", "passed", "gaps of the framework"]]
    for subject in dict.fromkeys(one["subject"] for one in results):
        mine = [one for one in results if one["subject"] == subject]
        worst = max(float(one["error"]) for one in mine if one["error"] is not None)
        counts = [sum(one["verdict"] == verdict for one in mine) for verdict in ("passed", "unsupported")]
        rows.append([_subject(subject), str(len(mine)), f"{worst:.2f}", *map(str, counts)])
    return _table(rows)


def page(text: str, results: list[dict[str, Any]]) -> str:
    """The page with its tables replaced."""
    made = {"exchanged": exchanged, "memory": memory, "errors": errors}
    return _BLOCK.sub(lambda match: match[1] + made[match[2]](results) + match[3], text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(MEASURED.read_text())["results"]))
