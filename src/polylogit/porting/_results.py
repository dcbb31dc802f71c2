"""The results of a comparison, as plain data. Knows no renderer: the methods that print or write are in `_report`."""

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

# The worst rows are shown for so many of the activations that differ.
DRAWN = 3

# A fault shows in the first activations that differ; later ones only differ because of them.
FEW = 4


@dataclasses.dataclass(frozen=True)
class Activation:
    """A pair of activations, one from each side.

    Attributes
    ----------
    name, candidate_name : str
        The names of the activation on the two sides.
    values : tuple of ndarray, or callable
        The reference's and the candidate's values, or a function that reads them again from a file.
    shapes, dtypes : tuple
        The shapes and dtypes of the reference and the candidate; dtypes by name.
    verdict : Verdict
        Whether they agree, how much they differ, and the cause.
    vacuous : bool
        Whether agreement would mean nothing, because both are constant, empty, or a gradient of zero.
    gradient : bool
        Whether it is a gradient.
    worst : tuple of Row, optional
        The rows that differ most, if `values` are not kept.
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
        """A pair that was judged; if it can be read again, its values are not kept."""
        (r, c), values = pair, pair if again is None else again
        return cls(*names, values, *found, shapes=(r.shape, c.shape), dtypes=(r.dtype.name, c.dtype.name))

    @property
    def reference(self) -> Array:
        """The reference's values, read again if they come from a file."""
        return (self.values() if callable(self.values) else self.values)[0]

    @property
    def candidate(self) -> Array:
        """The candidate's values, read again if they come from a file."""
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
    """The results of `compare`, without the reports.

    Attributes
    ----------
    activations : tuple of Activation
        In the order of the reference.
    unmatched : tuple of str
        Activations that only one side has.
    framework : str
        The framework of the candidate.
    sources : tuple of str
        The files of the two sides, the reference first, with their dates; empty if they were not files.
    noise : str
        How the noise of a correct computation was measured, or why it was not.
    """

    activations: tuple[Activation, ...]
    unmatched: tuple[str, ...] = ()
    framework: str = "numpy"
    sources: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    noise: str = dataclasses.field(default="", kw_only=True)

    @property
    def status(self) -> str:
        """One of "agrees", "beyond", "disagrees", "inconclusive".

        "beyond" means beyond rounding: less accurate than a right computation, by a moderate factor and without a known
        cause. "inconclusive" means that the comparison could not have failed, because outputs are constant on both
        sides or gradients are zero.
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
        """Whether all activations agree, and could have differed."""
        return self.status == "agrees"

    @property
    def allowed(self) -> tuple[Activation, ...]:
        """Those that agree only because noise that was not measured may be as large; see `compare`."""
        return tuple(one for one in self.activations if one.verdict.agrees and one.verdict.allowed)

    @property
    def first_divergence(self) -> str | None:
        """The name of the first activation that differs; None if all agree."""
        return next((one.name for one in self.activations if not one.verdict.agrees), None)

    @property
    def diagnosed(self) -> Activation | None:
        """The activation that shows the cause: among the first few that differ, the first with a known cause."""
        differing = [one for one in self.activations if one.verdict.cause is not None][:FEW]
        return next((one for one in differing if _cause_of(one) != "unknown"), differing[0] if differing else None)

    @property
    def cause(self) -> Diagnosis | None:
        """The cause of the difference, as `diagnosed` shows it; None if all agree."""
        return None if self.diagnosed is None else self.diagnosed.verdict.cause


def _cause_of(activation: Activation) -> str:
    return "" if activation.verdict.cause is None else activation.verdict.cause.name
