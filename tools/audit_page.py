"""Audit the tests of other projects, print the table, and write it into ``docs/audit.md``.

    python tools/audit_page.py            # audits all tests, in minutes; writes docs/_static/audit.json and the page
    python tools/audit_page.py --page     # audits only new tests; writes the page from the stored results

Each test is transcribed from its project's source, as of the given date, and the transcription is audited.
tests/docs/test_audit_page.py fails if the committed page differs from the stored results.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polylogit import conformance

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "docs" / "_static" / "audit.json"
PAGE = ROOT / "docs" / "audit.md"
BEGIN, END = "<!-- Made by tools/audit_page.py; change that. -->\n", "<!-- End of the generated part. -->\n"


@dataclass(frozen=True)
class Test:
    """A project's test: its inputs, and how it compares.

    Attributes
    ----------
    project, what : str
    source : str
        Its place in the project's repository.
    as_of : str
        The date of the commit that was read, or its hash.
    operation, dtype : str
    shapes : tuple of tuple of int
        The test passes if it passes for each shape.
    distributions : tuple of str
    atol, rtol : float
    scale : float
        A factor for the logits.
    more : dict
        Further arguments of `polylogit.conformance.audit`.
    """

    project: str
    what: str
    source: str
    as_of: str
    operation: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    atol: float
    rtol: float
    distributions: tuple[str, ...] = ("normal",)
    scale: float = 1.0
    more: dict[str, Any] = field(default_factory=dict)

    def audit(self, **more: Any) -> conformance.Audit:
        """The faults that the test would let through."""
        drawn = [
            conformance.drawing(shape, distribution, scale=self.scale)
            for shape in self.shapes
            for distribution in self.distributions
        ]
        return conformance.audit(
            drawn, self.operation, atol=self.atol, rtol=self.rtol, dtype=self.dtype, **{**self.more, **more}
        )


def between_0_and_1(got: Any, _expected: Any) -> bool:
    return bool((np.asarray(got) >= 0).all() and (np.asarray(got) <= 1).all())


def _squared_mean(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """The cotangent of a squared mean loss over 128 tokens, with a loss of about log(128,000) each."""
    g = np.zeros(shape)
    np.put_along_axis(g, rng.integers(0, shape[-1], (len(g), 1)), -2 * np.log(128000) / 128, -1)
    return g


def _for_each(dtypes: dict[str, tuple[float, float]], *arguments: Any, **keywords: Any) -> list[Test]:
    """The same test for several dtypes: dtype -> (atol, rtol)."""
    project, what, source, as_of, operation, shapes = arguments
    return [
        Test(project, what, source, as_of, operation, dtype, shapes, atol, rtol, **keywords)
        for dtype, (atol, rtol) in dtypes.items()
    ]


KERNELBENCH = {"float32": (1e-4, 1e-4), "float16": (1e-2, 1e-2), "bfloat16": (1e-2, 1e-2)}
LIGER = {"float32": (1e-5, 1e-5), "bfloat16": (5e-2, 5e-2)}
LIGER_SHAPES = ((2, 8), (4, 16), (1, 1023), (3, 7, 256), (1, 4096), (1, 2, 4096))
QUACK = {"float32": (1e-4, 1e-4), "float16": (1e-3, 1e-3), "bfloat16": (1e-2, 1e-2)}
QUACK_SHAPES = tuple((199, n) for n in (192, 760, 4096, 32768, 262144))
GEMS = {"float32": (1e-4, 1.3e-6), "float16": (1e-4, 1e-3), "bfloat16": (1e-4, 0.016)}
PRECISE = {"float32": (1e-5, 1.3e-6), "bfloat16": (1e-5, 1.6e-2)}

TESTS = [
    *_for_each(
        KERNELBENCH,
        "KernelBench",
        "softmax",
        "ScalingIntelligence/KernelBench: KernelBench/level1/23_Softmax.py, src/kernelbench/eval.py",
        "2026-03-05",
        "softmax",
        ((4096, 393216),),
        distributions=("uniform",),
    ),
    *_for_each(
        KERNELBENCH,
        "KernelBench",
        "log_softmax",
        "ScalingIntelligence/KernelBench: KernelBench/level1/24_LogSoftmax.py, src/kernelbench/eval.py",
        "2026-03-05",
        "log_softmax",
        ((4096, 393216),),
        distributions=("uniform",),
        more={"rows": 16},
    ),
    *_for_each(
        LIGER,
        "Liger-Kernel",
        "softmax, its longest row",
        "linkedin/Liger-Kernel: test/transformers/test_softmax.py",
        "2026-08-21",
        "softmax",
        ((1, 4096),),
    ),
    *_for_each(
        LIGER,
        "Liger-Kernel",
        "softmax",
        "linkedin/Liger-Kernel: test/transformers/test_softmax.py",
        "2026-08-21",
        "softmax",
        LIGER_SHAPES,
    ),
    *_for_each(
        LIGER,
        "Liger-Kernel",
        "softmax, gradient",
        "linkedin/Liger-Kernel: test/transformers/test_softmax.py",
        "2026-08-21",
        "softmax",
        LIGER_SHAPES,
        more={"gradient": True},
    ),
    *_for_each(
        {"float32": (1e-8, 1e-6), "bfloat16": (1e-8, 5e-2)},
        "Liger-Kernel",
        "cross-entropy, gradient",
        "linkedin/Liger-Kernel: test/transformers/test_cross_entropy.py",
        "2026-08-21",
        "log_softmax",
        ((8192, 32000),),
        more={"gradient": True, "cotangent": "mean nll"},
    ),
    *[
        Test(
            "quack",
            "softmax",
            "Dao-AILab/quack: tests/test_softmax.py",
            "2026-08-20",
            "softmax",
            dtype,
            QUACK_SHAPES,
            atol,
            rtol,
            scale=0.1,
            more={"compare": ("allclose", ("row sums", 1e-4, 1e-4), between_0_and_1), "rows": 2},
        )
        for dtype, (atol, rtol) in QUACK.items()
    ],
    *_for_each(
        {"float32": (5e-5, 1e-5), "bfloat16": (5e-5, 1e-5)},
        "quack",
        "cross-entropy, gradient",
        "Dao-AILab/quack: tests/test_cross_entropy.py",
        "2026-08-20",
        "log_softmax",
        ((289, 128256),),
        scale=0.1,
        more={"gradient": True, "cotangent": "nll"},
    ),
    Test(
        "flash-attention",
        "probabilities, by its rule",
        "Dao-AILab/flash-attention: hopper/test_flash_attn.py",
        "2026-08-15",
        "softmax",
        "bfloat16",
        ((256, 1024),),
        0.0,
        2.0,
        more={"compare": "flash-attention"},
    ),
    *_for_each(
        {"float32": (1e-6, 1e-5), "float16": (1e-4, 1e-3), "bfloat16": (1e-4, 1e-3)},
        "flash-attention",
        "cross-entropy, gradient",
        "Dao-AILab/flash-attention: tests/losses/test_cross_entropy.py",
        "2026-08-15",
        "log_softmax",
        ((16384, 128256),),
        more={"gradient": True, "cotangent": "mean nll"},
    ),
    *_for_each(
        GEMS,
        "FlagGems",
        "softmax, with and without -inf",
        "FlagOpen/FlagGems: tests/test_reduction_ops.py, src/flag_gems/testing/__init__.py",
        "2025-11-21",
        "softmax",
        ((1, 256), (4096, 256), (200, 2560, 3)),
        distributions=("normal", "masked"),
        more={"axis": 1, "equal_nan": True, "rows": 128},
    ),
    *_for_each(
        PRECISE,
        "TransformerEngine",
        "cross-entropy, gradient",
        "NVIDIA/TransformerEngine: tests/pytorch/test_parallel_cross_entropy.py, tests/pytorch/utils.py",
        "2026-08-22",
        "log_softmax",
        ((128, 128000),),
        distributions=("uniform",),
        more={"gradient": True, "cotangent": _squared_mean},
    ),
    Test(
        "Megatron-LM",
        "cross-entropy, loss",
        "NVIDIA/Megatron-LM: tests/unit_tests/tensor_parallel/test_cross_entropy.py",
        "00caa53af309",
        "log_softmax",
        "float32",
        ((16, 128),),  # 32 on each of four devices
        0.0,
        0.0,
        distributions=("ramp",),
        more={"compare": "rounded", "compared": "nll"},
    ),
    Test(
        "Triton",
        "softmax, the tutorial",
        "triton-lang/triton: python/tutorials/02-fused-softmax.py",
        "066e1eb8c33a",
        "softmax",
        "float32",
        ((1823, 781),),
        1e-8,
        1e-5,
    ),
    *_for_each(
        {"float16": (1e-2, 1e-2)},
        "PaddleAPITest",
        "softmax, a recorded call",
        "PFCCLab/PaddleAPITest: tester/accuracy.py, tester/api_config/config_analyzer.py",
        "2025-03-21",
        "softmax",
        ((104, 16, 22, 117324),),
        distributions=("centred",),
        more={"equal_nan": True},
    ),
    *_for_each(
        {"float32": (1e-2, 1e-2), "float16": (1e-2, 1e-2)},
        "BackendBench",
        "softmax of attention, 1,024 keys",
        "meta-pytorch/BackendBench: BackendBench/eval.py, BackendBench/utils.py",
        "2025-12-16",
        "softmax",
        ((1, 16, 1024, 1024),),
        distributions=("uniform",),
        more={"equal_nan": True},
    ),
]


STAND_INS = {
    "zeros": ("zeros",),
    "constant": ("a constant", "the input less a constant"),
    "input": ("the input", "the cotangent"),
    "reordered": ("entries in reverse order", "rows in another order"),
}


def figures(test: Test) -> dict[str, Any]:
    """The figures of a test's row in the table."""
    one = test.audit()
    print(repr(one), test.project, test.what, flush=True)
    found = {column: _margin(one, *names) for column, names in STAND_INS.items()}
    near = [column for column, margin in found.items() if 0.25 < float(margin) <= 1 and one.rows < one.rows_in_all]
    if near:  # does the margin grow with the number of rows, so that it may exceed 1 over all of them?
        half = test.audit(rows=max(1, one.rows // len(test.shapes) // 2))
        near = [name for name in near if float(_margin(half, *STAND_INS[name])) < 0.95 * float(found[name])]
    return {
        "project": test.project,
        "what": test.what,
        "source": test.source,
        "as_of": test.as_of,
        "dtype": test.dtype,
        "setting": one.setting(),
        "atol": test.atol,
        "rtol": test.rtol,
        **found,
        "growing": near,
        "caught": len(one.caught),
        "hidden": len(one.hidden),
        "unseen": len(one.unseen),
        "accused": len(one.accused),
        "right": len(one.accused) + len(one.of("right", "passed")),
    }


def _margin(found: conformance.Audit, *names: str) -> float | str:
    """The error of the best of these, in multiples of the tolerance; infinite if it fails without one."""
    margin = min(found[name].margin for name in names if name in found.names)
    return margin if np.isfinite(margin) else "inf"


def _says(found: dict[str, Any], column: str) -> str:
    margin = float(found[column])
    if margin > 1:
        return "fails"
    return f"may pass ({margin:.2g})" if column in found["growing"] else f"**passes** ({margin:.2g})"


def _link(repository: str) -> str:
    return f"[{repository}](https://github.com/{repository})"


def table(found: list[dict[str, Any]]) -> str:
    """The table and the sources of its rows."""
    columns = ("project", "test", "dtype", "atol, rtol", "zeros", "a constant, or `x` less one", "another order")
    counted = ("faults caught", "pass within the tolerance", "pass unseen", "right ones accused")
    lines = ["| " + " | ".join(columns + counted) + " |"]
    lines += ["|" + "---|" * len(columns) + "--:|" * len(counted)]
    for one in found:
        faults = one["caught"] + one["hidden"] + one["unseen"]
        lines.append(
            f"| {one['project']} | {one['what']} | {one['dtype']} | {_tolerance(one)} | {_says(one, 'zeros')} | "
            f"{_says(one, 'constant')} | {_says(one, 'reordered')} | {one['caught']} of {faults} | {one['hidden']} | "
            f"{one['unseen']} | {one['accused']} of {one['right']} |"
        )
    lines += ["", "Sources of the tests, with the date or the hash of the commit:", ""]
    for source, as_of in dict.fromkeys((one["source"], one["as_of"]) for one in found):
        repository, _, paths = source.partition(": ")
        named = ", ".join(f"`{path}`" for path in paths.split(", "))
        lines.append(f"- {_link(repository)}, {as_of}: {named}")
    return "\n".join(lines) + "\n"


def _tolerance(one: dict[str, Any]) -> str:
    if "rounded" in one["setting"]:
        return "rounded to integers"
    if "flash-attention with" in one["setting"]:
        return "twice the error of a plain one"
    return f"{one['atol']:g}, {one['rtol']:g}"


def page(old: str, found: list[dict[str, Any]]) -> str:
    """The page with its table replaced."""
    head, _, rest = old.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(found)}\n{END}{tail}"


def main() -> None:
    """Audit, print and write."""
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="audit only new tests")
    parser.add_argument(
        "--only", metavar="PROJECT", help="audit the tests of one project, and keep the results of the others"
    )
    asked = parser.parse_args()
    before = json.loads(FOUND.read_text()) if asked.page or asked.only else []
    kept = {(one["project"], one["what"], one["dtype"]): one for one in before}
    if asked.only:
        kept = {key: one for key, one in kept.items() if key[0] != asked.only}
    found = [kept.get((test.project, test.what, test.dtype)) or figures(test) for test in TESTS]
    FOUND.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(), found))
    print(table(found))


if __name__ == "__main__":
    main()
