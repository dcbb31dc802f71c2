"""Each backend runs in a process of its own: whatever happens to it is a row, and the rest completes."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from polylogit import conformance, get_backend, register_backend
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance import Report, _cross_backend, _runner

HERE = Path(__file__).parent


def run_job(name, monkeypatch, limit="20", level="quick"):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", limit)
    # The worker finds a backend by its entry point; a folder with one stands in for an installed package.
    job = _runner.Job(name, ("sigmoid",), level)
    _runner.run_jobs([job])
    return Report(job.results)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    for package in ("broken_backends.py", "aborting_backend.py"):
        shutil.copy(HERE / "kernels" / package, tmp_path)
    info = tmp_path / "broken_backends-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-backends\nVersion: 1\n")
    names = {name.lower(): name for name in ("Aborts", "Crashes", "Hangs", "Exits", "Raises", "Gone", "Symbolic")}
    lines = [f"{name} = broken_backends:{cls}" for name, cls in names.items()]
    lines.append("aborts_once = aborting_backend:AbortsOnce")
    (info / "entry_points.txt").write_text("[polylogit.backends]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("aborts", "crashed", "SIGABRT"),
        ("crashes", "crashed", "SIGSEGV"),
        ("exits", "crashed", "status 7"),
        ("raises", "crashed", "the driver is gone"),
        ("gone", "crashed", "Gone"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_a_process_that_dies_is_a_row_with_its_cause(name, verdict, words, monkeypatch):
    report = run_job(name, monkeypatch)
    assert [result.verdict for result in report.results] == [verdict]
    assert words in report.results[0].message
    assert report.status == 3
    assert report.failures == report.results


@pytest.mark.usefixtures("broken")
def test_a_process_that_hangs_is_ended_after_the_time_limit(monkeypatch):
    report = run_job("hangs", monkeypatch, limit="6")
    assert report.results[-1].verdict == "timeout"
    assert report.status == 3


@pytest.mark.usefixtures("broken")
def test_a_crash_in_one_case_is_that_case_and_a_new_process_goes_on_after_it(monkeypatch):
    report = run_job("aborts_once", monkeypatch, limit="60")
    (ended,) = [result for result in report.results if result.verdict == "crashed"]
    assert (ended.check, ended.dtype) == ("values", "float32")
    assert "SIGABRT" in ended.message
    ids = [result.id for result in report.results]
    assert len(ids) == len(set(ids))
    after = [result for result in report.results[report.results.index(ended) + 1 :] if result.verdict == "passed"]
    assert {"values", "special"} <= {result.check for result in after}
    assert {"float32", "float16"} <= {result.dtype for result in after}


@pytest.mark.usefixtures("broken")
def test_an_array_whose_shape_is_an_expression_is_an_error_that_says_so(monkeypatch):
    report = run_job("symbolic", monkeypatch, limit="60")
    assert {result.verdict for result in report.results} <= {"inconclusive", "unsupported"}
    assert report.status == 3


@pytest.mark.usefixtures("broken")
def test_the_others_complete(monkeypatch):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", "60")
    jobs = [_runner.Job("aborts", ("sigmoid",), "quick"), _runner.Job("numpy", ("sigmoid",), "quick")]
    events = []
    _runner.run_jobs(jobs, lambda backend, event: events.append((backend, event["event"])))
    assert [result.verdict for result in jobs[0].results] == ["crashed"]
    assert len(jobs[1].results) > 100
    assert ("numpy", "end") in events
    assert Report([*jobs[0].results, *jobs[1].results]).status == 3


@pytest.mark.usefixtures("registry_kept")
def test_a_missing_framework_is_shown_and_counts_only_where_it_is_required():
    register_backend("nowhere", "package_that_is_not_there:Backend")
    assert "package_that_is_not_there" not in sys.modules
    report = conformance.run(["numpy"], ["sigmoid"], level="quick", require=["nowhere"])
    missing = [result for result in report.results if result.verdict == "missing"]
    assert [result.subject for result in missing] == ["nowhere"]
    assert "pip install package_that_is_not_there" in missing[0].message
    assert report.status == 3


def test_workers_are_told_where_the_caller_finds_its_packages(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    environment = _runner._environment(_runner.Job("numpy", ("sigmoid",)))
    assert str(tmp_path) in environment["PYTHONPATH"].split(os.pathsep)


@pytest.fixture
def shared(monkeypatch):
    """Two cores, and a second process that helps as soon as the first has a result."""
    monkeypatch.setattr(_runner, "cores", lambda: 2)
    monkeypatch.setattr(_runner, "_WORTH", 0.0)
    started = []
    monkeypatch.setattr(
        _runner, "_environment", lambda job, made=_runner._environment: started.append(job) or made(job)
    )
    return started


def test_a_backend_shared_out_among_processes_gives_what_one_process_gives(shared, monkeypatch, tmp_path):
    def examined(processes):
        monkeypatch.setattr(_runner, "cores", lambda: processes)
        shared.clear()
        folder = tmp_path / f"values-{processes}"
        folder.mkdir()
        job = _runner.Job("numpy", ("sigmoid",), values=str(folder))
        events = []
        _runner.run_jobs([job], lambda _, event: events.append(event["event"]))
        assert len(shared) == len(list(folder.iterdir())) == processes
        assert [events.count(kind) for kind in ("start", "ready", "end")] == [1, 1, 1]
        assert events[-1] == "end"
        return {(result.id, result.verdict, result.error) for result in job.results}, {*_cross_backend.loaded(folder)}

    assert examined(2) == examined(1)


def test_the_report_is_in_the_order_of_the_dtypes_whichever_process_ends_first(shared):
    report = conformance.run(["numpy"], ["sigmoid"])
    assert len(shared) == 2
    assert list(dict.fromkeys(result.dtype for result in report.results)) == list(DTYPES)


@pytest.mark.usefixtures("broken")
def test_of_a_backend_that_breaks_its_process_no_other_one_tries(shared, monkeypatch):
    report = run_job("aborts", monkeypatch, level="full")
    assert len(shared) == 1
    assert [result.verdict for result in report.results] == ["crashed"]


def test_the_cores_left_over_help_nobody_before_that_is_worth_the_imports(shared, monkeypatch):
    monkeypatch.setattr(_runner, "_WORTH", 1e6)
    _runner.run_jobs([_runner.Job("numpy", ("sigmoid",), "quick")])
    assert len(shared) == 1


@pytest.mark.requires("torch")
def test_pytorch_told_to_use_less_of_the_processor_has_a_cache_for_its_compiler_of_its_own(monkeypatch):
    backend, folders = get_backend("torch"), []
    backend.capabilities()  # PyTorch looks at the variable once: in this process it is not to see it
    for capability in ("avx2", "avx512"):
        # Set first, so that what is left out here is put back; Inductor sets it where it is loaded.
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        backend.prepare(None)
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert len(set(folders)) == 2


@pytest.mark.requires("jax")
def test_of_jax_float64_is_examined_too_unless_the_environment_says_otherwise(monkeypatch):
    ids = conformance.cases(["jax"], ["sigmoid"], level="quick")
    assert any("/float64/" in identifier for identifier in ids)
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    ids = conformance.cases(["jax"], ["sigmoid"], level="quick")
    assert ids
    assert not any("/float64/" in identifier for identifier in ids)
