"""The backend of the page "Add a backend" passes the proof that the page asks for, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import polylogit
from polylogit import conformance, extend

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "backends.md").read_text()


@pytest.mark.usefixtures("registry_kept")
def test_the_example_passes_polylogit_conform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```{code-block} python\n:caption: labelled.py\n\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "labelled_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    polylogit.register_backend("labelled", "labelled_page:LabelledBackend")
    report = conformance.run(["labelled"], level="quick", isolate=False)
    assert report.status == 0, report.summary()
    assert {one.check for one in report.results} >= {"values", "masks", "vjp", "jvp", "second order"}


def test_the_tables_name_everything_that_a_backend_may_say() -> None:
    said = set(re.findall(r"`(\w+)", PAGE))
    offered = {name for name in vars(extend.Backend) if not name.startswith("_")}
    of_the_kit_alone = {"engine", "spell", "strict_compilation"}
    assert offered - said == of_the_kit_alone


def test_every_rule_of_extend_is_named() -> None:
    named = set(re.findall(r"polylogit\.extend\.(\w+)", PAGE))
    inside = {"Loan", "frozen", "overlaps"}  # of use to backends that share memory; their docstrings say how
    assert set(extend.__all__) - named == inside
