"""The drawing of the house shows the layers that the import linter enforces."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

TOOL = Path(__file__).resolve().parents[2] / "tools" / "house_picture.py"


def tool() -> Any:
    specification = importlib.util.spec_from_file_location("house_picture", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_committed_drawing_is_today_s() -> None:
    house = tool()
    assert house.PICTURE.read_text(encoding="utf-8") == house.svg(), "run python tools/house_picture.py"


def test_every_layer_is_drawn_and_explained() -> None:
    house = tool()
    drawn = {element.text for element in ElementTree.fromstring(house.svg()).iter("text")}
    assert set(house.WORDS) == set(house.layers())
    for layer in house.layers():
        assert {*layer.split(" | "), house.WORDS[layer][0]} <= drawn
