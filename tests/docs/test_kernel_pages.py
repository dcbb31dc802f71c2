"""The commands of the pages for kernel authors and for CI run as written, with the status that the page says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import polylogit

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
CAPTIONED = re.compile(r"^```{code-block} python\n:caption: (\S+)\n\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"# exit status (\d)$")
# What a command may need that is not everywhere; installing is not tried here.
NEEDS = {"# needs a GPU": False, "# needs numba": importlib.util.find_spec("numba") is not None, "pip install": False}


def commands(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    lines = [line for block in SHELL.findall(text) for line in block.splitlines()]
    return [line for line in lines if all(there for mark, there in NEEDS.items() if mark in line)]


def steps_of_the_workflow() -> list[str]:
    """What the workflow runs, each a command in one line; the folded ones unfolded."""
    text = re.sub(r">\n((?: {10}.*\n)+)", lambda found: " ".join(found[1].split()) + "\n", workflow())
    found = re.findall(r"^ *(?:- )?run: (.*)$", text, re.MULTILINE)
    return [step for step in found if "pip install" not in step]


def workflow() -> str:
    return (EXAMPLES / "conformance.yml").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the examples, and with the files that the pages show."""
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    for name, code in CAPTIONED.findall((ROOT / "docs" / "ci.md").read_text()):
        (tmp_path / name).write_text(code)
    return tmp_path


def run(command: str, folder: Path) -> None:
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    # The interpreter and the package that are under test, whatever else is installed.
    for name, arguments in (("polylogit", "-m polylogit"), ("python", "")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(0o755)
    source = str(Path(polylogit.__file__).parents[1])
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(bin_folder), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    found = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    expected = STATUS.search(command)
    assert found.returncode == int(expected[1] if expected else 0), found.stdout + found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", [line for line in commands("conformance.md") if "torch" not in line])
def test_a_command_for_kernel_authors(command: str, project: Path) -> None:
    run(command, project)


@pytest.mark.requires("torch")
@pytest.mark.parametrize(
    "command", [line for page in ("conformance.md", "forms.md") for line in commands(page) if "torch" in line]
)
def test_a_command_for_authors_of_custom_operators(command: str, project: Path) -> None:
    run(command, project)


@pytest.mark.parametrize("command", commands("ci.md"))
def test_a_command_for_continuous_integration(command: str, project: Path) -> None:
    run(command, project)


@pytest.mark.parametrize("command", steps_of_the_workflow())
def test_a_step_of_the_workflow(command: str, project: Path) -> None:
    run(command, project)


def test_the_workflow_writes_what_it_uploads(project: Path) -> None:
    (check,) = [step for step in steps_of_the_workflow() if "polylogit check" in step]
    run(check.replace("--search 200", "--level quick"), project)
    assert "path: reports/" in workflow()
    assert {path.name for path in (project / "reports").iterdir()} == {"kernel.xml", "kernel.html", "kernel.json"}
    assert "agrees" in (project / "summary.md").read_text()


def test_what_the_page_shows_of_a_failure_is_what_is_printed(project: Path) -> None:
    from polylogit import conformance

    text = (ROOT / "docs" / "conformance.md").read_text()
    shown = re.search(r"^```text\nwrong  .*\n.*\n  (\S+)\n +(.*)\n((?:      .*\n)*)", text, re.MULTILINE)
    assert shown
    identifier, message, more = shown.groups()
    sys.path.insert(0, str(project))
    try:
        (result,) = conformance.replay(identifier).results
    finally:
        sys.path.remove(str(project))
    assert result.message == message
    assert result.details["python"].splitlines() == [line.strip() for line in more.splitlines()[-5:]]
