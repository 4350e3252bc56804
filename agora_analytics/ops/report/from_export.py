"""Reports from the files of an export: no request is sent. DuckDB reads them, so it needs the extra `duckdb`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from agora_analytics._core import validation
from agora_analytics.export.queries import running
from agora_analytics.export.queries.questions import QUESTIONS
from agora_analytics.ops.report import week_page
from agora_analytics.ops.report.answers import MAX_ROWS
from agora_analytics.ops.report.call_page import CallData, Chart, SessionRow, call_page, freezes_by
from agora_analytics.ops.report.completeness import Manifest
from agora_analytics.ops.report.week_page import WeekData
from agora_analytics.spans import DAY, MINUTE, Span, is_moment

__all__ = ["call", "week"]

_WEEK: Final = 7 * DAY
_MAX_MINUTES: Final = 7 * 24 * 60


def week(folder: str | Path, *, span: Span | None = None) -> str:
    """Return the report of a week as an HTML document, made from an export; by default its newest 7 days.

    Each figure has its unit and its source. What the export does not hold, what it skipped and what is pending is said
    at the top. The document is one file without scripts, and loads nothing.

    Args:
        folder: where `client.export.run` or `merge` wrote Parquet, CSV, JSON Lines or a DuckDB database. The datasets
            `calls`, `sessions`, `statistics`, `metrics` and `insights` fill the report.
        span: the time of the report, instead of the newest 7 days.

    It blocks: in an asyncio program call it with `asyncio.to_thread`. Raises `ValueError` for a folder without an
    export that DuckDB can read, and `ExportError` if files are damaged, or are being written by a run.

    """
    place = validation.path("folder", folder)
    span = validation.none_or(validation.instance, "span", span, Span) or _newest_week(place)
    return week_from(place, span, "export")


def week_from(place: Path, span: Span, source: str, reasons: Sequence[str] = ()) -> str:
    """Return the report of a week from the files of an export, with what to name as the source of its figures.

    `reasons` are further notes on what is missing.
    """
    manifest = Manifest.of(place)
    with running.reading(place, span=span) as database:
        apps = _rows(database, "SELECT DISTINCT app_id FROM calls WHERE app_id IS NOT NULL ORDER BY 1")
        ((still_open,),) = _rows(database, "SELECT count(*) FILTER (finished = false) FROM calls")
        data = WeekData(
            span=span,
            source=source,
            apps=[app for (app,) in apps],
            totals=_week_totals(database),
            answers={
                # A trend has a row for each day; of the others a section shows the first.
                name: running.answer(database, QUESTIONS[name], MAX_ROWS if name in week_page.TITLES else None)
                for name in week_page.QUESTIONS
            },
            notes=[*reasons, *manifest.notes(span), *_still_open(still_open)],
        )
    return week_page.week_page(data)


def _week_totals(database: Any) -> list[tuple[str, Any, str]]:
    calls, peak = _rows(database, "SELECT count(*), max(call_pcu) FROM calls")[0]
    minutes, audio, video = _rows(
        database,
        "SELECT sum(minutes), weighted_mean(call_audio_freeze_rate, minutes * call_pcu),"
        " weighted_mean(call_video_freeze_rate, minutes * call_pcu) FROM call_minutes",
    )[0]
    sessions, session_minutes = _rows(database, "SELECT count(*), sum(minutes) FROM session_minutes")[0]
    return [
        *(("calls", calls, ""), ("minutes of calls", minutes, "min"), ("peak users of a call", peak, "")),
        *(("audio freeze rate", audio, "fraction"), ("video freeze rate", video, "fraction")),
        # Without the dataset a zero would be a figure that nobody measured.
        *((("sessions", sessions, ""), ("user minutes", session_minutes, "min")) if sessions else ()),
    ]


def _still_open(calls: int) -> list[str]:
    noun = "call was" if calls == 1 else "calls were"
    return [f"{calls} {noun} still open, and not in the rates"] if calls else []


def call(folder: str | Path, call_id: str) -> str:
    """Return the report of one call as an HTML document, made from an export.

    `folder` is that of `week`. The datasets `calls`, `sessions`, `metrics` and `statistics` fill the report. It blocks,
    and raises `ValueError` for a call that the export does not hold, and the errors of `week`.
    """
    place = validation.path("folder", folder)
    call_id = validation.non_empty_str("call_id", call_id)
    manifest = Manifest.of(place)
    with running.reading(place) as database:
        apps = running.narrow_to_call(database, call_id)
        calls, found, frozen = _rows(database, _CALL), _sessions(database), _rows(database, _FROZEN)
        statistics = _rows(database, "SELECT metric, dimension, dimension_value, user_count, value FROM statistics")
        pairs = running.answer(database, QUESTIONS["who_froze_whom"])
    if not calls and not found:
        raise ValueError(f"call_id={validation.short_repr(call_id)}: the export holds no such call")
    channel, created, destroyed, finished, peak, audio, video = calls[0] if calls else (None,) * 7
    span = _span(created, destroyed if finished is not False else None)
    notes = [f"of the whole export: {note}" for note in manifest.notes()]
    notes += [f"{len(apps)} App IDs have a call of this id: this is that of {apps[0]}"] if len(apps) > 1 else []
    notes += ["the call was still open when it was exported"] if finished is False else []
    notes += [f"the export has no {name} of this call" for name in _missing(calls, found, frozen, statistics)]
    totals = [
        *(("length", span and span.duration / MINUTE, "min"), ("peak users", peak, "")),
        *(("sessions", len(found) or None, ""), ("audio freeze rate", audio, "fraction")),
        ("video freeze rate", video, "fraction"),
    ]
    data = CallData(
        call_id=call_id,
        channel=channel,
        span=span,
        source="export",
        totals=totals,
        charts=_charts(found, frozen, span),
        sessions=found,
        tables=list(_breakdowns(statistics)),
        who_froze_whom=pairs,
        notes=notes,
    )
    # One value of many parts: longer than 25 lines for that.
    return call_page(data)


_CALL: Final = (
    "SELECT cname, created_ts, destroyed_ts, finished, call_pcu, call_audio_freeze_rate, call_video_freeze_rate"
    " FROM calls"
)
_FROZEN: Final = (
    "SELECT date_trunc('minute', ts), sum(value) FILTER (metric = 'audio_freeze_time') / 1000,"
    " sum(value) FILTER (metric = 'video_freeze_time') / 1000 FROM metrics"
    " WHERE ts IS NOT NULL AND metric IN ('audio_freeze_time', 'video_freeze_time') GROUP BY 1 ORDER BY 1"
)
_SESSIONS: Final = (
    "SELECT coalesce(account, uid), network, device_type, platform, sdk_version, user_audio_freeze_rate,"
    " user_video_freeze_rate, join_ts, CASE WHEN finished IS DISTINCT FROM false THEN leave_ts END FROM sessions"
)


def _sessions(database: Any) -> list[SessionRow]:
    names = ("user", "network", "device", "platform", "sdk_version", "audio", "video")
    return [
        SessionRow(**dict(zip(names, row, strict=False)), joined=_second(row[-2]), left=_second(row[-1]))
        for row in _rows(database, _SESSIONS)
    ]


def _charts(sessions: Sequence[SessionRow], frozen: Sequence[Any], span: Span | None) -> list[Chart]:
    seconds = [(name, [(_second(row[0]) or 0, row[at]) for row in frozen]) for at, name in _KINDS]
    return [
        Chart(title="Users seen in each minute", unit="", series=[("users", users_by_minute(sessions, span))]),
        Chart(title="Frozen seconds of all receivers by minute", unit="s", series=seconds),
    ]


_KINDS: Final = ((1, "audio"), (2, "video"))


def _missing(*found: Sequence[Any]) -> list[str]:
    names = ("list entry", "sessions", "freeze metrics", "statistics")
    return [name for name, rows in zip(names, found, strict=True) if not rows]


def _breakdowns(rows: Sequence[Any]) -> Iterable[tuple[str, list[tuple[str | None, int | None, float | None]]]]:
    for pair in dict.fromkeys(row[:2] for row in rows):
        yield freezes_by(*pair), [row[2:] for row in rows if row[:2] == pair]


def users_by_minute(sessions: Sequence[SessionRow], call: Span | None) -> list[tuple[int, float | None]]:
    """Return how many sessions overlap each minute of a call; of those whose times are known."""
    known = ((one.joined, one.left) for one in sessions if one.joined is not None and one.left is not None)
    # The service may send a session that ends before it began.
    stays = [(start, max(start, end)) for start, end in known]
    if not stays:
        return []
    # Of the call, if that is known: one wrong time of a session would make it a chart of years.
    whole = call or Span(min(start for start, _ in stays), max(end for _, end in stays) + 1)
    first = whole.start // MINUTE
    minutes = min((whole.end - 1) // MINUTE - first + 1, _MAX_MINUTES)
    changes = [0] * (minutes + 1)
    for start, end in stays:
        if start < whole.end and end >= whole.start:
            changes[min(max(start // MINUTE - first, 0), minutes)] += 1
            changes[min(end // MINUTE - first + 1, minutes)] -= 1
    return [((first + at) * MINUTE, float(users)) for at, users in enumerate(accumulate(changes[:minutes]))]


def _newest_week(folder: Path) -> Span:
    """Return the seven days that end with the newest row, whatever lies after the spans that were fetched."""
    fetched = Manifest.of(folder).end
    with running.reading(folder) as database:
        ((newest,),) = _rows(
            database,
            "SELECT max(ts) FROM (SELECT max(created_ts) AS ts FROM calls UNION ALL SELECT max(join_ts) FROM sessions"
            " UNION ALL SELECT max(ts) FROM insights)",
        )
    # Whole days, since the trend is by day; an export without rows has no time of its own.
    last = min(filter(None, (_second(newest), fetched and fetched - 1)), default=_WEEK)
    end = (last // DAY + 1) * DAY
    return Span(end - _WEEK, end)


def _rows(database: Any, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = database.execute(sql).fetchall()
    return found


def _second(value: datetime | str | None) -> int | None:
    # DuckDB returns a time beyond Python's years as text.
    second = int(value.replace(tzinfo=UTC).timestamp()) if isinstance(value, datetime) else None
    return second if is_moment(second) else None


def _span(start: datetime | None, end: datetime | None) -> Span | None:
    first, last = _second(start), _second(end)
    return None if first is None or last is None else Span(first, max(first, last) + 1)
