"""Pairs the modules of two models: a pure function of their descriptions.

The description of a module is its name, its class, the shape of its output, its place, and fingerprints of its weights,
which do not change under transposition. Knows no framework, runs nothing, and sees no activation.
"""

from __future__ import annotations

import collections
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit.errors import ComparisonError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

__all__ = ["Described", "Fingerprint", "Match", "fingerprint", "match", "normalized", "patterns", "role", "same_shape"]

Array = np.ndarray[Any, Any]


class Fingerprint(NamedTuple):
    """Sums over the bits of numbers: exact, and independent of their order."""

    size: int
    bits: int
    squares: int

    def __add__(self, other: tuple[Any, ...]) -> Fingerprint:
        """The fingerprint of both sets of numbers: a fused matrix has the sum of its parts' fingerprints."""
        sums = [one + two for one, two in zip(self, other, strict=True)]
        return Fingerprint(sums[0], sums[1] % 2**64, sums[2] % 2**64)

    @property
    def trivial(self) -> bool:
        """Whether this is the fingerprint of zeros or ones, which many modules have."""
        return self.bits == 0 or self == Fingerprint(self.size, self.size * _ONE % 2**64, self.size * _ONE**2 % 2**64)


_ONE = int(np.float32(1).view(np.uint32))
NOTHING = Fingerprint(0, 0, 0)


def fingerprint(values: Array) -> Fingerprint:
    """The fingerprint of an array of weights, as float32."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0 counts as 0
    with np.errstate(over="ignore"):
        return Fingerprint(bits.size, int(bits.sum(dtype=np.uint64)), int((bits * bits).sum(dtype=np.uint64)))


class Described(NamedTuple):
    """The description of a module's call, as far as matching needs it."""

    name: str  # the path, with dots; empty for the model itself
    kind: str  # the name of its class
    shape: tuple[int, ...] | None = None  # of the first array that it returns
    parent: int | None = None  # the place in the list of the call within which it was made
    weights: tuple[Fingerprint, ...] = ()  # of all parameters at or below it
    leaf: bool = True  # calls no other module

    @property
    def total(self) -> Fingerprint:
        """The fingerprint of all weights together."""
        total = NOTHING
        for one in self.weights:
            total += one
        return total


class Match(NamedTuple):
    """Two calls that correspond, by their places in the two lists."""

    reference: int
    candidate: int
    how: str  # "names=", "name", "weights" or "order"


# --- names and roles -------------------------------------------------------------------------------------------------

# What a class does, by what its name says; the first that is found in it.
_ROLES = {
    "dropout": "dropout",
    "norm": "norm",
    "embed": "embedding",
    "conv": "conv",
    "attention": "attention",
    "attn": "attention",
    "pool": "pool",
    "dense": "linear",
    "linear": "linear",
    "softmax": "activation",
    "relu": "activation",
    "gelu": "activation",
    "silu": "activation",
    "activation": "activation",
}


def role(kind: str) -> str:
    """The role of a class with this name; empty if the name does not show it."""
    if kind.endswith("Conv1D"):  # a convolution in Keras, and a matrix in transformers' GPT-2
        return ""
    return next((what for word, what in _ROLES.items() if word in kind.lower()), "")


def normalized(name: str) -> str:
    """A name in a common spelling: lower case, dots between all parts, numbers separate."""
    text = re.sub(r"[/:]|__", ".", name.lower())
    text = re.sub(r"(?<=[a-z])_?\.?_?(?=\d+(\.|#|$))", ".", text)  # layers_0 and layer_._0
    return ".".join(part.strip("_") for part in text.split(".") if part)


def _spelled(reference: Sequence[Described], candidate: Sequence[Described]) -> tuple[list[str], list[str]]:
    """The normalised names of both sides, without a prefix that all names of only one side share."""
    here, there = (_shortened([normalized(one.name) for one in side]) for side in (reference, candidate))
    return max(itertools.product(here, there), key=lambda pair: len(set(pair[0]) & set(pair[1])))


def _shortened(names: list[str]) -> Iterator[list[str]]:
    """The names, repeatedly without the first part while all share it."""
    yield names
    firsts = {name.partition(".")[0] for name in names if name}
    if len(firsts) == 1 and any("." in name for name in names):
        yield from _shortened([name.partition(".")[2] for name in names])


def same_shape(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    """Whether arrays of these shapes may hold the same numbers, in any layout, once or for each example."""
    if one is None or other is None:
        return one is other
    shorter, longer = sorted((int(np.prod(one)), int(np.prod(other))))
    return shorter == longer or (one[1:] == other[1:] and 1 in (one[0], other[0]))


def _may_match(one: Described, other: Described) -> bool:
    """Whether the outputs and the roles of the classes allow a match."""
    roles = {role(one.kind), role(other.kind)} - {""}
    same_role = len(roles) < 2 or not (one.leaf and other.leaf)
    return same_shape(one.shape, other.shape) and same_role and bool(one.weights) == bool(other.weights)


# --- patterns of the user --------------------------------------------------------------------------------------------


def patterns(names: Mapping[str, str | None], here: Sequence[str], there: Sequence[str]) -> dict[str, str | None]:
    """Return the pairs of names for each pattern, with `None` for modules to leave out.

    A ``*`` stands for any text, and for the same text in the candidate's name.
    """
    found: dict[str, str | None] = {}
    known = set(there)
    for pattern, target in names.items():
        rule = re.compile("(.*?)".join(re.escape(part) for part in pattern.split("*")))
        hits = [(name, hit) for name in here if (hit := rule.fullmatch(name))]
        if not hits:
            message = f"names= maps {pattern!r}, which is no module of the reference; it has {list(here)[:20]}."
            raise ComparisonError(message)
        before = len(found)
        for name, hit in hits:
            other = target if target is None else _filled(target, hit.groups())
            if other is None or other in known:
                found.setdefault(name, other)
        if len(found) == before and not any(name in found for name, _ in hits):
            other = _filled(str(target), hits[0][1].groups())
            message = f"names= maps {pattern!r} to {other!r}, which is no module of the candidate; it has "
            message += f"{list(there)[:20]}."
            raise ComparisonError(message)
    return found


def _filled(target: str, texts: tuple[str, ...]) -> str:
    parts = target.split("*")
    filled = [text for pair in zip(parts, [*texts, *[""] * len(parts)], strict=False) for text in pair]
    return "".join(filled[: 2 * len(parts) - 1])


# --- matching --------------------------------------------------------------------------------------------------------


class _Pairing:
    """The matches so far, and the remaining calls on both sides."""

    def __init__(self, reference: Sequence[Described], candidate: Sequence[Described]) -> None:
        self.sides = (reference, candidate)
        self.of: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.left_alone: set[int] = set()
        self.how: dict[int, str] = {}

    def pair(self, here: int, there: int, how: str) -> None:
        self.of[0][here], self.of[1][there] = there, here
        self.how[here] = how

    def free(self, side: int) -> list[int]:
        places = range(len(self.sides[side]))
        return [one for one in places if one not in self.of[side] and not (side == 0 and one in self.left_alone)]

    def nests(self, here: int, there: int) -> bool:
        """Whether the two are inside modules that match."""
        return self._within(0, here) == self._within(1, there)

    def _within(self, side: int, place: int) -> tuple[int, int] | None:
        parent = self.sides[side][place].parent
        while parent is not None and parent not in self.of[side]:
            parent = self.sides[side][parent].parent
        if parent is None:
            return None
        other = self.of[side][parent]
        return (parent, other) if side == 0 else (other, parent)

    def by(self, how: str, *keys: Callable[[int, int, Described], Hashable]) -> None:
        """Pair calls in order by equal keys, if both sides have equally many of a key.

        A key is made of the side, the place and the description; None is a key that nothing shares.
        """
        for key in keys:
            groups: list[dict[Hashable, list[int]]] = []
            for side in (0, 1):
                found: dict[Hashable, list[int]] = collections.defaultdict(list)
                for place in self.free(side):
                    if (its := key(side, place, self.sides[side][place])) is not None:
                        found[its].append(place)
                groups.append(found)
            for its, here in groups[0].items():
                there = groups[1].get(its, [])
                pairs = list(zip(here, there, strict=False))
                if len(here) == len(there) and all(_may_match(*self.both(*one)) for one in pairs):
                    for one, other in pairs:
                        self.pair(one, other, how)

    def both(self, here: int, there: int) -> tuple[Described, Described]:
        return self.sides[0][here], self.sides[1][there]


def match(
    reference: Sequence[Described], candidate: Sequence[Described], names: Mapping[str, str | None] | None = None
) -> list[Match]:
    """Pairs of calls that correspond: by `names`, by name, by weights, then by order within modules that match."""
    found = _Pairing(reference, candidate)
    places = {one.name: place for place, one in reversed(list(enumerate(candidate)))}
    mapped = patterns(names or {}, [one.name for one in reference], [one.name for one in candidate])
    for here, one in enumerate(reference):
        other = mapped.get(one.name, "")
        if one.name in mapped and other is None:
            found.left_alone.add(here)
        elif one.name in mapped and other is not None and places[other] not in found.of[1]:
            found.pair(here, places[other], "names=")
    roots = [next((at for at, one in enumerate(side) if one.parent is None), None) for side in found.sides]
    if roots[0] is not None and roots[1] is not None and roots[0] in found.free(0) and roots[1] in found.free(1):
        found.pair(roots[0], roots[1], "order")

    spelled = _spelled(reference, candidate)
    if _names_tell(found, spelled):
        found.by("name", lambda side, place, _: spelled[side][place] or None)
    found.by("weights", lambda _, __, one: one.total if one.leaf and one.weights and not one.total.trivial else None)
    found.by("weights", lambda _, __, one: one.total if one.weights and not one.total.trivial else None)
    before = -1
    while before != len(found.how):
        before = len(found.how)
        found.by(
            "order",
            lambda side, place, _: (found._within(side, place), spelled[side][place].rpartition(".")[2]),
            lambda side, place, one: (found._within(side, place), _look(one)) if _look(one) else None,
        )
    matches = [Match(here, found.of[0][here], how) for here, how in found.how.items()]
    return sorted(one for one in matches if one.how == "names=" or _nested(found, one))


def _look(one: Described) -> Hashable:
    """The features that distinguish a module from its neighbours if names and weights do not."""
    what = role(one.kind)
    if not one.weights and what not in ("attention", "pool"):
        return None
    return what, one.leaf, one.shape and int(np.prod(one.shape)), tuple(sorted(each.size for each in one.weights))


def _names_tell(found: _Pairing, spelled: tuple[list[str], list[str]]) -> bool:
    """Whether equal names mean the same module, which is not so if the weights of most say otherwise.

    Layers may be counted from 0 on one side and from 1 on the other.
    """
    by_name = {name: place for place, name in enumerate(spelled[1]) if name}
    elsewhere = collections.Counter(each for one in found.sides[1] if one.leaf for each in one.weights)
    same = other = 0
    for place, one in enumerate(found.sides[0]):
        telling = {each for each in one.weights if not each.trivial and each in elsewhere}
        if one.leaf and telling and spelled[0][place] in by_name:
            shared = telling & set(found.sides[1][by_name[spelled[0][place]]].weights)
            same, other = same + bool(shared), other + (not shared)
    return same >= other


def _nested(found: _Pairing, one: Match) -> bool:
    """Whether the modules that contain the two are matched with each other, if at all."""
    inside: list[set[int]] = []
    for side, place in enumerate((one.reference, one.candidate)):
        above: set[int] = set()
        parent = found.sides[side][place].parent
        while parent is not None:
            above.add(parent)
            parent = found.sides[side][parent].parent
        inside.append(above)
    matched_here = {found.of[0][at] for at in inside[0] if at in found.of[0]}
    return matched_here <= inside[1] and {found.of[1][at] for at in inside[1] if at in found.of[1]} <= inside[0]
