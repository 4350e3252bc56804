"""Questions about exported data: DuckDB's answers are those that Python computes from the same rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.written_exports import SELECTION, write_export, write_rows

from agora_analytics import Span
from agora_analytics.export import queries
from agora_analytics.simulator import APP_ID

Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("export")
    assert write_export(place, format="jsonl").complete
    return place


@pytest.fixture(scope="module")
def rows(folder) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for path in sorted(folder.glob("*/app=*/day=*/*.jsonl")):
        found[path.parts[-4]] += [json.loads(line) for line in path.read_text().splitlines()]
    assert set(found) == set(SELECTION.datasets)
    return found


def answered(name: str, folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    result = queries.run(name, folder)
    at = [result.columns.index(column) for column in columns]
    return [tuple(row[index] for index in at) for row in result.rows]


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def minutes(row: Row, first: str = "join_ts", last: str = "leave_ts") -> float:
    return max(0, (when(row[last]) - when(row[first])).total_seconds()) / 60


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    def text(row: Row) -> str:
        return str(key(row))

    return {key(some[0]): some for some in (list(group) for _, group in groupby(sorted(rows, key=text), text))}


def mean(rows: Iterable[Row], rate: str, weight: Callable[[Row], float]) -> float | None:
    known = [(row[rate], weight(row)) for row in rows if row[rate] is not None]
    total = sum(part for _, part in known)
    return sum(value * part for value, part in known) / total if total else None


def rates(some: list[Row], prefix: str, weight: Callable[[Row], float]) -> tuple[Any, ...]:
    found = [mean(some, f"{prefix}_{kind}_freeze_rate", weight) for kind in ("audio", "video")]
    return tuple(rate if rate is None else pytest.approx(rate) for rate in found)


@pytest.mark.parametrize(
    ("name", "column", "field"),
    [
        ("worst_networks", "network", "network"),
        ("worst_sdk_versions", "sdk_version", "sdk_version"),
        ("worst_devices", "device", "device_type"),
    ],
)
def test_freeze_rates_of_a_group_are_weighted_by_the_length_of_its_sessions(folder, rows, name, column, field):
    found = answered(name, folder, column, "sessions", "minutes", "audio_freeze_rate", "video_freeze_rate")
    over = [row for row in rows["sessions"] if row["finished"]]
    expected = {
        value or "(unknown)": (value or "(unknown)", len(some), pytest.approx(total), *rates(some, "user", minutes))
        for value, some in grouped(over, lambda row: row[field]).items()
        if (total := sum(map(minutes, some))) >= 10
    }
    assert len(found) > 3
    assert found == [expected[row[0]] for row in found]
    assert len(found) == len(expected)
    worst = [max(rate for rate in row[3:] if rate is not None) for row in found]
    assert worst == sorted(worst, reverse=True)


def test_freeze_rates_of_a_country_are_means_over_its_users(folder, rows):
    found = answered("worst_countries", folder, "country", "users", "audio_freeze_rate", "video_freeze_rate")
    expected = {}
    for country, some in grouped(rows["statistics"], lambda row: row["dimension_value"]).items():
        by_metric = grouped(some, lambda row: row["metric"])
        users = [sum(row["user_count"] for row in part) for part in by_metric.values()]
        values = [
            mean(by_metric.get(f"{kind}_freeze_rate", []), "value", lambda row: row["user_count"])
            for kind in ("audio", "video")
        ]
        if max(users) >= 3:
            expected[country] = (country, max(users), *(v if v is None else pytest.approx(v) for v in values))
    assert len(found) > 5
    assert {row[0]: row for row in found} == expected


def test_minutes_of_a_channel_are_those_of_its_sessions(folder, rows):
    found = answered("minutes_by_channel", folder, "channel", "minutes", "sessions", "calls")
    channels = grouped(rows["sessions"], lambda row: row["cname"])
    assert len(found) == len(channels) > 20
    for channel, total, sessions, calls in found:
        some = channels[channel]
        assert total == pytest.approx(sum(map(minutes, some)))
        assert (sessions, calls) == (len(some), len({row["call_id"] for row in some}))


def test_join_failures_are_what_the_join_success_rate_leaves(folder, rows):
    found = answered("join_failures", folder, "day_utc", "product", "join_failure_rate")
    quality = [row for row in rows["insights"] if row["metric"] == "joinSuccessRate"]
    expected = [(when(row["ts"]), "Native", pytest.approx(1 - row["value"])) for row in quality]
    assert found == sorted(expected, key=lambda row: row[0])
    assert len(found) == 3


def test_who_froze_whom_adds_the_freezes_of_each_pair_in_a_call(folder, rows):
    found = answered("who_froze_whom", folder, "call_id", "sender", "receiver", "audio_frozen_s", "video_frozen_s")
    users = {row["sid"]: row["uid"] for row in rows["sessions"]}
    totals: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows["metrics"]:
        if row["peer_uid"] != "0" and row["value"]:
            at = ["audio_freeze_time", "video_freeze_time"].index(row["metric"])
            totals[row["call_id"], row["peer_uid"], users[row["sid"]]][at] += row["value"] / 1000
    assert len(found) == 100
    for *key, audio, video in found:
        assert [audio or 0, video or 0] == pytest.approx(totals[tuple(key)], abs=1e-3)
    assert sum(found[0][3:][at] or 0 for at in (0, 1)) == pytest.approx(max(map(sum, totals.values())), abs=1e-3)


def test_the_worst_calls_have_the_greatest_freeze_rate_times_peak_of_users(folder, rows):
    found = answered("worst_calls", folder, "call_id", "impact_users")

    def impact(row: Row) -> float:
        both = (row["call_audio_freeze_rate"], row["call_video_freeze_rate"])
        return max((rate for rate in both if rate is not None), default=0) * row["call_pcu"]

    expected = sorted((row for row in rows["calls"] if impact(row)), key=lambda row: (-impact(row), row["call_id"]))
    assert found == [(row["call_id"], pytest.approx(impact(row))) for row in expected]
    assert len(found) > 20


@pytest.mark.parametrize("unit", ["day", "week"])
def test_a_trend_has_calls_minutes_and_rates_of_each_day_or_week(folder, rows, unit):
    name = f"trend_by_{unit}"
    columns = ("calls", "call_minutes", "audio_freeze_rate", "video_freeze_rate")
    found = answered(name, folder, f"{unit}_utc", *columns)

    def begin(row: Row) -> datetime:
        day = when(row["created_ts"]).replace(hour=0, minute=0, second=0)
        return day - timedelta(days=day.weekday() if unit == "week" else 0)

    def length(row: Row) -> float:
        return minutes(row, "created_ts", "destroyed_ts")

    def weight(row: Row) -> float:
        return length(row) * row["call_pcu"]

    expected = [
        (first, len(some), pytest.approx(sum(map(length, some))), *rates(some, "call", weight))
        for first, some in sorted(grouped(rows["calls"], begin).items())
    ]
    assert found == expected
    assert len(found) >= 2


def session(call_id: str, uid: str, rate: float, **more: Any) -> Row:
    times = {"join_ts": "2026-11-24T12:00:00Z", "leave_ts": "2026-11-24T12:10:00Z", "finished": True}
    return (
        {"app_id": "a", "call_id": call_id, "sid": f"{call_id}{uid}", "uid": uid}
        | times
        | {"user_audio_freeze_rate": rate, **more}
    )


def test_users_with_repeated_freezes_have_two_bad_calls(tmp_path):
    often = [session("1", "7", 0.04), session("2", "7", 0.1), session("3", "7", 0.01)]
    once = [session("1", "8", 0.5), session("1", "8", 0.5), session("2", "8", 0.03)]
    folder = write_rows(tmp_path / "data", {"sessions": often + once})
    found = answered("users_with_repeated_freezes", folder, "user", "bad_calls", "bad_minutes", "audio_freeze_rate")
    assert found == [("7", 2, 20, pytest.approx(0.07))]


def test_an_open_session_counts_no_minutes(tmp_path):
    still_here = session("1", "8", 0.5, finished=False, cname="lobby")
    folder = write_rows(tmp_path / "data", {"sessions": [session("1", "7", 0.5, cname="lobby"), still_here]})
    assert answered("minutes_by_channel", folder, "channel", "minutes", "sessions") == [("lobby", 10, 1)]


@pytest.mark.slow_except("csv", "parquet")
@pytest.mark.parametrize("form", ["parquet", "delta", "csv", "jsonl.gz", "jsonl.zst", "duckdb"])
def test_each_format_gives_the_same_answers(tmp_path, form):
    """In a folder whose name DuckDB would take for a pattern."""
    end = SELECTION.span.end
    day = attrs.evolve(
        SELECTION, start=end - 86_400, end=end, datasets=("calls", "sessions", "statistics"), insights=()
    )
    for one, place in (("jsonl", "expected"), (form, "data[1]")):
        write_export(tmp_path / place, day, format=one)
    for name in ("worst_calls", "worst_countries", "worst_devices", "minutes_by_channel"):
        found, expected = (queries.run(name, tmp_path / place) for place in ("data[1]", "expected"))
        assert found.rows
        assert found.columns == expected.columns
        assert found.rows == tuple(
            tuple(pytest.approx(value) if isinstance(value, float) else value for value in row) for row in expected.rows
        )


def test_the_files_of_shards_are_read_together(folder, tmp_path):
    for shard in attrs.evolve(SELECTION, datasets=("calls", "sessions"), apps=[APP_ID], insights=()).shards(days=2):
        write_export(Path(shard.place(tmp_path / "shards")), shard.selection, format="jsonl")
    assert len(list((tmp_path / "shards").iterdir())) > 1
    found, expected = (queries.run("minutes_by_channel", place) for place in (tmp_path / "shards", folder))
    assert [row[1:] for row in found.rows] == [(*row[1:2], pytest.approx(row[2]), *row[3:]) for row in expected.rows]


def test_text_that_csv_protects_from_spreadsheets_is_read_as_it_was(tmp_path):
    place = tmp_path / "calls" / "app=a" / "day=2026-11-24"
    place.mkdir(parents=True)
    names = ",".join(column.name for column in queries.running.DATASETS["calls"].columns)
    cells = ("'=1+1", "'quoted", '"a ""b"",\r\nc"', "")
    lines = "".join(f"a,{at},{cell},,,true,,,,\r\n" for at, cell in enumerate(cells))
    (place / "part-00001.csv").write_text(f"{names}\r\n{lines}", newline="")
    with queries.connect(tmp_path) as database:
        found = database.execute("SELECT cname FROM calls ORDER BY call_id").fetchall()
    assert found == [("=1+1",), ("'quoted",), ('a "b",\r\nc',), (None,)]


def test_a_span_selects_rows_by_their_time(folder):
    first, end = SELECTION.span
    days = [
        queries.run("trend_by_day", folder, span=Span(first, end - 86_400)).rows,
        queries.run("trend_by_day", folder).rows,
    ]
    assert sum(row[1] for row in days[0]) < sum(row[1] for row in days[1])
    assert queries.run("trend_by_day", folder, span=Span(1, 2)).rows == ()


def test_a_dataset_that_was_not_exported_is_named(tmp_path):
    folder = write_rows(tmp_path / "data", {"sessions": [session("1", "7", 0.5)]})
    result = queries.run("who_froze_whom", folder)
    assert (result.rows, result.missing) == ((), ("metrics",))
    assert result.columns[:2] == ("app_id", "call_id")


def test_the_views_run_in_any_duckdb(folder):
    with queries.running.duckdb.connect(":memory:") as database:
        database.execute(queries.views(folder))
        assert database.execute("SELECT count(*) FROM session_minutes").fetchall()[0][0] > 100


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere' is not a folder"):
        queries.run("worst_calls", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no export that DuckDB reads"):
        queries.run("worst_calls", tmp_path)
    (tmp_path / "export.sqlite").touch()
    with pytest.raises(ValueError, match="holds SQLite: export as parquet"):
        queries.run("worst_calls", tmp_path)


def test_an_unknown_question_is_refused(tmp_path):
    with pytest.raises(ValueError, match="name='best_calls': allowed are worst_calls"):
        queries.run("best_calls", tmp_path)


@pytest.mark.parametrize("question", queries.QUESTIONS.values(), ids=lambda one: one.name)
def test_each_file_says_what_it_answers_and_what_it_needs(question):
    assert question.text.endswith("?")
    assert set(question.needs) <= set(SELECTION.datasets)
    assert question.needs
