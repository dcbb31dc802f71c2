"""The constants in C are those that the program derives, and the measuring program finds no error beyond what is said.

CONTRIBUTING.md says how to run that program over every float32 and 10^8 float64; here it runs over a sample.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import coefficients

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "src" / "polylogit" / "_backends" / "numpy" / "kernels"
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]


def test_the_constants_are_those_that_were_derived() -> None:
    compiled = {
        float.fromhex(one) for one in re.findall(r"-?0x1\.?[0-9a-f]*p[+-]\d+", (KERNELS / "kernels.h").read_text())
    }
    for name, found, _, error in coefficients.constants():
        values = found if isinstance(found, list) else [found]
        assert set(values) <= compiled, name
        assert error < 2**-27 or not isinstance(found, list)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The measuring program, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler to compile the measuring program with")
    path = tmp_path_factory.mktemp("check") / "check"
    source = str(ROOT / "tests" / "numpy_backend" / "check.c")
    subprocess.run([compiler, *FLAGS, "-I", str(KERNELS), source, "-o", str(path), "-lm", "-lquadmath"], check=True)
    return str(path)


@pytest.mark.parametrize(
    "what", [("float", "517", "2048"), ("float", "538", "2048"), ("float", "1540", "2048"), ("double", "400000")]
)
def test_errors_are_within_what_is_said(program: str, what: tuple[str, ...]) -> None:
    # Of float32: 5 to 6, 192 to 256, -4 to -5.
    found = subprocess.run([program, *what], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "worst error" in found.stdout


def test_instruction_sets_with_fused_multiply_add_give_one_digest(program: str) -> None:
    found = subprocess.run([program, "digest"], capture_output=True, text=True, check=True).stdout
    digests = [line.split() for line in found.splitlines()]
    for dtype in ("float32", "float64"):
        assert len({digest for name, kind, digest in digests if kind == dtype and name not in ("sse2", "plain")}) == 1
