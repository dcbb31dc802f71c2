"""A function under `torch.compile` is compiled in every case that is certified, not in the first eight."""

import pytest

from polylogit import conformance

torch = pytest.importorskip("torch")


def half_as_much_again(graph, _inputs):
    """A compiler that is wrong in whatever it compiles."""

    def run(*arguments):
        return tuple(1.5 * one if isinstance(one, torch.Tensor) else one for one in graph.forward(*arguments))

    return run


def test_a_wrong_compiler_fails_in_every_dtype():
    compiled = torch.compile(lambda x, axis=-1: torch.softmax(x, axis), backend=half_as_much_again)
    dtypes = ["float64", "float32", "float16", "bfloat16"]
    report = conformance.check(compiled, "softmax", backend="torch", level="quick", dtypes=dtypes, only=["values/*/n*"])
    verdicts = {dtype: [one.verdict for one in report.results if one.dtype == dtype and one.case] for dtype in dtypes}
    for dtype, found in verdicts.items():
        assert found.count("failed") > 10, dtype
        assert "passed" not in found, dtype
