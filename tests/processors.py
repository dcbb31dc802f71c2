"""Run the tests that depend on the instruction set again, with less of it than the processor has.

    python tests/processors.py                     # every setting that this processor has beyond its own
    python tests/processors.py baseline            # one of them
    python tests/processors.py --list
    python tests/processors.py -- -k rows -x       # what follows goes to pytest

Each setting tells the frameworks to use no more than some instruction sets, in a process of its own, since they read
that when they are imported. What is run is marked `processor`; then `polylogit conform` at level quick. The exit status
is 1 where anything fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from polylogit._backends.numpy import compiled

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """What the frameworks are told, and which of NumPy's names for instruction sets are beyond it."""

    about: str
    beyond: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    engine: str = ""  # of the NumPy backend, where its kernels were built
    needs: tuple[str, ...] = ()  # one of these, of NumPy's names, without which the processor cannot do it
    framework: str = ""  # the one for which it differs from the settings before it; all by default


WIDE = ("X86_V4", "AVX512")  # and what begins like them
SETTINGS = {
    # XLA compiles no float16 with less than AVX.
    "baseline": Setting(
        "x86-64 without AVX2, as far as each framework can do with it",
        ("X86_V3", "AVX2", "FMA3", *WIDE),
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "XLA_FLAGS": "--xla_cpu_max_isa=AVX"},
        "sse2",
        ("X86_V3", "AVX2"),
    ),
    # On such a processor TensorFlow leaves oneDNN alone.
    "avx2": Setting(
        "AVX2 and FMA, without AVX-512 and without oneDNN",
        WIDE,
        {"ATEN_CPU_CAPABILITY": "avx2", "TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        "avx2",
        ("X86_V4", "AVX512_SKX", "AVX512F"),
    ),
    "onednn": Setting(
        "oneDNN's kernels in TensorFlow, with AVX2",
        WIDE,
        {"ATEN_CPU_CAPABILITY": "avx2", "TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        "avx2",
        ("X86_V3", "AVX2"),
        "tensorflow",
    ),
}


def found() -> list[str]:
    """The instruction sets that NumPy finds beyond its baseline."""
    return list(np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", []))


def available() -> dict[str, Setting]:
    """The settings that this processor has."""
    here = found()
    return {name: one for name, one in SETTINGS.items() if set(one.needs) & set(here)}


def environment(name: str, setting: Setting) -> dict[str, str]:
    """What the frameworks are told, with a cache for Inductor, whose code is written for one width of registers."""
    disabled = [one for one in found() if one.startswith(setting.beyond)]
    cache = Path(tempfile.gettempdir(), f"torchinductor-{name}")
    told = {"NPY_DISABLE_CPU_FEATURES": " ".join(disabled), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    if setting.engine in compiled.instruction_sets():
        told["POLYLOGIT_NUMPY_ENGINE"] = setting.engine
    return {**os.environ, **told, **setting.environment}


def marked() -> list[str]:
    """The files that have tests so marked; to collect the others as well takes a minute."""
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.processor" in path.read_text()]


def run(name: str, setting: Setting, arguments: list[str]) -> bool:
    """Whether everything passes."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "processor", "-p", "no:cacheprovider"),
        *marked(),
        *(["-k", setting.framework] if setting.framework else []),
        *arguments,
    ]
    conform = [sys.executable, "-m", "polylogit", "conform", "--level", "quick"]
    conform += ["--backend", setting.framework] if setting.framework else []
    start, good = time.monotonic(), True
    print(f"{name}: {setting.about}", flush=True)
    for one in (command, conform):
        done = subprocess.run(
            one, cwd=ROOT, env=environment(name, setting), capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(done.stdout[-6000:] + done.stderr[-3000:])
            good = False
        else:
            print(f"  {done.stdout.strip().splitlines()[-1]}")
    print(f"  {'ok' if good else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    return good


def main() -> None:
    """The command line."""
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", choices=[*SETTINGS, []], help="by default all that the processor has")
    parser.add_argument("--list", action="store_true", help="name the settings and what they are told")
    given = parser.parse_args(sys.argv[1:split])
    chosen = available()
    if given.list:
        for name, one in SETTINGS.items():
            print(f"{name:10} {one.about}{'' if name in chosen else ' (not on this processor)'}")
        return
    if missing := [name for name in given.settings if name not in chosen]:
        parser.error(f"this processor has not what {missing[0]} takes away: it has {', '.join(found()) or 'nothing'}")
    names = given.settings or list(chosen)
    if not names:
        print("this processor has no instruction set that the frameworks could do without")
    results = [run(name, chosen[name], sys.argv[split + 1 :]) for name in names]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
