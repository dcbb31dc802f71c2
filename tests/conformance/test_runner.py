"""Each backend runs in a process of its own: whatever happens to it is a row, and the rest completes."""

import os
import sys
from pathlib import Path

import pytest

from polylogit import conformance, register_backend
from polylogit.conformance import pairs, runner
from polylogit.conformance.results import Report
from polylogit.spec.dtypes import DTYPES

HERE = Path(__file__).parent


def run_job(name, monkeypatch, limit="20", level="quick"):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", limit)
    # The worker finds a backend by its entry point; a folder with one stands in for an installed package.
    job = runner.Job(name, ("sigmoid",), level)
    runner.run_jobs([job])
    return Report(job.results)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    package = tmp_path / "broken_backends.py"
    package.write_text((HERE / "broken_backends.py").read_text(encoding="utf-8"), encoding="utf-8")
    info = tmp_path / "broken_backends-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-backends\nVersion: 1\n")
    names = ("Aborts", "Crashes", "Hangs", "Exits", "Raises", "Gone")
    lines = [f"{name.lower()} = broken_backends:{name}" for name in names]
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
def test_the_others_complete(monkeypatch):
    monkeypatch.setenv("POLYLOGIT_TIME_LIMIT", "60")
    jobs = [runner.Job("aborts", ("sigmoid",), "quick"), runner.Job("numpy", ("sigmoid",), "quick")]
    events = []
    runner.run_jobs(jobs, lambda backend, event: events.append((backend, event["event"])))
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
    environment = runner._environment(runner.Job("numpy", ("sigmoid",)))
    assert str(tmp_path) in environment["PYTHONPATH"].split(os.pathsep)


def test_a_backend_shared_out_among_processes_gives_what_one_process_gives(monkeypatch, tmp_path):
    def examined(alone):
        monkeypatch.setattr(runner, "_ALONE", {("numpy", "full"): alone})
        folder = tmp_path / f"values-{len(alone)}"
        folder.mkdir()
        job = runner.Job("numpy", ("sigmoid",), values=str(folder))
        events = []
        runner.run_jobs([job], lambda _, event: events.append(event["event"]))
        assert [events.count(kind) for kind in ("start", "ready", "end")] == [1, 1, 1]
        assert events[-1] == "end"
        values = pairs.loaded(folder)
        return {(result.id, result.verdict, result.error) for result in job.results}, {*values}

    monkeypatch.setattr(runner, "cores", lambda: 2)
    assert examined(("float32", "bfloat16")) == examined(())


def test_the_report_is_in_the_order_of_the_formats_whichever_process_ends_first(monkeypatch):
    monkeypatch.setattr(runner, "_ALONE", {("numpy", "full"): ("bfloat16", "float32")})
    monkeypatch.setattr(runner, "cores", lambda: 2)
    report = conformance.run(["numpy"], ["sigmoid"])
    assert list(dict.fromkeys(result.dtype for result in report.results)) == list(DTYPES)


@pytest.mark.usefixtures("broken")
def test_of_a_backend_shared_out_each_process_that_dies_is_a_row(monkeypatch):
    monkeypatch.setattr(runner, "_ALONE", {("aborts", "full"): ("float32",)})
    monkeypatch.setattr(runner, "cores", lambda: 2)
    report = run_job("aborts", monkeypatch, level="full")
    assert [result.verdict for result in report.results] == ["crashed", "crashed"]


def test_a_worker_told_to_use_less_of_the_processor_has_a_cache_for_its_compiler_of_its_own(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # Inductor sets it where it is loaded
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    narrow = runner._environment(runner.Job("torch", ("softmax",)))["TORCHINDUCTOR_CACHE_DIR"]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx512")
    assert runner._environment(runner.Job("torch", ("softmax",)))["TORCHINDUCTOR_CACHE_DIR"] != narrow
