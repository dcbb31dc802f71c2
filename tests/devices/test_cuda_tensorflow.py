"""What only a GPU can show of TensorFlow."""

from __future__ import annotations

from polylogit import conformance


def test_the_contract_holds() -> None:
    report = conformance.run(["tensorflow"], device="cuda", level="quick")
    assert report.passed, report.summary()
