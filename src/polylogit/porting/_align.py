"""Pairs the activations of the candidate with those of the reference.

Activations are paired by the caller's names, exact or with patterns; by equal names; softmax calls by their numbers;
and if few names agree, by order and shape. Ambiguous pairs are never made. Knows no framework.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polylogit import convert
from polylogit.errors import ComparisonError
from polylogit.porting._alike import can_correspond, squeezed
from polylogit.porting._names import is_aside, is_output, is_tap_or_output, operation_of, softmax_call, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Array = np.ndarray[Any, Any]

__all__ = ["Alignment", "align", "checked"]


class Alignment(NamedTuple):
    """The pairs of activations, and those without a counterpart.

    Attributes
    ----------
    pairs : list of (str, str)
        Names of the reference and of the candidate, in the order of the reference.
    unmatched : tuple of str
        Names, those of the reference first, without a counterpart; inputs are not counted.
    """

    pairs: list[tuple[str, str]]
    unmatched: tuple[str, ...]


def align(left: Mapping[str, Any], right: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Alignment:
    """Match the names of two ordered mappings to arrays.

    Parameters
    ----------
    left, right : mapping
        The reference's and the candidate's activations.
    names : mapping, optional
        Names, or patterns in which each ``*`` stands for one run of characters, to the candidate's.

    Returns
    -------
    Alignment

    Raises
    ------
    ComparisonError
        For an exact name in `names` that a side lacks, a pattern whose ``*`` differ in number, and where nothing
        matches.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.ones(3)
    >>> align({"h.0.mlp": x, "h.1.mlp": 2 * x}, {"block_1.ffn": x, "block_0.ffn": x}, {"h.*.mlp": "block_*.ffn"}).pairs
    [('h.0.mlp', 'block_0.ffn'), ('h.1.mlp', 'block_1.ffn')]
    """
    found = _Matches(left, right)
    chosen, idle = _chosen(found, checked(names))
    if not names and len(left) == len(right) == 1:
        found.match(zip(left, right, strict=True))
    found.match((name, name) for name in left if not operation_of(name) and not is_aside(name))
    _match_softmax(found)
    _match_renamed(found, _without_first)
    _match_renamed(found, _spelled)
    _match_prefixed(found)
    _match_outputs(found)
    _match_by_order(found)
    _match_softmax_by_part(found)
    found.drop_impossible(chosen)
    _choose_linear(found, chosen)
    for pattern, (name, other) in idle.items():
        if not any(one in found.pairs for one, _ in _by_pattern(left, pattern, pattern)):
            message = (
                f"the pattern {pattern!r} of names= makes {other!r} of {name!r}, which the candidate lacks; it has "
                f"{list(right)[:20]}."
            )
            raise ComparisonError(message)
    if not found.pairs:
        message = (
            f"no activation of the reference has a counterpart: the reference has {list(left)[:20]}, the candidate "
            f'{list(right)[:20]}. Map them with names={{"name here": "name there"}}; * stands for any characters.'
        )
        raise ComparisonError(message)
    pairs = [(name, found.pairs[name]) for name in left if name in found.pairs]
    unmatched = tuple(name for name in (*found.left_over(), *found.right_over()) if not is_aside(name))
    return Alignment(_without_repeats(found, pairs, chosen), unmatched)


def checked(names: Any) -> dict[str, Any]:
    """What was given as names=, which must map names to names."""
    if names is None or isinstance(names, Mapping):
        return dict(names or {})
    message = f'names= maps names to names, as in {{"name here": "name there"}}; a {type(names).__name__} was given.'
    raise ComparisonError(message)


class _Side:
    """One side's activations; those of a file are read only when needed, and their shapes are kept."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self._shapes = values, dict[str, tuple[int, ...]]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        if name not in self._shapes:
            # A file knows them without its arrays being read.
            values: Any = self._values
            known = callable(getattr(values, "shape", None))
            self._shapes[name] = tuple(values.shape(name) if known else np.shape(values[name]))
        return self._shapes[name]

    def size(self, name: str) -> tuple[int, ...]:
        """The shape without axes of size one."""
        return squeezed(self.shape(name))

    def identity(self, name: str) -> int | str:
        """The same number for two names of one object; values that are read from a file each time have none."""
        return id(self._values[name]) if isinstance(self._values, dict) else name


class _Matches:
    """The matches so far."""

    def __init__(self, left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
        self.left, self.right = _Side(left), _Side(right)
        self.pairs: dict[str, str] = {}
        self._taken: set[str] = set()

    def match(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Add the pairs whose two sides exist and are still unmatched."""
        for name, other in pairs:
            if name in self.left and other in self.right and name not in self.pairs and other not in self._taken:
                self.pairs[name] = other
                self._taken.add(other)

    def left_over(self) -> list[str]:
        return [name for name in self.left if name not in self.pairs]

    def right_over(self) -> list[str]:
        return [name for name in self.right if name not in self._taken]

    def can_correspond(self, name: str, other: str) -> bool:
        return can_correspond(self.left.shape(name), self.right.shape(other))

    def drop_impossible(self, chosen: set[str]) -> None:
        """Drop later entries of a tuple if the shape of one does not fit, since they may be other values there.

        The module's own output stays, whatever its shape.
        """
        for name, other in list(self.pairs.items()):
            extra = name.endswith("]") and not name.endswith("[0]")
            if extra and name not in chosen and not self.can_correspond(name, other):
                del self.pairs[name]
                self._taken.remove(other)


# --- names that the caller gives -------------------------------------------------------------------------------------


def _chosen(found: _Matches, names: dict[str, str]) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """Match the activations that the caller names.

    Returns the names of the reference that were given exactly, and the patterns that matched nothing in the candidate,
    with an example: a mistake unless the activations that they cover match by other means.
    """
    exact = {name: other for name, other in names.items() if name in found.left or "*" not in name}
    unknown = [name for name in exact if name not in found.left]
    if unknown:
        message = f"names= maps {unknown}, which the reference does not have; {_meant(unknown[0], found.left)}."
        raise ComparisonError(message)
    missing = [other for other in exact.values() if other not in found.right]
    if missing:
        message = (
            f"the candidate lacks {missing[:5]}; {_meant(missing[0], found.right)}. Map the reference's names to the "
            'candidate\'s with names={"name here": "name there"}.'
        )
        raise ComparisonError(message)
    found.match(exact.items())
    for name in found.left:  # further calls of the part, and the entries of its tuple
        base, suffix = split(name)
        if base in exact and suffix and not is_aside(suffix):
            found.match([(name, exact[base] + suffix)])
    idle = {}
    for pattern, other in names.items():
        if pattern not in exact:
            pairs = _by_pattern(found.left, pattern, other)
            if not pairs:
                message = f"the pattern {pattern!r} of names= fits no name of the reference; it has "
                raise ComparisonError(message + f"{list(found.left)[:20]}.")
            if not any(there in found.right for _, there in pairs):
                idle[pattern] = pairs[0]
            found.match(pairs)
    return set(exact), idle


def _meant(name: str, known: Iterable[str]) -> str:
    """The name that was meant, or some of those that there are."""
    close = difflib.get_close_matches(name, known := list(known), n=1)
    return f"the nearest is {close[0]!r}" if close else f"it has {known[:20]}"


def _by_pattern(left: Iterable[str], pattern: str, other: str) -> list[tuple[str, str]]:
    pieces, filled = pattern.split("*"), other.split("*")
    if len(pieces) != len(filled):
        message = (
            f"names= maps {pattern!r} to {other!r}, and each * of one stands for a * of the other in order; write as "
            "many in both."
        )
        raise ComparisonError(message)
    form = re.compile("(.+?)".join(map(re.escape, pieces)))
    pairs = []
    for name in left:
        match = form.fullmatch(name)
        if match and (is_aside(pattern) or not is_aside(name)):
            runs = (*match.groups(), "")
            pairs.append((name, "".join(itertools.chain(*zip(filled, runs, strict=True)))))
    return pairs


# --- what is the same by itself --------------------------------------------------------------------------------------


def _match_softmax(found: _Matches) -> None:
    """Match softmax calls by number, if both sides have equally many and the shapes of each pair fit."""
    for operation in ("softmax", "log_softmax", "sigmoid"):
        mine, theirs = (
            {softmax_call(name)["call"]: name for name in _calls(side, operation)} for side in (found.left, found.right)
        )
        if set(mine) == set(theirs) and all(found.can_correspond(name, theirs[call]) for call, name in mine.items()):
            found.match((name, theirs[call]) for call, name in mine.items())


def _match_softmax_by_part(found: _Matches) -> None:
    """Match softmax calls within corresponding modules, if one side has more calls.

    If one side has several calls in a row, the scores of the first and the weights of the last match the single call of
    the other.
    """
    for operation in ("softmax", "log_softmax", "sigmoid"):
        mine, theirs = (_by_part(_calls(over, operation)) for over in (found.left_over(), found.right_over()))
        for (part, what), names in mine.items():
            if not part:
                continue  # in order of computation, one cannot tell which call is the other's
            others = theirs.get((found.pairs.get(part, part), what), []) or theirs.get((_entry(found, part), what), [])
            if len(names) == len(others):
                pairs = list(zip(names, others, strict=True))
            else:
                end = slice(0, 1) if what == "scores" else slice(-1, None)
                pairs = list(zip(names[end], others[end], strict=False))
            found.match((name, other) for name, other in pairs if found.can_correspond(name, other))


def _entry(found: _Matches, part: str) -> str:
    """The candidate's name for a module that returns a tuple."""
    return split(found.pairs.get(f"{part}[0]", part))[0]


def _by_part(names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        call = softmax_call(name)
        found.setdefault((call["part"] or "", call["what"]), []).append(name)
    return found


def _calls(names: Iterable[str], operation: str) -> list[str]:
    return [name for name in names if operation_of(name) == operation]


def _match_renamed(found: _Matches, rename: Callable[[str], str]) -> None:
    """Match the remaining names after a change, if the change keeps the names of each side distinct."""
    mine, theirs = (
        [name for name in names if not operation_of(name) and not is_aside(name)]
        for names in (found.left_over(), found.right_over())
    )
    there = {rename(name): name for name in theirs}
    here = {rename(name): name for name in mine}
    if len(there) == len(theirs) and len(here) == len(mine):
        found.match((here[name], there[name]) for name in here if name in there)


def _choose_linear(found: _Matches, chosen: set[str]) -> None:
    """If a layer holds its activation on one side only, match its value before the activation with the other side."""
    for name, other in list(found.pairs.items()):
        mine, theirs = (
            [one for one in (path, f"{path}:linear") if one in side]
            for path, side in ((name, found.left), (other, found.right))
        )
        if name in chosen or len(mine) == len(theirs):
            continue
        pairs = [(a, b) for a in mine for b in theirs]
        del found.pairs[name]
        best = min(pairs, key=lambda pair: _distance(found.left[pair[0]], found.right[pair[1]]))
        found.pairs[best[0]] = best[1]


def _distance(r: Any, c: Any) -> float:
    here, there = (np.asarray(convert(one, "numpy")).astype(np.float64) for one in (r, c))
    if here.size != there.size:
        return np.inf
    return float(np.mean(np.abs(here.ravel() - there.ravel())))


def _without_first(name: str) -> str:
    """The name without a tuple index, since one side may return a tuple of one array and the other the array."""
    return name.removesuffix("[0]")


def _spelled(name: str) -> str:
    """Spelling variants: list entries may be ``h_0`` or ``h.0``, paths ``h/0``; one side may return a tuple of one."""
    return re.sub(r"_(?=\d+(\W|$))", ".", _without_first(name).replace("/", "."))


def _match_prefixed(found: _Matches) -> None:
    """Match if one side has its model inside another, such as ``bert.encoder`` against ``encoder``."""
    for rest, flip in ((found.right_over(), False), (found.left_over(), True)):
        over = [name for name in rest if not is_aside(name)]
        roots = {name.partition(".")[0] for name in over if "." in name and not name.startswith("output")}
        others = {_spelled(name): name for name in (found.right if flip else found.left) if not is_aside(name)}
        counts = {root: sum(_spelled(_without_root(name, root)) in others for name in over) for root in roots}
        if not counts:
            continue
        best = max(sorted(counts), key=lambda root: counts[root])
        if counts[best] >= 2:
            shorts = [(_spelled(_without_root(name, best)), name) for name in over if name.startswith(f"{best}.")]
            pairs = [(others[short], name) for short, name in shorts if short in others]
            found.match((name, other) if flip else (other, name) for other, name in pairs)


def _without_root(name: str, root: str) -> str:
    return name.removeprefix(f"{root}.")


# --- order and shape -------------------------------------------------------------------------------------------------


def _match_outputs(found: _Matches) -> None:
    """Match the outputs of the models under different names: a single one by its shape, several in order."""
    mine, theirs = ([name for name in over if is_output(name)] for over in (found.left_over(), found.right_over()))
    if len(mine) == 1 or len(theirs) == 1:
        same = [(a, b) for a in mine for b in theirs if found.left.size(a) == found.right.size(b)]
        found.match(same if len(same) == 1 else [])
    else:
        _match_sequence(found, mine, theirs)


def _match_by_order(found: _Matches) -> None:
    """If few names agree, match activations between two matches if they have the same shapes in the same order."""
    mine, theirs = (_parts(side) for side in (found.left, found.right))
    agreed = sum(name in found.pairs for name in mine)
    if 2 * agreed >= min(len(mine), len(theirs)):
        return
    places = {name: index for index, name in enumerate(found.right)}
    anchors = [(name, found.pairs[name]) for name in found.left if name in found.pairs and not is_output(name)]
    order = [places[other] for _, other in anchors]
    if order != sorted(order):
        return
    left, right = (
        _between(mine, [a for a, _ in anchors], found.left),
        _between(theirs, [b for _, b in anchors], found.right),
    )
    for here, there in zip(left, right, strict=True):
        _match_sequence(found, here, there)


def _parts(side: _Side) -> list[str]:
    """The outputs of modules, without those that another module returned before."""
    seen: set[int | str] = set()
    found = []
    for name in side:
        if is_aside(name) or operation_of(name) or is_output(name) or side.identity(name) in seen:
            continue
        seen.add(side.identity(name))
        found.append(name)
    return found


def _between(parts: list[str], anchors: list[str], side: _Side) -> list[list[str]]:
    """The segments before, between and after the anchors."""
    runs: list[list[str]] = [[]]
    for name in side:
        if name in anchors:
            runs.append([])
        elif name in parts:
            runs[-1].append(name)
    return runs


def _match_sequence(found: _Matches, here: list[str], there: list[str]) -> None:
    if [found.left.size(name) for name in here] == [found.right.size(name) for name in there]:
        found.match(pair for pair in zip(here, there, strict=True) if not _is_nearer_to_another(found, *pair, there))


def _is_nearer_to_another(found: _Matches, name: str, other: str, others: list[str]) -> bool:
    """Whether an array is far from its counterpart and a hundred times nearer to another of its shape.

    Query, key and value have one shape, and are not computed in the same order everywhere.
    """
    value = found.left[name]
    far = _distance(value, found.right[other])
    if far <= 1e-3 * _distance(value, np.zeros(np.shape(value))):
        return False
    same = [one for one in others if found.right.size(one) == found.left.size(name)]
    return any(_distance(value, found.right[one]) < far / 100 for one in same)


# --- values ----------------------------------------------------------------------------------------------------------


def _without_repeats(found: _Matches, pairs: list[tuple[str, str]], chosen: set[str]) -> list[tuple[str, str]]:
    """Keep each pair of values once, where first computed, under a module's path if possible; plus outputs."""
    same: dict[tuple[int | str, int | str], list[tuple[str, str]]] = {}
    for name, other in pairs:
        same.setdefault((found.left.identity(name), found.right.identity(other)), []).append((name, other))
    first = {
        group[0]: next((pair for pair in group if not is_tap_or_output(pair[0])), group[0]) for group in same.values()
    }
    shown = set(first.values())
    kept = []
    for pair in pairs:
        if pair in first:
            kept.append(first[pair])
        elif pair not in shown and (pair[0] in chosen or is_output(pair[0])):
            kept.append(pair)
    return kept
