"""Every command has a help page, which `-h` shows too, and the example on it runs."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from helpers.unlimited_rates import without_rate_limits
from typer.main import get_command

from agora_analytics import Plan
from agora_analytics.cli.app import app
from agora_analytics.plans import PLANS


def pages(group: typer.core.TyperGroup, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Return the help text of every command and group, by its words on the command line."""
    found = {prefix: group.help or ""}
    for name, command in group.commands.items():
        words = (*prefix, name)
        found |= pages(command, words) if isinstance(command, typer.core.TyperGroup) else {words: command.help or ""}
    return found


PAGES = pages(get_command(app))
LEAVES = {words: text for words, text in PAGES.items() if words not in {(), ("calls",), ("insights",), ("realtime",)}}


def example(text: str) -> list[str]:
    """Return the words of the example on a page, without the name of the program."""
    (line,) = re.findall(r"^Example[^:]*: agora-analytics (.+)$", text, re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_both_spellings_of_the_option_show_the_page(bare, words):
    short, long = bare(*words, "-h"), bare(*words, "--help")
    assert (short.code, long.code) == (0, 0)
    assert short.out == long.out
    assert " ".join(["Usage: agora-analytics", *words]) in short.out


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_a_page_has_an_example_of_its_command(words):
    assert example(PAGES[words])[: len(words)] == list(words)


FLEET = """
store_file = "store"
[accounts.acme]
plan = "premium"
customer_id_file = "store"
customer_secret_file = "store"
"""

ENDLESS = {("simulate",), ("fleet", "worker")}
"""Commands whose examples run until they are stopped."""


@pytest.mark.parametrize("words", [words for words in PAGES if words not in ENDLESS], ids=" ".join)
def test_the_example_runs(run, request, monkeypatch, tmp_path, words):
    """All but those that run until they are stopped; the demo runs without its windows, which take long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PLANS, "enterprise", without_rate_limits(Plan.of("enterprise")))
    if words[:1] == ("fleet",):
        (tmp_path / "fleet.toml").write_text(FLEET)
        (tmp_path / "store").write_text("memory://help")
    line = [request.getfixturevalue("call_id") if word == "CALL_ID" else word for word in example(PAGES[words])]
    if line[0] == "demo":
        line = ["demo", "--windows", "0"]
    result = run(*line)
    assert result.code == 0, result.err
    # It has no result, and says on standard error what follows.
    assert result.out or words == ("fleet", "drain")


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_option_is_explained(bare, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "200")
    options = re.findall(r"^│ \*? *--.*$", bare(*words, "--help").out, re.MULTILINE)
    assert [line for line in options if not re.search(r"  [A-Z].*[.)\]] *│$", line)] == []


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_option_and_its_explanation_can_be_read_in_full_at_80_columns(bare, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    shown = bare(*words, "--help").out
    command = get_command(app)
    for word in words:
        command = command.commands[word]
    options = [name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")]
    explained = " ".join(one.help for one in command.params if one.help).split()
    assert [one for one in (*options, *explained) if one not in shown] == []


def test_rebuild_says_what_it_accepts(bare):
    shown = re.sub(r"[\s│]+", " ", bare("export", "--help").out)
    assert "accept missing or changed ones, and rebuild a lost state from manifest.json." in shown


def test_the_account_is_the_last_panel(bare):
    panels = re.findall(r"^╭─ (\w+)", bare("calls", "search", "--help").out, re.MULTILINE)
    assert panels == ["Options", "Time", "Output", "Calls", "Account"]


def test_the_exit_codes_are_explained(bare):
    assert "2 wrong usage" in bare("--help").out
    shown = " ".join(bare("export", "--help").out.split())
    assert "Exit code: 0 if all selected rows are exported, 1 if some are skipped" in shown
    assert "--dry-run exits with 0" in shown
