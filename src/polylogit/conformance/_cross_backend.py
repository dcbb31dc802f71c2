"""The largest difference between any two backends, over the cases that both ran.

This is a by-product: the verdict depends only on the distance from the exact value. Knows only arrays of values.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit._spec import bounds
from polylogit._spec.dtypes import DTYPES
from polylogit._spec.operations import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def differences(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The largest difference in ulp and absolute, for each pair of backends, operation, check and dtype.

    `folders` are those of the backends, with the values that their processes left.
    """
    values = {name: loaded(folder) for name, folder in folders.items()}
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for first, second in itertools.combinations(values, 2):
        for key in sorted(set(values[first]) & set(values[second])):
            a, b = values[first][key], values[second][key]
            if a.shape != b.shape or not a.size:
                continue
            operation, check, dtype, _ = key.split("/", 3)
            ulp, absolute = _apart(a, b, dtype, DEFINITIONS[operation].unit)
            names = {"first": first, "second": second, "operation": operation, "check": check, "dtype": dtype}
            row = found.setdefault(tuple(names.values()), {**names, "ulp": 0.0, "absolute": 0.0, "cases": 0})
            row["ulp"], row["absolute"] = max(row["ulp"], ulp), max(row["absolute"], absolute)
            row["cases"] += 1
    return list(found.values())


def loaded(folder: Path) -> dict[str, Any]:
    """The values that the processes of a backend left in its folder, by case."""
    values: dict[str, Any] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            values.update(file)
    return values


def _apart(a: Any, b: Any, dtype: str, unit: float) -> tuple[float, float]:
    finfo = DTYPES[dtype]
    both = np.isfinite(a) & np.isfinite(b)
    with np.errstate(all="ignore"):
        off = np.where(both, np.abs(a - b), 0.0)
    size = np.where(both, np.maximum(np.abs(a), np.abs(b)), 1.0)
    # Where either may be flushed to 0, the two may differ by all there is.
    units = np.where(size < 2.0 * bounds.flushable(finfo), 0.0, off / finfo.ulp(np.maximum(size, unit)))
    return float(units.max(initial=0.0)), float(off.max(initial=0.0))
