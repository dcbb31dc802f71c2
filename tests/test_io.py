"""One loader of "module:name", one writer of whole files, one spelling of what JSON lacks."""

import concurrent.futures
import json
import os

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mine.py:f", "name the module: mine:f."),
        ("./mine.py:f", "mine:f."),
        ("a dir/k.py:f", "k:f, in the folder 'a dir'"),
    ],
)
def test_a_file_is_refused_with_the_name_of_its_module(text, words):
    with pytest.raises(ValueError, match="is a file") as raised:
        _io.resolve(text)
    assert words in str(raised.value)


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


def test_a_link_stays_a_link_and_the_file_behind_it_is_written(tmp_path):
    (tmp_path / "kept").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to("kept/report.json")
    for text in ("first", "second"):
        _io.check_writable(link)
        _io.write_whole(link, text)
        assert link.is_symlink()
        assert (tmp_path / "kept" / "report.json").read_text() == text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    _io.check_writable(pipe)  # opens nothing, which would wait for a reader
    with concurrent.futures.ThreadPoolExecutor() as pool:
        got = pool.submit(pipe.read_text)
        _io.write_whole(pipe, "all of it")
        assert got.result(30) == "all of it"
    assert pipe.is_fifo()
    reader, writer = os.pipe()  # as a shell names one that it made: no other file could be made there
    with os.fdopen(reader) as end:
        _io.write_whole(f"/dev/fd/{writer}", "again")
        os.close(writer)
        assert end.read() == "again"


def test_where_nothing_can_be_written_that_is_known_before(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for path, error in (
        (tmp_path / "file" / "report.html", NotADirectoryError),
        (tmp_path, IsADirectoryError),
    ):
        with pytest.raises(error):
            _io.check_writable(path)
    _io.check_writable(tmp_path / "new" / "folder" / "report.html")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_lacks_are_spelt_and_come_back():
    given = {"a": [float("nan"), float("-inf"), 1.5, None, True], 2: ("x", {1})}
    plain = json.loads(json.dumps(_io.plain_json(given)), parse_constant=pytest.fail)
    assert plain == {"a": ["nan", "-inf", 1.5, None, True], "2": ["x", "{1}"]}
    assert float(plain["a"][1]) == -float("inf")
