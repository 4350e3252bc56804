"""The requirements of an export are checked before the first request, also in a dry run."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an installation with the extra `cli` only."""
    monkeypatch.setattr("agora_analytics.export.formats.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "fsspec", None)  # makes its import fail
    monkeypatch.delitem(sys.modules, "agora_analytics.export.sinks.remote", raising=False)


@pytest.mark.parametrize("planned", [("--dry-run",), ()], ids=["dry run", "run"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "format='parquet' needs pyarrow: pip install \"agora-analytics[parquet]\"; without anything more there"),
        (("--format", "duckdb"), "format='duckdb' needs duckdb, pyarrow: pip install"),
        (("--format", "cvs"), "format='cvs': allowed are jsonl"),
    ],
)
@pytest.mark.usefixtures("bare_machine")
def test_a_format_without_its_library_is_refused_before_a_request_is_sent(run, served, planned, arguments, message):
    before = sum(served.service.counts.values())
    result = run("export", "data", *planned, "--last", "1h", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert sum(served.service.counts.values()) == before


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_refuses_a_url_without_fsspec(run):
    result = run("export", "s3://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert result.code == 2
    assert 'a URL needs fsspec: pip install "agora-analytics[remote]"' in result.err


def test_a_dry_run_refuses_a_url_with_an_unknown_protocol(run):
    result = run("export", "nowhere://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert result.code == 2
    assert "to='nowhere://bucket/data': Protocol not known: nowhere" in result.err


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_of_csv_needs_no_extra(run):
    assert run("export", "--dry-run", "--last", "1h", "--format", "csv").code == 0


def test_a_span_beyond_the_retention_is_not_cut_but_reported_as_expired(run):
    result = run("export", "--dry-run", "--last", "400d", "--json")
    assert result.code == 0, result.err
    (expired,) = result.lines[-1]["expired"]
    assert (expired["what"], expired["reason"]) == ("calls", "expired")
    assert expired["span"]["end"] - expired["span"]["start"] > 380 * 86_400
    assert "longer than the plan keeps" not in result.err


@pytest.mark.parametrize("arguments", [("--plan", "--last"), ("--plan", "data"), ("data", "--plan", "gold")])
def test_an_unknown_plan_is_refused_with_a_hint_about_dry_run(run, served, arguments):
    before = served.service.counts.total()
    result = run("export", *arguments, "--format", "csv")
    assert (result.code, result.out) == (2, "")
    assert "--dry-run estimates what an export takes" in result.err
    assert served.service.counts.total() == before


def test_plan_is_the_pricing_plan_in_export_too(run):
    result = run("export", "--dry-run", "--plan", "standard", "--last", "3d", "--json", "--format", "csv")
    assert result.code == 0, result.err
    assert result.lines[-1]["expired"]
