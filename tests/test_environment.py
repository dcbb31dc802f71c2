"""What polylogit says is installed is what is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import polylogit
from frameworks import FRAMEWORKS


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_backends_tells_what_can_be_imported(name: str) -> None:
    info = {info.name: info for info in polylogit.backends()}[name]
    assert info.installed == (importlib.util.find_spec(name) is not None)
    assert (info.version is not None) == info.installed
    assert info.installed or name in info.install


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_environment_for_one_framework_has_no_other(name: str) -> None:
    # tox says which must be absent; nothing may have brought it in through the back door.
    forbidden = os.environ.get("POLYLOGIT_TEST_FORBID", "").split(",")
    assert (name in forbidden) <= (importlib.util.find_spec(name) is None)


def test_the_version_is_the_one_in_the_metadata() -> None:
    assert polylogit.__version__ == importlib.metadata.version("polylogit")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("POLYLOGIT_TEST_FORBID", "numpy", "names frameworks that are installed: ['numpy']"),
        ("POLYLOGIT_TEST_REQUIRE", "cobol", "names 'cobol'; the frameworks are"),
    ],
)
def test_a_session_stops_where_its_environment_is_not_what_it_says(variable: str, value: str, message: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", __file__]
    environment = {**os.environ, variable: value}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
