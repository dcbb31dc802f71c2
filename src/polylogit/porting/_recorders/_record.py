"""`record` and `Recorder`: a model of any library as a callable that returns its activations by name.

The base classes of a model tell its library, and the table `LIBRARIES` names the recorder. Imports a library only for
its own models.
"""

from __future__ import annotations

import importlib
import os
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from polylogit.errors import ComparisonError, RecordingWarning
from polylogit.porting._recorders import _keras
from polylogit.porting._recorders._flax import watched_linen
from polylogit.porting._recorders._recording import Plan, Recording, active, nothing
from polylogit.porting._recorders._taps import seen, tapped

__all__ = ["LIBRARIES", "Recorder", "record"]

# Functions: a recording of one cannot observe parts, which deserves no warning.
_FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    type,
)


class Recorder:
    """A model that returns its activations; see `record`.

    Attributes
    ----------
    model : object
        The wrapped model.
    framework : str or None
        The framework of its inputs, if known.
    """

    variables: Any = None  # the parameters of a model that holds none itself

    def __init__(
        self,
        model: Any,
        plan: Plan,
        framework: str | None,
        prepare: Callable[..., Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.framework = model, framework
        self._plan, self.prepare, self.keywords = plan, prepare, dict(keywords or {})

    def __call__(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the activations for these inputs by name, with the output last."""
        recording = Recording()
        recording.outer = active.get()
        token = active.set(recording)
        try:
            with tapped(recording), self._plan.watch(recording):
                output = self.output(*arguments, **keywords)
        finally:
            active.reset(token)
        alone = not recording.found and self._plan.has_parts()
        # The output has a fixed name, so that both sides have it, however their modules are called.
        recording.add_output(output)
        if not recording.found:
            message = f"{type(self.model).__name__} computed no arrays; record a model that returns at least one."
            raise ComparisonError(message)
        if alone:
            message = (
                f"of the {type(self.model).__name__} nothing but the output was seen. Record the model that is inside "
                "of it, the one that was not scripted, or a function that passes what is worth comparing to tap()."
            )
            warnings.warn(message, RecordingWarning, stacklevel=2)
        return recording.found

    def outputs(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Return the outputs of the model by name, without recording anything else."""
        recording = Recording()
        recording.add_output(self.output(*arguments, **keywords))
        return recording.found

    def output(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the output of the model for these inputs, without recording."""
        if self.prepare is not None:
            prepared = self.prepare(*arguments, **keywords)
            arguments, keywords = (), {}
            if isinstance(prepared, Mapping):
                keywords = dict(prepared)
            else:
                arguments = prepared if isinstance(prepared, tuple) else (prepared,)
        return self._plan.call(*arguments, **self.keywords, **keywords)


def record(
    model: Any, /, variables: Any = None, *, prepare: Callable[..., Any] | None = None, **keywords: Any
) -> Recorder:
    """Wrap a model so that it returns all its activations by name, in the order of computation.

    Parameters
    ----------
    model : torch.nn.Module, keras.Model, flax.linen.Module, flax.nnx.Module, ONNX model or callable
        Also models from torch.export and torch.compile, tf_keras models, the PyTorch, TensorFlow and Flax classes of
        transformers, and the path of an ONNX file. A plain function records the values that it passes to `tap`.
    variables : mapping, optional
        For Flax Linen: the variables for `apply`, including the parameters.
    prepare : callable, optional
        Converts the common inputs to those of this model: called with them, it returns an array, a tuple of
        positional inputs or a dict of keyword inputs.
    **keywords
        Passed to every call, for example ``training=False`` for Keras or ``deterministic=True`` for Flax.

    Returns
    -------
    Recorder
        A callable from inputs to an ordered mapping, whose last entries are ``"output"``, or ``"output.<name>"`` or
        ``"output[0]"`` if the model returns several outputs.

    Warns
    -----
    RecordingWarning
        If a model has modules and none of them was observed.

    Notes
    -----
    The output of a module is named by its path, for example ``"encoder.layer.0"``. Its inputs are ``"path:input"``, its
    second call is ``"path#2"``, an entry of a tuple ``"path[0]"``, and the value of a Keras layer before its own
    activation ``"path:linear"``. The input and output of each softmax, log_softmax and sigmoid call are recorded as
    ``"softmax:1.scores"`` and ``"softmax:1.weights"``, numbered by operation; fused attention is computed a second time
    to show them. Compiled code (torch.compile, jax.jit, tf.function) runs uncompiled, so that it can be observed.

    Examples
    --------
    >>> import numpy as np, polylogit
    >>> from polylogit.porting import compare, record
    >>> x = np.arange(12.0).reshape(4, 3) ** 0.5
    >>> list(record(polylogit.softmax)(x))
    ['softmax:1.scores', 'softmax:1.weights', 'output']
    >>> compare(record(polylogit.softmax), record(polylogit.softmax, axis=0), inputs=x).cause.name
    'wrong-axis'
    """
    if isinstance(model, (str, os.PathLike)):
        found: str | None = "onnx"
    else:
        roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
        found = next((root for root in LIBRARIES if root in roots), None)
    if found is not None:
        library = LIBRARIES[found]
        recorder = Recorder(model, library.plan(model, variables), library.framework(), prepare, keywords)
        recorder.variables = variables
        return recorder
    if not callable(model):
        message = f"a {type(model).__name__} cannot be recorded; pass a model or a function."
        raise ComparisonError(message)
    return Recorder(model, _function(model), None, prepare, keywords)


def _function(function: Any) -> Plan:
    """The plan for a function, compiled or not, or for any other callable object."""
    call = seen(function)
    if hasattr(function, "_torchdynamo_orig_callable"):
        call = function._torchdynamo_orig_callable
    elif hasattr(function, "python_function") and hasattr(function, "get_concrete_function"):
        call = function.python_function
    elif hasattr(function, "lower") and hasattr(function, "__wrapped__"):
        call = _unjitted(function)
    is_model = call is function and not isinstance(function, _FUNCTIONS) and _is_defined_in_python(function)
    return Plan(call, watched_linen, (lambda: True) if is_model else nothing)


def _is_defined_in_python(function: Any) -> bool:
    return isinstance(getattr(type(function), "__call__", None), types.FunctionType)  # noqa: B004


def _unjitted(function: Any) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        if active.get() is None:
            return function(*arguments, **keywords)
        import jax

        with jax.disable_jit():
            return function(*arguments, **keywords)

    return call


def _lazily(name: str, function: str = "plan") -> Callable[[Any, Any], Plan]:
    """A function of a sibling module, which is imported when the function is called."""

    def plan(model: Any, variables: Any) -> Plan:
        module = importlib.import_module(f"polylogit.porting._recorders.{name}")
        return getattr(module, function)(model, variables)  # type: ignore[no-any-return]

    return plan


class Library(NamedTuple):
    """How to record the models of a library, and the framework in which they compute."""

    plan: Callable[[Any, Any], Plan]
    framework: Callable[[], str | None]


# By the package that defines a model's base class, in this order: a Keras model on PyTorch is also a torch module, and
# most classes of transformers are classes of their framework.
LIBRARIES = {
    "keras": Library(_keras.planner("keras"), _keras.backend),
    "tf_keras": Library(_keras.planner("tf_keras"), lambda: "tensorflow"),
    "torch": Library(_lazily("_torch"), lambda: "torch"),
    "flax": Library(_lazily("_flax"), lambda: "jax"),
    "transformers": Library(_lazily("_flax", "transformers"), lambda: "jax"),
    "onnx": Library(_lazily("_onnx"), lambda: "numpy"),
}
