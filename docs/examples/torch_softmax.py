"""A softmax as a PyTorch custom operator, right in values and gradients: the first example on the kernels' page.

polylogit check torch_softmax:softmax --operation softmax --backend torch
"""

from typing import Any

import torch


def wide(x: torch.Tensor) -> torch.Tensor:
    """The logits in the dtype that the kernel computes in: at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.library.custom_op("kernels::softmax_of_rows", mutates_args=())
def softmax_of_rows(x: torch.Tensor) -> torch.Tensor:
    """The kernel; replace the body with a launch of your Triton or CUDA code."""
    if not x.numel():
        return x.clone()
    e = torch.exp(wide(x) - wide(x).amax(-1, keepdim=True))
    return (e / e.sum(-1, keepdim=True)).to(x.dtype)


@softmax_of_rows.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def keep_result(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(output)


def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
    (result,) = ctx.saved_tensors
    y, g = wide(result), wide(gradient)
    return (y * (g - (g * y).sum(-1, keepdim=True))).to(result.dtype)


softmax_of_rows.register_autograd(backward, setup_context=keep_result)


def softmax(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """The function to check: the kernel, with a refusal of everything that it does not support."""
    if axis not in (-1, x.ndim - 1):
        raise NotImplementedError("the last axis alone")
    if not x.is_floating_point():
        raise NotImplementedError("floating logits alone")
    return softmax_of_rows(x)
