"""One loader of "module:name", one writer of whole files, one spelling of what JSON lacks."""

import json

import pytest

from polylogit import _io


def test_an_object_is_found_by_its_name(monkeypatch, tmp_path):
    (tmp_path / "mine_to_resolve.py").write_text("class Kernels:\n    def softmax(x): return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # so that what resolve adds is taken away
    assert _io.resolve("mine_to_resolve:Kernels.softmax")(3) == 3
    assert _io.resolve("math:pi") > 3


@pytest.mark.parametrize("text", ["", "math", "math:", ":pi"])
def test_a_text_of_another_form_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match='write "module:name"'):
        _io.resolve(text)


def test_what_is_not_there_raises_what_python_raises():
    with pytest.raises(ModuleNotFoundError):
        _io.resolve("no_such_module_of_mine:f")
    with pytest.raises(AttributeError):
        _io.resolve("math:no_such_name")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "new folder" / "report.md"
    _io.write_whole(target, "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _io.write_whole(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["report.md"]


def test_numbers_that_json_lacks_are_spelt_and_come_back():
    given = {"a": [float("nan"), float("-inf"), 1.5, None, True], 2: ("x", {1})}
    plain = json.loads(json.dumps(_io.plain_json(given)), parse_constant=pytest.fail)
    assert plain == {"a": ["nan", "-inf", 1.5, None, True], "2": ["x", "{1}"]}
    assert float(plain["a"][1]) == -float("inf")
