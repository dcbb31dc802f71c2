"""The faults that make two engines with the same weights compute different log-probabilities.

Each predicts, from the data of one side, the data of the other. `judge` decides whether a prediction explains the
difference, by one rule for all. Knows no framework.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec.dtypes import DTYPES
from polylogit._spec.formulas import exp, log, log_softmax
from polylogit.porting._diagnosis.faults.fault import Fault
from polylogit.porting._tokens.sides import UNDO, lattice_of, logsumexp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polylogit._spec.dtypes import Finfo
    from polylogit.porting._tokens.evidence import Evidence, View

    Array = np.ndarray[Any, Any]

__all__ = ["FAULTS", "Prediction"]

SIDES = ("candidate", "reference")
OFFSETS = (1, -1, 2, -2)
# So many entries of whole rows tell sequences apart.
MOST_ENTRIES = 2**20
# Rows whose temperature is looked for roughly, and the temperatures tried.
_ROUGH = 2**18
_SMALLEST = 1e-4  # a temperature nearer to 1 is none
_FACTORS = np.exp(np.linspace(np.log(1 / 20.0), np.log(20.0), 25))
# Of this many entries at least, values that all lie on the numbers of a 16-bit dtype were rounded to it.
_TELLING = 6
# How far two engines' float32 logits are apart, relative to their size: nearer to the middle of two 16-bit numbers,
# they may be rounded to either.
_TIE = 8 * 2.0**-23


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Two sets of entries that agree if the fault happened."""

    expected: Array
    observed: Array
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    free: int = 0  # how many numbers were fitted
    positions: Array | None = None  # of the entries; None for those that are looked at


# --- other numbers than natural logarithms ---------------------------------------------------------------------------


def _undone(name: str, evidence: Evidence) -> Iterator[Prediction]:
    r, c = evidence.entries
    with np.errstate(all="ignore"):
        yield Prediction(r, UNDO[name](c), {"side": "candidate"})
        yield Prediction(UNDO[name](r), c, {"side": "reference"})


def _unnormalized(evidence: Evidence) -> Iterator[Prediction]:
    """The logit of the token, without the sum."""
    for view in evidence.views():
        if view.logits is not None and not view.whole:
            yield Prediction(view.pick(view.logits), view.observed, {"side": view.faulty})


# --- another distribution --------------------------------------------------------------------------------------------


def _temperature(evidence: Evidence) -> Iterator[Prediction]:
    for view in evidence.views():
        if view.rows.shape[1] < 2 or not len(view.rows):
            continue
        factor = _factor(view)
        if factor is None or abs(factor - 1.0) < _SMALLEST:
            continue
        temperature = 1.0 / factor if view.faulty == "candidate" else factor
        # A row that does not sum to one is not mended on the way.
        expected = view.pick(log_softmax(factor * view.rows, (-1,)) + logsumexp(view.rows))
        yield Prediction(expected, view.observed, {"temperature": temperature, "side": "candidate"}, free=1)


def _factor(view: View) -> float | None:
    """The factor of the logits: the nearest of a few, then by Newton's method."""
    few = max(8, _ROUGH // view.rows.shape[1])
    some = np.linspace(0, len(view.rows) - 1, min(few, len(view.rows))).astype(int)
    rough = view._replace(
        rows=view.rows[some],
        observed=view.observed[some],
        columns=None if view.columns is None else view.columns[some],
    )
    losses = [_loss(rough.pick(log_softmax(one * rough.rows, (-1,))), rough.observed) for one in _FACTORS]
    factor = float(_FACTORS[int(np.argmin(losses))])
    finite = np.where(np.isfinite(view.rows), view.rows, 0.0)
    with np.errstate(all="ignore"):
        for _ in range(8):
            scaled = log_softmax(factor * view.rows, (-1,))
            expected = view.pick(scaled)
            slope = view.pick(view.rows) - np.sum(exp(scaled) * finite, axis=-1, keepdims=True)
            weight = 1.0 / (1.0 + np.abs(view.observed)) ** 2
            good = np.isfinite(expected) & np.isfinite(view.observed) & np.isfinite(slope)
            power = float(np.sum((weight * slope * slope)[good]))
            if power <= 0.0:
                return None
            step = float(np.sum((weight * slope * (view.observed - expected))[good])) / power
            factor = float(np.clip(factor + step, factor / 2, factor * 2))
            if abs(step) < 1e-12 * factor:
                break
    return factor if np.isfinite(factor) and factor > 0 else None


def _loss(expected: Array, observed: Array) -> float:
    with np.errstate(all="ignore"):
        errors = np.abs((observed - expected) / (1.0 + np.abs(observed)))
    return float(np.mean(np.minimum(errors[np.isfinite(errors)], 10.0))) if np.isfinite(errors).any() else np.inf


def _truncated(evidence: Evidence) -> Iterator[Prediction]:
    """Normalised over only the likeliest tokens: higher by minus the logarithm of their mass, at each position."""
    for view in evidence.views():
        with np.errstate(all="ignore"):
            higher = (view.observed - view.pick(view.rows))[np.isfinite(view.observed)]
        if not higher.size or np.nanmedian(higher) < 0 or np.nanmin(higher) < -1e-2 * (1.0 + np.nanmax(higher)):
            continue
        yield from _seen_support(evidence, view)
        if not view.whole:
            yield from _inferred_support(evidence, view)


def _seen_support(evidence: Evidence, view: View) -> Iterator[Prediction]:
    """The other side shows which tokens it kept."""
    if not view.whole:
        return
    kept = np.isfinite(view.observed)
    if view.columns is not None and not view.sums:
        return
    if view.columns is None and np.array_equal(kept, np.isfinite(view.rows)):
        return
    mine = view.pick(view.rows)
    mass = logsumexp(np.where(kept, mine, -np.inf))
    sizes = kept.sum(axis=1)
    found: dict[str, Any] = {"side": view.faulty}
    if sizes.min() == sizes.max():
        found["rule"] = f"top-k with k = {int(sizes[0])}"
    else:
        rest = exp(mass) - exp(np.min(np.where(kept, mine, np.inf), axis=1, keepdims=True))
        found["rule"] = _top_p(float(rest.max()), float(exp(mass).min()), 1e-5)
    yield Prediction(np.where(kept, mine - mass, -np.inf), view.observed, found)


def _inferred_support(evidence: Evidence, view: View) -> Iterator[Prediction]:
    """The other side has only the chosen tokens: find the k, or the mass, that explains all positions."""
    order = np.sort(view.rows, axis=1)[:, ::-1]
    masses = np.cumsum(exp(order), axis=1)
    with np.errstate(all="ignore"):
        mine = view.pick(view.rows)[:, 0]
        rank = (view.rows > mine[:, None]).sum(axis=1)
        seen = np.isfinite(view.observed[:, 0]) & np.isfinite(mine)
        wanted = exp(mine - view.observed[:, 0])  # the mass that was kept
    if seen.sum() < 2:
        return
    inside = np.where(np.isfinite(mine), mine, -np.inf)
    # Top-k: one number of tokens for all positions.
    loss = np.zeros(masses.shape[1])
    for at in np.flatnonzero(seen):
        loss += np.minimum(np.abs(log(masses[at]) - log(wanted[at])), 1.0)
    size = int(np.argmin(loss)) + 1
    if size < masses.shape[1]:
        expected = np.where(rank < size, inside - log(masses[:, size - 1]), -np.inf)
        found = {"side": view.faulty, "rule": f"top-k with k = {size}"}
        yield Prediction(expected[:, None], view.observed, found, free=1)
    # Top-p: the fewest tokens whose mass reaches p.
    last = np.array([int(np.argmin(np.abs(masses[at] - wanted[at]))) for at in np.flatnonzero(seen)])
    some = masses[seen]
    reached = some[np.arange(len(last)), last]
    before = np.where(last > 0, some[np.arange(len(last)), np.maximum(last - 1, 0)], 0.0)
    near = 1e-5 + 4 * evidence.noise.dtype.eps
    low, high = float(before.max()), float(reached.min())
    if low > high + near:
        return
    kept = _kept(masses, (low + high) / 2 if low < high else high, near, wanted)
    expected = np.where(rank <= kept, inside - log(masses[np.arange(len(kept)), kept]), -np.inf)
    found = {"side": view.faulty, "rule": _top_p(low, high, near)}
    yield Prediction(expected[:, None], view.observed, found, free=1)


def _kept(masses: Array, p: float, near: float, wanted: Array) -> Array:
    """The last token kept at each position; if the mass is within rounding of p, the one that the numbers show."""
    last: Array = np.minimum((masses < p).sum(axis=1), masses.shape[1] - 1)
    at = np.arange(len(last))
    for other in (np.minimum(last + 1, masses.shape[1] - 1), np.maximum(last - 1, 0)):
        between = masses[at, np.minimum(last, other)]
        doubtful = (np.abs(between - p) < near) & np.isfinite(wanted)
        better = np.abs(masses[at, other] - wanted) < np.abs(masses[at, last] - wanted)
        last = np.where(doubtful & better, other, last)
    return last


def _top_p(low: float, high: float, near: float) -> str:
    """The simplest number above `low` and up to `high`, both as uncertain as `near`."""
    for digits in range(1, 7):
        found = round(high, digits)
        found = found if found <= high + near else round(found - 10.0**-digits, digits)
        if low - near < found <= high + near:
            return f"top-p with p = {found:g}"
    return f"top-p with p between {low:.6g} and {high:.6g}"


def _further_term(faulty: str, evidence: Evidence) -> Iterator[Prediction]:
    """One more term in the denominator: a sink, or columns that are not tokens."""
    r, c = evidence.entries
    if evidence.of(faulty).form in ("partial", "log-probs"):
        sums = logsumexp(evidence.rows(faulty))
        if np.mean(sums < -_SMALLEST) >= 0.9:
            parameters = {"term": "", "mass": float(np.median(1.0 - exp(sums)))}
            expected, observed = (r, c - sums) if faulty == "candidate" else (r - sums, c)
            yield Prediction(expected, observed, parameters)
    for view in evidence.views():
        if view.faulty != faulty or view.logits is None:
            continue
        sums = logsumexp(view.logits)
        mine = view.pick(view.rows)
        with np.errstate(all="ignore"):
            terms = sums + log(np.expm1(mine - view.observed))
        good = np.isfinite(terms)
        if good.sum() < 3 or np.std(sums) < 1e-3:  # where all sums are alike, it is a constant and says nothing
            continue
        # Where the term is a large part of the sum, it is known best.
        weight = np.where(good, np.abs(mine - view.observed) / (1.0 + np.abs(mine)), 0.0)
        best = weight >= 0.5 * weight.max()
        term = float(np.median(terms[good & best]))
        expected = mine - np.logaddexp(0.0, term - sums)
        share = float(np.median(exp(term - np.logaddexp(sums, term))))
        yield Prediction(expected, view.observed, {"term": _as_logits(term), "mass": share}, free=1)


def _as_logits(term: float) -> str:
    """A term in words: as one logit, or as several logits of 0, like padded columns."""
    count = float(np.exp(min(term, 50.0)))
    if count > 1.5 and abs(count - round(count)) < 1e-3 * count:
        return f", as of {round(count)} logits of 0"
    return f", as of a logit of {term:.5g}"


# --- 16 bits ---------------------------------------------------------------------------------------------------------


def _rounded_logits(evidence: Evidence) -> Iterator[Prediction]:
    for view in evidence.views():
        if view.logits is None:
            continue
        for name in ("bfloat16", "float16"):
            if not np.array_equal(DTYPES[name].round(view.logits), view.logits):
                expected, doubt = _after_rounding(view, view.logits, DTYPES[name])
                yield _within(expected, view.observed, doubt, {"dtype": name, "side": view.faulty})
    yield from _logits_on_a_lattice(evidence)


def _after_rounding(view: View, logits: Array, dtype: Finfo) -> tuple[Array, Array]:
    """The other side's values from rounded logits, with the uncertainty if logits lie between two numbers."""
    rounded = dtype.round(logits)
    rows = log_softmax(rounded, (-1,))
    step = dtype.ulp(logits)
    size = np.abs(np.where(np.isfinite(logits), logits, 0.0))
    near = _TIE * (1.0 + size + size.max(axis=1, keepdims=True))
    tied = np.where(np.abs(np.abs(logits - rounded) - 0.5 * step) < near, step, 0.0)
    return view.pick(rows), view.pick(tied) + np.sum(exp(rows) * tied, axis=-1, keepdims=True)


def _logits_on_a_lattice(evidence: Evidence) -> Iterator[Prediction]:
    """One side has logits that are 16-bit numbers, and the other is within that rounding."""
    r, c = evidence.entries
    for faulty, other in (("candidate", "reference"), ("reference", "candidate")):
        logits = evidence.of(faulty).logits(evidence.positions)
        if logits is None or evidence.of(other).form == "logits":
            continue
        name = lattice_of(logits[:: max(1, len(logits) // 16)])
        if not name:
            continue
        half = 0.5 * DTYPES[name].ulp(logits)
        mean = np.sum(exp(log_softmax(logits, (-1,))) * half, axis=-1, keepdims=True)
        own = half if r.shape == half.shape else np.take_along_axis(half, evidence.chosen_ids[:, None], axis=1)
        if own.shape == r.shape:
            yield _within(r, c, own + mean, {"dtype": name, "side": faulty})


def _within(r: Array, c: Array, allowed: Array, parameters: dict[str, Any]) -> Prediction:
    """The tolerance within which a difference is explained."""
    with np.errstate(all="ignore"):
        return Prediction(r, c - np.clip(c - r, -allowed, allowed), parameters)


def _rounded_results(evidence: Evidence) -> Iterator[Prediction]:
    """Log-probabilities, or the probabilities that they are the logarithms of, that are 16-bit numbers."""
    r, c = evidence.entries
    for faulty, here, there in (("candidate", c, r), ("reference", r, c)):
        good = np.isfinite(here) & np.isfinite(there)
        if good.sum() < _TELLING:
            continue
        name = lattice_of(here[good])
        if name and not lattice_of(there[good]):
            ulp = DTYPES[name].ulp(np.where(good, here, 1.0))
            found = {"dtype": name, "side": faulty, "values": "log-probabilities"}
            # Of arithmetic in 16 bits all along, two; how the values lie is what tells.
            yield _within(r, c, 2.0 * ulp, found)
            for view in evidence.views():
                if view.faulty == faulty and view.logits is not None:  # the logits too
                    expected, doubt = _after_rounding(view, view.logits, DTYPES[name])
                    yield _within(expected, view.observed, doubt + 2.0 * ulp, found)
        for dtype in (DTYPES["bfloat16"], DTYPES["float16"]):
            if _are_rounded(exp(here[good]), dtype) and not _are_rounded(exp(there[good]), dtype):
                p = exp(np.where(good, there, 0.0))
                lost = 1.01 * dtype.ulp(p) / np.maximum(p, dtype.smallest_subnormal)
                # What is too small for the dtype became 0.
                flushed = np.isneginf(here) & (exp(there) < 2 * dtype.smallest_normal)
                left, right = (np.where(flushed, -np.inf, one) for one in (r, c))
                yield _within(left, right, lost, {"dtype": dtype.name, "side": faulty, "values": "probabilities"})
                break


def _are_rounded(p: Array, dtype: Finfo) -> bool:
    """Whether these are numbers of the dtype, up to the error of a logarithm in float32."""
    p = p[(p > dtype.smallest_normal) & (p < 1.0)]
    p = p[np.abs(p / (8 * dtype.ulp(p)) - np.round(p / (8 * dtype.ulp(p)))) > 1e-3]  # on no coarser lattice
    if p.size < _TELLING:
        return False
    return bool(np.all(np.abs(dtype.round(p) - p) <= 2.0**-6 * dtype.ulp(p)))


# --- other positions -------------------------------------------------------------------------------------------------


def _moved(evidence: Evidence, origin: Array, found: dict[str, Any]) -> Iterator[Prediction]:
    """The candidate has at each position the reference's value at `origin`, or none for -1.

    Its numbers may have been moved, or the rows of logits from which the token is picked, or the tokens.
    """
    at = evidence.positions
    there = origin[at]
    usable = (there >= 0) & evidence.counted[np.maximum(there, 0)]
    if usable.sum() < max(3, 0.3 * at.size):
        return
    at, there = at[usable], there[usable]
    r, c, ids = evidence.reference, evidence.candidate, evidence.tokens.ravel()
    if r.whole is not None and c.whole is not None:
        yield Prediction(r.rows(there), c.rows(at), found | {"values": "rows"}, positions=at)
        return
    yield Prediction(r.chosen[there], c.chosen[at], found | {"values": "log-probabilities"}, positions=at)
    if r.is_distribution:
        yield Prediction(_pick(r.rows(there), ids[at]), c.chosen[at], found | {"values": "logits"}, positions=at)
        yield Prediction(_pick(r.rows(at), ids[there]), c.chosen[at], found | {"values": "tokens"}, positions=at)
    if c.is_distribution:
        yield Prediction(r.chosen[there], _pick(c.rows(at), ids[there]), found | {"values": "logits"}, positions=at)


def _pick(rows: Array, ids: Array) -> Array:
    known = (ids >= 0) & (ids < rows.shape[1])
    return np.where(known, rows[np.arange(len(rows)), np.where(known, ids, 0)], np.nan)


def _offset(evidence: Evidence) -> Iterator[Prediction]:
    batch, time = evidence.tokens.shape
    grid = np.arange(batch * time).reshape(batch, time)
    for offset in OFFSETS:
        if time <= abs(offset) + 1:
            continue
        origin = np.full((batch, time), -1)
        if offset > 0:
            origin[:, :-offset] = grid[:, offset:]
        else:
            origin[:, -offset:] = grid[:, :offset]
        way = f"{abs(offset)} position{'s' if abs(offset) > 1 else ''} {'later' if offset > 0 else 'earlier'}"
        yield from _moved(evidence, origin.ravel(), {"offset": offset, "way": way})


def _permuted(evidence: Evidence) -> Iterator[Prediction]:
    """The sequences of the batch are in another order: each is nearest to exactly one."""
    batch, time = evidence.tokens.shape
    if not 2 <= batch <= 1024:
        return
    some = slice(None, None, max(1, time // 32))
    marks = [_marks(evidence, side)[:, some] for side in ("reference", "candidate")]
    yield from _in_order(evidence, [np.abs(marks[0] - marks[1][here]).mean(axis=2) for here in range(batch)], some)
    # Or rows of logits in another order, from which the tokens are picked that are not theirs.
    for side, other in ((evidence.reference, evidence.candidate), (evidence.candidate, evidence.reference)):
        if not side.is_distribution or side.whole is None or other.whole is not None:
            continue
        some = slice(None, None, -(-time // max(4, MOST_ENTRIES // (batch * side.whole.shape[1]))))
        grid = np.arange(batch * time).reshape(batch, time)[:, some]
        rows = side.rows(grid.ravel()).reshape(*grid.shape, -1)
        ids = np.clip(evidence.tokens[:, some], 0, side.whole.shape[1] - 1)
        chosen = other.chosen.reshape(batch, time)[:, some]
        if side is evidence.reference:
            picked = [np.take_along_axis(rows, one[None, :, None], axis=2)[:, :, 0] for one in ids]
            yield from _in_order(evidence, [np.abs(one - chosen[here]) for here, one in enumerate(picked)], some)
        else:
            picked = [np.take_along_axis(one[None], ids[:, :, None], axis=2)[:, :, 0] for one in rows]
            yield from _in_order(evidence, [np.abs(one - chosen) for one in picked], some)


def _in_order(evidence: Evidence, differences: list[Array], some: slice) -> Iterator[Prediction]:
    """The prediction in which each sequence takes the place of the one that it differs from least, by position."""
    batch, time = evidence.tokens.shape
    counted = evidence.counted.reshape(batch, time)[:, some]
    order = []
    for here, difference in enumerate(differences):
        good = counted[here] & counted & np.isfinite(difference)
        costs = np.where(good, np.minimum(difference, 100.0), 0.0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
        order.append(int(np.argmin(np.where(good.any(axis=1), costs, np.inf))))
    if sorted(order) != list(range(batch)) or order == list(range(batch)):
        return
    origin = (np.asarray(order)[:, None] * time + np.arange(time)).ravel()
    shown = ", ".join(map(str, order[:12])) + (", ..." if batch > 12 else "")
    yield from _moved(evidence, origin, {"order_of_sequences": order, "shown": shown})


def _marks(evidence: Evidence, side: str) -> Array:
    """The marks that identify a position: a few entries of whole rows, or the chosen log-probability."""
    one = evidence.of(side)
    shape = evidence.tokens.shape
    if evidence.reference.whole is not None and evidence.candidate.whole is not None:
        whole = evidence.of(side).whole
        assert whole is not None
        some = np.linspace(0, whole.shape[1] - 1, min(8, whole.shape[1])).astype(int)
        values = whole[:, some].astype(np.float64)
        return np.asarray((values - values[:, :1]).reshape(*shape, -1))
    return np.asarray(one.chosen.reshape(*shape, 1))


def _strided(evidence: Evidence) -> Iterator[Prediction]:
    """A transposed buffer that was read in memory order."""
    batch, time = evidence.tokens.shape
    if batch < 2 or time < 2:
        return
    grid = np.arange(batch * time).reshape(batch, time)
    yield from _moved(evidence, grid.T.ravel(), {})
    yield from _moved(evidence, grid.reshape(time, batch).T.ravel(), {})


# --- positions that should not count ---------------------------------------------------------------------------------


def _left_out(name: str, evidence: Evidence) -> Iterator[Prediction]:
    """Whether all differences are at the ends of sequences, where one side has blanks or the tokens are all equal."""
    shape = evidence.tokens.shape
    counted = evidence.counted.reshape(shape)
    differs = (evidence.apart > 1.0).reshape(shape)
    if not differs.any():
        return
    for side in SIDES:
        blank = _blank(evidence.of(side).chosen.reshape(shape), differs)
        for lead in (False, True):
            run = _run(blank | ~counted, lead=lead) & counted
            if (run & differs).any():
                other = "reference" if side == "candidate" else "candidate"
                prompt = lead and not _same_tokens(evidence.tokens, run)
                if ("prompt-included" if prompt else "padding-counted") == name:
                    yield _without(evidence, run & differs, {"side": other})
    if name == "padding-counted":
        for lead in (False, True):
            token = evidence.tokens[:, :1] if lead else evidence.tokens[:, -1:]
            run = _run((evidence.tokens == token) | ~counted, lead=lead) & counted
            run &= run.sum(axis=1, keepdims=True) > 1
            if (run & differs).any():
                yield _without(evidence, run, {"side": "candidate"})


def _blank(values: Array, differs: Array) -> Array:
    """The positions at which a side holds a blank: 0, NaN, infinities, or one number wherever it differs."""
    found = ~np.isfinite(values) | (values == 0.0)
    shown = values[differs & np.isfinite(values)]
    if shown.size > 2 and np.all(shown == shown[0]):
        found |= values == shown[0]
    return np.asarray(found)


def _run(blank: Array, *, lead: bool) -> Array:
    """The blanks at the beginning, or the end, of each row."""
    laid = blank if lead else blank[:, ::-1]
    run = np.logical_and.accumulate(laid, axis=1)
    return run if lead else run[:, ::-1]


def _same_tokens(tokens: Array, run: Array) -> bool:
    return bool(np.unique(tokens[run]).size == 1)


def _without(evidence: Evidence, excluded: Array, parameters: dict[str, Any]) -> Prediction:
    keep = ~excluded.ravel()[evidence.positions]
    r, c = (one[keep] for one in evidence.entries)
    return Prediction(r, c, parameters | {"count": int(excluded.sum())}, positions=evidence.positions[keep])


FAULTS = (
    Fault(
        "base-2",
        "The {side}'s logarithms are to the base 2: its values are 1/ln 2 times the natural ones.",
        "logprobs = logprobs * math.log(2)",
        functools.partial(_undone, "base-2"),
    ),
    Fault(
        "sign",
        "The {side} gives negative log-probabilities, the loss of each token.",
        "logprobs = -loss",
        functools.partial(_undone, "sign"),
    ),
    Fault(
        "probabilities",
        "The {side} gives probabilities and not their logarithms.",
        "logprobs = log_softmax(logits)",
        functools.partial(_undone, "probabilities"),
    ),
    Fault(
        "missing-log-softmax",
        "The {side} gives the token's logit, which is not normalised.",
        "logprobs = log_softmax(logits)",
        _unnormalized,
        dominates=("extra-sink", "missing-sink"),
    ),
    Fault(
        "temperature",
        "The candidate's logits are divided by a temperature {temperature:.6g} times the reference's.",
        "logits = logits * {temperature:.6g}  # in the candidate, or divide the reference's by it",
        _temperature,
    ),
    Fault(
        "truncated-support",
        "The {side}'s log-probabilities are normalised over the likeliest tokens alone ({rule}), so that each is "
        "higher by -log of their mass.",
        "logprobs = log_softmax(logits)  # before top-k and top-p are applied",
        _truncated,
    ),
    Fault(
        "missing-sink",
        "The reference has one more term in the denominator (an attention sink, or columns that are no tokens){term}, "
        "which takes {mass:.3g} of the mass; the candidate does not.",
        "logprobs = logits - logaddexp(logsumexp(logits), sink)",
        functools.partial(_further_term, "reference"),
    ),
    Fault(
        "extra-sink",
        "The candidate has one more term in the denominator (an attention sink, or columns that are no tokens){term}, "
        "which takes {mass:.3g} of the mass; the reference does not.",
        "logprobs = log_softmax(logits[..., :vocabulary])",
        functools.partial(_further_term, "candidate"),
    ),
    Fault(
        "16-bit-logits",
        "The {side}'s logits were rounded to {dtype} before log_softmax.",
        "logits = logits.float()  # the product that makes them too",
        _rounded_logits,
        small=True,
    ),
    Fault(
        "16-bit-softmax",
        "The {side}'s {values} were rounded to {dtype}.",
        "logprobs = log_softmax(logits.float())",
        _rounded_results,
        dominates=("16-bit-logits",),
        small=True,
    ),
    Fault(
        "position-offset",
        "The candidate has at each position what the reference has {way} ({values}).",
        "logits[:, :-1] score tokens[:, 1:]",
        _offset,
    ),
    Fault(
        "batch-permutation",
        "The candidate's sequences are in another order: its sequences are the reference's {shown}.",
        "sort both sides by the request's id",
        _permuted,
    ),
    Fault(
        "non-contiguous",
        "The candidate's {values} are read in the wrong order: a transposed buffer taken for one that is in order.",
        "logits = logits.contiguous()",
        _strided,
        dominates=("batch-permutation",),
    ),
    Fault(
        "padding-counted",
        "The {count} positions that differ are padding at the ends of sequences; only the {side} gives them numbers "
        "that count.",
        "compare_tokens(..., mask=attention_mask)",
        functools.partial(_left_out, "padding-counted"),
    ),
    Fault(
        "prompt-included",
        "The {count} positions that differ are at the beginning of sequences, the prompt; only the {side} scores them.",
        "compare_tokens(..., mask=completion_mask)",
        functools.partial(_left_out, "prompt-included"),
    ),
)
