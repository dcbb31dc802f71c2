"""The contract holds however the frameworks are switched: TensorFlow without oneDNN, JAX with 64 bits throughout.

Both switches are read when the framework is imported, so the tests of the contract run again, in a process of their
own, for that framework alone. The variable stops that process from doing the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.contract(row) for row in (6, 14, 1)]

HERE = Path(__file__).parent
FILES = ("test_axes.py", "test_dtypes.py", "test_special_values.py", "test_corrections.py")

# What the other process is given, and which tests see the difference.
SWITCHES = {
    "tensorflow": (
        {"TF_ENABLE_ONEDNN_OPTS": "0"},
        "tensorflow and not xla and (row_of_one or nan or drift or onednn or many_dimensions or 16_bits or minus)",
    ),
    "jax": (
        {"JAX_ENABLE_X64": "1"},
        "jax and (integers or default_floating or wider_result or row_of_one or wrap)",
    ),
}


@pytest.mark.parametrize("framework", [pytest.param(name, marks=pytest.mark.requires(name)) for name in SWITCHES])
def test_the_contract_holds_with_the_frameworks_other_switch(framework: str) -> None:
    variables, selection = SWITCHES[framework]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", selection]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES)],
        env={**os.environ, **variables}, cwd=HERE.parents[1], capture_output=True, text=True, timeout=540,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
