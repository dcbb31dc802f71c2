"""PyTorch's DTensor: each rank computes on its own shard, and a split row costs the exchange of two numbers.

If a normalised axis is split, the ranks compute the maximum and the sum of exponentials of each row with two
all-reduces of one number per row; everything else is local, and the result is split like the logits. Otherwise nothing
is exchanged. DTensor's own rules for ``log_softmax`` would gather the row, and under ``loss_parallel`` its derivative
is right for a single loss only (pytorch#190746). This module may know PyTorch and the shared rules; it is imported when
a DTensor arrives.
"""

# What the framework says of its own types is incomplete, and pyright takes it at its word.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportReturnType=false
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import compiler
from torch.distributed.tensor import DTensor, Replicate

from polylogit._backends.rows import along_axes, checked, dtypes
from polylogit.errors import DifferentiationError, MaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._backends.base import Pullback
    from polylogit._backends.rows import Primitives

    Groups = tuple[Any, tuple[int, ...]]  # a mesh, and along which of its dimensions a row goes on

__all__ = ["jvp", "on_shards", "vjp"]


def on_shards(
    primitives: type[Primitives],
    normalised: Callable[[torch.Tensor, int], torch.Tensor],
    masked_value: float,
    x: DTensor,
    axis: Any,
    where: Any,
    dtype: Any,
) -> DTensor:
    """softmax, or log_softmax if `masked_value` is -inf; ``normalised(rows, axis)`` computes unsplit rows."""
    _check_mask(where, x)
    axes = checked(primitives, x, axis, where)
    x = x.redistribute(placements=[Replicate() if one.is_partial() else one for one in x.placements])
    mask = None if where is None else _mask_of_shard(where, x)
    shard = x.to_local()
    split = tuple(index for index, one in enumerate(x.placements) if getattr(one, "dim", None) in axes)
    if split:
        y = _split_rows(primitives, (x.device_mesh, split), masked_value, shard, axes, mask, dtype)
    else:
        y = along_axes(primitives, normalised, masked_value, shard, axes, mask, dtype)
    y = y.contiguous()
    strides = [math.prod(x.shape[index + 1 :]) for index in range(x.ndim)]
    return DTensor.from_local(y, x.device_mesh, x.placements, run_check=False, shape=x.shape, stride=tuple(strides))


def _check_mask(where: Any, x: DTensor) -> None:
    if where is None or (isinstance(where, DTensor) and where.device_mesh == x.device_mesh):
        return
    what = "a DTensor of another mesh" if isinstance(where, DTensor) else f"a {type(where).__name__} that is none"
    message = (
        f"x is a DTensor and where= is {what}; which part of it belongs to which shard is not known. Distribute it "
        "first: torch.distributed.tensor.distribute_tensor(where, x.device_mesh, placements), with x.placements for a "
        "mask of the same shape or [Replicate()] * x.device_mesh.ndim."
    )
    raise MaskError(message)


def _mask_of_shard(where: DTensor, x: DTensor) -> torch.Tensor:
    """The part of a mask that belongs to the shard, keeping its dimensions of size 1."""
    mask = where.reshape(*[1] * (x.ndim - where.ndim), *where.shape)
    placements = [
        one if getattr(one, "dim", None) is not None and mask.shape[one.dim] == x.shape[one.dim] else Replicate()
        for one in x.placements
    ]
    return mask.redistribute(placements=placements).to_local()


def _split_rows(
    primitives: type[Primitives],
    groups: Groups,
    masked_value: float,
    shard: torch.Tensor,
    axes: tuple[int, ...],
    mask: torch.Tensor | None,
    dtype: Any,
) -> torch.Tensor:
    result, working = dtypes(primitives, shard.dtype, dtype)
    join, split, axis = primitives.moves(shard, axes, mask is not None)
    rows = join(primitives.cast(shard, working))
    taken = None if mask is None else join(primitives.broadcast(mask, shard))
    function = _LogSoftmax if math.isinf(masked_value) else _Softmax
    y: torch.Tensor = primitives.cast(split(function.apply(rows, taken, axis, groups)), result)
    return y


# --- rows of which each rank has a part ------------------------------------------------------------------------------


def _reduced(x: torch.Tensor, operation: Any, groups: Groups) -> torch.Tensor:
    mesh, dimensions = groups
    x = x.contiguous()
    for dimension in dimensions:
        dist.all_reduce(x, op=operation, group=mesh.get_group(dimension))
    return x


def _sum(x: torch.Tensor, axis: int, groups: Groups) -> torch.Tensor:
    """Sums of whole rows. `torch.sum` adds in a cascade; Inductor's loops give no such guarantee."""
    wide = torch.float64 if compiler.is_compiling() and x.device.type == "cpu" else x.dtype
    return _reduced(x.sum(axis, keepdim=True, dtype=wide).to(x.dtype), dist.ReduceOp.SUM, groups)


def _shifted(x: torch.Tensor, mask: torch.Tensor | None, axis: int, groups: Groups) -> torch.Tensor:
    """The distances to the maximum of the whole row; a shard may be empty, and masked entries may have any value.

    Whether the all-reduce of the maximum keeps a NaN does not matter, because the sum is NaN in any case.
    """
    if mask is not None:
        x = torch.where(mask, x, float("-inf"))
    if x.shape[axis]:
        top = x.amax(axis, keepdim=True)
    else:
        shape = list(x.shape)
        shape[axis] = 1
        top = x.new_full(shape, float("-inf"))
    return x - _reduced(top, dist.ReduceOp.MAX, groups)


class _Softmax(torch.autograd.Function):  # type: ignore[misc]
    """softmax of a shard; only the result is saved for the derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor | None, axis: int, groups: Groups) -> torch.Tensor:
        e = _shifted(x, mask, axis, groups).exp_()
        if mask is not None:
            e = e.masked_fill_(~mask, 0.0)
        y = e.mul_(_sum(e, axis, groups).reciprocal())
        if mask is not None:
            y = y.masked_fill_(~mask, 0.0)  # a row without entries
        ctx.save_for_backward(y)
        ctx.axis, ctx.groups = axis, groups
        return y

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return y * (cotangent - _Sum.apply(cotangent * y, ctx.axis, ctx.groups)), None, None, None


class _LogSoftmax(torch.autograd.Function):  # type: ignore[misc]
    """log_softmax of a shard; only the result is saved for the derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor | None, axis: int, groups: Groups) -> torch.Tensor:
        shifted = _shifted(x, mask, axis, groups)
        e = shifted.exp()
        if mask is not None:
            e = e.masked_fill_(~mask, 0.0)
        y = shifted.sub_(_sum(e, axis, groups).log_())
        if mask is not None:
            y = y.masked_fill_(~mask, float("-inf"))
        ctx.save_for_backward(y, mask)
        ctx.axis, ctx.groups = axis, groups
        return y

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        y, mask = ctx.saved_tensors
        if mask is not None:
            cotangent = torch.where(mask, cotangent, 0.0)
        return cotangent - y.exp() * _Sum.apply(cotangent, ctx.axis, ctx.groups), None, None, None


class _Sum(torch.autograd.Function):  # type: ignore[misc]
    """The sum of whole rows, on every rank; differentiable, for second derivatives."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, axis: int, groups: Groups) -> torch.Tensor:
        ctx.shape, ctx.groups = x.shape, groups
        return _sum(x, axis, groups)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        return _Everywhere.apply(cotangent, ctx.groups).expand(ctx.shape), None, None


class _Everywhere(torch.autograd.Function):  # type: ignore[misc]
    """The sum over ranks, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, groups: Groups) -> torch.Tensor:
        ctx.groups = groups
        return _reduced(x.clone(), dist.ReduceOp.SUM, groups)

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        return _Everywhere.apply(cotangent, ctx.groups), None


# --- derivatives ------------------------------------------------------------------------------------------------------


def _like(given: Any, like: DTensor, argument: str) -> DTensor:
    if not isinstance(given, DTensor):
        message = (
            f"the {argument} is a {type(given).__name__} and what it belongs to a DTensor; distribute it first: "
            f"torch.distributed.tensor.distribute_tensor({argument}, mesh, placements)."
        )
        raise DifferentiationError(message)
    return given.to(like.dtype)


def vjp(function: Callable[..., Any], x: DTensor, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
    """Through the tape, which supports DTensors; ``torch.func`` hides the arrays that it wraps."""
    again = torch.is_grad_enabled() and x.requires_grad  # somebody differentiates through this
    with torch.enable_grad():
        leaf = x if again else x.detach().requires_grad_()
        y = function(leaf, **kwargs)

    def pullback(cotangent: Any) -> Any:
        given = _like(cotangent, y, "cotangent")
        (slope,) = torch.autograd.grad(
            y, leaf, given, retain_graph=True, create_graph=again, allow_unused=True, materialize_grads=not again
        )
        return slope

    return (y if again else y.detach()), pullback


def jvp(function: Callable[..., Any], x: DTensor, tangent: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Reverse mode twice, because PyTorch has no forward mode for DTensors; the pullback is linear in its cotangent."""
    tangent = _like(tangent, x, "tangent")
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        y = function(leaf, **kwargs)
        cotangent = torch.zeros_like(y).requires_grad_()
        (slope,) = torch.autograd.grad(y, leaf, cotangent, create_graph=True)
        (tangent_out,) = torch.autograd.grad(slope, cotangent, tangent)
    return y.detach(), tangent_out
