"""Whatever is passed, a call gives probabilities or an error of the hierarchy; `tools/harden.py` asks more of them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from .calls import Call, calls, holds


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(calls())
def test_any_call_gives_probabilities_or_an_error_of_the_hierarchy(call: Call) -> None:
    assert holds(call) != "an error without a message"
