"""The file of expected failures: what it may hold, and what is said of a mistake in it."""

import pytest

from polylogit.conformance import Report, Result, _xfail
from polylogit.conformance._reports import markdown, terminal
from polylogit.errors import ConformanceError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[expected]]\n", "has no reason"),
        ("[[expected]]\nreason = 'x'\nwhy = 'y'\n", "has why"),
        ("[[expectd]]\nreason = 'x'\n", "holds expectd"),
        ("[[expected]]\nreason = 'x'\nexpires = 'soon'\n", "expires='soon'"),
        ("[[expected]]\nreason = 'x'\ncheck = 'valuess'\n", "check='valuess', which matches none of"),
        ("[[expected]]\nreason = 'x'\ndtype = 'float12'\n", "dtype='float12'"),
        ("[[expected]\n", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, said):
    path = tmp_path / "expected.toml"
    path.write_text(text)
    with pytest.raises(ConformanceError, match=said.replace("[", r"\[")):
        _xfail.read(path)


def test_patterns_and_dates_are_read():
    (one,) = _xfail.read([{"reason": "x", "check": "v*", "dtype": "float??", "expires": "2031-01-31"}])
    assert one.matches(Result("numpy+m:f", "softmax", "vjp", "float32", "n3"))
    assert not one.matches(Result("numpy+m:f", "softmax", "special", "float32", "n3"))
    assert one.expires.year == 2031


@pytest.fixture
def report():
    return Report(
        [
            Result("numpy", "softmax", "values", "float32", "n3", error=0.2),
            Result("numpy", "softmax", "values", "float32", "n4", "expected-failure", error=float("inf")),
            Result("numpy", "softmax", "dtypes", "float16", "served", "unsupported", message="refused <because>"),
        ]
    )


def test_an_expected_failure_is_not_shown_as_an_error_within_its_bound(report, capsys):
    assert "1 expected failures" in markdown.render(report)
    terminal.show(report)
    shown = capsys.readouterr().out
    assert "1 expected-failure (inf)" in shown
    assert "softmax float16: refused <because>" in shown
