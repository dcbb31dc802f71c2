"""The kit's own measure: faults it catches and right implementations it accuses, beside fixed tolerances.

``python tests/conformance/measure.py`` prints the table; the tests hold the kit to it.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from polylogit._spec.operations import DEFINITIONS
from polylogit.conformance._checks import CHECKS
from polylogit.conformance._implementation import implementation_of
from polylogit.conformance._results import DISAGREES, held_to
from polylogit.conformance._run_checks import run_checks

WIDE = (np.float64, np.float32)
ALL = (*WIDE, np.float16)


def tolerance_verdict(operation, implementation, vjp, dtypes):
    """What ``numpy.allclose`` with its defaults says, on random logits of a few shapes, against exact values."""
    rng = np.random.default_rng(0)
    entry = DEFINITIONS[operation]
    for dtype in dtypes:
        for shape in ((5,), (4, 10), (8, 100), (2, 1000)):
            x = (3 * rng.normal(size=shape)).astype(dtype)
            rows = x.astype(np.float64).reshape(-1, shape[-1])
            state = entry.exact(rows)
            try:
                got = np.asarray(implementation(x)).astype(np.float64)
                if not np.allclose(got.reshape(rows.shape), entry.value(state).hi):
                    return False
                if vjp is not None:
                    g = rng.normal(size=shape).astype(dtype)
                    exact = entry.vjp.value(state, g.astype(np.float64).reshape(rows.shape)).hi
                    if not np.allclose(np.asarray(vjp(x, g)).astype(np.float64).reshape(rows.shape), exact):
                        return False
            except (NotImplementedError, TypeError):
                continue
    return True


def first_failure(operation, implementation, vjp, backend="numpy", level="quick", *, rounded_once=False, among=None):
    """Something that the kit finds wrong; None where it finds nothing. Where there is a gradient, it is asked first.

    `among` names the dtypes to ask for, of those that are served; by default all.
    """
    derivatives = ["vjp", "second order"]
    rest = [name for name in CHECKS if name not in derivatives]
    for checks in (derivatives, rest) if vjp is not None else (None,):
        kernel = implementation_of(backend, operation, implementation, vjp)
        for result in run_checks(kernel, level, checks=checks, among=among):
            held_to(result, rounded_once=rounded_once)
            if result.verdict in DISAGREES:
                return result
    return None


def measure(entries, level="quick", *, rounded_once=False):
    """name -> (whether the kit finds a fault, verdicts of fixed tolerances on 32 and 64 bits, and on 16 bits too)."""
    found = {}
    for name, entry in entries.items():
        fixed = [tolerance_verdict(*entry, dtypes) for dtypes in (WIDE, ALL)]
        found[name] = (first_failure(*entry, level=level, rounded_once=rounded_once) is not None, *fixed)
    return found


def main():
    """The two figures, for the documentation."""
    level = sys.argv[1] if len(sys.argv) > 1 else "quick"
    package = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "corpus", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    sys.modules["corpus"] = importlib.util.module_from_spec(spec)
    from corpus.kernels.classes import CLASSES, TWINS
    from corpus.kernels.faults import FAULTS, UNPUBLISHED
    from corpus.kernels.reported import REPORTED
    from corpus.kernels.unusual import UNUSUAL

    print(f"{'':40} {'the kit':>14} {'np.allclose':>14} {'and on float16':>14}")
    rows = (
        ("published faults caught", FAULTS),
        ("other faults that users reported caught", REPORTED),
        ("faults of our own making caught", UNPUBLISHED),
        ("exact, far and 16-bit faults caught *", CLASSES),
        ("right implementations accused", UNUSUAL),
        ("right twins of faults accused *", TWINS),
    )
    for title, entries in rows:
        found = measure(entries, level, rounded_once=title.endswith("*")).values()
        counts = [
            sum(kit for kit, *_ in found),
            *(sum(not verdicts[column] for _, *verdicts in found) for column in (0, 1)),
        ]
        print(f"{title:40} " + " ".join(f"{count:>6} of {len(found):<4}" for count in counts), flush=True)
    print("* with --rounded-once")


if __name__ == "__main__":
    main()
