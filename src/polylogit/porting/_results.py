"""What a comparison found: plain data, without a method that prints or writes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from polylogit.porting._rows import worst_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from polylogit.porting._diagnosis.verdict import Diagnosis, Verdict
    from polylogit.porting._rows import Row

    Array = np.ndarray[Any, Any]
    Again = Callable[[], tuple[Array, Array]]

__all__ = ["DRAWN", "FEW", "Activation", "Results"]

# Of so many activations that differ the worst rows are shown.
DRAWN = 3

# What a fault has changed shows at once, and what it has changed in turn soon shows nothing but a difference.
FEW = 4


@dataclasses.dataclass(frozen=True)
class Activation:
    """One pair of the two sides.

    Attributes
    ----------
    name, candidate_name : str
        What it is called on the two sides.
    values : tuple of ndarray, or callable
        The reference's and the candidate's; or what reads them again, so that those of a file are not kept.
    shapes, dtypes : tuple
        The reference's and the candidate's, the dtypes by name.
    verdict : Verdict
        Whether they agree, how far they are apart, and the cause.
    vacuous : bool
        Agreement would mean nothing: both are constant, empty, or a gradient of zero.
    gradient : bool
        It is a gradient.
    worst : tuple of Row, optional
        The rows that differ most, where `values` are not kept.
    """

    name: str
    candidate_name: str
    values: tuple[Array, Array] | Callable[[], tuple[Array, Array]]
    verdict: Verdict
    vacuous: bool = False
    gradient: bool = False
    _: dataclasses.KW_ONLY
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    worst: tuple[Row, ...] | None = None

    @classmethod
    def of(cls, names: tuple[str, str], pair: tuple[Array, Array], again: Again | None, *found: Any) -> Activation:
        """A pair that was judged; where it can be read again, its values are not kept."""
        (r, c), values = pair, pair if again is None else again
        return cls(*names, values, *found, shapes=(r.shape, c.shape), dtypes=(r.dtype.name, c.dtype.name))

    @property
    def reference(self) -> Array:
        """The reference's values; those of a file are read again."""
        return (self.values() if callable(self.values) else self.values)[0]

    @property
    def candidate(self) -> Array:
        """The candidate's values; those of a file are read again."""
        return (self.values() if callable(self.values) else self.values)[1]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that differ most, the worst first."""
        return worst_rows(self.reference, self.candidate) if self.worst is None else self.worst

    @property
    def status(self) -> str:
        """One of "agrees", "beyond", "disagrees", "inconclusive"; see `Results.status`."""
        if not self.verdict.agrees:
            return "beyond" if self.verdict.beyond else "disagrees"
        return "inconclusive" if self.vacuous else "agrees"


@dataclasses.dataclass(frozen=True)
class Results:
    """What `compare` found, without the reports.

    Attributes
    ----------
    activations : tuple of Activation
        In the order of the reference.
    unmatched : tuple of str
        Activations that only one side has.
    framework : str
        The candidate's.
    sources : tuple of str
        Where the two sides came from, the reference first, with the dates of files; empty where they were no files.
    noise : str
        How the noise of a right computation was measured, or why it was not.
    """

    activations: tuple[Activation, ...]
    unmatched: tuple[str, ...] = ()
    framework: str = "numpy"
    sources: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    noise: str = dataclasses.field(default="", kw_only=True)

    @property
    def status(self) -> str:
        """One of "agrees", "beyond", "disagrees", "inconclusive".

        Beyond rounding is what is farther from exact values than a right computation, by few times and without a cause.
        Inconclusive is what could not have failed: outputs that are constant on both sides, gradients that are zero.
        """
        states = [activation.status for activation in self.activations]
        for worse in ("disagrees", "beyond"):
            if worse in states:
                return worse
        outputs = [one.status for one in self.activations if not one.gradient] or states
        gradients = {one.status for one in self.activations if one.gradient}
        if not states or outputs[-1] == "inconclusive" or gradients == {"inconclusive"}:
            return "inconclusive"
        return "agrees"

    @property
    def agrees(self) -> bool:
        """Whether all agree, and the agreement means something."""
        return self.status == "agrees"

    @property
    def allowed(self) -> tuple[Activation, ...]:
        """Those that agree only because noise that was not measured may be as large; see `compare`."""
        return tuple(one for one in self.activations if one.verdict.agrees and one.verdict.allowed)

    @property
    def first_divergence(self) -> str | None:
        """The name of the first activation that differs; None where none does."""
        return next((one.name for one in self.activations if not one.verdict.agrees), None)

    @property
    def diagnosed(self) -> Activation | None:
        """The activation that shows the cause: of the few that differ first, the first whose difference has a name."""
        differing = [one for one in self.activations if one.verdict.cause is not None][:FEW]
        return next((one for one in differing if _cause_of(one) != "unknown"), differing[0] if differing else None)

    @property
    def cause(self) -> Diagnosis | None:
        """Why they differ, as `diagnosed` shows it; None where all agree."""
        return None if self.diagnosed is None else self.diagnosed.verdict.cause


def _cause_of(activation: Activation) -> str:
    return "" if activation.verdict.cause is None else activation.verdict.cause.name
