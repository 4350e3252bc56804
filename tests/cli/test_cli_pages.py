"""The commands of the tutorial run, and print what the tutorial shows: the same sentences and columns, other values."""

from __future__ import annotations

import re
import shlex
import time

import pytest
from helpers.paths import ROOT

STEPS = [
    pytest.param(command, shown, id=f"{page.stem}: {command[:60]}")
    for page in sorted((ROOT / "docs/tutorial").glob("*.md"))
    for command, shown in re.findall(
        r"```sh\nagora-analytics ([^\n]*)\n```\n\n```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
]
ENDLESS = ("simulate", "serve")
VARYING = re.compile(r"^(?:\d\. |only calls |still open: |no room for: ).*$", re.MULTILINE)


def words(text: str) -> list[str]:
    """Return the words of a text, without values: those have digits, or are not in Latin letters."""
    return [word for word in re.findall(r"[\w./'-]+", text) if re.fullmatch(r"[A-Za-z_'-]{2,}", word)]


def fixed_words(shown: str) -> set[str]:
    """Return the words of what a page shows, without rows of tables and lines that depend on the calls."""
    without_rows = re.sub(r"(─{9,}\n).*?(?=\n\n|\n\w+ (?:to|by|room) |\Z)", r"\1", shown, flags=re.DOTALL)
    return set(words(VARYING.sub("", without_rows)))


def test_the_tutorial_shows_what_its_commands_print():
    assert len(STEPS) >= 11


@pytest.mark.parametrize(("command", "shown"), [step for step in STEPS if not step.values[0].startswith(ENDLESS)])
def test_a_command_of_the_tutorial_prints_what_the_page_shows(command, shown, run, call_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "118", "FORCE_COLOR": "1", "TERM": "xterm"}.items():  # as in a terminal
        monkeypatch.setenv(name, value)
    end = int(time.time()) - 3_600
    command = re.sub(r"\b[0-9A-F]{32}\b", call_id, command)
    # Details that are queryable already, so that the export does not wait.
    command = command.replace("--last 1h", f"--start {end - 600} --end {end}")
    ran = run(*shlex.split(command), *(["--windows", "9"] if command.startswith("watch") else []))
    assert ran.code == 0, ran.err
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", ran.out + ran.err)
    assert fixed_words(shown) - set(words(printed)) == set()
