"""The rows of a response as the API reference defines them, and the rows that the client returned, for comparison."""

from __future__ import annotations

from typing import Any

import attrs
from helpers.vendor import CALL, Case

Row = tuple[Any, ...]


def rows_of_json(case: Case, document: dict[str, Any]) -> list[Row]:
    """Return the rows of a response, in the order that the client promises."""
    params = case.params
    if case.path == f"{CALL}/metrics":
        return _metrics(params["sids"].split(","), document["metrics"])
    if case.path in {f"{CALL}/lists", f"{CALL}/sessions"}:
        (name,) = {"call_lists", "call_info"} & set(document)
        return [tuple(sorted((key, _plain(value)) for key, value in row.items() if _is_set(key, value)))
                for row in document[name]]  # fmt: skip
    data = document["data"]
    rows = data["list"] if isinstance(data, dict) and "list" in data else data
    if case.path == f"{CALL}/freeze/bucket":
        return sorted((float(row["bucket"][1:].split("%")[0]), row["bucket"], row["user_count"]) for row in rows)
    if case.path == f"{CALL}/statistics":
        return [(row["dimension_value"], row["user_count"], row["value"]) for row in rows]
    return _values(case, rows)


def rows_of_result(case: Case, result: Any) -> list[Row]:
    """Return the rows of a result of the client, in its order."""
    if case.path == f"{CALL}/metrics":
        return [(one.sid, [(track.mid, track.peer_uid, list(track.kvs)) for track in one.data]) for one in result]
    if case.path in {f"{CALL}/lists", f"{CALL}/sessions"}:
        rows = result.calls if case.path == f"{CALL}/lists" else result.sessions
        return [
            tuple(
                sorted((key, value) for key, value in attrs.asdict(row, recurse=False).items() if _is_set(key, value))
            )
            for row in rows
        ]
    if case.path == f"{CALL}/freeze/bucket":
        return [(one.lowest * 100 if one.lowest < 1 else one.lowest, one.bucket, one.user_count) for one in result]
    if case.path == f"{CALL}/statistics":
        return [(one.dimension_value, one.user_count, one.value) for one in result]
    if case.path.endswith(("/by_time", "/by_time_20sec", "/statistics/time")):
        assert [point.ts for point in result] == sorted(point.ts for point in result)
        return sorted((point.ts, point.dimension_value, point.uid, point.value) for point in result)
    if case.body is not None:
        extra_fields = ("ref_usage",)
    elif case.params["metric"] == "userCount":
        extra_fields = ("window_start", "window_end")
    else:
        extra_fields = ("window_start", "window_end", "user_count")
    return [(one.dimension_value, one.value, *(getattr(one, name) for name in extra_fields)) for one in result]


def _values(case: Case, rows: list[dict[str, Any]]) -> list[Row]:
    """Return rows whose value is a field named after the metric, by time or by dimension."""
    params = case.params
    metric, dimension = params["metric"], params.get("dimension")
    if "uids" in params:
        return sorted((one["ts"], None, row["uid"], one[metric]) for row in rows for one in row["values"])
    if case.path.endswith(("/by_time", "/by_time_20sec", "/statistics/time")):
        value = "value" if case.path.startswith(CALL) else metric
        return sorted((row["ts"], row.get(dimension), None, row[value]) for row in rows)
    extra_fields = ("refUsage",) if case.body is not None else ("windowStartTs", "windowEndTs", "userCount")
    if metric == "userCount":
        extra_fields = extra_fields[:2]
    return [(row.get(dimension), row[metric], *(row.get(name) for name in extra_fields)) for row in rows]


def _metrics(sids: list[str], sessions: list[dict[str, Any]]) -> list[Row]:
    tracks = {
        one["sid"]: [(track["mid"], track["peer_uid"], list(map(tuple, track["kvs"]))) for track in one["data"]]
        for one in sessions
    }
    return [(sid, tracks.get(sid, [])) for sid in sids]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_set(name: str, value: Any) -> bool:
    """Whether a field has a value, and is part of the reference."""
    return value not in (None, [], ()) and name != "brand_new_field"
