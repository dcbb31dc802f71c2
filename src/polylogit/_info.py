"""What is installed: the answer to `polylogit.backends`, found without importing any framework."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polylogit import _registry as registry

if TYPE_CHECKING:
    from polylogit._registry import Specification

__all__ = ["BackendInfo", "backends"]


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One line of `polylogit.backends`.

    Attributes
    ----------
    name : str
        As in ``backend=name``.
    installed : bool
        Whether its framework can be found; nothing is imported to tell.
    version : str or None
        The installed version of the framework.
    loaded : bool
        Whether its framework has been imported in this process.
    reason : str or None
        Why it is unavailable, where it is.
    install : str
        The command that installs it.
    """

    name: str
    installed: bool
    version: str | None
    loaded: bool
    reason: str | None
    install: str


def _version(specification: Specification) -> str | None:
    for distribution in specification.distributions:
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
    """The line of one backend, those that `backends` does not list included; None where nothing is known of it."""
    specification = registry.specification_of(name)
    return None if specification is None else _information(specification)


def _findable(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def backends() -> tuple[BackendInfo, ...]:
    """Every known backend: whether it is installed, its version, whether it is loaded. Imports none of them.

    Returns
    -------
    tuple of BackendInfo

    Examples
    --------
    >>> import polylogit
    >>> [info.name for info in polylogit.backends()][:4]
    ['numpy', 'torch', 'tensorflow', 'jax']
    """
    registry.scan_entry_points()
    return tuple(_information(specification) for specification in registry.SPECIFICATIONS.values())
