"""Right kernels changed in one place: a seeded sample of what the kit killed is killed again."""

import re

import pytest

from . import mutants


@pytest.fixture(scope="module")
def worker():
    with mutants.Worker(seconds=300.0) as found:
        yield found


def sample():
    """Of each kind of change, of the kernels of their own, one that is to be killed; spread over the kernels."""
    mutants.prepare()
    kinds = {}
    for mutant in mutants.drawn(mutants.plain_mutants(), 200, seed=1):
        survives = any(re.search(pattern, mutant.name) for pattern, *_ in mutants.explanations())
        if not survives and mutant.kind not in ("rounding", "default", "keyword", "statement", "loop"):
            kinds.setdefault(mutant.kind, mutant)
    return list(kinds.values())


@pytest.mark.parametrize("mutant", sample(), ids=lambda mutant: f"{mutant.kind} {mutant.function}".replace(" ", "-"))
def test_a_mutant_is_killed(worker, mutant):
    found, by, _ = worker.judge(mutant)
    assert found == "killed", mutant.name
    assert by


@pytest.mark.parametrize("name", ["softmax", "masked_softmax", "sigmoid"])
def test_a_kernel_that_is_not_changed_survives(worker, name):
    mutants.prepare()
    found, differs, fixed = worker.judge(mutants.unchanged(name))
    assert (found, differs, fixed) == ("survived", "the same numbers at every call", True)


def test_one_that_never_ends_is_ended():
    mutants.prepare()
    endless = mutants.Mutant("softmax", "loop", "", "", "def softmax(x, axis=-1):\n    while True:\n        pass")
    with mutants.Worker(seconds=3.0) as worker:
        assert worker.judge(endless)[0] == "killed"


def test_the_page_shows_what_was_printed():
    printed = mutants.PRINTED.read_text()
    whole = next(line.split() for line in printed.splitlines() if line.startswith("all "))
    made, killed, reported, refuses, equivalent, missed, fixed = map(int, whole[1:])
    assert made == killed + reported + refuses + equivalent + missed
    assert "Not explained" not in printed
    page = " ".join((mutants.PRINTED.parents[1] / "conformance.md").read_text().split())
    assert f"Of {made} mutants the kit kills {killed}" in page
    assert f"It reports {reported} as" in page
    assert f"{refuses} as supporting less" in page
    assert f"{equivalent} are correct, and it misses {missed}" in page
    assert f"let {fixed} of the {made} pass" in page
