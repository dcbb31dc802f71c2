"""``polylogit new-backend``: writes the skeleton of a package with a backend, from the templates.

Knows files, names and click, and no framework.
"""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template

import click

from polylogit import _registry as registry
from polylogit.errors import UnknownBackendError

__all__ = ["new_backend"]

_TEMPLATES = Path(__file__).parent / "templates" / "new_backend"
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "__init__.py.txt": "src/polylogit_{name}/__init__.py",
    "backend.py.txt": "src/polylogit_{name}/backend.py",
    "test_conform.py.txt": "tests/test_conform.py",
}


def _write(name: str, module: str, into: Path) -> Path:
    """Write the package, and return its folder; refuse to overwrite an existing one."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        message = f"{name!r} is no name for a backend; take the package that defines the arrays, in small letters."
        raise UnknownBackendError(message)
    if not all(part.isidentifier() for part in module.split(".")):
        message = f"{module!r} is no module; write what stands after `import`, for example {name}.numpy."
        raise UnknownBackendError(message)
    taken = registry.SPECIFICATIONS.get(name)
    if registry.is_known(name) and (taken is None or taken.brought_by is None):
        message = f"{name!r} is one of polylogit's own backends; give yours another name."
        raise UnknownBackendError(message)
    dashed = name.replace("_", "-")
    folder = into / f"polylogit-{dashed}"
    if folder.exists():
        message = f"{folder} is there already, and nothing is written over; move it away or choose another --into."
        raise UnknownBackendError(message)
    cls = "".join(part.capitalize() for part in name.split("_")) + "Backend"
    for template, place in _FILES.items():
        path = folder / place.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((_TEMPLATES / template).read_text(encoding="utf-8"))
        path.write_text(text.substitute(name=name, dashed=dashed, module=module, cls=cls), encoding="utf-8")
    return folder


@click.argument("name")
@click.option("--module", help="The module with the functions of the arrays; NAME by default.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="The directory in which to create the package.",
)
def new_backend(name: str, module: str | None, into: Path) -> None:
    """Write the skeleton of a package with a backend for the framework NAME.

    NAME is the top-level package that defines the arrays. If the framework's functions have the names of the array API
    standard, the package works and passes its tests unchanged; otherwise each method says what to change.
    """
    folder = _write(name, module or name, into)
    click.echo(f'{folder} is written. In it: pip install -e ".[test]", pytest, polylogit conform --backend {name}')
