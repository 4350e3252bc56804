"""Reports are one safe HTML file: hostile names are text, missing data is said, figures have units and sources."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.written_exports import SELECTION, write_export, write_rows

from agora_analytics import Span
from agora_analytics.export import queries
from agora_analytics.ops import report

HOSTILE = "<script>alert(1)</script>\"'><img src=//x onerror=y>&amp;\u202eevil\x00</style></title>"


class Page(HTMLParser):
    """The elements, attributes and text of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def assert_safe(page: Page) -> None:
    """Fail if a document has anything that runs, loads or submits."""
    assert not {"script", "img", "link", "iframe", "object", "form", "a", "base"} & set(page.elements)
    assert [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "style"}] == []
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'") in (
        page.attributes
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("export")
    write_export(place, format="parquet")
    return place


@pytest.fixture(scope="module")
def worst(folder) -> dict[str, Any]:
    result = queries.run("who_froze_whom", folder)
    return dict(zip(result.columns, result.rows[0], strict=True))


def test_the_report_of_a_week_has_the_answers_with_units_and_sources(folder):
    page = Page(report.week(folder))
    assert_safe(page)
    calls, minutes = (queries.run("trend_by_day", folder).rows, queries.run("minutes_by_channel", folder).rows)
    assert f"calls {sum(row[1] for row in calls)} minutes of calls {sum(row[2] for row in calls):,.0f} min" in page.text
    assert f"user minutes {sum(row[2] for row in minutes):,.0f} min" in page.text
    country, users, _, video = queries.run("worst_countries", folder).rows[0]
    assert f"{country} {users} " in page.text
    assert f"{video * 100:.1f} %" in page.text
    for name in (name for name in queries.QUESTIONS if name != "trend_by_week"):
        assert f"Source: export, question {name}" in page.text
    assert page.elements.count("svg") > 10


def test_the_report_of_a_week_says_which_time_the_export_does_not_cover(folder):
    first, end = SELECTION.span
    assert "and not the whole span of the report" in Page(report.week(folder)).text
    assert "and not the whole span of the report" not in Page(report.week(folder, span=Span(first, end))).text


def test_the_report_of_a_call_has_its_sessions_freezes_and_pairs(folder, worst):
    page = Page(report.call(folder, worst["call_id"]))
    assert_safe(page)
    assert f"Call in {worst['channel']}" in page.text
    assert "Frozen seconds of all receivers by minute" in page.text
    assert f"{worst['sender']} {worst['receiver']}" in page.text
    with queries.connect(folder) as database:
        ((count,),) = database.execute("SELECT count(*) FROM sessions WHERE call_id = ?", [worst["call_id"]]).fetchall()
    assert f"{count} of {count} sessions, worst freeze rate first." in page.text


def hostile_rows(**more: Any) -> dict[str, list[dict[str, Any]]]:
    times = {"join_ts": "2026-11-24T12:00:00Z", "leave_ts": "2026-11-24T12:20:00Z", "finished": True}
    texts = ("cname", "uid", "account", "network", "platform", "sdk_version", "device_type")
    session = {"app_id": HOSTILE, "call_id": "1", "sid": "s", **dict.fromkeys(texts, HOSTILE), **times}
    call = {"created_ts": "2026-11-24T12:00:00Z", "destroyed_ts": "2026-11-24T12:20:00Z", "finished": True}
    statistic = {"metric": HOSTILE, "dimension": "country", "dimension_value": HOSTILE, "user_count": 3, "value": 0.5}
    freeze = {"mid": 20011, "metric": "video_freeze_time", "peer_uid": HOSTILE, "ts": times["join_ts"], "value": 9.0}
    return {
        "calls": [
            {"app_id": HOSTILE, "call_id": "1", "cname": HOSTILE, "call_pcu": 2, "call_video_freeze_rate": 0.5}
            | call
            | more
        ],
        "sessions": [session | {"user_video_freeze_rate": 0.5}],
        "statistics": [{"app_id": HOSTILE, "call_id": "1"} | statistic],
        "metrics": [{"app_id": HOSTILE, "call_id": "1", "sid": "s"} | freeze],
    }


def test_names_of_the_service_are_never_markup(tmp_path):
    skipped = [{"what": HOSTILE, "reason": HOSTILE, "calls": HOSTILE}]
    folder = write_rows(tmp_path / "data", hostile_rows(), complete=False, skipped=skipped)
    for text in (report.week(folder), report.call(folder, "1")):
        page = Page(text)
        assert_safe(page)
        assert "<script>alert(1)</script>" in page.text
        assert not set("\u202e\x00") & set(text)
        assert text.encode()


def test_an_empty_export_has_a_report_without_figures(tmp_path):
    folder = write_rows(tmp_path / "data", {})
    page = Page(report.week(folder))
    assert_safe(page)
    assert "Worst calls: needs calls" in page.text
    assert "calls 0 minutes of calls \N{EN DASH}" in page.text
    with pytest.raises(ValueError, match="the export holds no such call"):
        report.call(folder, "1")


def test_a_report_says_what_the_export_skipped_and_what_is_pending(tmp_path):
    rows = {"calls": hostile_rows(finished=False)["calls"]}
    for row in rows["calls"]:
        row.update(app_id="a", cname="lobby")
    skipped = [{"what": "details", "reason": "expired", "calls": 3, "rows": None, "span": "then"}]
    folder = write_rows(tmp_path / "data", rows, complete=False, skipped=skipped, settings={"min_freeze_rate": 0.05})
    page = Page(report.week(folder))
    for line in (
        "Incomplete data the export is incomplete",
        "skipped: details: 3 calls in then (expired)",
        "only calls with a freeze rate above 0.05 were exported",
        "1 call was still open",
    ):
        assert line in page.text
    assert "the call was still open when it was exported" in Page(report.call(folder, "1")).text
    (folder / "manifest.json").write_text('{"complete": false}')
    assert "calls or spans are pending" in Page(report.week(folder)).text
    (folder / "manifest.json").write_text("[")
    assert "the export has no readable manifest: it was interrupted" in Page(report.week(folder)).text
    (folder / "manifest.json").unlink()
    assert "the export has no readable manifest: it was interrupted" in Page(report.week(folder)).text


def test_a_complete_export_says_that_nothing_is_missing(tmp_path):
    folder = write_rows(tmp_path / "data", {"calls": hostile_rows()["calls"][:0]})
    assert "Complete: nothing is known to be missing." in Page(report.week(folder)).text
