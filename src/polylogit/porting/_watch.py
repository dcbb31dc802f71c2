"""Observes every call of every module of a model, and can replace its inputs and outputs.

`watched` finds out the library of a model. Its result runs the model unchanged and tells a `Watcher` about each call of
each module; the watcher may replace inputs and outputs. Knows nothing of what the watcher does.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from polylogit import _registry as registry
from polylogit.porting._recorders import Recorder
from polylogit.porting._recorders._flax import modules_of
from polylogit.porting._recorders._recording import Recording, active, is_concrete
from polylogit.porting._recorders._taps import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Part", "Watched", "Watcher", "softmaxes", "watched"]

_patching = threading.RLock()


class Part(NamedTuple):
    """A module during a call."""

    name: str  # the path, with dots; empty for the model itself
    module: Any
    parameters: tuple[str, ...]  # the names of its positional arguments
    weights: Callable[[], list[tuple[Any, Any]]]  # (what tells the array from others, the array)
    fused: bool = False  # applies an activation function that other frameworks apply outside


class Watcher(Protocol):
    """Receives the calls of modules; each `enter` is followed by its `leave`."""

    def enter(
        self, part: Part, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the call."""
        ...

    def leave(self, output: Any) -> Any:
        """Return the output to continue with."""

    def softmax(self, operation: str, scores: Any, weights: Any) -> None:
        """Receive the input and output of a softmax, log_softmax or sigmoid call, inside or outside modules."""


class _Softmaxes(Recording):
    """The recorder of softmax calls while a model is watched."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self.watcher = watcher

    def add(self, name: str, value: Any) -> None:
        """Ignore tapped values."""

    def add_softmax(self, operation: str, scores: Any, weights: Any) -> None:
        """Report one call of an operation."""
        if is_concrete(scores) and is_concrete(weights):
            self.watcher.softmax(operation, scores, weights)


@contextlib.contextmanager
def softmaxes(watcher: Watcher) -> Iterator[None]:
    """Report softmax calls to a watcher within the block."""
    recording = _Softmaxes(watcher)
    token = active.set(recording)
    try:
        with tapped(recording):
            yield
    finally:
        active.reset(token)


class Watched(NamedTuple):
    """A model that can be run under a watcher."""

    model: Any  # the module that was found in what was given; None for a plain function
    function: Callable[..., Any]
    framework: str | None  # of its arrays, where that is known
    watching: Callable[[Watcher], contextlib.AbstractContextManager[None]]
    # Within it, the model computes in the floating dtype of this name; None where that is not known how to do.
    in_dtype: Callable[[str], contextlib.AbstractContextManager[None]] | None = None


def watched(side: Any) -> Watched:
    """The watched form of a model, a recorder of one, or a function that calls one."""
    model = _model_of(side)
    if isinstance(side, Recorder):
        side = side.output  # a recording of its own is of no use here
    for root, library in _LIBRARIES.items():
        if model is not None and root in _roots(model):
            model = getattr(model, "_orig_mod", model)
            return library(model, side)
    return Watched(None, side, None, _linen_calls if "flax" in sys.modules else _nothing)


def _roots(model: Any) -> set[str]:
    return {cls.__module__.partition(".")[0] for cls in type(model).__mro__}


def _model_of(side: Any, depth: int = 0) -> Any:
    """The only model that a callable is, wraps or uses; None if there is none, or several."""
    if any(root in _roots(side) for root in _LIBRARIES) and not inspect.isfunction(side):
        return side
    # `record` and transformers' Flax classes
    for inner in (getattr(side, "model", None), getattr(side, "module", None), getattr(side, "__self__", None)):
        if inner is not None and not inspect.ismodule(inner) and any(root in _roots(inner) for root in _LIBRARIES):
            return inner
    if isinstance(side, functools.partial):
        return _model_of(side.func, depth)
    code = getattr(side, "__code__", None)
    if code is None or depth > 1:
        return None
    scope = getattr(side, "__globals__", {})
    used = [scope[name] for name in code.co_names if name in scope]
    for cell in getattr(side, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # a name that is not bound yet
            used.append(cell.cell_contents)
    models = {id(one): one for value in used if callable(value) and (one := _model_of(value, depth + 1)) is not None}
    return next(iter(models.values())) if len(models) == 1 else None


@contextlib.contextmanager
def _nothing(_: Watcher) -> Iterator[None]:
    yield


def _parameters(method: Any) -> tuple[str, ...]:
    """The names of the positional parameters of a method, without self."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(one.name for one in found if one.kind in kinds)[1:]


# --- torch -----------------------------------------------------------------------------------------------------------


def _torch(model: Any, side: Any) -> Watched:
    import torch

    def weights(module: Any) -> list[tuple[Any, Any]]:
        arrays = [one for one in module.state_dict().values() if torch.is_tensor(one) and one.is_floating_point()]
        return [((one.data_ptr(), tuple(one.shape)), one) for one in arrays]

    @contextlib.contextmanager
    def watching(watcher: Watcher) -> Iterator[None]:
        handles = []
        for name, module in model.named_modules():
            part = Part(
                name.replace("_orig_mod.", ""),
                module,
                _parameters(type(module).forward),
                functools.partial(weights, module),
            )
            enter = functools.partial(_enter, watcher, part)
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(lambda _module, _inputs, output: watcher.leave(output)))
        try:
            with torch.no_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def in_dtype(name: str) -> Iterator[None]:
        arrays = [one for one in (*model.parameters(), *model.buffers()) if one.is_floating_point()]
        before = [one.data for one in arrays]
        try:
            for one in arrays:
                one.data = one.data.to(getattr(torch, name))
            yield
        finally:
            for one, data in zip(arrays, before, strict=True):
                one.data = data

    return Watched(model, side, "torch", watching, in_dtype)


def _enter(watcher: Watcher, part: Part, _: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return watcher.enter(part, arguments, keywords)


# --- frameworks without hooks: their classes' calls are wrapped for the time of a run --------------------------------


@contextlib.contextmanager
def _patched(owners: set[type], parts: Mapping[int, Part], watcher: Watcher) -> Iterator[None]:
    with _patching:
        originals = {cls: cls.__dict__["__call__"] for cls in owners}
        try:
            for cls, original in originals.items():
                cls.__call__ = _telling(original, parts, watcher)  # type: ignore[method-assign]
            yield
        finally:
            for cls, original in originals.items():
                cls.__call__ = original  # type: ignore[method-assign]


def _telling(original: Any, parts: Mapping[int, Part], watcher: Watcher) -> Any:
    @functools.wraps(original)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        # A class and its base class are both wrapped: the outermost call counts.
        if id(self) not in parts or id(self) in _under_way:
            return original(self, *arguments, **keywords)
        given, named = watcher.enter(parts[id(self)], arguments, keywords)
        _under_way.append(id(self))
        try:
            output = original(self, *given, **named)
        finally:
            _under_way.remove(id(self))
        return watcher.leave(output)

    return call


_under_way: list[int] = []


def _keras_layers(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if type(layer).__name__ != "InputLayer":
            yield from _keras_layers(layer, f"{path}.{_keras_name(model, layer)}".lstrip("."))


def _keras_name(owner: Any, layer: Any) -> str:
    """The name of a layer, or of the attribute that holds it if the layer has only a default name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
    if not re.fullmatch(rf"{re.escape(words)}(_\d+)?", layer.name):
        return str(layer.name)
    held = {name.lstrip("_"): value for name, value in vars(owner).items() if not name.startswith(_KERAS_LISTS)}
    for name, value in held.items():
        if value is layer:
            return str(name)
    for name, value in held.items():
        if isinstance(value, (list, tuple)):
            place = next((at for at, one in enumerate(value) if one is layer), None)
            if place is not None:
                return f"{name}.{place}"
    return str(layer.name)


# Where Keras keeps all layers of a model or layer, which says no more than their order.
_KERAS_LISTS = ("_layers", "_operations", "_self_", "_flatten", "_functional", "_obj_reference", "__")


def _keras_like(module: str, framework: Callable[[], str | None]) -> Callable[[Any, Any], Watched]:
    def library(model: Any, side: Any) -> Watched:
        base = sys.modules[module].layers.Layer

        def weights(layer: Any) -> list[tuple[Any, Any]]:
            arrays = [(id(one), getattr(one, "value", one)) for one in layer.weights]
            arrays = [(key, one() if callable(one) else one) for key, one in arrays]
            return [(key, one) for key, one in arrays if "float" in str(one.dtype)]

        @contextlib.contextmanager
        def watching(watcher: Watcher) -> Iterator[None]:
            parts = {}
            for name, layer in reversed(list(_keras_layers(model))):
                fused = bool(layer.weights) and getattr(layer, "activation", None) is not None
                fused = fused and getattr(layer.activation, "__name__", "") != "linear"
                # A recurrent layer applies its own at each step, within, as those of all frameworks do.
                fused = fused and not (hasattr(layer, "cell") or hasattr(layer, "state_size"))
                names = _parameters(type(layer).call)
                parts[id(layer)] = Part(name, layer, names, functools.partial(weights, layer), fused)
            with _patched({_definer(base)}, parts, watcher):
                yield

        return Watched(model, side, framework(), watching)

    return library


def _keras_backend() -> str | None:
    import keras

    name = str(keras.backend.backend())
    return name if registry.is_known(name) else None


def _definer(cls: type) -> type:
    return next(base for base in cls.__mro__ if "__call__" in base.__dict__)


# --- flax ------------------------------------------------------------------------------------------------------------


def _flax(model: Any, side: Any) -> Watched:
    from flax import nnx

    if not isinstance(model, nnx.Module):
        return Watched(model, side, "jax", _linen_calls)

    def weights(module: Any) -> list[tuple[Any, Any]]:
        return _floats(nnx.state(module))

    @contextlib.contextmanager
    def watching(watcher: Watcher) -> Iterator[None]:
        modules = {id(module): (path, module) for path, module in modules_of(model) if callable(module)}
        modules[id(model)] = ((), model)
        parts = {
            key: Part(
                ".".join(str(step) for step in path),
                module,
                _parameters(type(module).__call__),
                functools.partial(weights, module),
            )
            for key, (path, module) in modules.items()
        }
        with _patched({_definer(type(module)) for _, module in modules.values()}, parts, watcher):
            yield

    return Watched(model, side, "jax", watching)


def _floats(tree: Any) -> list[tuple[Any, Any]]:
    import jax

    return [(id(one), one) for one in jax.tree.leaves(tree) if "float" in str(getattr(one, "dtype", ""))]


@contextlib.contextmanager
def _linen_calls(watcher: Watcher) -> Iterator[None]:
    """Observe every Linen module that is applied within the block, whoever applies it."""
    from flax import linen

    def weights(module: Any) -> list[tuple[Any, Any]]:
        variables = module.variables
        return _floats({key: variables[key] for key in ("params", "batch_stats") if key in variables})

    def intercept(following: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], context: Any) -> Any:
        if context.method_name != "__call__":
            return following(*arguments, **keywords)
        module = context.module
        part = Part(
            ".".join(module.path),
            module,
            _parameters(type(module).__call__),
            functools.partial(weights, module),
        )
        given, named = watcher.enter(part, arguments, keywords)
        return watcher.leave(following(*given, **named))

    with linen.intercept_methods(intercept):
        yield


# By the package in which a model's base class is defined. On PyTorch a Keras model is a torch module too.
_LIBRARIES: dict[str, Callable[[Any, Any], Watched]] = {
    "tf_keras": _keras_like("tf_keras", lambda: "tensorflow"),
    "keras": _keras_like("keras", _keras_backend),
    "torch": _torch,
    "flax": _flax,
}
