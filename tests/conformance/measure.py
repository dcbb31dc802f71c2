"""The kit's own measure: faults it catches and right implementations it accuses, beside fixed tolerances.

``python tests/conformance/measure.py`` prints the table; the tests hold the kit to it.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from polylogit import conformance
from polylogit.conformance.operations import OPERATIONS


def tolerance_verdict(operation, implementation, vjp, rng=None):
    """What ``numpy.allclose`` with its defaults says, on random logits of a few shapes, against exact values."""
    rng = rng or np.random.default_rng(0)
    entry = OPERATIONS[operation]
    for dtype in (np.float64, np.float32, np.float16):
        for shape in ((5,), (4, 10), (8, 100), (2, 1000)):
            x = (3 * rng.normal(size=shape)).astype(dtype)
            rows = x.astype(np.float64).reshape(-1, shape[-1])
            state = entry.state(rows)
            try:
                got = np.asarray(implementation(x)).astype(np.float64)
                if not np.allclose(got.reshape(rows.shape), entry.value(state).hi):
                    return False
                if vjp is not None:
                    g = rng.normal(size=shape).astype(dtype)
                    exact = entry.vjp.value(state, g.astype(np.float64).reshape(rows.shape)).hi
                    if not np.allclose(np.asarray(vjp(x, g)).astype(np.float64).reshape(rows.shape), exact):
                        return False
            except NotImplementedError:
                continue
    return True


def measure(entries, level="quick"):
    """name -> (status of the kit, verdict of fixed tolerances)."""
    found = {}
    for name, (operation, implementation, vjp) in entries.items():
        report = conformance.check(implementation, operation, vjp=vjp, level=level, name=name.replace(" ", "-"))
        found[name] = (report.status, tolerance_verdict(operation, implementation, vjp))
    return found


def main():
    """The two figures, for the documentation."""
    level = sys.argv[1] if len(sys.argv) > 1 else "quick"
    package = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "corpus", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    sys.modules["corpus"] = importlib.util.module_from_spec(spec)
    from corpus.faults import FAULTS, UNPUBLISHED
    from corpus.unusual import UNUSUAL

    print(f"{'':40} {'the kit':>12} {'np.allclose':>12}")
    for title, entries in (("published faults caught", FAULTS), ("other faults caught", UNPUBLISHED)):
        found = measure(entries, level)
        kit = sum(status == 1 for status, _ in found.values())
        fixed = sum(not passed for _, passed in found.values())
        print(f"{title:40} {kit:>6} of {len(found):<3} {fixed:>6} of {len(found):<3}", flush=True)
    found = measure(UNUSUAL, level)
    alarms = sum(status != 0 for status, _ in found.values())
    fixed = sum(not passed for _, passed in found.values())
    print(f"{'right implementations accused':40} {alarms:>6} of {len(found):<3} {fixed:>6} of {len(found):<3}")


if __name__ == "__main__":
    main()
