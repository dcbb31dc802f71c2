"""Chooses among the explanations that were tried: the rule that the judges of activations and of tokens share.

Knows how much difference each explanation leaves, not how it was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from polylogit.porting._diagnosis.verdict import Diagnosis, RunnerUp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polylogit._backends.base import Backend
    from polylogit.porting._diagnosis.faults.fault import Fault

__all__ = ["CLEARLY", "SEEN_THROUGH", "clear_winner", "named", "nearest", "unknown"]

# The winner must leave so many times less than the runner-up, and than no explanation at all.
CLEARLY = 3.0
# A difference that would pass as noise has a cause if undoing it leaves so many times less.
SEEN_THROUGH = 10.0
SHOWN = 5


class Tried(Protocol):
    """A prediction and how well it explains."""

    @property
    def fault(self) -> Fault:
        """The fault that was undone."""
        ...

    @property
    def name(self) -> str:
        """The name of the explanation."""
        ...

    @property
    def level(self) -> float:
        """The difference that it leaves."""
        ...


_One = TypeVar("_One", bound=Tried)


def clear_winner(helpful: Sequence[_One], eps: float) -> _One | None:
    """The explanation that leaves clearly less than all others, ignoring its own special cases."""
    for one in helpful:
        level = CLEARLY * max(one.level, eps)
        rivals = [other for other in helpful if other is not one and other.name not in one.fault.dominates]
        if all(one.name not in other.fault.dominates and other.level >= level for other in rivals):
            return one
    return None


def nearest(tried: Iterable[Tried]) -> tuple[RunnerUp, ...]:
    """The explanations that leave the least, for the report."""
    return tuple(RunnerUp(one.name, one.level) for one in sorted(tried, key=lambda one: one.level)[:SHOWN])


def named(
    winner: Tried, parameters: dict[str, Any], backend: Backend, difference: float, shown: tuple[RunnerUp, ...]
) -> Diagnosis:
    """The diagnosis for a winner, spelled for a backend."""
    rival = next((one for one in shown if one.name != winner.name), None)
    return winner.fault.diagnosis(
        backend, parameters, winner.level, runner_up=rival, difference=difference, evidence=shown
    )


def unknown(
    helpful: Sequence[Tried], difference: float, shown: tuple[RunnerUp, ...], *, fix: str, why: str = ""
) -> Diagnosis:
    """The diagnosis if no explanation wins, with the reason."""
    if not why and helpful:
        why = f"{' and '.join(one.name for one in helpful)} explain it equally well"
    why = f"The cause is unknown: {why or 'no known mistake explains the difference'}."
    return Diagnosis("unknown", why, fix, difference, shown[0] if shown else None, difference, {}, shown)
