"""The frameworks, in one place for all tests: their names, what is installed, and the ways to run a function on each.

This file finds frameworks by itself and does not ask polylogit, which is under test.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

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
LIBRARIES = (*FRAMEWORKS, "flax", "equinox", "onnxruntime", *CONTAINERS, "distributed")
# No library, but wanted as one is: a GPU of NVIDIA's, which its driver shows as a file.
CUDA = Path("/dev/nvidiactl").exists()
WANTED = (*LIBRARIES, "cuda")
MISSING = tuple(name for name in WANTED if (not CUDA if name == "cuda" else importlib.util.find_spec(name) is None))
INSTALLED = tuple(name for name in FRAMEWORKS if name not in MISSING)
DIFFERENTIATING = tuple(name for name in FRAMEWORKS if name != "numpy")

# In which precision an integer is computed, and what the result is then.
DEFAULT_FLOAT = dict.fromkeys(FRAMEWORKS, "float32") | {"numpy": "float64"}
