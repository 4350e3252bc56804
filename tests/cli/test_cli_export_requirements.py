"""The requirements of an export are checked before the first request; a dry run only notes them."""

from __future__ import annotations

import re
import sys

import pytest


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an installation with the extra `cli` only."""
    monkeypatch.setattr("agora_analytics.export.formats.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "fsspec", None)  # makes its import fail
    monkeypatch.delitem(sys.modules, "agora_analytics.export.sinks.remote", raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("data",),
            "format='parquet' needs pyarrow: python -m pip install \"agora-analytics[parquet]\"; without anyth",
        ),
        (("data", "--format", "duckdb"), "format='duckdb' needs duckdb, pyarrow: python -m pip install"),
        (
            ("s3://bucket/data", "--format", "csv"),
            'a URL needs fsspec: python -m pip install "agora-analytics[remote]"',
        ),
    ],
)
@pytest.mark.usefixtures("bare_machine")
def test_an_export_without_its_library_is_refused_and_a_dry_run_is_not(run, served, arguments, message):
    before = sum(served.service.counts.values())
    result = run("export", *arguments, "--last", "1h")
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert sum(served.service.counts.values()) == before
    planned = run("export", *arguments, "--last", "1h", "--dry-run")
    assert planned.code == 0, planned.err
    assert f"the export itself cannot run yet: {message}" in planned.err.replace("to: a URL", "a URL")


@pytest.mark.parametrize("planned", [("--dry-run",), ()], ids=["dry run", "run"])
def test_an_unknown_format_is_refused_before_a_request_is_sent(run, served, planned):
    before = sum(served.service.counts.values())
    result = run("export", "data", *planned, "--last", "1h", "--format", "cvs")
    assert (result.code, result.out) == (2, "")
    assert "format='cvs': allowed are jsonl" in result.err
    assert sum(served.service.counts.values()) == before


def test_a_dry_run_refuses_a_url_with_an_unknown_protocol(run):
    result = run("export", "nowhere://bucket/data", "--dry-run", "--last", "1h", "--format", "csv")
    assert result.code == 2
    assert "to='nowhere://bucket/data': Protocol not known: nowhere" in result.err


@pytest.mark.usefixtures("bare_machine")
def test_a_dry_run_of_csv_needs_no_extra(run):
    assert run("export", "--dry-run", "--last", "1h", "--format", "csv").code == 0


def test_a_dry_run_prints_the_range_of_calls_that_a_filter_may_let_through(run):
    arguments = ("export", "--dry-run", "--last", "3d", "--min-freeze-rate", "0.03", "--format", "csv")
    assert re.match(r"about [\d,]+ calls \([\d,]+ to [\d,]+\); this estimate took \d+ requests\n", run(*arguments).out)
    low, high = run(*arguments, "--json").lines[-1]["calls_range"]
    assert 0 < low < high


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
