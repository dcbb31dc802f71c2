"""What a hypothesis about a fault hands to the judge: two arrays that must agree if the fault is what happened."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polylogit.porting.evidence import Evidence
    from polylogit.spec.formulas import Array

    Hypothesis = Callable[[Evidence], Iterator["Attempt"]]

__all__ = ["Attempt"]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One way to explain a difference.

    Attributes
    ----------
    name : str
        The cause, a key of `polylogit.porting.causes.CAUSES`.
    expected, observed : ndarray
        Equal to the noise level if the cause is this one: a fault done to the reference against the candidate, or the
        reference against a fault undone in the candidate.
    parameters : dict
        What was found on the way: a factor, an epsilon, a permutation.
    free : int
        How many numbers were fitted. Each costs one entry's worth of evidence.
    constraints : int or None
        How many sums the observed values are bound to by themselves; None for one a row, as in the reference.
    gain : float
        By how much the comparison amplifies noise.
    measure : str or None
        The unit, where it is not that of the reference's kind.
    proven : bool
        The attempt has decided for itself, by evidence other than a small difference (a lattice of rounded values).
    """

    name: str
    expected: Array
    observed: Array
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    free: int = 0
    constraints: int | None = None
    gain: float = 1.0
    measure: str | None = None
    proven: bool = False
