"""The frameworks, in one place for all tests: their names, what is installed, and the ways to run a function on each.

This file finds frameworks by itself and does not ask polylogit, which is under test.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

# The ways to run a function on each. Inductor has tests of its own: it takes seconds for each graph.
MODES = {
    "numpy": ("eager",),
    "torch": ("eager", "dynamo"),
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "jit"),
}
FRAMEWORKS = tuple(MODES)

# Libraries that a test may ask for besides. The cluster is in no extra: starting its processes takes longer than all
# else of Dask's tests.
CONTAINERS = ("dask", "xarray", "pandas", "polars")
LIBRARIES = (*FRAMEWORKS, "flax", "equinox", "onnxruntime", *CONTAINERS, "distributed", "PIL")
# No library, but wanted as one is: a GPU of NVIDIA's, which its driver shows as a file.
CUDA = Path("/dev/nvidiactl").exists()
WANTED = (*LIBRARIES, "cuda")
MISSING = tuple(name for name in WANTED if (not CUDA if name == "cuda" else importlib.util.find_spec(name) is None))
INSTALLED = tuple(name for name in FRAMEWORKS if name not in MISSING)
DIFFERENTIATING = tuple(name for name in FRAMEWORKS if name != "numpy")

# In which precision an integer is computed, and what the result is then.
DEFAULT_FLOAT = dict.fromkeys(FRAMEWORKS, "float32") | {"numpy": "float64"}


def enable_x64(on: bool) -> Any:
    """A context in which JAX has its 64-bit types or has not; before JAX 0.8 the switch was in another place."""
    import jax
    from jax import experimental

    return (jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64)(on)


def older(distribution: str, version: str) -> bool:
    """Whether what is installed is older: the native defects that tests know are those of the newest releases."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split("+")[0].split(".") if part.isdigit()]

    return numbers(importlib.metadata.version(distribution)) < numbers(version)
