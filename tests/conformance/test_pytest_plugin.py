"""The pytest plugin: loads nothing heavy, makes each check an item, runs users' tests on each backend."""

import subprocess
import sys

import pytest

PLUGIN = ("-p", "polylogit.conformance.plugin", "-p", "no:cacheprovider")


def run(tmp_path, *arguments):
    from importlib.metadata import entry_points

    loaded = any(one.value == "polylogit.conformance.plugin" for one in entry_points(group="pytest11"))
    command = [sys.executable, "-m", "pytest", *(PLUGIN[2:] if loaded else PLUGIN), "-q", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)


def test_loading_it_imports_no_framework_and_not_numpy():
    code = (
        "import sys; import polylogit.conformance.plugin; "
        "print([name for name in ('numpy', 'torch', 'tensorflow', 'jax', 'mpmath') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_users_test_runs_once_for_each_backend_named(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "import polylogit\n"
        "def test_my_loss(polylogit_backend):\n"
        "    y = polylogit.softmax(polylogit_backend.asarray([1.0, 2.0]))\n"
        "    assert abs(polylogit_backend.to_numpy(y).sum() - 1) < 1e-6\n"
    )
    found = run(tmp_path, "--polylogit-backend", "numpy", "-vv")
    assert "test_my_loss[numpy] PASSED" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize(("body", "status"), [("x - x.max(axis, keepdims=True, initial=-np.inf)", 0), ("x", 1)])
def test_a_function_of_ones_own_is_an_item_for_each_check(tmp_path, body, status):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def softmax(x, axis=-1):\n"
        "    if x.dtype not in (np.float32, np.float64):\n"
        "        raise NotImplementedError('float32 and float64')\n"
        f"    e = np.exp({body})\n"
        "    return e / e.sum(axis=axis, keepdims=True)\n"
    )
    wanted = ("--polylogit-implementation", "mine:softmax", "--polylogit-operation", "softmax")
    found = run(tmp_path, "--pyargs", "polylogit.conformance", *wanted, "-rf", "-k", "float32")
    assert found.returncode == status, found.stdout + found.stderr
    assert ("mine:softmax-softmax-values-float32" in found.stdout) == bool(status)


def test_a_function_that_is_not_there_is_one_error_of_usage(tmp_path):
    (tmp_path / "mine.py").write_text("def softmax(x, axis=-1): return x\n")
    wanted = ("--polylogit-implementation", "mine:sofmax", "--polylogit-operation", "softmax")
    found = run(tmp_path, "--pyargs", "polylogit.conformance", *wanted)
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: 'mine:sofmax' cannot be loaded: AttributeError" in found.stderr
    assert "Traceback" not in found.stdout + found.stderr
