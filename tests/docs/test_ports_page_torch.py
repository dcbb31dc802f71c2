"""The page of ports that were measured is made from what was stored, and says what was not right."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ports_page.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("ports_page", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["ports_page"] = module
    specification.loader.exec_module(module)
    return module


page = tool()


def said(status: str, first: str = "", cause: str = "") -> dict[str, Any]:
    return {"status": status, "first": first, "cause": cause, "activations": 9, "differ": 2}


def row(fault: str = "scale missing", **ways: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "bert", "port": "Flax", "fault": fault, "causes": ["scaled-logits"] * bool(fault),
        "within": "encoder.layer.1.attention.self", "times": 100.0, "kind": "fault" if fault else "right", "said": ways,
    }  # fmt: skip


def made(*rows: dict[str, Any]) -> str:
    return str(page.page([{"ports": rows, "versions": {"torch": "2"}, "command": "--model bert"}]))


def test_the_page_is_made_from_what_was_stored() -> None:
    assert page.PAGE.read_text() == page.page(json.loads(page.STORED.read_text())), "run python tools/ports_page.py"


def test_what_is_right_is_counted_and_nothing_is_said_to_be_wrong() -> None:
    where = "bert.encoder.layer.1.attention.self:softmax:2.scores"
    text = made(row(recorded=said("disagrees", where, "scaled-logits")), row("", recorded=said("agrees")))
    assert "| bert | Flax | all activations | 1 of 1 | 1 of 1 | 1 of 1 | 0 of 1 | 0 of 1 |" in text
    assert text.count(":** none.") == len(page._WRONG)


def test_a_fault_that_passes_and_a_right_port_that_is_accused_are_listed() -> None:
    text = made(row(outputs=said("beyond")), row("", outputs=said("disagrees", "logits", "unknown")))
    assert "- bert in Flax: scale missing (outputs alone): beyond, 1e+02 times as far" in text
    assert "- bert in Flax: right (outputs alone): 2 of 9 activations" in text


def test_a_wrong_name_and_a_wrong_module_are_listed_once_for_all_ways() -> None:
    wrong = said("disagrees", "bert.pooler", "wrong-axis")
    text = made(row(recorded=wrong, isolated=wrong))
    assert "- bert in Flax: scale missing (all activations, module by module): `wrong-axis`" in text
    assert "- bert in Flax: scale missing (all activations, module by module): `bert.pooler`" in text


def test_a_name_that_was_not_found_is_listed_with_what_it_is() -> None:
    text = made(row(recorded=said("disagrees", "bert.encoder.layer.1.attention.self", "unknown")))
    assert "- bert in Flax: scale missing (all activations): should be `scaled-logits`" in text


def test_the_command_is_shown() -> None:
    assert "python tools/ports.py --model bert --json FILE" in made(row("", outputs=said("agrees")))
