"""Divides the logits of NumPy arrays by a temperature, for the operations and their derivatives.

`polylogit._backends.rows.tempered` explains why the maximum is subtracted first, why everything is halved above 1, and
what may be narrowed again. Knows NumPy and the shared rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._backends.base import seen_temperature
from polylogit._contract import check_temperature_shape, constant_along

if TYPE_CHECKING:
    AnyArray = np.ndarray[Any, Any]
    AnyDType = np.dtype[Any]

__all__ = ["divided", "quotients"]


def quotients(
    x: AnyArray, temperature: Any, axes: tuple[int, ...] | None, mask: AnyArray | None, work: AnyDType
) -> tuple[AnyArray, Any]:
    """``x / temperature`` in the dtype to continue in, up to a constant per row; and the checked temperature.

    `axes` is None for elementwise operations.
    """
    given = seen_temperature(temperature)
    shape = np.shape(given)
    check_temperature_shape(shape, x.shape)
    wide = np.promote_types(work, np.float64)
    over = given.astype(wide) if shape else given
    shared = axes is not None and constant_along(shape, x.ndim, axes)
    made = np.empty_like(x, dtype=work if shared or axes is None else wide)
    with np.errstate(all="ignore"):
        if shared:
            seen: dict[str, Any] = {} if mask is None else {"where": mask}
            top = x.astype(work, copy=False).max(axis=axes, keepdims=True, initial=-np.inf, **seen)
            top = np.where(top == -np.inf, 0.0, top).astype(wide)
            if work == wide:
                half = np.where(np.asarray(over) > 1.0, 0.5, 1.0)
                x, top, over = x * half, top * half, over * half
            x = x.astype(wide)  # a copy; NumPy casts a piece at a time where it subtracts in another dtype
            x -= top
        np.divide(x, over, out=made, dtype=wide, casting="unsafe")
    return made, given


def divided(values: AnyArray, temperature: Any, dtype: AnyDType) -> AnyArray:
    """Convert gradients with respect to the quotients to gradients with respect to the logits; tangents likewise."""
    with np.errstate(all="ignore"):
        made: AnyArray = (values / temperature).astype(dtype, copy=False)
    return made
