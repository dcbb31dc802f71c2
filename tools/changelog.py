"""The changelog at a release: dates the unreleased entries as a version, and prints them as release notes.

    python tools/changelog.py release 0.1.0 2026-12-01    # rewrites CHANGELOG.md
    python tools/changelog.py notes 0.1.0                 # prints the notes of the release

`notes` raises an error for a version other than the package's, or without a date, so a tag cannot be ahead of either.
"""

from __future__ import annotations

import datetime
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
UNRELEASED = "## Unreleased\n"
_HEADING = re.compile(r"^## (\S+)(?: - (\d{4}-\d\d-\d\d))?\n", re.MULTILINE)


class ChangelogError(ValueError):
    """The changelog is not as the command needs it."""


def sections(text: str) -> dict[str, tuple[str, str]]:
    """The date, empty where there is none, and the text of each version, newest first."""
    found = list(_HEADING.finditer(text))
    ends = [one.start() for one in found[1:]] + [len(text)]
    return {one[1]: (one[2] or "", text[one.end() : end].strip()) for one, end in zip(found, ends, strict=True)}


def released(text: str, version: str, date: str) -> str:
    """The text with all that is unreleased under the version and its date, and an empty heading for what comes next."""
    datetime.date.fromisoformat(date)
    there = sections(text)
    if version in there:
        raise ChangelogError(f"{version} is in the changelog already, dated {there[version][0]}.")
    if not there.get("Unreleased", ("", ""))[1]:
        raise ChangelogError("Nothing is under 'Unreleased'; a release would say nothing.")
    return text.replace(UNRELEASED, f"{UNRELEASED}\n## {version} - {date}\n", 1)


def notes(text: str, version: str, package: str) -> str:
    """What the release of a version says, where the package has that version and the changelog its date."""
    if version != package:
        raise ChangelogError(f"The tag is of {version}, src/polylogit/__about__.py says {package}; they have to agree.")
    date, body = sections(text).get(version, ("", ""))
    if not date:
        command = f"python tools/changelog.py release {version} YYYY-MM-DD"
        raise ChangelogError(f"{version} has no part with a date in CHANGELOG.md; make it with `{command}`.")
    return f"Released {date}.\n\n{body}\n"


def main(command: str, version: str, *date: str) -> None:
    """See the first lines of the file."""
    text = CHANGELOG.read_text(encoding="utf-8")
    if command == "release" and len(date) == 1:
        CHANGELOG.write_text(released(text, version, *date), encoding="utf-8")
    elif command == "notes" and not date:
        about = runpy.run_path(str(ROOT / "src/polylogit/__about__.py"))
        sys.stdout.write(notes(text, version, about["__version__"]))
    else:
        raise ChangelogError(f"{command} {version} {' '.join(date)} is no command; the file's first lines have both.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ChangelogError, TypeError) as error:
        sys.exit(str(error))
