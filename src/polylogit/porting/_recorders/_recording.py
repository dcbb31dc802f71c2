"""A recording: values under unique names, in order of computation.

Names are paths. The output of a module has its path, its inputs are under ``path:input``, and its second call is
``path#2``; an entry of a tuple is ``path[0]``, so it never takes the name of a module. Knows no framework.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Plan", "Recording", "active", "ends", "is_concrete", "nothing", "tap"]

active: contextvars.ContextVar[Recording | None] = contextvars.ContextVar("polylogit_recording", default=None)

# By the end of a class's name: values that a compiler traces, and that are not numbers yet.
_TRACED = ("Tracer", "SymbolicTensor", "KerasTensor", "FakeTensor", "FunctionalTensor")
_REAL = re.compile(r"float|int|bool|half|double|long")


class Plan(NamedTuple):
    """How to call a model, and how to observe the call."""

    call: Callable[..., Any]
    # (recording) -> a context manager, within which the model's parts record what they compute
    watch: Callable[[Recording], Any]
    # whether there are parts, so that seeing none of them is worth a warning
    has_parts: Callable[[], bool]


def nothing() -> bool:
    """The answer for models without modules: none are expected."""
    return False


def ends(parts: Mapping[str, list[Any]], users: Callable[[Any], Iterable[Any]]) -> dict[Any, list[str]]:
    """For each node of a graph, the modules that return its value, inner ones first.

    Modules are identified by their paths or their calls; the value that a module returns is the only node in it that
    others use.
    """
    found: dict[Any, list[str]] = {}
    for path, nodes in sorted(parts.items(), key=lambda part: -part[0].count(".")):
        here = set(nodes)
        used = [node for node in nodes if any(user not in here for user in users(node))]
        if len(used) == 1:
            found.setdefault(used[0], []).append(path)
    return found


class Recording:
    """Collects values under unique names."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        # id -> path, for libraries whose classes' calls are wrapped; asked again for parts that were made meanwhile
        self.list_parts: Callable[[], dict[int, str]] = dict
        self._parts: dict[int, str | None] = {}
        self.running: list[int] = []  # the ids of the parts that are being called
        self.inside: list[str] = []  # the paths of those parts, the innermost last
        self.in_softmax = False  # a softmax call within another is the same one
        self.outer: Recording | None = None  # during which this one was made
        self._calls: collections.Counter[str] = collections.Counter()

    # --- parts ---

    def path_of(self, part: Any) -> str | None:
        """The path of a module of the model; None for anything else."""
        if id(part) not in self._parts:
            self._parts |= self.list_parts()
            self._parts.setdefault(id(part), None)
        return self._parts[id(part)]

    def begin(self, path: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
        """Record the inputs of a call, and return the name for its output."""
        self._calls[path] += 1
        label = path if self._calls[path] == 1 else f"{path}#{self._calls[path]}"
        for index, value in enumerate(arguments):
            self.add(f"{label}:input[{index}]" if index else f"{label}:input", value)
        for key, value in keywords.items():
            if _is_array(value):
                self.add(f"{label}:input[{key}]", value)
        self.inside.append(path)
        return label

    def end(self, label: str, output: Any) -> None:
        """Record the output of the module whose call began last."""
        self.inside.pop()
        self.add(label, output)

    def part(self, path: str, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a module, and record its inputs and outputs."""
        label = self.begin(path, arguments, keywords)
        try:
            output = call(*arguments, **keywords)
        finally:
            self.inside.pop()
        if all(is_concrete(one) for _, one in _leaves("", output)):
            self.add(label, output)
        else:  # only the shapes were asked for
            self._calls[path] -= 1
            for name in [name for name in self.found if name.startswith(f"{label}:input")]:
                del self.found[name]
        return output

    # --- values ---

    def add(self, name: str, value: Any) -> None:
        """Record an array, or all arrays in a container; ignore anything else."""
        for path, one in _leaves(name, value):
            if _is_array(one) and is_concrete(one) and _REAL.search(str(one.dtype)):
                self._store(path, one)

    def add_output(self, value: Any) -> None:
        """Record the output of the model, in any class; even a tracer, for automatic differentiation."""
        known = _is_array(value) or isinstance(value, (Mapping, tuple, list)) or dataclasses.is_dataclass(value)
        fields = {} if known else {key: one for key, one in getattr(value, "__dict__", {}).items() if _is_array(one)}
        for path, one in _leaves("output", fields or value):
            if _is_array(one):
                self._store(path, one)

    def add_softmax(self, operation: str, scores: Any, weights: Any) -> None:
        """Record one call of an operation, with its number and the module that contains it."""
        if _is_array(scores) and is_concrete(scores) and is_concrete(weights):
            self._calls[f"{operation}:"] += 1
            place = f"{self.inside[-1]}:" if self.inside else ""
            name = f"{place}{operation}:{self._calls[f'{operation}:']}"
            self.add(f"{name}.scores", scores)
            self.add(f"{name}.weights", weights)

    def _store(self, name: str, value: Any) -> None:
        names = itertools.chain([name], (f"{name}#{count}" for count in itertools.count(2)))
        self.found[next(one for one in names if one not in self.found)] = value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The contents of a container, each with its path."""
    if isinstance(value, Mapping):
        parts: Any = ((f"{name}.{key}", one) for key, one in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        fields: tuple[str, ...] = getattr(value, "_fields")  # noqa: B009  type checkers know plain tuples alone
        parts = ((f"{name}.{key}", one) for key, one in zip(fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        parts = ((f"{name}[{index}]", one) for index, one in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and not _is_array(value):
        parts = ((f"{name}.{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value))
    else:
        yield name, value
        return
    for path, one in parts:
        yield from _leaves(path, one)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def is_concrete(value: Any) -> bool:
    """Whether a value has numbers, rather than being a compiler's tracer or a stand-in for a shape."""
    cls: Any = type(value)
    return _has_numbers(cls) and getattr(getattr(value, "device", None), "type", None) != "meta"


@functools.cache
def _has_numbers(cls: Any) -> bool:
    return not any(base.__name__.endswith(_TRACED) for base in cls.__mro__)


def tap(name: str, value: Any, /) -> Any:
    """Record a value under a name while a function is recorded, and return it.

    Parameters
    ----------
    name : str
        The name of the activation.
    value : array
        The value to record; outside a call of a ``Recorder``, it is only returned.

    Examples
    --------
    >>> import numpy as np
    >>> from polylogit.porting import record, tap
    >>> def model(x):
    ...     scores = tap("scores", 2 * x)
    ...     return scores.sum()
    >>> list(record(model)(np.ones(3)))
    ['scores', 'output']
    """
    recording = active.get()
    if recording is not None:
        recording.add(name, value)
    return value
