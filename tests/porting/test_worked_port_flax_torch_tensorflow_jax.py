"""The worked port of the documentation runs as written and says what the page says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "porting"


@pytest.fixture(scope="module")
def output() -> str:
    """What the script prints."""
    spec = importlib.util.spec_from_file_location("worked_port", FOLDER / "worked_port.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["worked_port"] = module  # Flax's dataclasses look their module up
    spec.loader.exec_module(module)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words: lines.append(" ".join(map(str, words))))
        module.main()
    return "\n".join(lines)


def test_the_original_has_learnt_something(output: str) -> None:
    found = re.search(r"test accuracy of the original: ([\d.]+)%", output)
    assert found is not None
    assert float(found[1]) > 90


def test_both_ports_agree_and_all_six_breakages_are_named(output: str) -> None:
    assert output.count("The candidate agrees with the reference.") == 2
    for port in ("Flax", "Keras"):
        assert f"{port}, scale: first at 'scores', scaled-logits" in output
        assert f"{port}, axis: first at 'attention', wrong-axis" in output
        assert f"{port}, bias: first at 'head', missing-bias" in output


def test_the_page_shows_what_the_script_prints(output: str) -> None:
    shown = re.findall(r"```text\n(.*?)```", (FOLDER / "worked.md").read_text(), re.DOTALL)
    assert len(shown) == 3
    for block in shown:
        assert block.strip() in output
