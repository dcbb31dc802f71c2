"""PyTorch's attention as a softmax that polylogit can check."""

import torch

from polylogit.conformance import forms


def attention(q, k, v, bias):
    q, k, v = (part[None, None] for part in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0, 0]


softmax = forms.attention(attention, empty_rows="zeros")
