"""`sql` answers questions about an export, and `report` writes a page; both send nothing for an export."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from helpers.written_exports import write_export

from agora_analytics.export import queries
from agora_analytics.simulator import Fault, Faults, World


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("export")
    write_export(place, format="jsonl")
    return place


def test_sql_lists_its_questions(bare):
    assert [one["name"] for one in bare("sql", "--json").lines] == list(queries.QUESTIONS)
    assert "Which country had the worst freeze rates?" in bare("sql").out


def test_sql_prints_a_question_as_it_is(bare):
    assert bare("sql", "worst_countries").out.rstrip() == queries.QUESTIONS["worst_countries"].sql.rstrip()


def test_sql_answers_a_question_without_settings(bare, folder):
    expected = queries.run("minutes_by_channel", folder)
    result = bare("sql", "minutes_by_channel", str(folder), "--json")
    assert (result.code, result.err) == (0, "")
    assert [tuple(line.values()) for line in result.lines] == list(expected.rows)
    shown = bare("sql", "minutes_by_channel", str(folder), "--limit", "3")
    assert str(expected.rows[2][1]) in shown.out
    assert f"the first 3 of {len(expected.rows)} rows" in shown.err


def test_sql_says_which_dataset_an_export_lacks(bare, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert "the export has no metrics and no sessions" in bare("sql", "who_froze_whom", str(tmp_path)).err


def test_sql_prints_the_views_of_an_export(bare, folder):
    assert "CREATE OR REPLACE VIEW sessions AS" in bare("sql", "views", str(folder)).out
    assert bare("sql", "views").code == 2


def test_a_report_of_an_export_needs_no_settings(bare, folder, tmp_path):
    week, one = tmp_path / "week.html", tmp_path / "call.html"
    result = bare("report", str(folder), "--to", str(week))
    assert (result.code, result.err) == (0, "")
    assert "<h2>Worst countries</h2>" in week.read_text()
    call_id = queries.run("worst_calls", folder).rows[0][1]
    assert bare("report", str(folder), "--call", call_id, "--to", str(one), "--json").lines == [
        {"report": str(one), "bytes": one.stat().st_size}
    ]
    assert call_id in one.read_text()


def test_a_live_report_says_its_price_and_holds_no_credential(run, call_id, environment, tmp_path):
    page = tmp_path / "call.html"
    result = run("report", "--call", call_id, "--last", "4h", "--to", str(page))
    assert result.code == 0, result.err
    assert re.search(r"the report takes about \d+ requests; --max-requests allows 50", result.err)
    assert call_id in page.read_text()
    assert environment["AGORA_CUSTOMER_SECRET"] not in page.read_text()


def test_a_live_report_beyond_its_limit_is_refused(run, call_id, tmp_path):
    result = run("report", "--call", call_id, "--last", "4h", "--max-requests", "3", "--to", str(tmp_path / "no.html"))
    assert result.code == 2
    assert "max_requests=3: the report takes 8 requests" in result.err
    assert list(tmp_path.glob("no.html")) == []


def test_a_report_that_cannot_be_written_costs_nothing(run, call_id, tmp_path):
    result = run("report", "--call", call_id, "--last", "4h", "--to", str(tmp_path))
    assert result.code == 1
    assert "is a folder, and not a file to write" in result.err
    assert "the report takes" not in result.err
    (tmp_path / "file").touch()
    assert run("report", "--call", call_id, "--last", "4h", "--to", str(tmp_path / "file" / "page.html")).code == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault("refusal", code=403, message="not in the plan"), "not in the plan"), (Fault("garbage"), "JSON")],
    ids=["refused", "damaged"],
)
def test_a_live_report_of_which_a_part_fails_is_written_with_the_rest(
    run, served, call_id, monkeypatch, tmp_path, fault, reason
):
    page = tmp_path / "call.html"
    monkeypatch.setattr(served.service, "faults", Faults.always(fault).only("call_statistics"))
    result = run("report", "--call", call_id, "--last", "4h", "--to", str(page), "--json")
    assert result.code == 1
    assert result.lines == [{"report": str(page), "bytes": page.stat().st_size}]
    for part in ("audio_freeze_rate by net", "video_freeze_rate by net"):
        assert re.search(rf"^missing: {part}: .*{reason}", result.err, re.MULTILINE)
        assert re.search(rf"<li>{part}: .*{reason}", page.read_text())
    assert re.search(r"\d+ of \d+ sessions, worst freeze rate first", page.read_text())


def test_a_live_report_shows_on_a_terminal_how_far_it_is(run, call_id, monkeypatch, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = run("report", "--call", call_id, "--last", "4h", "--to", str(tmp_path / "call.html"))
    assert result.code == 0, result.err
    assert " 8 requests" in result.err.split("--max-requests allows")[1]


@pytest.mark.slow
def test_a_live_week_shows_on_a_terminal_how_many_requests_it_has_made(run, served, monkeypatch, tmp_path):
    # Few calls, and no Data Insights: few requests.
    monkeypatch.setattr(served.service, "world", World(seed=7, calls_per_hour=1.0))
    monkeypatch.setenv("AGORA_PLAN", "standard")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    page = tmp_path / "week.html"
    result = run("report", "--max-requests", "200", "--to", str(page))
    assert result.code == 0, result.err
    made = re.search(r"Source: Call Inspector, (\d+) requests", page.read_text())
    assert made
    assert f" {made[1]} requests" in result.err.split("--max-requests allows")[1]


@pytest.mark.parametrize("words", [("sql", "worst_calls"), ("sql", "views"), ("report",)], ids=" ".join)
def test_a_damaged_export_is_an_error_without_a_traceback(bare, tmp_path, words):
    (tmp_path / "export.duckdb").write_bytes(b"no database" * 1_000)
    result = bare(*words, str(tmp_path))
    assert result.code == 1
    assert re.match(
        r"error: the export in '.*' cannot be read: .* \[kind: (state|disk)\]\nIf a run writes it", result.err
    )


@pytest.mark.parametrize("words", [("sql", "worst_calls", "."), ("report", ".")], ids=" ".join)
def test_without_duckdb_a_command_says_what_to_install(bare, monkeypatch, words):
    monkeypatch.delitem(sys.modules, "agora_analytics.export.queries.running", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = bare(*words)
    assert result.code == 2
    assert 'python -m pip install "agora-analytics[duckdb]"' in result.err
