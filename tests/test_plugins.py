"""Backends of other packages: broken, incomplete, greedy ones, or called like another, are named and harm nobody."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import polylogit
from polylogit import _registry as registry
from polylogit import errors
from polylogit._backends.numpy import NumpyBackend
from polylogit.extend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("registry_kept")


class Distribution(NamedTuple):
    name: str


class EntryPoint(NamedTuple):
    name: str
    value: str
    dist: Distribution


class Tensor:
    """An array of a framework that a plug-in serves."""

    __module__ = "plugged"

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype


class Right(NumpyBackend):
    """What a plug-in may look like: NumPy's backend behind a type of its own."""

    name = "plugged"

    def owns(self, cls: type) -> bool:
        return issubclass(cls, Tensor)

    def implementation(self, operation: str, cls: type) -> Callable[..., Any]:
        return getattr(self, operation)

    def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
        return Tensor(polylogit.softmax(x.values, axis, where=where, dtype=dtype))

    def to_numpy(self, x: Any) -> np.ndarray:
        return x.values


class Greedy(Right):
    """Takes whatever has a shape for its own."""

    def owns(self, cls: type) -> bool:
        return hasattr(cls, "shape") or issubclass(cls, Tensor)


class Incomplete(Backend):
    name = "plugged"

    def owns(self, cls: type) -> bool:
        return issubclass(cls, Tensor)


class Misnamed(Right):
    name = "something else"


class Raising(Right):
    def __init__(self) -> None:
        raise RuntimeError("no such device")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes packages seem installed: (distribution, name of the backend, target)."""
    module = types.ModuleType("plugged")
    for cls in (Tensor, Right, Greedy, Incomplete, Misnamed, Raising):
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "plugged", module)

    def install(*packages: tuple[str, str, str]) -> None:
        found = [EntryPoint(name, value, Distribution(package)) for package, name, value in packages]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
        monkeypatch.setattr(registry, "_scanned", False)

    return install


def everything_else_works() -> bool:
    """Whether NumPy and Python values are served, and the backends can be listed."""
    names = [info.name for info in polylogit.backends()]
    values = polylogit.softmax(np.zeros(2)).tolist(), polylogit.softmax([0.0, 0.0]).tolist()
    return "numpy" in names and values == ([0.5, 0.5], [0.5, 0.5])


def test_a_plugin_is_found_by_its_arrays_and_by_its_name(installed: Callable[..., None]) -> None:
    installed(("polylogit-plugged", "plugged", "plugged:Right"))
    assert polylogit.softmax(Tensor([0.0, 0.0])).values.tolist() == [0.5, 0.5]
    assert polylogit.get_backend("plugged").name == "plugged"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("not_there_at_all:Backend", "importing 'not_there_at_all' failed with ModuleNotFoundError"),
        ("plugged:Absent", "AttributeError"),
        ("plugged:Raising", "RuntimeError: no such device"),
        ("plugged:Tensor", "is no subclass of polylogit.extend.Backend"),
        ("plugged:Incomplete", "lacks asarray, jvp, log_softmax, sigmoid, softmax, to_numpy, vjp"),
        ("plugged:Misnamed", "has name = 'something else' and is registered as 'plugged'"),
        ("plugged:Greedy", "it claims numpy.ndarray, which is numpy's"),
    ],
)
def test_one_that_cannot_be_used_is_named_with_its_package_and_harms_nobody(
    installed: Callable[..., None], target: str, words: str
) -> None:
    installed(("polylogit-plugged", "plugged", target))
    for asked in (lambda: polylogit.get_backend("plugged"), lambda: polylogit.softmax(Tensor([0.0, 0.0]))):
        with pytest.raises(errors.BackendUnavailableError) as caught:
            asked()
        assert words in str(caught.value)
        assert "`pip uninstall polylogit-plugged`" in str(caught.value)
    assert everything_else_works()
    (info,) = [info for info in polylogit.backends() if info.name == "plugged"]
    assert words in info.reason or not info.installed
    with pytest.raises(errors.ConversionError):  # the containers that it might know are no concern of others
        polylogit.convert(types.SimpleNamespace(a=1), "numpy")


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("not_there_at_all:Backend", "Install what brings the module 'not_there_at_all'"),
        ("plugged:Raising", "Repair the package polylogit-plugged"),
    ],
)
def test_the_remedy_is_the_missing_module_or_the_package(
    installed: Callable[..., None], target: str, remedy: str
) -> None:
    installed(("polylogit-plugged", "plugged", target))
    with pytest.raises(errors.BackendUnavailableError) as caught:
        polylogit.get_backend("plugged")
    assert f"{remedy}, or take polylogit-plugged away with `pip uninstall polylogit-plugged`" in str(caught.value)


def test_a_backend_registered_anew_serves_the_arrays_of_the_old_one_and_others_stay(
    installed: Callable[..., None],
) -> None:
    class Doubling(Right):
        def softmax(self, x: Any, axis: Any = -1, where: Any = None, dtype: Any = None) -> Any:
            return Tensor(2 * x.values)

    sys.modules["plugged"].Doubling = Doubling
    installed(("polylogit-plugged", "plugged", "plugged:Right"))
    polylogit.softmax(np.zeros(2))
    numpys = registry.TABLES["softmax"][np.ndarray]
    assert polylogit.softmax(Tensor([1.0, 1.0])).values.tolist() == [0.5, 0.5]
    polylogit.register_backend("plugged", "plugged:Doubling")
    assert registry.TABLES["softmax"][np.ndarray] is numpys
    assert polylogit.softmax(Tensor([1.0, 1.0])).values.tolist() == [2.0, 2.0]


def test_only_backends_that_may_know_containers_are_asked_for_them(installed: Callable[..., None]) -> None:
    installed(("polylogit-plugged", "plugged", "plugged:Right"))
    polylogit.softmax(Tensor([0.0, 0.0]))
    polylogit.softmax(np.zeros(2))
    names = [one.name for one in registry.with_trees()]
    assert "plugged" in names
    assert "numpy" not in names


@pytest.mark.parametrize("name", ["numpy", "torch", "array_api"])
def test_a_name_of_polylogits_own_stays_its_own(installed: Callable[..., None], name: str) -> None:
    installed(("polylogit-other", name, "plugged:Right"))
    assert everything_else_works()
    (info,) = [info for info in polylogit.backends() if info.name == f"{name} of polylogit-other"]
    assert not info.installed
    assert f"polylogit-other brings a backend called {name!r}, and polylogit itself has that name" in info.reason
    assert info.install == "pip uninstall polylogit-other"


def test_of_two_with_one_name_the_first_in_the_alphabet_serves(installed: Callable[..., None]) -> None:
    installed(("z-plugged", "plugged", "not_there_at_all:Backend"), ("a-plugged", "plugged", "plugged:Right"))
    assert polylogit.softmax(Tensor([0.0, 0.0])).values.tolist() == [0.5, 0.5]
    (info,) = [info for info in polylogit.backends() if info.name == "plugged of z-plugged"]
    assert "a-plugged has that name already" in info.reason


def test_what_the_user_registers_replaces_a_plugin_without_a_word(installed: Callable[..., None]) -> None:
    installed(("polylogit-plugged", "plugged", "not_there_at_all:Backend"))
    polylogit.register_backend("plugged", "plugged:Right")
    assert polylogit.softmax(Tensor([0.0, 0.0])).values.tolist() == [0.5, 0.5]
    assert [info.name for info in polylogit.backends() if "plugged" in info.name] == ["plugged"]


def test_an_entry_point_that_names_no_class_is_left_out(installed: Callable[..., None]) -> None:
    installed(("polylogit-plugged", "plugged", "plugged.backend"))
    assert everything_else_works()
    with pytest.raises(errors.UnknownBackendError, match=r"'plugged.backend' as its backend.*\"module:Class\""):
        polylogit.get_backend("plugged")


def test_a_subclass_of_anothers_array_is_served_by_that_one_where_the_plugin_is_broken(
    installed: Callable[..., None],
) -> None:
    installed(("polylogit-plugged", "plugged", "not_there_at_all:Backend"))
    labelled = type("Labelled", (np.ndarray,), {"__module__": "plugged"})
    assert polylogit.softmax(np.zeros(2).view(labelled)).tolist() == [0.5, 0.5]


def test_another_plugins_type_is_not_to_be_claimed(installed: Callable[..., None]) -> None:
    class Other(Right):
        name = "second"

    sys.modules["plugged"].Other = Other
    installed(("polylogit-plugged", "plugged", "plugged:Right"), ("polylogit-second", "second", "plugged:Other"))
    polylogit.softmax(Tensor([0.0, 0.0]))
    with pytest.raises(errors.BackendUnavailableError, match=r"claims plugged.Tensor, which is plugged's"):
        polylogit.get_backend("second")


def test_a_backend_derived_from_numpys_gets_none_of_numpys_arrays() -> None:
    x = np.array([1, 2], dtype=">f4")  # what the kernels leave to Python
    Right()
    assert isinstance(polylogit.softmax(x), np.ndarray)
    with pytest.raises(errors.DTypeError):
        polylogit.softmax(np.array(["a"]))


class TestAKnownFrameworkWithoutItsPlugin:
    @staticmethod
    def array_of(module: str, name: str) -> Any:
        return type(name, (), {"__module__": module, "shape": (2,), "__array_namespace__": lambda self: None})()

    @pytest.mark.parametrize(
        ("module", "name", "command"),
        [
            ("mlx.core", "array", "`pip install ./plugins/polylogit-mlx`"),
            ("paddle", "Tensor", "`pip install ./plugins/polylogit-paddle`"),
            ("tinygrad.tensor", "Tensor", "`polylogit new-backend tinygrad`"),
        ],
    )
    def test_it_is_named_with_the_command(
        self, installed: Callable[..., None], module: str, name: str, command: str
    ) -> None:
        installed()
        root = module.partition(".")[0]
        for known in [one for one in registry.SPECIFICATIONS if one == root]:  # where the plug-in is installed
            del registry.SPECIFICATIONS[known]
        x = self.array_of(module, name)
        with pytest.raises(errors.UnsupportedArrayError) as refused:
            polylogit.softmax(x)
        with pytest.raises(errors.ConversionError) as unconverted:
            polylogit.convert(x, "numpy")
        with pytest.raises(errors.UnknownBackendError) as unknown:
            polylogit.get_backend(root)
        assert all(command in str(caught.value) for caught in (refused, unconverted, unknown))
        assert f"{module}.{name}" in str(refused.value)

    def test_the_command_names_a_folder_that_is_there(self) -> None:
        from polylogit._plugins import _FRAMEWORKS

        plugins = ROOT / "plugins"
        for _, package in _FRAMEWORKS.values():
            assert not package or (plugins / package / "pyproject.toml").is_file()


def test_a_framework_that_ends_its_process_is_a_line_of_polylogit_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polylogit._info import tried

    (tmp_path / "ends_it_all.py").write_text("import os\nos._exit(7)\n")
    info = tmp_path / "ends_it_all-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ends-it-all\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[polylogit.backends]\nends_it_all = ends_it_all:Backend\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    found = tried(["ends_it_all", "numpy"])
    assert "status 7" in found["ends_it_all"]["error"]
    assert (found["numpy"]["error"], found["numpy"]["devices"]) == ("", "cpu")
