"""Write ``docs/checks.md``, the list of the kit's checks, from the table that the kit runs.

    python tools/checks_page.py

Needs only the extra `conformance`. tests/docs/test_checks_page.py fails if the committed page differs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from polylogit import conformance
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._checks.laws import LAWS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "checks.md"

# What makes a kernel fail, as its author would put it.
TYPICAL = {
    "threads": "a buffer that all calls share",
    "values": "the running maximum of a blocked kernel is not carried over; a sum is kept in 16 bits",
    "exhaustive": "float16 sigmoid is 0 below -11",
    "special": "a leading block of -inf gives NaN; NaN stays at its own entry",
    "axes": "`axis` is ignored, and the last one is always used",
    "layouts": "a transposed view is read as if it were contiguous; the input is modified",
    "shapes": "the grid is one row short; an empty batch raises an error",
    "masks": "NaN under the mask reaches the sum; an empty row is NaN",
    "dtypes": "uint8 logits wrap around when the maximum is subtracted",
    "errors": "`axis=2` of a matrix is taken modulo two",
    "laws": "rows sum to 1.01",
    "repeat": "a result is a view of a buffer that the next call overwrites",
    "invariance": "reported in ulp; a failure only with `--invariant`",
    "vjp": "the gradient is diagonal, or sums over the last axis whatever the axis",
    "jvp": "the tangent is not multiplied by the probabilities",
    "second order": "the backward pass is not itself differentiable",
    "compiled": "the compiled kernel keeps the shape it first saw",
}

HEAD = """\
<!-- Made by tools/checks_page.py from src/polylogit/conformance/_checks; change that. -->

# All checks

The kit has {count} checks. The id of each case contains the name of its check, which `--only` and `--skip` accept:
`numpy/softmax/values/float32/n65` belongs to *values*. Arguments that your function does not have are not tested, and
a call that it refuses with `NotImplementedError` counts as unsupported.

The counts are the cases for polylogit's NumPy backend: three operations, and all its dtypes. A kernel has fewer, with
one operation and the dtypes that it supports.

| check | what it tests | a typical failure | cases, `quick` | cases, `full` |
|---|---|---|--:|--:|
"""

TAIL = """
`compiled` needs a framework with a compiler, such as `torch.compile`, `jax.jit` or `tf.function`; NumPy has none.
`search`, which `--search N` adds, is described under [Search beyond the list](conformance.md#search-beyond-the-list).

## The laws

`laws` compares results with one another rather than with exact values: {laws}.

## Verdicts

Each case gets one of these [verdicts](conformance.md#verdicts), which decide the exit status. To list the cases without
running them, one id per line:

```sh
polylogit conform --backend numpy --level quick --list
```
"""


def counts(level: str) -> Counter[str]:
    """The number of cases of each check, on NumPy."""
    return Counter(identifier.split("/")[2] for identifier in conformance.cases(["numpy"], level=level))


def page() -> str:
    """The text of the page."""
    quick, full = counts("quick"), counts("full")
    rows = []
    for name, check in CHECKS.items():
        asks = (check.__doc__ or "").replace("``", "`")
        cells = [f"{found[name]:,}" if found[name] else "–" for found in (quick, full)]
        rows.append(f"| `{name}` | {asks} | {TYPICAL[name]} | {' | '.join(cells)} |")
    laws = ", ".join(f"*{name}*" for name in LAWS)
    return HEAD.format(count=len(CHECKS)) + "\n".join(rows) + "\n" + TAIL.format(laws=laws)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
