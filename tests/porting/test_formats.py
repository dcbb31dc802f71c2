"""Files of every kind: what is read of them, in which order, and what is refused."""

from __future__ import annotations

import pickle
import re
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import polylogit
from polylogit._cli import compare as compare_command
from polylogit._extras import command
from polylogit.errors import ComparisonError
from polylogit.porting import compare, compare_files, load, save

X = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
P = np.asarray(polylogit.softmax(X))


@pytest.fixture
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was loaded",))


# --- order, and one array at a time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_what_is_saved_comes_back_in_its_order(folder: Any, name: str) -> None:
    # By themselves, the writers of safetensors sort by dtype and name.
    wanted = {"z": X.astype(np.float16), "b": X, "a": X.astype(np.float64), "c": X.T}
    save(name, wanted)
    found = load(name)
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value)
        assert found[key].dtype == value.dtype
    assert [path.name for path in folder.iterdir()] == [name]


def test_safetensors_keep_bfloat16_and_npz_refuses_it(folder: Any) -> None:
    save("a.safetensors", {"x": X.astype(ml_dtypes.bfloat16)})
    assert load("a.safetensors")["x"].dtype == ml_dtypes.bfloat16
    with pytest.raises(ComparisonError, match=r"bfloat16, which .npz does not keep"):
        save("a.npz", {"x": X.astype(ml_dtypes.bfloat16)})
    with pytest.raises(ComparisonError, match="ends in none of"):
        save("a.txt", {"x": X})
    assert not (folder / "a.npz").exists()


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_arrays_are_read_when_they_are_asked_for_and_not_kept(
    folder: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(name, {"x": X, "p": P})
    found = load(name)
    assert "p" in found
    assert "q" not in found
    assert len(found) == 2
    assert found["x"] is not found["x"]
    (folder / name).unlink()
    with pytest.raises(ComparisonError, match="cannot be read"):
        found["x"]


def test_a_comparison_of_two_files_reads_each_array_once(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from polylogit.porting import _formats

    asked: list[str] = []
    read = _formats.Arrays.__getitem__

    def counted(self: Any, name: str) -> Any:
        asked.append(name)
        return read(self, name)

    monkeypatch.setattr(_formats.Arrays, "__getitem__", counted)
    save("a.npz", {"x": X, "p": P})
    assert compare(load("a.npz"), load("a.npz")).agrees
    # The last is looked at once more, for the framework it is of.
    assert asked == ["p", "x", "x", "p", "p"]


def test_an_archive_that_is_damaged_within_an_array_is_an_error_of_the_command(folder: Any) -> None:
    np.savez("a.npz", x=np.ones(50_000))
    whole = (folder / "a.npz").read_bytes()
    (folder / "b.npz").write_bytes(whole[:300_000] + bytes(20) + whole[300_020:])
    result = CliRunner().invoke(compare_command, ["a.npz", "b.npz"])
    assert result.exit_code == 2
    assert "cannot be read" in result.output


# --- PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.mark.requires("torch")
@pytest.mark.parametrize("name", ["a.pt", "a.pth"])
def test_tensors_of_torch_are_read(folder: Any, name: str) -> None:
    import torch

    torch.save({"z": torch.tensor(X), "inner": {"b": torch.tensor(P).bfloat16()}, "step": 3}, name)
    found = load(name)
    assert list(found) == ["z", "inner.b"]
    np.testing.assert_array_equal(found["z"], X)
    assert found["inner.b"].dtype == ml_dtypes.bfloat16
    torch.save(torch.tensor(X, requires_grad=True), name)
    np.testing.assert_array_equal(load(name), X)


@pytest.mark.requires("torch")
def test_what_torch_pickles_beside_tensors_is_never_loaded(folder: Any) -> None:
    import torch

    torch.save({"x": Bomb()}, "a.pt")
    (folder / "b.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save([torch.tensor(X)], "c.pt")
    torch.save({"step": 3}, "d.pt")
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(ComparisonError, match=r"no readable \.pt"):
            load(name)
    with pytest.raises(ComparisonError, match="holds no arrays"):
        load("d.pt")


# --- HDF5 ------------------------------------------------------------------------------------------------------------


def test_datasets_are_read_in_order_of_creation_where_it_is_tracked(folder: Any) -> None:
    h5py = pytest.importorskip("h5py")
    for track, wanted in ((True, ["z", "block/b", "block/a", "c"]), (False, ["block/a", "block/b", "c", "z"])):
        with h5py.File("a.h5", "w", track_order=track) as file:
            file["z"] = X
            group = file.create_group("block", track_order=track)
            group["b"], group["a"] = P, X
            file["c"] = X.astype(np.float16)
            file["words"] = "no numbers"
        found = load("a.h5")
        assert list(found) == wanted
        np.testing.assert_array_equal(found["block/b"], P)
    (folder / "a.h5").rename("b.hdf5")
    assert len(load("b.hdf5")) == 4


def test_links_out_of_an_hdf5_file_are_not_followed(folder: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("other.h5", "w") as file:
        file["secret"] = X
    with h5py.File("a.h5", "w") as file:
        file["x"] = X
        file["out"] = h5py.ExternalLink("other.h5", "secret")
        file["soft"] = h5py.SoftLink("/x")
    assert list(load("a.h5")) == ["x"]
    with h5py.File("b.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=X.shape, dtype=X.dtype)
        layout[...] = h5py.VirtualSource("other.h5", "secret", shape=X.shape)
        file.create_virtual_dataset("x", layout)
    with pytest.raises(ComparisonError, match="keeps its numbers in another file"):
        load("b.h5")


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.requires("tensorflow")
def test_a_keras_model_is_a_callable(folder: Any) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4), keras.layers.Softmax()])
    model.save("a.keras")
    np.save("x.npy", X)
    assert compare_files("a.keras", "a.keras", inputs="x.npy").agrees


@pytest.mark.requires("tensorflow")
def test_code_in_a_keras_model_is_refused(folder: Any) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Lambda(lambda x: 2 * x)])
    model.save("a.keras")
    with pytest.raises(ComparisonError, match=r"no readable \.keras file"):
        load("a.keras")


@pytest.mark.requires("onnxruntime")
def test_an_onnx_model_is_a_callable(folder: Any) -> None:
    import onnx

    place = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Softmax", ["x"], ["p"], axis=-1)],
        "head",
        [place("x", onnx.TensorProto.FLOAT, [None, 5])],
        [place("p", onnx.TensorProto.FLOAT, [None, 5])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), "a.onnx")
    np.save("x.npy", X)
    assert compare_files("polylogit:softmax", "a.onnx", inputs="x.npy").agrees
    np.testing.assert_allclose(load("a.onnx")(x=X.astype(np.float64)), P, rtol=1e-6)
    with pytest.raises(TypeError, match=r"the model takes \['x'\]"):
        load("a.onnx")(y=X)


@pytest.mark.requires("tensorflow")
def test_a_tflite_model_is_a_callable(folder: Any) -> None:
    import tensorflow as tf

    function = tf.function(tf.nn.softmax, input_signature=[tf.TensorSpec([None, 5], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    (folder / "a.tflite").write_bytes(converter.convert())
    np.save("x.npy", X)
    assert compare_files("polylogit:softmax", "a.tflite", inputs="x.npy").agrees


@pytest.mark.requires("tensorflow")
def test_a_tflite_model_takes_and_returns_what_it_did_before_it_was_converted(folder: Any) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name=name) for name in ("scores", "mask")])  # type: ignore[untyped-decorator]
    def function(scores: Any, mask: Any) -> Any:
        return {"weights": tf.nn.softmax(scores - mask), "rest": scores + mask}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    (folder / "a.tflite").write_bytes(converter.convert())
    found = load("a.tflite")(mask=0 * X, scores=X)
    assert set(found) == {"weights", "rest"}
    assert np.array_equal(found["rest"], X.astype(np.float32))


# --- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("a.safetensors", "safetensors", "conformance"),
        ("a.pt", "torch", "torch"),
        ("a.h5", "h5py", "hdf5"),
        ("a.keras", "keras", "tensorflow"),
        ("a.onnx", "onnxruntime", "onnx"),
        ("a.tflite", "tensorflow", "tflite"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_command(
    folder: Any, name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    def missing(module: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(importlib, "import_module", missing)
    start = {".h5": b"\x89HDF\r\n\x1a\n", ".keras": b"PK"}
    (folder / name).write_bytes(start.get((folder / name).suffix, b"") + bytes(16))
    with pytest.raises(ComparisonError, match=f"needs {library}; install it with: {re.escape(command(extra))}"):
        load(name)


def test_the_kind_of_a_file_is_checked_by_its_first_bytes(folder: Any) -> None:
    with zipfile.ZipFile("a.h5", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(ComparisonError, match="it begins with"):
        load("a.h5")
