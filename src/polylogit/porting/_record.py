"""Recorders: what every part of a model computes, as the ordered mapping that `compare` takes.

One function for all frameworks: `record` wraps a torch module, a Keras model, a Flax module (Linen or NNX) or a plain
function into a callable that returns its activations by name, in the order in which they were computed. The
model's base classes decide which of these it is; only the framework that it comes from is imported.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from polylogit import _registry as registry
from polylogit.errors import ComparisonError

__all__ = ["LIBRARIES", "Recorder", "record", "tap"]

_active: contextvars.ContextVar[_Activations | None] = contextvars.ContextVar("polylogit_recording", default=None)
_patching = threading.RLock()


class _Activations:
    """Collects values under unique names."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        if isinstance(value, (Mapping, tuple, list)):
            for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
                self.add(f"{name}.{key}", one)
        elif hasattr(value, "dtype") and hasattr(value, "shape"):
            # A part that is called twice makes two activations.
            names = itertools.chain([name], (f"{name}#{count}" for count in itertools.count(2)))
            self.found[next(one for one in names if one not in self.found)] = value


# (activations, *inputs) -> the output; records on the way.
_Run = Callable[..., Any]


def tap(name: str, value: Any, /) -> Any:
    """Record a value under a name while a function is recorded, and return it.

    Parameters
    ----------
    name : str
        What the activation is called.
    value : array
        Recorded during a call of a `Recorder`; outside of one, only returned.

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
    recording = _active.get()
    if recording is not None:
        recording.add(name, value)
    return value


class Recorder:
    """A model that returns its activations; see `record`.

    Attributes
    ----------
    model : object
        What was wrapped.
    framework : str or None
        The framework of its inputs, where that is known.
    """

    def __init__(self, model: Any, run: _Run, framework: str | None) -> None:
        self.model, self._run, self.framework = model, run, framework

    def __call__(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """The activations by name, the output last, for these inputs."""
        activations = _Activations()
        token = _active.set(activations)
        try:
            output = self._run(activations, *arguments, **keywords)
        finally:
            _active.reset(token)
        # The output gets a fixed name, so that both sides have it whatever their parts are called.
        activations.add("output", output)
        if not activations.found:
            message = f"{type(self.model).__name__} computed no arrays; record a model that returns at least one."
            raise ComparisonError(message)
        return activations.found


def record(model: Any, /, variables: Any = None, **keywords: Any) -> Recorder:
    """Wrap a model so that it returns all its activations by name, in the order of computation.

    Parameters
    ----------
    model : torch.nn.Module, keras.Model, flax.linen.Module, flax.nnx.Module or callable
        A plain function records what it passes to `tap`.
    variables : mapping, optional
        For Flax Linen: what `apply` takes, with the parameters.
    **keywords
        Passed to every call, for example ``training=False`` for Keras or ``deterministic=True`` for Flax.

    Returns
    -------
    Recorder
        A callable from inputs to an ordered mapping, whose last entry is ``"output"``.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> from polylogit.porting import compare, record
    >>> x = np.arange(12.0).reshape(4, 3) ** 0.5
    >>> compare(record(polylogit.softmax), record(polylogit.softmax, axis=0), inputs=x).cause.name
    'wrong-axis'
    """
    roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    for root, library in LIBRARIES.items():
        if root in roots:
            return Recorder(model, library.recorder(model, variables, keywords), library.framework())
    if not callable(model):
        message = f"a {type(model).__name__} cannot be recorded; pass a model or a function."
        raise ComparisonError(message)
    return Recorder(model, lambda _, *arguments, **more: model(*arguments, **keywords, **more), None)


# --- torch -----------------------------------------------------------------------------------------------------------


def _torch(module: Any, _: Any, keywords: dict[str, Any]) -> _Run:
    def run(activations: _Activations, *arguments: Any, **more: Any) -> Any:
        handles = [
            part.register_forward_hook(lambda _part, _inputs, output, name=name: activations.add(name, output))
            for name, part in module.named_modules()
            if name  # the module itself is the output
        ]
        try:
            return module(*arguments, **keywords, **more)
        finally:
            for handle in handles:
                handle.remove()

    return run


# --- frameworks without hooks: their classes' calls are wrapped for the time of one call -----------------------------


@contextlib.contextmanager
def _wrapped_calls(owners: Mapping[type, str], names: Mapping[int, str], activations: _Activations) -> Iterator[None]:
    """Within the block, calling a part that is in `names` records what it returns.

    `owners` maps classes to the name of the method that is looked up on the class and so has to be replaced there.
    """
    with _patching:
        originals = {cls: cls.__dict__[method] for cls, method in owners.items()}
        try:
            for cls, method in owners.items():
                setattr(cls, method, _recording(originals[cls], names, activations))
            yield
        finally:
            for cls, method in owners.items():
                setattr(cls, method, originals[cls])


def _recording(original: Any, names: Mapping[int, str], activations: _Activations) -> Any:
    depth: list[int] = []  # a class and its base class are both wrapped: the outermost call counts

    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        nested = id(self) in depth
        depth.append(id(self))
        try:
            output = original(self, *arguments, **keywords)
        finally:
            depth.pop()
        if id(self) in names and not nested:
            activations.add(names[id(self)], output)
        return output

    return call


def _keras(model: Any, _: Any, keywords: dict[str, Any]) -> _Run:
    import keras

    def layers(layer: Any) -> Iterator[Any]:
        for part in layer._flatten_layers(include_self=False, recursive=False):
            yield part
            yield from layers(part)

    def run(activations: _Activations, *arguments: Any, **more: Any) -> Any:
        names = {id(layer): layer.name for layer in layers(model) if type(layer).__name__ != "InputLayer"}
        with _wrapped_calls({keras.layers.Layer: "__call__"}, names, activations):
            return model(*arguments, **keywords, **more)

    return run


def _keras_backend() -> str | None:
    import keras

    name = str(keras.backend.backend())
    return name if registry.is_known(name) else None


def _flax(model: Any, variables: Any, keywords: dict[str, Any]) -> _Run:
    from flax import nnx

    return _nnx(model, keywords) if isinstance(model, nnx.Module) else _linen(model, variables, keywords)


def _linen(module: Any, variables: Any, keywords: dict[str, Any]) -> _Run:
    if variables is None:
        message = "a Flax Linen module holds no parameters; pass record(module, variables)."
        raise ComparisonError(message)

    def run(activations: _Activations, *arguments: Any, **more: Any) -> Any:
        output, state = module.apply(
            variables, *arguments, **keywords, **more, capture_intermediates=True, mutable=["intermediates"]
        )
        for name, value in _flattened(state["intermediates"]):
            activations.add(name, value)
        return output

    return run


def _flattened(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each call of each part: a tuple under ``__call__``, one entry a call."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{path}.{key}" if path else key)
        elif path and key == "__call__":
            yield from ((path, one) for one in value)
        elif key != "__call__":
            yield from ((f"{path}.{key}" if path else key, one) for one in value)


def _nnx(model: Any, keywords: dict[str, Any]) -> _Run:
    from flax import nnx

    def run(activations: _Activations, *arguments: Any, **more: Any) -> Any:
        parts = [(path, part) for path, part in nnx.iter_modules(model) if path]
        names = {id(part): ".".join(str(step) for step in path) for path, part in parts}
        owners = {_definer(type(part)): "__call__" for _, part in parts if callable(part)}
        with _wrapped_calls(owners, names, activations):
            return model(*arguments, **keywords, **more)

    return run


def _definer(cls: type) -> type:
    return next(base for base in cls.__mro__ if "__call__" in base.__dict__)


class Library(NamedTuple):
    """How models of one library are recorded, and which framework they compute with."""

    recorder: Callable[[Any, Any, dict[str, Any]], _Run]
    framework: Callable[[], str | None]


# By the package in which a model's base class is defined. On PyTorch a Keras model is a torch module too.
LIBRARIES = {
    "keras": Library(_keras, _keras_backend),
    "torch": Library(_torch, lambda: "torch"),
    "flax": Library(_flax, lambda: "jax"),
}
