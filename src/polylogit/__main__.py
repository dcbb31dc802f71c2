"""``polylogit`` and ``python -m polylogit``: the commands of `polylogit._cli`, or what to install for them.

What they need beyond NumPy is in the extra ``conformance``.
"""

from __future__ import annotations

import sys

from polylogit._extras import command

__all__ = ["main"]

_NEEDED = ("click", "rich", "mpmath", "jinja2", "ml_dtypes", "safetensors")


def main() -> None:
    """The entry point of the console script."""
    try:
        from polylogit._cli import polylogit  # needs click, which may be missing

        polylogit()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        install = command("conformance")
        sys.stderr.write(f"polylogit: the command line needs {error.name}; install it with: {install}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
