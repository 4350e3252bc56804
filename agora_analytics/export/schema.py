"""The schema of an export: datasets of flat, typed columns, each with unit and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from agora_analytics.catalogue import MetricId

__all__ = ["DATASETS", "Column", "Dataset"]

Kind = Literal["text", "integer", "number", "boolean", "time"]
"""Type of a column; `time` is a UTC time, to the second. Any value may be null."""


@attrs.frozen(kw_only=True)
class Column:
    """One column. Its name is that of the service if it has one; `repeats` if many rows share few values."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    repeats: bool = False

    @property
    def comment(self) -> str:
        """The meaning with the unit, as tables of a database keep it beside the column."""
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning


@attrs.frozen(kw_only=True)
class Dataset:
    """A kind of rows: its name, what a row is, and its columns in order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def _text(name: str, meaning: str, *, repeats: bool = False) -> Column:
    return Column(name=name, kind="text", meaning=meaning, repeats=repeats)


def _time(name: str, meaning: str) -> Column:
    return Column(name=name, kind="time", meaning=meaning, unit="ms, UTC")


def _rate(name: str, meaning: str) -> Column:
    return Column(name=name, kind="number", meaning=meaning, unit="fraction", repeats=True)


def _count(name: str, meaning: str) -> Column:
    return Column(name=name, kind="integer", meaning=meaning, unit="users")


def _flag(name: str, meaning: str) -> Column:
    return Column(name=name, kind="boolean", meaning=meaning)


_APP: Final = _text("app_id", "App ID of the project", repeats=True)
_CALL: Final = _text("call_id", "the call, a key within the App ID", repeats=True)
_PROVISIONAL: Final = _flag("provisional", "whether the value may still change; the next run fetches it again")
_METRIC: Final = _text("metric", "name of the metric", repeats=True)
_PRODUCT: Final = _text("product", "Native or WebRTC; null for a metric of no product", repeats=True)
_DIMENSION: Final = _text("dimension", "what the values are grouped by; null if by nothing", repeats=True)
_DIMENSION_VALUE: Final = _text("dimension_value", "value of the dimension", repeats=True)
_VALUE: Final = Column(name="value", kind="number", meaning="the metric's value", unit="the metric's")

CALLS: Final = Dataset(
    name="calls",
    row="a call, from its first join to its last leave",
    columns=(
        _APP,
        attrs.evolve(_CALL, repeats=False),
        _text("cname", "channel"),
        _time("created_ts", "start"),
        _time("destroyed_ts", "end; for an open call, whatever the service says"),
        _flag("finished", "whether it is over"),
        _count("call_pcu", "peak number of concurrent users"),
        Column(
            name="call_acu",
            kind="number",
            meaning="average or accumulated users: editions of the API differ",
            unit="users",
        ),
        _rate("call_audio_freeze_rate", "share of the time that audio was frozen"),
        _rate("call_video_freeze_rate", "share of the time that video was frozen"),
    ),
)
SESSIONS: Final = Dataset(
    name="sessions",
    row="a user's stay in a call",
    columns=(
        _APP,
        _CALL,
        _text("sid", "the session, its key"),
        _text("cname", "channel", repeats=True),
        _text("uid", "user ID; may occur more than once in a call"),
        _text("account", "user account; null without one"),
        _text("network", "type of network, in the service's words", repeats=True),
        _text("platform", "operating system", repeats=True),
        _flag("speaker", "whether the user sent a stream"),
        _text("roles", "roles, separated by commas", repeats=True),
        _text("sdk_version", "SDK version", repeats=True),
        _text("device_type", "device model", repeats=True),
        _time("join_ts", "joined"),
        _time("leave_ts", "left; for a user who has not, whatever the service says"),
        _flag("finished", "whether the user has left"),
        _rate("user_audio_freeze_rate", "share of the time that audio was frozen"),
        _rate("user_video_freeze_rate", "share of the time that video was frozen"),
    ),
)
METRICS: Final = Dataset(
    name="metrics",
    row="a measurement of a session",
    columns=(
        _APP,
        _CALL,
        _text("sid", "the session", repeats=True),
        Column(name="mid", kind="integer", meaning="metric id", repeats=True),
        _text("metric", "name of the metric id; null for an unknown id", repeats=True),
        _text("peer_uid", "remote user that the value is about; 0 for the session's own user", repeats=True),
        _time("ts", "time of the measurement"),
        _VALUE,
    ),
)
STATISTICS: Final = Dataset(
    name="statistics",
    row="an average over the users of a call with the same value of a dimension",
    columns=(
        _APP,
        _CALL,
        _METRIC,
        _DIMENSION,
        _DIMENSION_VALUE,
        _count("user_count", "users behind the value"),
        _rate("value", "average of these users"),
        _time("start_ts", "start of the part of the call"),
        _time("end_ts", "end of the part, exclusive"),
    ),
)
INSIGHTS: Final = Dataset(
    name="insights",
    row="a metric of a project in one bucket of time, or in one day for one value of a dimension",
    columns=(
        _APP,
        _METRIC,
        _PRODUCT,
        _text("granularity", "length of the bucket, as requested: 1d, 1h or 1m", repeats=True),
        _DIMENSION,
        _DIMENSION_VALUE,
        _time("ts", "start of the bucket"),
        _VALUE,
        Column(
            name="ref_usage",
            kind="number",
            meaning="usage behind a quality value; null if the service does not report it",
            unit="joins or minutes",
        ),
        _PROVISIONAL,
    ),
)
REALTIME: Final = Dataset(
    name="realtime",
    row="a metric in a 20-second window",
    columns=(
        _APP,
        _METRIC,
        _PRODUCT,
        _text("cname", "channel; null for the project", repeats=True),
        _DIMENSION,
        _DIMENSION_VALUE,
        _text("uid", "user ID; null unless the series is of users", repeats=True),
        _time("ts", "start of the window"),
        _VALUE,
        _PROVISIONAL,
    ),
)

DATASETS: Final[Mapping[str, Dataset]] = {
    dataset.name: dataset for dataset in (CALLS, SESSIONS, METRICS, STATISTICS, INSIGHTS, REALTIME)
}
"""Every dataset by name."""

MIDS: Final[Mapping[int, str]] = {member.value: member.name.lower() for member in MetricId}
"""Name of each metric id in the catalogue."""
