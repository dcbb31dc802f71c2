"""Writes ``docs/porting/measured.md`` from the results that `ports` stored.

Measure each model and framework in a separate run, then write the page from all the files:

    for model in bert gpt2 vit t5; do python tools/ports.py --model $model --drop --json build/$model.json; done
    python tools/ports.py --model gpt2 --to keras-jax --json build/keras.json      and other frameworks
    python tools/ports.py --right --json build/right.json
    python tools/ports.py --big --json build/big.json
    python tools/ports_page.py build/*.json

The last command writes docs/_static/ports.json, which holds all the data for the page, and docs/porting/measured.md.
The given files replace the stored data; without files, the page is rewritten from the stored data.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOOLS = Path(__file__).resolve().parent
PAGE = TOOLS.parent / "docs" / "porting" / "measured.md"
STORED = TOOLS.parent / "docs" / "_static" / "ports.json"

sys.path.insert(0, str(TOOLS))
import ports_big  # noqa: E402
from ports_faults import FAULTS  # noqa: E402
from ports_rows import EFFECT, Row, Said  # noqa: E402

_TOP = """\
<!-- Made by tools/ports_page.py from docs/_static/ports.json; do not edit. -->

# How well it works

We ported small PyTorch models with random weights: with transformers' own conversion, by rewriting them in Keras, or by
exporting them to ONNX. We then put faults into each port, one at a time, and compared it in three ways: by the
outputs alone (`compare(original, port, inputs=x)`), with all activations (`compare(record(original), record(port),
inputs=x)`), and [module by module](isolate.md) (`isolate(original, port, x)`). No model is pretrained or large, so
these figures describe the diagnosis, not ports in general.

The ground truth is the original in float64. If a fault leaves the port less than {effect:g} times as far from it as the
original, it has no effect and is left out.

- *Noticed*: the two sides differ; the verdict "beyond rounding" does not count.
- *Module right*: the first divergence is inside the module at fault, or in the same part of the same layer.
- *Cause right*: the cause is one that [the table of faults](#the-faults) lists for the fault.
- *Wrong name*: the cause is another one, and not `unknown`.
"""
# The three ways to compare: the name in the stored data, and the title.
_WAYS = {"outputs": "outputs alone", "recorded": "all activations", "isolated": "module by module"}


def rows(stored: list[dict[str, Any]]) -> list[Row]:
    """The ports of all runs."""
    found = [Row(**one) for run in stored for one in run.get("ports", ())]
    for row in found:
        row.said = {way: Said(**said) for way, said in row.said.items()}  # type: ignore[arg-type]
    return found


# --- the tables ------------------------------------------------------------------------------------------------------


def _count(some: list[Row], right: Callable[[Row], bool]) -> str:
    return f"{sum(map(right, some))} of {len(some)}" if some else ""


def _figures(some: list[Row], way: str) -> dict[str, str]:
    """The counts for some ports that were compared in one way."""
    some = [row for row in some if way in row.said]
    faults = [row for row in some if row.kind == "fault"]
    nameable = [row for row in faults if row.causes]
    right = [row for row in some if row.kind == "right"]
    return {
        "faults noticed": _count(faults, lambda row: row.said[way].noticed),
        "module right": "" if way == "outputs" else _count(faults, lambda row: row.module_right(way)),
        "cause right, of those with a name": _count(nameable, lambda row: row.cause_right(way)),
        "wrong names": _count(faults, lambda row: row.wrong_name(way)),
        "right ports accused": _count(right, lambda row: row.said[way].noticed),
    }


def summary(found: list[Row]) -> list[str]:
    """All ports together."""
    columns = {title: _figures(found, way) for way, title in _WAYS.items()}
    lines = [f"| all ports | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | " + " | ".join(column[name] for column in columns.values()) + " |")
    return lines


def each(found: list[Row]) -> list[str]:
    """A line for each model, port and way to compare."""
    lines = []
    for model, port in dict.fromkeys((row.model, row.port) for row in found if row.said):
        here = [row for row in found if (row.model, row.port) == (model, port)]
        for way, title in _WAYS.items():
            figures = _figures(here, way)
            if any(figures.values()):
                lines.append(f"| {model} | {port} | {title} | {' | '.join(figures.values())} |")
    titles = ["model", "port", "compared by", *_figures([], "")]
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines]


def faults(found: list[Row]) -> list[str]:
    """The faults that were put in, and the causes that count as right."""
    lines = ["| fault | models | right causes |", "|---|---|---|"]
    put_in = {(row.model.partition(",")[0], row.fault) for row in found if row.said}
    for fault in FAULTS:
        if models := [model for model in fault.models if (model, fault.name) in put_in]:
            lines.append(f"| {fault.name} | {', '.join(models)} | {', '.join(sorted(fault.causes)) or '(no name)'} |")
    return lines


# --- what is wrong ---------------------------------------------------------------------------------------------------


def _failed(row: Row, way: str) -> str:
    said = row.said[way]
    return textwrap.shorten(said.explanation, 160, placeholder=" ...") if said.status == "failed" else ""


def _accused(row: Row, way: str) -> str:
    said = row.said[way]
    return f"{said.differ} of {said.activations} activations" if row.kind == "right" and said.noticed else ""


def _passed(row: Row, way: str) -> str:
    said = row.said[way]
    if row.kind == "right" or said.noticed or said.status == "failed":
        return ""
    return f"{said.status}, {row.times:.2g} times as far from float64 as the original"


def _misnamed(row: Row, way: str) -> str:
    return f"`{row.said[way].cause}`" if row.kind == "fault" and row.wrong_name(way) else ""


def _misplaced(row: Row, way: str) -> str:
    said = row.said[way]
    wrong = row.kind == "fault" and way != "outputs" and said.noticed and not row.module_right(way)
    return f"`{said.first}`" if wrong else ""


def _unnamed(row: Row, way: str) -> str:
    wrong = row.kind == "fault" and way != "outputs" and row.causes and row.said[way].cause == "unknown"
    return f"should be `{'` or `'.join(row.causes)}`" if wrong else ""


_WRONG = {
    "A right port accused": _accused,
    "A fault not noticed": _passed,
    "A wrong name": _misnamed,
    "Another module": _misplaced,
    "A cause not found, with all activations or module by module": _unnamed,
    "A comparison that failed": _failed,
}


def wrong(found: list[Row]) -> Iterator[str]:
    """The wrong results, by kind; one line if several ways to compare give the same."""
    for title, told in _WRONG.items():
        said: dict[tuple[str, str], list[str]] = {}
        for row in found:
            for way in row.said:
                if what := told(row, way):
                    name = f"{row.model} in {row.port}: {row.fault or 'right'}"
                    said.setdefault((name, what), []).append(_WAYS[way])
        yield f"**{title}:** {len(said) or 'none'}.\n"
        if said:
            yield "\n".join(f"- {name} ({', '.join(ways)}): {what}" for (name, what), ways in said.items()) + "\n"


# --- the page --------------------------------------------------------------------------------------------------------


def _made(stored: list[dict[str, Any]]) -> list[str]:
    """The machines, the versions and the commands."""
    versions = {package: version for run in stored for package, version in run["versions"].items()}
    machines = [run["machine"] for run in stored if "machine" in run]
    processors = dict.fromkeys(f"{one['machine']}, {one['processor']}" for one in machines)
    commands = [f"python tools/ports.py {run['command']} --json FILE" for run in stored if "command" in run]
    commands = ['python -m pip install ".[ports]"', *commands, "python tools/ports_page.py FILE..."]
    where = "; ".join(processors) or "The processor was not stored"
    lines = [f"{where}. " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".", ""]
    return [*lines, "```sh", *commands, "```", ""]


def page(stored: list[dict[str, Any]]) -> str:
    """The text of the page."""
    found = rows(stored)
    left = sorted({f"{row.model} in {row.port}: {row.fault}" for row in found if not row.said})
    big = [one for run in stored for one in run.get("big", ())]
    parts = [
        _TOP.format(effect=EFFECT),
        "\n".join(summary(found)) + "\n",
        "## Each port\n",
        "\n".join(each(found)) + "\n",
        "## Remaining errors\n",
        *wrong(found),
        "## The faults\n",
        "\n".join(faults(found)) + "\n",
        f"Left out, because they have no effect or are impossible there: {'; '.join(left) or 'none'}.\n",
    ]
    if big:
        parts += ["## Time and memory\n", "\n".join(ports_big.lines(big)) + "\n"]
    return "\n".join([*parts, "## Machine, versions and commands\n", "\n".join(_made(stored))])


def _kept(run: dict[str, Any]) -> dict[str, Any]:
    """The part of a run that the page needs."""
    for row in run.get("ports", ()):
        for said in row["said"].values():
            said["seconds"] = 0.0
            if said["status"] != "failed":
                said["explanation"] = ""
    return run


def main(names: list[str]) -> None:
    if names:
        runs = [json.dumps(_kept(json.loads(Path(name).read_text()))) for name in names]
        STORED.write_text("[\n" + ",\n".join(runs) + "\n]\n")
    PAGE.write_text(page(json.loads(STORED.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
