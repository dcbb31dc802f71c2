"""Keras with polylogit in its models, on the backend that KERAS_BACKEND names: what happened, as a file of arrays.

    KERAS_BACKEND=jax python keras_program.py FILE.npz

Keras reads its backend once a process, so the tests run this once for each and look at the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import polylogit

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
AXES = (-1, 0, 1, (0, 2), None)


def data() -> tuple[Any, Any]:
    """Points and which of three classes each belongs to."""
    x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def model() -> Any:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation=polylogit.sigmoid)
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3, activation=polylogit.softmax)])


def called(some: Any, x: Any) -> Any:
    return keras.ops.convert_to_numpy(some(x))


def activations(loaded: Any) -> list[bool]:
    """Whether each layer of a model that was loaded has polylogit's function."""
    return [
        layer.activation is getattr(polylogit, name)
        for layer, name in zip(loaded.layers, ("sigmoid", "softmax"), strict=True)
    ]


def saved_and_loaded(folder: Path, trained: Any, x: Any) -> dict[str, Any]:
    """By each of the ways that the page names, and without any."""
    path, load = folder / "model.keras", keras.saving.load_model
    facts: dict[str, Any] = {}
    trained.save(path)
    facts["unregistered"] = activations(
        load(path, custom_objects={name: getattr(polylogit, name) for name in OPERATIONS})
    )
    for name in OPERATIONS:
        keras.saving.register_keras_serializable("polylogit")(getattr(polylogit, name))
    trained.save(path)
    facts["registered"] = activations(load(path))
    facts["same"] = bool(np.array_equal(called(load(path), x), called(trained, x)))
    facts["cloned"] = activations(keras.models.clone_model(trained))
    keras.saving.get_custom_objects().clear()  # as a process that registers nothing
    objects = {f"polylogit>{name}": getattr(polylogit, name) for name in OPERATIONS}
    facts["custom_objects"] = activations(load(path, custom_objects=objects))
    try:
        load(path)
    except TypeError as error:
        facts["without"] = str(error)
    return facts


def functional(x: Any) -> dict[str, Any]:
    inputs = keras.Input((4,))
    facts: dict[str, Any] = {}
    try:
        polylogit.softmax(inputs)
    except polylogit.errors.UnsupportedArrayError as error:
        facts["refused"] = str(error)

    class Normalised(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return polylogit.softmax(inputs, axis=0)

    by_activation = keras.Model(inputs, keras.layers.Activation(polylogit.softmax)(inputs))
    by_layer = keras.Model(inputs, Normalised()(inputs))
    facts["activation"] = float(np.abs(called(by_activation, x).sum(1) - 1).max())
    facts["layer"] = float(np.abs(called(by_layer, x).sum(0) - 1).max())
    return facts


def operations() -> dict[str, Any]:
    """The operations of Keras and polylogit's on the same tensors."""
    x = keras.ops.convert_to_tensor(np.random.default_rng(1).normal(size=(3, 4, 5)).astype("float32") * 3)
    arrays = {"x": keras.ops.convert_to_numpy(x)}
    for name in OPERATIONS:
        for axis in AXES if name != "sigmoid" else (None,):
            given = {} if name == "sigmoid" else {"axis": axis}
            theirs, ours = getattr(keras.ops, name)(x, **given), getattr(polylogit, name)(x, **given)
            assert type(ours) is type(theirs), f"{type(ours)}, {type(theirs)}"
            arrays[f"keras {name} {axis}"] = keras.ops.convert_to_numpy(theirs)
            arrays[f"polylogit {name} {axis}"] = keras.ops.convert_to_numpy(ours)
    return arrays


def main(target: Path) -> None:
    x, y = data()
    facts: dict[str, Any] = {"backend": keras.backend.backend(), **functional(x)}
    trained = model()
    if keras.backend.backend() != "numpy":  # which does not differentiate
        trained.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
        facts["losses"] = trained.fit(x, y, epochs=4, batch_size=32, verbose=0).history["loss"]
    if facts["backend"] in ("tensorflow", "jax"):  # where a weight says that it is a tensor, or holds one
        weight = trained.layers[0].kernel
        facts["weight"] = bool(np.array_equal(polylogit.softmax(weight), polylogit.softmax(weight.value)))
    facts |= saved_and_loaded(target.parent, trained, x)
    np.savez(target, facts=json.dumps(facts), **operations())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
