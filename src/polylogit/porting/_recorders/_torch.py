"""Records PyTorch: modules with hooks, exported programs node by node, and softmax calls with a dispatch mode.

Models from torch.compile run uncompiled, because hooks see nothing inside compiled code.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from polylogit.porting._recorders._recording import Plan, Recording, active, ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["plan", "softmax_modes"]


def plan(module: Any, _: Any = None) -> Plan:
    """The plan to record a torch module, an exported program or a compiled module."""
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    module = getattr(module, "_orig_mod", module)
    names = _paths(module)
    compiled = any(hasattr(part, "_orig_mod") for part in module.modules())
    call = _Graph(module) if isinstance(module, torch.fx.GraphModule) else module

    @contextlib.contextmanager
    def watch(recording: Recording) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            for part, path in names:
                for handle in _hooked(part, path, recording):
                    stack.callback(handle.remove)
            yield

    return Plan(call, watch, lambda: bool(names))


def _paths(module: Any) -> list[tuple[Any, str]]:
    """The submodules of a module with their paths; for a compiled one, its original."""
    parts = [(part, name) for name, part in module.named_modules() if name and not hasattr(part, "_orig_mod")]
    return [(part, ".".join(step for step in name.split(".") if step != "_orig_mod")) for part, name in parts]


def _hooked(part: Any, path: str, recording: Recording) -> list[Any]:
    import torch

    if isinstance(part, torch.jit.ScriptModule):  # takes no hooks
        return []
    labels: list[str] = []

    def before(_part: Any, arguments: Any, keywords: Any) -> None:
        if active.get() is recording:
            labels.append(recording.begin(path, arguments, keywords))

    def after(_part: Any, _inputs: Any, output: Any) -> None:
        if active.get() is recording and labels:
            recording.end(labels.pop(), output)

    return [part.register_forward_pre_hook(before, with_kwargs=True), part.register_forward_hook(after)]


# --- graphs ----------------------------------------------------------------------------------------------------------


class _Graph:
    """A torch.fx graph that is run node by node while it is recorded."""

    def __init__(self, module: Any) -> None:
        self.module = module
        calls: dict[str, tuple[str, list[Any]]] = {}
        for node in module.graph.nodes:
            for call, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
                if path and node.op != "call_module":
                    calls.setdefault(call, (path.partition("@")[0], []))[1].append(node)
        found = ends({call: nodes for call, (_, nodes) in calls.items()}, lambda node: node.users)
        self.ends = {node: [calls[call][0] for call in ended] for node, ended in found.items()}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        import torch

        found = active.get()
        if found is None:
            return self.module(*arguments, **keywords)
        graph, recording = self, found

        class Interpreter(torch.fx.Interpreter):  # type: ignore[misc]
            def run_node(self, n: Any) -> Any:
                value = super().run_node(n)
                if n.op in ("call_function", "call_method"):
                    recording.add(n.name, value)
                for path in graph.ends.get(n, ()):
                    recording.end(recording.begin(path, (), {}), value)
                return value

        interpreter = Interpreter(self.module)
        flat, rebuild = self._flat(arguments, keywords)
        return rebuild(interpreter.run(*flat, enable_io_processing=False))

    def _flat(self, arguments: Any, keywords: Any) -> tuple[list[Any], Callable[[Any], Any]]:
        """The inputs for the graph's placeholders, and a function that rebuilds its outputs."""
        from torch.utils import _pytree as pytree

        info = getattr(self.module.graph._codegen, "pytree_info", None)
        if info is None:
            bound = inspect.signature(self.module.forward).bind(*arguments, **keywords)
            bound.apply_defaults()
            return list(bound.arguments.values()), lambda output: output
        names = info.in_spec.child(1).context if info.in_spec.num_children == 2 else []
        positional = inspect.signature(self.module.forward).parameters
        given = list(arguments)
        # A keyword may stand for what was positional when the model was exported.
        for name in list(positional)[len(given) :]:
            if name in keywords and name not in (names or ()):
                given.append(keywords[name])
        flat, _ = pytree.tree_flatten((tuple(given), {name: keywords[name] for name in names or ()}))
        return flat, lambda output: pytree.tree_unflatten(list(output), info.out_spec)


# --- softmax ---------------------------------------------------------------------------------------------------------

# What PyTorch's own functions come down to, whoever calls them: its modules, its fused kernels, a script, a graph.
_OPERATIONS = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
}


@contextlib.contextmanager
def softmax_modes(recording: Recording) -> Iterator[None]:
    """Record PyTorch's softmax calls within the block; and keep values that are overwritten in place."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Unfused(TorchFunctionMode):  # type: ignore[misc]
        """While such a mode is on, modules skip their fast paths, which compute a whole layer at once."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    class Taps(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            _, _, name = func._schema.name.rpartition("::")
            if func._schema.is_mutable:
                _keep(func, args, kwargs, recording)
            operation = None if recording.in_softmax else _OPERATIONS.get(name)
            scores = args[0].clone() if operation and name.endswith("_") else args[0] if operation else None
            if not recording.in_softmax and "scaled_dot_product" in name and "backward" not in name:
                recording.add_softmax("softmax", *_attention(torch, func, args, kwargs))
            output = func(*args, **kwargs)
            if operation:
                recording.add_softmax(operation, scores, output)
            return output

    with Taps(), Unfused():
        yield


def _keep(func: Any, args: Any, kwargs: Any, recording: Recording) -> None:
    """Replace a recorded value by a copy, because an operation is about to overwrite it."""
    named = {argument.name: argument for argument in func._schema.arguments}
    given = {**dict(zip(named, args, strict=False)), **kwargs}
    written = [one for key, one in given.items() if getattr(named[key].alias_info, "is_write", False)]
    places = {_memory(one) for one in written} - {None}
    copies: dict[int, Any] = {}
    for name, value in recording.found.items():
        if places and _memory(value) in places:
            recording.found[name] = copies.setdefault(id(value), value.detach().clone())


def _memory(value: Any) -> int | None:
    try:
        return int(value.untyped_storage().data_ptr()) or None
    except (AttributeError, RuntimeError, NotImplementedError):  # no tensor, or one without memory of its own
        return None


def _attention(torch: Any, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The scores and the weights of fused attention: (batch, heads, queries, keys)."""
    schema = func._schema.arguments
    given = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    given |= {argument.name: value for argument, value in zip(schema, args, strict=False)} | kwargs
    query, key = given["query"].detach(), given["key"].detach()
    exact = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(exact), key.to(exact)
    if query.ndim > 3 and query.shape[-3] != key.shape[-3]:  # fewer heads of keys than of queries
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = given.get("scale")
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    mask = given.get("attn_mask") if given.get("attn_mask") is not None else given.get("attn_bias")
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if given.get("is_causal"):
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    empty = torch.isneginf(scores).all(-1, keepdim=True)
    return scores, torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
