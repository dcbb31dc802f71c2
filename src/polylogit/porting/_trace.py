"""Keeps the inputs and outputs of each module in one run, and substitutes them in another.

There are two watchers (see `_watch`). A `Trace` keeps the values of each call. A `Substitution` replaces a model's own
values by those of a trace, and keeps the values that it replaced. Knows structures of arrays, and neither frameworks
nor what the values are used for.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit._spec.dtypes import finfo
from polylogit.errors import PolylogitError
from polylogit.porting._alike import turn
from polylogit.porting._call import as_numpy, backend_of
from polylogit.porting._match import Described, Fingerprint, fingerprint

if TYPE_CHECKING:
    from polylogit.porting._watch import Part

    Array = np.ndarray[Any, Any]

__all__ = ["MASKING", "Call", "Point", "Softmax", "Substitution", "Trace", "fitted", "is_float", "nudged"]

# What is added to scores to mask them: the numbers differ from port to port.
MASKING = -1e4
# No activation is so low, not even a massive one.
FILLED = -1e8


@dataclasses.dataclass
class Call:
    """One call of one module."""

    name: str  # of the module, with "#2" for its second call
    kind: str
    parent: int | None
    weights: tuple[Fingerprint, ...]
    fused: bool = False
    leaf: bool = True
    inputs: dict[str, Array] = dataclasses.field(default_factory=dict)
    outputs: dict[str, Array] = dataclasses.field(default_factory=dict)
    softmax: dict[str, Array] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    reason: str = ""  # why it cannot be compared; empty where it can
    arrays: list[Any] = dataclasses.field(default_factory=list)  # its weights, as its framework has them

    @property
    def numbers(self) -> list[Array]:
        """The values of its weights."""
        return [values for one in self.arrays if (values := _values(one)) is not None]

    @property
    def described(self) -> Described:
        """The description of the call for matching."""
        return Described(self.name, self.kind, self.shape, self.parent, self.weights, self.leaf)


class Softmax(NamedTuple):
    """The input and output of one softmax, log_softmax or sigmoid call."""

    call: int | None  # the call of the trace within which it was computed, as far as that is known
    operation: str
    scores: Array
    weights: Array


class Point(NamedTuple):
    """A place in a run at which a value can be observed: an input or an output of a call."""

    call: int
    side: str  # "inputs", "outputs" or "softmax"
    path: str  # of the array among the arguments, or within the output


# --- structures ------------------------------------------------------------------------------------------------------


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _leaves(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested tuples, lists and mappings, with their paths."""
    if _is_array(structure):
        yield path, structure
    elif isinstance(structure, (Mapping, tuple, list)):
        items = structure.items() if isinstance(structure, Mapping) else enumerate(structure)
        for key, one in items:
            yield from _leaves(one, f"{path}.{key}" if path else str(key))


def _replaced(structure: Any, new: Mapping[str, Any], path: str = "") -> Any:
    """The same structure with other arrays at some paths; itself if none of them is in it."""
    if path in new and _is_array(structure):
        return new[path]
    if not isinstance(structure, (Mapping, tuple, list)) or not new:
        return structure
    items = list(structure.items() if isinstance(structure, Mapping) else enumerate(structure))
    made = [(key, _replaced(one, new, f"{path}.{key}" if path else str(key))) for key, one in items]
    changed = {key: one for (key, one), (_, old) in zip(made, items, strict=True) if one is not old}
    if not changed:
        return structure
    if isinstance(structure, Mapping):
        replace = getattr(structure, "replace", None)
        if replace is not None:  # a frozen dataclass that is a mapping as well
            return replace(**{str(key): one for key, one in changed.items()})
        other: Any = copy.copy(structure)
        for key, one in changed.items():
            other[key] = one
        return other
    values = [one for _, one in made]
    return type(structure)(*values) if hasattr(structure, "_fields") else type(structure)(values)


def _named(parameters: Sequence[str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    names = itertools.chain(parameters, (f"*{place}" for place in itertools.count()))
    return dict(zip(names, arguments, strict=False)) | dict(keywords)


def _values(value: Any) -> Array | None:
    """The current numbers of an array; None if it has none, for example under a transformation."""
    try:
        values = as_numpy(value, "an activation")
    except (PolylogitError, TypeError, ValueError, RuntimeError, AttributeError):
        return None
    # torch's modules may go on to write into their inputs.
    return values.copy() if backend_of(value).name == "torch" else values


def is_float(values: Array) -> bool:
    return bool(values.dtype.kind == "f" or values.dtype.type.__module__ == "ml_dtypes")


def _is_mask(name: str, values: Array) -> bool:
    if "mask" in name.lower() or values.dtype.kind == "b":
        return True
    if not is_float(values) or not values.size or float(np.nanmin(values)) > MASKING:
        return False
    return bool(np.nanmin(values) <= FILLED or np.all((values == 0) | (values <= MASKING)))


# --- layouts ---------------------------------------------------------------------------------------------------------


def fitted(values: Array, shape: tuple[int, ...]) -> Array | None:
    """The same numbers in another layout of this shape; None if no known layout fits.

    Axes of size one come and go, neighbouring axes are merged or split, channels move from the front to the end or
    back, and values that are equal for all examples are kept once or for each.
    """
    if values.shape == shape:
        return values
    if values.shape[1:] == shape[1:] and 1 in (values.shape[0], shape[0]):  # the same for every example
        if shape[0] != 1:
            return np.broadcast_to(values, shape)
        return values[:1] if (values == values[:1]).all() else None
    for moved in _moves(values):
        if _merges(moved.shape, shape) or _merges(shape, moved.shape):
            return moved.reshape(shape)
    return None


def _moves(values: Array) -> Iterator[Array]:
    yield values
    if values.ndim >= 3:
        yield np.moveaxis(values, 1, -1)
        yield np.moveaxis(values, -1, 1)
    if values.ndim == 4:
        yield np.moveaxis(values, 1, 2)  # heads


def _merges(fine: tuple[int, ...], coarse: tuple[int, ...]) -> bool:
    """Whether merging neighbouring axes leads from one shape to the other."""
    shapes = ([size for size in shape if size != 1] for shape in (fine, coarse))
    borders = [set(np.cumprod(shape, dtype=np.int64).tolist()) for shape in shapes]
    same_size = int(np.prod(fine)) == int(np.prod(coarse))
    return same_size and borders[1] <= borders[0]


# --- keeping ---------------------------------------------------------------------------------------------------------


class Trace:
    """Keeps the inputs and outputs of each call; with `keep` false, only their shapes."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.calls: list[Call] = []
        # Calls with "inputs" or "outputs", and places in `softmaxes` with "softmax", as they came.
        self.order: list[tuple[int, str]] = []
        self.softmaxes: list[Softmax] = []
        self._open: list[int] = []
        self._known: dict[Any, Fingerprint] = {}
        self._names: collections.Counter[str] = collections.Counter()

    def enter(
        self, part: Part, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `_watch.Watcher`."""
        parent = self._open[-1] if self._open else None
        if parent is not None:
            self.calls[parent].leaf = False
        name = _numbered(self._names, part, bool(self._open))
        arrays = part.weights()
        call = Call(name, type(part.module).__name__, parent, self._fingerprints(arrays), part.fused)
        call.arrays = [one for _, one in arrays]
        self._open.append(len(self.calls))
        self.order.append((len(self.calls), "inputs"))
        self.calls.append(call)
        if self.keep:
            call.inputs = self._kept(_named(part.parameters, arguments, keywords), call)
        return arguments, keywords

    def leave(self, output: Any) -> Any:
        """See `_watch.Watcher`."""
        place = self._open.pop()
        self.order.append((place, "outputs"))
        call = self.calls[place]
        call.outputs = self._kept(output, call)
        first = next(iter(call.outputs.values()), None)
        call.shape = None if first is None else first.shape
        if not call.outputs and not call.reason:
            call.reason = "it returns no arrays of real numbers"
        if not self.keep:
            call.outputs = {}
        return output

    def softmax(self, operation: str, scores: Any, weights: Any) -> None:
        """See `_watch.Watcher`."""
        if self.keep and (found := _softmax(self._open[-1] if self._open else None, operation, scores, weights)):
            self.order.append((len(self.softmaxes), "softmax"))
            self.softmaxes.append(found)

    def _kept(self, structure: Any, call: Call) -> dict[str, Array]:
        found = {path: _values(one) for path, one in _leaves(structure)}
        if found and all(one is None for one in found.values()):
            call.reason = "its values cannot be seen: it runs under jit, scan, remat or in a graph; turn that off"
        return {path: one for path, one in found.items() if one is not None}

    def _fingerprints(self, arrays: list[tuple[Any, Any]]) -> tuple[Fingerprint, ...]:
        found = []
        for key, array in arrays:
            if key not in self._known:
                values = _values(array)
                if values is None:
                    continue
                self._known[key] = fingerprint(values)
            found.append(self._known[key])
        return tuple(found)


def _softmax(place: int | None, operation: str, scores: Any, weights: Any) -> Softmax | None:
    found = _values(scores), _values(weights)
    return None if found[0] is None or found[1] is None else Softmax(place, operation, found[0], found[1])


def _numbered(seen: collections.Counter[str], part: Part, within: bool) -> str:
    """The name of a call; a module created within another's call has only its class for a name."""
    name = part.name or (type(part.module).__name__ if within else "")
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


# --- putting in ------------------------------------------------------------------------------------------------------


class Substitution:
    """Replaces a model's values by those of a trace, and keeps the model's own by point.

    `counterparts` maps the names of the model's calls to the trace's calls. With a `seed`, the values are first
    perturbed by about the rounding error of their dtype.
    """

    def __init__(self, trace: Trace, counterparts: Mapping[str, int], *, seed: int | None = None) -> None:
        self.trace, self.counterparts, self.seed = trace, counterparts, seed
        self.points: dict[Point, Array] = {}
        self.softmaxes: list[Softmax] = []
        self.misfits: dict[int, str] = {}
        self.owners: dict[Point, int] = {}  # calls whose output is compared elsewhere than where they return
        self._open: list[tuple[int | None, bool]] = []
        self._turns: dict[int, tuple[int, int]] = {}  # where channels are, by the number of axes, as last seen
        self._given: dict[int, Any] = {}  # what was put in, kept alive so that its id stays its own
        self._names: collections.Counter[str] = collections.Counter()

    @property
    def under_way(self) -> int | None:
        """The innermost call with a counterpart that has not returned yet."""
        return next((place for place, _ in reversed(self._open) if place is not None), None)

    def enter(
        self, part: Part, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `_watch.Watcher`."""
        place = self.counterparts.get(_numbered(self._names, part, bool(self._open)))
        self._open.append((place, part.fused))
        named = _named(part.parameters, arguments, keywords)
        if place is None:
            return arguments, keywords
        if self.trace.calls[place].parent is None:  # the model itself gets the inputs that it was called with
            self._given |= {id(one): one for _, one in _leaves(named)}
            return arguments, keywords
        put = self._exchanged(Point(place, "inputs", ""), named)
        names = list(named)[: len(arguments)]
        return tuple(put[name] for name in names), {name: put[name] for name in keywords}

    def leave(self, output: Any) -> Any:
        """See `_watch.Watcher`."""
        place, fused = self._open.pop()
        if place is None:
            return output
        at: Point | None = Point(place, "outputs", "")
        if fused and not self.trace.calls[place].fused:
            at = self._after(place)
        elif self.trace.calls[place].fused and not fused:
            at = None
        if at is None:
            self.misfits[place] = "one side applies its activation function itself; compared where it goes next"
            return output
        before = set(self.points)
        output = self._exchanged(at, output)
        if at.call != place or at.side != "outputs":
            self.owners |= dict.fromkeys(self.points.keys() - before, place)
        return output

    def softmax(self, operation: str, scores: Any, weights: Any) -> None:
        """See `_watch.Watcher`."""
        if found := _softmax(self.under_way, operation, scores, weights):
            self.softmaxes.append(found)

    def _after(self, place: int) -> Point | None:
        """The place in the trace after a call's output that no module in between returns unchanged."""
        output = next(iter(self.trace.calls[place].outputs.values()))
        start = self.trace.order.index((place, "outputs")) + 1
        for call, side in [one for one in self.trace.order[start:] if one[1] != "softmax"][:3]:
            for one in getattr(self.trace.calls[call], side).values():
                if one.shape == output.shape and not np.array_equal(one, output, equal_nan=is_float(one)):
                    return Point(call, side, "")
        return None

    def _exchanged(self, at: Point, structure: Any) -> Any:
        """The structure with the trace's values; keeps the model's own."""
        call = self.trace.calls[at.call]
        theirs: dict[str, Array] = getattr(call, at.side)
        own = dict(_leaves(structure))
        numbers = {path: values for path, one in own.items() if (values := _values(one)) is not None}
        exchange_integers = at.side == "inputs" and call.leaf and bool(call.weights)
        new = {}
        for path, other in _paired(numbers, theirs, integers=exchange_integers):
            there = theirs[other]
            here = fitted(numbers[path], there.shape)
            back = fitted(there, numbers[path].shape)
            if here is None or back is None:
                continue
            move = self._turn(numbers[path], there)
            if here.shape == numbers[path].shape and not (at.side == "outputs" and call.parent is None):
                here, back = np.moveaxis(here, *move), np.moveaxis(back, *reversed(move))
            # What was put in before and is the same here was compared there.
            if id(own[path]) not in self._given or not np.array_equal(here, there, equal_nan=is_float(there)):
                self.points[at._replace(path=other)] = here
            new[path] = _like(back if self.seed is None else nudged(back, self.seed), own[path])
            self._given[id(new[path])] = new[path]
        if not new and at.side == "outputs":
            shapes = [[one.shape for one in arrays.values()] for arrays in (theirs, numbers)]
            self.misfits[at.call] = "it returns the shapes {} in the reference and {} in the candidate".format(*shapes)
        return _replaced(structure, new)

    def _turn(self, own: Array, theirs: Array) -> tuple[int, int]:
        """The move of channels from the own layout to the trace's.

        A value that is wrong may be as far from the trace's in either; its layout is that of the arrays before it.
        """
        move = turn(own, theirs)
        if move is None:
            return self._turns.get(own.ndim, (0, 0))
        self._turns[own.ndim] = move
        return move


def _paired(own: Mapping[str, Array], theirs: Mapping[str, Array], *, integers: bool) -> list[tuple[str, str]]:
    """The corresponding arrays of two calls: those of equal name, then in order those that fit. Masks are left out."""

    def kinds(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {
            path: one
            for path, one in arrays.items()
            if not _is_mask(path, one) and (is_float(one) or (integers and one.dtype.kind in "iu"))
        }

    def fit(path: str, other: str) -> bool:
        here, there = own[path], theirs[other]
        return is_float(here) == is_float(there) and fitted(here, there.shape) is not None

    mine, left = kinds(own), kinds(theirs)
    pairs = [(path, path) for path in mine if path in left and fit(path, path)]
    for path, _ in pairs:
        del left[path]
    for path in mine:
        if (path, path) not in pairs and (other := next((one for one in left if fit(path, one)), None)) is not None:
            pairs.append((path, other))
            del left[other]
    return pairs


def nudged(values: Array, seed: int) -> Array:
    """Floating-point values, each moved by a rounding error of its dtype."""
    precision = finfo(values.dtype.name)
    if precision is None:
        return values
    signs = np.random.default_rng(seed).uniform(-1.0, 1.0, values.shape)
    return np.asarray(values.astype(np.float64) * (1.0 + precision.eps * signs)).astype(values.dtype)


def _like(values: Array, own: Any) -> Any:
    """These values as an array with the framework, dtype and device of the one that they replace."""
    backend = backend_of(own)
    # A copy, since torch's modules may write into their inputs.
    made = backend.asarray(np.array(values, order="C"), dtype=backend.dtype_name(own))
    if hasattr(own, "device") and hasattr(made, "to"):
        made = made.to(own.device)
    mask = getattr(own, "_keras_mask", None)
    if mask is not None:
        made._keras_mask = mask  # Keras keeps the mask of padding with the array
    return made
