"""`isolate`: compares a port module by module, each on the original's own inputs.

The original runs once, and its calls are kept. Then the candidate runs with the original's values: the input of each
module with a counterpart is replaced by the counterpart's, and so is its output, once that has been kept. No error
reaches another module, so a difference is the fault of the module that shows it, or of its own code between its
children. Knows no framework: `_watch` observes modules, and `_match` pairs them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit import _registry as registry
from polylogit._progress import steps
from polylogit.errors import ComparisonError
from polylogit.porting._align import checked
from polylogit.porting._call import call
from polylogit.porting._compare import _SIDES as SIDES
from polylogit.porting._compare import _Pairs, compare
from polylogit.porting._diagnosis.evidence import Layer
from polylogit.porting._exact import in_training
from polylogit.porting._match import Match, match
from polylogit.porting._names import ROOT
from polylogit.porting._recorders import Recorder, record
from polylogit.porting._report import Comparison
from polylogit.porting._runs import FailedError, Runs
from polylogit.porting._trace import MASKING, Point, Softmax, Substitution, Trace, fitted, is_float

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from polylogit.porting._results import Activation

    Array = np.ndarray[Any, Any]
    _Taps = dict[tuple[int, str], list[Softmax]]  # softmax calls of a run, by the module and the operation

__all__ = ["ROOT", "Isolation", "Pair", "isolate"]

# After so many modules that cannot run on the original's inputs, the whole model is compared instead.
ATTEMPTS = 8


class Pair(NamedTuple):
    """Two modules that were paired."""

    name: str
    candidate_name: str
    how: str  # "names=", "name", "weights" or "order"


@dataclasses.dataclass(frozen=True, repr=False)
class Isolation(Comparison):
    """The result of `isolate`: a `Comparison` whose activations are modules.

    Attributes
    ----------
    activations : tuple of Activation
        One for each module that was compared, in order of computation: its output, or the first place where it goes
        wrong.
    pairs : tuple of Pair
        Which modules were paired, and by what evidence.
    places : dict of str to str
        For modules that go wrong between their children: the place.
    unmatched : tuple of str
        Modules that were not compared, each with the reason.
    whole : str
        Why the whole model was compared instead of its modules; empty if it was not.
    """

    pairs: tuple[Pair, ...] = ()
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)
    whole: str = ""

    def summary(self) -> str:
        """The verdict, the module at fault, the cause, and the pairs of modules."""
        lines = [super().summary()]
        name = self.first_divergence
        if name is not None and name in self.places:
            lines.append(f"{name} goes wrong {self.places[name]}.")
        if self.whole:
            lines.append(f"Not in isolation, errors propagate: {self.whole}")
        if self.pairs:
            lines += [f"{len(self.pairs)} modules were paired:", *(f"  {one}" for one in _shown(self.pairs))]
        if self.unmatched:
            without = collections.Counter(_pattern(_CALL.sub("", one, count=1)) for one in self.unmatched)
            lines += ["not compared:", *(f"  {one}{_times(count)}" for one, count in without.items())]
        return "\n".join(lines)

    __str__ = summary


def _shown(pairs: tuple[Pair, ...]) -> list[str]:
    """The pairs as patterns for `names=`; pairs that differ only in the numbers of layers are combined."""
    found: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for one in pairs:
        same = _NUMBER.findall(one.name) == _NUMBER.findall(one.candidate_name)
        found[(_pattern(one.name), _pattern(one.candidate_name), one.how) if same else one] += 1
    return [f"{here} = {there}, by {how}{_times(count)}" for (here, there, how), count in found.items()]


# The parts of a name that are numbers.
_NUMBER = re.compile(r"(?:(?<=[._])|^)\d+(?=[._:]|$)")

# What tells a second call from the first, before the reason why it was not compared.
_CALL = re.compile(r"#\d+(?=:)")


def _pattern(name: str) -> str:
    return _NUMBER.sub("*", name)


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""


def isolate(
    reference: Any,
    candidate: Any,
    /,
    inputs: Any,
    *,
    names: Mapping[str, str | None] | None = None,
    candidate_inputs: Any = None,
) -> Isolation:
    """Compare a port with its original module by module, each on the original's own inputs.

    Errors do not propagate, because the inputs of each module of the candidate, and its outputs once they have been
    compared, are replaced by the original's. So a module that differs is at fault itself, at any depth, and the modules
    that contain it agree.

    Parameters
    ----------
    reference, candidate : torch.nn.Module, keras.Model, flax module or callable
        The original and the port, of any frameworks. Flax Linen modules hold no parameters: pass
        ``module.bind(variables)``, ``record(module, variables)`` or a function that applies it.
    inputs : array, tuple or dict
        A single input, a tuple of positional arguments, or a dict of keyword arguments; each side gets them as arrays
        of its own framework.
    names : mapping of str to str or None, optional
        The candidate's names for modules of the reference, to correct the pairs in the summary. A ``*`` stands
        for the same text on both sides, as in ``{"h.*": "block_*"}``; None leaves a module out.
    candidate_inputs : array, tuple or dict, optional
        The candidate's own inputs, if their names or layout differ from the reference's.

    Returns
    -------
    Isolation
        A `Comparison`; its ``first_divergence`` is the module at fault, and its ``pairs`` are the pairs of modules.

    Raises
    ------
    ComparisonError
        If a model cannot be called, or a name does not exist.

    Notes
    -----
    Modules are paired by `names`, by name, by weights (in any layout) and by order, in this sequence. The candidate
    keeps its own masks and inputs that are not arrays. The rounding error of each module is measured: by a run in
    float64 if one side is a PyTorch model, and otherwise by a run with inputs perturbed by a rounding error. A module
    differs if its error is more than eight times that, however small it is.

    Examples
    --------
    >>> import torch
    >>> from polylogit.porting import isolate
    >>> original = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    >>> port = torch.nn.Sequential(original[0], torch.nn.GELU(approximate="tanh"), original[2])
    >>> found = isolate(original, port, torch.randn(6, 4, generator=torch.manual_seed(0)))
    >>> found.first_divergence
    '1'
    >>> [one.status for one in found.activations]
    ['agrees', 'disagrees', 'agrees']
    """
    found = _Isolating((reference, candidate), (inputs, inputs if candidate_inputs is None else candidate_inputs))
    found.match(checked(names))
    while found.matches_modules:
        try:
            return found.result()
        except FailedError as error:
            found.leave_out(error)
    return found.whole()


class _Isolating:
    """The two models, the calls observed in them, and the pairs of calls."""

    def __init__(self, models: tuple[Any, Any], inputs: tuple[Any, Any]) -> None:
        self.runs = Runs(models, inputs)
        self.matches: list[Match] = []
        self.taps: _Taps = {}
        self.reasons: dict[int, str] = {}  # why calls of the reference are not compared
        self.names: dict[str, str | None] = {}
        self.why = "no module of the reference has a counterpart in the candidate."
        self.trace = self.runs.run(0, lambda: Trace(keep=True))
        self.described = self.runs.run(1, lambda: Trace(keep=False))

    def match(self, names: dict[str, str | None]) -> None:
        """Pair the calls of the two models."""
        self.names = names
        here, there = ([one.described for one in trace.calls] for trace in (self.trace, self.described))
        self.matches = match(here, there, names)
        for one in self.matches:
            for side, place in ((self.trace, one.reference), (self.described, one.candidate)):
                if side.calls[place].reason:
                    self.reasons[one.reference] = side.calls[place].reason
        self.matches = [one for one in self.matches if one.reference not in self.reasons]

    @property
    def matches_modules(self) -> bool:
        """Whether any module is paired, besides the whole model."""
        return any(self.trace.calls[one.reference].parent is not None for one in self.matches)

    def leave_out(self, error: FailedError) -> None:
        """Leave out the module that failed with the original's values."""
        place = error.watcher.under_way if isinstance(error.watcher, Substitution) else None
        if place is None or len(self.reasons) >= ATTEMPTS:
            self.matches, self.why = [], f"the candidate fails with the original's values. {error}"
            return
        self.reasons[place] = f"the candidate's fails on the original's inputs. {error}"
        self.matches = [one for one in self.matches if one.reference != place]

    # --- the result --------------------------------------------------------------------------------------------------

    def result(self) -> Isolation:
        """Run the candidate with the original's values, and judge its own."""
        places = {self.described.calls[one.candidate].name: one.reference for one in self.matches}
        counterpart = {one.reference: self.described.calls[one.candidate].name for one in self.matches}
        see = functools.partial(self._see_softmaxes, counterpart=counterpart)
        run = self.runs.run(1, lambda: Substitution(self.trace, places))
        see(self.trace)
        unseen = self._unseen(see(run))
        # The run that measures noise keeps its own values at the same places as the candidate.
        compared = counterpart.keys() | {point.call for point in run.points}
        own = {self.trace.calls[place].name: place for place in compared}
        noise = self.runs.noise(self.trace, run.points, (own, places), see)
        judged = _Pairs(registry.get_backend(self.runs.sides[1].framework or "numpy"), None, alone=False)
        judged.advice = "look at what it computes there: it was given the original's own values"
        for model, what in zip(self.runs.models, SIDES, strict=True):
            if in_training(model):
                judged.advice = f"call eval() on {what}, which is in training, with dropout or batch statistics"
        rows: dict[int, tuple[int, Activation, str]] = {}
        held: Any = None
        passed = (one for point, one in run.points.items() if point.side != "softmax")
        half = next((one.dtype for one in passed if _is_narrow(one)), None)
        for order, point in enumerate(steps(list(self._points(run, counterpart)), "comparing")):
            owner, where = self._owner(point, counterpart)
            if point in run.owners:
                owner, where = run.owners[point], ""
            reference, values = getattr(self.trace.calls[point.call], point.side)[point.path], run.points[point]
            scores = point.side == "softmax" and point.path.startswith("scores")
            if scores:
                reference, values = _unmasked(reference, values)
            name, other = (one or ROOT for one in (self.trace.calls[owner].name, counterpart[owner]))
            if point.side == "softmax" and half is not None:
                values = values.astype(half)  # a softmax in float32 of 16-bit scores
            # A softmax in 16 bits where nothing else is.
            judged.rounded = (other,) if point.side == "softmax" and half is None and _is_narrow(values) else ()
            judged.noise = noise.at(point, (name, other), (reference, values))
            judged.layer = None if point in run.owners else self._layer(point)
            judged.add(name, other, reference, values)
            row = judged.activations[-1]
            if scores:
                held = order, row, where  # scores may differ by a constant, which softmax ignores
                continue
            made = [held] if point.side == "softmax" and not (row.verdict.agrees or held[1].verdict.agrees) else []
            for one in (*made, (order, row, where)):
                if owner not in rows or _stands_for_it(one[1], rows[owner][1]):
                    rows[owner] = one
        found = sorted(rows.values(), key=lambda row: row[0])
        for place, reason in run.misfits.items():
            self.reasons.setdefault(place, reason)
        return Isolation(
            tuple(row for _, row, _ in found),
            (*self._unmatched(rows.keys()), *unseen),
            judged.backend.name,
            pairs=tuple(
                Pair(self.trace.calls[one.reference].name or ROOT, counterpart[one.reference] or ROOT, one.how)
                for one in self.matches
            ),
            places={row.name: where for _, row, where in found if where and not row.verdict.agrees},
            noise=f"noise was measured by a run of {noise.how}, module by module",
        )

    def _layer(self, point: Point) -> Layer | None:
        """The inputs and weights of a module without submodules; its inputs are the same on both sides."""
        here = self.trace.calls[point.call]
        there = next((self.described.calls[one.candidate] for one in self.matches if one.reference == point.call), None)
        if point.side != "outputs" or there is None or not (here.leaf and there.leaf and here.arrays):
            return None
        return Layer(tuple(here.inputs.values()), lambda: (here.numbers, there.numbers))

    def _points(self, run: Substitution, counterpart: Mapping[int, str]) -> Iterator[Point]:
        """The points observed in the candidate, in the reference's order of computation."""
        seen: set[Point] = set()
        for index, side in self.trace.order:
            place = index
            if side == "softmax":
                if (owner := self._within(self.trace.softmaxes[index].call, counterpart)) is None:
                    continue
                place = owner
            for path in getattr(self.trace.calls[place], side):
                if (point := Point(place, side, path)) in run.points and point not in seen:
                    seen.add(point)
                    yield point

    def _within(self, place: int | None, counterpart: Mapping[int, str]) -> int | None:
        """The innermost compared call that contains a call of the reference, possibly the call itself."""
        while place is not None and place not in counterpart:
            place = self.trace.calls[place].parent
        return place

    def _see_softmaxes(self, run: Trace | Substitution, *, counterpart: Mapping[int, str]) -> _Taps:
        """Turn softmax calls into points of the compared modules; must be called for the trace first."""
        found: _Taps = collections.defaultdict(list)
        for one in run.softmaxes:
            if (owner := self._within(one.call, counterpart)) is not None:
                found[owner, one.operation].append(one)
        if isinstance(run, Trace):
            self.taps = found
            for place, call in enumerate(run.calls):
                here = [_numbered(calls) for (owner, _), calls in found.items() if owner == place]
                call.softmax = dict(itertools.chain.from_iterable(one.items() for one in here))
            return found
        for at, calls in found.items():
            theirs = self.trace.calls[at[0]].softmax
            if len(calls) != len(self.taps.get(at, ())):
                continue
            own = {path: fitted(one, theirs[path].shape) for path, one in _numbered(calls).items()}
            if all(one is not None for one in own.values()):
                run.points |= {Point(at[0], "softmax", path): one for path, one in own.items() if one is not None}
        return found

    def _unseen(self, taps: _Taps) -> list[str]:
        """Modules for which the two sides show different numbers of softmax calls."""
        lines = []
        for at in dict.fromkeys((*self.taps, *taps)):
            here, there = (len(one.get(at, ())) for one in (self.taps, taps))
            if here != there and at[1] != "sigmoid":  # sigmoid may be part of other functions
                lines.append(
                    f"{self.trace.calls[at[0]].name or ROOT}: its {at[1]} calls, of which {here} were seen in the "
                    f"reference and {there} in the candidate; one that is written by hand or held by an object is not "
                    "seen, and what comes of it is compared alone"
                )
        return lines

    def _owner(self, point: Point, counterpart: Mapping[int, str]) -> tuple[int, str]:
        """The call that computed the value at a point, and the place within it."""
        if point.side == "outputs":
            return point.call, f"in {point.path!r} of what it returns" if point.path else ""
        if point.side == "softmax":
            return point.call, f"in the {point.path}" + ("" if " of " in point.path else " of a softmax")
        owner = self._within(self.trace.calls[point.call].parent, counterpart)
        where = f"in what it passes to {self.trace.calls[point.call].name} as {point.path}"
        return (point.call if owner is None else owner), where

    def _unmatched(self, compared: Collection[int]) -> tuple[str, ...]:
        lines = []
        # Modules that only return the output of a child have nothing of their own to compare.
        seen = {*compared, *(pair.reference for pair in self.matches)} - self.reasons.keys()
        for place, one in enumerate(self.trace.calls):
            if place not in seen:
                reason = self.reasons.get(place, "no counterpart in the candidate; it counts as part of what calls it")
                lines.append(f"{one.name or ROOT}: {reason}")
        taken = {pair.candidate for pair in self.matches}
        for place, one in enumerate(self.described.calls):
            if place not in taken:
                lines.append(f"{one.name or ROOT}: {one.reason or 'only in the candidate'}")
        return tuple(dict.fromkeys(lines))

    def whole(self) -> Isolation:
        """Compare all activations that correspond, as `compare` does, or only the outputs."""
        recorders, given = [_recorded(one) for one in self.runs.models], self.runs.inputs
        names = {here: there for here, there in self.names.items() if there and "*" not in here}
        try:
            if given[0] is given[1]:
                found = compare(*recorders, inputs=given[0], names=names)
            else:
                found = compare(*self._outputs(recorders), names=names)
        except ComparisonError:
            found = compare(*({"output": list(one.values())[-1]} for one in self._outputs(recorders)))
        unmatched = self._unmatched(()) if self.reasons else found.unmatched
        return Isolation(found.activations, unmatched, found.framework, whole=self.why, noise=found.noise)

    def _outputs(self, recorders: list[Recorder]) -> list[Any]:
        return [call(*one).output for one in zip(recorders, self.runs.inputs, SIDES, strict=True)]


def _stands_for_it(later: Activation, before: Activation) -> bool:
    """Whether the later of two places within a module represents the module better.

    The first place that differs represents it, unless only a later one has a known cause; if none differs, the last.
    """
    if before.verdict.agrees or (before.verdict.beyond and not (later.verdict.agrees or later.verdict.beyond)):
        return True
    unnamed = before.verdict.cause is None or before.verdict.cause.name == "unknown"
    return unnamed and later.verdict.cause is not None and later.verdict.cause.name != "unknown"


def _is_narrow(values: Array) -> bool:
    return is_float(values) and values.dtype.itemsize == 2


def _numbered(calls: list[Softmax]) -> dict[str, Array]:
    """The scores and weights of the calls of one operation, named by kind and number."""
    found: dict[str, Array] = {}
    for count, one in enumerate(calls, 1):
        at = "" if one.operation == "softmax" else f" of {one.operation}"
        at += f" ({count})" if len(calls) > 1 else ""
        found |= {f"scores{at}": one.scores, f"weights{at}": one.weights}
    return found


def _unmasked(reference: Array, candidate: Array) -> tuple[Array, Array]:
    """The scores of both sides with -inf where either masks, since fill values differ; the weights show the masks."""
    masked = (reference <= MASKING) | (candidate <= MASKING)
    both = (np.where(masked, np.asarray(-np.inf, one.dtype), one) for one in (reference, candidate))
    return next(both), next(both)


def _recorded(model: Any) -> Recorder:
    if isinstance(model, Recorder):
        return model
    try:
        return record(model)
    except ComparisonError:  # a Flax module that is bound to its parameters
        return record(lambda *arguments, **keywords: model(*arguments, **keywords))
