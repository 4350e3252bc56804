"""The shell blocks of README and docs run in bash, unchanged, and print the words that the page shows below them.

A page is one session: its blocks run in order in one folder, against the simulator. A block that cannot run here has
the line `<!-- not run: … -->` above it, with the reason; its commands of `agora-analytics` are only parsed. So are
those in sentences and tables.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest
import typer
from helpers.page_programs import recent_span
from helpers.pages import PAGES, name_of
from helpers.paths import HELPERS, ROOT
from helpers.shell_blocks import blocks, inline_commands, programs, saved_files

BLOCKS = blocks()
RUN = {page: list(found) for page, found in groupby((one for one in BLOCKS if not one.reason), lambda one: one.page)}
PROGRAMS = {"agora-analytics", "python", ".", "curl", "export", "head", "umask"}
"""What a block without a mark may use."""

BASH = shutil.which("bash")
VARYING = re.compile(r"^(?:\d\. |only calls |still open: |no room for: |the first ).*$", re.MULTILINE)
FILES = {"acme.toml": 'plan = "enterprise"\n', "webhook.url": "http://127.0.0.1:9/hook\n"}
"""Files that a page says are there."""


def words(text: str) -> list[str]:
    """Return the words of a text, without values: those have digits, or are not in Latin letters."""
    return [word for word in re.findall(r"[\w./'-]+", text) if re.fullmatch(r"[A-Za-z_'-]{2,}", word)]


def fixed_words(shown: str) -> set[str]:
    """Return the words of what a page shows, without tables and lines that depend on the calls.

    A column in which no row has a value is left out, so that titles depend on them, too.
    """
    without_rows = re.sub(r"(─{9,}\n).*?(?=\n\n|\n\w+ (?:to|by|room) |\Z)", r"\1", shown, flags=re.DOTALL)
    without_rows = re.sub(r"(?:^.+\n){1,3}(?=─{9,})", "", without_rows, flags=re.MULTILINE)
    without_rows = re.sub(r"├.*?└", "", without_rows, flags=re.DOTALL)
    return set(words(VARYING.sub("", without_rows)))


@pytest.fixture
def parse(bare, monkeypatch):
    """Return a function that parses a command line of `agora-analytics` as far as that goes without running it."""
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", lambda command, context: None)

    def parse(command: list[str]) -> str:
        return bare(*command[1:]).err

    return parse


def test_a_block_without_a_mark_uses_programs_that_are_here():
    used = {one.name: {command[0] for command in programs(one.text)} - PROGRAMS for one in BLOCKS if not one.reason}
    assert {name: others for name, others in used.items() if others} == {}
    assert len(BLOCKS) > 50
    assert sum(bool(one.shown) for one in BLOCKS) >= 14


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_command_of_a_page_is_accepted(page, parse):
    commands = [command for one in BLOCKS if one.page == page for command in programs(one.text)] + inline_commands(page)
    own = [command for command in commands if command[0] == "agora-analytics" and "--install-completion" not in command]
    assert {" ".join(command): error for command in own if (error := parse(command))} == {}


@pytest.fixture
def exported_call(run):
    """Return the largest finished call of those that the pages export."""
    calls = run("calls", "search", *recent_span(), "--json").lines
    return max((call for call in calls if call["finished"]), key=lambda call: call["call_pcu"])["call_id"]


@pytest.fixture
def session(environment, exported_call, run, tmp_path, monkeypatch):
    """Return a function that runs a text in bash, and returns what it prints; it must not fail."""
    folder, home = tmp_path / "folder", tmp_path / "home"
    for path in (folder, home / "bin"):
        path.mkdir(parents=True)
    for program in ("agora-analytics", "python"):
        script = home / "bin" / program
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HELPERS}/page_programs.py" {program} "$@"\n')
        script.chmod(0o755)
    (home / ".curlrc").write_text("fail\n")
    variables = {
        **environment,
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "HOME": str(home),
        # As in a terminal.
        "COLUMNS": "118",
        "FORCE_COLOR": "1",
        "TERM": "xterm",
    }
    (first, *_) = run("calls", "sessions", exported_call, "--json").lines
    end = int(time.time()) - 3_600
    values = {
        r"\b(?:[0-9A-F]{32}|CALL_ID)\b": exported_call,
        r"\bSID\b": first["sid"],
        r"(?<=start_ts=)\d+": f"{end - 600}",
        r"(?<=end_ts=)\d+": f"{end}",
        r"https://api\.agora\.io": environment["AGORA_BASE_URL"],
    }

    def session(text: str) -> str:
        for pattern, value in values.items():
            text = re.sub(pattern, value, text)
        with subprocess.Popen(
            [str(BASH), "-e", "-c", text],
            cwd=folder,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as shell:
            try:
                printed, _ = shell.communicate(timeout=300)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)  # with what it has started
                raise
        assert shell.returncode == 0, f"{text}\n{printed}"
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed)

    session.folder = folder
    return session


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(BASH is None or os.name == "nt", reason="the blocks are for bash, which is missing")
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_blocks_of_a_page_run_and_print_what_it_shows(page, session):
    for name, text in (FILES | saved_files(page)).items():
        Path(session.folder, name).write_text(text, encoding="utf-8")
        Path(session.folder, name).chmod(0o600)
    for one in RUN[page]:
        printed = session(one.text)
        assert fixed_words(one.shown) - set(words(printed)) == set(), one.text
