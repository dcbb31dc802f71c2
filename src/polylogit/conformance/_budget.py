"""How many cases each check runs: a table by level, dtype, and what an implementation and its backend declare.

A check defines the cases and reads their number here: in each row, the first rule whose words all hold decides
(``a|b`` means either). The words are

- ``quick``, ``full``: the level;
- ``backend``, ``kernel``: a registered backend, which must keep the whole contract, or a user's own function;
- ``compiles``: the backend compiles whatever it runs, again for each shape;
- ``brief``: little time for each, at level quick, for one of several backends, or if shapes are compiled;
- ``sparing``: few shapes, because the run is brief or each shape is compiled;
- ``float32`` and so on: the dtype of the logits;
- ``storage``: a dtype that a backend only stores (float8), so that only its final rounding can be wrong;
- ``essential``: only the essential cases run for this dtype; float32 runs them all;
- ``vjp``, ``jvp``, ``forward``, ``reverse``: the kind of derivative.

Knows no operation and no framework.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from polylogit.errors import ConformanceError

if TYPE_CHECKING:
    from polylogit._spec.dtypes import Finfo

LEVELS = ("quick", "full")

# Around the widths of vector registers, blocks and tiles, and their multiples.
# fmt: off
_QUICK = (
    1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 511, 512, 513,
    517, 1000, 1023, 1024, 1025, 2048, 2049, 4096, 5000,
)
_FULL = (
    *range(1, 70), 95, 96, 97, 100, 127, 128, 129, 191, 192, 193, 255, 256, 257, 300, 383, 384, 385, 511, 512, 513, 517,
    640, 768, 1000, 1023, 1024, 1025, 1537, 2047, 2048, 2049, 3000, 4095, 4096, 4097, 5000, 8191, 8192, 8193,
)
_GRADIENTS = (
    1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 257, 517, 1000, 1024, 1025, 2049, 5000,
)
_BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 33, 64, 65, 100, 129, 257, 1025)
# fmt: on
# Where compiling for a new shape costs a framework far more than running it.
_FEW = (1, 2, 3, 17, 33, 64, 129, 517, 1025)
# Between the powers of two: sums that a kernel keeps in lanes are longest there before it changes to another way.
_BETWEEN = (511, 1000)
_LONG = (65536, 100001)
# A few entries after a power of two: kernels change to another way beyond one, and the rest fills no tile.
_AFTER = tuple((1 << power) + 5 for power in range(12, 19))
# In brief runs one shape stands for many, so that it is compiled once; above what XLA unrolls (see "padding").
_LARGE = (66, 65)
# Square ones too: where rows and columns are as many, a lost dimension goes unnoticed elsewhere.
_SHAPES = ((5,), (4, 6), (3, 3), (8, 8), (17, 17), (3, 4, 5), (4, 4, 4), (1, 7, 1), (2, 3, 4, 5), (2, 1, 3, 2, 3))
_LAYOUTS = ((6, 9), (3, 4, 5), (40, 130), (2, 3, 4, 5))
_LONG_AXES = (((517, 9), 0), ((3, 517, 3), 1), ((130, 40), 0))
# More columns, and more rows in three dimensions, than a grid has in its smaller directions.
_WIDE = (((3, 70000), 0), ((2, 40000, 3), -1))
_REPEATED = ((5, 33), (33, 5), (3, 11, 5), (165,), (5, 33))
_COMPILED = ((4, 33), (2, 1025), (8, 1))


def _pairs(batches: tuple[int, ...], lengths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((batch, n) for batch in batches for n in lengths)


# Laid out by hand, to be read as a table.
# fmt: off
TABLE: dict[str, dict[str, Any]] = {
    # --- checks and dtypes ---
    # None stands for all here. What a storage dtype is not asked is the arithmetic of the wider ones.
    "checks": {"storage": ("values", "exhaustive", "special", "masks", "vjp", "jvp"), "": None},
    # Of a kernel only where it says that it serves them.
    "storage dtypes": {"kernel": False, "full": True, "compiles": False, "": True},
    # Numbers that rows of one length are repeated to: XLA unrolls loops over fewer, and compiles three times as long.
    "padding": {"sparing": 4096, "": 1},
    # --- values ---
    "lengths": {
        "brief essential kernel": _FEW[::2], "brief essential compiles": (3, 129),
        "brief essential": (3, 129, *_BETWEEN), "brief kernel": _QUICK[::3], "brief": _FEW[::2],
        "essential": (*_FEW, *_BETWEEN), "quick|sparing": _QUICK, "": _FULL,
    },
    "elements of many lengths": {"brief essential backend": False, "": True},  # float32 is asked for them
    "drawn lengths": {"brief|essential": 0, "sparing": 2, "": 5},  # no length is special
    "long rows": {
        "storage": (), "brief kernel float32|float16": _LONG, "brief float32|float16": _LONG[:1], "brief": (),
        "quick float32|float16": _LONG, "quick": _LONG[:1], "sparing": _LONG,
        "": (10000, 16385, 32000, 65536, 100001, 131072, 262147),
    },
    # One entry more than a whole number of blocks of 20, 48, 50, 80, 96, 100, 160, 192, 384 and 768, or of 1,000.
    "rows with a lone last entry": {"storage": (), "essential": (), "brief": (3001,), "": (3001, 19201)},
    "rows with ends": {
        "storage": (), "brief float32": _AFTER[4:5], "brief": (), "quick float32": _AFTER[:5], "quick": _AFTER[2:3],
        "sparing": _AFTER[:5:2], "kernel|float32": _AFTER, "": _AFTER[::2],
    },
    "longest with every end": {"sparing": 0, "quick": 1 << 14, "": 1 << 20},
    "longest rows": {"full float32": (1_000_000, 4_000_000), "": ()},
    "kinds of long rows": {"quick": 2, "kernel": 3, "": 5},
    "long elements": {"storage": (), "brief essential backend": (), "quick": (65536,), "": (10000,)},
    "rows alone": {"storage": (), "brief": (3,), "quick|sparing": (3, 20), "": (3, 20, 130)},
    "elements alone": {"storage": False, "": True},  # every number of the dtype is asked for elsewhere
    "blocks": {
        "storage": (), "brief essential": (), "brief": (300,), "essential": (40,), "quick|sparing": (40, 300, 2100),
        "": (20, 40, 130, 300, 1030, 2100),
    },
    "peaks": {
        "storage": (), "brief essential": (), "brief|essential": (33,), "quick|sparing": (2, 17, 70),
        "": (2, 3, 4, 5, 8, 9, 16, 17, 33, 70, 130),
    },
    "orders of all numbers": {"brief": 2, "": 3},
    "special rows": {
        "essential": (3,), "brief": (1, 3, 33), "sparing": (1, 2, 3, 8, 33),
        "": (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 65, 129, 257, 517, 1025),
    },
    "special rows alone": {"storage": 0, "brief": 2, "": 1},  # twice, in the shape of the other rows that are alone
    "special vectors": {"storage": False, "brief essential": False, "": True},
    "special elements in one shape": {"brief": True, "": False},
    # --- axes, layouts, shapes ---
    "shapes with axes": {
        "brief essential backend": (), "essential": ((4, 6),), "brief kernel": ((8, 8), (3, 4, 5), (2, 3, 4, 5)),
        "brief": ((15, 16, 18),), "compiles backend float32": _SHAPES,
        "compiles backend": ((4, 6), (3, 4, 5), (2, 1, 3, 2, 3)), "": _SHAPES,
    },
    # Of the others one axis of each kind.
    "shapes with every axis": {
        "brief float32": ((3, 4, 5), (4, 6)), "brief": (), "compiles backend float32": ((3, 4, 5), (4, 6)),
        "compiles backend": (), "": _SHAPES,
    },
    "long axes": {
        "brief essential backend": (), "brief essential": _LONG_AXES[:1], "brief": _LONG_AXES[1:2], "": _LONG_AXES,
    },
    "wide arrays": {"quick kernel float32": _WIDE, "full float32": _WIDE, "": ()},
    "many dimensions": {"brief": (), "essential": (), "": ((2, 1, 3, 2, 1, 4),)},
    "far columns": {
        "brief essential backend": (), "brief|essential": ((_LARGE, 0),), "": (((9, 70), 0), ((3, 9, 17), 1)),
    },
    "equal long axis": {"sparing": False, "": True},
    "axes of mostly ones": {"essential": 0, "brief backend": 1, "": None},
    # A kernel may add up along a strided axis one by one, as NumPy does; a backend owes the bound there.
    "longest axis": {"kernel": (), "quick float32": (65536,), "quick": (), "": (128256,)},
    "layouts": {"full": _LAYOUTS, "float32": _LAYOUTS[:3], "": _LAYOUTS[:1]},
    "batches": {
        "brief essential": (), "brief": ((7, 3), (33, 1)), "quick float32|float16": _pairs(_BATCHES, (1, 3, 6)),
        "quick": _pairs((8, 17), (1, 3, 6)), "sparing": _pairs((1, 7, 16, 33), (1, 3)),
        "": _pairs(_BATCHES, (1, 3, 6)),
    },
    "far batches": {"brief": ((7, 3), (33, 1)), "": ((8, 1), (33, 1), (3, 1), (9, 2))},
    "empty shapes": {"brief|essential": ((3, 0),), "": ((0,), (3, 0), (0, 3), (2, 0, 3))},
    # --- masks, dtypes, errors ---
    "masked shape": {"brief essential": (), "brief": _LARGE, "": (7, 9)},
    "masked tiles": {"brief essential": (), "brief|essential": (65,), "": (300,)},
    "masked axes": {"brief|essential": (-1,), "": (-1, 0, None)},
    "masked in three dimensions": {"brief essential": (), "brief": ((15, 16, 18),), "": ((3, 4, 5), (4, 4, 4))},
    "masks that broadcast": {"brief": ("vector", "column"), "": ("vector", "row", "column", "one")},
    "integers": {"brief": ("uint8", "int64", "bool"), "": None},
    "dtypes asked for": {
        "brief essential backend": ("float32",), "brief backend": ("float64", "float16"), "": None,
    },
    "errors": {"essential": False, "float32|float64": True, "": False},
    # --- laws, several calls, compilers ---
    "laws": {"brief essential": (), "brief|essential": (33,), "sparing": (2, 1000), "": (2, 3, 17, 129, 1000)},
    "threads": {"float32 brief": (_LARGE,), "float32": ((4, 33), (40, 1000)), "": ()},
    "calls of a thread": {"brief backend": 3, "": 12},
    # A framework that compiles each shape owes no bits; of a user's kernel on it the shapes are few.
    "invariance": {
        "storage": (), "compiles backend": (), "essential backend": (), "compiles essential": (),
        "compiles": ((6, 33),), "": ((8, 33), (6, 1000)),
    },
    # Brief: those that other checks have compiled.
    "repeated shapes": {
        "brief essential": (), "brief": (_LARGE, (33, 1), (7, 3), (15, 16, 18), _LARGE), "": _REPEATED,
    },
    "growing shapes": {"brief": (), "": ((1, 4), (2, 4), (2, 16), (1, 4))},
    # Of a kernel float32 alone: in 16 bits compilers put arithmetic of their own in place of the kernel's.
    "compiled shapes": {
        "kernel quick float32": ((130, 33),), "kernel float32": _COMPILED, "kernel": (), "brief float32": (),
        "brief float16": ((130, 33),), "float32|float16": _COMPILED, "": (),
    },
    "composed shape": {"quick float32": (130, 33), "float32": (4, 33), "kernel|brief": (), "float16": (4, 33), "": ()},
    "slow compilers": {"full float32": (130, 33), "": ()},
    # --- derivatives ---
    "jvp": {"brief essential backend float16": True, "brief essential backend": False, "": True},
    # Brief, of a backend: the jvp what the vjp was asked, in fewer shapes.
    "derivative lengths": {
        "brief essential": (3,), "brief backend jvp": (3,), "brief": (1, 3, 17), "sparing essential": (2, 3),
        "sparing": (1, 2, 3, 8, 17, 64, 129, 517), "quick": (1, 2, 3, 5, 8, 17, 33, 64, 129, 517, 1025),
        "": _GRADIENTS,
    },
    "cotangents alone": {"essential": False, "brief backend jvp": False, "": True},
    "cotangents alone compiled": {"brief": True, "": False},
    "derivative shapes": {
        "essential": (), "sparing backend float32 brief": (_LARGE,),
        "sparing backend float32": ((4, 6), (4, 4, 4), (2, 3, 4)), "sparing backend": (), "brief": ((2, 3, 4),),
        "sparing": ((4, 6), (4, 4, 4), (2, 3, 4)), "": ((4, 6), (8, 8), (3, 4, 5), (4, 4, 4), (2, 3, 4, 5)),
    },
    # Names of axes: "every" has both signs, "once" one of the two names that an axis has where each is compiled.
    "derivative axes": {
        "brief kernel": ("first", 1, None), "brief jvp": (0,), "brief": (0, None),
        "sparing backend": ("once", None, (0, 1)), "": ("every", None, (0, 1)),
    },
    "masked derivatives": {"essential": (), "brief": _LARGE, "": (6, 9)},
    "many rows": {
        "essential float16": ((2, 10007),), "essential": (), "float32 brief backend": ((2, 10007),),
        "float32": ((2, 10007), (70000, 3)), "": ((2, 10007),),
    },
    "long cotangents": {"essential float16": True, "essential": False, "": True},
    "long cotangents compiled": {"brief|essential": True, "": False},
    "second lengths": {
        "brief essential": (), "brief|essential": (3,), "quick|sparing": (3, 17), "": (2, 3, 8, 17, 130, 517),
    },
    "second shape": {"brief": _LARGE, "": (3, 4)},
    "second axes": {"essential": (), "brief forward|kernel": (0,), "brief": (), "": (0, -1)},
    # Up to this length a derivative goes operation by operation as well, not as one compiled program.
    "longest eager": {"full": 3, "": 0},
}
# fmt: on


def check_level(level: str) -> None:
    """Raise an error for a level that does not exist."""
    if level not in LEVELS:
        message = f"level={level!r} does not exist; the levels are {' and '.join(LEVELS)}."
        raise ConformanceError(message)


def words(level: str, dtype: Finfo, *, kernel: bool, compiles: bool) -> frozenset[str]:
    """The words that hold for these."""
    brief = level == "quick" and (compiles or not kernel)
    sparing = brief or compiles
    storage = bool(dtype.computed_in) and not kernel
    wide = dtype.name not in ("float32", "float16")
    essential = storage or (dtype.name != "float32" and (brief or (compiles and not kernel and wide)))
    found = {level, dtype.name, "kernel" if kernel else "backend"}
    facts = {"compiles": compiles, "brief": brief, "sparing": sparing, "storage": storage, "essential": essential}
    return frozenset(found | {word for word, holds in facts.items() if holds})


@functools.cache
def amount(what: str, holding: frozenset[str]) -> Any:
    """The table's value of one quantity, given these words."""
    return next(
        value
        for rule, value in TABLE[what].items()
        if all(not holding.isdisjoint(either.split("|")) for either in rule.split())
    )
