"""The page on the command line says what the program does: its commands, statuses, examples and completion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polylogit._cli import polylogit as program
from polylogit._commands import COMMANDS, COMPLETION, INTERRUPTED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
STATUS = re.compile(r"^\| (\d+) \| (.*) \|$", re.MULTILINE)


def test_the_page_lists_the_commands_of_the_program() -> None:
    listed = dict(re.findall(r"^\| \[`(\S+)`\]\(#\S+\) \| (.*) \|$", PAGE, re.MULTILINE))
    assert listed == {name: command.line for name, command in COMMANDS.items()}
    assert set(listed) == set(program.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_its_statuses_and_an_example(name: str) -> None:
    assert {int(status): words for status, words in STATUS.findall(SECTIONS[name])} == COMMANDS[name].statuses
    assert f"```sh\n{COMMANDS[name].example}\n```" in SECTIONS[name]


def test_every_status_is_explained() -> None:
    overview = PAGE.partition("## Exit statuses")[2].partition("## ")[0]
    used = {status for command in COMMANDS.values() for status in command.statuses}
    assert {int(status) for status, _ in STATUS.findall(overview)} == used | {INTERRUPTED}


@pytest.mark.parametrize("shell", COMPLETION)
def test_the_lines_for_completion_are_on_the_page(shell: str) -> None:
    assert COMPLETION[shell] in PAGE.replace("\\|", "|")
