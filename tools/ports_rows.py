"""The results for one port as data, and which of them count as right; made by `ports`, shown by `ports_page`.

Knows no framework of a port.
"""

from __future__ import annotations

import dataclasses

from ports_models import same_module

__all__ = ["EFFECT", "Row", "Said"]

EFFECT = 8.0  # a port that is less than so many times farther from float64 than the original has no fault


@dataclasses.dataclass
class Said:
    """What one comparison said of one port."""

    status: str = ""  # "agrees", "beyond", "disagrees", "inconclusive", or "failed" where it raised
    first: str = ""
    cause: str = ""
    explanation: str = ""
    activations: int = 0
    differ: int = 0  # of them
    seconds: float = 0.0

    @property
    def noticed(self) -> bool:
        return self.status == "disagrees"


@dataclasses.dataclass
class Row:
    """One port and all that was said of it."""

    model: str
    port: str
    fault: str
    causes: list[str]
    within: str
    times: float  # farther from float64 than the original, at the outputs
    kind: str = "fault"  # or "right"
    impossible: str = ""  # why the port could not be made
    said: dict[str, Said] = dataclasses.field(default_factory=dict)

    def module_right(self, way: str) -> bool:
        said = self.said[way]
        return said.noticed and same_module(self.model.partition(",")[0], said.first, self.within)

    def cause_right(self, way: str) -> bool:
        return self.said[way].cause in self.causes

    def wrong_name(self, way: str) -> bool:
        return self.said[way].cause not in ("", "unknown", *self.causes)
