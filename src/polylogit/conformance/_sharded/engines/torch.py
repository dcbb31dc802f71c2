"""PyTorch: DTensors over processes that communicate with gloo."""

# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import polylogit
from polylogit.conformance._sharded.cases import Outcome
from polylogit.errors import MaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.conformance._sharded.cases import Question

RANKS = True


def environment(parts: int) -> dict[str, str]:
    """Make the allocator return freed memory to the system, so that the next call's use shows."""
    return {"MALLOC_MMAP_THRESHOLD_": "65536", "GLOO_SOCKET_IFNAME": "lo"}


class Engine:
    """See `polylogit.conformance._sharded.engines`."""

    uneven = True
    gaps: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self, rank: int, parts: int, folder: Path) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.tensor import init_device_mesh

        self.torch, self.rank, self.parts = torch, rank, parts
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=parts)
        self.mesh = {1: init_device_mesh("cpu", (parts,))}
        if parts % 2 == 0 and parts > 2:
            self.mesh[2] = init_device_mesh("cpu", (2, parts // 2))
        self.meshes = tuple(self.mesh)

    def close(self) -> None:
        """Leave the process group."""
        self.torch.distributed.destroy_process_group()

    def _distributed(self, array: Any, dtype: str, mesh: Any, split: tuple[int, ...]) -> Any:
        from torch.distributed.tensor import Shard, distribute_tensor

        tensor = self.torch.tensor(array).to(getattr(self.torch, dtype))
        return distribute_tensor(tensor, mesh, [Shard(one) for one in split])

    def answer(self, question: Question, dimensions: int) -> Outcome:
        """One call on DTensors."""
        mesh = self.mesh[dimensions]
        x, mask, direction = question.arrays()
        tensor, towards = (self._distributed(one, question.dtype, mesh, question.split) for one in (x, direction))
        options: dict[str, Any] = {"axis": question.axis}
        if mask is not None:
            options["where"] = self._distributed(mask, "bool", mesh, question.split)
            if question.check == "vjp":
                towards = self._distributed(np.where(mask, direction, 0.0), question.dtype, mesh, question.split)
        function = getattr(polylogit, question.operation)
        exchanged, memory = Exchanged(), None
        if question.check == "values":
            if question.large:  # what a first call loads, and buffers of the scattering, are not to be counted
                function(tensor, **options)
            before = _highest_memory() if question.large else 0
            with exchanged:
                y = function(tensor, **options)
            memory = _highest_memory(reset=False) - before if before else None
        elif question.check == "vjp":
            with exchanged:
                y = polylogit.vjp(function, tensor, **options)[1](towards)
        else:
            with exchanged:
                y = polylogit.jvp(function, tensor, towards, **options)[1]
        values = y.full_tensor().detach().to(self.torch.float64).numpy()
        if question.check == "jvp" and mask is not None:
            values = np.where(mask, values, 0.0)
        part = tensor.to_local()
        return Outcome(
            values,
            str(y.dtype).removeprefix("torch."),
            kept=y.placements == tensor.placements,
            exchanged=exchanged.largest,
            memory=memory,
            part=part.numel() * part.element_size() if memory is not None else None,
        )

    def facts(self, level: str) -> Iterator[tuple[str, Callable[[], str]]]:
        """Further tests."""
        yield "a mask that is no DTensor is refused", self._plain_mask
        yield "log_softmax under loss_parallel has a derivative for every cotangent", self._any_cotangent
        yield "nll_loss of log_softmax under loss_parallel", self._loss
        yield "parts that are yet to be added", self._partial
        yield "the derivative of a derivative", self._second
        yield "compiled in one graph", self._compiled

    def _small(self, seed: int = 0) -> tuple[Any, Any]:
        x = self.torch.randn(4, 64, generator=self.torch.Generator().manual_seed(seed))
        return x, self._distributed(x.numpy(), "float32", self.mesh[1], (1,))

    def _apart(self, got: Any, expected: Any) -> str:
        """A fault if two float32 results differ by more than two roundings of each step."""
        got = got.full_tensor() if hasattr(got, "full_tensor") else got
        far = float((got - expected).abs().max())
        allowed = 64 * 2.0**-23 * max(1.0, float(expected.abs().max()))
        return "" if far <= allowed else f"{far:.3g} from what the whole array gives; {allowed:.3g} are allowed"

    def _plain_mask(self) -> str:
        x, split = self._small()
        try:
            polylogit.softmax(split, where=x > 0)
        except MaskError as error:
            return "" if "distribute_tensor" in str(error) else f"the error says no remedy: {error}"
        return "it was taken"

    def _any_cotangent(self) -> str:
        from torch.distributed.tensor.parallel import loss_parallel

        (x, split), (g, towards) = self._small(), self._small(1)
        with loss_parallel():
            leaf = split.requires_grad_()
            (got,) = self.torch.autograd.grad(polylogit.log_softmax(leaf), leaf, towards)
        x.requires_grad_()
        (expected,) = self.torch.autograd.grad(self.torch.log_softmax(x, -1), x, g)
        return self._apart(got, expected)

    def _loss(self) -> str:
        from torch.distributed.tensor import Replicate, distribute_tensor
        from torch.distributed.tensor.parallel import loss_parallel

        functional = self.torch.nn.functional
        x, split = self._small()
        target = self.torch.tensor([1, 63, -100, 17])
        with loss_parallel():
            leaf = split.requires_grad_()
            everywhere = distribute_tensor(target, self.mesh[1], [Replicate()])
            functional.nll_loss(polylogit.log_softmax(leaf), everywhere).backward()
        x.requires_grad_()
        functional.cross_entropy(x, target).backward()
        return self._apart(leaf.grad, x.grad)

    def _partial(self) -> str:
        from torch.distributed.tensor import DTensor, Partial

        x, _ = self._small()
        addends = DTensor.from_local(x / self.parts, self.mesh[1], [Partial()])
        return self._apart(polylogit.softmax(addends), self.torch.softmax(x, -1))

    def _second(self) -> str:
        (x, split), (g, towards) = self._small(), self._small(1)
        got, expected = (
            polylogit.vjp(polylogit.gradient(polylogit.softmax, direction), logits)[1](logits)
            for logits, direction in ((split, towards), (x, g))
        )
        return self._apart(got, expected)

    def _compiled(self) -> str:
        x, split = self._small()
        compiled = self.torch.compile(polylogit.softmax, backend="eager", fullgraph=True)
        return self._apart(compiled(split), self.torch.softmax(x, -1))


class Exchanged:
    """Counts the bytes that this rank contributes to collectives; `largest` is for one kind and one shape.

    A gather of a row is as large as the local part of it; a reduction has one number per row.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    @property
    def largest(self) -> int:
        """Bytes, of the whole call."""
        return max((size for _, size in self.seen), default=0)

    @property
    def total(self) -> int:
        """Bytes, of the whole call."""
        return sum(size for _, size in self.seen)

    def __enter__(self) -> Exchanged:
        """Count from here."""
        self._mode = _counting(self)
        self._mode.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        """To here."""
        self._mode.__exit__(*reason)


def _counting(counter: Exchanged) -> Any:
    from torch.distributed.tensor import DTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(issubclass(one, DTensor) for one in types):
                return NotImplemented  # what it does on the parts comes here again
            if function.namespace in ("c10d", "_c10d_functional"):
                leaves = [one for one in tree_leaves((args, kwargs)) if hasattr(one, "element_size")]
                size = sum(one.numel() * one.element_size() for one in leaves)
                counter.seen.append((str(function), size))
            return function(*args, **(kwargs or {}))

    return Counting()


def _highest_memory(*, reset: bool = True) -> int:
    """The peak of the process's resident bytes since the last reset, if the system reports it; else 0."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
