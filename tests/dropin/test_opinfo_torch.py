"""The samples on which PyTorch tests its own operators, given to polylogit's: see opinfo_program.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_values_and_derivatives_are_right_on_pytorchs_own_samples() -> None:
    program = Path(__file__).with_name("opinfo_program.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    # At least softmax, log_softmax and sigmoid in each of seven dtypes.
    assert int(passed[1]) > 3 * 7
