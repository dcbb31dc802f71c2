"""Run the programs in docs/porting that port models of transformers, and store their output.

    pip install ".[ports]"
    python tools/port_output.py            run all, and write the output of each beside it, as .txt
    python tools/port_output.py NAME...    some, for example gpt2_to_flax
    python tools/port_output.py --check    run all, and report where the output differs, apart from numbers

The pages include parts of these files, between a title in brackets and the next. The first line of a file has the
digest of the program that printed it, so that tests/docs/test_port_output.py can detect, without transformers, that a
program was changed but not run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "porting"
# Each program, and the packages whose versions its output depends on most.
PROGRAMS = {
    "gpt2_to_flax": ("torch", "flax", "jax", "transformers"),
    "transformers_port": ("torch", "flax", "jax", "keras", "transformers"),
    "onnx_port": ("torch", "onnx", "onnxruntime", "tensorflow", "transformers"),
}
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def digest(name: str) -> str:
    """What the program is known by."""
    return hashlib.sha256((FOLDER / f"{name}.py").read_bytes()).hexdigest()[:16]


def stored(name: str) -> tuple[str, str]:
    """The first line of the file of what a program prints, and the rest."""
    first, _, rest = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition("\n")
    return first, rest


def printed(name: str) -> str:
    """What the program prints now."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TRANSFORMERS_VERBOSITY": "error", "JAX_PLATFORMS": "cpu"}
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        env={**os.environ, **quiet, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return ran.stdout


def titled(name: str) -> str:
    """The first line: the program, its digest, and what it ran with."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PROGRAMS[name])
    return f"{name}.py ({digest(name)}), {versions}"


def without_numbers(text: str) -> str:
    """What does not depend on the processor."""
    return _NUMBER.sub("#", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where something else is printed")
    options = parser.parse_args()
    status = 0
    for name in options.names or PROGRAMS:
        found = printed(name)
        if not options.check:
            (FOLDER / f"{name}.txt").write_text(f"{titled(name)}\n{found}", encoding="utf-8")
        elif without_numbers(found) != without_numbers(stored(name)[1]):
            print(f"{name}.py prints something else than {name}.txt has:\n{found}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
