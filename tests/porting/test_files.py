"""Outputs from files and from module:callable, and the command that compares them."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import polylogit
from polylogit._cli import compare as compare_command
from polylogit.errors import ComparisonError
from polylogit.porting import compare_files, load

X = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("p.npy", polylogit.softmax(X))
    np.savez("right.npz", z=X, a=polylogit.softmax(X))
    np.savez("wrong.npz", z=X, a=polylogit.softmax(X, axis=0))
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(compare_command, list(arguments))


def test_files_are_read_in_the_order_in_which_they_were_written(folder: Any) -> None:
    assert list(load("right.npz")) == ["z", "a"]
    np.testing.assert_array_equal(load("x.npy"), X)


def test_safetensors_are_read_with_bfloat16(folder: Any) -> None:
    import ml_dtypes
    from safetensors.numpy import save_file

    save_file({"p": X.astype(ml_dtypes.bfloat16), "x": X}, "t.safetensors")
    found = load("t.safetensors")
    assert found["p"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["x"], X)


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was loaded",))


def malformed(folder: Any) -> list[str]:
    (folder / "empty.npz").write_bytes(b"")
    (folder / "short.npy").write_bytes(b"\x93NUMPY")
    (folder / "text.npz").write_text("this is no archive")
    (folder / "cut.npz").write_bytes((folder / "right.npz").read_bytes()[:200])
    (folder / "pickle.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(folder / "object.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(folder / "object.npz", a=np.array([Bomb()], dtype=object))
    (folder / "header.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (folder / "text.safetensors").write_text("this is none either")
    (folder / "npy.npz").write_bytes((folder / "x.npy").read_bytes())
    names = ["empty.npz", "short.npy", "text.npz", "cut.npz", "pickle.npy", "object.npy", "object.npz"]
    return [*names, "header.safetensors", "text.safetensors", "npy.npz"]


def test_files_that_are_not_what_they_claim_are_errors_and_never_unpickled(folder: Any) -> None:
    for name in malformed(folder):
        with pytest.raises(ComparisonError, match="no readable"):
            load(name)
        result = run(name, "p.npy")
        assert result.exit_code == 2, name
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "source",
    ["missing.npy", "no_suffix", "x.csv", "polylogit:nothing_of_the_kind", "no_such_module:f", "polylogit:errors"],
)
def test_what_does_not_exist_is_an_error(folder: Any, source: str) -> None:
    with pytest.raises(ComparisonError):
        load(source)
    assert run(source, "p.npy").exit_code == 2


def test_the_exit_status_is_the_verdict(folder: Any) -> None:
    np.save("ones.npy", np.ones((3, 4)))
    assert run("right.npz", "right.npz").exit_code == 0
    wrong = run("right.npz", "wrong.npz")
    assert wrong.exit_code == 1
    assert "wrong-axis" in wrong.output
    assert run("ones.npy", "ones.npy").exit_code == 3
    assert run("right.npz", "p.npy").exit_code == 2
    assert run("p.npy").exit_code == 2


def test_more_than_the_bounds_of_rounding_is_said_and_fails_if_strict(folder: Any) -> None:
    noisy = X * (1 + np.random.default_rng(1).normal(0, 1e-4, X.shape).astype(np.float32))
    np.savez("allowed.npz", z=X, a=polylogit.softmax(noisy))
    found = run("right.npz", "allowed.npz")
    assert found.exit_code == 0, found.output
    assert "agrees with the reference, within 0.00012: more than the bounds of rounding" in found.output
    assert [one.name for one in compare_files("right.npz", "allowed.npz").allowed] == ["a"]
    assert run("right.npz", "allowed.npz", "--strict").exit_code == 1
    np.savez("rounded.npz", z=X, a=polylogit.softmax(X.astype(np.float64)).astype(np.float32))
    found = run("right.npz", "rounded.npz", "--strict")
    assert found.exit_code == 0
    assert "within" not in found.output


def test_a_pickled_model_is_said_to_be_one_and_arguments_are_options_there(folder: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 3), "whole.pt")
    found = run("whole.pt", "x.npy")
    assert "a whole model perhaps: save its outputs" in found.output
    assert "weights_only" not in found.output
    assert "pass --inputs" in run("polylogit:softmax", "polylogit:softmax").output


def test_callables_are_named_by_module(folder: Any) -> None:
    (folder / "my_port.py").write_text("import polylogit\ndef head(x):\n    return polylogit.softmax(2 * x)\n")
    result = run("polylogit:softmax", "my_port:head", "--inputs", "x.npy")
    assert result.exit_code == 1
    assert "scaled-logits" in result.output
    assert run("polylogit:softmax", "polylogit:softmax", "--inputs", "x.npy", "--cotangent", "x.npy").exit_code == 0
    assert compare_files("polylogit:softmax", "polylogit:softmax", inputs="x.npy").agrees


def test_reports_and_names_from_the_command_line(folder: Any) -> None:
    np.savez("other.npz", logits=X, a=polylogit.softmax(X))
    result = run("right.npz", "other.npz", "--name", "z=logits", "--html", "o.html", "--json", "o.json")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "o.json").read_text())["agrees"] is True
    assert "</html>" in (folder / "o.html").read_text()
    assert run("right.npz", "other.npz", "--name", "zlogits").exit_code == 2


def test_a_report_that_cannot_be_written_is_said_so(folder: Any) -> None:
    result = run("right.npz", "wrong.npz", "--json", "right.npz/o.json")  # a file is where the folder should be
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_reports_name_the_files_and_when_they_were_written(tmp_path: Any) -> None:
    paths = tmp_path / "here.npz", tmp_path / "there.npz"
    for path in paths:
        np.savez(path, x=X)
    found = compare_files(*paths)
    assert f"reference: {paths[0]}, written 20" in found.summary()
    found.to_html(tmp_path / "report.html")
    assert "there.npz, written 20" in (tmp_path / "report.html").read_text()


def _archive(path: Any, header: dict[str, Any], zeros: int) -> None:
    """An .npz whose one array has this header and so many bytes of zeros, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, zeros, 1 << 20):
            file.write(bytes(min(1 << 20, zeros - start)))


def test_an_array_that_says_it_is_larger_than_it_is_takes_no_memory(folder: Any) -> None:
    _archive(folder / "lies.npz", {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}, 64)
    with pytest.raises(ComparisonError, match=r"'a\.npy' says that it takes 8,000,000,000,\d\d\d bytes and takes \d+"):
        load(folder / "lies.npz")


def test_an_archive_that_would_expand_without_end_is_refused_before_it_does(folder: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("polylogit.porting._formats._MOST_BYTES", 1 << 20)
    _archive(folder / "bomb.npz", {"descr": "<f8", "fortran_order": False, "shape": (1 << 20,)}, 8 << 20)
    with pytest.raises(ComparisonError, match=r"would expand from [\d,]+ to 8,388,736 bytes; .*numpy\.savez, uncomp"):
        load(folder / "bomb.npz")
