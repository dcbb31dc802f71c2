"""`compare_tokens`: compares the log-probabilities of two engines.

It brings both sides to one form, has `judge` look for a cause, and computes the statistics. Knows neither how causes
are found nor how reports look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES, Finfo, finfo
from polylogit._spec.formulas import exp
from polylogit.errors import ComparisonError
from polylogit.porting._call import as_numpy, backend_of
from polylogit.porting._diagnosis.agreement import Precision
from polylogit.porting._tokens.evidence import Evidence, Noise
from polylogit.porting._tokens.judge import diagnose
from polylogit.porting._tokens.report import TokenComparison
from polylogit.porting._tokens.sides import Side, lattice_of, logsumexp, side_of

if TYPE_CHECKING:
    from polylogit._backends.base import Backend

    Array = np.ndarray[Any, Any]

__all__ = ["compare_tokens"]

# Differences up to this multiple of the allowed rounding, without a cause, are "beyond rounding"; larger ones are
# "different".
BEYOND = 8.0
# Noise has no bias of more than so many standard errors, and no outliers beyond so many times its size.
UNBIASED, PEAK_OVER_LEVEL = 5.0, 12.0
# The number of tokens needed to recognise noise, and the factor by which it may exceed that of 16 bits if no dtype was
# declared.
ENOUGH, LOOSELY = 8, 2.0
# The typical noise of 16 bits as a fraction of its worst case: a tenth or less, as measured.
TYPICAL = 0.17
_SIXTEEN_BITS = ("float16", "bfloat16")


def compare_tokens(
    reference: Any, candidate: Any, /, *, tokens: Any, mask: Any = None, dtype: str | None = None
) -> TokenComparison:
    """Compare the log-probabilities that two engines with the same weights compute for the same tokens.

    The engines may be, for example, an inference engine and a trainer. Either may be wrong: a cause names the side if
    the numbers show it.

    Parameters
    ----------
    reference, candidate : array or mapping
        Arrays of any framework. An array in the shape of `tokens` holds the log-probability of each token. An array
        with an additional last axis, of the size of the vocabulary, holds logits or log-probabilities, distinguished by
        the sums of the rows. A mapping ``{"ids": ..., "logprobs": ...}`` holds the top k, with a last axis of size k.
    tokens : array of int
        The chosen tokens, ``(batch, time)`` or ``(time,)``.
    mask : array of bool, optional
        The positions that count: leave out the prompt and the padding. By default all count.
    dtype : str, optional
        The coarsest dtype in which either engine computes, such as "bfloat16", if its numbers have a finer dtype. By
        default the coarser dtype of the numbers.

    Returns
    -------
    TokenComparison
        See its ``agrees``, ``verdict``, ``cause``, ``kl`` and ``effective_sample_size``.

    Raises
    ------
    ComparisonError
        For shapes that do not fit the tokens, tokens outside the vocabulary, and unknown dtypes.

    Notes
    -----
    There is no tolerance to set. Two engines agree if each difference is within the bound of log_softmax, once for each
    side, plus an allowance for the layers before the logits: 4e-6 of their size in float32, and six ulp in 16 bits.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(4, 16, 100)).astype("float32")
    >>> tokens = rng.integers(100, size=(4, 16))
    >>> hot = polylogit.log_softmax(logits / np.float32(0.7))
    >>> found = polylogit.porting.compare_tokens(logits, hot, tokens=tokens)
    >>> found.cause.name, round(found.cause.parameters["temperature"], 4)
    ('temperature', 0.7)
    """
    chosen = _tokens(tokens)
    counts = np.ones(chosen.shape, bool) if mask is None else _mask(mask, chosen.shape)
    given = [_given(one, what) for one, what in ((reference, "the reference"), (candidate, "the candidate"))]
    flat = counts.ravel()
    left, right = (
        side_of(one, chosen, flat, what) for one, what in zip(given, ("the reference", "the candidate"), strict=True)
    )
    unlisted = flat & ~(left.listed & right.listed)
    noise = Noise(_computed_in(left, right, dtype), _stored_in(left, right), _length(left, right, chosen[counts]))
    grid = chosen.reshape(1, -1) if chosen.ndim < 2 else chosen.reshape(-1, chosen.shape[-1])
    evidence = Evidence(left, right, grid, flat, noise, mask is not None)
    backend = backend_of(candidate["logprobs"] if isinstance(candidate, Mapping) else candidate)
    cause = diagnose(evidence, backend)
    verdict, hint = _verdict(evidence, cause, dtype)
    if verdict in ("beyond rounding", "inconclusive"):
        cause = None
    elif dtype is None and cause is not None and cause.name == "unknown":
        hint = _behind_16_bits(evidence, backend)
    return TokenComparison(
        verdict=verdict,
        times=evidence.raw.times,
        cause=cause,
        unlisted=_places(unlisted, chosen.shape),
        dtype=noise.dtype.name,
        hint=hint,
        **_positions(left, right, flat, chosen.shape),
        **_measures(evidence, chosen.shape),
    )


# --- what was given --------------------------------------------------------------------------------------------------


def _tokens(tokens: Any) -> Array:
    found = as_numpy(tokens, "tokens=")
    if found.dtype.kind not in "iu" or not found.ndim:
        message = (
            f"tokens= has the dtype {found.dtype} and the shape {found.shape}; pass the ids, integers, as an array."
        )
        raise ComparisonError(message)
    return found


def _mask(mask: Any, shape: tuple[int, ...]) -> Array:
    found = as_numpy(mask, "mask=")
    if found.shape != shape:
        message = (
            f"mask= has the shape {found.shape} and tokens= {shape}; pass one that says of each token if it counts."
        )
        raise ComparisonError(message)
    if found.dtype != bool and not np.isin(found, (0, 1)).all():
        message = f"mask= holds {found.min()} to {found.max()}; pass booleans or 0 and 1, where 1 counts."
        raise ComparisonError(message)
    return found.astype(bool)


def _given(side: Any, what: str) -> Array | tuple[Array, Array]:
    if not isinstance(side, Mapping):
        return _real(side, what)
    if set(side) == {"ids", "logprobs"}:
        ids = as_numpy(side["ids"], f"{what}'s ids")
        if ids.dtype.kind not in "iu":
            message = f"{what}'s ids have the dtype {ids.dtype}; pass integers."
            raise ComparisonError(message)
        return ids, _real(side["logprobs"], f"{what}'s logprobs")
    message = f'{what} is a mapping with {list(side)[:5]}; pass an array, or {{"ids": ..., "logprobs": ...}}.'
    raise ComparisonError(message)


def _real(values: Any, what: str) -> Array:
    found = as_numpy(values, what)
    if found.dtype.kind in "biu":
        message = f"{what} has the dtype {found.dtype}; pass log-probabilities or logits, in a floating dtype."
        raise ComparisonError(message)
    return found


def _computed_in(left: Side, right: Side, dtype: str | None) -> Finfo:
    """The coarser of the two dtypes: as declared, or as the numbers show, even if 16-bit ones were widened."""
    if dtype is not None:
        known = finfo(dtype)
        if known is None:
            message = f"dtype={dtype!r} is not known; pass one of {', '.join(DTYPES)}."
            raise ComparisonError(message)
        return known if known.name != "float64" else DTYPES["float32"]
    carried = [_carried(one) for one in (left, right)]
    names = [left.dtype, right.dtype, *(carried if all(carried) else ())]
    return Precision.of(*names).dtype


def _carried(side: Side) -> str:
    """The 16-bit dtype that can hold all logits or log-probabilities of a side; empty for none."""
    values = side.chosen if side.whole is None or side.form != "logits" else side.whole[:16]
    return lattice_of(values.astype(np.float64))


def _stored_in(left: Side, right: Side) -> Finfo:
    """The coarser dtype of the log-probabilities; those of logits are computed here, in float64."""
    given = [one.dtype for one in (left, right) if one.form != "logits"]
    return Precision.of(*given).dtype if given else DTYPES["float64"]


def _length(left: Side, right: Side, tokens: Array) -> int:
    """The size of the vocabulary, or a lower bound from the tokens."""
    widths = [one.whole.shape[1] for one in (left, right) if one.whole is not None]
    return max(widths, default=int(tokens.max(initial=0)) + 1)


# --- verdict ---------------------------------------------------------------------------------------------------------


def _verdict(evidence: Evidence, cause: Any, dtype: str | None) -> tuple[str, str]:
    counted = np.flatnonzero(evidence.compared)
    r, c = evidence.reference.chosen, evidence.candidate.chosen
    if not counted.size and not evidence.raw.counted:
        return "inconclusive", "no position counts: pass a mask with a True in it, or a top k that holds the tokens"
    if not counted.size:
        pass  # the top k share entries, if not the chosen tokens
    elif not np.isfinite(r[counted]).any() or not np.isfinite(c[counted]).any():
        if evidence.raw.times <= 1.0:
            return "inconclusive", "no token has a finite log-probability on either side"
    elif np.all(r[counted] == r[counted][0]) and np.all(c[counted] == r[counted][0]) and counted.size > 1:
        return (
            "inconclusive",
            "all log-probabilities are one number on both sides, so that they could not have differed",
        )
    if evidence.raw.times <= 1.0:
        return ("within rounding" if cause is None else "different"), ""
    if cause is not None and cause.name != "unknown":
        return "different", ""
    if evidence.raw.times <= BEYOND:
        return "beyond rounding", ""
    if dtype is None and (names := _noise_of_16_bits(evidence)):
        spelled = " or ".join(f'dtype="{name}"' for name in names)
        hint = (
            "the differences look like those of 16-bit arithmetic in the layers before the logits; if an engine "
            f"computes in it, pass {spelled}, otherwise something is wrong"
        )
        return "inconclusive", hint
    return "different", ""


def _noise_of_16_bits(evidence: Evidence) -> list[str]:
    """The 16-bit dtypes whose rounding would explain the differences, if those have no bias and no outliers."""
    if evidence.raw.level == np.inf:
        return []
    at = np.flatnonzero(evidence.compared)
    chosen = evidence.candidate.chosen[at] - evidence.reference.chosen[at]
    chosen = chosen[np.isfinite(chosen)]
    if chosen.size < ENOUGH or np.max(np.abs(chosen)) > PEAK_OVER_LEVEL * np.sqrt(np.mean(chosen**2)):
        return []
    if abs(np.mean(chosen)) > UNBIASED * np.std(chosen) / np.sqrt(chosen.size):
        return []
    found = []
    for name in _SIXTEEN_BITS:
        coarse = _judged_by(name, evidence)
        if coarse.raw.times <= LOOSELY and np.sqrt(np.mean(coarse.apart[at] ** 2)) <= TYPICAL:
            found.append(name)
    return found


def _judged_by(name: str, evidence: Evidence) -> Evidence:
    return dataclasses.replace(evidence, noise=evidence.noise._replace(dtype=DTYPES[name]))


def _behind_16_bits(evidence: Evidence, backend: Backend) -> str:
    """A hint at the cause if an engine computes in 16 bits without a declaration; empty if none is known."""
    for name in _SIXTEEN_BITS:
        cause = diagnose(_judged_by(name, evidence), backend)
        if cause is not None and cause.name != "unknown":
            return f'if an engine computes in {name}, the cause is {cause.name}: pass dtype="{name}"'
    return ""


# --- measures --------------------------------------------------------------------------------------------------------


def _places(where: Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, place)) for place in np.argwhere(where.reshape(shape)))


def _positions(left: Side, right: Side, counted: Array, shape: tuple[int, ...]) -> dict[str, Any]:
    named = {"reference": left, "candidate": right}
    outside = {name: _places(counted & np.isneginf(one.chosen), shape) for name, one in named.items()}
    invalid = {
        name: _places(counted & one.listed & (np.isnan(one.chosen) | np.isposinf(one.chosen)), shape)
        for name, one in named.items()
    }
    return {"outside": outside, "invalid": invalid}


def _measures(evidence: Evidence, shape: tuple[int, ...]) -> dict[str, Any]:
    r, c = evidence.reference.chosen, evidence.candidate.chosen
    with np.errstate(all="ignore"):
        good = evidence.compared & np.isfinite(r) & np.isfinite(c)
        d = np.where(good, c - r, np.nan)
    found = d[good]
    kl, method = _divergence(evidence, found, good)
    weights = exp(found)
    worst = int(np.argmax(evidence.apart)) if evidence.compared.any() else None
    if worst is not None and not np.isfinite(evidence.apart[worst]):
        gap = float(c[worst] - r[worst])
    else:
        gap = float(d[worst]) if worst is not None else np.nan
    with np.errstate(all="ignore"):
        effective = float(np.sum(weights) ** 2 / np.sum(weights**2) / found.size) if found.size else np.nan
    return {
        "mean": float(np.mean(found)) if found.size else np.nan,
        "mean_error": float(np.std(found, ddof=1) / np.sqrt(found.size)) if found.size > 1 else np.nan,
        "mean_absolute": float(np.mean(np.abs(found))) if found.size else np.nan,
        "worst": gap,
        "worst_position": None if worst is None else tuple(map(int, np.unravel_index(worst, shape))),
        "kl": kl,
        "kl_method": method,
        "weight_mean": float(np.mean(weights)) if found.size else np.nan,
        "weight_largest": float(np.max(weights)) if found.size else np.nan,
        "effective_sample_size": effective,
        "counted": int(evidence.compared.sum()),
        "reference": r.reshape(shape),
        "candidate": c.reshape(shape),
        "differences": d.reshape(shape),
    }


def _divergence(evidence: Evidence, d: Array, good: Array) -> tuple[float, str]:
    """The KL divergence: exact from whole rows, some megabytes at a time, or estimated from the chosen tokens."""
    left, right = evidence.reference, evidence.candidate
    if not (left.is_distribution and right.is_distribution and left.whole is not None):
        with np.errstate(all="ignore"):
            return (float(np.mean(np.expm1(d) - d)) if d.size else np.nan), "k3"
    at = np.flatnonzero(good)
    step = max(1, 2**20 // left.whole.shape[1])
    total = 0.0
    for start in range(0, at.size, step):
        r, c = (one.rows(at[start : start + step]) for one in (left, right))
        r, c = r - logsumexp(r), c - logsumexp(c)
        with np.errstate(all="ignore"):
            terms = exp(r) * (r - c)
        total += float(np.sum(np.where(np.isneginf(r), 0.0, terms)))
    return (max(0.0, total / at.size) if at.size else np.nan), "exact"
