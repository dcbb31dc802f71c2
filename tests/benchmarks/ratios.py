"""What polylogit takes over what others take: each pair in turn in one process, medians, a table and JSON.

    python tests/benchmarks/ratios.py                      # everything
    python tests/benchmarks/ratios.py small arrays --json ratios.json
    python tests/benchmarks/ratios.py arrays --elements 1e6 --rounds 3

Each figure is the median time of one call over that of the other, the two called alternately. A target is that of the
design; nothing fails when it is missed, since a time is not a test.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[], Any]

SHAPES = ((10**6, 10), (10**5, 100), (10**4, 1000), (312, 32000), (78, 128256), (1, 10**7))
OPERATIONS = ("softmax", "log_softmax", "sigmoid")
# What the worst case of large arrays is to reach.
TARGETS = {"scipy": 0.5, "torch": 0.9, "a copy": 2.5}


@dataclass(frozen=True)
class Ratio:
    """One figure: what was measured, over what, and what to reach."""

    group: str
    case: str
    over: str
    seconds: float
    other: float
    ratio: float
    target: float | None


def alternate(
    ours: Call, theirs: Call, rounds: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """The median time of a call of each, called in turns of at least `seconds`."""
    counts = []
    for function in (ours, theirs):
        function()
        start = clock()
        function()
        counts.append(max(1, round(seconds / max(clock() - start, 1e-9))))
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for function, count, taken in zip((ours, theirs), counts, times, strict=True):
                repeat = range(count)
                start = clock()
                for _ in repeat:
                    function()
                taken.append((clock() - start) / count)
    finally:
        gc.enable()
    return statistics.median(times[0]), statistics.median(times[1])


def scaled(shape: tuple[int, int], elements: int) -> tuple[int, int]:
    """The shape with about so many elements, the rows as long as they are or, if need be, shorter."""
    rows, length = shape
    if rows == 1:
        return 1, elements
    return max(1, elements // length), min(length, elements)


# --- the groups of cases ---------------------------------------------------------------------------------------------

Case = tuple[str, str, "Call", "Call", float | None]


def dispatch(_: argparse.Namespace) -> Iterator[Case]:
    """The hot path over a bare table look-up in a Python function."""
    import numpy as np

    import polylogit

    def nothing(x: Any, axis: Any) -> Any:
        return x

    table = {np.ndarray: nothing}

    def bare(x: Any, axis: int = -1) -> Any:
        return table[type(x)](x, axis)

    x = np.zeros(8, np.float32)
    with polylogit.register_implementation("softmax", "numpy", nothing):
        yield "softmax, a registered function", "a bare table", lambda: polylogit.softmax(x), lambda: bare(x), 2.0
    from polylogit._registry import TABLES

    polylogit.softmax(x)
    own = TABLES["softmax"][np.ndarray]
    TABLES["softmax"][np.ndarray] = nothing  # in the place of the backend's own
    try:
        yield "softmax, the backend's own", "a bare table", lambda: polylogit.softmax(x), lambda: bare(x), 1.5
    finally:
        TABLES["softmax"][np.ndarray] = own


def small(_: argparse.Namespace) -> Iterator[Case]:
    """Eight float32 over each framework's own function."""
    import numpy as np
    from scipy import special

    import polylogit

    x = np.linspace(-2, 3, 8, dtype=np.float32)
    others = {"softmax": special.softmax, "log_softmax": special.log_softmax}
    for shape in ((8,), (1, 8)):
        y = x.reshape(shape)
        for name, other in others.items():
            ours = getattr(polylogit, name)
            yield (
                f"{name} of {shape} float32",
                "scipy",
                lambda f=ours, y=y: f(y),
                lambda f=other, y=y: f(y, axis=-1),
                0.15,
            )
    for dtype in (np.float32, np.float64):
        y = x.astype(dtype)
        naive = lambda y=y: 1 / (1 + np.exp(-y))  # noqa: E731  the expression that it replaces
        yield f"sigmoid of 8 {y.dtype}", "1 / (1 + exp(-x))", lambda y=y: polylogit.sigmoid(y), naive, 0.6


def frameworks(_: argparse.Namespace) -> Iterator[Case]:
    """Eight float32 over the functions of the frameworks that are installed."""
    import numpy as np

    import polylogit

    x = np.linspace(-2, 3, 8, dtype=np.float32)
    for name in ("torch", "tensorflow", "jax"):
        try:
            backend = polylogit.get_backend(name)
        except polylogit.errors.BackendUnavailableError:
            continue
        y = backend.asarray(x)
        target = {"torch": 1.1, "tensorflow": 1.0, "jax": 0.25}[name]
        for operation in OPERATIONS:
            own = function_of(name, operation)
            ours = getattr(polylogit, operation)
            calls = [partial(function, y) for function in (ours, own)]
            if name == "jax":  # returns before it has computed; both sides are made to wait
                calls = [lambda call=call: call().block_until_ready() for call in calls]
            yield f"{operation} of 8 float32", name, *calls, target


def function_of(framework: str, operation: str) -> Callable[..., Any]:
    """A framework's own function, along the last axis."""
    if framework == "torch":
        import torch

        function = getattr(torch, operation)
        return function if operation == "sigmoid" else partial(function, dim=-1)
    if framework == "tensorflow":
        import tensorflow as tf

        return getattr(tf.nn, operation)  # type: ignore[no-any-return]
    import jax

    return getattr(jax.nn, operation)  # type: ignore[no-any-return]


def arrays(options: argparse.Namespace) -> Iterator[Case]:
    """Many normal logits on the last and the first axis over SciPy, PyTorch with as many threads, and a copy."""
    import numpy as np

    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for shape in SHAPES:
            x = (options.scale * rng.standard_normal(scaled(shape, options.elements))).astype(dtype)
            for axis in (-1, 0):
                # Next to a copy only where rows are contiguous and not so short that there is more to do for rows.
                yield from _beside(
                    options, f"{x.shape} {x.dtype} axis {axis}", x, axis, copy=axis and x.shape[1] >= 100
                )
        yield from _beside(options, f"{x.size} {x.dtype}", x.reshape(-1), None, copy=True)


def models(options: argparse.Namespace) -> Iterator[Case]:
    """Logits as models make them, over the same: one class leads, few candidates, attention, small batches."""
    for name, x in logits_of_models(options.elements).items():
        yield from _beside(options, f"{name} {x.shape} {x.dtype}", x, -1, copy=x.shape[1] >= 100)


def logits_of_models(elements: int) -> dict[str, Any]:
    """Name -> logits: of a trained classifier, of an image model, of language models, of attention; two dtypes."""
    import numpy as np

    rng = np.random.default_rng(0)

    def language(rows: int, classes: int) -> Any:
        x = rng.normal(-8.0, 2.5, (rows, classes))
        at = rng.integers(0, classes, (rows, 8))
        np.put_along_axis(x, at, rng.uniform(0.0, 18.0, at.shape), axis=1)
        return x

    def leading(rows: int, classes: int) -> Any:
        x = rng.standard_normal((rows, classes))
        x[np.arange(rows), rng.integers(0, classes, rows)] += rng.normal(12.0, 2.0, rows)
        return x

    found = {
        "digits classifier": _digits(max(1, elements // 10)),
        "1,000 classes, one leads": leading(max(1, elements // 1000), 1000),
        "batch of 32": leading(32, 1000),
        "batch of 128": leading(128, 1000),
        "vocabulary of 32,000": language(max(1, elements // 32000), 32000),
        "vocabulary of 128,256": language(max(1, elements // 128256), 128256),
        "one token of 128,256": language(1, 128256),
        "attention": 3 * rng.standard_normal((max(1, elements // 1024), 1024)),
    }
    return {f"{name}, {dtype}": x.astype(dtype) for name, x in found.items() for dtype in ("float32", "float64")}


def _digits(rows: int) -> Any:
    """The logits of a logistic regression trained on scikit-learn's digits, tiled."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    logits = LogisticRegression(C=1.0, max_iter=3000).fit(x / 16, y).decision_function(x / 16)
    return np.resize(logits, (rows, 10))


def _beside(options: argparse.Namespace, case: str, x: Any, axis: int | None, *, copy: bool) -> Iterator[Case]:
    """Each operation (sigmoid, if there is no axis) on one array, beside all others."""
    from scipy import special

    import polylogit

    polylogit.set_num_threads(options.threads)
    torch = _torch(options.threads)
    for name in ("softmax", "log_softmax") if axis is not None else ("sigmoid",):
        arguments = () if axis is None else (axis,)
        ours = partial(getattr(polylogit, name), x, *arguments)
        case_of = f"{name} {case}"
        if options.threads == 1:
            scipys = special.expit if axis is None else partial(getattr(special, name), axis=axis)
            yield case_of, "scipy", ours, partial(scipys, x), TARGETS["scipy"]
        if torch:
            yield (
                case_of,
                "torch",
                ours,
                partial(getattr(torch, name), torch.from_numpy(x), *arguments),
                TARGETS["torch"],
            )
        if copy and options.threads == 1:
            yield case_of, "a copy", ours, x.copy, TARGETS["a copy"]


def _torch(threads: int) -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def gradients(options: argparse.Namespace) -> Iterator[Case]:
    """A pullback, a jvp and both passes together over the forward pass."""
    import numpy as np

    import polylogit

    polylogit.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.standard_normal(scaled(shape, options.elements)).astype(np.float32)
        g = rng.standard_normal(x.shape).astype(np.float32)
        for name in OPERATIONS:
            function = getattr(polylogit, name)
            _, pullback = polylogit.vjp(function, x)
            forward = lambda f=function, x=x: f(x)  # noqa: E731
            yield f"pullback of {name} {x.shape}", "the forward", lambda f=pullback, g=g: f(g), forward, 1.3
            both = lambda f=function, x=x, g=g: polylogit.jvp(f, x, g)  # noqa: E731
            yield f"value and jvp of {name} {x.shape}", "the forward", both, forward, None


def threads(options: argparse.Namespace) -> Iterator[Case]:
    """Two threads over one, and over torch with two."""
    import numpy as np

    import polylogit

    rng = np.random.default_rng(0)
    torch = _torch(2)
    for shape in SHAPES:
        x = rng.standard_normal(scaled(shape, options.elements)).astype(np.float32)
        for name in OPERATIONS:
            function = getattr(polylogit, name)

            def on(count: int, function: Any = function, x: Any = x) -> Any:
                polylogit.set_num_threads(count)
                return function(x)

            case = f"{name} {x.shape} {x.dtype}"
            yield case, "one thread", partial(on, 2), partial(on, 1), 0.6
            if torch:
                tensor = torch.from_numpy(x)
                yield case, "torch", partial(on, 2), partial(function_of("torch", name), tensor), 0.6
    polylogit.set_num_threads(1)


def imports(_: argparse.Namespace) -> Iterator[Case]:
    """A process that imports polylogit over one that imports nothing; the difference is to be at most 8 ms."""
    import subprocess

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    yield "import polylogit", "an interpreter", partial(start, "import polylogit"), partial(start, ""), None


GROUPS = {
    function.__name__: function
    for function in (dispatch, small, frameworks, arrays, models, threads, gradients, imports)
}


# --- measuring and telling -------------------------------------------------------------------------------------------


def measure(group: str, options: argparse.Namespace) -> list[Ratio]:
    """The ratios of one group, printed as they come."""
    found = []
    print(f"\n{group}: {(GROUPS[group].__doc__ or '').splitlines()[0]}")
    for case, over, ours, theirs, target in GROUPS[group](options):
        # Other threads and processes do not count into this thread's time.
        alone = options.thread_time and group not in ("frameworks", "threads", "imports")
        clock = time.thread_time if alone else time.perf_counter
        taken, other = alternate(ours, theirs, options.rounds, options.seconds, clock)
        ratio = Ratio(group, case, over, taken, other, taken / other, target)
        missed = "  missed" if target is not None and ratio.ratio > target else ""
        goal = "" if target is None else f"(at most {target:.2f})"
        print(
            f"  {case:44} over {over:18} {ratio.ratio:6.2f} {goal:15} {taken * 1e6:12.2f} us / {other * 1e6:12.2f} us"
            f"{missed}",
            flush=True,
        )
        found.append(ratio)
    for over in dict.fromkeys(ratio.over for ratio in found):
        ratios = [ratio.ratio for ratio in found if ratio.over == over]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(f"  geometric mean over {over}: {mean:.2f}, largest {max(ratios):.2f}")
    return found


def environment() -> dict[str, Any]:
    """On what the figures were taken."""
    versions = {}
    for package in ("numpy", "scipy", "torch", "tensorflow", "jax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    import polylogit

    engine = polylogit.get_backend("numpy").engine.partition(":")[0]
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "engine": engine,
        "load": load,
        "versions": versions,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure the groups that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each of a pair")
    parser.add_argument("--seconds", type=float, default=0.01, help="length of a turn at least")
    parser.add_argument("--elements", type=lambda text: int(float(text)), default=10**7, help="of the large arrays")
    parser.add_argument("--scale", type=float, default=1.0, help="of the logits of the large arrays")
    parser.add_argument("--engine", help="an instruction set of the NumPy kernels, or pure; the fastest by default")
    parser.add_argument("--threads", type=int, default=1, help="of polylogit on NumPy and of torch")
    parser.add_argument(
        "--thread-time", action="store_true", help="time of this thread on the processor, for a machine with other work"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.groups).difference(GROUPS):
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    if "torch" not in sys.modules and {"frameworks", "arrays", "models", "threads"}.intersection(
        options.groups or GROUPS
    ):
        _torch(options.threads)  # before TensorFlow, whose libraries can break it
    if options.engine:
        from polylogit._backends.numpy import compiled

        chosen = compiled.use(options.engine)  # until the process ends
        chosen.__enter__()
    before = {**environment(), "clock": "of the thread" if options.thread_time else "on the wall"}
    found = [ratio for group in (options.groups or GROUPS) for ratio in measure(group, options)]
    if options.json:
        content = {"environment": before, "ratios": [asdict(ratio) for ratio in found]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
