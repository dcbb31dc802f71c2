"""``polylogit new-backend``: what it writes is a package that passes its own tests, and it writes over nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from polylogit._cli import polylogit

if TYPE_CHECKING:
    from pathlib import Path


def write(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(polylogit, ["new-backend", *arguments])
    return done.exit_code, done.output


def test_the_outline_passes_its_own_tests_on_a_library_of_the_standard(tmp_path: Path) -> None:
    status, said = write("array_api_strict", "--into", str(tmp_path))
    assert status == 0, said
    folder = tmp_path / "polylogit-array-api-strict"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    ((name, target),) = project["entry-points"]["polylogit.backends"].items()
    installed = tmp_path / "installed" / "polylogit_array_api_strict-0.1.0.dist-info"  # as pip leaves it
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    (installed / "entry_points.txt").write_text(f"[polylogit.backends]\n{name} = {target}\n")
    path = os.pathsep.join([str(folder / "src"), str(installed.parent), *filter(None, sys.path)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "tests"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_module_of_the_functions_may_be_another_than_that_of_the_arrays(tmp_path: Path) -> None:
    assert write("some_frame", "--module", "some_frame.numpy", "--into", str(tmp_path))[0] == 0
    folder = tmp_path / "polylogit-some-frame"
    backend = (folder / "src" / "polylogit_some_frame" / "backend.py").read_text()
    compile(backend, "backend.py", "exec")
    assert "import some_frame.numpy as xp" in backend
    assert "class SomeFrameBackend(Backend):" in backend
    assert not [path for path in folder.rglob("*.*") if "$" in path.read_text()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torch"], "one of polylogit's own backends"),
        (["my-framework"], "is no name for a backend"),
        (["mine", "--module", "mine;evil"], "is no module"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    status, said = write(*arguments, "--into", str(tmp_path))
    assert status == 2
    assert words in " ".join(said.split())
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    assert write("mine", "--into", str(tmp_path))[0] == 0
    (tmp_path / "polylogit-mine" / "README.md").write_text("changed")
    status, said = write("mine", "--into", str(tmp_path))
    assert status == 2
    assert "is there already" in said
    assert (tmp_path / "polylogit-mine" / "README.md").read_text() == "changed"
