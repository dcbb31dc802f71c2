"""Finds the backend that owns an array type, and the implementation of an operation for it.

A table for each operation maps the exact type of an array to its implementation. Entries are made on first use and
published by a single assignment, so threads that make their first calls at the same time need no lock. A type that is
not in the table is looked up by the modules of its base classes: only the backend of a framework named there is asked,
and only if that framework has been imported. This module knows the backends only by name. It imports a backend when one
of its arrays arrives or somebody names it, and imports no framework itself.
"""

from __future__ import annotations

import contextvars
import sys

from polylogit._extras import command
from polylogit._operations import OPERATIONS
from polylogit._plugins import UnfitError, claimed, hint, placeholder, unfit
from polylogit.errors import (
    BackendUnavailableError,
    UnknownBackendError,
    UnsupportedArrayError,
)

TYPE_CHECKING = False  # what type checkers read; importing typing itself would take longer than all else here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from polylogit._backends.base import Backend

    Implementation = Callable[..., Any]

    class Override(Protocol):
        """A function registered by a user; see `polylogit.register_implementation`."""

        function: Implementation

        def adapt(self, original: Implementation) -> Implementation:
            """The function with the backend's signature; `original` handles arguments that it does not have."""
            ...


__all__ = ["get_backend", "register_backend", "use_backend"]

ENTRY_POINT_GROUP = "polylogit.backends"

# operation -> exact type -> implementation(x, axis, where, dtype), or implementation(x, dtype) for sigmoid.
TABLES: dict[str, dict[type, Implementation]] = {operation: {} for operation in OPERATIONS}

# (operation, backend) -> implementation, as last published; read only right after a miss in a table.
RESOLVED: dict[tuple[str, str], Implementation] = {}

# exact type -> the backend that owns it.
_OWNERS: dict[type, Backend] = {}

# Python's numbers and sequences belong to no backend; the default backend serves them.
PYTHON_TYPES = (bool, int, float, complex, list, tuple, range)


class Specification:
    """The facts about a backend that are known before it is imported."""

    __slots__ = ("arguments", "brought_by", "distributions", "install", "name", "package", "roots", "target", "trees")

    def __init__(
        self,
        name: str,
        target: str,
        roots: tuple[str, ...],
        package: str,
        distributions: tuple[str, ...],
        install: str,
        trees: bool = False,
        brought_by: str | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.target = target  # "module:Class"
        self.roots = roots  # the top-level packages in which its array types are defined
        self.package = package  # the package that must be importable
        self.distributions = distributions  # under which names its version may be found
        self.install = install
        self.trees = trees  # whether it may know containers that Python does not; see `Backend.flatten`
        # What is installed with pip and brings it; "" for one that was registered by a call, None for polylogit's own.
        self.brought_by = brought_by
        self.arguments = arguments  # what the class is made with


def _built_in(
    name: str, cls: str, *, roots: tuple[str, ...] = (), distributions: tuple[str, ...] = (), trees: bool = False
) -> Specification:
    install = "pip install numpy" if name == "numpy" else command(name)
    target = f"polylogit._backends.{name}:{cls}"
    return Specification(name, target, (name, *roots), name, (name, *distributions), install, trees)


SPECIFICATIONS: dict[str, Specification] = {
    specification.name: specification
    for specification in (
        _built_in("numpy", "NumpyBackend"),
        _built_in("torch", "TorchBackend"),
        _built_in(
            "tensorflow",
            "TensorflowBackend",
            distributions=("tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly"),
        ),
        _built_in("jax", "JaxBackend", roots=("jaxlib",), trees=True),
    )
}

# Serves any array that follows the array API standard and that no other backend owns; found by its protocol.
_ARRAY_API = Specification(
    "array_api",
    "polylogit._backends.array_api:ArrayApiBackend",
    (),
    "array_api_compat",
    ("array-api-compat",),
    command("array-api"),
)


# By which method a type says what it is, where no framework that is known by name defines it -> the backend to ask.
_PROTOCOLS = {"__array_namespace__": _ARRAY_API.name, "__jax_array__": "jax"}


def _container(name: str, target: str, package: str, extra: str) -> Specification:
    target = f"polylogit._containers.{target}"
    return Specification(name, target, (name,), package, (name,), command(extra))


# Containers of other frameworks' arrays: found and asked for by name as backends are, and no frameworks of their own,
# so that neither the list of backends nor the kit goes through them.
CONTAINERS: dict[str, Specification] = {
    specification.name: specification
    for specification in (
        _built_in("dask", "DaskBackend"),
        _container("xarray", "labelled:XarrayBackend", "xarray", "xarray"),
        _container("pandas", "tables:PandasBackend", "narwhals", "dataframes"),
        _container("polars", "tables:PolarsBackend", "narwhals", "dataframes"),
    )
}

# What people call a framework, as its module is imported -> its backend. A backend of that name comes first.
ALIASES = {"np": "numpy", "pytorch": "torch", "tf": "tensorflow", "jnp": "jax"}

# ``array_api:MODULE`` is that backend with a library in which to make arrays: for the kit, and for ``backend=``.
NAMESPACE = f"{_ARRAY_API.name}:"

_INSTANCES: dict[str, Backend] = {}
FAILURES: dict[str, str] = {}  # name -> why its import failed, for `backends`
LEFT_OUT: dict[tuple[str, str], str] = {}  # (name, distribution) of an entry point that is not used -> why
OVERRIDES: dict[tuple[str, str], list[Override]] = {}

_default_backend: contextvars.ContextVar[str] = contextvars.ContextVar("polylogit_default_backend", default="numpy")


# --- naming backends -------------------------------------------------------------------------------------------------


def register_backend(name: str, target: str, /, *, modules: tuple[str, ...] = ()) -> None:
    """Register a backend, without importing it.

    Parameters
    ----------
    name : str
        The name for ``backend=name``; it replaces a backend of the same name.
    target : str
        ``"module:Class"``, where the class is a subclass of `polylogit.extend.Backend`. It is imported when somebody
        names the backend, or passes an array whose type is defined in one of `modules`.
    modules : tuple of str, optional
        The top-level packages that define its array types. They always include the package of `target` and a package
        called `name`.

    Raises
    ------
    ValueError
        When `target` is not of the form ``"module:Class"``.

    Examples
    --------
    >>> import polylogit
    >>> polylogit.register_backend("mine", "my_package.backend:MyBackend")

    A package does the same for all its users through the entry-point group ``polylogit.backends``.
    """
    _register(name, target, modules, "")


def _register(name: str, target: str, modules: tuple[str, ...], distribution: str) -> None:
    module, colon, cls = target.partition(":")
    if not (module and colon and cls.isidentifier()):
        message = (
            f'register_backend was given target={target!r}; write "module:Class", for example "my_package:MyBackend".'
        )
        raise UnknownBackendError(message)
    package = module.partition(".")[0]
    roots = tuple(dict.fromkeys((name, package, *modules)))
    # A plug-in is called after its framework, whose version is the one that matters.
    known_as = (name, distribution, package) if distribution else (name, package)
    install = f"pip install {distribution or package}"
    SPECIFICATIONS[name] = Specification(name, target, roots, package, known_as, install, True, distribution)
    _forget(name)


def _forget(name: str) -> None:
    """Drop what was cached for a backend, so that the next call resolves it anew."""
    _INSTANCES.pop(name, None)
    FAILURES.pop(name, None)
    for cls, owner in list(_OWNERS.items()):
        if owner.name == name:
            _OWNERS.pop(cls, None)
            for table in TABLES.values():
                table.pop(cls, None)


def clear(operation: str) -> None:
    """Empty an operation's table in place, so that implementations are resolved again: `_functions` holds the dict."""
    for cls in list(TABLES[operation]):
        if cls not in PYTHON_TYPES:
            TABLES[operation].pop(cls, None)


_scanned = False


def scan_entry_points() -> None:
    """Read the entry points once, and only after a miss: the scan costs milliseconds."""
    global _scanned  # one flag a process
    if not _scanned:
        from importlib.metadata import entry_points  # takes longer than the rest of polylogit

        found = [
            (one.name, one.dist.name if one.dist else "", one.value) for one in entry_points(group=ENTRY_POINT_GROUP)
        ]
        for name, distribution, target in sorted(found):  # so that it does not depend on the order on the disk
            _enter(name, distribution, target)
        _scanned = True


def _enter(name: str, distribution: str, target: str) -> None:
    """Register the backend of an entry point, or note why it is left out, so that its mistake affects nothing else."""
    taken = _ARRAY_API if name == _ARRAY_API.name else SPECIFICATIONS.get(name)
    if taken is not None:
        if taken.target != target and taken.brought_by != "":  # what the user registered is meant to replace it
            owner = taken.brought_by or "polylogit itself"
            LEFT_OUT[name, distribution] = (
                f"{distribution} brings a backend called {name!r}, and {owner} has that name already; it needs another"
            )
        return
    try:
        _register(name, target, (), distribution)
    except UnknownBackendError:
        LEFT_OUT[name, distribution] = (
            f'{distribution} names {target!r} as its backend; the entry point has to be of the form "module:Class"'
        )


def specification_of(name: str) -> Specification | None:
    """The facts about the backend of that name; None if it is unknown."""
    if name in SPECIFICATIONS:
        return SPECIFICATIONS[name]
    if name in CONTAINERS:
        return CONTAINERS[name]
    if name == _ARRAY_API.name:
        return _ARRAY_API
    if name.startswith(NAMESPACE):
        module = name.removeprefix(NAMESPACE)
        package = module.partition(".")[0]
        for known in (*SPECIFICATIONS.values(), *CONTAINERS.values()):
            if package in known.roots:
                message = f"backend={name!r}: {package} has a backend, {known.name!r}; write that name instead."
                raise UnknownBackendError(message)
        named = (package, package.replace("_", "-"))
        return Specification(
            name, _ARRAY_API.target, (), package, named, f"pip install {named[-1]}", arguments=(module,)
        )
    scan_entry_points()
    return SPECIFICATIONS.get(name) or SPECIFICATIONS.get(ALIASES.get(name, ""))


def meant(name: str) -> str:
    """The known name that resembles an unknown one most; empty if none does."""
    import difflib  # only for an error

    known = [*SPECIFICATIONS, *CONTAINERS, *ALIASES, _ARRAY_API.name]
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)  # CuPy is not NumPy misspelt
    return ALIASES.get(close[0], close[0]) if close else ""


def name_of_module(module: Any) -> str:
    """The name of the backend whose framework a module belongs to: `torch`, `numpy`, `jax.numpy`.

    Raises
    ------
    UnknownBackendError
        If no backend supports the arrays of that module.
    """
    root = module.__name__.partition(".")[0]
    scan_entry_points()
    for specification in (*SPECIFICATIONS.values(), *CONTAINERS.values()):
        if root in specification.roots:
            return specification.name
    message = f"the module {module.__name__} has no backend; known are {', '.join(SPECIFICATIONS)}."
    raise UnknownBackendError(message)


def _load(name: str) -> Backend:
    """The backend of that name, imported if necessary."""
    backend = _INSTANCES.get(name)
    if backend is not None:
        return backend
    specification = specification_of(name)
    if specification is None:
        message = f"backend {name!r} is not registered; known are {', '.join(SPECIFICATIONS)}. "
        if close := meant(name):
            message += f"Did you mean {close!r}?"
        else:
            if name.isidentifier():
                message += f"For a library of the array API standard write {NAMESPACE + name!r}. "
            message += f'Register it with polylogit.register_backend({name!r}, "module:Class") or install the package '
            message += "that brings it."
        told = [why for (left_out, _), why in LEFT_OUT.items() if left_out == name] or [hint((name,))]
        raise UnknownBackendError(message + "".join(f" {one}." for one in told if one))
    if specification.name != name:
        return _load(specification.name)  # by another word for it
    module, _, cls = specification.target.partition(":")
    import importlib  # as above

    try:
        brought = getattr(importlib.import_module(module), cls)
        made: Backend = (
            brought(*specification.arguments) if specification.brought_by is None else _examined(brought, name)
        )
    except UnknownBackendError:  # a wrong name, as against a framework that is broken
        raise
    except Exception as error:
        # Any exception: a broken framework fails its import in whatever way it likes.
        unusable = isinstance(error, UnfitError)
        FAILURES[name] = str(error) if unusable else f"{type(error).__name__}: {error}"
        reason = FAILURES[name] if unusable else f"importing {specification.package!r} failed with {FAILURES[name]}"
        brought_by, remedy = specification.brought_by, f"Install or repair it with `{specification.install}`"
        if brought_by:
            missing = error.name if isinstance(error, ModuleNotFoundError) else ""
            remedy = f"Install what brings the module {missing!r}" if missing else f"Repair the package {brought_by}"
            remedy += f", or take {brought_by} away with `pip uninstall {brought_by}`"
        elif unusable:
            remedy = f"Repair {specification.target}"
        message = f"backend {name!r} cannot be used: {reason}. {remedy}; the other backends still work."
        raise BackendUnavailableError(message, name=specification.package) from error
    FAILURES.pop(name, None)
    # A second thread may have been as quick; all use the one that was published first.
    return _INSTANCES.setdefault(name, made)


def _examined(brought: Any, name: str) -> Backend:
    """The backend of a plug-in, validated; raises an error if it is not a usable one."""
    if problem := unfit(brought, name):
        raise UnfitError(problem)
    made: Backend = brought()
    others: list[tuple[type, str]] = [(sys.modules["numpy"].ndarray, "numpy")] if "numpy" in sys.modules else []
    others += [(cls, owner.name) for cls, owner in list(_OWNERS.items()) if owner.name != name]
    if problem := claimed(made, [*((cls, "Python") for cls in (object, *PYTHON_TYPES)), *others]):
        raise UnfitError(problem)
    return made


def get_backend(name_or_array: Any, /) -> Backend:
    """Return the backend of that name, or the one that owns an array.

    Parameters
    ----------
    name_or_array : str, module or array
        ``"numpy"``, ``"torch"``, ``"tensorflow"``, ``"jax"`` or a registered name (its framework is imported),
        ``"array_api:MODULE"`` for a library that follows the array API standard, a framework's module, or any array.
        ``"np"``, ``"pytorch"``, ``"tf"`` and ``"jnp"`` are accepted as aliases. Python numbers and sequences belong to
        the default backend; see `use_backend`.

    Returns
    -------
    Backend

    Raises
    ------
    UnknownBackendError
        When no backend has that name.
    BackendUnavailableError
        When its framework is missing or broken.
    UnsupportedArrayError
        When no backend serves the object.

    Examples
    --------
    >>> import polylogit
    >>> polylogit.get_backend([1.0, 2.0]).name
    'numpy'
    """
    if isinstance(name_or_array, str):
        return _load(name_or_array)
    cls = type(name_or_array)
    if cls in PYTHON_TYPES:
        return default_backend()
    if cls is type(sys):
        return _load(name_of_module(name_or_array))
    return owner(cls)


def default_backend() -> Backend:
    """The backend for Python numbers and sequences."""
    return _load(_default_backend.get())


class use_backend:  # noqa: N801  a context manager, spelled like the function it is to its users
    """Use a backend for Python numbers and sequences within a ``with`` block.

    Arrays still go to the backend that owns them. The choice applies to the current thread or asyncio task.

    Parameters
    ----------
    name : str or module
        The name of a backend, or its framework's module; the framework is imported.

    Examples
    --------
    >>> import polylogit
    >>> with polylogit.use_backend("numpy"):
    ...     polylogit.sigmoid([0.0]).tolist()
    [0.5]
    """

    def __init__(self, name: Any, /) -> None:
        if type(name) is type(sys):
            name = name_of_module(name)
        if not isinstance(name, str):
            message = f'use_backend was given {name!r}; pass the name of a backend, for example "torch".'
            raise UnknownBackendError(message)
        self._backend = _load(name)
        self._name = self._backend.name if name in ALIASES else name
        self._tokens: list[contextvars.Token[str]] = []

    def __enter__(self) -> Backend:
        """Set the default, and return the backend."""
        self._tokens.append(_default_backend.set(self._name))
        return self._backend

    def __exit__(self, *_: object) -> None:
        """Restore the previous default."""
        _default_backend.reset(self._tokens.pop())


def loaded(name: str) -> Backend | None:
    """The backend of that name, if it is in use in this process."""
    return _INSTANCES.get(name)


def is_known(name: str) -> bool:
    """Whether a backend of that name is registered, not counting entry points that have not been read yet."""
    return name in SPECIFICATIONS or name in CONTAINERS or name == _ARRAY_API.name


# --- from a type to its implementation -------------------------------------------------------------------------------


def missing_plugin(cls: type) -> str:
    """How to install support for a type of a known framework, if no installed backend supports it; else empty."""
    roots = [root for root in _roots(cls) if not any(root in one.roots for one in SPECIFICATIONS.values())]
    return hint(roots)


def unsupported(cls: type, x: Any = None, *, operation: str = "softmax", argument: str = "x") -> UnsupportedArrayError:
    """The error for an object that no backend supports, with a remedy.

    Parameters
    ----------
    cls : type
        The class of the object.
    x : object, optional
        The object itself, if available.
    operation, argument : str, optional
        The operation that was called, and the argument that the object was passed as.
    """
    name = f"{getattr(cls, '__module__', 'ctypes')}.{cls.__qualname__}".removeprefix("builtins.")
    if missing := missing_plugin(cls):
        message = f"an object of the type {name}: {missing}. Or convert it first, for example with numpy.asarray."
        return UnsupportedArrayError(message)
    from polylogit._remedies import remedy  # only for an error

    if known := remedy(cls, x, operation=operation, argument=argument):
        return UnsupportedArrayError(f"{argument}, an object of the type {name}, is no array: it {known}.")
    message = (
        f"an object of the type {name} is no array that polylogit knows; it takes the arrays of "
        f"{', '.join(SPECIFICATIONS)}, Python numbers and nested sequences of them. Pass the numbers that it holds, or "
        "register a backend for it with polylogit.register_backend."
    )
    return UnsupportedArrayError(message)


def told(error: UnsupportedArrayError, x: Any, **words: str) -> UnsupportedArrayError:
    """The error of `unsupported` again, now with the object; any other error unchanged."""
    cls = type(x)
    return unsupported(cls, x, **words) if str(error) == str(unsupported(cls)) else error


def _roots(cls: type) -> Iterator[str]:
    """The top-level packages that define a class and its bases, nearest first."""
    # Arrays of ctypes have no module.
    yield from dict.fromkeys(str(getattr(base, "__module__", "")).partition(".")[0] for base in cls.__mro__)


def _candidates(cls: type) -> Iterator[str]:
    """The backends whose imported packages define a base class of `cls`, nearest first."""
    for root in _roots(cls):
        if root in sys.modules:
            for specification in (*SPECIFICATIONS.values(), *CONTAINERS.values()):
                if root in specification.roots:
                    yield specification.name


def framework_of(cls: type) -> Backend | None:
    """The backend of the framework that defines a class or a base of it, even if it is no array type; or None."""
    for name in _candidates(cls):
        return _load(name)
    return None


def with_trees() -> Iterator[Backend]:
    """The backends that may have containers of their own, if their packages are imported."""
    for specification in list(SPECIFICATIONS.values()):
        if specification.trees and specification.package in sys.modules:
            try:
                yield _load(specification.name)
            except BackendUnavailableError:
                if specification.brought_by is None:
                    raise


def owner_of(cls: type) -> Backend:
    """The backend that owns arrays of exactly this type.

    Raises
    ------
    UnsupportedArrayError
        If there is none.
    """
    owner = _OWNERS.get(cls)
    if owner is None:
        owner = _find_owner(cls)
        _OWNERS[cls] = owner
    return owner


def _find_owner(cls: type) -> Backend:
    broken: BackendUnavailableError | None = None
    for attempt in ("known", "entry points"):
        if attempt == "entry points":
            if _scanned:
                break
            scan_entry_points()
        for name in _candidates(cls):
            try:
                backend = _load(name)
            except BackendUnavailableError as error:  # a base of the type may be another's, who serves it
                broken = broken or error
                continue
            if backend.owns(cls):
                return backend
    if broken is not None:
        raise broken
    if not (missing_plugin(cls) or placeholder(cls)):
        for protocol, name in _PROTOCOLS.items():
            if hasattr(cls, protocol) and (backend := _load(name)).owns(cls):
                return backend
    raise unsupported(cls)


def implementation_of(operation: str, backend: Backend, cls: type | None = None) -> Implementation:
    """The implementation on the common path, ``(x, axis)`` or ``(x)``: the function registered last, or the backend's.

    Registered functions have this signature, so they need no wrapper.
    """
    handles = OVERRIDES.get((operation, backend.name))
    if handles:
        return handles[-1].function
    own: Implementation = getattr(backend, operation) if cls is None else backend.implementation(operation, cls)
    return own


def publish(cls: type) -> str:
    """Enter a type in the table of every operation, and return the name of its backend, the key of `RESOLVED`."""
    backend = owner_of(cls)
    for operation in OPERATIONS:
        TABLES[operation][cls] = RESOLVED[operation, backend.name] = implementation_of(operation, backend, cls)
    return backend.name


# torch.compile runs a function marked so at trace time, as plain Python, and takes its result, a string, for a
# constant; what publish does (sys.modules, inheritance, imports) cannot be traced. The mark is read by name, so torch
# is not needed to set it. Dynamo has read the table that lacked the type by then, so the caller looks in another.
publish._dynamo_marked_constant = True  # type: ignore[attr-defined]


def owner(cls: type) -> Backend:
    """Like `owner_of`, in a form that Dynamo can trace."""
    try:
        return _OWNERS[cls]
    except KeyError:
        pass  # and what is raised below has nothing above it
    return _INSTANCES[publish(cls)]
