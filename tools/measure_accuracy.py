"""Measure the errors of polylogit and of the frameworks' own functions against exact values.

    python tools/measure_accuracy.py

The measurement is repeated under each setting of tests/processors.py that the processor supports. It uses the
installed backends, and SciPy for NumPy; the page shows all four. It prints the tables of docs/accuracy.md and writes
``docs/_static/accuracy.json``; ``accuracy_page.py`` makes the tables and pictures of the page. The inputs are fixed:
drawn from one seed, rounded to the dtype under test, and the same for every function.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import accuracy_page
import numpy as np
import settings

import polylogit
from polylogit._spec.dtypes import finfo
from polylogit._spec.exact import exact
from polylogit._spec.operations import DEFINITIONS
from polylogit.conformance._machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.dtypes import Array, Finfo

SEED = 0
DTYPES = ("float32", "float64")
ROWS = ("softmax", "log_softmax")
LOWEST = {"float32": -104.0, "float64": -745.0}  # where the exponential has underflowed
# Not all of them round: what is left over after whole vectors of 16 or 32 is summed otherwise.
LENGTHS = (2, 3, 10, 31, 100, 300, 1071, 3000, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6)
# Where each curve has its points: the worst error between one and the next is drawn in the middle.
DISTANCES = {dtype: np.linspace(0.0, -lowest, 27) for dtype, lowest in LOWEST.items()}
LOGITS = {dtype: np.linspace(lowest, 40.0, 49) for dtype, lowest in LOWEST.items()}
NEAR_ZERO = np.linspace(-30.0, 0.0, 31)  # decimal logarithms of the result's size

NATIVE = {
    "numpy": ("scipy.special", "softmax", "log_softmax", "expit"),
    "torch": ("torch", "softmax", "log_softmax", "sigmoid"),
    "tensorflow": ("tensorflow.nn", "softmax", "log_softmax", "sigmoid"),
    "jax": ("jax.nn", "softmax", "log_softmax", "sigmoid"),
}


# --- the inputs -------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """Rows of logits, and the curve to which their errors belong; `at` is their place where all have the same."""

    name: str
    x: Array
    curve: str = ""
    at: float = 0.0


def _rows(lowest: float) -> Iterator[Case]:
    """Float64 logits for softmax and log_softmax, to be rounded to a dtype."""
    rng = np.random.default_rng(SEED)
    spread = rng.uniform(lowest, 0.0, (3000, 64))
    yield Case("logits spread evenly", spread + rng.normal(0.0, 10.0, (3000, 1)), "distance")
    for length in (2, 3, 8, 16):
        for scale in (1.0, 10.0):
            yield Case(f"normal logits, scale {scale:g}", rng.normal(0.0, scale, (2000, length)))
        for row in rng.normal(0.0, 3.0, (100, 1, length)):
            yield Case("one row of normal logits", row)
    for length in LENGTHS:
        count = int(np.clip(10**5 // length, 2, 200))
        level = rng.normal(0.0, 3.0, (count, 1))
        yield Case("equal logits", np.repeat(level, length, axis=1), "equal", length)
        yield Case("normal logits", rng.normal(0.0, 1.0, (count, length)), "normal", length)
        yield Case("falling logits", level + np.linspace(0.0, -20.0, length), "falling", length)


def _near_zero() -> Iterator[Case]:
    """Float64 logits of rows in which one leads by 0 to 69, whose log_softmax is between -0.7 and -1e-30."""
    rng = np.random.default_rng(SEED + 1)
    for length in (2, 3, 10, 100):
        lead = rng.uniform(0.0, 69.0, (6000, 1))
        rest = -lead - rng.uniform(0.0, 2.0, (6000, length - 1))
        top = np.where(rng.random((6000, 1)) < 0.5, 0.0, rng.normal(0.0, 10.0, (6000, 1)))
        yield Case("one logit leads", top + np.concatenate([np.zeros((6000, 1)), rest], 1), "near zero")


def _points(lowest: float) -> Iterator[Case]:
    """Float64 logits for sigmoid."""
    rng = np.random.default_rng(SEED + 2)
    yield Case("logits spread evenly", rng.uniform(lowest, 40.0, (48, 2000)), "sigmoid")
    yield Case("small logits", rng.normal(0.0, 1.0, (10, 2000)), "sigmoid")
    for row in rng.normal(0.0, 3.0, (100, 8)):
        yield Case("8 logits", row)


def _gradients() -> Iterator[Case]:
    """Float64 logits at which gradients are taken."""
    rng = np.random.default_rng(SEED + 3)
    for length in (2, 10, 100, 1000, 10**5):
        count = int(np.clip(10**5 // length, 2, 500))
        for scale in (1.0, 5.0):
            yield Case(f"normal logits, scale {scale:g}", rng.normal(0.0, scale, (count, length)))
    yield Case("logits spread evenly", rng.uniform(-80.0, 20.0, (200, 64)))


# --- who is measured --------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    """One library's functions on one framework's arrays."""

    name: str  # "polylogit.torch", "torch"
    backend: Any
    functions: dict[str, Callable[..., Any]]
    differentiates: bool

    def value(self, operation: str, x: Array) -> Array:
        """What comes back for NumPy's values, as float64."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # only the value is of interest here
            return self._host(self._call(operation)(self.backend.asarray(x)))

    def gradient(self, operation: str, x: Array, cotangent: Array) -> Array:
        """The pullback of a cotangent, as float64."""
        _, pullback = polylogit.vjp(self._call(operation), self.backend.asarray(x))
        return self._host(pullback(self.backend.asarray(cotangent)))

    def _call(self, operation: str) -> Callable[[Any], Any]:
        function = self.functions[operation]
        if hasattr(function, "__polylogit_operation__") or not DEFINITIONS[operation].takes_axis:
            return function
        return lambda x: function(x, -1)

    def _host(self, y: Any) -> Array:
        return self.backend.to_numpy(y).astype(np.float64)


def subjects() -> list[Subject]:
    """polylogit on every installed backend, then the installed frameworks' own functions."""
    ours = {name: getattr(polylogit, name) for name in DEFINITIONS}
    names = [name for name in ("torch", "tensorflow", "jax") if importlib.util.find_spec(name)]  # in this order
    for name in names:
        importlib.import_module(name)
    if "jax" in names:
        importlib.import_module("jax").config.update("jax_enable_x64", True)  # or float64 would be float32
    found = [Subject(f"polylogit.{name}", polylogit.get_backend(name), ours, True) for name in ("numpy", *names)]
    for name in ("numpy", *names):
        path, *functions = NATIVE[name]
        module: Any = importlib.import_module(path.partition(".")[0])
        if path == "scipy.special":
            module = importlib.import_module(path)
        elif "." in path:
            module = getattr(module, path.partition(".")[2])
        native = {
            operation: getattr(module, function) for operation, function in zip(DEFINITIONS, functions, strict=True)
        }
        title = path.partition(".")[0]
        found.append(Subject(title, polylogit.get_backend(name), native, name != "numpy"))
    return found


# --- the measurement --------------------------------------------------------------------------------------------------


class Ledger:
    """The worst errors so far: of each function over all cases, and along each curve."""

    def __init__(self) -> None:
        self.worst: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        self.curves: dict[str, dict[str, dict[str, Any]]] = {}

    def note(self, key: tuple[str, str, str], case: Case, error: Array, bound: Array, where: Array) -> None:
        """Keep the worst error as a fraction of its bound, and what the input was."""
        fractions = error / bound
        at = tuple(int(one) for one in np.unravel_index(int(np.argmax(fractions)), fractions.shape))
        table, dtype, subject = key
        row = self.worst.setdefault(table, {}).setdefault(dtype, {})
        if fractions[at] > row.get(subject, {"worst": -1.0})["worst"]:
            row[subject] = {
                "worst": float(f"{fractions[at]:.4g}"),
                "case": case.name,
                "length": 0 if key[0].endswith("sigmoid") else case.x.shape[-1],  # whose rows mean nothing
                "at": float(f"{where[at] + 0.0:.6g}"),
            }

    def draw(self, key: tuple[str, str, str], edges: Array, places: Array, errors: Array) -> None:
        """Keep the worst errors between every two edges."""
        curve, dtype, subject = key
        points = self.curves.setdefault(curve, {}).setdefault(dtype, {"x": _middles(edges)})
        worst = np.array([np.nan if old is None else old for old in points.get(subject, [None] * (len(edges) - 1))])
        bins = np.searchsorted(edges, places, side="right") - 1
        inside = (bins >= 0) & (bins < worst.size)
        worst = np.where(np.isnan(worst), -1.0, worst)
        np.maximum.at(worst, bins[inside], errors[inside])
        points[subject] = [None if value < 0 else float(f"{value:.4g}") for value in worst]

    def point(self, key: tuple[str, str, str], place: float, error: float) -> None:
        """Keep a curve's error at one place, which comes in order."""
        curve, dtype, subject = key
        points = self.curves.setdefault(curve, {}).setdefault(dtype, {"x": []})
        if place not in points["x"]:
            points["x"].append(place)
        points.setdefault(subject, []).append(float(f"{error:.4g}"))


def _middles(edges: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in (edges[:-1] + edges[1:]) / 2]


def _off(exact: Any, got: Array, slack: float) -> tuple[Array, Array]:
    """Absolute errors, and where a result was flushed to 0 as it may be, which is counted as no error."""
    flushed = (got == 0) & (np.abs(exact.hi) < slack)
    return np.where(flushed, 0.0, np.abs((got - exact.hi) - exact.lo)), flushed


def _measure_values(ledger: Ledger, found: list[Subject], operation: str, dtype: str, case: Case) -> None:
    entry, facts = DEFINITIONS[operation], finfo(dtype)
    x = case.x.astype(dtype)
    rows = exact(entry.exact, x.astype(np.float64))
    right, bound = entry.value(rows), entry.bound(rows, facts)
    where = rows.distance if entry.takes_axis else rows.x
    slack = facts.flushed * facts.smallest_normal if entry.unit == 0 else 0.0
    for subject in found:
        error, flushed = _off(right, subject.value(operation, x), slack)
        ledger.note((operation, dtype, subject.name), case, error, bound, where)
        _trace(ledger, (operation, dtype, subject.name), case, facts, (where, right.hi, bound, error, ~flushed))


def _trace(ledger: Ledger, key: tuple[str, str, str], case: Case, facts: Finfo, found: tuple[Array, ...]) -> None:
    """Add what was found to the curve that the case belongs to."""
    operation, dtype, subject = key
    where, right, bound, error, kept = found
    units = error / facts.ulp(right)
    if case.curve == "distance":
        # log_softmax has its own scale, eps (1 + |r|), which the bound knows.
        size = units if operation == "softmax" else error / bound
        ledger.draw((f"distance {operation}", dtype, subject), DISTANCES[dtype], where[kept], size[kept])
    elif case.curve == "sigmoid":
        ledger.draw(("sigmoid", dtype, subject), LOGITS[dtype], where[kept], units[kept])
    elif case.curve == "near zero":
        near = where <= 1.0
        ledger.draw(("near zero", dtype, subject), NEAR_ZERO, np.log10(-right[near]), units[near])
        ledger.note(("near zero", dtype, subject), case, units[near], np.ones(1), np.log10(-right[near]))
    elif case.curve and operation == "softmax":
        # Near the largest logit what the distance adds is small, and the sum is what is left.
        near = where <= 1.0
        ledger.point((f"{case.curve} {operation}", dtype, subject), case.at, float(units[near].max()))


def _measure_gradients(ledger: Ledger, found: list[Subject], operation: str, dtype: str, case: Case) -> None:
    entry, facts = DEFINITIONS[operation], finfo(dtype)
    x = case.x.astype(dtype)
    rows = exact(entry.exact, x.astype(np.float64))
    g = np.random.default_rng(SEED).normal(size=x.shape).astype(dtype)
    right = entry.vjp.value(rows, g.astype(np.float64))
    bound = entry.vjp.bound(rows, facts, g.astype(np.float64))
    where = rows.distance if entry.takes_axis else rows.x
    for subject in found:
        if subject.differentiates:
            error, _ = _off(right, subject.gradient(operation, x, g), 16 * facts.smallest_normal)
            ledger.note((f"gradient of {operation}", dtype, subject.name), case, error, bound, where)


def measure() -> dict[str, Any]:
    """All errors of all functions, with the versions."""
    ledger, found = Ledger(), subjects()
    for dtype, lowest in LOWEST.items():
        for operation in ROWS:
            for case in _rows(lowest):
                _measure_values(ledger, found, operation, dtype, case)
        for case in _near_zero():
            _measure_values(ledger, found, "log_softmax", dtype, case)
        for case in _points(lowest):
            _measure_values(ledger, found, "sigmoid", dtype, case)
        for operation in DEFINITIONS:
            for case in _gradients():
                _measure_gradients(ledger, found, operation, dtype, case)
    names = ["numpy", *(subject.name for subject in found if "." not in subject.name)]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names}
    return {"versions": versions, **machine(), "worst": ledger.worst, "curves": ledger.curves}


def main() -> None:
    """Measure, print the tables, and write the numbers."""
    if "--json" in sys.argv:
        print(json.dumps(measure()["worst"]))
        return
    measured = {**measure(), "setting": settings.here(), "elsewhere": settings.elsewhere(__file__)}
    accuracy_page.MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    print(accuracy_page.tables(measured))


if __name__ == "__main__":
    main()
