"""The command line: statuses, messages, and no traceback."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import polylogit
from polylogit._cli import audits, options
from polylogit._cli import polylogit as commands
from polylogit._commands import COMMANDS, footer
from polylogit._operations import OPERATIONS
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance._audit import inputs


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
        ("check", "math:pi", "--operation", "softmax"),
    ],
)
def test_wrong_usage_is_status_2_without_a_traceback(arguments):
    found = run(*arguments)
    assert found.returncode == 2, found.stdout + found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        *((f"check math:exp --operation sigmoid --{name}", name) for name in ("html", "junit", "json", "markdown")),
        ("replay numpy/softmax/values/float32/n3 --save", "save"),
        ("compare a.npy b.npy --html", "html"),
        ("audit --operation softmax --dtype float32 --atol 1 --rtol 1 --shape 2x3 --markdown", "markdown"),
        ("audit --operation softmax --dtype float32 --atol 1 --rtol 1 --shape 2x3 --json", "json"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path, arguments, option):
    (tmp_path / "file").write_text("no folder")
    found = CliRunner().invoke(commands, [*arguments.split(), str(tmp_path / "file" / "report")])
    assert found.exit_code == 2
    assert f"Invalid value for '--{option}'" in found.stderr
    assert "cannot be written: Not a directory" in " ".join(found.stderr.split())


@pytest.mark.parametrize("package", ["click", "rich", "mpmath"])
def test_without_the_extra_it_says_what_to_install(package):
    found = run("conform", "--backend", "numpy", "--level", "quick", block=[package])
    assert found.returncode == 2, found.stdout + found.stderr
    assert 'pip install "click>=8.1" "jinja2>=3.1"' in found.stderr
    assert "Traceback" not in found.stderr


EXTRA = ("click", "jinja2", "ml_dtypes", "mpmath", "rich", "safetensors")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--version",), 0, polylogit.__version__),
        (("-h",), 0, COMMANDS["conform"].line),
        ((), 0, COMMANDS["compare"].line),
        (("backends",), 0, np.__version__),
        (("backends", "--devices"), 0, "cpu"),
        (("backends", "-h"), 0, COMMANDS["backends"].example),
        (("backends", "--quick"), 2, "--devices"),
        (("check", "--help"), 0, COMMANDS["check"].example),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_with_numpy_alone_it_says_what_is_there(arguments, status, words):
    found = run(*arguments, block=(*EXTRA, "torch", "tensorflow", "jax"))
    assert found.returncode == status, found.stderr
    assert words in (found.stderr if status else found.stdout)
    assert "Traceback" not in found.stderr


def test_the_list_of_backends_imports_none_of_them():
    code = (
        "import sys; sys.argv = ['polylogit', 'backends']\n"
        "from polylogit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*{'numpy', 'torch', 'tensorflow', 'jax', 'rich'}.intersection(sys.modules))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    *lines, imported = found.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["numpy", "torch", "tensorflow", "jax"]
    assert imported == ""


# --- the help --------------------------------------------------------------------------------------------------------


def test_the_table_of_commands_is_the_program():
    assert set(commands.commands) == set(COMMANDS)
    assert {name: one.short_help for name, one in commands.commands.items()} == {
        name: one.line for name, one in COMMANDS.items()
    }


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_help_says_the_statuses_and_shows_an_example(name, option):
    found = CliRunner().invoke(commands, [name, option])
    assert found.exit_code == 0
    assert footer(name).replace(" ", "") in found.output.replace(" ", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_an_example_exists(name):
    _, called, *arguments = shlex.split(COMMANDS[name].example)
    assert called == name
    options = {option for one in commands.commands[name].params for option in one.opts}
    assert {one for one in arguments if one.startswith("--")} <= options


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("conform --backend t", {"torch", "tensorflow"}),
        ("conform --require ", {"numpy", "torch", "tensorflow", "jax"}),
        ("check --operation ", set(OPERATIONS)),
        ("check --dtype f", {"float64", "float32", "float16", "float8_e4m3fn", "float8_e5m2"}),
        ("compare-tokens --dtype b", {"bfloat16"}),
        ("audit --distribution n", {"normal"}),
        ("re", {"replay"}),
    ],
)
def test_what_is_typed_is_completed(line, words):
    *before, begun = line.split(" ")
    found = ShellComplete(commands, {}, "polylogit", "_POLYLOGIT_COMPLETE").get_completions(before, begun)
    assert {one.value for one in found} >= words
    assert all(one.value.startswith(begun) for one in found)


def test_the_names_that_are_completed_are_those_of_the_kit():
    assert set(options.DTYPES) == set(DTYPES)
    assert list(inputs.DISTRIBUTIONS) == audits.DISTRIBUTIONS
    assert ["result", *inputs.LOSSES] == audits.COMPARED


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["conform", "--backend", "pytrch"], "Did you mean 'torch'?"),
        (["check", "a:b", "--operation", "softmax", "--dtype", "flaot32"], "Did you mean 'float32'?"),
        (["conform", "--backend", "array_api:torch"], "write that name instead"),
        (["conform", "--operation", "hardmax"], "log_softmax"),
    ],
)
def test_a_word_that_is_none_of_the_list_is_asked_back(asked, words):
    found = CliRunner().invoke(commands, asked)
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())


def test_a_remedy_of_the_porting_tools_names_options(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.ones(3))
    files = [str(tmp_path / f"{name}.npy") for name in "aba"]
    found = CliRunner().invoke(commands, ["compare", *files[:2], "--inputs", files[2]])
    assert found.exit_code == 2
    assert "--inputs and --cotangent are for callables" in " ".join(found.output.split())


def test_what_people_call_a_framework_is_its_backend():
    (option,) = (one for one in commands.commands["check"].params if one.name == "backend")
    asked = ("np", "pytorch", "tf", "jnp", "torch")
    assert [option.type.convert(one, option, None) for one in asked] == ["numpy", "torch", "tensorflow", "jax", "torch"]


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


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------

WAITING = """import os, pathlib, time
def sigmoid(x):
    pathlib.Path(f"{os.getpid()}.pid").touch()
    time.sleep(600)
"""
LONG = {
    "check": ("check", "slow:sigmoid", "--operation", "sigmoid", "--level", "quick"),
    "conform": ("conform", "--backend", "numpy", "--level", "full", "--json", "r.json"),
    "compare": ("compare", "slow:sigmoid", "slow:sigmoid", "--inputs", "x.npy"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.parametrize("way", ["kill", "terminal"])
@pytest.mark.parametrize("command", LONG)
def test_an_interruption_ends_a_command_with_130_and_leaves_no_process(tmp_path, command, way):
    (tmp_path / "slow.py").write_text(WAITING)
    np.save(tmp_path / "x.npy", np.zeros(3))
    process, keyboard = _begun([sys.executable, "-m", "polylogit", *LONG[command]], tmp_path, way)
    begun = (lambda: _children(process.pid)) if command == "conform" else (lambda: list(tmp_path.glob("*.pid")))
    _until(begun)
    children = _children(process.pid)
    if way == "kill":
        process.send_signal(signal.SIGINT)
    else:
        os.write(keyboard, b"\x03")
    assert process.wait(60) == 130
    os.close(keyboard)
    said = (tmp_path / "errors").read_text() if way == "kill" else ""
    assert "Traceback" not in said
    _until(lambda: not any(_runs(child) for child in children))
    assert not (tmp_path / "r.json").exists()


def _begun(command, folder, way):
    """The command, and the keyboard of its terminal, which it has where it is to be interrupted from there."""
    keyboard, terminal = os.openpty()
    if way == "kill":
        with (folder / "errors").open("w") as errors:
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    else:
        own = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        attached = {"stdin": terminal, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(
            [sys.executable, "-c", own, *command], cwd=folder, start_new_session=True, **attached
        )
    os.close(terminal)
    return process, keyboard


def _children(parent):
    found, unseen = set(), [parent]
    while unseen:
        tasks = Path("/proc", str(unseen.pop()), "task")
        for path in tasks.glob("*/children"):
            new = set(map(int, path.read_text().split())) - found
            found |= new
            unseen += new
    return found


def _runs(pid):
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it has not come to that")


def test_a_command_that_was_called_by_itself_still_knows_the_short_form_of_help():
    assert CliRunner().invoke(commands.commands["compare"], ["--help"]).exit_code == 0
    assert CliRunner().invoke(commands, ["compare", "-h"]).exit_code == 0
