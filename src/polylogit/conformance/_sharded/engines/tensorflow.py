"""TensorFlow: tensors with a layout over logical devices of one process, and per-replica values."""

# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import polylogit
from polylogit.conformance._sharded.cases import Outcome
from polylogit.errors import UnsupportedArrayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from polylogit.conformance._sharded.cases import Question

RANKS = False


def environment(parts: int) -> dict[str, str]:
    """Nothing."""
    return {}


class Engine:
    """See `polylogit.conformance._sharded.engines`. The exchanges between devices are unknown."""

    uneven = False
    gaps: ClassVar[dict[tuple[str, str], str]] = {
        ("values", "both axes jointly"): "TensorFlow gathers a split dimension that it joins with another",
        ("jvp", "along the row, masked"): "TensorFlow's forward mode makes tangents that lie on no mesh",
    }

    def __init__(self, rank: int, parts: int, folder: Path) -> None:
        import tensorflow as tf
        from tensorflow.experimental import dtensor

        self.tf, self.dtensor, self.parts = tf, dtensor, parts
        (device, *_) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * parts)
        self.mesh = dtensor.create_mesh([("parts", parts)], device_type="CPU")
        self.meshes = (1,)

    def close(self) -> None:
        """Nothing is open."""

    def _put(self, array: Any, question: Question, dtype: str) -> Any:
        (split,) = question.split
        dimensions = ["parts" if one == split else self.dtensor.UNSHARDED for one in range(len(question.shape))]
        parts = [self.tf.cast(self.tf.constant(one), dtype) for one in np.split(array, self.parts, split)]
        return self.dtensor.pack(parts, self.dtensor.Layout(dimensions, self.mesh))

    def answer(self, question: Question, dimensions: int) -> Outcome:
        """One eager call."""
        x, mask, direction = question.arrays()
        given = self._put(x, question, question.dtype)
        options: dict[str, Any] = {"axis": question.axis}
        if mask is not None:
            options["where"] = self._put(mask, question, "bool")
        function = getattr(polylogit, question.operation)
        if question.check == "values":
            y = function(given, **options)
        elif question.check == "vjp":
            towards = direction if mask is None else np.where(mask, direction, 0.0)
            y = polylogit.vjp(function, given, **options)[1](self._put(towards, question, question.dtype))
        else:
            y = polylogit.jvp(function, given, self._put(direction, question, question.dtype), **options)[1]
        layout, before = self.dtensor.fetch_layout(y), self.dtensor.fetch_layout(given)
        parts = [one.numpy().astype(np.float64) for one in self.dtensor.unpack(y)]
        values = np.concatenate(parts, question.split[0]) if not layout.is_fully_replicated() else parts[0]
        if question.check == "jvp" and mask is not None:
            values = np.where(mask, values, 0.0)
        return Outcome(values, str(y.dtype.name), kept=layout.sharding_specs == before.sharding_specs)

    def facts(self, level: str) -> Iterator[tuple[str, Callable[[], str]]]:
        """Further tests."""
        yield "values for each replica are refused outside of run", self._outside
        yield "values for each replica inside of run", self._inside

    def _replicas(self) -> tuple[Any, Any]:
        strategy = self.tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(self.parts)])
        return strategy, strategy.run(lambda: self.tf.constant([[1.0, 2.0]]))

    def _outside(self) -> str:
        _, values = self._replicas()
        try:
            polylogit.softmax(values)
        except UnsupportedArrayError as error:
            return "" if "strategy.run" in str(error) else f"the error says no remedy: {error}"
        return "they were taken"

    def _inside(self) -> str:
        strategy, values = self._replicas()
        results = strategy.experimental_local_results(strategy.run(polylogit.softmax, (values,)))
        right = [abs(float(one[0, 0]) - 1 / (1 + np.e)) < 1e-6 for one in results]
        return "" if all(right) and len(right) == self.parts else f"{results}"
