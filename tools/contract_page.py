"""Write ``docs/contract.md`` from the table that the tests run and the stored results of the native calls.

    python tools/contract_page.py

This program evaluates nothing. tests/docs/test_contract_table.py fails if the committed page differs.
"""

from __future__ import annotations

import json

import probes
import settings

TITLES = {"numpy": "SciPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
PAGE = probes.ROOT / "docs" / "contract.md"

INTRODUCTION = """\
<!-- Made by tools/contract_page.py from src/polylogit/_spec/contract.toml; change that. -->

# The contract

The frameworks agree about softmax, log_softmax and sigmoid of well-behaved float32 arrays. They differ at the
edges, and the edges are where models break: integers, empty batches, masks, 16-bit sums, long rows, NaN. These
{count} rows say what polylogit does there, on every backend, why, and what the native calls do instead.

The result has the framework, kind, device and shape of `x`, and its dtype if that is floating.

The tables show measurements with {versions} on {machine}, with the frameworks' default settings;
**bold** marks deviations from the contract. If a framework's result depends on the instruction set, a
second table has a column for each. The column *polylogit* is not measured but tested: this page is
generated from a table, `src/polylogit/_spec/contract.toml`, and the tests make every call in it on every backend.

| row | case | native calls that differ | that lack it |
|--:|---|---|---|
{overview}

(same-bits)=
## The same bits

On NumPy, with the kernels in C, the bits of a row's result depend only on the row: not on the batch around it,
its place in it, the number of rows, threads, alignment, strides, the order of axes in memory or the byte order. (In
language model serving this is called batch invariance.) Element *j* of a row is always added in the same lane and in
the same order, in any memory layout. AVX2, AVX-512 and ARM's NEON give the same bits, too. SSE2, which has no fused
multiply-add, may differ from them in the last bits, and so may the pure NumPy path, which guarantees only the bounds.
On the other backends the bits are the framework's.
"""


def _code(words: str) -> str:
    return f"`{words}`"


def _cell(value: str | None, probe: dict[str, object]) -> str:
    if value is None:
        return "–"
    if value == "not offered":
        return "*not offered*"
    return _code(value) if probes.agrees(value, probe) else f"**`{value}`**"


def _by_instruction_set(row: dict, measured: dict) -> list[str]:
    """A column for each setting, and a row for each call whose result differs in one of them."""
    whole = {measured["setting"]: measured["shown"], **measured["elsewhere"]}
    lines = []
    for index, probe in enumerate(row.get("probe", ())):
        for name in measured["shown"][f"{row['id']}.{index}"]:
            values = [shown[f"{row['id']}.{index}"][name] for shown in whole.values()]
            if len(set(values)) > 1:
                call = _code(probe["call"].replace(", **named", ""))
                lines.append(f"| {call} | {TITLES[name]} | " + " | ".join(_cell(one, probe) for one in values) + " |")
    if lines:
        titles = " | ".join(settings.TITLES[name] for name in whole)
        lines = ["", f"| call | framework | {titles} |", "|---|---|" + "---|" * len(whole), *lines]
    return lines


def _section(row: dict, measured: dict) -> str:
    shown = measured["shown"]
    lines = [f"(contract-{row['id']})=", f"## {row['id']}. {row['case']}", "", row["rule"], ""]
    lines += [f"*Why.* {row['why']}", "", f"*Natively.* {row['native']}", ""]
    cases = row.get("probe", [])
    if cases:
        lines += ["| call | polylogit | " + " | ".join(TITLES[name] for name in probes.FRAMEWORKS) + " |"]
        lines += ["|---|---|" + "---|" * len(probes.FRAMEWORKS)]
    for index, probe in enumerate(cases):
        native = shown[f"{row['id']}.{index}"]
        expected = " or ".join(_code(value) for value in probes.allowed(probe))
        call = _code(probe["call"].replace(", **named", ""))
        if note := probe.get("note"):
            call += f" ({note})"
        lines += [
            f"| {call} | {expected} | "
            + " | ".join(_cell(native.get(name), probe) for name in probes.FRAMEWORKS)
            + " |"
        ]
    lines += _by_instruction_set(row, measured)
    return "\n".join(lines).rstrip() + "\n"


def _titles(names: set[str]) -> str:
    return ", ".join(title for name, title in TITLES.items() if name in names) or "–"


def _agreement(row: dict, shown: dict[str, dict[str, str]]) -> str:
    if not row.get("probe"):
        return "– | –"
    otherwise, lacking = set(), set()
    for index, probe in enumerate(row["probe"]):
        for name, value in shown[f"{row['id']}.{index}"].items():
            if value == "not offered":
                lacking.add(name)
            elif not probes.agrees(value, probe):
                otherwise.add(name)
    return f"{_titles(otherwise)} | {_titles(lacking)}"


def page() -> str:
    """The text of the page."""
    measured = json.loads(probes.NATIVE.read_text())
    rows, shown = probes.rows(), measured["shown"]
    overview = "\n".join(
        f"| {row['id']} | [{row['case']}](#contract-{row['id']}) | {_agreement(row, shown)} |" for row in rows
    )
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    machine = f"{measured['machine']}, {measured['processor']} with {settings.TITLES[measured['setting']]}"
    head = INTRODUCTION.format(count=len(rows), versions=versions, machine=machine, overview=overview)
    return "\n".join([head, *(_section(row, measured) for row in rows)])


if __name__ == "__main__":
    PAGE.write_text(page())
