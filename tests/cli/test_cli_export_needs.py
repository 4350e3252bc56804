"""What an export needs is said before it is planned, as it is before it is run."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the extra `cli` brings is installed."""
    monkeypatch.setattr("agora_analytics.export.formats.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "fsspec", None)  # as an import sees what is not there
    monkeypatch.delitem(sys.modules, "agora_analytics.export.sinks.remote", raising=False)


@pytest.mark.parametrize("planned", [("--dry-run",), ()], ids=["dry run", "run"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "format='parquet' needs pyarrow: pip install \"agora-analytics[parquet]\"; without anything more there"),
        (("--format", "duckdb"), "format='duckdb' needs duckdb, pyarrow: pip install"),
        (("--format", "cvs"), "format='cvs': allowed are jsonl"),
    ],
)
@pytest.mark.usefixtures("bare_machine")
def test_a_format_that_cannot_be_written_is_refused_before_anything_is_asked(run, served, planned, arguments, said):
    before = sum(served.service.counts.values())
    ran = run("export", "data", *planned, "--last", "1h", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert sum(served.service.counts.values()) == before


@pytest.mark.usefixtures("bare_machine")
def test_a_url_without_fsspec_is_refused_when_it_is_planned(run):
    ran = run("export", "s3://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert ran.code == 2
    assert 'a URL needs fsspec: pip install "agora-analytics[remote]"' in ran.err


def test_a_store_that_nobody_knows_is_refused_when_it_is_planned(run):
    ran = run("export", "nowhere://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert ran.code == 2
    assert "to='nowhere://bucket/data': Protocol not known: nowhere" in ran.err


@pytest.mark.usefixtures("bare_machine")
def test_a_plan_of_a_format_that_needs_nothing_more_is_made(run):
    assert run("export", "--dry-run", "--last", "1h", "--format", "csv").code == 0


def test_a_span_longer_than_the_plan_keeps_is_not_cut_but_told_as_expired(run):
    ran = run("export", "--dry-run", "--last", "400d", "--json")
    assert ran.code == 0, ran.err
    (expired,) = ran.lines[-1]["expired"]
    assert (expired["what"], expired["reason"]) == ("calls", "expired")
    assert expired["span"]["end"] - expired["span"]["start"] > 380 * 86_400
    assert "more than the plan keeps" not in ran.err


@pytest.mark.parametrize("arguments", [("--plan", "--last"), ("--plan", "data"), ("data", "--plan", "gold")])
def test_a_plan_that_is_none_is_refused_with_the_word_for_a_dry_run(run, served, arguments):
    before = served.service.counts.total()
    ran = run("export", *arguments, "--format", "csv")
    assert (ran.code, ran.out) == (2, "")
    assert "--dry-run estimates what an export takes" in ran.err
    assert served.service.counts.total() == before


def test_an_export_takes_the_plan_by_the_word_that_all_commands_have(run):
    ran = run("export", "--dry-run", "--plan", "standard", "--last", "3d", "--json", "--format", "csv")
    assert ran.code == 0, ran.err
    assert ran.lines[-1]["expired"]
