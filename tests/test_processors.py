"""tests/processors.py: the frameworks use less than the processor has, and say so themselves."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("processors", Path(__file__).with_name("processors.py"))
assert spec is not None
assert spec.loader is not None
processors = sys.modules["processors"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processors)


def said(name: str, code: str) -> str:
    environment = processors.environment(name, processors.available()[name])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", processors.SETTINGS)
def test_numpy_uses_no_more_than_the_setting_has_and_what_the_processor_has_not_is_refused(name: str) -> None:
    if name in processors.available():
        left = said(name, "import numpy; print(*numpy.show_config(mode='dicts')['SIMD Extensions'].get('found', []))")
        assert not [one for one in left.split() if one.startswith(processors.SETTINGS[name].beyond)]
        return
    command = [sys.executable, str(Path(processors.__file__)), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "this processor has not" in done.stderr


def test_the_numpy_backend_uses_the_kernels_that_the_setting_names_and_reports_them() -> None:
    built = processors.compiled.instruction_sets()
    for name, setting in processors.available().items():
        told = said(name, "import polylogit; print(polylogit.get_backend('numpy').capabilities()['engine'])")
        assert told.partition(":")[0] == (setting.engine if setting.engine in built else "pure")


@pytest.mark.requires("torch")
def test_pytorch_uses_the_kernels_that_the_setting_names() -> None:
    for name, setting in processors.available().items():
        kernels = said(name, "import torch; print(torch.backends.cpu.get_cpu_capability())")
        assert kernels.lower() == setting.environment["ATEN_CPU_CAPABILITY"]


@pytest.mark.requires("tensorflow")
def test_tensorflow_uses_onednn_where_the_setting_says_so() -> None:
    for name in {"avx2", "onednn"}.intersection(processors.available()):
        serves = said(name, "from polylogit._backends.tensorflow import onednn_serves; print(onednn_serves())")
        assert serves == str(name == "onednn")


def test_the_settings_are_listed() -> None:
    command = [sys.executable, str(Path(processors.__file__)), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(processors.SETTINGS)
