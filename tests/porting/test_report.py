"""Reports of comparisons: the tree of modules, figures with their units, what noise is known from, and the bar."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import time
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import polylogit
from polylogit import _page
from polylogit._cli import polylogit as commands
from polylogit._progress import bar, listening, say, steps
from polylogit.errors import ComparisonError
from polylogit.porting import compare
from polylogit.porting._figures import Figure, figure, times
from polylogit.porting._isolate import Isolation, Pair
from polylogit.porting._tree import Node, reach, tree_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 8)).astype(np.float32)
PARTS = ("attn.q", "attn.k", "attn", "mlp")


def model(layers: int, fault: str = "") -> dict[str, Any]:
    """Activations of a model with layers; the named one is wrong."""
    rng = np.random.default_rng(1)
    names = [f"model.h.{layer}.{part}" for layer in range(layers) for part in PARTS]
    values = {name: rng.standard_normal((4, 8)).astype(np.float32) for name in names}
    return {name: one + np.float32(0.5) * (name == fault) for name, one in values.items()}


def walk(nodes: Any) -> Any:
    for node in nodes:
        yield node
        yield from walk(node.parts.values())


def page_of(found: Any, tmp_path: Any) -> str:
    found.to_html(tmp_path / "report.html")
    return str((tmp_path / "report.html").read_text())


# --- the tree --------------------------------------------------------------------------------------------------------


def nodes_of(found: Any) -> dict[str, Node]:
    tree = tree_of(found)
    assert tree is not None
    return {node.path: node for node in walk(tree.parts)}


def test_modules_are_nested_by_the_parts_of_their_names() -> None:
    nodes = nodes_of(compare(model(2), model(2)))
    assert list(nodes) == [
        "model.h",
        *(f"model.h.{layer}{part}" for layer in (0, 1) for part in ("", ".attn", ".attn.q", ".attn.k", ".mlp")),
    ]
    assert nodes["model.h"].name == "model.h"  # one after the other where there is no choice
    assert nodes["model.h.0.attn"].row is not None
    assert nodes["model.h.0"].row is None


def test_a_container_has_the_worst_verdict_and_counts_what_differs() -> None:
    nodes = nodes_of(compare(model(3), model(3, "model.h.1.attn.k")))
    states = {path: node.state for path, node in nodes.items()}
    assert states["model.h"] == states["model.h.1"] == states["model.h.1.attn.k"] == "disagrees"
    assert states["model.h.0"] == states["model.h.1.mlp"] == "agrees"
    assert states["model.h.1.attn"] == "agrees"  # itself
    assert [nodes[path].failing for path in ("model.h", "model.h.1", "model.h.1.attn", "model.h.2")] == [1, 1, 1, 0]
    assert nodes["model.h"].compared == 12
    assert nodes["model.h"].worst == nodes["model.h.1.attn.k"].figure


def test_of_a_large_model_the_way_to_the_first_divergence_alone_is_open() -> None:
    nodes = nodes_of(compare(model(30), model(30, "model.h.17.attn.k")))
    assert {path for path, node in nodes.items() if node.open} == {"model.h", "model.h.17", "model.h.17.attn"}
    assert [path for path, node in nodes.items() if node.first] == ["model.h.17.attn.k"]


def test_a_small_model_is_open_as_a_whole() -> None:
    assert all(node.open for node in nodes_of(compare(model(2), model(2))).values())


def test_what_was_not_compared_is_in_its_place_with_the_reason() -> None:
    found = compare(model(1), model(1))
    reasons = ("model.h.0.norm: the candidate's fails", "head.act: only in the candidate")
    isolated = Isolation(found.activations, reasons)
    tree = tree_of(isolated)
    assert tree is not None
    assert tree.others == ["head.act: only in the candidate"]
    (norm,) = (node for node in walk(tree.parts) if node.state == "not compared")
    assert (norm.path, norm.reason) == ("model.h.0.norm", "the candidate's fails")
    assert {node.state for node in walk(tree.parts)} == {"agrees", "not compared"}  # its container agrees


def test_names_without_parts_make_a_table_and_no_tree(tmp_path: Any) -> None:
    found = compare({"a": X, "b": X + 1}, {"a": X, "b": X + 1})
    assert tree_of(found) is None
    page = page_of(found, tmp_path)
    assert 'id="tree"' not in page
    assert 'id="activations"' in page


def test_the_model_itself_is_one_row() -> None:
    (row,) = compare(X, X).activations
    named = dataclasses.replace(row, name="(v2.1 of it)", candidate_name="it")
    found = Isolation((*compare(model(1), model(1)).activations, named))
    assert nodes_of(found)["(v2.1 of it)"].row is named


def test_the_page_marks_the_first_divergence_and_needs_no_script(tmp_path: Any) -> None:
    page = page_of(compare(model(30), model(30, "model.h.17.attn.k")), tmp_path)
    assert page.count("first divergence</b>") == 1
    assert len(re.findall("<li[ >]", page)) == len(nodes_of(compare(model(30), model(30))))
    assert page.count("<details open>") == 3
    assert not re.search(r"<script|src=|href=|http|@import|url\(", page)


def test_names_and_reasons_are_escaped(tmp_path: Any) -> None:
    evil = "<script>alert(1)</script>.a\"'"
    found = compare({evil: X, "b.c": X + 1}, {evil: X, "b.c": X + 2})
    isolated = Isolation(found.activations, ("<script>.x: <script>",), places={"b.c": "<script>"}, noise="<script>")
    for page in (page_of(isolated, tmp_path), isolated._repr_html_()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_what_isolation_finds_besides_is_in_the_reports(tmp_path: Any) -> None:
    (row,) = compare(X, X + 1).activations
    pair = Pair("output", "result", "order")
    found = Isolation((row,), pairs=(pair,), places={"output": "in its scores"}, whole="it is jitted")
    assert "errors propagate: it is jitted" in page_of(found, tmp_path)
    found.to_json(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pairs"] == [list(pair)]
    assert report["places"] == {"output": "in its scores"}
    assert report["whole"] == "it is jitted"


def test_a_name_of_many_parts_is_a_name() -> None:
    deep = ".".join("a" * 5000)
    assert len(nodes_of(compare({deep: X, "b.c": X + 1}, {deep: X, "b.c": X + 1}))) < 50


def test_the_page_of_a_thousand_modules_is_small(tmp_path: Any) -> None:
    (row,) = compare(X, X).activations
    names = [f"model.h.{layer}.{part}" for layer in range(250) for part in PARTS]
    found = Isolation(tuple(dataclasses.replace(row, name=name, candidate_name=name) for name in names))
    assert len(page_of(found, tmp_path)) < 1500 * len(names)
    assert len(found._repr_html_()) < 1000 * len(names)


@pytest.mark.parametrize(("value", "percent"), [(0.0, 0.0), (0.1, 1.0), (1.0, 12.5), (1e3, 50.0), (np.inf, 100.0)])
def test_bars_are_logarithmic(value: float, percent: float) -> None:
    assert reach(value) == percent


def colours(theme: str) -> dict[str, str]:
    light, _, rest = _page.render("style.css").partition("@media (prefers-color-scheme: dark) {")
    return dict(re.findall(r"--(\w+): (#\w+)", light if theme == "light" else rest.partition("}")[0]))


def luminance(colour: str) -> float:
    """As the guidelines for accessibility define it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = np.array([int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "soft", "good", "bad", "doubt"])
def test_text_stands_out(theme: str, ink: str) -> None:
    found = colours(theme)
    for ground in ("paper", "panel"):
        low, high = sorted(luminance(found[one]) for one in (ink, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # level AA


# --- units -----------------------------------------------------------------------------------------------------------


def test_measured_noise_is_the_unit_where_it_was_measured() -> None:
    found = compare(lambda x: x @ x.T, lambda x: 2 * (x @ x.T), inputs=X)
    (row,) = found.activations
    assert figure(row) == Figure(row.verdict.times, "times rounding")
    assert f"{figure(row)}" in found.summary()


def test_an_operation_that_differs_has_bounds_and_anything_else_ulp() -> None:
    p = polylogit.softmax(X)
    found = compare({"x": X, "p": p}, {"x": X + np.float32(1e-6), "p": polylogit.softmax(X * np.float32(1.001))})
    units = {one.name: figure(one).unit for one in found.activations}
    assert units == {"x": "ulp", "p": "bounds"}
    assert figure(found.activations[1]).value > 1
    eps = np.finfo(np.float32).eps
    assert figure(found.activations[0]).value == pytest.approx(found.activations[0].verdict.agreement.level / eps)


def test_one_spacing_is_one_ulp_of_the_coarser_dtype() -> None:
    ones = np.where(X > 0, 1, -1).astype(np.float16)
    (row,) = compare(ones.astype(np.float32), np.nextafter(ones, np.float16(2) * ones)).activations
    assert figure(row) == Figure(pytest.approx(1.0 / np.sqrt(2)), "ulp")  # of the scale, sqrt(2) of an entry


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.456, "0.46"),
        (3.14, "3.1"),
        (12.3, "12"),
        (41234.0, "41,000"),
        (99990.0, "1.0e5"),
        (2.5e17, "2.5e17"),
        (np.inf, "∞"),
    ],
)
def test_multiples_are_written_as_people_read_them(value: float, text: str) -> None:
    assert times(value) == text


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (X, "of the scale"),
        (polylogit.softmax(X), "of the value"),
        (polylogit.log_softmax(X), "of 1 + |value|"),
    ],
)
def test_differences_say_what_they_are_relative_to(values: Any, unit: str, tmp_path: Any) -> None:
    found = compare(values, values * np.float32(1.01))
    assert f"{unit} apart" in found.summary()
    assert re.search(rf"difference [\d.e-]+ {re.escape(unit)}", found.summary())
    found.to_json(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    (row,) = report["activations"]
    assert (row["difference_unit"], report["cause"]["unit"]) == (unit, unit)
    assert (row["error"], row["error_unit"]) == (figure(found.activations[0]).value, figure(found.activations[0]).unit)
    assert unit in page_of(found, tmp_path)


# --- noise -----------------------------------------------------------------------------------------------------------


def test_how_noise_was_measured_is_said(tmp_path: Any) -> None:
    found = compare(lambda x: x @ x.T, lambda x: (x @ x.T).T, inputs=X)
    assert found.noise == "noise was measured by a run of the original in float64"
    assert found.noise in found.summary()
    assert found.noise in page_of(found, tmp_path)
    found.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["noise"] == found.noise


def test_arrays_have_no_noise_that_was_measured() -> None:
    assert "noise was not measured: arrays and files hold results only" in compare(X, X).summary()


def test_the_reason_why_noise_was_not_measured_is_that_of_the_model() -> None:
    def insisting(x: Any) -> Any:
        if x.dtype != np.float32 or not np.array_equal(x, X):
            raise TypeError("only these numbers\nand nothing else")
        return x * 2

    found = compare(insisting, insisting, inputs=X)
    why = "the original: float64 fails with TypeError: only these numbers;"
    assert found.noise.startswith(f"noise was not measured: {why}")
    assert "moved by an ulp it fails with TypeError" in found.noise
    assert "nothing else" not in found.noise


def test_a_model_that_computes_in_one_dtype_says_so_and_an_ulp_measures_its_noise() -> None:
    def narrow(x: Any) -> Any:
        return x.astype(np.float32) @ X.T

    found = compare(narrow, narrow, inputs=X)
    assert found.noise == "noise was measured by a run of the original, its weights and inputs moved by an ulp"


def test_a_run_that_says_nothing_of_some_activations_is_no_secret() -> None:
    def chooses(x: Any) -> Any:
        return {"a": x * 2, "b": x * (3 if x.dtype == np.float64 else 1)}

    found = compare(chooses, chooses, inputs=X)
    assert "; it says nothing of 1 of 2 activations" in found.summary()


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_comparison_tells_who_listens_what_it_does() -> None:
    told: list[tuple[str, int, int]] = []
    with listening(lambda *what: told.append(what)):
        compare(lambda x: {"a": x, "b": 2 * x}, lambda x: {"a": x, "b": x + x}, inputs=X)
    assert [what for what, _, of in told if not of] == [
        "running the reference",
        "running the candidate",
        "measuring noise: the original in float64",
    ]
    assert [one for one in told if one[2]] == [("comparing", 0, 2), ("comparing", 1, 2)]
    say("nobody listens any more")
    assert len(told) == 5


def drawn(after: float, seconds: float) -> str:
    screen = io.StringIO()
    with bar(Console(file=screen, force_terminal=True, width=100), after=after):
        for _ in steps(range(3), "comparing [all]"):
            time.sleep(seconds)
    return screen.getvalue()


def test_the_bar_is_drawn_where_somebody_waits() -> None:
    screen = drawn(after=0.0, seconds=0.2)
    assert "comparing [all]" in screen
    assert "2/3" in screen


def test_no_bar_is_drawn_for_what_is_quick() -> None:
    assert drawn(after=60.0, seconds=0.0) == ""


def test_no_bar_is_drawn_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(after=0.0):
        time.sleep(0.3)
    assert capsys.readouterr() == ("", "")


def test_an_error_goes_through_the_bar_and_ends_it() -> None:
    screen = io.StringIO()

    def failing() -> None:
        with bar(Console(file=screen, force_terminal=True, width=100), after=0.0):
            time.sleep(0.3)
            raise ComparisonError("no")

    with pytest.raises(ComparisonError, match="no"):
        failing()
    assert "reading" in screen.getvalue()


@pytest.mark.parametrize("command", ["compare", "compare-tokens"])
def test_the_commands_have_the_bar(command: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("polylogit._progress.bar", lambda **_: listening(lambda what, *_: told.append(what)))
    np.save(tmp_path / "x.npy", polylogit.log_softmax(X))
    np.save(tmp_path / "y.npy", polylogit.log_softmax(2 * X))
    np.save(tmp_path / "tokens.npy", np.zeros(len(X), int))
    files = [str(tmp_path / name) for name in ("x.npy", "y.npy", "tokens.npy")]
    arguments = files[:2] if command == "compare" else [*files[:2], "--tokens", files[2]]
    assert CliRunner().invoke(commands, [command, *arguments]).exit_code == 1
    assert told[0] == ("comparing" if command == "compare" else "looking for a cause")
