"""Records the input and output of every softmax, log_softmax and sigmoid call, numbered.

The model needs no names, hooks or switches. During a recording, the frameworks' functions are replaced in every module
that holds one of them; for PyTorch, `_torch` uses modes instead. Fused attention hides its weights, so it is computed a
second time to show them. Frameworks are used only if they are loaded.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit import convert
from polylogit.porting._recorders._patching import original_of, replaced
from polylogit.porting._recorders._recording import Recording, active, is_concrete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["seen", "tapped"]

# operation -> the functions that compute it, if their module is loaded. Keras, Flax and transformers end up calling
# these.
FUNCTIONS = {
    "softmax": ("polylogit.softmax", "jax.nn.softmax", "tensorflow.nn.softmax", "scipy.special.softmax"),
    "log_softmax": (
        "polylogit.log_softmax",
        "jax.nn.log_softmax",
        "tensorflow.nn.log_softmax",
        "scipy.special.log_softmax",
    ),
    "sigmoid": ("polylogit.sigmoid", "jax.nn.sigmoid", "tensorflow.nn.sigmoid", "scipy.special.expit"),
    "attention": ("jax.nn.dot_product_attention",),
}
# The names under which modules hold them.
NAMES = ("softmax", "log_softmax", "sigmoid", "expit", "softmax_v2", "log_softmax_v2", "dot_product_attention")


@contextlib.contextmanager
def tapped(recording: Recording) -> Iterator[None]:
    """Record the calls of all loaded frameworks within the block."""
    with contextlib.ExitStack() as stack:
        if "torch" in sys.modules:
            from polylogit.porting._recorders._torch import softmax_modes

            stack.enter_context(softmax_modes(recording))
        originals = _originals()
        stack.enter_context(replaced(_places(originals), lambda found: _wrapped(found, originals[id(found)])))
        yield


def seen(function: Any) -> Any:
    """The function, or if it is one of the operations, a version that records its calls."""
    operation = _originals().get(id(original_of(function)))
    return function if operation is None else _wrapped(original_of(function), operation)


def _originals() -> dict[int, str]:
    """The id of each function -> its operation."""
    found = {}
    for operation, paths in FUNCTIONS.items():
        for path in paths:
            root, _, name = path.rpartition(".")
            value = sys.modules.get(root.partition(".")[0])
            for step in (*root.split(".")[1:], name):
                value = None if value is None else vars(value).get(step)
            if value is not None:
                found[id(original_of(value))] = operation
    return found


def _places(originals: dict[int, str]) -> list[tuple[Any, str]]:
    """Every module that holds one of the functions, with the name in it."""
    found = []
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        found += [(module, name) for name in NAMES if name in names and id(original_of(names[name])) in originals]
    return found


def _wrapped(original: Any, operation: str) -> Any:
    record = _attention if operation == "attention" else _softmax(operation)

    @functools.wraps(original, updated=())
    def call(*arguments: Any, **keywords: Any) -> Any:
        recording = active.get()
        if recording is None or recording.in_softmax or not all(map(is_concrete, arguments)):
            return original(*arguments, **keywords)
        recording.in_softmax = True
        try:
            output = original(*arguments, **keywords)
            outer: Recording | None = recording
            while outer is not None:
                record(outer, original, output, *arguments, **keywords)
                outer = outer.outer
        finally:
            recording.in_softmax = False
        return output

    return call


def _softmax(operation: str) -> Callable[..., None]:
    def record(recording: Recording, _: Any, output: Any, *arguments: Any, **keywords: Any) -> None:
        named = (keywords[key] for key in ("x", "logits", "features") if key in keywords)
        scores = next(iter((*arguments, *named)), None)
        if scores is None:
            return
        if not hasattr(scores, "dtype"):
            scores = np.asarray(scores)
        recording.add_softmax(operation, _masked(scores, keywords.get("where")), output)

    return record


def _masked(scores: Any, where: Any) -> Any:
    """The scores with -inf where the mask is False, as the softmax treats them."""
    if where is None or not is_concrete(where):
        return scores
    values = np.asarray(convert(scores, "numpy"))
    if values.dtype.kind in "biu":
        values = values.astype(np.float64)
    return np.where(np.asarray(convert(where, "numpy")), values, np.asarray(-np.inf).astype(values.dtype))


def _attention(recording: Recording, original: Any, _output: Any, *arguments: Any, **keywords: Any) -> None:
    """Compute JAX's attention a second time and record its scores and weights: (batch, heads, queries, keys)."""
    import jax.numpy as jnp
    from jax.nn import softmax

    given = inspect.signature(original).bind(*arguments, **keywords)
    given.apply_defaults()
    options = given.arguments
    query, key = (jnp.asarray(options[name]) for name in ("query", "key"))
    if query.ndim == 3:
        query, key = query[None], key[None]
    key = jnp.repeat(key, query.shape[2] // key.shape[2], axis=2)  # fewer heads of keys than of queries
    scale = options["scale"] if options["scale"] is not None else query.shape[-1] ** -0.5
    exact = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=exact) * scale
    if options["bias"] is not None:
        scores = scores + options["bias"]
    scores = jnp.where(_kept(options, *scores.shape[-2:]), scores, -jnp.inf)
    empty = jnp.all(jnp.isneginf(scores), axis=-1, keepdims=True)
    recording.add_softmax("softmax", scores, jnp.where(empty, 0.0, softmax(jnp.where(empty, 0.0, scores))))


def _kept(options: dict[str, Any], queries: int, keys: int) -> Any:
    """The keys that each query sees."""
    rows, columns = np.arange(queries)[:, None], np.arange(keys)
    kept: Any = np.ones((1, 1, queries, keys), bool)
    if options["is_causal"]:
        kept = kept & (columns <= rows)
    window = options["local_window_size"]
    if window is not None:
        before, after = window if isinstance(window, tuple) else (window, window)
        kept = kept & (columns >= rows - before) & (columns <= rows + after)
    for name, places in (("query_seq_lengths", rows), ("key_value_seq_lengths", columns)):
        if options[name] is not None:
            kept = kept & (places < np.asarray(options[name])[:, None, None, None])
    return kept if options["mask"] is None else kept & np.asarray(options["mask"])
