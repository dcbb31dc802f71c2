"""What every test shares: the installed backends as fixtures, and the order and threads that the frameworks need.

A test never skips because a framework is missing: it is not collected there. So that this cannot hide anything, an
environment says what it holds, and the session stops where that is not so:

- ``POLYLOGIT_TEST_REQUIRE=torch,jax``: these must be installed;
- ``POLYLOGIT_TEST_FORBID=tensorflow``: these must not be.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from typing import TYPE_CHECKING, Any

# Two workers with a full set of threads each would fight for the same cores. The variables are read when a framework
# is first imported, so they are set before that; processes that tests start inherit them.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):
        os.environ.setdefault(variable, "1")

import pytest

from frameworks import CUDA, FRAMEWORKS, INSTALLED, MISSING, WANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# TensorFlow's libraries, loaded first, break those of PyTorch in the same process, and those of Triton, which PyTorch's
# builds for GPUs load when they first compile (a segmentation fault); the other order is fine.
for library in ("torch", "triton"):
    if "torch" in INSTALLED and importlib.util.find_spec(library) is not None:
        importlib.import_module(library)


def _named_in(variable: str) -> list[str]:
    names = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
    for name in names:
        if name not in FRAMEWORKS:
            raise pytest.UsageError(f"{variable} names {name!r}; the frameworks are {', '.join(FRAMEWORKS)}")
    return names


def pytest_sessionstart() -> None:
    """Stop where the environment does not hold what it says."""
    missing = [name for name in _named_in("POLYLOGIT_TEST_REQUIRE") if name not in INSTALLED]
    unwanted = [name for name in _named_in("POLYLOGIT_TEST_FORBID") if name in INSTALLED]
    if missing:
        raise pytest.UsageError(f"POLYLOGIT_TEST_REQUIRE names frameworks that are not installed: {missing}")
    if unwanted:
        raise pytest.UsageError(f"POLYLOGIT_TEST_FORBID names frameworks that are installed: {unwanted}")


def pytest_report_header() -> str:
    """Say whether the tests that need a GPU are among those that run."""
    return "cuda: " + ("test_cuda_*.py run" if CUDA else "no device here, test_cuda_*.py are left out")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out ``test_torch_export.py`` and the like where the framework in the file's name is missing."""
    words = re.split(r"[_.]", collection_path.name)
    if words[0] == "test" and any(name in words for name in MISSING):
        return True
    return None


def _has_no_case(item: pytest.Item) -> bool:
    """Whether it is what pytest makes of a test with an empty list of parameters."""
    return any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests whose frameworks are missing: those marked ``requires("torch", ...)``, those without a case."""
    kept, left = [], []
    for item in items:
        needs = {name for mark in item.iter_markers("requires") for name in mark.args}
        if unknown := needs.difference(WANTED):
            raise pytest.UsageError(f"{item.nodeid} requires {unknown}; known are {', '.join(WANTED)}")
        if _has_no_case(item) and len(INSTALLED) == len(FRAMEWORKS):
            raise pytest.UsageError(f"{item.nodeid} has no case though every framework is here")
        (left if needs.intersection(MISSING) or _has_no_case(item) else kept).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the native defects that could not be there, so that a session that met none does not pass for another."""
    named = {
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "native defect not met"
    }
    if named:
        terminalreporter.section("native defects that were not met here")
        for defect in sorted(named):
            terminalreporter.line(defect)


@pytest.fixture(params=INSTALLED)
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each installed backend's name in turn."""
    return str(request.param)


@pytest.fixture
def backend(backend_name: str) -> Any:
    """Each installed backend in turn."""
    import polylogit

    return polylogit.get_backend(backend_name)


@pytest.fixture
def make(backend: Any) -> Callable[..., Any]:
    """``make(values, dtype=None)``: an array of the backend in turn."""

    def make(values: Any, dtype: Any = None) -> Any:
        return backend.asarray(values, dtype=dtype)

    return make


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX with its 64-bit types switched on for the length of the test, where JAX is installed."""
    if "jax" not in INSTALLED:
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def registry_kept() -> Iterator[None]:
    """Backends and implementations that the test registers are forgotten afterwards."""
    from polylogit import _registry as registry

    registry.scan_entry_points()  # happens once a process; what it finds is to be kept
    tables = [value for name, value in vars(registry).items() if isinstance(value, dict) and not name.startswith("__")]
    tables += [inner for table in tables for inner in table.values() if isinstance(inner, dict)]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
