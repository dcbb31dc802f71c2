"""Other logits: multiplied by a number (a temperature, 1/sqrt(d), a sign), or lacking a constant for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.formulas import sigmoid
from polylogit.porting._diagnosis.agreement import NOISE_LIMIT
from polylogit.porting._diagnosis.faults.axes import mean, two_way
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]


def _scaled(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The one fault that fits the factor of the logits best, and its prediction."""
    factor, error = _scale_factor(evidence)
    if not 1e-4 < abs(factor) < 1e4:
        return []
    slack = 5 * error + 4 * evidence.precision.eps
    if abs(factor + 1.0) <= slack:
        return [("negated-logits", Prediction(_powered(evidence, -1.0), evidence.candidate, {"factor": -1.0}))]
    ln2 = float(np.log(2.0))
    if evidence.kind != "logits" and abs(factor - ln2) <= slack:
        return [("base-2-exponential", Prediction(_powered(evidence, ln2), evidence.candidate, {"factor": ln2}))]
    if factor < 0:
        return []  # two faults, a sign and a factor
    parameters, gain = {"factor": factor, "factor_error": error}, max(1.0, factor**0.5)
    expected = _powered(evidence, factor)
    return [("scaled-logits", Prediction(expected, evidence.candidate, parameters, free=1, gain=gain))]


def _powered(evidence: Evidence, factor: float) -> Array:
    """The reference with its logits multiplied."""
    if evidence.is_distribution:
        return evidence.apply(factor * evidence.log_reference)
    if evidence.kind == "sigmoids":
        return _forgiven(sigmoid(factor * _odds(evidence.reference)), evidence, factor)
    return factor * evidence.reference


def _forgiven(expected: Array, evidence: Evidence, factor: float = 1.0) -> Array:
    """Sigmoids computed from the logits of other sigmoids, moved to the candidate as far as rounding reaches.

    A sigmoid near 1 has lost most of its logit, and what is computed from that logit is as uncertain.
    """
    r = evidence.reference
    slope = np.abs(factor) * expected * (1.0 - expected) / (r * (1.0 - r))
    # The sigmoids below a half show how noisy the two are; those are left as they are.
    low = (r > 0) & (r < 0.5) & (expected > 0)
    seen = float(np.median(np.abs(evidence.candidate[low] / expected[low] - 1.0))) if low.any() else 0.0
    noise = max(evidence.precision.eps, min(seen, NOISE_LIMIT))
    reach = np.where(low, 0.0, 4.0 * noise * r * np.where(np.isfinite(slope), slope, np.inf))
    return np.asarray(expected + np.clip(np.nan_to_num(evidence.candidate - expected), -reach, reach))


def _odds(p: Array) -> Array:
    """The logits of sigmoids."""
    return np.asarray(np.log(p) - np.log1p(-p))


def _certainty(r: Array, c: Array) -> Array:
    """A weight for each pair of sigmoids: one near 1 says little about its logit."""
    return np.asarray(np.minimum(1.0 - r, 1.0 - c) ** 2)


def _scale_factor(evidence: Evidence) -> tuple[float, float]:
    """The factor by weighted least squares, and its standard error; 0 where there is none."""
    x, y = evidence.reference, evidence.candidate
    weight = np.ones_like(x)
    if evidence.is_distribution:
        lr, lc = evidence.where_usable(evidence.log_reference), evidence.where_usable(evidence.log_candidate)
        x, y = lr - mean(lr, evidence.axes), lc - mean(lc, evidence.axes)
    elif evidence.kind == "sigmoids":
        x, y, weight = _odds(x), _odds(y), _certainty(x, y)
    good = np.isfinite(x) & np.isfinite(y) & (weight > 0)
    x, y, weight = x[good], y[good], weight[good]
    power = float(np.sum(weight * x * x)) if x.size else 0.0
    if power == 0.0:
        return 0.0, 0.0
    factor = float(np.sum(weight * x * y)) / power
    spread = float(np.sum(weight * (y - factor * x) ** 2)) / max(1, x.size - 1)
    return factor, float(np.sqrt(spread / power))


def _missing_bias(evidence: Evidence) -> Iterator[Prediction]:
    if len(evidence.axes) != 1 or evidence.rows < 3 or not evidence.classes:
        return
    others = tuple(axis for axis in range(evidence.reference.ndim) if axis != evidence.axes[0])
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution:
        if evidence.classes < 2 or evidence.axes not in evidence.candidate_axes():
            return
        difference = evidence.where_usable(evidence.log_reference - evidence.log_candidate)
        bias = two_way(difference, others, evidence.axes)[0]
        bias = bias - bias.mean()
        expected, free = evidence.apply(evidence.log_reference - bias), evidence.classes - 1
    elif evidence.kind == "sigmoids":
        bias = _sigmoid_bias(r, c, others)
        expected, free = _forgiven(sigmoid(_odds(r) - bias), evidence), bias.size
    else:
        bias = mean(r - c, others)
        expected, free = r - bias, bias.size
    if np.any(bias != 0):
        yield Prediction(expected, c, {"bias": bias.reshape(-1)}, free=free)


def _sigmoid_bias(r: Array, c: Array, rows: tuple[int, ...]) -> Array:
    difference, weight = _odds(r) - _odds(c), _certainty(r, c)
    good = np.isfinite(difference) & (weight > 0)
    weight = np.where(good, weight, 0.0)
    summed = np.sum(weight * np.where(good, difference, 0.0), axis=rows, keepdims=True)
    return np.asarray(summed / np.maximum(np.sum(weight, axis=rows, keepdims=True), 1e-300))


FAULTS = (
    Fault(
        "scaled-logits",
        "The candidate's logits are {factor:.6g} times the reference's{recognized}.",
        "x = x / {factor:.6g}",
        only("scaled-logits", _scaled),
    ),
    Fault(
        "base-2-exponential",
        "The candidate uses 2**x for exp(x): its logits are ln 2 = 0.693 times what they should be.",
        "exp2",
        only("base-2-exponential", _scaled),
    ),
    Fault(
        "negated-logits", "The candidate's logits have the opposite sign.", "x = -x", only("negated-logits", _scaled)
    ),
    Fault(
        "missing-bias",
        "The candidate's logits lack a constant for each class, up to {largest:.4g} in size: {shown}.",
        "x = x + bias  # bias = {shown}",
        _missing_bias,
    ),
)
