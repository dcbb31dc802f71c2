"""A softmax in Triton, with one program per row, and its gradient.

polylogit check triton_softmax:softmax --operation softmax --backend torch --device cuda
TRITON_INTERPRET=1 polylogit check triton_softmax:softmax --operation softmax --backend torch --level quick --max-size 3000 --skip threads
"""  # noqa: E501

from typing import Any

import torch
import triton
import triton.language as tl

LONGEST = 1 << 17  # a row is held by one program at once


@triton.jit
def forward_kernel(x, y, length, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row, places = tl.program_id(0).to(tl.int64), tl.arange(0, block)
    inside = places < length
    logits = tl.load(x + row * length + places, mask=inside, other=-float("inf")).to(tl.float32)
    e = tl.exp(logits - tl.max(logits, axis=0))
    tl.store(y + row * length + places, (e / tl.sum(e, axis=0)).to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(x, g, out, length, block: tl.constexpr):  # type: ignore[no-untyped-def]
    # From the logits rather than the result, whose rounding would show in y * (g - sum(g * y)).
    row, places = tl.program_id(0).to(tl.int64), tl.arange(0, block)
    inside = places < length
    logits = tl.load(x + row * length + places, mask=inside, other=-float("inf")).to(tl.float32)
    cotangent = tl.load(g + row * length + places, mask=inside, other=0.0).to(tl.float32)
    e = tl.exp(logits - tl.max(logits, axis=0))
    p = e / tl.sum(e, axis=0)
    gradient = p * (cotangent - tl.sum(p * cotangent, axis=0))
    tl.store(out + row * length + places, gradient.to(out.dtype.element_ty), mask=inside)


def launched(kernel: Any, *rows: torch.Tensor) -> torch.Tensor:
    """The result of a kernel on rows along the last axis."""
    out, length = torch.empty_like(rows[0]), rows[0].shape[-1]
    if out.numel():
        kernel[(out.numel() // length,)](*rows, out, length, block=triton.next_power_of_2(length))
    return out


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return launched(forward_kernel, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return launched(backward_kernel, *ctx.saved_tensors, g.contiguous())


def softmax(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """The function to check: the kernel along any single axis, with a refusal of everything else."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16) or not isinstance(axis, int) or not x.ndim:
        raise NotImplementedError("float32, float16 and bfloat16, along one axis")
    if x.shape[axis] > LONGEST:
        raise NotImplementedError(f"rows of up to {LONGEST:,} logits")
    return Softmax.apply(x.movedim(axis, -1).contiguous()).movedim(-1, axis)  # type: ignore[no-any-return]
