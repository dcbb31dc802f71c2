"""Right and faulty implementations on PyTorch's tensors: what NumPy's arrays cannot show, autograd and views above all.

`RIGHT` and `FAULTY`: name -> (operation, implementation).
"""

import torch


def floats(x):
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def wide(x):
    return x if x.dtype == torch.float64 else x.float()


def step_by_step(x, axis=-1):
    """Differentiated by autograd step by step, through the maximum too."""
    x = floats(x)
    if not x.numel():
        return torch.empty_like(x)
    e = torch.exp(wide(x) - wide(x).amax(axis, keepdim=True))
    return (e / e.sum(axis, keepdim=True)).to(x.dtype)


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, axis):
        y = torch.softmax(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(ctx.axis, keepdim=True)), None


class CotangentPacked(OldStyle):
    """flagos-ai/FlagGems#5723: the cotangent's memory is read from its start, whatever its strides."""

    @staticmethod
    def backward(ctx, g):
        return OldStyle.backward(ctx, packed(g))


class DifferentiableOnce(torch.autograd.Function):
    """The second derivative is that of a constant: what was kept of the forward pass is cut off."""

    @staticmethod
    def forward(x):
        return torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, _inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        y = ctx.saved_tensors[0].detach()
        return g * y * (1 - y)


def packed(x):
    """The memory from its start on, as if the tensor were contiguous; zeros where it ends."""
    if x.is_contiguous() and not x.storage_offset():
        return x
    flat = torch.as_strided(x, (x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    flat = torch.cat([flat, flat.new_zeros(max(0, x.numel() - flat.numel()))])
    return flat[: x.numel()].reshape(x.shape)


def storage_read(x, axis=-1):
    """tracel-ai/burn#4815, flagos-ai/Torch-FL#171: a view's memory is read from its start."""
    return torch.softmax(floats(packed(x.detach())), axis)


def masked_then_cleaned(x, axis=-1, where=None):
    """pytorch/pytorch#131060: NaN results are replaced, and their gradients are NaN still."""
    if where is None:
        return torch.softmax(floats(x), axis)
    return torch.nan_to_num(torch.softmax(torch.where(where, floats(x), -torch.inf), axis), 0.0)


def compiled_otherwise(x, axis=-1):
    y = torch.softmax(floats(x), axis)
    return y * 1.01 if torch.compiler.is_compiling() else y


RIGHT = {
    "PyTorch's softmax": ("softmax", lambda x, axis=-1: torch.softmax(x, axis)),
    "PyTorch's softmax itself": ("softmax", torch.softmax),
    "PyTorch's module": ("softmax", torch.nn.Softmax(dim=-1)),
    "PyTorch's sigmoid": ("sigmoid", torch.sigmoid),
    "step by step": ("softmax", step_by_step),
    "a function of the old style": ("softmax", lambda x, axis=-1: OldStyle.apply(floats(x), axis)),
}
FAULTY = {
    "storage_read": ("softmax", storage_read),
    "cotangent_packed": ("softmax", lambda x, axis=-1: CotangentPacked.apply(floats(x), axis)),
    "differentiable_once": ("sigmoid", lambda x: DifferentiableOnce.apply(floats(x))),
    "masked_then_cleaned": ("softmax", masked_then_cleaned),
    "compiled_otherwise": ("softmax", compiled_otherwise),
}
