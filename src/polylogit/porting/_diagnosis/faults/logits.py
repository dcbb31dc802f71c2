"""Faults of the logits: multiplied by a number (a temperature, 1/sqrt(d), a sign), or lacking a constant per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.formulas import log, sigmoid
from polylogit.porting._diagnosis.faults.axes import mean, two_way
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only
from polylogit.porting._diagnosis.faults.scores import also_of_the_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# A factor, or a bias that is missing from hidden activations, leaves so many times less than there was.
MEAN = 10.0
# A division, a hyperbolic tangent and a product round once more what was computed before.
CAPPING = 2.0


def _scaled(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """The fault that best fits the factor of the logits, and its prediction."""
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
    if evidence.is_distribution:
        rest = evidence.where_usable(evidence.log_candidate - (expected if evidence.as_log else log(expected)))
        apart = evidence.where_usable(evidence.log_candidate - evidence.log_reference)
        rest, apart = (one - mean(one, evidence.axes) for one in (rest, apart))
    else:
        rest, apart = evidence.candidate - expected, evidence.candidate - evidence.reference
    if evidence.kind != "sigmoids" and (_by_rows(evidence, rest) or _share(rest, apart) > 1 / MEAN):
        return []
    return [("scaled-logits", Prediction(expected, evidence.candidate, parameters, free=1, gain=gain))]


def _powered(evidence: Evidence, factor: float) -> Array:
    """The reference with its logits multiplied."""
    if evidence.is_distribution:
        return evidence.apply(factor * evidence.log_reference)
    if evidence.kind == "sigmoids":
        return _forgiven(sigmoid(factor * _odds(evidence.reference)), evidence, factor)
    return factor * evidence.reference


def _forgiven(expected: Array, evidence: Evidence, factor: float = 1.0) -> Array:
    """Sigmoids computed from logits of other sigmoids, moved towards the candidate as far as rounding allows.

    A sigmoid near 1 has lost most of its logit, and values computed from that logit are equally uncertain.
    """
    r = evidence.reference
    slope = np.abs(factor) * expected * (1.0 - expected) / (r * (1.0 - r))
    # The sigmoids below a half show how noisy the two are; those are left as they are.
    low = (r > 0) & (r < 0.5) & (expected > 0)
    seen = float(np.median(np.abs(evidence.candidate[low] / expected[low] - 1.0))) if low.any() else 0.0
    noise = max(evidence.precision.eps, min(seen, evidence.precision.noise))
    reach = np.where(low, 0.0, 4.0 * noise * r * np.where(np.isfinite(slope), slope, np.inf))
    return np.asarray(expected + np.clip(np.nan_to_num(evidence.candidate - expected), -reach, reach))


def _odds(p: Array) -> Array:
    """The logits of sigmoids."""
    return np.asarray(np.log(p) - np.log1p(-p))


def _certainty(r: Array, c: Array) -> Array:
    """A weight for each pair of sigmoids: one near 1 reveals little about its logit."""
    return np.asarray(np.minimum(1.0 - r, 1.0 - c) ** 2)


def _scale_factor(evidence: Evidence) -> tuple[float, float]:
    """The factor by weighted least squares, with its standard error; 0 if there is none."""
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


def _by_rows(evidence: Evidence, rest: Array) -> bool:
    """Whether the remainder has a separate factor in each row, beyond rounding.

    Then a single factor, or a constant per channel, is not the cause but only what several causes have in common.
    """
    if evidence.rows < 4 or evidence.classes < 4:
        return False
    r = evidence.reference
    if evidence.is_distribution:
        r = evidence.where_usable(evidence.log_reference)
        rest = evidence.where_usable(rest)
        r, rest = r - mean(r, evidence.axes), rest - mean(rest, evidence.axes)
    good = np.isfinite(rest) & np.isfinite(r)
    r, rest = np.where(good, r, 0.0), np.where(good, rest, 0.0)
    power = np.maximum(np.sum(r * r, axis=evidence.axes), 1e-300)
    factors = np.sum(r * rest, axis=evidence.axes) / power
    explained, total = float(np.sum(factors**2 * power)), float(np.sum(rest**2))
    within = max(total - explained, 0.0) / max(1, good.sum() - evidence.rows)
    beyond = float(np.sqrt(np.mean(factors**2))) > 16 * evidence.precision.eps
    return beyond and explained / evidence.rows > 5.0 * within


def _share(rest: Array, apart: Array) -> float:
    """The share of a difference that remains, over the finite entries."""
    left, whole = (float(np.sum(np.where(np.isfinite(one), one, 0.0) ** 2)) for one in (rest, apart))
    return float(np.sqrt(left / whole)) if whole > 0 else 0.0


def _softcap(evidence: Evidence) -> Iterator[Prediction]:
    """cap * tanh(x / cap) on one side, and x on the other."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind == "logits":
        # Masked entries are as they are on both sides.
        alike = ~(np.isfinite(r) & np.isfinite(c)) | (r == c)
        for x, capped, candidate in ((r, c, True), (c, r, False)):
            cap = _cap(x[~alike], capped[~alike], 4 * evidence.precision.eps)
            if cap is not None:
                expected = np.where(alike, capped, cap * np.tanh(x / cap))
                parameters = {"cap": cap, **_SIDES[candidate]}
                bound = int((alike & np.isfinite(expected)).sum())
                yield Prediction(expected, capped, parameters, free=1, constraints=bound, gain=CAPPING)
    elif evidence.is_distribution:
        for x in _sources(evidence):
            plain = evidence.apply(np.where(np.isneginf(evidence.log_reference), -np.inf, x))
            for uncapped, capped, candidate in ((r, c, True), (c, r, False)):
                if np.median(np.nan_to_num(np.abs(plain - uncapped))) < 1e-5:
                    expected, cap = _capped_weights(evidence, x, capped)
                    both = np.stack([expected, plain]), np.stack([capped, uncapped])
                    bound = 2 * evidence.rows
                    yield Prediction(*both, {"cap": cap, **_SIDES[candidate]}, free=1, constraints=bound, gain=CAPPING)


_SIDES = {True: {"who": "candidate", "other": "reference"}, False: {"who": "reference", "other": "candidate"}}


def _sources(evidence: Evidence) -> list[Array]:
    """The arrays that may be the logits."""
    known = [] if evidence.logits is None else [evidence.logits]
    shape = evidence.reference.shape
    return known + [one.astype(np.float64) for _, one in reversed(evidence.earlier) if one.shape == shape]


def _cap(x: Array, capped: Array, eps: float) -> float | None:
    """The cap that turns one side into the other; None if no cap would have an effect."""
    if x.size < 3 or np.max(np.abs(x)) > 1e4 or np.mean(np.abs(capped)) > (1 - eps) * np.mean(np.abs(x)):
        return None
    largest = np.argsort(-np.abs(x))[:4096] if x.size < 20_000 else np.argpartition(-np.abs(x), 4096)[:4096]
    x, capped = x[largest], capped[largest]
    return _least(lambda cap: float(np.sum((cap * np.tanh(x / cap) - capped) ** 2)), float(np.max(np.abs(x))))


def _capped_weights(evidence: Evidence, x: Array, weights: Array) -> tuple[Array, float]:
    masked = np.isneginf(evidence.log_reference)

    def predicted(cap: float) -> Array:
        return evidence.apply(np.where(masked, -np.inf, cap * np.tanh(x / cap)))

    scale = float(np.max(np.abs(x), initial=1.0, where=np.isfinite(x) & ~masked))
    cap = _least(lambda cap: float(np.nansum((predicted(cap) - weights) ** 2)), scale)
    return predicted(cap), cap


def _least(loss: Callable[[float], float], scale: float) -> float:
    """The minimum of a function of a cap: the best of some caps around a scale, then golden sections."""
    caps = scale * np.geomspace(0.03, 30.0, 24)
    best = int(np.argmin([loss(float(cap)) for cap in caps]))
    low, high = np.log(caps[max(best - 1, 0)]), np.log(caps[min(best + 1, len(caps) - 1)])
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(50):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(float(np.exp(a))) < loss(float(np.exp(b))) else (a, high)
    return float(np.exp((low + high) / 2))


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
        # What differs for many reasons has a mean in each channel, too.
        if _share(c - expected, c - r) > 1 / MEAN or _by_rows(evidence, c - expected):
            return
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
        "x = x / {divisor}",
        also_of_the_product(only("scaled-logits", _scaled)),
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
        "softcap",
        "The {who} caps its logits softly, {cap:.6g} * tanh(x / {cap:.6g}), and the {other} does not.",
        "softcap",
        also_of_the_product(_softcap),
    ),
    Fault(
        "missing-bias",
        "The candidate's logits lack a constant for each class, up to {largest:.4g} in size: {shown}.",
        "x = x + bias  # bias = {shown}",
        _missing_bias,
    ),
)
