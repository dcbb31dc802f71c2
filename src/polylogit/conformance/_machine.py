"""The processor of a report: as the system names it, and with the instruction sets that NumPy finds.

What a framework uses of them is known to the backend: `Backend.capabilities`.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np


def processor() -> str:
    """The name of the processor, or its kind if the system has no name for it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """The instruction sets that NumPy finds, the weakest first, without those in ``NPY_DISABLE_CPU_FEATURES``."""
    found: Any = np.show_config(mode="dicts")
    known = found.get("SIMD Extensions", {})
    return [*known.get("baseline", []), *known.get("found", [])]


def machine() -> dict[str, Any]:
    """The description of the machine for reports."""
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "instruction_sets": instruction_sets(),
    }
