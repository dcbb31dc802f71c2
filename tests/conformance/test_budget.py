"""How many of what: the table holds for whatever is asked, none of its rules is idle, and quick asks for less."""

import itertools
from pathlib import Path

import pytest

from polylogit import conformance
from polylogit._spec.dtypes import DTYPES
from polylogit.conformance import _budget
from polylogit.errors import ConformanceError

DERIVATIVES = ("vjp", "jvp", "forward", "reverse")
SETTINGS = [
    _budget.words(level, dtype, kernel=kernel, compiles=compiles)
    for level, dtype, kernel, compiles in itertools.product(
        _budget.LEVELS, DTYPES.values(), (False, True), (False, True)
    )
]
ASKED = [holding | {kind} for holding in SETTINGS for kind in DERIVATIVES]


def deciding(what, holding):
    return next(
        rule for rule in _budget.TABLE[what] if all(holding & set(either.split("|")) for either in rule.split())
    )


@pytest.mark.parametrize("what", _budget.TABLE)
def test_every_rule_decides_somewhere_and_one_decides_everywhere(what):
    decided = {deciding(what, holding) for holding in ASKED}
    assert decided == set(_budget.TABLE[what])
    for holding in ASKED:
        assert _budget.amount(what, frozenset(holding)) == _budget.TABLE[what][deciding(what, holding)]


def test_every_row_is_read_by_the_kit():
    package = Path(_budget.__file__).parent
    source = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "_budget.py")
    for what in _budget.TABLE:
        assert f'"{what}"' in source, what


def test_a_backend_at_quick_and_what_is_compiled_are_asked_for_little_and_float32_for_all():
    torch = _budget.words("quick", DTYPES["bfloat16"], kernel=False, compiles=False)
    assert torch >= {"backend", "brief", "sparing", "essential"}
    kernel = _budget.words("quick", DTYPES["bfloat16"], kernel=True, compiles=False)
    assert not kernel & {"brief", "sparing", "essential", "storage"}
    assert "storage" in _budget.words("full", DTYPES["float8_e5m2"], kernel=False, compiles=False)
    assert not any("essential" in holding for holding in SETTINGS if "float32" in holding)


@pytest.mark.parametrize("what", ["lengths", "long rows", "batches", "layouts", "derivative lengths", "laws"])
def test_of_one_dtype_quick_never_asks_for_more_than_full(what):
    for dtype, kernel, compiles in itertools.product(DTYPES.values(), (False, True), (False, True)):
        few, many = (
            _budget.amount(what, _budget.words(level, dtype, kernel=kernel, compiles=compiles) | {"vjp"})
            for level in _budget.LEVELS
        )
        assert len(few) <= len(many)


def test_a_level_that_does_not_exist_is_named():
    with pytest.raises(ConformanceError, match="level='middling' does not exist; the levels are quick and full"):
        conformance.run(["numpy"], level="middling")
