"""Robustness tests: random calls, first calls from many threads, and files that are corrupted at random.

    python tools/harden.py                        # all three, as docs/hardening.md shows them; half an hour
    python tools/harden.py calls --number 100000
    python tools/harden.py first-calls --number 100
    python tools/harden.py files --number 100000  # with atheris if it is installed

Prints the outcomes. The exit status is 1 if a call or a file gives anything but a result or an error of polylogit, or
if a process does not end normally.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.util
import logging
import random
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import errors, porting

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "hardening")]
THREADS = 64
FIRST = """
    import threading, sys
    import numpy as np
    {imports}
    import polylogit
    x = {make}
    barrier, failed = threading.Barrier({threads}), []
    def first():
        barrier.wait()
        try:
            for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
                function(x)
            polylogit.vjp(polylogit.softmax, x)[1](x)
        except BaseException as error:
            failed.append(repr(error))
    threads = [threading.Thread(target=first) for _ in range({threads})]
    for one in threads: one.start()
    for one in threads: one.join()
    sys.exit("; ".join(set(failed)) if failed else 0)
"""
MAKES = {
    "numpy": ("", "np.ones((2, 3))"),
    "torch": ("import torch", "torch.ones(2, 3)"),
    "tensorflow": ("import tensorflow as tf", "tf.ones((2, 3))"),
    "jax": ("import jax.numpy as jnp", "jnp.ones((2, 3))"),
}


def any_calls(number: int) -> bool:
    """Random calls of tests/hardening/calls.py; whether all gave a result or an error of the hierarchy."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")  # before TensorFlow
    import calls
    from hypothesis import HealthCheck, Phase, given, settings

    logging.disable(logging.CRITICAL)
    came, wrong, start = collections.Counter[str](), {}, time.monotonic()

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(calls.calls())
    def each(call: Any) -> None:
        try:
            came[calls.holds(call)] += 1
        except Exception as error:  # noqa: BLE001  this is what is looked for
            came["something else"] += 1
            wrong.setdefault((type(error).__name__, str(error)[:80]), call)

    each()
    taken = time.monotonic() - start
    print(f"{sum(came.values()):,} random calls in {taken:.0f} s: {came.pop('served', 0):,} served", end="")
    print("".join(f", {count:,} {name}" for name, count in came.most_common()))
    for (kind, message), call in wrong.items():
        print(f"  {kind}: {message}: {call!r}"[:1000])
    return not wrong


def first_calls(number: int) -> bool:
    """Fresh processes in which 64 threads make the first call of a framework at once."""
    good = True
    for name, (imports, make) in MAKES.items():
        if name != "numpy" and importlib.util.find_spec(name) is None:
            continue
        program = textwrap.dedent(FIRST.format(imports=imports, make=make, threads=THREADS))
        ended: collections.Counter[int] = collections.Counter()
        for _ in range(number):
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
            ended[done.returncode] += 1
            if done.returncode:
                print(done.stderr[-500:])
        good &= set(ended) == {0}
        print(f"{name}: {ended[0]} of {number} processes of {THREADS} first calls ended well")
    return good


def seeds(folder: Path) -> list[bytes]:
    """One file of each kind that needs no framework."""
    arrays = {"a": np.arange(6.0, dtype="float32").reshape(2, 3), "logits/0": np.ones(4)}
    porting.save(folder / "one.npz", arrays)
    porting.save(folder / "one.safetensors", arrays)
    np.save(folder / "one.npy", arrays["a"])
    np.savez_compressed(folder / "packed.npz", **arrays)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def read(data: bytes, path: Path) -> str:
    """What comes of a file of these bytes: "read", or "refused"."""
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = porting.load(path)
            for one in found.values() if hasattr(found, "values") else [found]:
                np.asarray(one)
    except errors.PolylogitError:
        return "refused"
    return "read"


def broken(data: bytes, draw: random.Random) -> bytes:
    """A file with some of it changed, left out, repeated or cut off."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0 and changed:
            changed[place % len(changed)] = draw.randrange(256)
        elif kind == 1:
            del changed[place : place + draw.randint(1, 16)]
        elif kind == 2:
            changed[place:place] = changed[place : place + draw.randint(1, 16)]
        elif kind == 3:
            changed[place : place + 8] = draw.choice((b"\xff" * 8, b"\0" * 8, draw.randbytes(8)))
        elif draw.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def files(number: int) -> bool:
    """Broken files, by atheris's coverage where it is installed, and by chance."""
    draw, came, wrong = random.Random(0), collections.Counter[str](), {}
    with tempfile.TemporaryDirectory() as folder:
        good = seeds(Path(folder))
        suffixes = [path.suffix for path in sorted(Path(folder).iterdir())]
        for turn in range(number):
            kind = turn % len(good)
            data = broken(good[kind], draw)
            try:
                came[read(data, Path(folder, "broken" + suffixes[kind]))] += 1
            except Exception as error:  # noqa: BLE001  this is what is looked for
                came["something else"] += 1
                wrong.setdefault((type(error).__name__, str(error)[:80]), (suffixes[kind], data[:200]))
    print(f"{number:,} broken files: " + ", ".join(f"{count:,} {name}" for name, count in came.most_common()))
    for what, (suffix, data) in wrong.items():
        print(f"  {what}: {suffix} {data!r}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; by chance alone")
        return not wrong
    return not wrong and _by_coverage(number)


def _by_coverage(number: int) -> bool:
    """libFuzzer ends its process, so it has one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        (made := Path(folder, "made")).mkdir()
        for turn, data in enumerate(seeds(made)):
            (corpus / str(turn)).write_bytes(data)
        command = [sys.executable, __file__, "atheris", f"-runs={number}", "-timeout=20", "-rss_limit_mb=4096"]
        command += ["-max_len=4096", str(corpus)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if "DONE" in line or "ERROR" in line or "Error" in line]
        print(f"atheris, {number:,} runs: {last[-1].strip() if last else done.stderr[-300:]}")
        return done.returncode == 0


def _under_atheris(arguments: list[str]) -> None:
    import atheris

    for module in ("polylogit.porting._formats", "polylogit.porting._files", "zipfile", "numpy.lib._format_impl"):
        for one in vars(sys.modules[module]).values():
            if isinstance(one, types.FunctionType) and one.__module__ == module:
                one.__code__ = atheris.instrument_func(one).__code__
    folder = Path(tempfile.mkdtemp())
    suffixes = {b"PK": ".npz", b"\x93N": ".npy"}

    def one(data: bytes) -> None:
        read(data, folder / f"fuzzed{suffixes.get(data[:2], '.safetensors')}")

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


PARTS: dict[str, tuple[Callable[[int], bool], int]] = {
    "calls": (any_calls, 100_000),
    "first-calls": (first_calls, 100),
    "files": (files, 100_000),
}


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["atheris"]:
        _under_atheris(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--number", type=int)
    given = parser.parse_args()
    results = []
    for name in given.parts or list(PARTS):
        function, usual = PARTS[name]
        with contextlib.suppress(KeyboardInterrupt):
            results.append(function(given.number or usual))
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
