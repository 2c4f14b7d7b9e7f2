"""docs/notebook.md and the README name what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nbqueue.client.live.display import VARIABLE
from nbqueue.notebook.magic_actions import _short_path
from nbqueue.notebook.magic_arguments import command_names, make_parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "notebook.md").read_text()
COMMANDS = command_names(make_parser())


def test_every_command_is_on_the_page_and_every_one_there_exists() -> None:
    named = set(re.findall(r"`%nbqueue ([a-z]+)", PAGE))
    assert named == set(COMMANDS)


def test_every_option_there_exists() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `%nbqueue")]
    for command, options in re.findall(r"`%nbqueue ([a-z]+)([^`]*)`", "\n".join(rows)):
        known = {word for action in COMMANDS[command]._actions for word in action.option_strings}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", options)) <= known
    more = re.findall(r"^\| `… (--[a-z-]+)", PAGE, re.MULTILINE)
    assert len(more) == 3
    known = {word for action in COMMANDS["up"]._actions for word in action.option_strings}
    assert set(more) <= known


def test_the_readme_has_all_commands_too() -> None:
    table = "\n".join(
        line.split("|")[1]
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| `%nbqueue")
    )
    assert set(re.findall(r"(?<=[` ])[a-z]+", table)) - {"nbqueue"} == set(COMMANDS)


def test_the_variable_there_is_the_one_that_is_read() -> None:
    assert f"`{VARIABLE}=0`" in PAGE


def test_a_path_is_shown_without_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert _short_path("/home/ann/state/a.log") == "~/state/a.log"
    assert _short_path("/home/anna/a.log") == "/home/anna/a.log"
