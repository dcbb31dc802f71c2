"""The README as it reads where packages are shown, and the addresses beside it.

A page of a package has no folder in which ``docs/start.md`` would be. So the build writes absolute addresses, of the
commit or tag that is built, into links and pictures. It learns where the repository is from POLYLOGIT_REPOSITORY, which
the workflow of a release sets to where it runs, so that no address stands in a file and none can go stale. Without one,
links become their text and pictures are left out: what is shown is whole, and promises nothing.

    POLYLOGIT_REPOSITORY=https://example.org/polylogit/polylogit python tools/where_shown.py    # to look at it

`setup.py` runs this file, so it needs nothing but Python.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PICTURE = re.compile(r"<picture>.*?</picture>\n*|!\[[^\]]*\]\([^)]*\)\n*", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")
_IMAGE = re.compile(r"(!\[[^\]]*\]\(|\b(?:src|srcset)=\")(?![a-z]+:|#)([^)\"\s]+)")
_CODE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)


def readme(text: str, repository: str, revision: str) -> str:
    """The text with absolute links and pictures; without a repository, with neither.

    Examples
    --------
    >>> readme("[Start](docs/start.md)", "https://example.org/a/b", "v1")
    '[Start](https://example.org/a/b/blob/v1/docs/start.md)'
    >>> readme("[Start](docs/start.md)", "", "v1")
    'Start'
    """
    code = _CODE.findall(text)
    prose = [_prose(part, repository, revision) for part in _CODE.split(text)]
    return "".join(one for pair in zip(prose, [*code, ""], strict=True) for one in pair)


def _prose(text: str, repository: str, revision: str) -> str:
    if not repository:
        return _LINK.sub(r"\1", _PICTURE.sub("", text))
    text = _IMAGE.sub(rf"\g<1>{repository}/raw/{revision}/\2", text)
    return _LINK.sub(rf"[\1]({repository}/blob/{revision}/\2)", text)


def addresses(repository: str, revision: str) -> dict[str, str]:
    """What is listed beside the description; empty where it is not known."""
    if not repository:
        return {}
    return {
        "Source": repository,
        "Documentation": f"{repository}/blob/{revision}/docs/index.md",
        "Changelog": f"{repository}/blob/{revision}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def shown(version: str) -> tuple[str, dict[str, str]]:
    """The README and the addresses, by the environment; without POLYLOGIT_REVISION, of the tag of the version."""
    repository = os.environ.get("POLYLOGIT_REPOSITORY", "").rstrip("/").removesuffix(".git")
    revision = os.environ.get("POLYLOGIT_REVISION") or f"v{version}"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme(text, repository, revision), addresses(repository, revision)


if __name__ == "__main__":
    print(shown("0")[0])
