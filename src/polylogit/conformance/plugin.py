"""The pytest plugin: the kit's checks as test items, and a fixture that runs users' tests once for each backend.

``pytest --pyargs polylogit.conformance --polylogit-backend NAME`` collects an item for each operation, check and dtype;
``--polylogit-implementation module:function --polylogit-operation softmax`` does so for your own function. Every pytest
run in an environment with polylogit loads this module, so it imports nothing heavy before it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from polylogit._operations import OPERATIONS, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["polylogit_backend"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the kit."""
    group = parser.getgroup("polylogit", "the conformance kit of polylogit")
    group.addoption("--polylogit-backend", action="append", metavar="NAME", help="a backend to check, or to test on")
    group.addoption("--polylogit-implementation", metavar="MODULE:FUNCTION", help="a function of your own to check")
    group.addoption("--polylogit-vjp", metavar="MODULE:FUNCTION", help="its gradient, vjp(x, cotangent, axis=-1)")
    group.addoption("--polylogit-operation", action="append", metavar="NAME", help=listed())
    group.addoption("--polylogit-level", choices=("quick", "full"), default="quick", help="how many cases")
    group.addoption("--polylogit-device", metavar="NAME", help="where to make arrays, for example cuda")
    group.addoption("--polylogit-expected-failures", metavar="FILE", help="a TOML file of what is known to fail")
    group.addoption("--polylogit-strict", action="store_true", help="an expected failure that passes fails the run")


def pytest_configure(config: pytest.Config) -> None:
    """The marker that every item of the kit carries."""
    config.addinivalue_line("markers", "polylogit(operation, check, dtype): a check of polylogit's conformance kit")


def pytest_sessionstart(session: pytest.Session) -> None:
    """What was named to be checked must be there, or each item would fail for the same reason."""
    option: Any = session.config.getoption
    if (target := option("--polylogit-implementation")) is None:
        return
    if not option("--polylogit-operation"):
        raise pytest.UsageError("--polylogit-implementation needs --polylogit-operation")
    from polylogit.conformance._implementation import load
    from polylogit.errors import PolylogitError

    for one in (target, option("--polylogit-vjp")):
        try:
            load(one)
        except PolylogitError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a user's test once for each installed backend, or for those that are named."""
    if "polylogit_backend" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--polylogit-backend")
    if not names:
        from polylogit._info import backends  # only where the fixture is used

        names = [info.name for info in backends() if info.installed]
    metafunc.parametrize("polylogit_backend", names, indirect=True)


@pytest.fixture
def polylogit_backend(request: pytest.FixtureRequest) -> Any:
    """Each installed backend in turn: `asarray` makes its arrays, `to_numpy` reads them."""
    import polylogit

    return polylogit.get_backend(request.param)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the kit's items, if its own package is collected and a target was named."""
    config = parent.config
    wanted = config.getoption("--polylogit-backend") or config.getoption("--polylogit-implementation")
    if wanted and file_path == Path(__file__).with_name("__init__.py"):
        found: pytest.Collector = _Kit.from_parent(parent, path=file_path)
        return found
    return None


class _Kit(pytest.File):
    """One item for each subject, operation, check and dtype."""

    def collect(self) -> Iterator[pytest.Item]:
        """Only names; imports nothing but the kit."""
        from polylogit._spec.dtypes import dtypes_named
        from polylogit.conformance._checks import CHECKS

        option: Any = self.config.getoption
        target = option("--polylogit-implementation")
        operations = option("--polylogit-operation") or (tuple(OPERATIONS) if target is None else ())
        for backend in option("--polylogit-backend") or ["numpy"]:
            for operation in operations:
                # Of a kernel float8 is asked only where it says that it serves it.
                for dtype in dtypes_named(None, storage=target is None):
                    for check in CHECKS:
                        what = (backend, target, operation, check, dtype.name)
                        label = "-".join((target or backend, operation, check.replace(" ", "_"), dtype.name))
                        yield _Check.from_parent(self, name=label, what=what)


class _Check(pytest.Item):
    """One check on one dtype."""

    def __init__(self, *, what: tuple[Any, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.what = what
        self.add_marker(pytest.mark.polylogit(*what[2:]))

    def runtest(self) -> None:
        """Run the check; skip if no case applies."""
        from polylogit.conformance import _xfail
        from polylogit.conformance._implementation import implementation_of
        from polylogit.conformance._results import BAD, Results
        from polylogit.conformance._run_checks import run_checks

        backend, target, operation, check, dtype = self.what
        option: Any = self.config.getoption
        kernel = (target, option("--polylogit-vjp"), target)
        implementation = implementation_of(backend, operation, *kernel, option("--polylogit-device"))
        level = option("--polylogit-level")
        report = Results(list(run_checks(implementation, level, checks=(check,), among=(dtype,))))
        expected = _xfail.read(option("--polylogit-expected-failures"))
        _xfail.apply(report, expected, strict=option("--polylogit-strict"))
        verdicts = {result.verdict for result in report.results}
        if not verdicts.isdisjoint(BAD):
            lines = (f"{result.verdict} {result.id}\n    {result.message}" for result in report.bad[:10])
            raise _FailedError("\n".join(lines))
        if "expected-failure" in verdicts:
            pytest.xfail("expected failures")
        if "passed" not in verdicts:
            reasons = {result.message for result in report.results} or {"the check does not apply"}
            pytest.skip("; ".join(sorted(reasons)[:3]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The failures, without the kit's own frames."""
        return str(excinfo.value) if isinstance(excinfo.value, _FailedError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The place of the item for pytest's reports."""
        return self.path, None, self.name


class _FailedError(Exception):
    """Carries the failures of an item."""
