"""The results of `compare_tokens`, as plain data. Knows no renderer: the methods that write are in `report`."""

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
    """The results of `compare_tokens`, without the reports.

    A difference is the candidate's log-probability minus the reference's, in nats. Only positions that count, and at
    which both are finite, have one.

    Attributes
    ----------
    verdict : str
        One of "within rounding", "beyond rounding" (at most 8 times, and nothing explains it), "different" and
        "inconclusive".
    times : float
        The largest difference in multiples of the allowed rounding.
    cause : Diagnosis or None
        Why they differ; None if they are within rounding.
    mean, mean_error : float
        The mean difference, which is the bias, and its standard error.
    mean_absolute : float
        The mean of the absolute differences.
    worst : float
        The difference that is largest in multiples of the allowed rounding.
    worst_position : tuple of int or None
        Its position.
    kl : float
        The Kullback-Leibler divergence of the candidate from the reference, in nats per token.
    kl_method : str
        "exact" if both sides give whole distributions; otherwise "k3", the mean of exp(d) - 1 - d over the chosen
        tokens, a valid estimate if the reference sampled them.
    weight_mean, weight_largest, effective_sample_size : float
        The mean and the largest of the importance weights exp(d), and their effective sample size as a fraction of the
        number of tokens.
    counted : int
        The number of positions that were compared.
    outside : dict of str to tuple
        For each side, the positions where its log-probability is -inf: the token is outside its support.
    invalid : dict of str to tuple
        For each side, the positions where its log-probability is NaN or +inf.
    unlisted : tuple
        The positions whose token is not among the top k of a side; they are not compared.
    dtype : str
        The coarser of the two dtypes in which the engines compute, which sets the tolerance.
    hint : str
        What to do about an inconclusive comparison or an unknown cause; empty otherwise.
    reference, candidate, differences : ndarray
        Arrays in the shape of the tokens; the differences are NaN at positions that are not compared.
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
