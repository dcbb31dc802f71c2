"""`polylogit.backends`: lists the backends and whether they are installed, without importing any framework.

Knows the registry and the metadata of installed packages; only `tried` loads backends, each in a separate process.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polylogit import _registry as registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polylogit._registry import Specification

__all__ = ["BackendInfo", "Backends", "backends", "tried"]


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A backend, as `polylogit.backends` lists it.

    Attributes
    ----------
    name : str
        The name for ``backend=``; "name of package" for a plug-in that cannot be used.
    installed : bool
        Whether its framework is installed, as found without importing it.
    version : str or None
        The installed version of the framework.
    loaded : bool
        Whether its framework has been imported in this process.
    reason : str or None
        Why it is unavailable; None if it is available.
    install : str
        The command that installs it; for a plug-in that cannot be used, the command that uninstalls it.
    """

    name: str
    installed: bool
    version: str | None
    loaded: bool
    reason: str | None
    install: str


class Backends(tuple[BackendInfo, ...]):
    """A tuple of `BackendInfo`, which the prompt and notebooks show as a table."""

    __slots__ = ()

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(info.name, info.version or "", _status(info)) for info in self]

    def __repr__(self) -> str:
        """A line for each backend."""
        rows = [_COLUMNS, *self._rows()]
        wide = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{name:{wide[0]}}  {version:{wide[1]}}  {status}" for name, version, status in rows)

    def _repr_html_(self) -> str:
        """The same table for notebooks, in their own colours."""
        from html import escape

        def line(cells: Sequence[str], tag: str) -> str:
            return (
                "<tr>" + "".join(f'<{tag} style="text-align: left">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"
            )

        body = "".join(line(row, "td") for row in self._rows())
        return f"<table><thead>{line(_COLUMNS, 'th')}</thead><tbody>{body}</tbody></table>"


_COLUMNS = ("backend", "version", "status")


def _status(info: BackendInfo) -> str:
    if info.reason:
        return f"{info.reason}; {info.install}"
    return "imported" if info.loaded else "installed"


def _version(specification: Specification) -> str | None:
    backend = registry.loaded(specification.name)
    if backend is not None and backend.version:
        return backend.version
    named = specification.distributions
    if specification.brought_by:  # a plug-in: its framework may be installed under another name
        named = (*importlib.metadata.packages_distributions().get(specification.name, ()), *named)
    for distribution in named:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def _information(specification: Specification) -> BackendInfo:
    name, package = specification.name, specification.package
    try:
        installed = sys.modules[package] is not None if package in sys.modules else _findable(package)
    except (ImportError, ValueError):
        installed = False
    reason = registry.FAILURES.get(name) if installed else f"{package} is not installed"
    loaded = installed and package in sys.modules
    return BackendInfo(name, installed, _version(specification), loaded, reason, specification.install)


def information(name: str) -> BackendInfo | None:
    """The information on one backend, even if `backends` does not list it; None for an unknown name."""
    specification = registry.specification_of(name)
    return None if specification is None else _information(specification)


def _findable(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def backends() -> Backends:
    """List every known backend: whether it is installed, its version, whether it is loaded. Imports none of them.

    A plug-in that cannot be used, for example because its name is taken, comes last, with the reason.

    Returns
    -------
    tuple of BackendInfo
        The prompt and notebooks show it as a table.

    Examples
    --------
    >>> import polylogit
    >>> [info.name for info in polylogit.backends()][:4]
    ['numpy', 'torch', 'tensorflow', 'jax']
    """
    registry.scan_entry_points()
    found = (
        *(_information(specification) for specification in registry.SPECIFICATIONS.values()),
        *(
            BackendInfo(f"{name} of {distribution}", False, None, False, reason, f"pip uninstall {distribution}")
            for (name, distribution), reason in registry.LEFT_OUT.items()
        ),
    )
    return Backends(found)


# The program that prints the facts on one backend as a line of JSON.
_SAYING = """
import json, sys, polylogit
said = dict.fromkeys(("error", "version", "engine", "devices"), "")
try:
    backend = polylogit.get_backend(sys.argv[1])
    said.update(version=backend.version, engine=backend.engine, devices=", ".join(backend.devices()))
except polylogit.errors.PolylogitError as error:
    said["error"] = str(error)
print(json.dumps(said))
"""


def tried(names: Sequence[str], progress: Callable[..., None] = lambda _, ended: None) -> dict[str, dict[str, str]]:
    """The error, version, engine and devices of each backend.

    Each is imported in a separate process, all at the same time, because some frameworks crash if another is loaded.
    ``progress(name, ended=False)`` is called now and then while a process runs, and with True when it ends.
    """
    import subprocess

    def begun(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _SAYING, name]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    found = {}
    processes = {name: begun(name) for name in names}
    try:
        for name, process in processes.items():
            printed = ""
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    printed, _ = process.communicate(timeout=0.2)
                progress(name, ended=process.returncode is not None)
            found[name] = _said(printed, process.returncode)
    finally:
        for process in processes.values():  # when interrupted
            if process.poll() is None:
                process.kill()
                process.wait()
    return found


def _said(printed: str, status: int) -> dict[str, str]:
    import json  # as above

    lines = printed.splitlines()
    if status == 0 and lines:
        return dict(json.loads(lines[-1]))
    return {"error": f"its process ended with status {status} when it was imported"}
