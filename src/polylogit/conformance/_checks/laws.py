"""Checks of laws that the operations keep: each compares results with each other rather than with exact values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import polylogit
from polylogit._spec import bounds
from polylogit._spec.exact import Elements, Rows, exact
from polylogit.conformance._case import Case, slug
from polylogit.conformance._compare import Comparison
from polylogit.conformance._implementation import Implementation
from polylogit.conformance._request import Request
from polylogit.conformance._run_case import less_accurate, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._case import Setting

    Law = Callable[[Setting, Array, Array], tuple[Array, Array]]


def laws(setting: Setting) -> Iterator[Case]:
    """Identities: rows sum to one, a shift or a permutation changes nothing else, exp(log_softmax) is softmax."""
    for name in setting.operation.laws:
        for n in setting.budget("laws"):
            rng = setting.rng("laws", name, n)
            x = np.stack([3.0 * rng.normal(size=n), rng.normal(size=n) - 50.0, 10.0 * rng.normal(size=n)])
            arguments = (name, setting.padded(setting.dtype.round(x)), rng.permutation(n))
            yield Case(f"{slug(name)}-n{n}", behaviour=_kept, arguments=arguments)


class _NoAnswerError(Exception):
    """The implementation raised an error, which the comparison reports."""

    def __init__(self, found: Comparison) -> None:
        self.found = found


def _kept(setting: Setting, name: str, x: Array, order: Array) -> Comparison:
    try:
        off, bound = LAWS[name](setting, x, order)
    except _NoAnswerError as no:
        return no.found
    with np.errstate(all="ignore"):
        ratio = np.where(off == 0, 0.0, np.abs(off) / bound)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    found = Comparison(error=float(ratio.max(initial=0.0)), cases=int(ratio.size), length=x.shape[-1])
    if found.error is not None and found.error > 1.0:
        row = int(np.argmax(ratio.max(-1)))
        inputs = x if len(off) == len(x) else _pairs(x)  # a law may put the logits in rows of its own
        found.verdict = "failed"
        found.message = f"broken in row {row} by {found.error:.3g} times what the bounds allow"
        found.details = {"row": row, "inputs": [float(v) for v in inputs[row][:16]], "off": float(np.abs(off).max())}
        found.lost = not np.isfinite(off).all()
    return less_accurate(setting, found)


def _results(setting: Setting, x: Array) -> Array:
    answer = setting.implementation.ask(Request(x, setting.dtype.name))
    bad = unusable(setting, answer, x.shape, setting.dtype)
    if bad is not None:
        raise _NoAnswerError(bad)
    return np.asarray(answer.values)


def _bound(setting: Setting, x: Array) -> Array:
    dtype = setting.judged_in(setting.dtype)
    found = exact(setting.operation.exact, x, dtype)
    return np.asarray(setting.operation.bound(found, dtype)) + bounds.flushable(dtype)


def _sum(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    off = _results(setting, x).sum(-1, keepdims=True) - 1.0
    return off, bounds.row_sum(exact(Rows, x, setting.dtype), setting.judged_in(setting.dtype))


def _sum_of_exponentials(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    off = np.exp(_results(setting, x)).sum(-1, keepdims=True) - 1.0
    found = exact(Rows, x, setting.dtype)
    slack = (found.probabilities.hi * _bound(setting, x)).sum(-1, keepdims=True)
    return off, 1.5 * slack + 1e-13


def _shift(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    # In whole numbers, or what the dtype has of them there, so that the shifted logits are the same ones exactly.
    step = max(1.0, float(setting.dtype.ulp(np.abs(x).max(initial=0.0) + 64.0)))
    whole = step * np.round(x / step)
    return _results(setting, whole + 64.0) - _results(setting, whole), 2.0 * _bound(setting, whole)


def _order(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    rising = np.sort(x, axis=-1)
    y, bound = _results(setting, rising), _bound(setting, rising)
    return np.minimum(np.diff(y, axis=-1), 0.0), bound[..., 1:] + bound[..., :-1]


def _permutation(setting: Setting, x: Array, order: Array) -> tuple[Array, Array]:
    off = _results(setting, x)[..., order] - _results(setting, x[..., order])
    return off, 2.0 * _bound(setting, x)[..., order]


def _reflection(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    off = _results(setting, x) + _results(setting, -x) - 1.0
    return off, _bound(setting, x) + _bound(setting, -x) + setting.dtype.eps


def _pairs(x: Array) -> Array:
    """Single logits, each paired with a 0."""
    return np.stack([x.ravel()[:40], np.zeros(min(40, x.size))], axis=-1)


def _two_entries(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    pairs = _pairs(x)
    right = exact(Elements, pairs[:, :1], setting.dtype).probabilities.hi
    return _results(setting, pairs)[:, :1] - right, _bound(setting, pairs)[:, :1]


def _exp_of_log(setting: Setting, x: Array, _: Array) -> tuple[Array, Array]:
    # Of a backend its own log_softmax; of a user's softmax the exact one.
    dtype, implementation = setting.dtype, setting.implementation
    found = exact(Rows, x, dtype)
    logs, eps = found.log_probabilities.hi, 0.0
    if isinstance(implementation, Implementation) and not setting.is_kernel:
        logs = implementation.host(polylogit.log_softmax(implementation.array(x, dtype.name)))
        eps = dtype.eps * (2.0 + np.log2(max(2, x.shape[-1])))
    slack = found.probabilities.hi * eps * (1.0 + np.abs(found.log_probabilities.hi))
    return np.exp(logs) - _results(setting, x), 1.5 * slack + _bound(setting, x) + 1e-300


LAWS: dict[str, Law] = {
    "rows sum to one": _sum,
    "exponentials sum to one": _sum_of_exponentials,
    "shift": _shift,
    "order": _order,
    "permutation": _permutation,
    "reflection": _reflection,
    "two entries are a sigmoid": _two_entries,
    "exp of log_softmax": _exp_of_log,
}
