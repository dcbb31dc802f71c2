"""Faults of epsilons, in the sum of softmax or inside a logarithm; and logarithms of underflowed probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit._spec.formulas import exp, log
from polylogit.porting._diagnosis.faults.axes import mean
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# Epsilons that people add take less of a row; a term of the size of the others takes more of most.
SINK = 0.012
# Next to sums that are much less than one, an epsilon may take more of a few rows; so may a term of another size.
EITHER = 0.1


def _in_denominator(evidence: Evidence) -> Iterator[Prediction]:
    """exp(x) / (sum + epsilon)."""
    if evidence.kind == "logits":
        return
    lr, lc = evidence.log_reference, evidence.log_candidate
    excess = evidence.where_usable(np.expm1(lr - lc))
    if evidence.kind == "probabilities" and _is_sink(mean(evidence.where_usable(lr - lc), evidence.axes)):
        return
    for weight in _denominators(evidence):
        good = np.isfinite(excess) & np.isfinite(weight)
        x, y = weight[good], excess[good]
        power = float(np.sum(x * x)) if x.size else 0.0
        if power == 0.0:
            continue
        epsilon = float(np.sum(x * y)) / power
        error = float(np.sqrt(np.sum((y - epsilon * x) ** 2) / max(1, x.size - 1) / power))
        effect = epsilon * float(np.sqrt(power / x.size))
        heaviest = np.max(weight, axis=evidence.axes) if evidence.is_distribution else weight
        certain = epsilon > 6 * error and effect > _rounding(evidence)
        if certain and _lost(evidence) > 0.5 * epsilon * float(np.mean(heaviest)):
            expected = evidence.from_log(lr - np.log1p(epsilon * weight))
            yield Prediction(expected, evidence.candidate, {"epsilon": epsilon}, free=1)


def _rounding(evidence: Evidence) -> float:
    """The mean effect up to which it counts as rounding, which may be biased."""
    return max(1e-6, 8 * evidence.precision.eps)


def _denominators(evidence: Evidence) -> list[Array]:
    """The reciprocal of the sum to which epsilon is added: of probabilities, of exp(x - max), of exp(x)."""
    lr = evidence.log_reference
    ones = np.ones_like(lr)
    if evidence.kind == "sigmoids":
        return [ones, exp(lr)]
    top = np.max(np.where(np.isfinite(lr), lr, -np.inf), axis=evidence.axes, keepdims=True)
    found = [ones, exp(top) * ones]
    if evidence.logits is not None:
        found.append(exp(top - np.max(evidence.logits, axis=evidence.axes, keepdims=True)) * ones)
    return found


def _lost(evidence: Evidence) -> float:
    """How much less the candidate's rows sum to than the reference's; infinite if nothing sums to one."""
    if not evidence.is_distribution:
        return float(np.inf)
    there = np.where(evidence.usable, exp(evidence.log_reference), 0.0).sum(axis=evidence.axes)
    here = np.where(evidence.usable, exp(evidence.log_candidate), 0.0).sum(axis=evidence.axes)
    full = there > 0.5
    return float(np.mean(1.0 - here[full] / there[full])) if full.any() else 0.0


def _in_unknown_sum(evidence: Evidence) -> Iterator[Prediction]:
    """Epsilon added to an unknown sum of exp(x): each row is smaller by its own factor, near 1."""
    if not evidence.is_distribution or evidence.rows < 2 or evidence.classes < 3 or not evidence.usable.any():
        return
    lr = evidence.log_reference
    difference = evidence.where_usable(lr - evidence.log_candidate)
    deficit = mean(difference, evidence.axes)
    # Noise is what varies within the rows; a deficit is a mean over a row.
    noise = float(np.sqrt(np.nanmean((difference - deficit) ** 2) / evidence.classes))
    typical, average = float(np.sqrt(np.mean(deficit**2))), float(np.mean(deficit))
    certain = average > 10 * noise / np.sqrt(evidence.rows) and typical > 3 * noise
    lacking = average > _rounding(evidence) and np.min(deficit) > -5 * noise
    # A term taken from logarithms is hard to tell from logits, and is always called an epsilon.
    most = 0.5 if evidence.as_log else EITHER
    if _is_sink(deficit) and not evidence.as_log:
        return
    if certain and lacking and np.max(deficit) < most and _lost(evidence) > 0.5 * average:
        parameters = {"epsilon": float(np.expm1(np.max(deficit)))}
        expected = evidence.from_log(lr - deficit)
        yield Prediction(expected, evidence.candidate, parameters, free=evidence.rows, constraints=0)


def _is_sink(deficit: Array) -> bool:
    """Whether most rows lack more, in their logarithms, than epsilons can explain, or some lack far more."""
    return float(np.median(deficit)) > SINK or float(np.max(deficit)) >= EITHER


def _sink(evidence: Evidence) -> Iterator[Prediction]:
    """One more term in the denominator: each row is smaller by its own factor."""
    if evidence.kind != "probabilities" or evidence.rows < 2 or evidence.classes < 3 or not evidence.usable.any():
        return
    lr = evidence.log_reference
    deficit = mean(evidence.where_usable(lr - evidence.log_candidate), evidence.axes)
    # One factor for all is another fault, and so is another axis.
    if np.min(deficit) < -0.1 * SINK or not _is_sink(deficit) or np.ptp(deficit) < SINK or evidence.candidate_axes():
        return
    taken = -np.expm1(-deficit)
    expected = evidence.from_log(lr - deficit)
    # One class alone says nothing: its factor may be anything.
    lone = np.sum(evidence.usable, axis=evidence.axes) < 2
    yield Prediction(
        expected,
        evidence.candidate,
        {"least": max(0.0, float(taken.min())), "most": float(taken.max())},
        free=evidence.rows,
        constraints=int((~evidence.usable).sum() + lone.sum()),
    )


def _missing_sink(evidence: Evidence) -> Iterator[Prediction]:
    """The reverse: the reference's rows sum to less than one, and the candidate's do not."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind != "sigmoids" or r.ndim < 2:
        return
    for axes in evidence.candidate_axes():
        sums = np.sum(r, axis=axes, keepdims=True)
        full = sums > 0
        classes = int(np.prod([r.shape[axis] for axis in axes]))
        if classes < 3 or not full.any() or np.any(sums > 1 + _rounding(evidence)):
            continue
        deficit = -np.log(sums[full])
        if np.ptp(deficit) < SINK or not _is_sink(deficit):
            continue
        bound = int(sums.size + (r == 0).sum())
        yield Prediction(r / np.where(full, sums, 1.0), c, {}, constraints=bound)


def _in_either_sum(evidence: Evidence) -> Iterator[Prediction]:
    yield from _in_denominator(evidence)
    if not evidence.remainder:
        yield from _in_unknown_sum(evidence)


def _in_log(evidence: Evidence) -> Iterator[Prediction]:
    """log(p + epsilon), or the logarithm of p clipped at epsilon."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind not in ("log-probabilities", "logits") or np.max(r, initial=-np.inf, where=np.isfinite(r)) > 1e-3:
        return
    p = exp(r)
    good = np.isfinite(c) & (c < 1e-3)
    found = np.where(good & (c - r > 1e-3 * (1 + np.abs(c))), exp(c) - p, np.nan)
    if not np.isfinite(found).any():
        return
    # What is added shows in the median; a clip leaves one value wherever the reference is below it.
    added = float(np.nanmedian(found))
    if 0 < added < 0.1:
        added = _refined(p, c, good, added)
        yield Prediction(log(p + added), c, {"epsilon": added, "clipped": False}, free=1)
    below = c[good & (r < np.min(c[good]) - 1e-2)]
    clipped = float(np.exp(below.mean())) if below.size else 0.0
    if 0 < clipped < 0.1:
        yield Prediction(log(np.maximum(p, clipped)), c, {"epsilon": clipped, "clipped": True}, free=1)


def _refined(p: Array, c: Array, good: Any, epsilon: float) -> float:
    """Gauss-Newton on the logarithm of epsilon."""
    for _ in range(20):
        total = p[good] + epsilon
        slope = epsilon / total
        step = float(np.sum(slope * (c[good] - np.log(total))) / max(float(np.sum(slope**2)), 1e-300))
        epsilon *= float(np.exp(np.clip(step, -2.0, 2.0)))
    return epsilon


def _underflow(evidence: Evidence) -> Iterator[Prediction]:
    """log(softmax(x)): -inf where the probability underflowed, right elsewhere."""
    r, c = evidence.reference, evidence.candidate
    gone = np.isneginf(c) & np.isfinite(r)
    if not evidence.as_log or not gone.any():
        return
    highest = float(np.max(r[gone]))
    for dtype, threshold, width, gain in _underflows(evidence.precision.noise):
        # Subnormal probabilities just above the threshold are inexact, so their logarithms are too.
        inexact = np.isfinite(c) & (r < threshold + width)
        lost = gone & (r < threshold + 1.5)
        if highest < threshold + 1.5 and bool(np.all(lost | ~(r < threshold - 1.5) | np.isneginf(r))):
            expected = np.where(gone, -np.inf, np.where(inexact, c, r))
            yield Prediction(expected, c, {"dtype": dtype, "threshold": highest}, constraints=0, gain=gain)


def _underflows(noise: float) -> Iterator[tuple[str, float, float, float]]:
    """For each dtype its name, the logarithm of its smallest number, the width of the inexact range, and the gain."""
    for name in ("float32", "float64", "float16", "bfloat16"):  # the likeliest first
        dtype = DTYPES[name]
        lowest, normal = float(np.log(dtype.smallest_subnormal)), float(np.log(dtype.smallest_normal))
        # The logarithm of a probability of that dtype is off by up to its eps.
        yield name, lowest, normal - lowest + 1.0, max(1.0, dtype.eps / noise)
        if dtype.flushed > 1:
            yield f"{name} without subnormals", normal, 1.5, 1.0


FAULTS = (
    Fault(
        "epsilon-in-denominator",
        "The candidate adds {epsilon:.3g} to the sum that it divides by, so that its rows sum to less than one.",
        "softmax",
        _in_either_sum,
        dominates=("missing-softmax", "sigmoid-for-softmax"),
        small=True,
        survives_normalizing=False,
    ),
    Fault(
        "extra-sink",
        "The candidate's denominator has one more term (a sink, exp(0) or a learnt one), which takes {least:.2g} to "
        "{most:.2g} of each row.",
        "softmax",
        _sink,
        dominates=("missing-softmax", "sigmoid-for-softmax", "epsilon-in-denominator"),
        survives_normalizing=False,
        obvious=True,
    ),
    Fault(
        "missing-sink",
        "The reference's denominator has one more term (a sink, exp(0) or a learnt one), which the candidate lacks.",
        "sink",
        _missing_sink,
        dominates=("missing-sigmoid",),
        obvious=True,
    ),
    Fault(
        "epsilon-in-log",
        "The candidate's logarithm is of the probability {how} {epsilon:.3g}, which bends small ones upwards.",
        "log_softmax",
        _in_log,
    ),
    Fault(
        "underflow-to-log-zero",
        "The candidate takes the logarithm of a softmax that underflows in {dtype}: -inf below {threshold:.4g}.",
        "log_softmax",
        _underflow,
        dominates=("hard-argmax",),
    ),
)
