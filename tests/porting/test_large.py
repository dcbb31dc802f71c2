"""Large arrays: what agrees is seen piece by piece, and what hides in noise is found in some of the rows."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from polylogit.porting import compare, compare_files, save
from polylogit.porting._diagnosis import agreement, judge, pieces
from polylogit.porting._diagnosis.agreement import Precision
from polylogit.porting._diagnosis.evidence import Evidence
from polylogit.porting._results import FEW

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((8, 125, 600)).astype(np.float32)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WEIGHTS = softmax(HIDDEN)


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS, np.log(WEIGHTS)])
def test_last_digits_agree(values: Any) -> None:
    found = compare(values, np.nextafter(values, np.float32(np.inf)))
    assert found.agrees
    assert 0 < found.activations[0].verdict.agreement.peak < 1.2e-7


@pytest.mark.parametrize("values", [HIDDEN, WEIGHTS])
def test_one_wrong_entry_is_not_overlooked(values: Any) -> None:
    wrong = values.copy()
    wrong[3, 7, 9] *= 1.01
    assert not compare(values, wrong).agrees


def test_a_constant_is_inconclusive() -> None:
    constant = np.full((300, 300), 0.25, np.float32)
    assert compare(constant, constant.copy()).status == "inconclusive"


def test_a_fault_that_hides_in_noise_is_found_in_some_of_the_rows() -> None:
    noise = 1 + 2e-6 * RNG.standard_normal(HIDDEN.shape)
    e = np.exp(HIDDEN - HIDDEN.max(-1, keepdims=True))
    found = compare(WEIGHTS, (e / (e.sum(-1, keepdims=True) + 1e-3) * noise).astype(np.float32))
    assert found.cause is not None
    assert found.cause.name == "epsilon-in-denominator"
    assert compare(WEIGHTS, (WEIGHTS * noise).astype(np.float32)).agrees


def test_arrays_that_agree_take_no_memory_of_their_own_size() -> None:
    other = HIDDEN.copy()
    tracemalloc.start()
    compare({"a": HIDDEN, "b": WEIGHTS}, {"a": other, "b": WEIGHTS.copy()})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < WEIGHTS.nbytes + 2 * HIDDEN.nbytes


# --- piece by piece, as the whole ------------------------------------------------------------------------------------

KINDS = {
    "probabilities": softmax,
    "log-probabilities": lambda x: np.log(softmax(x)),
    "logits": lambda x: x,
    "masked scores": lambda x: np.where(np.arange(x.shape[-1]) < 400, x, -np.inf),
    "probabilities over the first axis": lambda x: softmax(np.moveaxis(x, 0, -1)).swapaxes(-1, 0),
    "sigmoids": lambda x: 1 / (1 + np.exp(-x)),
}
DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", [1e-7, 1e-5, 1e-3])
def test_pieces_and_the_whole_agree(kind: str, dtype: Any, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = HIDDEN[:2, :50].astype(np.float64)
    r, c = (KINDS[kind](one).astype(dtype) for one in (x, x + noise * RNG.standard_normal(x.shape)))
    precision = Precision.of(r.dtype.name)
    found = []
    for size in (1 << 10, 1 << 20):
        monkeypatch.setattr(pieces, "PIECE", size)
        monkeypatch.setattr(agreement, "PIECE", size)
        evidence = Evidence(r, c, precision)
        apart = agreement.agreement(r, c, evidence.measure, precision, evidence.normalized_axes)
        within = agreement.within_rounding(r, c, evidence.measure, precision, evidence.normalized_axes, 1.0)
        found.append((evidence.kind, evidence.axes, apart.agrees, apart.counted, apart.peak, within, apart.level))
    assert found[0][:4] == found[1][:4]
    assert found[0][4:] == pytest.approx(found[1][4:])  # the scale is a sum of many


def test_a_row_longer_than_a_piece_has_the_bound_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    row = softmax(RNG.standard_normal((3000,)))
    bound = agreement.rounding(row, "relative", Precision.of("float32"), (0,))
    monkeypatch.setattr(pieces, "PIECE", 100)
    monkeypatch.setattr(agreement, "PIECE", 100)
    for factor, within in ((0.99, True), (1.01, False)):
        other = row + factor * bound
        assert agreement.within_rounding(row, other, "relative", Precision.of("float32"), (0,)) is within


@pytest.mark.parametrize("shape", [(), (7,), (300,), (3, 200), (5, 0), (4, 5, 60), (2, 3, 4, 50)])
@pytest.mark.parametrize("whole", [(), (-1,), (0,)])
def test_pieces_cover_an_array_once(shape: Any, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 100)
    counts, kept = np.zeros(shape, int), tuple(axis % len(shape) for axis in whole if shape)
    for place in pieces.pieces(shape, kept):
        counts[place] += 1
        assert counts[place].size <= max(100, np.prod([shape[axis] for axis in kept], dtype=int))
    assert np.all(counts == 1)


# --- a model with a fault --------------------------------------------------------------------------------------------


def test_the_first_few_that_differ_have_causes_and_all_have_verdicts() -> None:
    layers = [RNG.standard_normal((30, 20)).astype(np.float32) for _ in range(8)]
    sides = [{f"layer.{place}": factor * one for place, one in enumerate(layers)} for factor in (1, 2)]
    found = compare(*sides)
    assert [one.verdict.cause is not None for one in found.activations] == [True] * FEW + [False] * 4
    assert {one.status for one in found.activations} == {"disagrees"}
    assert all(0.5 < one.verdict.agreement.level < 1.5 for one in found.activations)


def test_a_cause_in_some_of_the_rows_is_that_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = HIDDEN[0]
    wrong = (softmax(rows / 4), softmax(rows.astype(np.float16)), WEIGHTS[0][:, ::-1])
    names = []
    for enough in (1 << 13, 1 << 20):
        monkeypatch.setattr(judge, "ENOUGH", enough)
        names.append([compare(WEIGHTS[0], one.astype(np.float32)).cause.name for one in wrong])  # type: ignore[union-attr]
    assert names[0] == names[1] == ["scaled-logits", "float16-rounding", "class-permutation"]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_that_adds_up_takes_at_most_twice_the_memory_of_one_array(kind: str) -> None:
    x = np.resize(HIDDEN, (8, 125, 1000)).astype(np.float64)
    sides = [{"a": KINDS[kind](one).astype(np.float16)} for one in (x, x + 1e-4 * RNG.standard_normal(x.shape))]
    compare(*({"a": one["a"][:1, :2]} for one in sides))
    tracemalloc.start()
    assert compare(*sides).agrees
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * sides[0]["a"].nbytes


def test_arrays_of_files_are_not_kept(tmp_path: Any) -> None:
    right = HIDDEN[0, :20]
    wrong = {f"layer.{place}": right + place for place in range(3)}
    paths = tmp_path / "reference.npz", tmp_path / "candidate.npz"
    for path, side in zip(paths, (dict.fromkeys(wrong, right), wrong), strict=True):
        save(path, side)
    found = compare_files(*paths)
    last = found.activations[2]
    assert last.shapes == (right.shape, right.shape)
    assert np.array_equal(last.candidate, wrong["layer.2"])
    for path in paths:
        path.unlink()
    assert "Rows of" in _html_of(found, tmp_path)
    assert len(pickle.dumps(last.worst)) < right.nbytes / 4


def _html_of(found: Any, folder: Any) -> str:
    found.to_html(folder / "report.html")
    return str((folder / "report.html").read_text())
