"""Validates backends from other packages, and lists the frameworks that have one.

A plug-in is checked before it is used. If it is broken, incomplete or claims other types, an error names its package,
and everything else keeps working. Knows frameworks only by name, and imports none.
"""

from __future__ import annotations

from polylogit.errors import PolylogitError

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["UnfitError", "claimed", "hint", "placeholder", "unfit"]


class UnfitError(Exception):
    """A package's backend cannot be used, with the reason."""


# The top-level package that defines the arrays -> what the framework is called, and its plug-in in the folder `plugins`
# of polylogit's sources; empty where nobody has.
_FRAMEWORKS = {
    "mlx": ("MLX", "polylogit-mlx"),
    "paddle": ("PaddlePaddle", "polylogit-paddle"),
    "tinygrad": ("tinygrad", ""),
    "pytensor": ("PyTensor", ""),
    "mindspore": ("MindSpore", ""),
    "oneflow": ("OneFlow", ""),
}


def hint(roots: Iterable[str]) -> str:
    """How to get support for a framework whose plug-in is missing; empty if none of these packages is known."""
    for root in roots:
        title, package = _FRAMEWORKS.get(root, ("", ""))
        if package:
            return (
                f"{title} is served by the plug-in {package}, which is not installed; in a checkout of polylogit, "
                f"`pip install ./plugins/{package}` installs it"
            )
        if title:
            return f"{title} has no plug-in yet; `polylogit new-backend {root}` writes the outline of one"
    return ""


# What stands for an array that does not exist yet, by its top-level package and its name.
_PLACEHOLDERS = (("keras", "KerasTensor"),)


def placeholder(cls: type) -> bool:
    """Whether an object has no values to compute with, whatever methods it has."""
    named = ((str(getattr(base, "__module__", "")).partition(".")[0], base.__name__) for base in cls.__mro__)
    return any(one in _PLACEHOLDERS for one in named)


def unfit(brought: Any, name: str) -> str:
    """Why a package's object cannot be the backend `name`, as a clause; empty if it can."""
    from polylogit._backends.base import Backend  # imports more than a look-up that hits needs

    if not (isinstance(brought, type) and issubclass(brought, Backend)):
        return f"{brought!r} is no subclass of polylogit.extend.Backend"
    if missing := sorted(brought.__abstractmethods__):
        return (
            f"its class {brought.__qualname__} lacks {', '.join(missing)}; `help(polylogit.extend.Backend)` says each"
        )
    called = getattr(brought, "name", None)
    if called != name:
        return (
            f"its class {brought.__qualname__} has name = {called!r} and is registered as {name!r}; make them the same"
        )
    return ""


def claimed(backend: Any, types: Iterable[tuple[type, str]]) -> str:
    """Which type of another backend this one claims, as a clause; empty if it claims only its own."""
    for cls, owner in types:
        try:
            owns = backend.owns(cls)
        except PolylogitError:
            continue  # it refuses the type
        if owns:
            return f"it claims {cls.__module__}.{cls.__qualname__}, which is {owner}'s; its `owns` has to be narrower"
    return ""
