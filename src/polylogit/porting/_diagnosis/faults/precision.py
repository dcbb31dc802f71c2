"""Faults of precision: values that were rounded to float16 or bfloat16 on the way.

Rounding to 16 bits leaves a trace that no other fault leaves: the values lie on the coarse lattice of that dtype. The
trace shows even if it is unknown which value was rounded, and later noise blurs it without removing it. If the noise is
as large as the lattice, the difference is compared with the one that rounding the reference causes. Plain NumPy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit.porting._diagnosis.agreement import Precision, residual, rounding, unit_of
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction
from polylogit.porting._diagnosis.faults.scores import also_of_the_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Finfo
    from polylogit._spec.formulas import Array
    from polylogit.porting._diagnosis.evidence import Evidence

__all__ = ["FAULTS"]

FLOAT16, BFLOAT16 = DTYPES["float16"], DTYPES["bfloat16"]


def _rounded(dtype: Finfo, evidence: Evidence) -> Iterator[Prediction]:
    """The candidate went through a 16-bit dtype, and the reference did not."""
    r, c, parameters = evidence.reference, evidence.candidate, {"dtype": dtype.name}
    coarse = evidence.once(_bfloat16_lattice)
    if dtype is FLOAT16 and (coarse is not None or evidence.dtypes[1] == BFLOAT16.name):
        return  # the lattice of bfloat16 lies within that of float16
    if evidence.dtypes[1] == dtype.name:
        telling = np.isfinite(c) & (c != 0)
        if evidence.dtypes[0] != dtype.name and not np.array_equal(r, c) and _near(evidence, dtype, telling):
            yield Prediction(dtype.round(r), c, parameters, proven=True)
        return
    lattice = coarse if dtype is BFLOAT16 else _on_lattice(evidence, dtype)
    if lattice is not None:
        yield Prediction(lattice, c, parameters, proven=True)
        return
    for expected in _rounded_on_the_way(evidence, dtype):
        shown = _blurred(evidence, expected, dtype)
        if shown is not None:
            yield Prediction(shown, c, parameters, proven=True)
            return
    if evidence.once(_bfloat16_scores) is not None:
        shown = evidence.once(_bfloat16_scores) if dtype is BFLOAT16 else None
    else:
        shown = _scores_on_lattice(evidence, dtype) if dtype is FLOAT16 else None
    if shown is not None:
        yield Prediction(shown, c, parameters, proven=True)


def _on_lattice(evidence: Evidence, dtype: Finfo) -> Array | None:
    """The candidate's lattice points, if it lies on them and near the reference, which does not."""
    r, c = evidence.reference, evidence.candidate
    with np.errstate(all="ignore"):
        # Below the smallest normal number of float16 its lattice is as coarse as that of bfloat16.
        telling = np.isfinite(r) & np.isfinite(c) & (np.abs(c) > dtype.smallest_normal)
        normal = telling & (np.abs(c) > FLOAT16.smallest_normal)
        telling = normal if normal.sum() >= 6 else telling
        telling &= _distance(c, dtype, 64.0) > 0  # not on an even coarser lattice: 0.5, 0.75 say nothing
    if telling.sum() < 3 or _systematic(_distance(r[telling], dtype)):
        return None
    if not _systematic(_distance(c[telling], dtype)):
        return None
    if not _near(evidence, dtype, telling):
        return None
    points = dtype.round(c)
    return np.where(telling, points, np.where(np.isfinite(points), c, points))


def _bfloat16_lattice(evidence: Evidence) -> Array | None:
    return _on_lattice(evidence, BFLOAT16)


def _near(evidence: Evidence, dtype: Finfo, telling: Any) -> bool:
    """Whether the two differ by no more than arithmetic in that dtype explains."""
    r, c = evidence.reference, evidence.candidate
    precision = Precision(dtype, max(dtype.smallest_normal, evidence.precision.floor))
    errors = np.abs(residual(r, c, evidence.measure, precision.floor))
    allowed = rounding(r, evidence.measure, precision, evidence.normalized_axes)
    within = errors * unit_of(r, evidence.measure, precision.floor) <= allowed
    elsewhere = np.abs(residual(r, c, "scale", 0.0)) * unit_of(r, "scale", 0.0)
    within_scale = elsewhere <= 2 * rounding(r, "scale", precision, ())
    if not np.all(np.where(telling, within, within_scale)):
        return False
    return float(np.median(errors[telling]) if telling.any() else 0.0) <= dtype.eps * 4.0


def _systematic(distance: Array) -> bool:
    """Whether distances to a lattice are too small to be a coincidence.

    For unrelated numbers they are uniform between 0 and 0.5: all are below d with the probability (2d)**n, and their
    mean is 0.25.
    """
    n, most = distance.size, float(np.max(distance))
    mean = float(np.mean(distance))
    unlikely = n * np.log(max(2 * most, 1e-300)) < np.log(1e-6)
    return bool(unlikely or mean < min(0.15, 0.25 - 8 * 0.1443 / np.sqrt(n)))


def _distance(values: Array, dtype: Finfo, coarser: float = 1.0) -> Array:
    """The distance from the lattice in units of its spacing: 0 on it, 0.25 on average for other numbers."""
    with np.errstate(all="ignore"):
        scaled = values / (coarser * dtype.ulp(values))
        return np.abs(scaled - np.round(scaled))


def _rounded_on_the_way(evidence: Evidence, dtype: Finfo) -> Iterator[Array]:
    """The rounded result of the reference, and the result from rounded logits."""
    yield dtype.round(evidence.reference)
    if evidence.logits is not None and evidence.kind != "logits":
        smooth = evidence.apply(dtype.round(evidence.logits))
        yield smooth
        yield dtype.round(smooth)


def _blurred(evidence: Evidence, expected: Array, dtype: Finfo) -> Array | None:
    """The expected values, if the difference follows the predicted one, entry by entry, plus noise."""
    r, c = evidence.reference, evidence.candidate
    floor = max(evidence.precision.floor, dtype.smallest_normal)
    predicted = residual(r, expected, evidence.measure, floor)
    actual = residual(r, c, evidence.measure, floor)
    good = np.isfinite(predicted) & np.isfinite(actual) & (r != 0)
    if np.any(np.abs(predicted)[good] > 2.0 * _reach(evidence, dtype)):
        return None  # more than rounding does: what is predicted is not rounded, but overflows
    if np.any(residual(expected, c, evidence.measure, floor)[~good] > evidence.precision.noise):
        return None
    x, y = predicted[good], actual[good]
    if x.size < 8 or not np.any(x):
        return None
    # Where the reference lies near the middle between two numbers, its own noise may round it the other way.
    flipped = _flips(y - x, x)
    x, y = x[~flipped], y[~flipped]
    power = float(np.sum(x * x))
    if power == 0.0 or flipped.mean() > 0.05:
        return None
    slope = float(np.sum(x * y)) / power
    left = float(np.sqrt(np.mean((y - slope * x) ** 2)))
    error = left * np.sqrt(x.size) / np.sqrt(power * x.size)
    gained = x.size * np.log(max(float(np.mean(y * y)), 1e-300) / max(float(np.mean((y - x) ** 2)), 1e-300))
    if abs(slope - 1) > max(0.1, 4 * error) or slope < 8 * error or gained < 30 or left > evidence.precision.noise:
        return None
    exempt = np.zeros(good.shape, bool)
    exempt[good] = flipped
    return np.where(exempt, c, expected)


# --- scores that were rounded before a wide softmax ------------------------------------------------------------------

# So many rows are looked at, if they have so many classes that a lattice shows.
ROWS, WIDE = 24, 8
# Scores are looked for in between; below, they say little.
LEAST_SCORE, LARGEST_SCORE = 0.125, 64.0
ON = 0.05  # of the lattice's spacing: as near as this a score lies on it


def _bfloat16_scores(evidence: Evidence) -> Array | None:
    return _scores_on_lattice(evidence, BFLOAT16)


def _scores_on_lattice(evidence: Evidence, dtype: Finfo) -> Array | None:
    """The candidate, if its logarithms are lattice points up to a constant in each row."""
    if not evidence.is_distribution or len(evidence.axes) != 1 or not evidence.usable.any():
        return None
    axis = evidence.axes[0]
    lr, lc = (np.moveaxis(one, axis, -1) for one in (evidence.log_reference, evidence.log_candidate))
    usable = np.moveaxis(evidence.usable, axis, -1)
    places = np.argwhere(usable.sum(-1) >= WIDE)
    if len(places) < 4:
        return None
    result = np.array(np.moveaxis(evidence.from_log(evidence.log_candidate), axis, -1))
    found = alike = 0
    places = places[np.linspace(0, len(places) - 1, min(len(places), ROWS)).astype(int)]
    for place in map(tuple, places):
        there = usable[place]
        r, c = lr[place][there], lc[place][there]
        apart = c - r - np.median(c - r)
        if not 16 * evidence.precision.eps < np.max(np.abs(apart)) < dtype.eps * LARGEST_SCORE:
            continue
        fitting = _lattice_scores(c, dtype)
        fitting = fitting[_within(c - r, 0.55 * dtype.ulp(fitting))]
        if not len(fitting):
            continue
        scores = fitting[0]
        found += 1
        alike += bool(len(_lattice_scores(r, dtype)))
        points = scores - scores.max()
        points = points - np.log(np.sum(np.exp(points))) + np.log(np.sum(np.exp(c)))
        row = result[place]
        row[there] = evidence.from_log(points)
        result[place] = row
    if found < 0.8 * len(places) or alike > 0.2 * found:
        return None
    return np.moveaxis(result, -1, axis)


def _within(apart: Array, reach: Array) -> Any:
    """For each row of reaches, whether these are a single number, each within its own reach."""
    return np.max(apart - reach, axis=-1) <= np.min(apart + reach, axis=-1)


def _lattice_scores(logarithms: Array, dtype: Finfo) -> Array:
    """All rows of lattice points with the same differences as these logarithms."""
    # Most starts fail at a few entries: those far from the top are the least likely to fit by chance.
    order = np.argsort(logarithms)
    steps = (logarithms - logarithms[order[-1]])[order]
    left = _score_points(dtype)
    # Points must lie closer together than the scores, or any scores are near to one.
    left = left[dtype.ulp(left) < np.ptp(logarithms) / WIDE]
    for step in steps[:-1]:
        score = left + step
        # A score near zero has a spacing as small as the noise.
        left = left[(_distance(score, dtype) < ON) | (np.abs(score) < LEAST_SCORE)]
        if not left.size:
            break
    found = left[:, None] + logarithms - logarithms[order[-1]]
    told = np.abs(found) >= LEAST_SCORE
    found = np.where(told, dtype.round(found), found)
    return np.asarray(found[told.sum(-1) >= WIDE - 2])


@functools.cache
def _score_points(dtype: Finfo) -> Array:
    """All lattice points from the smallest to the largest score, of either sign."""
    octaves = [2.0**k for k in range(int(np.log2(LEAST_SCORE)), int(np.log2(LARGEST_SCORE)))]
    positive = np.concatenate([octave * (1.0 + np.arange(0.0, 1.0, dtype.eps)) for octave in octaves])
    return np.concatenate([positive, -positive])


def _reach(evidence: Evidence, dtype: Finfo) -> float:
    """The largest change of a non-negligible result by rounding to that dtype, including the rounding of logits."""
    largest = 1.0
    if evidence.logits is not None:
        seen = np.isfinite(evidence.logits) & np.isfinite(evidence.log_reference)
        largest += 2.0 * float(np.max(np.abs(evidence.logits), initial=0.0, where=seen))
    return dtype.eps * largest


def _flips(error: Array, predicted: Array) -> Any:
    step = 2.0 * np.max(np.abs(predicted))
    size = np.abs(error)
    return (size > 0.3 * step) & (size < 1.5 * step) & (np.abs(predicted) > 0.15 * step)


FAULTS = tuple(
    Fault(
        f"{dtype.name}-rounding",
        f"The candidate's values went through {dtype.name}, which keeps {digits} digits.",
        "float32",
        also_of_the_product(functools.partial(_rounded, dtype)),
        small=True,
    )
    for dtype, digits in ((BFLOAT16, "two"), (FLOAT16, "three"))
)
