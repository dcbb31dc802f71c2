"""A softmax in one pass over blocks, with a fault that shows in few rows: the second example on the kernels' page.

polylogit check streaming_softmax:softmax --operation softmax
"""

import numpy as np

BLOCK = 64


def softmax(x, axis=-1):
    """softmax along the last axis of float32 and float64 matrices; refuses anything else."""
    if x.ndim != 2 or axis not in (-1, 1) or x.dtype not in (np.float32, np.float64):
        raise NotImplementedError("matrices of float32 and float64, along the last axis")
    top = np.full((len(x), 1), -np.inf, x.dtype)
    total = np.zeros_like(top)
    with np.errstate(invalid="ignore"):
        for start in range(0, x.shape[1], BLOCK):
            block = x[:, start : start + BLOCK]
            new = np.maximum(top, block.max(1, keepdims=True))
            # The fault: before the first finite logit both are -inf, and exp(-inf - -inf) is NaN.
            total = total * np.exp(top - new) + np.exp(block - new).sum(1, keepdims=True)
            top = new
        return np.exp(x - top) / total
