"""What the rows of an export are: datasets of flat, typed columns, each with its unit and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from agora_analytics.catalogue import MetricId

__all__ = ["DATASETS", "Column", "Dataset"]

Kind = Literal["text", "integer", "number", "boolean", "time"]
"""Type of a column; `time` is a moment in UTC, to the second. Any value may be null."""


@attrs.frozen(kw_only=True)
class Column:
    """One column: its name is the service's own where it has one. `repeats` where few values recur in many rows."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    repeats: bool = False


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
    return Column(name=name, kind="integer", meaning=meaning)


def _flag(name: str, meaning: str) -> Column:
    return Column(name=name, kind="boolean", meaning=meaning)


_APP: Final = _text("app_id", "App ID of the project", repeats=True)
_CALL: Final = _text("call_id", "the call, a key within the App ID", repeats=True)
_PROVISIONAL: Final = _flag("provisional", "the service may still compute it anew; it is fetched again then")
_METRIC: Final = _text("metric", "name of the metric", repeats=True)
_PRODUCT: Final = _text("product", "Native or WebRTC, where the metric is of one", repeats=True)
_DIMENSION: Final = _text("dimension", "what the value is split by, where it is", repeats=True)
_DIMENSION_VALUE: Final = _text("dimension_value", "which part of it", repeats=True)
_VALUE: Final = Column(name="value", kind="number", meaning="the metric's value", unit="the metric's")

CALLS: Final = Dataset(
    name="calls",
    row="a call, from its first join to its last leave",
    columns=(
        _APP,
        attrs.evolve(_CALL, repeats=False),
        _text("cname", "channel"),
        _time("created_ts", "start"),
        _time("destroyed_ts", "end; while the call goes on, whatever the service says then"),
        _flag("finished", "whether it is over"),
        _count("call_pcu", "most users at once"),
        Column(name="call_acu", kind="number", meaning="average users, or accumulated ones: the editions differ"),
        _rate("call_audio_freeze_rate", "time that audio was frozen"),
        _rate("call_video_freeze_rate", "time that video was frozen"),
    ),
)
SESSIONS: Final = Dataset(
    name="sessions",
    row="one user's stay in a call",
    columns=(
        _APP,
        _CALL,
        _text("sid", "the session, its key"),
        _text("cname", "channel", repeats=True),
        _text("uid", "user ID; may occur twice in a call"),
        _text("account", "user account"),
        _text("network", "kind of network", repeats=True),
        _text("platform", "operating system", repeats=True),
        _flag("speaker", "whether the user sent a stream"),
        _text("roles", "roles, with commas between", repeats=True),
        _text("sdk_version", "version of the SDK", repeats=True),
        _text("device_type", "model of the device", repeats=True),
        _time("join_ts", "joined"),
        _time("leave_ts", "left"),
        _flag("finished", "whether the user has left"),
        _rate("user_audio_freeze_rate", "time that audio was frozen"),
        _rate("user_video_freeze_rate", "time that video was frozen"),
    ),
)
METRICS: Final = Dataset(
    name="metrics",
    row="one measurement of a session",
    columns=(
        _APP,
        _CALL,
        _text("sid", "the session", repeats=True),
        Column(name="mid", kind="integer", meaning="metric id", repeats=True),
        _text("metric", "name of the metric id; null where it is not known", repeats=True),
        _text("peer_uid", "the remote user that it is about, 0 for the session's own", repeats=True),
        _time("ts", "moment of the measurement"),
        _VALUE,
    ),
)
STATISTICS: Final = Dataset(
    name="statistics",
    row="average over the users of a call that share a dimension's value",
    columns=(
        _APP,
        _CALL,
        _METRIC,
        _DIMENSION,
        _DIMENSION_VALUE,
        _count("user_count", "users that the value rests on"),
        _rate("value", "their average"),
        _time("start_ts", "start of the part of the call that it is about"),
        _time("end_ts", "its end, not included"),
    ),
)
INSIGHTS: Final = Dataset(
    name="insights",
    row="a metric of the whole project in an hour or day, or of a part of it in a day",
    columns=(
        _APP,
        _METRIC,
        _PRODUCT,
        _text("granularity", "length of the bucket", repeats=True),
        _DIMENSION,
        _DIMENSION_VALUE,
        _time("ts", "start of the bucket"),
        _VALUE,
        Column(name="ref_usage", kind="number", meaning="usage that a quality value rests on, where told"),
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
        _text("cname", "channel; null for the whole project", repeats=True),
        _DIMENSION,
        _DIMENSION_VALUE,
        _text("uid", "user, where users were asked for", repeats=True),
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
"""Name of each metric id that the catalogue knows."""
