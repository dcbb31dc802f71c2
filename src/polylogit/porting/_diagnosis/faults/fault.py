"""`Fault`, an entry of the table: its name, its predictions, and its explanation and remedy.

A fault only predicts. `judge` decides whether a prediction explains the difference, by one rule for all faults.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting._diagnosis.verdict import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Backend
    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

    Predict = Callable[[Any], Any]

__all__ = ["Fault", "Prediction", "only", "recognize"]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Two arrays that agree if the fault happened.

    They are either the reference with the fault applied and the candidate, or the reference and the candidate with the
    fault undone.
    """

    expected: Array
    observed: Array
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)  # what was found: a factor, a permutation
    free: int = 0  # how many numbers were fitted; each costs one entry's worth of evidence
    constraints: int | None = None  # how many sums bind the observed values anyway; None for one a row
    gain: float = 1.0  # by how much the comparison amplifies noise
    measure: str | None = None  # the unit, where it is not that of the reference's kind
    proven: bool = False  # by other evidence than a small difference: values that lie on the lattice of a dtype


def _nothing(_: Any) -> tuple[Prediction, ...]:
    return ()


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    The texts have the found parameters in braces. `fix` is a key of `polylogit._backends.base.SPELLING`, for which
    each backend has its own code, or the code itself if it is the same in all frameworks; ``x`` stands for the logits
    and ``p`` for the candidate's output. `predict` yields the predictions for `Evidence`, none if the fault cannot
    apply; a fault of gradients decides by itself, and returns the remaining difference and the parameters, or None.
    """

    name: str  # as `Diagnosis.name` gives it
    explanation: str  # one sentence
    fix: str  # one line of code
    predict: Predict = _nothing
    reshaped: Predict = _nothing  # the same where the two shapes differ
    dominates: tuple[str, ...] = ()  # faults that explain as well where this one is the cause, being special cases
    small: bool = False  # it may be as small as noise, and hide behind another fault
    survives_normalizing: bool = True  # normalising the candidate's rows again does not undo it
    obvious: bool = False  # never as small as noise: a wrong order, a missing mask

    def diagnosis(self, backend: Backend, parameters: dict[str, Any], residual: float, **evidence: Any) -> Diagnosis:
        """Make the diagnosis for this fault, with the parameters that were found."""
        words = _words(parameters)
        explanation, fix = self.explanation.format(**words), backend.spell(self.fix, **words)
        return Diagnosis(self.name, explanation, fix, residual, parameters=parameters, **evidence)


def only(name: str, compute: Callable[[Evidence], list[tuple[str, Prediction]]]) -> Predict:
    """The predictions of one fault, if those of several are computed together."""
    return lambda evidence: [prediction for owner, prediction in evidence.once(compute) if owner == name]


# --- the words for parameters ----------------------------------------------------------------------------------------


def _words(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, and their wording for the texts."""
    words = {"axis": parameters.get("right_axes", -1), **parameters}
    if "factor" in words:
        words["recognized"] = recognize(words["factor"], words.get("factor_error", 0.0), words.get("sizes", {}))
        words["divisor"] = _divisor(words["factor"], words["recognized"])
    if "right" in words:
        words["call"] = _CALLS.get(words["right"], "f(x)")
    if "order" in words:
        words["inverse"] = np.argsort(words["order"]).tolist()
        words["back"] = tuple(words["inverse"])
    if "bias" in words:
        bias = np.asarray(words["bias"])
        words["largest"] = float(np.max(np.abs(bias), initial=0.0))
        numbers = ", ".join(f"{value:.4g}" for value in bias[:10])
        words["shown"] = f"[{numbers}{', ...' if bias.size > 10 else ''}]"
    if "fill" in words:
        fill = round(words["fill"], 3) + 0.0  # of float32 weights no more is known; and 0 rather than -0
        aside = f"{abs(fill):.3g} {'below' if fill < 0 else 'above'} the mean of its row's others"
        words["filled"] = aside if words["relative"] else f"{fill:.3g}"
    if "clipped" in words:
        words["how"] = "clipped at" if words["clipped"] else "plus"
    return words


# How frameworks call the functions that are not called as they are written.
_CALLS = {
    "GELU": "gelu(x)",
    "GELU by tanh": "gelu(x)",
    "ReLU": "relu(x)",
    "SiLU": "silu(x)",
    "tanh": "tanh(x)",
    "ELU": "elu(x)",
    "SELU": "selu(x)",
    "softplus": "softplus(x)",
    "sigmoid": "sigmoid(x)",
    "Mish": "mish(x)",
    "ReLU6": "relu6(x)",
    "squared ReLU": "relu(x) ** 2",
    "no activation": "x",
}


def _divisor(factor: float, recognized: str) -> str:
    """The factor as code, as the root that it is if it is one of no power of two."""
    root = re.search(r"(1/)?sqrt\((\d+)\)", recognized)
    if root is None or "2**" in recognized:
        return f"{factor:.6g}"
    return f"{root[2]}**{'-' if root[1] else ''}0.5"


def recognize(factor: float, error: float = 0.0, sizes: dict[str, int] | None = None) -> str:
    """A factor in words: a power of two, one over a square root, a size; empty if it is none of these."""
    slack = max(5 * error, 1e-6 * abs(factor))
    found = []
    if abs(factor + 1) <= slack:
        found.append("the opposite sign")
    for what, size in (sizes or {}).items():
        if size > 1 and abs(abs(factor) - size) <= slack:
            found.append(f"the {what}")
        elif size > 1 and abs(abs(factor) - 1 / size) <= slack:
            found.append(f"one over the {what}")
    if factor > 0:
        power = round(math.log2(factor))
        if power and abs(factor - 2.0**power) <= slack:
            found.append(f"2**{power}")
        for value, words in ((1 / factor**2, "1/sqrt({})"), (factor**2, "sqrt({})")):
            # The numbers 1/sqrt(d) lie close together for large d: only one of them may be within the error.
            whole, reach = round(value), 2 * slack / factor * value
            if 1 < whole < 20000 and reach < 0.5 and abs(value - whole) <= reach:
                found.append(words.format(whole))
    return f" ({', '.join(found)})" if found else ""
