"""Run the kit on a GPU, measure times there, and look for PyTorch's known defect.

    python tools/cuda.py                                            # on the first CUDA device; writes cuda.json
    python tools/cuda.py --device cpu --level quick --json -        # tries this program without a GPU

It covers every framework that has the device, in four parts: ``polylogit conform``; the ratio of polylogit's time to
that of the framework's own function, timed alternately and with synchronisation; ``polylogit check`` of Triton's
softmax in docs/examples and of Liger's, if they are installed; and the lengths at which PyTorch's float64 softmax
ignores part of a row (pytorch#147284), where polylogit's must not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit import conformance
from polylogit.conformance._machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "benchmarks"), str(ROOT / "docs" / "examples"), str(ROOT / "tools")]

from ratios import alternate  # noqa: E402  the one clock of the benchmarks

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ((1, 8), (64, 1000), (8, 128_256), (4096, 4096))
DTYPES = ("float32", "bfloat16")
OPERATIONS = ("softmax", "log_softmax", "sigmoid")
FRAMEWORKS = ("torch", "tensorflow", "jax")
LENGTHS = range(2, 4097)


def native(framework: str, operation: str) -> Callable[[Any], Any]:
    """The framework's own call along the last axis."""
    if framework == "torch":
        import torch

        return torch.sigmoid if operation == "sigmoid" else lambda x: getattr(torch, operation)(x, -1)
    if framework == "tensorflow":
        import tensorflow as tf

        return getattr(tf.nn, operation)  # type: ignore[no-any-return]
    import jax

    return jax.jit(getattr(jax.nn, operation))


def waiting(framework: str, function: Callable[[Any], Any], x: Any) -> Callable[[], Any]:
    """A call that returns once the device is done."""
    if framework == "jax":
        return lambda: function(x).block_until_ready()
    if framework == "tensorflow":
        import tensorflow as tf

        def waited() -> None:
            function(x)
            tf.test.experimental.sync_devices()

        return waited
    import torch

    if x.device.type != "cuda":
        return lambda: function(x)

    def done() -> None:
        function(x)
        torch.cuda.synchronize()

    return done


def device_name(framework: str) -> str:
    """What the device is called by its maker."""
    if framework == "torch":
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "CPU"
    return polylogit.get_backend(framework).capabilities().get("devices", "")


def kit(framework: str, device: str, level: str) -> dict[str, Any]:
    """What ``polylogit conform --device`` says."""
    report = conformance.run([framework], device=device, level=level)  # type: ignore[arg-type,list-item]
    errors = [one.error for one in report.results if one.error is not None and np.isfinite(one.error)]
    print(f"{framework}: {report.summary().splitlines()[-1]}; the worst error is {max(errors, default=0):.2f} bounds")
    return {"summary": report.summary(), "worst": max(errors, default=0.0), "status": report.status}


def times(framework: str, device: str, rounds: int) -> list[dict[str, Any]]:
    """Our time over the framework's, for each operation, dtype and shape."""
    backend, found = polylogit.get_backend(framework), []
    for operation in OPERATIONS:
        for dtype in DTYPES:
            for shape in SHAPES:
                logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
                x = backend.asarray(logits, dtype=dtype, device=device)
                ours, theirs = (
                    waiting(framework, function, x)
                    for function in (getattr(polylogit, operation), native(framework, operation))
                )
                mine, own = alternate(ours, theirs, rounds, 0.05)
                row = {"operation": operation, "dtype": dtype, "shape": shape, "seconds": mine, "ratio": mine / own}
                print(f"  {operation:12} {dtype:9} {shape!s:16} {mine * 1e6:10.1f} us  {mine / own:.2f} of its own")
                found.append(row)
    return found


def kernels(device: str, level: str) -> dict[str, str]:
    """Triton's softmax of ours, and Liger's."""
    found = {}
    if importlib.util.find_spec("triton") is None:
        return {"triton": "not installed"}
    import triton_softmax

    candidates = {"our Triton softmax": triton_softmax.softmax}
    if importlib.util.find_spec("liger_kernel") is not None:
        from wild_adapters import liger_softmax

        candidates["Liger's softmax"] = liger_softmax()
    for name, kernel in candidates.items():
        asked: dict[str, Any] = {"backend": "torch", "device": device, "level": level}
        found[name] = conformance.check(kernel, "softmax", **asked).summary()
        print(f"{name}: {found[name].splitlines()[-1]}")
    return found


def cut_short(device: str) -> dict[str, list[int]]:
    """The lengths at which rows of equal float64 logits do not sum to one, natively and by polylogit."""
    import torch

    found: dict[str, list[int]] = {"torch": [], "polylogit": []}
    for length in LENGTHS:
        x = torch.zeros(2, length, dtype=torch.float64, device=device)
        for name, y in (("torch", torch.softmax(x, 1)), ("polylogit", polylogit.softmax(x))):
            # Equal terms, each rounded once, in a sum that is rounded log2 times at least: far below one part in 2^40.
            if float((y.sum(-1) - 1).abs().max()) > 2.0**-40:
                found[name].append(length)
    print(f"float64 rows cut short: {len(found['torch'])} lengths by torch, {len(found['polylogit'])} by polylogit")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--level", choices=["quick", "full"], default="full")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--framework", action="append", choices=FRAMEWORKS)
    parser.add_argument("--json", default=str(ROOT / "docs" / "_static" / "cuda.json"), help='a file, or "-" for none')
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"machine": machine(), "device": given.device}
    for framework in given.framework or FRAMEWORKS:
        try:
            polylogit.get_backend(framework).asarray(np.ones(1, np.float32), device=given.device)
        except Exception as error:  # noqa: BLE001  each framework says no by an error of its own
            print(f"{framework}: no {given.device} here: {error}")
            found[framework] = {"missing": str(error)}
            continue
        found[framework] = {
            "version": polylogit.get_backend(framework).version,
            "name": device_name(framework),
            "kit": kit(framework, given.device, given.level),
            "times": times(framework, given.device, given.rounds),
        }
        if framework == "torch":
            found["kernels"] = kernels(given.device, given.level)
            found["cut short"] = cut_short(given.device)
    if given.json != "-":
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
