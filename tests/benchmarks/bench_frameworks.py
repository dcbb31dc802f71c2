"""Times of eight float32 on every installed framework, through polylogit and by its own function, by pytest-benchmark.

pytest tests/benchmarks/bench_frameworks.py --benchmark-json times.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polylogit

sys.path.insert(0, str(Path(__file__).parent))  # the tests' way of importing does not
from ratios import OPERATIONS, function_of


@pytest.mark.parametrize("whose", ["polylogit", "native"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("framework", ["torch", "tensorflow", "jax"])
def test_eight(benchmark: Any, framework: str, operation: str, whose: str) -> None:
    pytest.importorskip(framework)
    benchmark.group = f"{operation} of 8 float32 on {framework}"
    x = polylogit.get_backend(framework).asarray(np.linspace(-2, 3, 8, dtype=np.float32))
    function = getattr(polylogit, operation) if whose == "polylogit" else function_of(framework, operation)
    benchmark((lambda: function(x).block_until_ready()) if framework == "jax" else (lambda: function(x)))
