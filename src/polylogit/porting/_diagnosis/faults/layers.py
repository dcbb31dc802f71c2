"""Faults of layers other than softmax: activation functions, norms, residual connections, embeddings, image layouts.

Unlike probabilities, hidden activations obey no law, so the input of the layer matters. It is looked for among the
activations just before the layer that agree on both sides, and counts only if it reproduces the reference. Without it,
some faults can be recognised from the two outputs alone. Plain NumPy; knows no framework.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from polylogit.porting._diagnosis.faults.activations import ACTIVATIONS, GELUS, RISING, inverse
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction, only
from polylogit.porting._diagnosis.faults.hidden import (
    FEW,
    alike,
    distance,
    is_hidden,
    rows_of,
    same_shape,
    some,
    some_rows,
    tall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

# So many earlier activations are tried in pairs.
LATEST = 6


# --- activation functions --------------------------------------------------------------------------------------------


def _activations(evidence: Evidence) -> list[tuple[str, Prediction]]:
    """Another activation function, of an earlier activation or as the positive outputs reveal."""
    if not is_hidden(evidence):
        return []
    with np.errstate(all="ignore"):
        known = _of_earlier(evidence)
        return known if known is not None else list(_of_positive(evidence))


def _of_earlier(evidence: Evidence) -> list[tuple[str, Prediction]] | None:
    """None unless the reference is an activation function of one of them."""
    r, c = evidence.reference, evidence.candidate
    for _, x in same_shape(evidence):
        made = {name: function(some(x)) for name, function in ACTIVATIONS.items()}
        # The nearest: two forms of GELU are nearer to each other than noise may be.
        right, *_ = sorted(made, key=lambda name: distance(made[name], some(r)))
        if right == "no activation" or not alike(made[right], some(r), evidence):
            continue
        others = [name for name in made if distance(made[name], made[right]) > 0]
        others.sort(key=lambda name: distance(made[name], some(c)))
        return [
            (_named(right, wrong), Prediction(ACTIVATIONS[wrong](x), c, {"right": right, "wrong": wrong}))
            for wrong in others[:2]
        ]
    return None


def _named(right: str, wrong: str) -> str:
    return "gelu-approximation" if right in GELUS and wrong in GELUS else "wrong-activation"


def _of_positive(evidence: Evidence) -> Iterator[tuple[str, Prediction]]:
    """Another activation function, as the positive outputs of functions with a floor just below zero reveal."""
    r, c = evidence.reference, evidence.candidate
    least = float(r.min(initial=0.0))
    positive = r > 1e-3
    if not -0.32 < least <= 0.0 or positive.sum() < 2 * FEW:
        return
    for right in RISING:
        f = ACTIVATIONS[right]
        floor = float(f(np.linspace(-6.0, 0.0, 601)).min())
        # A ReLU has zeros; the others come near to their floor and never below it.
        fits = np.mean(r == 0) > 0.05 if right == "ReLU" else floor - 1e-3 <= least < 0.5 * floor
        if not fits:
            continue
        y = some(r[positive])
        x, seen = inverse(f, y), some(c[positive])
        made = {name: g(x) for name, g in ACTIVATIONS.items() if name != "no activation"}
        others = [name for name in made if name != right and distance(made[name], y) > 1e-12]
        for wrong in sorted(others, key=lambda name: distance(made[name], seen))[:2]:
            parameters = {"right": right, "wrong": wrong}
            prediction = Prediction(made[wrong], seen, parameters, constraints=0, measure="scale")
            yield _named(right, wrong), prediction


# --- norms -----------------------------------------------------------------------------------------------------------


def _standardised(x: Array, *, centred: bool, epsilon: float = 0.0) -> Array:
    x = x - x.mean(-1, keepdims=True) if centred else x
    return np.asarray(x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon))


def _affine(z: Array, y: Array, *, shifted: bool = True) -> tuple[Array, Array]:
    """For each channel the weight and the bias of y = weight * z + bias, by least squares."""
    mean_z, mean_y = (z.mean(0), y.mean(0)) if shifted else (np.zeros(z.shape[1]), np.zeros(z.shape[1]))
    power = np.sum((z - mean_z) ** 2, 0)
    weight = np.sum((z - mean_z) * (y - mean_y), 0) / np.where(power > 0, power, 1.0)
    return weight, mean_y - weight * mean_z


EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def _norm_epsilon(evidence: Evidence) -> Iterator[Prediction]:
    """Each row is multiplied by its own factor, around the bias of the norm."""
    if not tall(evidence) or evidence.remainder:
        return
    r, c = rows_of(evidence.reference), rows_of(evidence.candidate)
    if _row_factors(some_rows(r), some_rows(c), 0.3) is None:
        return
    known = _epsilons_of_input(evidence)
    if known is not None:
        yield known
        return
    found = _row_factors(r, c)
    if found is None:
        return
    bias, less = found
    # All rows lie nearer to the bias, or all farther from it; and not by one factor, which is another fault.
    scale = float(np.mean(np.abs(less)))
    one_sided = np.all(less * np.sign(np.mean(less)) > -0.05 * scale)
    # An epsilon changes every row; rows that are 0 on one side are masked.
    if np.max(np.abs(less)) > 0.6 or np.mean(np.abs(less) < 1e-3 * scale) > 0.2:
        return
    # Rows of a norm are about equally long, on one side at the least.
    lengths = [np.sqrt(np.mean((one - bias) ** 2, -1)) for one in (r, c)]
    if min(np.std(one) / np.mean(one) for one in lengths) > 0.25:
        return
    left, apart = (float(np.sqrt(np.mean(one**2))) for one in (c - r - less[:, None] * (r - bias), c - r))
    # What rounding leaves of it, and not a share that any factors explain.
    if left > max(apart / 30, 8 * evidence.precision.eps * float(np.sqrt(np.mean(r * r)))):
        return
    if not one_sided or scale < 8 * evidence.precision.eps or np.std(less) < 0.02 * scale or scale > 0.5:
        return
    expected = (r + less[:, None] * (r - bias)).reshape(evidence.reference.shape)
    parameters = {"which": "larger" if np.mean(less) < 0 else "smaller", "detail": ""}
    yield Prediction(expected, evidence.candidate, parameters, free=r.shape[0] + r.shape[1])


def _row_factors(r: Array, c: Array, most: float = np.inf) -> tuple[Array, Array] | None:
    """The bias and the factors, minus one, with c = bias + factor * (r - bias), by alternating least squares.

    None if they leave more than a share of the difference.
    """
    difference = c - r
    bias = np.zeros(r.shape[1])
    less = np.zeros(len(r))
    for _ in range(100):
        around = r - bias
        power = np.sum(around**2, 1)
        if not power.all():
            return None
        new = np.sum(difference * around, 1) / power
        total = float(np.sum(new**2))
        if total == 0.0:
            return None
        bias = np.sum(new[:, None] * (new[:, None] * r - difference), 0) / total
        done = np.max(np.abs(new - less)) < 1e-6 * np.max(np.abs(new))
        less = new
        if done:
            break
    left = difference - less[:, None] * (r - bias)
    return None if np.sum(left**2) > most**2 * np.sum(difference**2) else (bias, less)


def _epsilons_of_input(evidence: Evidence) -> Prediction | None:
    """The same if the norm's input is known, with the epsilons of both sides."""
    r, c = rows_of(evidence.reference), rows_of(evidence.candidate)
    for (_, x), centred in itertools.product(_norm_inputs(evidence), (True, False)):
        right = _nearest_epsilon(some_rows(x), some_rows(evidence.reference), centred)
        if right is None:
            continue
        x = rows_of(x)
        weight, bias = _affine(_standardised(x, centred=centred, epsilon=right), r, shifted=centred)
        if not alike(weight * _standardised(x, centred=centred, epsilon=right) + bias, r, evidence):
            continue
        moved = x - x.mean(-1, keepdims=True) if centred else x
        variance = np.mean(moved * moved, -1)
        step = max(1, len(c) // 256)
        loss = functools.partial(_epsilon_loss, moved[::step], variance[::step], weight, bias, c[::step])
        wrong = _fitted_epsilon(loss, right)
        if wrong == right:
            return None
        expected = _normed(moved, variance, weight, bias, wrong).reshape(evidence.reference.shape)
        parameters = {
            "which": "larger" if wrong > right else "smaller",
            "detail": f", about {wrong:.2g} for {right:.2g}",
            "epsilon": wrong,
            "right_epsilon": right,
        }
        return Prediction(expected, evidence.candidate, parameters, free=1)
    return None


def _normed(moved: Array, variance: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return np.asarray(weight * moved / np.sqrt(variance + epsilon)[:, None] + bias)


def _epsilon_loss(moved: Array, variance: Array, weight: Array, bias: Array, c: Array, epsilon: float) -> float:
    return distance(_normed(moved, variance, weight, bias, epsilon), c)


def _norm_inputs(evidence: Evidence) -> list[tuple[str, Array]]:
    """The possible inputs of the norm: earlier activations, and sums of two (a residual connection)."""
    known = same_shape(evidence)
    sums = [(f"{a} + {b}", x + y) for (a, x), (b, y) in itertools.combinations(known[:LATEST], 2)]
    return known + sums


def _nearest_epsilon(x: Array, y: Array, centred: bool) -> float | None:
    """The common epsilon for which y is nearest to a norm of x; None if y is no such norm."""
    power = float(np.mean(y * y))

    def error(epsilon: float) -> float:
        z = _standardised(x, centred=centred, epsilon=epsilon)
        weight, bias = _affine(z, y, shifted=centred)
        return distance(weight * z + bias, y)

    if not np.any(x) or error(1e-5) > 0.1 * power:
        return None  # with whatever epsilon
    errors = [error(epsilon) for epsilon in EPSILONS[1:]]
    best = int(np.argmin(errors))
    return EPSILONS[1 + best] if errors[best] < 1e-6 * power else None


def _fitted_epsilon(loss: Callable[[float], float], right: float) -> float:
    """The epsilon that fits best: a common one if it does as well as any, else one in between."""
    usual = min(EPSILONS, key=loss)
    low, high = -14.0, 0.0
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(60):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(10.0**a) < loss(10.0**b) else (a, high)
    between = 10.0 ** ((low + high) / 2)
    if loss(right) <= 1.5 * min(loss(usual), loss(between)):
        return right
    return usual if loss(usual) <= 1.5 * loss(between) + 1e-30 else between


def _norm_weight(evidence: Evidence) -> Iterator[Prediction]:
    """The channels of a norm lack their weights: what remains has rows of mean square one, as norms have."""
    if not tall(evidence):
        return
    r, c = rows_of(evidence.reference), rows_of(evidence.candidate)
    factor, shift = _affine(c, r)
    if not np.isfinite(factor).all() or np.ptp(factor) < 64 * evidence.precision.eps * np.max(np.abs(factor)):
        return
    # r = weight * z + bias and c = z + bias, or c = z where the bias is missing as well.
    with np.errstate(all="ignore"):
        bias = shift / (1.0 - factor)
    # A weight of one hides its bias, but not from the sum of the row.
    hidden = np.abs(1.0 - factor) < 1e-5
    bias = np.where(hidden, c.mean(0), bias)
    bias = np.where(hidden, bias + np.sum(c - bias, -1).mean() / max(1, hidden.sum()), bias)
    for around, also in ((bias, ""), (0.0, " and bias")):
        z = c - around
        size = np.mean(z * z, -1)
        centred = np.abs(z.mean(-1)).max() < 0.02
        if np.max(np.abs(size - 1.0)) > 0.05 or not (centred or np.ptp(size) < 1e-3):
            continue
        expected = (factor * c + shift).reshape(evidence.reference.shape)
        yield Prediction(evidence.reference, expected, {"weight": factor, "also": also}, free=2 * factor.size)
        return


def _norm_placement(evidence: Evidence) -> Iterator[Prediction]:
    """One side's activation is a norm of the other's."""
    if not tall(evidence):
        return
    r, c = evidence.reference, evidence.candidate
    for x, y, parameters in (
        (r, c, {"normed": "candidate", "plain": "reference"}),
        (c, r, {"normed": "reference", "plain": "candidate"}),
    ):
        for centred in (True, False):
            z = _standardised(rows_of(x), centred=centred)
            if not np.isfinite(z).all() or _is_standard(rows_of(x)):
                continue
            weight, bias = _affine(z, rows_of(y), shifted=centred)
            expected = (weight * z + bias).reshape(y.shape)
            free = weight.size * (2 if centred else 1)
            yield Prediction(expected, y, parameters, free=free)


def _is_standard(rows: Array) -> bool:
    """Whether rows are normalised already, so that a norm changes next to nothing."""
    size = np.mean(rows * rows, -1)
    return bool(np.ptp(size) < 1e-2 * np.mean(size))


# --- residual connections, embeddings --------------------------------------------------------------------------------


def _residual(evidence: Evidence) -> Iterator[Prediction]:
    """An earlier activation is added on one side only, before a norm or without one."""
    if not is_hidden(evidence):
        return
    r, c = evidence.reference, evidence.candidate
    known = same_shape(evidence)
    apart, whole = some(c) - some(r), some(r)
    # What a second connection carries on is the sum of what the first had and of the layer between.
    sums = [(f"{a} + {b}", x + y) for (a, x), (b, y) in itertools.combinations(known[:LATEST], 2)]
    for name, x in (*known, *sums):
        # Of an activation that is the same but for a factor, a multiple is missing: that is a scale.
        along = float(some(x) @ whole) ** 2
        if along > 0.999 * float(some(x) @ some(x)) * float(whole @ whole):
            continue
        for sign, how in ((-1.0, "lacks"), (1.0, "adds once more")):
            if np.any(x) and distance(apart, sign * some(x)) < 0.01 * float(np.mean(apart**2)):
                yield Prediction(r + sign * x, c, {"name": name, "how": how})
    if not tall(evidence):
        return
    for (name, x), (_, y) in itertools.permutations(known[:LATEST], 2):
        for centred in (True, False):
            epsilon = _nearest_epsilon(some_rows(x + y), some_rows(r), centred)
            if epsilon is None:
                continue
            whole = _standardised(rows_of(x + y), centred=centred, epsilon=epsilon)
            weight, bias = _affine(whole, rows_of(r), shifted=centred)
            part = _standardised(rows_of(y), centred=centred, epsilon=epsilon)
            expected = (weight * part + bias).reshape(r.shape)
            yield Prediction(expected, c, {"name": name, "how": "lacks"})


def _embedding_scale(evidence: Evidence) -> Iterator[Prediction]:
    """The square root of the number of channels, as a factor of the first activation."""
    r, c = evidence.reference, evidence.candidate
    if evidence.kind != "logits" or r.ndim < 3 or r.shape[-1] < 16:
        return
    known = [one for _, one in same_shape(evidence)]
    if known and not any(alike(some(one), some(side), evidence) for one in known for side in (r, c)):
        return
    root = math.sqrt(r.shape[-1])
    for factor, how in ((root, "multiplies"), (1.0 / root, "does not multiply")):
        if not np.isclose(some(r) @ some(c), factor * (some(r) @ some(r)), rtol=1e-2):
            continue
        yield Prediction(factor * r, c, {"size": r.shape[-1], "how": how})


def _position_offset(evidence: Evidence) -> Iterator[Prediction]:
    """A position table is read from another row on, by itself or added to an earlier activation."""
    r, c = evidence.reference, evidence.candidate
    if not is_hidden(evidence) or r.ndim < 2 or r.shape[-2] < FEW or r.shape[-1] < FEW:
        return
    length = r.shape[-2]
    for x in (np.zeros_like(r), *(one for _, one in same_shape(evidence))):
        # Positions are the same for each sequence of a batch.
        if r.ndim > 2 and len(r) > 1 and not alike(r[0] - x[0], r[1] - x[1], evidence):
            continue
        here, there = r - x, c - x
        for offset in range(1, min(4, length - 2)):
            for sign in (1, -1):
                shifted = np.zeros(r.shape, bool)
                rows = slice(0, length - offset) if sign > 0 else slice(offset, length)
                shifted[..., rows, :] = True
                moved = np.zeros_like(r)
                moved[..., rows, :] = np.roll(here, -sign * offset, axis=-2)[..., rows, :]
                expected, observed = np.where(shifted, moved, 0.0), np.where(shifted, there, 0.0)
                bound = int(r.size - shifted.sum())
                yield Prediction(expected, observed, {"offset": sign * offset}, constraints=bound)


FAULTS = (
    Fault(
        "gelu-approximation",
        "The candidate computes {wrong} where the reference computes {right}.",
        "gelu",
        only("gelu-approximation", _activations),
        dominates=("wrong-activation",),
    ),
    Fault(
        "wrong-activation",
        "The candidate's activation function is {wrong}, the reference's {right}.",
        "y = {call}  # {right}",
        only("wrong-activation", _activations),
        dominates=("scaled-logits", "missing-bias"),
        obvious=True,
    ),
    Fault(
        "norm-epsilon",
        "The candidate's norm adds a {which} epsilon to the variance{detail}: each row has a factor of its own.",
        "norm epsilon",
        _norm_epsilon,
        dominates=("scaled-logits", "missing-bias", "norm-weight-missing"),
    ),
    Fault(
        "norm-weight-missing",
        "The candidate's norm lacks its weight{also}, one factor for each channel.",
        "y = y * weight  # the norm's, one number for each channel",
        _norm_weight,
        dominates=("missing-bias", "norm-placement"),
        obvious=True,
    ),
    Fault(
        "norm-placement",
        "The {normed}'s activation is a norm of the {plain}'s: the norm comes before the layer on one side and after "
        "it on the other, or is missing.",
        "x = x + layer(norm(x))  # or norm(x + layer(x)): as the original has it",
        _norm_placement,
        obvious=True,
    ),
    Fault(
        "missing-residual",
        "The candidate {how} the residual connection from {name}.",
        "y = y + x  # the residual connection, once",
        _residual,
        dominates=("missing-bias", "scaled-logits"),
        obvious=True,
    ),
    Fault(
        "embedding-scale",
        "The candidate {how} its embeddings by the square root of their size, {size}.",
        "x = x * {size} ** 0.5  # on both sides or on neither",
        _embedding_scale,
        dominates=("scaled-logits",),
        obvious=True,
    ),
    Fault(
        "position-offset",
        "The candidate's positions are off by {offset}.",
        "positions = positions - {offset}",
        _position_offset,
        obvious=True,
    ),
)
