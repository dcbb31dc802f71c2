"""Laws that the operations keep, whatever the exact values: each compares results of the subject with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import polylogit
from polylogit.conformance.checks.values import together
from polylogit.conformance.context import Trial
from polylogit.conformance.judge import Outcome
from polylogit.spec import bounds
from polylogit.spec.exact import Elements, Rows, exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance.context import Context
    from polylogit.spec.dtypes import Array

__all__ = ["LAWS", "laws"]


def laws(context: Context) -> Iterator[Trial]:
    """Each law of the operation's entry in the table."""
    for name in context.operation.laws:
        for n in (
            (2, 3, 17, 129, 1000)
            if not context.costly
            else ()
            if context.hasty and context.light
            else (33,)
            if context.light or context.hasty
            else (2, 1000)
        ):
            rng = context.rng("laws", name, n)
            x = context.dtype.round(
                np.stack([3.0 * rng.normal(size=n), rng.normal(size=n) - 50.0, 10.0 * rng.normal(size=n)])
            )
            x = together(context, x)
            yield Trial(
                f"{name.replace(' ', '-')}-n{n}",
                lambda name=name, x=x, rng=rng: _kept(context, LAWS[name], x, rng),  # type: ignore[misc]
            )


class _NoAnswerError(Exception):
    """The subject raised; the outcome says so."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _kept(context: Context, law: Callable[..., tuple[Array, Array]], x: Array, rng: np.random.Generator) -> Outcome:
    try:
        off, bound = law(context, x, rng)
    except _NoAnswerError as no:
        return no.outcome
    with np.errstate(all="ignore"):
        ratio = np.where(off == 0, 0.0, np.abs(off) / bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    worst = float(ratio.max(initial=0.0))
    outcome = Outcome(error=worst, cases=int(ratio.size), length=x.shape[-1])
    if worst > 1.0:
        row = int(np.argmax(ratio.max(-1)))
        outcome.verdict = "failed"
        outcome.message = f"broken in row {row} by {worst:.3g} times what the bounds allow"
        outcome.details = {"row": row, "inputs": [float(v) for v in x[row][:16]], "off": float(np.abs(off).max())}
    return outcome


def _results(context: Context, x: Array) -> Array:
    answer = context.subject.answer(context.subject.array(x, context.dtype.name))
    bad = context.unusable(answer, x.shape, context.dtype, optional=False)
    if bad is not None:
        raise _NoAnswerError(bad)
    return np.asarray(answer.values)


def _bound(context: Context, x: Array) -> Array:
    found = exact(context.operation.exact, x, context.dtype)
    return np.asarray(context.operation.bound(found, context.dtype)) + bounds.flushable(context.dtype)


def _sum(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    y = _results(context, x)
    return y.sum(-1, keepdims=True) - 1.0, bounds.row_sum(exact(Rows, x, context.dtype), context.dtype)


def _sum_of_exponentials(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    r = _results(context, x)
    found = exact(Rows, x, context.dtype)
    slack = (found.probabilities.hi * context.operation.bound(found, context.dtype)).sum(-1, keepdims=True)
    return np.exp(r).sum(-1, keepdims=True) - 1.0, 1.5 * slack + 1e-13


def _shift(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    # In whole numbers, or what the format has of them there, so that the shifted logits are the same ones exactly.
    step = max(1.0, float(context.dtype.ulp(np.abs(x).max(initial=0.0) + 64.0)))
    whole = step * np.round(x / step)
    return _results(context, whole + 64.0) - _results(context, whole), 2.0 * _bound(context, whole)


def _order(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    rising = np.sort(x, axis=-1)
    y = _results(context, rising)
    bound = _bound(context, rising)
    return np.minimum(np.diff(y, axis=-1), 0.0), bound[..., 1:] + bound[..., :-1]


def _permutation(context: Context, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    order = rng.permutation(x.shape[-1])
    return _results(context, x)[..., order] - _results(context, x[..., order]), 2.0 * _bound(context, x)[..., order]


def _reflection(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    return _results(context, x) + _results(context, -x) - 1.0, _bound(context, x) + _bound(
        context, -x
    ) + context.dtype.eps


def _two_entries(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    pairs = np.stack([x.ravel()[:40], np.zeros(min(40, x.size))], axis=-1)
    y = _results(context, pairs)
    right = exact(Elements, pairs[:, :1], context.dtype).probabilities.hi
    return y[:, :1] - right, _bound(context, pairs)[:, :1]


def _exp_of_log(context: Context, x: Array, _: Any) -> tuple[Array, Array]:
    # Of a backend its own log_softmax; of someone's own softmax the exact one.
    found = exact(Rows, x, context.dtype)
    logs, eps = found.log_probabilities.hi, 0.0
    if not context.subject.own:
        logs = context.subject.host(polylogit.log_softmax(context.subject.array(x, context.dtype.name)))
        eps = context.dtype.eps * (2.0 + np.log2(max(2, x.shape[-1])))
    slack = found.probabilities.hi * eps * (1.0 + np.abs(found.log_probabilities.hi))
    return np.exp(logs) - _results(context, x), 1.5 * slack + _bound(context, x) + 1e-300


LAWS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "rows sum to one": _sum,
    "exponentials sum to one": _sum_of_exponentials,
    "shift": _shift,
    "order": _order,
    "permutation": _permutation,
    "reflection": _reflection,
    "two entries are a sigmoid": _two_entries,
    "exp of log_softmax": _exp_of_log,
}
