"""The tables of a `PostgresSink`, and the rows of an event in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from agora_analytics.models import Call, Point, Session
from agora_analytics.spans import moment
from agora_analytics.streams.events import (
    CallEvent,
    CallFinished,
    CallLost,
    CallSessions,
    Event,
    Gap,
    Revision,
    Window,
)
from agora_analytics.streams.watch.series import Series

Row = dict[str, Any]
"""The values of a row by column."""

_LONGEST: Final = 2**63
"""Whole numbers from here on do not fit into a bigint."""


@attrs.frozen
class SinkTable:
    """A table: the types of its columns by name, and which of them are the key, beside the name of the sink."""

    columns: Mapping[str, str]
    key: tuple[str, ...]

    def create(self, name: str) -> str:
        """Return the statement that creates it."""
        columns = [
            f"{column} {kind}{' not null' * (column in self.key)}"
            for column, kind in {"stream": "text not null", **self.columns}.items()
        ]
        return f"create table if not exists {name} ({', '.join(columns)}, primary key (stream, {', '.join(self.key)}));"

    def insert(self, name: str, rows: str) -> str:
        """Return the statement that inserts the rows of a parameter, or replaces those with the same key."""
        names, kinds = ", ".join(self.columns), ", ".join(f"{one} {kind}" for one, kind in self.columns.items())
        changed = ", ".join(f"{one} = excluded.{one}" for one in self.columns if one not in self.key)
        return (
            f"insert into {name} (stream, {names}) select %(name)s, {names} "  # noqa: S608 - names of our own
            f"from json_to_recordset(%({rows})s::json) as given({kinds}) where $written "
            f"on conflict (stream, {', '.join(self.key)}) do update set {changed};"
        )


TABLES: Final = {
    "windows": SinkTable(
        {
            "ts": "timestamptz",
            "metric": "text",
            "product": "text",
            "cname": "text",
            "dimension": "text",
            "dimension_value": "text",
            "uid": "text",
            "value": "double precision",
            "missing": "text",
            "final": "boolean",
        },
        ("ts", "metric", "product", "cname", "dimension", "dimension_value", "uid"),
    ),
    "gaps": SinkTable({"start_ts": "timestamptz", "end_ts": "timestamptz", "reason": "text"}, ("start_ts", "end_ts")),
    "calls": SinkTable(
        {
            "call_id": "text",
            "cname": "text",
            "created_ts": "timestamptz",
            "destroyed_ts": "timestamptz",
            "finished": "boolean",
            "call_pcu": "bigint",
            "call_acu": "double precision",
            "call_audio_freeze_rate": "double precision",
            "call_video_freeze_rate": "double precision",
            "state": "text",
            "reason": "text",
        },
        ("call_id",),
    ),
    "sessions": SinkTable(
        {
            "call_id": "text",
            "sid": "text",
            "cname": "text",
            "uid": "text",
            "account": "text",
            "network": "text",
            "platform": "text",
            "speaker": "boolean",
            "roles": "text",
            "sdk_version": "text",
            "device_type": "text",
            "join_ts": "timestamptz",
            "leave_ts": "timestamptz",
            "finished": "boolean",
            "user_audio_freeze_rate": "double precision",
            "user_video_freeze_rate": "double precision",
        },
        ("call_id", "sid"),
    ),
}
"""The tables by name. What a window or a call has none of is '' in a key, and null elsewhere."""


def rows_of(event: Event | CallEvent) -> dict[str, list[Row]]:
    """Return the rows of an event by table, of each key the last."""
    match event:
        case Window():
            missing = ((one, (), event.final, why) for one, why in event.missing.items())
            present = ((one, points, event.final, None) for one, points in event.values.items())
            rows = [row for part in (*missing, *present) for row in _window_rows(event.ts, *part)]
            return _by_table(windows=rows)
        case Revision():
            return _by_table(windows=_window_rows(event.ts, event.series, event.after, event.final, None))
        case Gap():
            start, end = _time(moment(event.span.start)), _time(moment(event.span.end))
            return _by_table(gaps=[{"start_ts": start, "end_ts": end, "reason": event.reason}])
        case CallFinished() | CallSessions():
            sessions = [_session_row(event.call, session) for session in event.sessions or ()]
            return _by_table(calls=[_call_row(event.call, "finished", event.reason)], sessions=sessions)
        case CallLost():
            return _by_table(calls=[_call_row(event.call, "lost", event.reason)])
        case _:
            return _by_table(calls=[_call_row(event.call, "open", "")])


def _by_table(**rows: Iterable[Row]) -> dict[str, list[Row]]:
    kept = {table: {tuple(row[one] for one in TABLES[table].key): row for row in some} for table, some in rows.items()}
    return {table: list(some.values()) for table, some in kept.items() if some}


def _window_rows(
    ts: int,
    series: Series,
    points: Iterable[Point],
    final: bool,  # noqa: FBT001 - a column
    missing: str | None,
) -> Iterator[Row]:
    """Yield a row for each point of a series; without any, one that says why it is missing."""
    start = {
        "ts": _time(moment(ts)),
        "metric": series.metric,
        "product": series.product,
        "cname": _text(series.cname) or "",
        "dimension": series.dimension or "",
    }
    for point in points:
        group = {"dimension_value": _text(point.dimension_value) or "", "uid": _text(point.uid) or ""}
        yield {**start, **group, "value": _number(point.value), "missing": None, "final": final}
    if missing is not None:
        yield {**start, "dimension_value": "", "uid": "", "value": None, "missing": missing, "final": final}


def _call_row(call: Call, state: str, reason: str) -> Row:
    return {
        "call_id": _text(call.call_id),
        "cname": _text(call.cname),
        "created_ts": _time(call.started_at),
        "destroyed_ts": _time(moment(call.destroyed_ts)),
        "finished": call.finished,
        "call_pcu": _whole(call.call_pcu),
        "call_acu": _number(call.call_acu),
        "call_audio_freeze_rate": _number(call.call_audio_freeze_rate),
        "call_video_freeze_rate": _number(call.call_video_freeze_rate),
        "state": state,
        "reason": _text(reason) or None,
    }


def _session_row(call: Call, session: Session) -> Row:
    return {
        "call_id": _text(call.call_id),
        "sid": _text(session.sid),
        "cname": _text(session.cname),
        "uid": _text(session.uid),
        "account": _text(session.account),
        "network": _text(session.network),
        "platform": _text(session.platform),
        "speaker": session.speaker,
        "roles": None if session.roles is None else _text(",".join(session.roles)),
        "sdk_version": _text(session.sdk_version),
        "device_type": _text(session.device_type),
        "join_ts": _time(session.joined_at),
        "leave_ts": _time(moment(session.leave_ts)),
        "finished": session.finished,
        "user_audio_freeze_rate": _number(session.user_audio_freeze_rate),
        "user_video_freeze_rate": _number(session.user_video_freeze_rate),
    }


def _text(value: object) -> str | None:
    # PostgreSQL has no null character in a text.
    return None if value is None else str(value).replace("\0", "\ufffd")


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _whole(value: int | None) -> int | None:
    return None if value is None or abs(value) >= _LONGEST else value


def _number(value: float | None) -> float | None:
    """Return a number as a double; None for one that is none, as the service may send any."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None
