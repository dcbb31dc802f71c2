"""Records Keras 3 on any backend, and tf_keras (used by transformers' TensorFlow classes), by wrapping ``__call__``."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

from polylogit import _registry as registry
from polylogit.porting._recorders._patching import replaced, wrapped_call
from polylogit.porting._recorders._recording import Plan, Recording, active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["backend", "planner"]

# What dense layers and convolutions have, built or not.
_SIZES = ("units", "filters", "equation", "depth_multiplier")


def planner(library: str) -> Callable[..., Plan]:
    """The plan to record models of ``"keras"`` or ``"tf_keras"``."""

    def plan(model: Any, _: Any = None) -> Plan:
        layer_class = importlib.import_module(library).layers.Layer

        @contextlib.contextmanager
        def watch(recording: Recording) -> Iterator[None]:
            layers = [(layer, path) for layer, path in _layers(model) if not _is_input(layer)]
            recording.list_parts = lambda: {id(layer): path for layer, path in _layers(model) if not _is_input(layer)}
            with contextlib.ExitStack() as stack:
                stack.enter_context(replaced([(layer_class, "__call__")], wrapped_call))
                for layer, path in layers:
                    if _holds_activation(layer):
                        stack.enter_context(replaced([(layer, "activation")], _before_activation(path)))
                yield

        return Plan(model, watch, lambda: any(not _is_input(layer) for layer, _ in _layers(model)))

    return plan


def _layers(layer: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """The layers inside a layer, with their paths."""
    for part in layer._flatten_layers(include_self=False, recursive=False):
        # transformers writes the dot of a PyTorch name so.
        here = f"{path}{part.name}".replace("_._", ".")
        yield part, here
        yield from _layers(part, f"{here}.")


def _holds_activation(layer: Any) -> bool:
    """Whether a layer with weights applies an activation function, which other libraries have as a separate layer."""
    function = vars(layer).get("activation")
    if not callable(function) or isinstance(function, type) or getattr(function, "__name__", "") == "linear":
        return False
    return any(hasattr(layer, name) for name in _SIZES) and not hasattr(layer, "recurrent_initializer")


def _before_activation(path: str) -> Callable[[Any], Any]:
    def make(function: Any) -> Any:
        @functools.wraps(function, updated=())
        def call(x: Any, *arguments: Any, **keywords: Any) -> Any:
            recording = active.get()
            if recording is not None:
                recording.add(f"{path}:linear", x)
            return function(x, *arguments, **keywords)

        return call

    return make


def _is_input(layer: Any) -> bool:
    return type(layer).__name__ == "InputLayer"


def backend() -> str | None:
    """The framework that Keras computes with."""
    import keras

    name = str(keras.backend.backend())
    return name if registry.is_known(name) else None
