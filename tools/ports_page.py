"""The page of ports that were measured, from what `ports` stored.

Measure, each model and framework in a run of its own, and make the page of all of them together:

    for model in bert gpt2 vit t5; do python tools/ports.py --model $model --drop --json build/$model.json; done
    python tools/ports.py --model gpt2 --to keras-jax --json build/keras.json      and other frameworks
    python tools/ports.py --right --json build/right.json
    python tools/ports.py --big --json build/big.json
    python tools/ports_page.py build/*.json

The last command writes docs/_static/ports.json, which is all that the page needs, and docs/porting/measured.md; files
replace what was stored before. Without files the page is made anew from what is stored.
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

# How well it does

Small models with random weights are ported from PyTorch by transformers' own conversion, written again in Keras, or
exported to ONNX. Faults are put into each port, one at a time, and each port is asked about in three ways: the
outputs alone (`compare(original, port, inputs=x)`), with all activations (`compare(record(original), record(port),
inputs=x)`), and [module by module](isolate.md) (`isolate(original, port, x)`). No model is pretrained or large, so
these are figures of the diagnosis, not of ports in general.

The truth is float64 of the original: a port that is less than {effect:g} times as far from it as the original has no
fault and is left out. *Noticed*: the two disagree; what is merely beyond rounding does not count. *Module right*: the
first divergence is inside the module at fault, or in the same part of the same layer. *Cause right*: its name is one
that [the table of faults](#the-faults) has for the fault. *Wrong name*: it is another one, and not `unknown`.
"""
# What is said of each way of asking: a title, and what it is called in the stored data.
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
    """What is counted of some ports that were asked about in one way."""
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
    """A line for each model, port and way of asking."""
    lines = []
    for model, port in dict.fromkeys((row.model, row.port) for row in found if row.said):
        here = [row for row in found if (row.model, row.port) == (model, port)]
        for way, title in _WAYS.items():
            figures = _figures(here, way)
            if any(figures.values()):
                lines.append(f"| {model} | {port} | {title} | {' | '.join(figures.values())} |")
    titles = ["model", "port", "asked on", *_figures([], "")]
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines]


def faults(found: list[Row]) -> list[str]:
    """The faults that were put in, and the causes that are right."""
    lines = ["| fault | models | right |", "|---|---|---|"]
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
    return f"is `{'` or `'.join(row.causes)}`" if wrong else ""


_WRONG = {
    "A right port accused": _accused,
    "A fault not noticed": _passed,
    "A wrong name": _misnamed,
    "Another module": _misplaced,
    "A name that was not found, with all activations or module by module": _unnamed,
    "A comparison that failed": _failed,
}


def wrong(found: list[Row]) -> Iterator[str]:
    """All that is not right, by kind; one line for the same in several ways."""
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
    """Where and with what."""
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
        "## What is still wrong\n",
        *wrong(found),
        "## The faults\n",
        "\n".join(faults(found)) + "\n",
        f"Left out, without effect or impossible there: {'; '.join(left) or 'none'}.\n",
    ]
    if big:
        parts += ["## Time and memory\n", "\n".join(ports_big.lines(big)) + "\n"]
    return "\n".join([*parts, "## Measured with\n", "\n".join(_made(stored))])


def _kept(run: dict[str, Any]) -> dict[str, Any]:
    """What the page needs of a run."""
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
