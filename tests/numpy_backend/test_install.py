"""polylogit installs with a C compiler and without, and says in either case what computes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .rows import UNTOLD

ROOT = Path(__file__).resolve().parents[2]
REPORT = (
    "import numpy as np, polylogit\n"
    "print(polylogit.__file__)\n"
    "print(polylogit.get_backend('numpy').engine)\n"
    "print(polylogit.softmax(np.array([0.0, 0.0])).tolist(), polylogit.log_softmax([0.0]).tolist())\n"
)


def installed(folder: Path, **environment: str) -> list[str]:
    """What a copy of the sources, installed into a folder, reports."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "where_shown.py", source / "tools")
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    environment = {**UNTOLD, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    subprocess.run([*command, str(source)], check=True, env=environment, capture_output=True)
    found = subprocess.run(
        [sys.executable, "-c", REPORT],
        check=True,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    lines = found.stdout.splitlines()
    assert lines[0].startswith(str(site)), "another polylogit was imported"
    assert lines[2] == "[0.5, 0.5] [0.0]"
    return [lines[1], *sorted(path.name for path in (site / "polylogit" / "_backends" / "numpy").glob("_kernels.*"))]


def test_without_a_compiler_the_pure_path_serves_and_says_why(tmp_path: Path) -> None:
    engine, *built = installed(tmp_path, CC=str(tmp_path / "no-compiler"))
    assert engine.startswith("pure: the extension was not built")
    assert not built


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")
def test_with_a_compiler_the_kernels_serve(tmp_path: Path) -> None:
    engine, built = installed(tmp_path)
    assert engine in ("avx512", "avx2", "sse2", "neon", "plain")
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert (built in ("_kernels.abi3.so", "_kernels.pyd")) is not free_threaded
