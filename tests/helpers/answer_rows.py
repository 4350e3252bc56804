"""The rows of an answer, read from its JSON by the reference, and those that the client gave: they must be alike."""

from __future__ import annotations

from typing import Any

import attrs
from helpers.vendor import CALL, Case

Row = tuple[Any, ...]


def of_wire(case: Case, document: dict[str, Any]) -> list[Row]:
    """Return what an answer says, in the order that the client promises."""
    asked = case.asked
    if case.path == f"{CALL}/metrics":
        return _metrics(asked["sids"].split(","), document["metrics"])
    if case.path in {f"{CALL}/lists", f"{CALL}/sessions"}:
        (name,) = {"call_lists", "call_info"} & set(document)
        return [tuple(sorted((key, _plain(value)) for key, value in row.items() if _told(key, value)))
                for row in document[name]]  # fmt: skip
    data = document["data"]
    rows = data["list"] if isinstance(data, dict) and "list" in data else data
    if case.path == f"{CALL}/freeze/bucket":
        return sorted((float(row["bucket"][1:].split("%")[0]), row["bucket"], row["user_count"]) for row in rows)
    if case.path == f"{CALL}/statistics":
        return [(row["dimension_value"], row["user_count"], row["value"]) for row in rows]
    return _values(case, rows)


def of_client(case: Case, found: Any) -> list[Row]:
    """Return what the client made of an answer, in its order."""
    if case.path == f"{CALL}/metrics":
        return [(one.sid, [(track.mid, track.peer_uid, list(track.kvs)) for track in one.data]) for one in found]
    if case.path in {f"{CALL}/lists", f"{CALL}/sessions"}:
        rows = found.calls if case.path == f"{CALL}/lists" else found.sessions
        return [
            tuple(sorted((key, value) for key, value in attrs.asdict(row, recurse=False).items() if _told(key, value)))
            for row in rows
        ]
    if case.path == f"{CALL}/freeze/bucket":
        return [(one.lowest * 100 if one.lowest < 1 else one.lowest, one.bucket, one.user_count) for one in found]
    if case.path == f"{CALL}/statistics":
        return [(one.dimension_value, one.user_count, one.value) for one in found]
    if case.path.endswith(("/by_time", "/by_time_20sec", "/statistics/time")):
        assert [point.ts for point in found] == sorted(point.ts for point in found)
        return sorted((point.ts, point.dimension_value, point.uid, point.value) for point in found)
    if case.body is not None:
        more = ("ref_usage",)
    elif case.asked["metric"] == "userCount":
        more = ("window_start", "window_end")
    else:
        more = ("window_start", "window_end", "user_count")
    return [(one.dimension_value, one.value, *(getattr(one, name) for name in more)) for one in found]


def _values(case: Case, rows: list[dict[str, Any]]) -> list[Row]:
    """Return the rows of what has a metric of its own name, by time or by dimension."""
    asked = case.asked
    metric, dimension = asked["metric"], asked.get("dimension")
    if "uids" in asked:
        return sorted((one["ts"], None, row["uid"], one[metric]) for row in rows for one in row["values"])
    if case.path.endswith(("/by_time", "/by_time_20sec", "/statistics/time")):
        value = "value" if case.path.startswith(CALL) else metric
        return sorted((row["ts"], row.get(dimension), None, row[value]) for row in rows)
    more = ("refUsage",) if case.body is not None else ("windowStartTs", "windowEndTs", "userCount")
    if metric == "userCount":
        more = more[:2]
    return [(row.get(dimension), row[metric], *(row.get(name) for name in more)) for row in rows]


def _metrics(sids: list[str], told: list[dict[str, Any]]) -> list[Row]:
    found = {
        one["sid"]: [(track["mid"], track["peer_uid"], list(map(tuple, track["kvs"]))) for track in one["data"]]
        for one in told
    }
    return [(sid, found.get(sid, [])) for sid in sids]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _told(name: str, value: Any) -> bool:
    """Whether a field says something, and is of the reference."""
    return value not in (None, [], ()) and name != "brand_new_field"
