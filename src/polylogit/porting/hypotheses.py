"""Faults in the arithmetic: what each would have made of the reference, fitted where it has a parameter.

Every function takes the evidence and yields the attempts that its fault allows, none where the fault is out of the
question. None of them judges: whether an attempt explains the difference is decided in `diagnose`, by the same rule
for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.porting.attempts import Attempt
from polylogit.porting.diagnosis.agreement import NOISE_LIMIT
from polylogit.spec.formulas import exp, log, log_softmax, sigmoid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit.porting.evidence import Evidence
    from polylogit.spec.formulas import Array, Axes

__all__ = ["ARITHMETIC"]


# --- over which axes -------------------------------------------------------------------------------------------------


def axes_name(right: Axes, wrong: Axes, shape: tuple[int, ...]) -> str:
    """What normalising over `wrong` instead of `right` is called."""
    real = [axis for axis in range(len(shape)) if shape[axis] > 1]
    if len(wrong) == 1:
        return "wrong-axis"
    return "all-axes" if list(wrong) == real and set(right) != set(wrong) else "flattened-axes"


def other_axes(evidence: Evidence) -> Iterator[Attempt]:
    """The candidate is normalised over other axes than the reference."""
    if not evidence.is_distribution:
        return
    shape = evidence.reference.shape
    for axes in evidence.candidate_axes():
        if axes == evidence.axes:
            continue
        name = axes_name(evidence.axes, axes, shape)
        parameters = {"axes": _spell(axes), "right_axes": _spell(evidence.axes)}
        sums = evidence.reference.size // int(np.prod([shape[axis] for axis in axes]))
        if evidence.logits is not None:
            expected = evidence.from_log(log_softmax(evidence.logits, axes))
            yield Attempt(name, expected, evidence.candidate, parameters, constraints=sums)
        # Without the logits: each row of the reference lacks a constant, which the candidate tells.
        expected_log, free = renormalized(evidence.log_reference, evidence.log_candidate, evidence, axes)
        expected = evidence.from_log(expected_log)
        yield Attempt(name, expected, evidence.candidate, parameters, free=free, constraints=sums)
    if not evidence.candidate_axes() and evidence.rows == evidence.reference.size // max(1, evidence.classes):
        yield from _single_row(evidence)


def _single_row(evidence: Evidence) -> Iterator[Attempt]:
    """Over an axis of size one everything is 1: a batch of one that was normalised over the batch."""
    singles = [axis for axis, size in enumerate(evidence.reference.shape) if size == 1]
    if singles and evidence.classes > 1:
        ones = evidence.from_log(np.zeros_like(evidence.reference))
        parameters = {"axes": _spell((singles[0],)), "right_axes": _spell(evidence.axes)}
        yield Attempt("wrong-axis", ones, evidence.candidate, parameters)


def renormalized(log_reference: Array, log_candidate: Array, evidence: Evidence, axes: Axes) -> tuple[Array, int]:
    """The reference's logarithms with a constant for each of its rows, normalised over `axes`; and how many constants.

    The constants are the row effects of a two-way layout, found by alternating means.
    """
    with np.errstate(all="ignore"):
        difference = np.where(evidence.usable, log_candidate - log_reference, np.nan)
    row = np.zeros_like(_mean(difference, evidence.axes))
    column = np.zeros_like(_mean(difference, axes))
    for _ in range(30):
        row = _mean(difference - column, evidence.axes)
        column = _mean(difference - row, axes)
    free = row.size - column.size if set(evidence.axes) <= set(axes) else row.size - 1
    return log_softmax(log_reference + row, axes), max(0, free)


def _mean(values: Array, axes: Axes) -> Array:
    """The mean over axes, without the entries that are NaN; 0 where all are."""
    there = np.isfinite(values)
    count = there.sum(axis=axes, keepdims=True)
    return np.asarray(np.where(there, values, 0.0).sum(axis=axes, keepdims=True) / np.maximum(count, 1))


def _spell(axes: Axes) -> int | tuple[int, ...]:
    return axes[0] if len(axes) == 1 else axes


# --- one function too many, too few, or another ----------------------------------------------------------------------


def repeated(evidence: Evidence) -> Iterator[Attempt]:
    """Softmax of softmax, sigmoid of sigmoid."""
    if evidence.kind == "probabilities":
        yield Attempt("double-softmax", exp(log_softmax(evidence.reference, evidence.axes)), evidence.candidate)
    elif evidence.kind == "log-probabilities":
        twice = log_softmax(exp(evidence.reference), evidence.axes)
        yield Attempt("double-softmax", twice, evidence.candidate)
    elif evidence.kind == "unit":
        yield Attempt("double-sigmoid", sigmoid(evidence.reference), evidence.candidate)


def logarithms(evidence: Evidence) -> Iterator[Attempt]:
    """The candidate is the reference's logarithm, or its exponential."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind in ("probabilities", "unit"):
        # Where the reference has underflowed, its logarithm may be anything as small or smaller.
        lost = (r <= evidence.precision.floor) & (c <= log(np.asarray(2 * evidence.precision.floor)))
        yield Attempt("log-of-reference", log(np.where(lost, 1.0, r)), np.where(lost, 0.0, c), measure="log")
    name = "missing-log" if evidence.kind == "log-probabilities" else "exp-of-reference"
    with np.errstate(all="ignore"):
        gain = 1.0 + float(np.max(np.abs(r[np.isfinite(r)]), initial=0.0)) / 10.0
    yield Attempt(name, exp(r), c, measure="relative", gain=min(gain, 3.0))
    if evidence.kind == "logits" and np.min(r, initial=np.inf, where=np.isfinite(r)) >= 0:
        # A loss: minus the logarithm of a probability here, minus the probability there.
        yield Attempt("missing-log", -exp(-r), c, measure="relative")


def missing(evidence: Evidence) -> Iterator[Attempt]:
    """The candidate holds logits: the last function was left out."""
    r, c = evidence.reference, evidence.candidate
    gain = 1.0 + float(np.max(np.abs(c[np.isfinite(c)]), initial=0.0)) / 2.0
    gain = min(gain, 20.0)
    if evidence.is_distribution:
        normalized = evidence.candidate_axes() or _log_normalized(c, evidence)
        if not normalized:
            observed = evidence.from_log(log_softmax(c, evidence.axes))
            yield Attempt("missing-softmax", r, observed, gain=gain)
    elif evidence.kind == "unit":
        yield Attempt("missing-sigmoid", r, sigmoid(c), gain=gain)


def _log_normalized(c: Array, evidence: Evidence) -> bool:
    """Whether the candidate is log-probabilities: those are normalised and lack nothing."""
    with np.errstate(all="ignore"):
        sums = np.sum(exp(c), axis=evidence.axes)
    return bool(sums.size and np.all(np.abs(sums[np.isfinite(sums)] - 1) < 5e-3))


def sigmoids_for_softmax(evidence: Evidence) -> Iterator[Attempt]:
    """Each logit went through a sigmoid by itself."""
    if not evidence.is_distribution or evidence.classes < 2:
        return
    as_log = evidence.kind == "log-probabilities"
    if evidence.logits is not None:
        p = sigmoid(evidence.logits)
        yield Attempt("sigmoid-for-softmax", log(p) if as_log else p, evidence.candidate, constraints=0)
    if _log_normalized(evidence.log_candidate, evidence):
        return
    shift = _row_shift(evidence)
    lr = evidence.log_reference
    with np.errstate(all="ignore"):
        expected = -np.logaddexp(0.0, -(lr + shift))
    expected = evidence.from_log(expected)
    yield Attempt("sigmoid-for-softmax", expected, evidence.candidate, free=evidence.rows, constraints=0)


def _row_shift(evidence: Evidence) -> Array:
    """For each row the constant u with which log sigmoid(log r + u) is nearest to the candidate's logarithm."""
    lr, lc = evidence.log_reference, evidence.log_candidate
    with np.errstate(all="ignore"):
        odds = lc - np.log(-np.expm1(np.minimum(lc, -1e-12)))
        shift = _mean(np.where(evidence.usable & (lc < -1e-3), odds - lr, np.nan), evidence.axes)
        for _ in range(30):
            fitted = -np.logaddexp(0.0, -(lr + shift))
            slope = -np.expm1(fitted)
            error = np.where(evidence.usable, lc - fitted, 0.0)
            slope = np.where(evidence.usable, slope, 0.0)
            step = np.sum(error * slope, axis=evidence.axes, keepdims=True)
            step = step / np.maximum(np.sum(slope**2, axis=evidence.axes, keepdims=True), 1e-300)
            shift = shift + np.clip(step, -4.0, 4.0)
    return np.asarray(shift)


def all_ones(evidence: Evidence) -> Iterator[Attempt]:
    """Softmax over an axis of one class: 1 everywhere, or 0 as a logarithm."""
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution and 1 in r.shape:
        return  # that is a batch of one, normalised over the batch
    yield Attempt("one-class-softmax", np.ones_like(c), c, measure="relative")
    if evidence.kind == "log-probabilities" or r.max(initial=-1.0) <= 0:
        yield Attempt("one-class-softmax", np.zeros_like(c), c, measure="log")


def two_class_sigmoid(evidence: Evidence) -> Iterator[Attempt]:
    """Two classes through one sigmoid of one logit, where softmax needs the difference of two."""
    if evidence.kind != "probabilities" or evidence.classes != 2 or evidence.logits is None:
        return
    axis = evidence.axes[0]
    for index in (0, 1):
        one = sigmoid(np.take(evidence.logits, [index], axis=axis))
        pair = [1.0 - one, one] if index else [one, 1.0 - one]
        expected, reach = np.concatenate(pair, axis=axis), 2.0 * evidence.precision.eps
        # One minus a sigmoid near 1 is as uncertain as the sigmoid.
        expected = expected + np.clip(evidence.candidate - expected, -reach, reach)
        yield Attempt("binary-sigmoid", expected, evidence.candidate, {"column": index})


def hard(evidence: Evidence) -> Iterator[Attempt]:
    """The largest entry of a row is 1 and the rest 0."""
    if not evidence.is_distribution or evidence.classes < 2:
        return
    r, c = evidence.reference, evidence.candidate
    top = np.max(r, axis=evidence.axes, keepdims=True)
    # Of entries that are equally large, the candidate may have taken any.
    tied = np.isclose(r, top, rtol=1e-3 if evidence.kind == "probabilities" else 0.0, atol=1e-300)
    chosen = tied & (c == np.max(c, axis=evidence.axes, keepdims=True))
    expected = np.where(chosen, 1.0, 0.0)
    yield Attempt("hard-argmax", evidence.from_log(log(expected)), c)


# --- other logits ----------------------------------------------------------------------------------------------------


def scaled(evidence: Evidence) -> Iterator[Attempt]:
    """The logits were multiplied by a number: a temperature, 1/sqrt(d), -1, the base of the exponential."""
    factor, error = _scale_factor(evidence)
    if factor is None or not 1e-4 < abs(factor) < 1e4:
        return
    expected = _powered(evidence, factor)
    name = _scale_name(factor, error, evidence)
    gain = max(1.0, abs(factor) ** 0.5)
    if name == "scaled-logits" and factor < 0:
        return  # two faults, a sign and a factor
    exact = {"negated-logits": -1.0, "base-2-exponential": float(np.log(2.0))}.get(name)
    if exact is not None:
        yield Attempt(name, _powered(evidence, exact), evidence.candidate, {"factor": exact})
    else:
        parameters = {"factor": factor, "factor_error": error}
        yield Attempt(name, expected, evidence.candidate, parameters, free=1, gain=gain)


def _powered(evidence: Evidence, factor: float) -> Array:
    """The reference with its logits multiplied."""
    if evidence.is_distribution:
        return evidence.from_log(log_softmax(factor * evidence.log_reference, evidence.axes))
    if evidence.kind == "unit":
        return _forgiven(sigmoid(factor * _odds(evidence.reference)), evidence, factor)
    return factor * evidence.reference


def _forgiven(expected: Array, evidence: Evidence, factor: float = 1.0) -> Array:
    """Sigmoids computed from the logits of other sigmoids, moved to the candidate as far as rounding reaches.

    A sigmoid near 1 has lost most of its logit, and what is computed from that logit is as uncertain.
    """
    r = evidence.reference
    slope = np.abs(factor) * expected * (1.0 - expected) / (r * (1.0 - r))
    # How noisy the two are, the sigmoids below a half tell; those are left as they are.
    low = (r > 0) & (r < 0.5) & (expected > 0)
    seen = float(np.median(np.abs(evidence.candidate[low] / expected[low] - 1.0))) if low.any() else 0.0
    noise = max(evidence.precision.eps, min(seen, NOISE_LIMIT))
    reach = 4.0 * noise * r * np.where(np.isfinite(slope), slope, np.inf)
    reach = np.where(low, 0.0, reach)
    return np.asarray(expected + np.clip(np.nan_to_num(evidence.candidate - expected), -reach, reach))


def _odds(p: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.log(p) - np.log1p(-p)


def _scale_factor(evidence: Evidence) -> tuple[float | None, float]:
    """The factor by least squares, and its standard error."""
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution:
        lr = np.where(evidence.usable, evidence.log_reference, np.nan)
        lc = np.where(evidence.usable, evidence.log_candidate, np.nan)
        x, y = lr - _mean(lr, evidence.axes), lc - _mean(lc, evidence.axes)
        weight = np.ones_like(x)
    elif evidence.kind == "unit":
        x, y = _odds(r), _odds(c)
        weight = np.minimum(1.0 - r, 1.0 - c) ** 2  # a sigmoid near 1 says little about its logit
    else:
        x, y, weight = r, c, np.ones_like(r)
    good = np.isfinite(x) & np.isfinite(y) & (weight > 0)
    x, y, weight = x[good], y[good], weight[good]
    power = float(np.sum(weight * x * x)) if x.size else 0.0
    if power == 0.0:
        return None, 0.0
    factor = float(np.sum(weight * x * y)) / power
    spread = float(np.sum(weight * (y - factor * x) ** 2)) / max(1, x.size - 1)
    return factor, float(np.sqrt(spread / power))


def _scale_name(factor: float, error: float, evidence: Evidence) -> str:
    slack = 5 * error + 4 * evidence.precision.eps
    if abs(factor + 1.0) <= slack:
        return "negated-logits"
    if evidence.kind != "logits" and abs(factor - np.log(2.0)) <= slack:
        return "base-2-exponential"
    return "scaled-logits"


def shifted(evidence: Evidence) -> Iterator[Attempt]:
    """A constant for each class is missing from the logits."""
    axis = evidence.axes[-1] if len(evidence.axes) == 1 else None
    if axis is None or evidence.rows < 3 or evidence.reference.shape[axis] < 1:
        return
    others = tuple(other for other in range(evidence.reference.ndim) if other != axis)
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution:
        if evidence.classes < 2 or evidence.axes not in evidence.candidate_axes():
            return
        difference = np.where(evidence.usable, evidence.log_reference - evidence.log_candidate, np.nan)
        bias = _two_way(difference, others, evidence.axes)
        expected = evidence.from_log(log_softmax(evidence.log_reference - bias, evidence.axes))
        free = evidence.classes - 1
    elif evidence.kind == "unit":
        bias = _sigmoid_bias(r, c, others)
        expected, free = _forgiven(sigmoid(_odds(r) - bias), evidence), bias.size
    else:
        bias = _mean(r - c, others)
        expected, free = r - bias, bias.size
    if np.any(bias != 0):
        yield Attempt("missing-bias", expected, c, {"bias": bias.reshape(-1)}, free=free)


def _two_way(difference: Array, rows: Axes, columns: Axes) -> Array:
    """The column effects of a two-way layout, centred."""
    row = np.zeros_like(_mean(difference, columns))
    effect = np.zeros_like(_mean(difference, rows))
    for _ in range(30):
        effect = _mean(difference - row, rows)
        row = _mean(difference - effect, columns)
    return np.asarray(effect - effect.mean())


def _sigmoid_bias(r: Array, c: Array, rows: Axes) -> Array:
    with np.errstate(all="ignore"):
        difference = _odds(r) - _odds(c)
        weight = np.minimum(1.0 - r, 1.0 - c) ** 2
    good = np.isfinite(difference) & (weight > 0)
    total = np.sum(np.where(good, weight, 0.0), axis=rows, keepdims=True)
    summed = np.sum(np.where(good, weight * np.where(good, difference, 0.0), 0.0), axis=rows, keepdims=True)
    return np.asarray(summed / np.maximum(total, 1e-300))


# --- epsilons --------------------------------------------------------------------------------------------------------


def epsilon_in_denominator(evidence: Evidence) -> Iterator[Attempt]:
    """exp(x) / (sum + epsilon)."""
    if evidence.kind == "logits":
        return
    lr, lc = evidence.log_reference, evidence.log_candidate
    with np.errstate(all="ignore"):
        excess = np.where(evidence.usable, np.expm1(lr - lc), np.nan)
        weights = [np.ones_like(lr), exp(lr)] if evidence.kind == "unit" else _denominators(evidence)
    for weight in weights:
        good = np.isfinite(excess) & np.isfinite(weight)
        x, y = weight[good], excess[good]
        power = float(np.sum(x * x)) if x.size else 0.0
        if power == 0.0:
            continue
        epsilon = float(np.sum(x * y)) / power
        error = float(np.sqrt(np.sum((y - epsilon * x) ** 2) / max(1, x.size - 1) / power))
        effect = epsilon * float(np.sqrt(power / x.size))
        # Below this it is rounding, which may well lean to one side.
        certain = epsilon > 6 * error and effect > max(1e-6, 8 * evidence.precision.eps)
        if certain and _lost(evidence) > 0.5 * epsilon * float(np.mean(_heaviest(weight, evidence))):
            expected = evidence.from_log(lr - np.log1p(epsilon * weight))
            parameters = {"epsilon": epsilon}
            yield Attempt("epsilon-in-denominator", expected, evidence.candidate, parameters, free=1)


def _lost(evidence: Evidence) -> float:
    """By how much the candidate's rows sum to less than the reference's; infinite where nothing sums to one."""
    if not evidence.is_distribution:
        return float(np.inf)
    there = np.where(evidence.usable, exp(evidence.log_reference), 0.0).sum(axis=evidence.axes)
    here = np.where(evidence.usable, exp(evidence.log_candidate), 0.0).sum(axis=evidence.axes)
    full = there > 0.5
    return float(np.mean(1.0 - here[full] / there[full])) if full.any() else 0.0


def _heaviest(weight: Array, evidence: Evidence) -> Array:
    return np.asarray(np.max(weight, axis=evidence.axes)) if evidence.is_distribution else weight


def epsilon_in_unshifted_sum(evidence: Evidence) -> Iterator[Attempt]:
    """Epsilon next to a sum of exp(x) that is not known: every row is smaller by a factor of its own, near 1."""
    if not evidence.is_distribution or evidence.rows < 2 or evidence.classes < 3:
        return
    lr, lc = evidence.log_reference, evidence.log_candidate
    difference = np.where(evidence.usable, lr - lc, np.nan)
    deficit = _mean(difference, evidence.axes)
    # Noise is what varies within the rows; a deficit is a mean over a row.
    if not evidence.usable.any():
        return
    noise = float(np.sqrt(np.nanmean((difference - deficit) ** 2) / evidence.classes))
    typical = float(np.sqrt(np.mean(deficit**2)))
    certain = float(np.mean(deficit)) > 10 * noise / np.sqrt(evidence.rows) and typical > 3 * noise
    lacking = float(np.mean(deficit)) > max(1e-6, 8 * evidence.precision.eps) and np.min(deficit) > -5 * noise
    if certain and lacking and np.max(deficit) < 0.5 and _lost(evidence) > 0.5 * float(np.mean(deficit)):
        parameters = {"epsilon": float(np.expm1(np.max(deficit)))}
        expected, free = evidence.from_log(lr - deficit), evidence.rows
        yield Attempt("epsilon-in-denominator", expected, evidence.candidate, parameters, free=free, constraints=0)


def _denominators(evidence: Evidence) -> list[Array]:
    """One over the sum to which epsilon is added: of probabilities, of exp(x - max), of exp(x)."""
    lr = evidence.log_reference
    with np.errstate(all="ignore"):
        top = np.max(np.where(np.isfinite(lr), lr, -np.inf), axis=evidence.axes, keepdims=True)
        found = [np.ones_like(lr), exp(top) * np.ones_like(lr)]
        if evidence.logits is not None:
            biggest = np.max(evidence.logits, axis=evidence.axes, keepdims=True)
            found.append(exp(top - biggest) * np.ones_like(lr))
    return found


def epsilon_in_log(evidence: Evidence) -> Iterator[Attempt]:
    """log(p + epsilon), or the logarithm of p clipped at epsilon."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind not in ("log-probabilities", "logits") or np.max(r, initial=-np.inf, where=np.isfinite(r)) > 1e-3:
        return
    p = exp(r)
    good = np.isfinite(c) & (c < 1e-3)
    with np.errstate(all="ignore"):
        found = np.where(good & (c - r > 1e-3 * (1 + np.abs(c))), exp(c) - p, np.nan)
    if not np.isfinite(found).any():
        return
    # What is added shows in the median; a clip leaves one value wherever the reference is below it.
    below = c[good & (r < np.min(c[good]) - 1e-2)]
    clipped_to = float(np.exp(below.mean())) if below.size else 0.0
    for epsilon, clipped in ((float(np.nanmedian(found)), False), (clipped_to, True)):
        if not 0 < epsilon < 0.1:
            continue
        if not clipped:
            epsilon = _refined(p, c, good, epsilon)
        expected = log(np.maximum(p, epsilon) if clipped else p + epsilon)
        yield Attempt("epsilon-in-log", expected, c, {"epsilon": epsilon, "clipped": clipped}, free=1)


def _refined(p: Array, c: Array, good: Any, epsilon: float) -> float:
    """Gauss-Newton on the logarithm of epsilon."""
    for _ in range(20):
        total = p[good] + epsilon
        slope = epsilon / total
        step = float(np.sum(slope * (c[good] - np.log(total))) / max(float(np.sum(slope**2)), 1e-300))
        epsilon *= float(np.exp(np.clip(step, -2.0, 2.0)))
    return epsilon


def underflow(evidence: Evidence) -> Iterator[Attempt]:
    """log(softmax(x)): -inf where the probability underflowed, right elsewhere."""
    r, c = evidence.reference, evidence.candidate
    gone = np.isneginf(c) & np.isfinite(r)
    if evidence.kind != "log-probabilities" or not gone.any():
        return
    highest = float(np.max(r[gone]))
    for dtype, threshold, width, gain in _UNDERFLOWS:
        # Subnormal probabilities just above the threshold are inexact, so their logarithms are too.
        inexact = np.isfinite(c) & (r < threshold + width)
        lost = gone & (r < threshold + 1.5)
        if highest < threshold + 1.5 and bool(np.all(lost | ~(r < threshold - 1.5) | np.isneginf(r))):
            expected = np.where(gone, -np.inf, np.where(inexact, c, r))
            parameters = {"dtype": dtype, "threshold": highest}
            yield Attempt("underflow-to-log-zero", expected, c, parameters, constraints=0, gain=gain)


# dtype of the probabilities, the logarithm of its smallest number, the width of its inexact range, noise amplified
_UNDERFLOWS = (
    ("float32", -103.28, 17.0, 1.0),
    ("float32 without subnormals", -87.34, 1.5, 1.0),
    ("float64", -744.4, 38.0, 1.0),
    ("float64 without subnormals", -708.4, 1.5, 1.0),
    ("float16", -16.64, 8.0, 10.0),
    ("bfloat16", -92.2, 8.0, 60.0),
)

ARITHMETIC = (
    other_axes,
    repeated,
    logarithms,
    missing,
    sigmoids_for_softmax,
    all_ones,
    two_class_sigmoid,
    hard,
    scaled,
    shifted,
    epsilon_in_denominator,
    epsilon_in_unshifted_sum,
    epsilon_in_log,
    underflow,
)
