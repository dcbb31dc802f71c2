"""Keras 3 on any backend, and tf_keras, of which transformers' TensorFlow classes are made: one wrapped ``__call__``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from polylogit import _registry as registry
from polylogit.porting._recorders._patching import replaced, wrapped_call
from polylogit.porting._recorders._recording import Plan, Recording

__all__ = ["backend", "planner"]


def planner(library: str) -> Callable[..., Plan]:
    """How the models of ``"keras"`` or ``"tf_keras"`` are recorded."""

    def plan(model: Any, _: Any = None) -> Plan:
        layer_class = importlib.import_module(library).layers.Layer

        def watch(recording: Recording) -> Any:
            recording.parts = {id(layer): path for layer, path in _layers(model) if not _is_input(layer)}
            return replaced([(layer_class, "__call__")], wrapped_call)

        return Plan(model, watch, lambda: any(not _is_input(layer) for layer, _ in _layers(model)))

    return plan


def _layers(layer: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """The layers within a layer, each with the path of names that leads to it."""
    for part in layer._flatten_layers(include_self=False, recursive=False):
        # transformers writes the dot of a PyTorch name so.
        here = f"{path}{part.name}".replace("_._", ".")
        yield part, here
        yield from _layers(part, f"{here}.")


def _is_input(layer: Any) -> bool:
    return type(layer).__name__ == "InputLayer"


def backend() -> str | None:
    """The framework that Keras computes with."""
    import keras

    name = str(keras.backend.backend())
    return name if registry.is_known(name) else None
