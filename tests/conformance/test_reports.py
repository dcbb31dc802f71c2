"""Reports: every form says the same, is written whole or not at all, and the HTML one shows itself in a browser."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from polylogit import conformance
from polylogit.conformance import _machine
from polylogit.conformance._reports import json_report


def wrong(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)


@pytest.fixture(scope="module")
def report():
    return conformance.check(wrong, "softmax", level="quick", dtypes=["float32"], name="tests:wrong")


def test_the_summary_names_the_verdict_and_each_failure(report):
    assert report.summary().startswith("disagrees: ")
    assert report.failures[0].id in report.summary()


def test_the_heat_map_counts_a_result_to_the_dtype_that_it_was_rounded_to(tmp_path):
    results = [
        conformance.Result("numpy", "softmax", "values", "float64", "n7", error=0.25),
        conformance.Result("numpy", "softmax", "dtypes", "float64", "into-float8_e5m2-close", error=0.75),
    ]
    conformance.Report(results).to_html(tmp_path / "report.html")
    table = (tmp_path / "report.html").read_text().partition("By check")[0]
    assert table.index("float64") < table.index("0.25") < table.index("float8_e5m2") < table.index("0.75")


def test_json_follows_its_schema(report, tmp_path):
    report.to_json(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert set(json_report.SCHEMA["required"]) <= set(data)
    assert data["schema"] == json_report.VERSION
    known = json_report.SCHEMA["properties"]["results"]["items"]
    for result in data["results"]:
        assert set(known["required"]) <= set(result)
        assert result["verdict"] in known["properties"]["verdict"]["enum"]
    assert len({result["id"] for result in data["results"]}) == len(data["results"])


def test_junit_counts_what_failed(report, tmp_path):
    report.to_junit(tmp_path / "report.xml")
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert int(root.get("tests")) == len(report.results) == len(root.findall(".//testcase"))
    assert (
        int(root.get("failures"))
        == sum(one.verdict == "failed" for one in report.results)
        == len(root.findall(".//failure"))
    )


def test_markdown_holds_the_table_and_how_to_replay(report):
    text = report.to_markdown()
    assert "| softmax |" in text
    assert f"polylogit replay '{next(one.id for one in report.failures)}'" in text


def test_html_needs_nothing_from_elsewhere(report, tmp_path):
    report.to_html(tmp_path / "report.html")
    loads = []

    class Finder(HTMLParser):
        def handle_starttag(self, tag, attrs):
            loads.extend(value for name, value in attrs if name in ("src", "href", "data"))

    Finder().feed((tmp_path / "report.html").read_text())
    assert loads == []


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is on the path")
def test_html_shows_itself_in_a_browser(report, tmp_path):
    page = tmp_path / "report.html"
    report.to_html(page)
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        page.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '<span class="status disagrees" id="status">disagrees</span>' in dom
    assert dom.count("<circle") > 10
    assert report.failures[0].id in dom


def test_a_failing_case_is_replayed_alone(report):
    failure = next(one for one in report.failures if one.error is not None)
    again = conformance.replay(failure.id, implementation=wrong)
    assert [one.id for one in again.results] == [failure.id]
    assert again.results[0].verdict == "failed"
    assert again.results[0].details["inputs"] == failure.details["inputs"]


def test_the_report_names_the_processor_and_what_the_frameworks_say_of_it(tmp_path):
    report = conformance.run(["numpy"], ["sigmoid"], level="quick")
    report.to_json(tmp_path / "report.json")
    environment = json.loads((tmp_path / "report.json").read_text())["environment"]
    assert environment["processor"] == _machine.processor()
    assert environment["instruction_sets"] == _machine.instruction_sets()
    assert set(environment["capabilities"]) == {"numpy"}
    assert _machine.processor() in report.to_markdown()
    report.to_html(tmp_path / "report.html")
    assert _machine.processor() in (tmp_path / "report.html").read_text()


def test_a_framework_s_own_words_about_the_processor_reach_the_report():
    torch = pytest.importorskip("torch")
    kernels = torch.backends.cpu.get_cpu_capability()
    report = conformance.check(lambda x: torch.sigmoid(x), "sigmoid", backend="torch", checks=("errors",))
    assert report.environment["capabilities"]["torch"]["kernels"] == kernels
    report = conformance.run(["torch"], ["sigmoid"], level="quick")
    assert report.environment["capabilities"]["torch"]["kernels"] == kernels
