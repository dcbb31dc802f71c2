"""Records Flax: Linen modules by an interceptor, NNX modules through their classes, and transformers' Flax classes."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from polylogit.errors import ComparisonError
from polylogit.porting._recorders._patching import replaced, wrapped_call
from polylogit.porting._recorders._recording import Plan, Recording, active, nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["modules_of", "plan", "transformers", "watched_linen"]


def plan(model: Any, variables: Any) -> Plan:
    """The plan to record a Flax module; a Linen module needs its variables."""
    from flax import nnx

    if isinstance(model, nnx.Module):
        return _nnx(model)
    if variables is None:
        message = "a Flax Linen module holds no parameters; pass record(module, variables)."
        raise ComparisonError(message)

    def call(*arguments: Any, **keywords: Any) -> Any:
        return model.apply(variables, *arguments, **keywords)

    return Plan(call, watched_linen, nothing)


def transformers(model: Any, variables: Any) -> Plan:
    """The plan for a transformers class that holds a Linen module and its parameters."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        given = {} if variables is None else {"params": variables}
        return model(*arguments, **given, **keywords)

    return Plan(call, watched_linen, lambda: True)


@contextlib.contextmanager
def watched_linen(recording: Recording) -> Iterator[None]:
    """Record the values of Linen modules within the block, whoever calls them."""
    if "flax.linen" not in sys.modules:
        yield
        return
    from flax import linen

    def intercept(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        path = ".".join(map(str, context.module.path))
        if context.method_name != "__call__" or not path or active.get() is not recording:
            return call(*arguments, **keywords)
        return recording.part(path, call, *arguments, **keywords)

    with linen.intercept_methods(intercept):
        yield


def modules_of(model: Any) -> Iterable[tuple[tuple[Any, ...], Any]]:
    """The path and the module of each part of an nnx model; before Flax 0.11 this is a method of the model."""
    from flax import nnx

    found: Iterable[tuple[tuple[Any, ...], Any]] = (
        nnx.iter_modules(model) if hasattr(nnx, "iter_modules") else model.iter_modules()
    )
    return found


def _nnx(model: Any) -> Plan:
    def parts() -> list[tuple[str, Any]]:
        return [(".".join(map(str, path)), part) for path, part in modules_of(model) if path]

    def watch(recording: Recording) -> Any:
        recording.list_parts = lambda: {id(part): path for path, part in parts()}
        owners = {_definer(type(part)) for _, part in parts() if callable(part)}
        return replaced([(owner, "__call__") for owner in owners], wrapped_call)

    return Plan(model, watch, lambda: any(callable(part) for _, part in parts()))


def _definer(cls: type) -> type:
    return next(base for base in cls.__mro__ if "__call__" in base.__dict__)
