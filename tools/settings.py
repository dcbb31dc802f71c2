"""Repeat a program of this folder under each setting of tests/processors.py that this processor supports.

A setting tells the frameworks to use less than the processor has. They read it when they are imported, so each setting
needs a separate process. The program prints JSON if it gets ``--json``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TITLES = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "without AVX2", "onednn": "AVX2, oneDNN"}


def _processors() -> Any:
    specification = importlib.util.spec_from_file_location("processors", ROOT / "tests" / "processors.py")
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules.setdefault("processors", importlib.util.module_from_spec(specification))
    specification.loader.exec_module(module)
    return module


def here() -> str:
    """The setting that this processor is by itself."""
    found = _processors().found()
    for name, sets in (("avx512", ("X86_V4", "AVX512_SKX")), ("avx2", ("X86_V3", "AVX2"))):
        if set(sets) & set(found):
            return name
    return "baseline"


def elsewhere(program: str) -> dict[str, Any]:
    """What the program measures under each of the other settings."""
    processors = _processors()
    measured = {}
    for name, setting in processors.available().items():
        if name == here():
            continue
        done = subprocess.run(
            [sys.executable, program, "--json"],
            env=processors.environment(name, setting), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        measured[name] = json.loads(done.stdout.splitlines()[-1])
    return measured
