"""The README's two commands are those that continuous integration runs, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)\n```", README, re.MULTILINE | re.DOTALL)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_there_are_two_commands_of_one_line_each() -> None:
    assert len(COMMANDS) == 2
    assert not any("\n" in command for command in COMMANDS)


def test_the_first_command_proves_and_the_second_tests() -> None:
    assert COMMANDS[0].endswith("polylogit conform")
    assert "pytest" in COMMANDS[1]


def test_continuous_integration_runs_the_test_command_word_for_word() -> None:
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_both_commands_install_the_pinned_versions() -> None:
    assert all("-c tests/constraints.txt" in command for command in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for target in (first or second for first, second in targets):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            words = linked.read_text()
            headings = [
                re.sub(r"[^\w -]", "", line.lstrip("# ")).lower() for line in words.splitlines() if line[:1] == "#"
            ]
            assert f"({anchor})=" in words or anchor in [one.replace(" ", "-") for one in headings], target
