"""The table of faults: complete, consistent, spelled for every framework, and all that a new cause needs."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest

import polylogit
from polylogit._backends.base import SPELLING
from polylogit.porting import compare
from polylogit.porting._diagnosis.faults import FAULTS, GRADIENT_FAULTS, listing
from polylogit.porting._diagnosis.faults.fault import Fault, Prediction

ALL = [*FAULTS.values(), *GRADIENT_FAULTS.values()]
P = polylogit.softmax(np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32))


def places(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_what_a_fault_dominates_is_another_fault(fault: Fault) -> None:
    assert set(fault.dominates) <= set(FAULTS) - {fault.name}


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_every_backend_spells_the_fix_from_the_same_values(backend: Any, fault: Fault) -> None:
    template = SPELLING.get(fault.fix, fault.fix)
    names = places(template) | {"axis"}
    values = {name: 2.0 if "{" + name + ":" in template else 1 for name in names}
    line = backend.spell(fault.fix, **values)
    assert line
    assert "{" not in line


def test_a_backend_spells_only_what_there_is(backend: Any) -> None:
    assert set(backend.spelling) <= set(SPELLING)


def test_the_list_of_causes_has_each_once_and_shows_the_places_of_what_is_found() -> None:
    rows = listing()
    assert [name for name, _, _ in rows] == [fault.name for fault in ALL]
    assert "axis <axes>" in rows[0][1]
    assert not any("{" in text for row in rows for text in row)
    torch = {name: fix for name, _, fix in listing({"softmax": "torch.softmax(x, dim={axis})"})}
    assert torch["wrong-axis"] == "torch.softmax(x, dim=<axis>)"


def test_a_new_cause_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, candidate = P, P[::1] + np.float32(0.25) * (np.arange(5) == 2)
    assert compare(reference, candidate).cause.name == "unknown"  # type: ignore[union-attr]

    def predict(evidence: Any) -> Any:
        raised = evidence.reference + 0.25 * (np.arange(5) == 2)
        yield Prediction(raised, evidence.candidate, {"column": 2})

    fault = Fault("raised-column", "Column {column} is too large.", "p[:, {column}] -= 0.25", predict)
    monkeypatch.setitem(FAULTS, fault.name, fault)
    cause = compare(reference, candidate).cause
    assert cause is not None
    assert (cause.name, cause.explanation) == ("raised-column", "Column 2 is too large.")
    assert cause.fix == "p[:, 2] -= 0.25"
