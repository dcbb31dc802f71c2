"""For authors of backends: the base class, and the rules that all backends share.

This module only makes names of private modules public; it defines nothing itself. See "Add a backend" in the
documentation.
"""

from __future__ import annotations

from polylogit._backends.base import Backend, Loan, frozen, holds_numpy, host_array, no_values, overlaps, unknown_dtype
from polylogit._backends.by_numpy import closed_form_jvp, closed_form_vjp
from polylogit._backends.rows import Primitives, along_axes, elementwise, floating
from polylogit._contract import (
    check_floating,
    check_logits_dtype,
    check_mask,
    check_mask_shape,
    normalize_axis,
    wrong_direction,
)

__all__ = [
    "Backend",
    "Loan",
    "Primitives",
    "along_axes",
    "check_floating",
    "check_logits_dtype",
    "check_mask",
    "check_mask_shape",
    "closed_form_jvp",
    "closed_form_vjp",
    "elementwise",
    "floating",
    "frozen",
    "holds_numpy",
    "host_array",
    "no_values",
    "normalize_axis",
    "overlaps",
    "unknown_dtype",
    "wrong_direction",
]
