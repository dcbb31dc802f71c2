"""`compare`: compares two outputs, two sets of named activations or two callables.

It turns both sides into aligned NumPy arrays, has `_diagnosis` judge each pair, and collects the verdicts. Knows
nothing of how causes are found, and of reports only their class.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._progress import say, steps
from polylogit._spec.dtypes import finfo
from polylogit.errors import ComparisonError
from polylogit.porting._align import align
from polylogit.porting._alike import alike, can_correspond
from polylogit.porting._call import Called, as_numpy, backend_of, call
from polylogit.porting._diagnosis.agreement import Agreement, Precision, residual
from polylogit.porting._diagnosis.evidence import Evidence, Layer
from polylogit.porting._diagnosis.gradients import GradientEvidence
from polylogit.porting._diagnosis.judge import diagnose, diagnose_gradient
from polylogit.porting._diagnosis.pieces import PIECE, pieces, wide
from polylogit.porting._diagnosis.verdict import Diagnosis, Verdict
from polylogit.porting._exact import Noise, in_training, narrow_of, noise_of
from polylogit.porting._names import is_output
from polylogit.porting._report import Comparison
from polylogit.porting._results import DRAWN, FEW, Activation
from polylogit.porting._rows import worst_rows

if TYPE_CHECKING:
    from collections.abc import Collection

    from polylogit._backends.base import Backend
    from polylogit.porting._results import Again

    Array = np.ndarray[Any, Any]

__all__ = ["compare"]

# The first or last words of the names of gradients.
GRADIENT_WORDS = ("grad", "gradient", "gradients", "cotangent")
_SIDES = ("the reference", "the candidate")
# What to do about a difference of unknown cause: models were called?, several pairs were compared? -> advice.
_ADVICE = {
    (False, False): (
        "compare recorded activations, or the models with inputs=: the first that differs is nearest to the fault"
    ),
    (False, True): (
        "look at what computes the first that differs, or compare the models with inputs=, which measures noise"
    ),
    (True, False): "compare record(original) with record(port), or isolate them (--isolate), which places the fault",
    (True, True): (
        "look at what computes the first that differs, or isolate the models (--isolate): each module by itself"
    ),
}
# How many activations back the input of the next one is looked for.
EARLIER = 16


def compare(
    reference: Any,
    candidate: Any,
    /,
    *,
    inputs: Any = None,
    cotangent: Any = None,
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare a port with its original, and name the mistake if they differ.

    Parameters
    ----------
    reference, candidate : array, mapping or callable
        The original and the port, of any frameworks: two outputs; two ordered mappings from names to activations, as
        `polylogit.porting.record` returns them; or two callables that return either.
    inputs : array, tuple or dict, optional
        For callables: a single input, a tuple of positional arguments, or a dict of keyword arguments. Each callable
        gets them as arrays of its own framework.
    cotangent : array or number, optional
        For callables: also compare the gradients of ``sum(output * cotangent)`` with respect to the first
        floating-point input, positional or by keyword.
    names : mapping of str to str, optional
        The candidate's names for activations that the reference names differently. In a pattern such as
        ``{"h.*": "block_*"}``, each ``*`` stands for one run of characters. Other activations are paired by equal
        names, softmax calls by their numbers, and if few names agree, by order and shape, provided that is unambiguous.
        Activations without a counterpart are listed in ``unmatched``. Inputs of modules are compared only if they are
        named here, except those of the first differing module if its own values reveal no cause.

    Returns
    -------
    Comparison
        See its ``agrees``, ``cause`` and ``first_divergence``.

    Raises
    ------
    ComparisonError
        If a name does not exist, nothing can be paired, a single pair has shapes that cannot correspond, or a callable
        raises an error.

    Notes
    -----
    Causes are looked for only in the first four activations that differ; whatever is computed from them differs, too.

    There is no tolerance to set. One of two callables is run again in float64, and the other agrees if its distance
    from these exact values is at most 8 times the rounding error of the first. If a model cannot run in float64, its
    weights and inputs are perturbed by an ulp instead. Arrays do not reveal their noise: they agree within the error
    bounds of the operations, and a larger difference counts as noise only if its root mean square is below 1.2e-4, it
    has no outliers, and no fault explains it.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> x = np.random.default_rng(0).normal(size=(8, 5))
    >>> found = polylogit.porting.compare(polylogit.softmax(x), polylogit.softmax(x, axis=0))
    >>> found.agrees, found.cause.name
    (False, 'wrong-axis')
    """
    called: list[Called] = []
    if _is_function(reference) or _is_function(candidate):
        called = _call_both(reference, candidate, inputs, cotangent)
        reference, candidate = (one.output for one in called)
    elif inputs is not None or cotangent is not None:
        message = "inputs= and cotangent= are for callables, and two outputs or mappings were given; leave them out."
        raise ComparisonError(message)
    left, right = _named(reference, "reference"), _named(candidate, "candidate")
    pairs, unmatched = align(left, right, names)
    backend = backend_of(right[list(right)[-1]])
    judged = _Pairs(backend, _logits(called), alone=len(pairs) == 1, named=FEW)
    judged.advice = _ADVICE[bool(called), len(pairs) > 1]
    for one, what in zip(called, _SIDES, strict=False):
        if in_training(one.function):
            judged.advice = f"call eval() on {what}, which is in training, with dropout or batch statistics"
    noise = "noise was not measured: arrays and files hold results only"
    if called:
        judged.noise, noise = noise_of(called, (left, right))
        judged.rounded = _rounded_within(right)
    # Arrays that can be read from their file again are not kept.
    streamed = not (called or (isinstance(left, dict) and isinstance(right, dict)))
    for name, other in steps(pairs, "comparing"):
        again = functools.partial(_both, (left, right), (name, other)) if streamed else None
        judged.add(name, other, left[name], right[other], again)
        behind = f"{name}:input", f"{other}:input"
        if judged.unexplained and behind[0] in left and behind[1] in right and behind not in pairs:
            again = functools.partial(_both, (left, right), behind) if streamed else None
            judged.look_behind(behind, (left[behind[0]], right[behind[1]]), again)
    if called and cotangent is not None:
        judged.add_gradient(called, cotangent)
    return Comparison(tuple(judged.activations), unmatched, backend.name, noise=noise)


def _rounded_within(side: Mapping[str, Any]) -> set[str]:
    """What is in 16 bits and goes into something wider, in a model that computes in more than 16 bits."""
    if narrow_of(side):
        return set()
    found, wide_follows = set(), False
    for name, value in reversed(list(side.items())):
        precision = finfo(str(backend_of(value).dtype_name(value)))
        if precision is not None and precision.dtype.itemsize > 2:
            wide_follows = True
        elif precision is not None and wide_follows and not is_output(name):
            found.add(name)
    return found


def _is_function(side: Any) -> bool:
    return callable(side) and not hasattr(side, "__array__") and not isinstance(side, Mapping)


def _call_both(reference: Any, candidate: Any, inputs: Any, cotangent: Any) -> list[Called]:
    if not (_is_function(reference) and _is_function(candidate)):
        message = "one side is callable and the other is not; pass two callables with inputs=, or two outputs."
        raise ComparisonError(message)
    if inputs is None:
        message = "two callables were given without inputs=; pass inputs= with the arrays to call them on."
        raise ComparisonError(message)
    called = []
    for side, what in zip((reference, candidate), _SIDES, strict=True):
        say(f"running {what}")
        called.append(call(side, inputs, what))
    if cotangent is not None:
        for one, what in zip(called, _SIDES, strict=True):
            one.differentiate(cotangent, what)
    return called


def _logits(called: list[Called]) -> Array | None:
    """The input of the two callables if it was a single array, because it may be the logits."""
    if not called or len(called[0].arguments) != 1:
        return None
    x = called[0].arguments[0]
    return as_numpy(x, "inputs=") if hasattr(x, "dtype") else None


def _named(side: Any, what: str) -> Mapping[str, Any]:
    if isinstance(side, (str, os.PathLike)):
        message = f"the {what} is the text {os.fspath(side)!r}; polylogit.porting.compare_files compares files."
        raise ComparisonError(message)
    if isinstance(side, Mapping):
        if not side:
            message = f"the {what} has no activations; run the recorder's model before comparing."
            raise ComparisonError(message)
        # A file's arrays are read one at a time, when they are compared.
        return side if all(isinstance(name, str) for name in side) else {str(name): side[name] for name in side}
    return {"output": side}


# --- judging pair by pair --------------------------------------------------------------------------------------------


def _both(sides: tuple[Mapping[str, Any], Mapping[str, Any]], names: tuple[str, str]) -> tuple[Array, Array]:
    """A pair of activations, read and aligned for comparison."""
    return _aligned(names, *(side[name] for side, name in zip(sides, names, strict=True)))


def _aligned(names: tuple[str, str], reference: Any, candidate: Any) -> tuple[Array, Array]:
    r, c = as_numpy(reference, f"reference {names[0]!r}"), as_numpy(candidate, f"candidate {names[1]!r}")
    return alike(names[0], r, c)


class _Values(NamedTuple):
    """The reference's values of one activation, kept in memory or read again."""

    name: str
    shape: tuple[int, ...]
    values: Array | Again

    def read(self) -> Array:
        return self.values()[0] if callable(self.values) else self.values


class _Earlier(Sequence[Any]):
    """Names and values of earlier activations, read only when they are needed."""

    def __init__(self, kept: list[_Values]) -> None:
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, place: Any) -> Any:
        return self._kept[place].name, self._kept[place].read()


class _Pairs:
    """Collects the verdicts, and the activations that may be the logits of later ones.

    Causes are looked for in at most `named` of the activations that differ; by default in all.
    """

    def __init__(self, backend: Backend, logits: Array | None, *, alone: bool, named: float = np.inf) -> None:
        self.backend, self.alone, self.named = backend, alone, named
        # The activations that agree, the latest last: the last few may be the logits of the next.
        self.agreed = [] if logits is None else [_Values("inputs", logits.shape, logits)]
        self.activations: list[Activation] = []
        self.earlier: list[_Values] = []
        self.last: Evidence | None = None
        self.noise: Noise | None = None
        self.layer: Layer | None = None  # the layer of the next pair, if known
        # The candidate's activations whose dtype is only a rounding of a wider dtype that it computes in.
        self.rounded: Collection[str] = ()
        self.advice = ""  # what to do about a difference of unknown cause

    def add(self, name: str, other: str, reference: Any, candidate: Any, again: Again | None = None) -> None:
        """Judge one pair; if it can be read again, its values are not kept."""
        names = name, other
        r, c = _aligned(names, reference, candidate)
        if self.alone:
            _check_shapes(r, c, name)
        elif not can_correspond(r.shape, c.shape):
            self.activations.append(Activation.of(names, (r, c), again, _incomparable(r, c)))
            return
        dtypes = (r.dtype.name, c.dtype.name)
        precision = Precision.of(*(dtypes[:1] if other in self.rounded else dtypes))
        gradient = _is_gradient(name)
        if gradient and r.shape == c.shape:
            verdict = diagnose_gradient(GradientEvidence(r, c, precision), self.backend)._replace(measure="scale")
            vacuous = not r.any() and not c.any()
        else:
            find = functools.partial(self._logits_for, precision, r.shape)
            earlier = _Earlier(self.earlier)
            evidence = Evidence(r, c, precision, None, dtypes, earlier=earlier, layer=self.layer, find_logits=find)
            if self.noise is not None:
                measured = self.noise.of(names, (wide(r), wide(c)), evidence.measure, precision)
                evidence = dataclasses.replace(evidence, measured=measured)
            causes = sum(one.verdict.cause is not None for one in self.activations) < self.named
            verdict = diagnose(evidence, self.backend, causes=causes)._replace(measure=evidence.measure)
            vacuous = _vacuous(r, c)
            self.last = evidence if again is None else None
        if self.advice and verdict.cause is not None and verdict.cause.name == "unknown":
            verdict = verdict._replace(cause=dataclasses.replace(verdict.cause, fix=self.advice))
        if verdict.agrees:
            here = _Values(name, r.shape, r if again is None or r.size <= PIECE else again)
            self.agreed, self.earlier = [*self.agreed[-2:], here], [*self.earlier[1 - EARLIER :], here]
        found = Activation.of(names, (r, c), again, verdict, vacuous, gradient)
        if again is not None and found.status == "disagrees" and self._disagreeing < DRAWN:
            found = dataclasses.replace(found, worst=worst_rows(r, c))
        self.activations.append(found)

    @property
    def unexplained(self) -> bool:
        """Whether the latest activation is the first that differs, and its cause is unknown."""
        last = self.activations[-1]
        cause = last.verdict.cause
        first = last.status == "disagrees" and self._disagreeing == 1
        return first and cause is not None and cause.name == "unknown"

    def look_behind(self, names: tuple[str, str], pair: tuple[Any, Any], again: Again | None) -> None:
        """Judge the input of the first module that differs, since a fault between two modules shows only there."""
        kept, last = self.activations, self.last
        self.activations = []
        self.add(*names, *pair, again)
        found, self.last = self.activations, last
        self.activations = [*kept[:-1], *(one for one in found if one.status == "disagrees"), kept[-1]]

    @property
    def _disagreeing(self) -> int:
        return sum(one.status == "disagrees" for one in self.activations)

    def _logits_for(self, precision: Precision, shape: tuple[int, ...], r: Array, places: Any) -> Array | None:
        """The latest activation that agrees and could be the logits from which the reference is computed, or None.

        `r` holds the values of the reference, of this shape, at some `places`; so does the result.
        """
        if Evidence(r, r, precision).kind == "logits":
            return None
        for one in reversed(self.agreed):
            if one.shape == shape:
                logits = wide(one.read()[places])
                if np.isfinite(logits).any() and _are_logits(logits, r, precision):
                    return logits
        return None

    def add_gradient(self, called: list[Called], cotangent: Any) -> None:
        """Judge the gradients of the two callables."""
        r, c = (as_numpy(one.gradient, f"{what}'s gradient") for one, what in zip(called, _SIDES, strict=True))
        _check_shapes(r, c, "gradient")
        output, last = self.activations[-1], self.last
        g = np.broadcast_to(as_numpy(cotangent, "cotangent=").astype(np.float64), output.shapes[0])
        precision = Precision.of(r.dtype.name, c.dtype.name)
        there = c.astype(np.float64)
        evidence = GradientEvidence(
            r.astype(np.float64), there, precision, slopes=lambda: called[1].slopes(there, g), cotangent=g
        )
        if last is not None:
            y = wide(last.candidate) if last.candidate.shape == g.shape else None
            evidence = dataclasses.replace(evidence, output=y, kind=last.kind, axes=last.axes)
        verdict = diagnose_gradient(evidence, self.backend, forward_agrees=output.verdict.agrees)
        verdict = verdict._replace(measure="scale")
        names = "gradient", "gradient"
        self.activations.append(Activation.of(names, (r, c), None, verdict, evidence.vacuous, True))


def _is_gradient(name: str) -> bool:
    words = name.lower().replace("/", " ").replace(".", " ").replace("_", " ").split()
    return bool(words) and (words[0] in GRADIENT_WORDS or words[-1] in GRADIENT_WORDS)


def _check_shapes(r: Array, c: Array, name: str) -> None:
    """Raise an error for shapes that no fault turns into each other."""
    if not can_correspond(r.shape, c.shape):
        message = (
            f"{name!r} has the shape {r.shape} in the reference and {c.shape} in the candidate, which cannot "
            "correspond. Compare the same activation on the same inputs."
        )
        raise ComparisonError(message)


def _incomparable(r: Array, c: Array) -> Verdict:
    """The verdict on an activation, one of several, whose shapes no fault turns into each other."""
    why = f"The shapes {r.shape} in the reference and {c.shape} in the candidate cannot correspond."
    fix = "pair it with what it corresponds to, by names="
    cause = Diagnosis("unknown", why, fix, np.inf, None, np.inf)
    return Verdict(Agreement(np.inf, np.inf, 0, False), False, cause)


def _vacuous(r: Array, c: Array) -> bool:
    """Whether agreement could not have failed, because nothing is finite or all values are equal."""
    if r.shape != c.shape:
        return False
    constant = [_is_constant(one) for one in (r, c)]
    return constant[0] is None or (r.size > 1 and all(constant))


def _is_constant(values: Array) -> bool | None:
    """Whether all finite values are equal; None if there are none."""
    low, high = np.inf, -np.inf
    for place in pieces(values.shape):
        one = wide(values[place])
        one = one[np.isfinite(one)]
        low, high = float(np.min(one, initial=low)), float(np.max(one, initial=high))
        if high - low > 1e-12 * max(abs(low), abs(high)):
            return False
    return True if low <= high else None


def _are_logits(x: Array, r: Array, precision: Precision) -> bool:
    """Whether the reference is the softmax, log_softmax or sigmoid of x."""
    evidence = Evidence(r, r, precision)
    if evidence.kind == "logits":
        return False
    if evidence.is_distribution:
        x = np.where(np.isfinite(evidence.log_reference), x, -np.inf)
    expected = evidence.apply(x)
    # Entries that are zero on both sides, which masks make, agree whatever x is.
    telling = np.isfinite(r) & np.isfinite(expected)
    if evidence.measure == "relative":
        telling &= (r != 0) | (expected != 0)
    errors = np.abs(residual(expected, r, evidence.measure, 1e-30))[telling]
    return bool(errors.size and np.median(errors) < max(1e-4, 4 * precision.eps))
