"""What an export requires is checked before the first request, by a dry run too."""

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
def test_a_format_without_its_library_is_refused_before_a_request_is_sent(run, served, planned, arguments, said):
    before = sum(served.service.counts.values())
    ran = run("export", "data", *planned, "--last", "1h", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert sum(served.service.counts.values()) == before


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_refuses_a_url_without_fsspec(run):
    ran = run("export", "s3://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert ran.code == 2
    assert 'a URL needs fsspec: pip install "agora-analytics[remote]"' in ran.err


def test_a_dry_run_refuses_a_url_with_an_unknown_protocol(run):
    ran = run("export", "nowhere://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert ran.code == 2
    assert "to='nowhere://bucket/data': Protocol not known: nowhere" in ran.err


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_of_csv_needs_no_extra(run):
    assert run("export", "--dry-run", "--last", "1h", "--format", "csv").code == 0


def test_a_span_beyond_the_retention_is_not_cut_but_reported_as_expired(run):
    ran = run("export", "--dry-run", "--last", "400d", "--json")
    assert ran.code == 0, ran.err
    (expired,) = ran.lines[-1]["expired"]
    assert (expired["what"], expired["reason"]) == ("calls", "expired")
    assert expired["span"]["end"] - expired["span"]["start"] > 380 * 86_400
    assert "longer than the plan keeps" not in ran.err


@pytest.mark.parametrize("arguments", [("--plan", "--last"), ("--plan", "data"), ("data", "--plan", "gold")])
def test_an_unknown_plan_is_refused_with_a_hint_about_dry_run(run, served, arguments):
    before = served.service.counts.total()
    ran = run("export", *arguments, "--format", "csv")
    assert (ran.code, ran.out) == (2, "")
    assert "--dry-run estimates what an export takes" in ran.err
    assert served.service.counts.total() == before


def test_plan_is_the_pricing_plan_in_export_too(run):
    ran = run("export", "--dry-run", "--plan", "standard", "--last", "3d", "--json", "--format", "csv")
    assert ran.code == 0, ran.err
    assert ran.lines[-1]["expired"]
