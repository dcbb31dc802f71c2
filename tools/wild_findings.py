"""The faults that the kit found in other projects: a few lines of Python each, and their verification.

`FINDINGS` are read from ``wild_findings.toml``. The lines need neither polylogit nor its kit, and leave the result in
``y``. `judged` compares it with the closed form in mpmath, computed from the logits of the finding, without the kit.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRONG, CONVENTION, INACCURATE = "wrong", "another convention", "less accurate"
# Of each dtype how many digits, and the exponent of its smallest number.
_PRECISION = {"float64": (53, -1074), "float32": (24, -149), "float16": (11, -24), "bfloat16": (8, -133)}


@dataclass(frozen=True)
class Finding:
    """One fault.

    `row`: the logits, an expression that gives a list. `cotangent`: where ``y`` is a gradient. `masked`: the indices
    that take no part. `crashes`: the process ends. `report`: of somebody, as ``owner/name#number``.
    """

    name: str
    packages: tuple[str, ...]
    operation: str
    code: str
    row: str
    dtype: str = "float32"
    kind: str = WRONG
    said: str = ""
    report: str = ""
    cotangent: str = ""
    masked: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    crashes: bool = False


def exact(finding: Finding, count: int) -> tuple[list[Any], list[float]]:
    """The first `count` numbers as they should be, with 60 digits, and how far each logit is below the maximum."""
    import mpmath

    mpmath.mp.dps = 60
    row = [float(value) for value in eval(finding.row, {"inf": math.inf, "nan": math.nan})]
    kept = [place for place in range(len(row)) if place not in finding.masked]
    if finding.operation == "sigmoid":
        value = {x: mpmath.mpf(1) / (1 + mpmath.exp(-mpmath.mpf(x))) if math.isfinite(x) else
                 mpmath.mpf({math.inf: 1, -math.inf: 0}.get(x, "nan")) for x in set(row)}  # fmt: skip
        return [value[x] for x in row[:count]], [max(0.0, -x) if math.isfinite(x) else 0.0 for x in row[:count]]
    top = max((row[place] for place in kept), default=-math.inf)
    counts = Counter(row[place] for place in kept)
    bad = any(math.isnan(row[place]) or row[place] == math.inf for place in kept) or top == -math.inf

    def power(x: float) -> Any:
        return mpmath.exp(mpmath.mpf(x) - mpmath.mpf(top)) if x > -math.inf else mpmath.mpf(0)

    nothing = 0 if finding.operation == "softmax" else -mpmath.inf
    if bad:
        return [mpmath.mpf("nan") if place in kept else nothing for place in range(min(count, len(row)))], [0.0] * count
    total = sum(times * power(x) for x, times in counts.items())
    distances = [top - x if x > -math.inf else 0.0 for x in row[:count]]
    if finding.cotangent:
        g = [mpmath.mpf(value) for value in eval(finding.cotangent)]
        y = {x: power(x) / total for x in counts}
        if finding.operation == "softmax":
            mean = sum(g[place] * y[row[place]] for place in kept)
            found = [y[row[place]] * (g[place] - mean) if place in kept else mpmath.mpf(0) for place in range(count)]
        else:
            whole = sum(g[place] for place in kept)
            found = [g[place] - y[row[place]] * whole if place in kept else mpmath.mpf(0) for place in range(count)]
        return found, distances
    values = []
    for place in range(min(count, len(row))):
        if place in finding.masked:
            values.append(nothing)
        elif finding.operation == "softmax":
            values.append(power(row[place]) / total)
        else:
            x = row[place]
            values.append(mpmath.mpf(x) - top - mpmath.log(total) if x > -math.inf else -mpmath.inf)
    return values, distances


def judged(finding: Finding, got: list[float]) -> dict[str, Any]:
    """Whether the finding holds: the worst number, what it should be, and how many units in the last place are between.

    It holds where a number is missing, or off by more than rounding explains: 8 + 2 d + 2 log2(n) units, d the distance
    from the maximum, of float32 for 16 bits, whose results may be off by one of their own units as well.
    """
    import mpmath

    length = len(eval(finding.row, {"inf": math.inf, "nan": math.nan}))
    values, distances = exact(finding, len(got))
    precision, lowest = _PRECISION[finding.dtype]
    worst: dict[str, Any] = {"holds": False, "times": -1.0}
    for place, (number, value, distance) in enumerate(zip(got, values, distances, strict=False)):
        wanted = mpmath.mpf(value)
        if mpmath.isnan(wanted) or mpmath.isinf(wanted) or not math.isfinite(number):
            same = (math.isnan(number) and mpmath.isnan(wanted)) or (not math.isnan(number) and number == wanted)
            times, units = (0.0, 0.0) if same else (math.inf, math.inf)
        elif wanted == 0:
            times, units = (0.0, 0.0) if number == 0 else (math.inf, math.inf)
        else:
            spacing = mpmath.mpf(2) ** max(int(mpmath.floor(mpmath.log(abs(wanted), 2))) + 1 - precision, lowest)
            units = float(abs(number - wanted) / spacing)
            zone = finding.dtype != "float16" and abs(wanted) < mpmath.mpf(2) ** (lowest + precision + 1)
            allowed = (8 + 2 * distance + 2 * math.log2(max(2, length))) * (
                1 if precision > 23 else 2.0 ** (precision - 24)
            )
            if length == 1 and finding.operation != "sigmoid":
                allowed = 0.0  # nothing is rounded
            times = 0.0 if zone and 0 <= number <= 2 * wanted else units / max(allowed + (precision < 24), 1e-9)
        if times > worst["times"]:
            worst = {"place": place, "got": repr(number), "exact": mpmath.nstr(wanted, 9), "times": times,
                     "units": units}  # fmt: skip
    worst["holds"] = worst["times"] > 1.0
    return {key: ("inf" if value == math.inf else value) for key, value in worst.items()}


def _read() -> list[Finding]:
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["finding"]
    return [
        Finding(**{key: tuple(one) if isinstance(one, list) else one for key, one in table.items()}) for table in tables
    ]


FINDINGS = _read()
