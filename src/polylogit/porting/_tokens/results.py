"""What a comparison of two engines found: plain data, without a method that prints or writes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from polylogit.porting._diagnosis.verdict import Diagnosis

    Array = np.ndarray[Any, Any]

__all__ = ["TokenResults"]

Position = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TokenResults:
    """What `compare_tokens` found, without the reports.

    Differences are the candidate's log-probability minus the reference's, in nats, at the positions that count
    and where both are finite.

    Attributes
    ----------
    verdict : str
        One of "within rounding", "beyond rounding" (at most 8 times, and nothing explains it), "different" and
        "inconclusive".
    times : float
        The largest difference in units of what rounding allows there.
    cause : Diagnosis or None
        Why they differ; None where they are within rounding.
    mean, mean_error : float
        The mean difference, which is the bias, and its standard error.
    mean_absolute : float
        The mean of the absolute differences.
    worst : float
        The difference that is largest in units of what rounding allows there.
    worst_position : tuple of int or None
        Where that is.
    kl : float
        The Kullback-Leibler divergence of the candidate from the reference, in nats for each token.
    kl_method : str
        "exact" where both sides give whole distributions; otherwise "k3", the mean of exp(d) - 1 - d over the chosen
        tokens, which estimates it if the reference sampled them.
    weight_mean, weight_largest, effective_sample_size : float
        Of the importance weights exp(d): mean, largest, and the share of the tokens that weights as unequal are worth.
    counted : int
        Positions that were compared.
    outside : dict of str to tuple
        By side, positions where its log-probability is -inf: the token is outside its support.
    invalid : dict of str to tuple
        By side, positions where it is NaN or +inf.
    unlisted : tuple
        Positions whose token is not among the top k of a side, which are not compared.
    dtype : str
        The coarser one of those in which the two compute, by which they are judged.
    hint : str
        What would decide an inconclusive comparison, or find an unknown cause; empty otherwise.
    reference, candidate, differences : ndarray
        In the shape of the tokens; NaN in the differences where nothing is compared.
    """

    verdict: str
    times: float
    cause: Diagnosis | None
    mean: float
    mean_error: float
    mean_absolute: float
    worst: float
    worst_position: Position | None
    kl: float
    kl_method: str
    weight_mean: float
    weight_largest: float
    effective_sample_size: float
    counted: int
    outside: dict[str, tuple[Position, ...]]
    invalid: dict[str, tuple[Position, ...]]
    unlisted: tuple[Position, ...]
    dtype: str
    hint: str
    reference: Array = dataclasses.field(repr=False)
    candidate: Array = dataclasses.field(repr=False)
    differences: Array = dataclasses.field(repr=False)

    @property
    def agrees(self) -> bool:
        """Whether the two are within rounding."""
        return self.verdict == "within rounding"
