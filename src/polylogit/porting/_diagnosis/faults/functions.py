"""Faults of the function: a missing, repeated or different one, such as softmax twice or sigmoid instead of softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polylogit._spec.formulas import exp, log, sigmoid
from polylogit.porting._diagnosis.faults.axes import mean
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]


def _double_softmax(evidence: Evidence) -> Iterator[Prediction]:
    if evidence.is_distribution:
        p = exp(evidence.reference) if evidence.as_log else evidence.reference
        yield Prediction(evidence.apply(p), evidence.candidate)


def _double_sigmoid(evidence: Evidence) -> Iterator[Prediction]:
    if evidence.kind == "sigmoids":
        yield Prediction(sigmoid(evidence.reference), evidence.candidate)


def _log_of_reference(evidence: Evidence) -> Iterator[Prediction]:
    r, c = evidence.reference, evidence.candidate
    if evidence.kind in ("probabilities", "sigmoids"):
        # Where the reference has underflowed, its logarithm may be anything as small or smaller.
        lost = (r <= evidence.precision.floor) & (c <= log(np.asarray(2 * evidence.precision.floor)))
        yield Prediction(log(np.where(lost, 1.0, r)), np.where(lost, 0.0, c), measure="log")


def _exponential(evidence: Evidence) -> Prediction:
    r = evidence.reference
    gain = 1.0 + float(np.max(np.abs(r[np.isfinite(r)]), initial=0.0)) / 10.0
    return Prediction(exp(r), evidence.candidate, measure="relative", gain=min(gain, 3.0))


def _exp_of_reference(evidence: Evidence) -> Iterator[Prediction]:
    if not evidence.as_log:
        yield _exponential(evidence)


def _missing_log(evidence: Evidence) -> Iterator[Prediction]:
    r = evidence.reference
    if evidence.as_log:
        yield _exponential(evidence)
    elif evidence.kind == "logits" and np.min(r, initial=np.inf, where=np.isfinite(r)) >= 0:
        # A loss: minus the logarithm of a probability here, minus the probability there.
        yield Prediction(-exp(-r), evidence.candidate, measure="relative")


def _missing_softmax(evidence: Evidence) -> Iterator[Prediction]:
    c = evidence.candidate
    if evidence.is_distribution and not evidence.candidate_axes() and not _sums_to_one(c, evidence):
        yield Prediction(evidence.reference, evidence.apply(c), gain=_gain_of_logits(c))


def _missing_sigmoid(evidence: Evidence) -> Iterator[Prediction]:
    if evidence.kind == "sigmoids":
        c = evidence.candidate
        yield Prediction(evidence.reference, sigmoid(c), gain=_gain_of_logits(c))


def _gain_of_logits(c: Array) -> float:
    return min(1.0 + float(np.max(np.abs(c[np.isfinite(c)]), initial=0.0)) / 2.0, 20.0)


def _sums_to_one(logarithms: Array, evidence: Evidence) -> bool:
    """Whether these are normalised log-probabilities, which lack nothing."""
    sums = np.sum(exp(logarithms), axis=evidence.axes)
    return bool(sums.size and np.all(np.abs(sums[np.isfinite(sums)] - 1) < 5e-3))


def _sigmoid_for_softmax(evidence: Evidence) -> Iterator[Prediction]:
    if not evidence.is_distribution or evidence.classes < 2:
        return
    c = evidence.candidate
    if evidence.logits is not None:
        p = sigmoid(evidence.logits)
        yield Prediction(log(p) if evidence.as_log else p, c, constraints=0)
    if not _sums_to_one(evidence.log_candidate, evidence):
        expected = evidence.from_log(-np.logaddexp(0.0, -(evidence.log_reference + _row_shift(evidence))))
        yield Prediction(expected, c, free=evidence.rows, constraints=0)


def _row_shift(evidence: Evidence) -> Array:
    """For each row the constant u for which log sigmoid(log r + u) is nearest to the candidate's logarithm."""
    lr, lc = evidence.log_reference, evidence.log_candidate
    odds = lc - np.log(-np.expm1(np.minimum(lc, -1e-12)))
    shift = mean(np.where(evidence.usable & (lc < -1e-3), odds - lr, np.nan), evidence.axes)
    for _ in range(30):
        fitted = -np.logaddexp(0.0, -(lr + shift))
        error = np.where(evidence.usable, lc - fitted, 0.0)
        slope = np.where(evidence.usable, -np.expm1(fitted), 0.0)
        step = np.sum(error * slope, axis=evidence.axes, keepdims=True)
        step = step / np.maximum(np.sum(slope**2, axis=evidence.axes, keepdims=True), 1e-300)
        shift = shift + np.clip(step, -4.0, 4.0)
    return np.asarray(shift)


def _all_ones(evidence: Evidence) -> Iterator[Prediction]:
    r, c = evidence.reference, evidence.candidate
    if evidence.is_distribution and 1 in r.shape:
        return  # that is a batch of one, normalised over the batch
    yield Prediction(np.ones_like(c), c, measure="relative")
    if evidence.as_log or r.max(initial=-1.0) <= 0:
        yield Prediction(np.zeros_like(c), c, measure="log")


def _sigmoid_of_one_column(evidence: Evidence) -> Iterator[Prediction]:
    if evidence.kind != "probabilities" or evidence.classes != 2 or evidence.logits is None:
        return
    axis = evidence.axes[0]
    for index in (0, 1):
        one = sigmoid(np.take(evidence.logits, [index], axis=axis))
        expected = np.concatenate([1.0 - one, one] if index else [one, 1.0 - one], axis=axis)
        # One minus a sigmoid near 1 is as uncertain as the sigmoid.
        reach = 2.0 * evidence.precision.eps
        expected = expected + np.clip(evidence.candidate - expected, -reach, reach)
        yield Prediction(expected, evidence.candidate, {"column": index})


def _one_column_of_two(evidence: Evidence) -> Iterator[Prediction]:
    r, c = evidence.reference, evidence.candidate
    wide, narrow = (r, c) if r.size > c.size else (c, r)
    for axis, size in enumerate(wide.shape):
        if size != 2 or wide.size != 2 * narrow.size:
            continue
        for index in (1, 0):
            column = np.take(wide, [index], axis=axis)
            if narrow.shape in (column.shape, np.squeeze(column, axis).shape):
                column = column.reshape(narrow.shape)
                expected, observed = (column, c) if wide is r else (r, column)
                yield Prediction(expected, observed, {"column": index, "axis": axis}, measure="relative")


def _argmax(evidence: Evidence) -> Iterator[Prediction]:
    if not evidence.is_distribution or evidence.classes < 2:
        return
    r, c = evidence.reference, evidence.candidate
    top = np.max(r, axis=evidence.axes, keepdims=True)
    # Of entries that are equally large, the candidate may have taken any.
    tied = np.isclose(r, top, rtol=0.0 if evidence.as_log else 1e-3, atol=1e-300)
    chosen = tied & (c == np.max(c, axis=evidence.axes, keepdims=True))
    yield Prediction(evidence.from_log(log(np.where(chosen, 1.0, 0.0))), c)


def _argmax_indices(evidence: Evidence) -> Iterator[Prediction]:
    c = evidence.candidate
    for axis in evidence.axes:
        index = np.argmax(evidence.reference, axis=axis)
        for shaped in (index, np.expand_dims(index, axis)):
            if shaped.shape == c.shape and np.any(shaped != 0):
                yield Prediction(shaped.astype(float), c, {"indices": True}, measure="scale")


FAULTS = (
    Fault(
        "double-softmax",
        "Softmax is applied twice: the candidate is the softmax of the reference's probabilities.",
        "no second softmax",
        _double_softmax,
    ),
    Fault(
        "double-sigmoid",
        "Sigmoid is applied twice: the candidate is the sigmoid of the reference.",
        "no second sigmoid",
        _double_sigmoid,
    ),
    Fault(
        "log-of-reference",
        "The candidate is the logarithm of the reference: log-probabilities where probabilities are expected.",
        "exp",
        _log_of_reference,
        dominates=("missing-softmax",),
    ),
    Fault("exp-of-reference", "The candidate is the exponential of the reference.", "log", _exp_of_reference),
    Fault(
        "missing-log",
        "The candidate holds probabilities where the reference holds their logarithm: the log is missing.",
        "log_softmax",
        _missing_log,
    ),
    Fault(
        "missing-softmax",
        "The candidate holds logits: applying softmax to it gives the reference.",
        "softmax",
        _missing_softmax,
    ),
    Fault(
        "missing-sigmoid",
        "The candidate holds logits: applying sigmoid to it gives the reference.",
        "sigmoid",
        _missing_sigmoid,
    ),
    Fault(
        "sigmoid-for-softmax",
        "The candidate applies a sigmoid to each logit by itself, where the reference has a softmax over the classes.",
        "softmax",
        _sigmoid_for_softmax,
    ),
    Fault(
        "one-class-softmax",
        "The candidate is a softmax over a single class, which is 1 whatever the logit.",
        "sigmoid",
        _all_ones,
        dominates=("wrong-axis", "hard-argmax", "scaled-logits", "missing-bias"),
    ),
    Fault(
        "binary-sigmoid",
        "One side has one sigmoid (of column {column}) where the other has a softmax over two classes; softmax over "
        "two classes is the sigmoid of the difference of their logits.",
        "two classes",
        _sigmoid_of_one_column,
        reshaped=_one_column_of_two,
    ),
    Fault(
        "hard-argmax",
        "The candidate holds the largest class alone, where the reference holds probabilities.",
        "softmax",
        _argmax,
        reshaped=_argmax_indices,
        dominates=("scaled-logits", "missing-bias", "mask-missing", "dropout-active", "class-permutation"),
    ),
)
