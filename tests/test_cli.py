"""The command line: statuses, messages, and no traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def run(*arguments, cwd=None, block=()):
    code = (
        f"import sys; sys.modules.update({{name: None for name in {tuple(block)!r}}}); "
        f"sys.argv = ['polylogit', *{list(arguments)!r}]; from polylogit.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


@pytest.fixture
def kernels(tmp_path):
    (tmp_path / "kernels.py").write_text(
        "import numpy as np\n"
        "def right(x):\n"
        "    x = x.astype(np.float64) if x.dtype.kind in 'iub' else x\n"
        "    w = x.astype(np.float64)\n"
        "    e = np.exp(-np.abs(w))\n"
        "    return np.where(w < 0, e / (1 + e), 1 / (1 + e)).astype(x.dtype)\n"
        "def wrong(x):\n"
        "    return right(np.clip(x, -20, 20).astype(x.dtype))\n"
        "def nothing(x):\n"
        "    raise NotImplementedError('later')\n"
    )
    return tmp_path


@pytest.mark.parametrize(("name", "status"), [("right", 0), ("wrong", 1), ("nothing", 3), ("absent", 2)])
def test_the_status_of_check(kernels, name, status):
    found = run("check", f"kernels:{name}", "--operation", "sigmoid", "--level", "quick", cwd=kernels)
    assert found.returncode == status, found.stdout + found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("name", "body", "verdict", "words"),
    [
        ("aborts", "os.abort()", "crashed", "SIGABRT"),
        ("hangs", "time.sleep(600)", "timeout", "no answer within 3 s"),
        ("leaves", "os._exit(7)", "crashed", "status 7"),
    ],
)
def test_a_kernel_that_breaks_its_process_is_given_up(tmp_path, monkeypatch, name, body, verdict, words):
    (tmp_path / "breaking.py").write_text(f"import os, time\ndef {name}(x):\n    {body}\n")
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", "3")
    options = ("--operation", "sigmoid", "--level", "quick", "--json", "r.json")
    found = run("check", f"breaking:{name}", *options, cwd=tmp_path)
    assert found.returncode == 3, found.stdout + found.stderr
    rows = json.loads((tmp_path / "r.json").read_text())["results"]
    assert {(row["subject"], row["operation"]) for row in rows} == {(f"numpy+breaking:{name}", "sigmoid")}
    ended = [row for row in rows if row["case"]]
    assert {row["verdict"] for row in ended} == {verdict}
    assert all(words in row["message"] for row in ended)
    assert "cases were not run" in rows[-1]["message"]


def test_check_writes_reports_and_replay_runs_one_case(kernels):
    options = ["--json", "r.json", "--junit", "r.xml", "--html", "r.html", "--markdown", "r.md"]
    found = run("check", "kernels:wrong", "--operation", "sigmoid", "--level", "quick", *options, cwd=kernels)
    assert found.returncode == 1
    assert all((kernels / name).stat().st_size > 100 for name in ("r.json", "r.xml", "r.html", "r.md"))
    data = json.loads((kernels / "r.json").read_text())
    failed = next(one for one in data["results"] if one["verdict"] == "failed")
    again = run("replay", failed["id"], cwd=kernels)
    assert again.returncode == 1
    assert "inputs" in again.stdout
    assert "expected" in again.stdout


def test_a_program_reads_the_json_alone_from_standard_output(kernels):
    found = run("check", "kernels:wrong", "--operation", "sigmoid", "--level", "quick", "--json", "-", cwd=kernels)
    assert found.returncode == 1
    verdict = json.loads(found.stdout)["verdict"]
    assert (verdict["word"], verdict["status"]) == ("disagrees", 1)
    assert verdict["groups"][0]["smallest"]["id"].startswith("numpy+kernels:wrong/sigmoid/")
    assert verdict["sentence"] in found.stderr
    assert not (kernels / "-").exists()


def test_replay_saves_the_arrays_of_the_call(kernels):
    found = run("check", "kernels:wrong", "--operation", "sigmoid", "--level", "quick", "--json", "r.json", cwd=kernels)
    assert found.returncode == 1
    identifier = json.loads((kernels / "r.json").read_text())["verdict"]["groups"][0]["smallest"]["id"]
    again = run("replay", identifier, "--save", "case.npz", cwd=kernels)
    assert again.returncode == 1
    assert "from kernels import wrong" in again.stdout
    assert (kernels / "case.npz").stat().st_size > 100


def test_conform_shows_the_worst_error_of_a_backend():
    found = run("conform", "--backend", "numpy", "--operation", "sigmoid", "--level", "quick")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "sigmoid" in found.stdout
    assert "agrees" in found.stdout


def test_backends_are_listed():
    found = run("backends")
    assert found.returncode == 0, found.stderr
    assert "numpy" in found.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("conform", "--backend", "nonesuch"),
        ("conform", "--backend", "numpy", "--operation", "hardmax"),
        ("conform", "--level", "middling"),
        ("conform", "--sharded", "--operation", "softmax"),
        ("replay", "no/such"),
        ("check", "nomodule:f", "--operation", "softmax"),
    ],
)
def test_wrong_usage_is_status_2_without_a_traceback(arguments):
    found = run(*arguments)
    assert found.returncode == 2, found.stdout + found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("package", ["click", "rich", "mpmath"])
def test_without_the_extra_it_says_what_to_install(package):
    found = run("conform", "--backend", "numpy", "--level", "quick", block=[package])
    assert found.returncode == 2, found.stdout + found.stderr
    assert 'pip install "click>=8.1" "jinja2>=3.1"' in found.stderr
    assert "Traceback" not in found.stderr


LEDGER = Path(__file__).parent / "plugin" / "src"


def test_a_backend_of_another_package_passes_and_is_not_imported_before_it_is_needed(tmp_path):
    info = tmp_path / "polylogit_ledger-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: polylogit-ledger\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[polylogit.backends]\nledger = polylogit_ledger.backend:LedgerBackend\n")
    code = (
        f"import sys; sys.path[:0] = [{str(LEDGER)!r}, {str(tmp_path)!r}]\n"
        "import polylogit\n"
        "assert 'ledger' in [info.name for info in polylogit.backends()]\n"
        "polylogit.softmax([1.0, 2.0])\n"
        "assert 'polylogit_ledger' not in sys.modules\n"
        "from polylogit_ledger import Ledger\n"
        "assert 'polylogit_ledger.backend' not in sys.modules\n"
        "y = polylogit.softmax(Ledger([3.2, 5.1, 2.7], (3,)))\n"
        "assert type(y) is Ledger and abs(y.data[1] - 0.80627) < 1e-5\n"
        "report = polylogit.conformance.run(['ledger'], level='quick')\n"
        "print(report.summary())\n"
        "sys.exit(report.status)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_cases_are_listed_a_line_each_and_none_is_run():
    asked = ("conform", "--list", "--backend", "numpy", "--operation", "sigmoid", "--level", "quick")
    found = run(*asked)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert "numpy/sigmoid/values/float32/n33" in lines
    assert all(line.startswith("numpy/sigmoid/") for line in lines)


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_ends_the_command_with_130_and_leaves_no_process(tmp_path):
    body = "    pathlib.Path(f'{os.getpid()}.pid').touch()\n    time.sleep(600)\n"
    (tmp_path / "slow.py").write_text(f"import os, pathlib, time\ndef sigmoid(x):\n{body}")
    command = [sys.executable, "-m", "polylogit", "check", "slow:sigmoid", "--operation", "sigmoid", "--level", "quick"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _until(lambda: list(tmp_path.glob("*.pid")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    (called,) = tmp_path.glob("*.pid")
    if sys.platform == "linux":
        _until(lambda: not Path("/proc", called.stem).exists())


def _until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it has not come to that")
