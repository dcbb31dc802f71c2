"""Measure how well `polylogit.porting` works on ports of real models.

Small models of transformers with random weights are ported from PyTorch by transformers' own conversion. Some twenty
faults are put into each port, one at a time, and the port is compared by its outputs alone, with all activations, and
with `isolate` if possible. Right ports are compared as well. The ground truth is the same model in float64: a fault
that leaves the port less than 8 times as far from it as the original has no effect, and is left out.

    pip install ".[ports]"
    python tools/ports.py --model bert -v                     and print every wrong result
    python tools/ports.py --model gpt2 --only "GELU" -v       one fault (a part of its name)
    python tools/ports.py --model gpt2 --to keras-jax         a port to another framework than Flax
    python tools/ports.py --right                             right ports: deep, of large scores, of 16 bits
    python tools/ports.py --big                               time and memory of a hundred activations of 10^6

From a checkout: ``PYTHONPATH=src python tools/ports.py --model bert -v``. With ``--drop`` the few activations whose
shape or layout differs by design (ViT's patches, T5's position biases) are left out. `ports_page` makes a page of
what ``--json`` stored; its first lines have the commands.

The counts. *Noticed*: the comparison does not agree. *Module right*: the first divergence is inside the fault's
module or in the same part (attention, mlp, norm, embeddings, head) of the same layer, see `ports_models.same_module`.
*Cause right*: the table lists the cause for the fault. *Wrong name*: the cause is another one, and not "unknown",
which is right if the table lists none.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import importlib
import importlib.metadata
import json
import os
import re
import shlex
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402  before TensorFlow

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS))
import ports_big  # noqa: E402
from ports_faults import Fault, faults_of  # noqa: E402
from ports_models import (  # noqa: E402
    MODELS,
    Probabilities,
    Torch,
    inputs,
    original,
    with_weights,
)
from ports_rows import EFFECT, Row, Said  # noqa: E402

from polylogit.conformance._machine import machine  # noqa: E402

# --- one port --------------------------------------------------------------------------------------------------------


def _ask(way: Any) -> Said:
    """What a comparison says; that it raised is said too."""
    start = time.monotonic()
    try:
        found = way()
    except Exception as error:  # noqa: BLE001  a defect of what is measured is a result
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = Said("failed", "", "", f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
    else:
        cause = found.cause
        states = [one.status for one in found.activations]
        said = Said(found.status, found.first_divergence or "", cause.name if cause else "",
                    cause.explanation if cause else "", len(states), states.count("disagrees"))  # fmt: skip
    said.seconds = time.monotonic() - start
    return said


def _numbers(output: Any) -> np.ndarray:
    value = output["logits"] if hasattr(output, "keys") else output
    return np.asarray(value.detach().double() if isinstance(value, torch.Tensor) else value).astype(np.float64)


def _tensors(given: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.tensor(value) for key, value in given.items()}


def times_farther(reference: Any, port: Any, given: dict[str, Any]) -> float:
    """How many times farther from float64 of the original the port is than the original, root mean square."""
    with torch.no_grad():
        exact = _numbers(copy.deepcopy(reference).double()(**_tensors(given)))
        here = _numbers(reference(**_tensors(given)))
        there = _numbers(port(**_tensors(given) if isinstance(port, torch.nn.Module) else given))
    far = [float(np.sqrt(np.mean((one - exact) ** 2))) for one in (here, there)]
    return far[1] / max(far[0], 1e-300)


def _without(recorder: Any, pattern: str) -> Any:
    def call(**given: Any) -> Any:
        return {name: value for name, value in recorder(**given).items() if not re.search(pattern, name)}

    return call


def ways(name: str, reference: Any, port: Any, given: dict[str, Any], *, drop: bool = False) -> dict[str, Said]:
    """What is said of a port: on outputs, with all activations, in isolation."""
    from polylogit import porting

    one = MODELS[name]
    head = port.fault is not None and port.fault.head
    more = given
    if port.record_inputs is not None:
        more = {**given, **port.record_inputs} | ({} if head else {"output_attentions": True})
    last = "output" if head else "output.logits"
    names = {} if head else port.names

    def outputs() -> Any:
        return porting.compare(reference, port.outputs, inputs=given)

    def recorded() -> Any:
        candidate = port.recorded(porting.record)
        if drop:
            candidate = _without(candidate, one.other_shapes)
        return porting.compare(porting.record(reference), candidate, inputs=more, names={last: last, **names})

    found = {}
    with port.broken(), torch.no_grad():
        found["outputs"] = _ask(outputs)
        found["recorded"] = _ask(recorded)
        if hasattr(porting, "isolate"):
            candidate = port.recorded(porting.record)
            # Names of outputs are no modules; and the head's model has another one inside.
            mapped = {} if head else {r: c for r, c in port.names.items() if not r.startswith("output")}
            found["isolated"] = _ask(lambda: porting.isolate(reference, candidate, more, names=mapped))
    return found


def judged(
    title: str, reference: Any, port: Any, *, fault: Fault | None = None, right: bool = False, **options: bool
) -> Row:
    """One row: a port, with this fault or without one, and what is said of it."""
    name = port.name
    given = inputs(name)
    with port.broken():
        times = times_farther(reference, port.outputs, given)
    causes, within = (sorted(fault.causes), fault.within[name]) if fault else ([], "")
    row = Row(title, port.framework, fault.name if fault else "", causes, within, times, "right" if right else "fault")
    if right or times >= EFFECT:
        row.said = ways(name, reference, port, given, **options)
    return row


def faulty(name: str, fault: Fault, make: Any, base: Any, **options: bool) -> Row:
    """The row of a fault."""
    edited = with_weights(base, fault.weights[name]) if name in fault.weights else base
    reference = Probabilities(base) if fault.head else base
    try:
        port = make(name, edited, fault)
    except Exception as error:  # noqa: BLE001  what a framework cannot do, a port in it does not do wrong
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
        return Row(name, make.__name__, fault.name, sorted(fault.causes), "", 0.0, impossible=reason)
    return judged(name, reference, port, fault=fault, **options)


_LAYERS = {"bert": "num_hidden_layers", "gpt2": "n_layer", "vit": "num_hidden_layers", "t5": "num_layers"}
# Models whose right ports are asked about: (model, layers, standard deviation of the weights).
RIGHT = (
    ("bert", 4, 0.15), ("gpt2", 4, 0.15), ("vit", 4, 0.15), ("t5", 4, 0.15), ("bert", 24, 0.15), ("gpt2", 24, 0.2),
    ("gpt2", 24, 0.4), ("gpt2", 24, 0.6), ("gpt2", 48, 0.2), ("gpt2", 48, 0.4),
)  # fmt: skip
_SHALLOW = 4  # so many layers have ports of 16 bits as well


def right_rows(make: Any, names: list[str], **options: bool) -> Iterator[Row]:
    """Right ports: fused attention, another framework, 16 bits; and one of 16 bits that lacks a bias."""
    for name, layers, std in RIGHT:
        if name not in names:
            continue
        settings = {"std": std, _LAYERS[name]: layers}
        base = original(name, **settings)
        title = f"{name}, {layers} layers, weights of {std}"
        fused = original(name, attention="sdpa", **settings) if name != "t5" else None
        ports = [Torch(name, fused, "fused attention")] if fused else []
        for port in (*ports, make(name, base)):
            yield judged(title, base, port, right=True, **options)
        if layers > _SHALLOW:
            continue
        for dtype in ("float16", "bfloat16"):
            short = copy.deepcopy(base).to(getattr(torch, dtype))
            yield judged(title, base, Torch(name, short, f"PyTorch {dtype}"), right=True, **options)
            yield judged(title, base, make(name, base, None, dtype), right=True, **options)
            for fault in faults_of(name):
                if fault.name == "bias dropped":
                    broken = make(name, with_weights(base, fault.weights[name]), fault, dtype)
                    yield judged(title, base, broken, fault=fault, **options)


# --- the tables ------------------------------------------------------------------------------------------------------


def _share(count: int, of: int) -> str:
    return f"{count} / {of}"


def table(rows: list[Row]) -> list[str]:
    """One line for each model, port and way of asking."""
    lines = ["| model | port | asked on | faults | noticed | module right | cause right, of nameable | wrong names |"
             " failed | right ports accused | seconds |", "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for model, port in dict.fromkeys((row.model, row.port) for row in rows if row.said):
        here = [row for row in rows if (row.model, row.port) == (model, port) and row.said]
        faults, right = [row for row in here if row.kind == "fault"], [row for row in here if row.kind == "right"]
        for way in dict.fromkeys(way for row in here for way in row.said):
            nameable = [row for row in faults if row.causes]
            cells = [
                len(faults), sum(row.said[way].noticed for row in faults),
                "" if way == "outputs" else sum(row.module_right(way) for row in faults),
                _share(sum(row.cause_right(way) for row in nameable), len(nameable)),
                sum(row.wrong_name(way) for row in faults), sum(row.said[way].status == "failed" for row in here),
                _share(sum(row.said[way].noticed for row in right), len(right)),
                f"{sum(row.said[way].seconds for row in here):.0f}",
            ]  # fmt: skip
            lines.append(f"| {model} | {port} | {way} | " + " | ".join(map(str, cells)) + " |")
    return lines


def failures(row: Row) -> list[str]:
    """What is not right about what was said of one port."""
    lines = []
    for way, said in row.said.items():
        wrong = []
        if said.status == "failed":
            wrong.append("failed")
        elif row.kind == "right":
            wrong += ["a right port accused"] * said.noticed
        else:
            wrong += ["not noticed"] * (not said.noticed)
            wrong += ["wrong module"] * (said.noticed and way != "outputs" and not row.module_right(way))
            wrong += ["wrong name"] * row.wrong_name(way)
            wrong += ["no cause"] * (said.noticed and bool(row.causes) and said.cause == "unknown")
        if wrong:
            lines.append(
                f"    {way}: {', '.join(wrong)}: {said.status}, {said.differ} of {said.activations}, first "
                f"{said.first!r}, cause {said.cause!r} (right: {', '.join(row.causes) or 'unknown'}): "
                f"{said.explanation}"
            )
    return lines


def told(row: Row, *, verbose: bool) -> None:
    """A line for each port as it is done."""
    title = f"{row.model} -> {row.port}: {row.fault or 'right'}"
    if row.impossible:
        print(f"{title}: cannot be made: {row.impossible}", flush=True)
        return
    if not row.said:
        print(f"{title}: only {row.times:.2g} times farther from float64 than the original: left out", flush=True)
        return
    wrong = failures(row)
    marks = " ".join(
        f"{way}:{'!' if said.status == 'failed' else 'seen' if said.noticed else 'agrees'}"
        f"{'' if way == 'outputs' or not row.fault or row.module_right(way) else ',elsewhere'},{said.cause or '-'}"
        for way, said in row.said.items()
    )
    print(f"{title} ({row.times:.2g} times)  {marks}", flush=True)
    if verbose:
        print("\n".join(wrong) + "\n" * bool(wrong), end="", flush=True)


def asked(make: Any, options: argparse.Namespace) -> Iterator[Row]:
    """All rows that were asked for."""
    more = {"drop": options.drop}
    if options.right:
        yield from right_rows(make, options.model or list(MODELS), **more)
        return
    for name in options.model or MODELS:
        if not getattr(make, "ports", lambda _: True)(name):
            continue
        base = original(name)
        if not options.only:
            yield judged(name, base, make(name, base), right=True, **more)
        offers = getattr(make, "offers", lambda *_: True)
        for fault in faults_of(name):
            if (options.only or "").lower() in fault.name.lower() and offers(name, fault):
                yield faulty(name, fault, make, base, **more)


_CLASSES = {
    "flax": "Flax", "tensorflow": "TensorFlow", "keras-torch": "Keras", "keras-jax": "Keras",
    "keras-tensorflow": "Keras", "onnx": "Onnx",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="all by default; may be repeated")
    parser.add_argument("--to", choices=list(_CLASSES), default="flax", help="the framework of the port")
    parser.add_argument("--only", metavar="FAULT", help="faults whose name contains this")
    parser.add_argument("--right", action="store_true", help="right ports: deep, large scores, 16 bits")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--drop", action="store_true", help="leave out activations whose layout differs by design")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was said wherever it is not right")
    parser.add_argument("--big", nargs="?", type=int, const=100, metavar="COUNT", help="time and memory instead")
    options = parser.parse_args()
    if options.big:
        big = ports_big.rows(options.big)
        print("\n".join(ports_big.lines(big)))
        _stored(options.json, "big", big)
        return
    torch.manual_seed(0)
    module, _, backend = options.to.partition("-")
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    make = getattr(importlib.import_module(f"ports_{module}"), _CLASSES[options.to])
    rows = []
    for row in asked(make, options):
        rows.append(row)
        told(row, verbose=options.verbose)
    print("\n" + "\n".join(table(rows)))
    left = [f"{row.model} -> {row.port}: {row.fault} ({row.impossible or f'{row.times:.2g} times'})"
            for row in rows if not row.said]  # fmt: skip
    print("\nLeft out, without effect or impossible: " + ("; ".join(left) or "none"))
    _stored(options.json, "ports", [dataclasses.asdict(row) for row in rows])


def _stored(path: Path | None, what: str, found: list[Any]) -> None:
    """Keep what was found, for `ports_page`, with the versions of what was asked."""
    if path is not None:
        packages = ("torch", "transformers", "flax", "jax", "tensorflow", "keras", "onnxruntime", "numpy")
        versions = {package: importlib.metadata.version(package) for package in packages}
        about = {"versions": versions, "machine": machine(), "command": _command(sys.argv[1:])}
        path.write_text(json.dumps({what: found, **about}, indent=1))


def _command(arguments: list[str]) -> str:
    """How it was called, without the file, which is wherever the caller likes."""
    at = arguments.index("--json")
    return shlex.join(arguments[:at] + arguments[at + 2 :])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
