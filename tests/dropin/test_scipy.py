"""SciPy's own tests of softmax, log_softmax and expit, which are in its wheel, with polylogit in their place."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.special

import polylogit
from contract.conftest import expected_value
from contract.exact import check

if TYPE_CHECKING:
    from pathlib import Path

# Its files as they are, and another function under each name that their tests look up.
PROGRAM = """
import sys

import polylogit
import pytest

ROWS = {"softmax": polylogit.softmax, "log_softmax": polylogit.log_softmax}
OURS = {name: lambda x, axis=None, function=function: function(x, axis) for name, function in ROWS.items()}
OURS["expit"] = polylogit.sigmoid


class InTheirPlace:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            vars(item.module).update({name: function for name, function in OURS.items() if hasattr(item.module, name)})


modules = ["scipy.special.tests.test_logsumexp", "scipy.special.tests.test_logit"]
chosen = "TestSoftmax or TestLogSoftmax or TestExpit"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--pyargs", *modules, "-k", chosen], [InTheirPlace()]))
"""


@pytest.mark.contract(23)
def test_scipys_own_tests_pass(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    # So many there are in SciPy 1.17; fewer would mean that the names above choose nothing.
    assert int(passed[1]) >= 20


@pytest.mark.contract(23)
@pytest.mark.parametrize("value", [1000, -2.5, True, np.float32(3), np.float64(3)], ids=repr)
def test_a_number_gives_what_a_universal_function_gives(value: float) -> None:
    theirs = scipy.special.expit(value)
    for name in ("softmax", "log_softmax", "sigmoid"):
        got = getattr(polylogit, name)(value)
        assert type(got) is type(theirs)
        check(got, expected_value(name, np.asarray(value, theirs.dtype)))


@pytest.mark.contract(23)
def test_so_do_the_other_ways_to_ask_for_it() -> None:
    assert type(polylogit.softmax(2.0, dtype="float16")) is np.float16
    assert type(polylogit.sigmoid(2.0, backend="numpy")) is np.float64
    assert type(polylogit.softmax(2.0, where=False)) is np.float64
    assert all(type(part) is np.float64 for part in polylogit.jvp(polylogit.sigmoid, 2.0, 1.0))
    y, pullback = polylogit.vjp(polylogit.sigmoid, 2.0)
    assert type(y) is type(pullback(1.0)) is np.float64
