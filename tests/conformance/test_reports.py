"""Reports: every form says the same, is written whole or not at all, and the HTML one shows itself in a browser."""

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

import polylogit
from polylogit import _page, conformance
from polylogit.conformance import _machine
from polylogit.conformance._grouping import grouped
from polylogit.conformance._reports import json_report, terminal, window
from polylogit.conformance._verdict import sentence


def wrong(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)


@pytest.fixture(scope="module")
def report():
    return conformance.check(wrong, "softmax", level="quick", dtypes=["float32"], name="tests:wrong")


def test_the_summary_names_the_verdict_and_each_cause_with_its_smallest_case(report):
    summary, groups = report.summary(), grouped(report)
    assert summary.startswith("disagrees: ")
    assert 0 < len(groups) < len(report.failures)
    for group in groups:
        assert group.headline in summary
        assert group.smallest.id in summary


def test_the_heat_map_counts_a_result_to_the_dtype_that_it_was_rounded_to(tmp_path):
    results = [
        conformance.Result("numpy", "softmax", "values", "float64", "n7", error=0.25),
        conformance.Result("numpy", "softmax", "dtypes", "float64", "into-float8_e5m2-close", error=0.75),
    ]
    conformance.Report(results).to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    table, apart = page.partition('<table id="float8"')[::2]
    assert table.index('<table id="heat"') < table.index("float64") < table.index("0.25")
    assert "0.75" not in table
    assert apart.index("float8_e5m2") < apart.index("0.75")


KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def follows(schema, data):
    """As much of JSON Schema as the report's uses: types, required keys, properties, items, enumerations."""
    types = schema.get("type", ())
    kinds = [kind for kind in ([types] if isinstance(types, str) else types) if kind != "null"]
    if kinds:
        allowed = (data is None and "null" in types) or any(isinstance(data, KINDS[kind]) for kind in kinds)
        assert allowed, (schema, data)
    assert data in schema.get("enum", [data])
    assert data == schema.get("const", data)
    if isinstance(data, dict):
        assert set(schema.get("required", ())) <= set(data)
        for key, value in data.items():
            follows(schema.get("properties", {}).get(key, {}), value)
    if isinstance(data, list):
        for one in data:
            follows(schema.get("items", {}), one)


def test_json_follows_its_schema(report, tmp_path):
    report.to_json(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    follows(json_report.SCHEMA, data)
    assert data["schema"] == json_report.VERSION
    known = json_report.SCHEMA["properties"]["results"]["items"]
    for result in data["results"]:
        assert set(known["required"]) <= set(result)
        assert result["verdict"] in known["properties"]["verdict"]["enum"]
    assert len({result["id"] for result in data["results"]}) == len(data["results"])


def test_one_object_of_the_json_is_the_verdict_for_programs(report, tmp_path):
    report.to_json(tmp_path / "report.json")
    verdict = json.loads((tmp_path / "report.json").read_text())["verdict"]
    assert (verdict["status"], verdict["word"]) == (1, "disagrees")
    assert verdict["counts"] == report.counts
    assert verdict["findings"]["wrong"] == len(report.failures)
    groups = verdict["groups"]
    assert sum(len(group["ids"]) for group in groups) == sum(group["cases"] for group in groups) == len(report.failures)
    assert all(group["smallest"]["id"] == group["ids"][0] for group in groups)
    assert verdict["sentence"] == report.summary().splitlines()[0]


def test_the_verdict_in_words_counts_each_kind_of_finding():
    def results(*findings):
        for number, (verdict, finding, more) in enumerate(findings):
            details = {"expected": 1.0, "got": 2.0}
            fields = {"verdict": verdict, "finding": finding, "details": details, **more}
            yield conformance.Result("k", "softmax", "values", "float32", f"n{number}", **fields)

    wrong, less = ("failed", "wrong", {"error": 9.0}), ("inaccurate", "less accurate", {"error": 1.4})
    other = (
        "convention",
        "another convention",
        {"convention": "default-axis=None", "message": "the default axis is None"},
    )
    fine = ("passed", "", {"once": 2.125})
    report = conformance.Report(list(results(wrong, other, other, less, less, fine)))
    assert sentence(report) == (
        "disagrees: 1 wrong number in 1 group, 1 other convention; less accurate in 2 cases, up to 1.4 bounds; "
        "16 bits rounded once: no (2.12 times)"
    )
    report = conformance.Report(list(results(less, fine)))
    assert sentence(report).startswith("agrees: less accurate in 1 case, up to 1.4 bounds")
    assert sentence(conformance.Report()) == "inconclusive: nothing was run"


def test_junit_counts_what_failed(report, tmp_path):
    report.to_junit(tmp_path / "report.xml")
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert int(root.get("tests")) == len(report.results) == len(root.findall(".//testcase"))
    assert (
        int(root.get("failures"))
        == sum(one.verdict == "failed" for one in report.results)
        == len(root.findall(".//failure"))
    )


def test_junit_holds_the_times_and_the_inputs_of_what_failed(report, tmp_path):
    root = ElementTree.fromstring(written_junit(report, tmp_path))
    assert sum(float(one.get("time")) for one in root.iter("testcase")) > 0
    failures = [one for one in root.iter("failure") if "expected: " in one.text]
    assert failures
    assert all("inputs" in one.text for one in failures)


def written_junit(report, tmp_path):
    report.to_junit(tmp_path / "r.xml")
    return (tmp_path / "r.xml").read_text()


def misses_the_mask(x, axis=-1, where=None):
    return polylogit.softmax(x, axis)


def test_a_masked_failure_shows_the_logits_that_were_given_and_the_mask():
    options = {"level": "quick", "dtypes": ["float32"], "only": ["masks/float32/plain-axis--1", "nonsense"]}
    report = conformance.check(misses_the_mask, "softmax", **options)
    (failure,) = report.failures
    found = window(failure)
    assert "False" in found.lines["where"]
    assert "-inf" not in found.lines["inputs"]
    assert "nothing that was run matches --only 'nonsense'" in report.summary()


def test_what_is_said_of_a_whole_check_is_no_case_to_replay():
    said = {"verdict": "inconclusive", "message": "no case could have failed"}
    report = conformance.Report([conformance.Result("numpy", "softmax", "axes", "float32", "all", **said)])
    assert "polylogit replay" not in shown(report) + report.to_markdown() + report._repr_html_()


def test_a_check_of_which_large_cases_were_left_out_is_not_inconclusive():
    options = {"level": "quick", "dtypes": ["float32"], "only": ["axes"], "max_size": 20}
    report = conformance.check(polylogit.softmax, "softmax", **options)
    assert not report.inconclusive


def test_markdown_holds_the_table_and_how_to_replay(report):
    text = report.to_markdown()
    assert "| softmax |" in text
    for group in grouped(report):
        assert group.headline.replace("<", "&lt;") in text
        assert f"polylogit replay '{group.smallest.id}'" in text


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
    assert '<h1 class="disagrees" id="status">disagrees: ' in dom
    assert dom.count("<circle") > 10
    assert all(failure.id in dom for failure in report.failures)
    assert '<form class="filters" id="filters">' in dom  # shown by the script


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is on the path")
@pytest.mark.parametrize("width", [400, 1400])
def test_no_page_is_wider_than_the_screen_and_no_table_than_its_frame(tmp_path, width):
    page, probe = tmp_path / "report.html", tmp_path / "probe.html"
    row = [one / 3.0 for one in range(16)]
    details = {"inputs": row, "expected_row": row, "got_row": row[::-1], "index": 3, "bound": 1e-9, "length": 16}
    details |= {"expected": 1.0, "got": 4.0, "python": "x = " + repr(row)}
    subjects = [f"numpy+a_package_with_a_name.kernels_{one}:softmax_of_rows" for one in range(7)]
    fields = {"error": 7.0, "finding": "wrong", "message": "an_identifier_" * 20, "details": details, "length": 16}
    results = [conformance.Result(one, "softmax", "values", "float64", "n16", "failed", **fields) for one in subjects]
    pairs = [
        {"first": one, "second": two, "operation": "softmax", "check": "values", "dtype": "float64"}
        for one in subjects
        for two in subjects
    ]
    conformance.Report(results, [{**pair, "ulp": 1.0, "absolute": 1e-9, "cases": 1} for pair in pairs]).to_html(page)
    script = (
        "<script>addEventListener('load', function () {"
        f"var wide = [], page = document.getElementById('page'); page.style.width = '{width}px';"
        "setTimeout(function () { var inside = page.contentDocument, root = inside.documentElement;"
        "if (root.scrollWidth > root.clientWidth) wide.push('page ' + root.scrollWidth);"
        "inside.querySelectorAll('table, svg').forEach(function (one) {"
        "var frame = one.closest('.scroll') || one.parentElement;"
        "if (frame.getBoundingClientRect().right > root.clientWidth + 1) wide.push(one.outerHTML.slice(0, 80)); });"
        "document.title = 'wide: [' + wide.join('; ') + ']'; }, 300); });</script>"
    )
    probe.write_text(f'<iframe id="page" src="report.html" style="height: 900px; border: 0"></iframe>{script}')
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=3000",
    ]
    command = [BROWSER, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>wide: []</title>" in dom, dom[:2000]


def test_a_failing_case_is_replayed_alone(report):
    failure = next(one for one in report.failures if one.error is not None)
    again = conformance.replay(failure.id, implementation=wrong)
    assert [one.id for one in again.results] == [failure.id]
    assert again.results[0].verdict == "failed"
    assert again.results[0].details["inputs"] == failure.details["inputs"]


HOSTILE = "</pre><script>alert(1)</script>|`'\"&\x00"


@pytest.fixture
def hostile():
    details = {"expected": 1.0, "got": 2.0, "python": HOSTILE, "stderr": HOSTILE}
    fields = {"message": HOSTILE, "details": details, "finding": "wrong"}
    return conformance.Report(
        [conformance.Result(HOSTILE, "softmax", "values", "float32", HOSTILE, "failed", **fields)]
    )


def test_names_and_messages_are_text_in_every_form(hostile, tmp_path):
    hostile.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<script") == 1  # the filters
    assert "<script" not in hostile._repr_html_()
    hostile.to_junit(tmp_path / "report.xml")
    case = ElementTree.parse(tmp_path / "report.xml").getroot().find(".//failure")
    assert case.get("message") == HOSTILE.replace("\x00", "?")
    outside = re.sub("```python.*?```", "", hostile.to_markdown(), flags=re.DOTALL)
    assert "<script" not in "".join(outside.split("`")[::2])


def test_a_report_and_a_comparison_are_a_line_and_in_a_notebook_a_table(report):
    assert repr(report).startswith(f"<Report disagrees: {report.counts['failed']} failed, ")
    assert "\n" not in repr(report)
    assert str(report) == report.summary()
    assert len(str(report).splitlines()[0]) < 200
    assert "<table" in report._repr_html_()
    x = np.random.default_rng(0).normal(size=(4, 3))
    found = polylogit.porting.compare(polylogit.softmax(x), polylogit.softmax(x, axis=0))
    assert repr(found) == "<Comparison disagrees: 1 activation, cause: wrong-axis>"
    assert "<table" in found._repr_html_()
    assert "wrong-axis" in found._repr_html_()


def test_the_picture_of_a_row_marks_the_worst_entry_and_shows_what_is_no_number():
    nan, inf = float("nan"), float("inf")
    drawn = _page.picture([0.5, 0.5, 0.0], [0.5, nan, -inf], [False, True, True], 1, [7, 8, 9])
    assert [one["worst"] for one in drawn["entries"]] == [False, True, False]
    assert [one["came"] for one in drawn["entries"]] == ["", "NaN", "-∞"]
    assert [one["place"] for one in drawn["entries"]] == [7, 8, 9]


def test_a_difference_that_would_not_be_seen_is_drawn_on_a_logarithmic_axis():
    linear = _page.picture([1.0, 0.1], [1.0, 0.5], [False, True], 1, [0, 1])["entries"][1]
    tiny = _page.picture([1.0, 1e-30], [1.0, 1e-10], [False, True], 1, [0, 1])["entries"][1]
    for one in (linear, tiny):
        assert one["top"] - one["dot"] > 10.0


def shown(report, width=140):
    text = io.StringIO()
    terminal.show(report, Console(file=text, width=width))
    return text.getvalue()


def test_the_terminal_marks_the_wrong_entry_and_ends_with_the_verdict(report):
    text = shown(report)
    smallest = next(one.smallest for one in grouped(report) if "expected_row" in one.smallest.details)
    block = text.partition(f"  {smallest.id}\n")[2].splitlines()
    lines = {line.split()[0]: line for line in block[:8] if line.split()}
    marks = next(line for line in block if line.strip() and set(line.strip()) == {"^"})
    places = slice(marks.index("^"), len(marks))
    assert lines["entry"][places].split() == [str(smallest.details["index"])]
    assert float(lines["got"][places]) == smallest.details["got"] or "nan" in lines["got"][places]
    assert text.rstrip().splitlines()[-1] == sentence(report)


def test_float8_is_apart_since_its_rounding_fills_its_bound():
    results = [
        conformance.Result("numpy", "softmax", "values", "float64", "n7", error=0.25),
        conformance.Result("numpy", "softmax", "values", "float8_e5m2", "n7", error=0.98),
    ]
    rows = [line for line in shown(conformance.Report(results)).splitlines() if "│" in line]
    assert ["0.98" in row for row in rows] == ["float8" in row for row in rows]
    text = conformance.Report(results).to_markdown()
    assert "| softmax | 0.25 |" in text
    assert "| softmax, float8 | 0.98 |" in text


def test_a_bar_prints_nothing_where_there_is_no_terminal():
    text = io.StringIO()
    with terminal.Live(["numpy"], ["k"], Console(file=text)) as live:
        live("numpy", {"event": "ready"})
        live("numpy", {"event": "total", "of": {"softmax float32": 1}})
        live(
            "numpy",
            {
                "event": "result",
                "result": {"operation": "softmax", "check": "", "dtype": "", "case": "", "verdict": "passed"},
            },
        )
        live("numpy", {"event": "end"})
    assert text.getvalue() == ""


def test_a_bar_knows_its_total_and_takes_off_what_is_not_served():
    events = []
    conformance.check(
        wrong, "softmax", level="quick", dtypes=["float32"], progress=lambda _, event: events.append(event)
    )
    totals = [event["of"] for event in events if event["event"] == "total"]
    results = [event for event in events if event["event"] == "result"]
    assert totals == [{"softmax float32": len(results)}]
    live = terminal.Live(["numpy"], ["k"], Console(file=io.StringIO(), force_terminal=True))
    live("numpy", {"event": "total", "of": {"softmax float32": 10, "softmax float16": 6}})
    served = {"operation": "softmax", "check": "dtypes", "dtype": "float16", "case": "served", "verdict": "unsupported"}
    live("numpy", {"event": "result", "result": served})
    assert live._progress.tasks[0].total == 11


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
