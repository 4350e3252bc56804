"""A manifest that was modified is not rebuilt into a state: the run is refused before any request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.export_files import manifest_of
from helpers.export_runs import DAY, NOON, export, last_hours, remove_rate_limits, request_count

from agora_analytics import ExportError

SELECTION = last_hours(1, "calls", "sessions")

Change = Callable[[dict[str, Any]], object]


def _part(**values: object) -> Change:
    return lambda found: found["parts"][0].update(values)


def _resume(**values: object) -> Change:
    return lambda found: found["resume"].update(values)


def _call(**values: object) -> Change:
    names = ("app", "call_id", "cname", "first", "last", "score", "users", "status", "reason", "has_cursor")
    valid = dict(zip(names, ("app", "call", None, 1, 2, 0.0, 2, 2, None, 0), strict=True))
    return _resume(calls=[list((valid | values).values())])


def _original(*ids: int) -> Change:
    return _resume(originals=[[one, "calls", "app", 1, 1, 5, 5, "checksum", "altered"] for one in ids])


def _span(**values: object) -> Change:
    return lambda found: found["spans"][0].update(values)


CHANGES: dict[str, Change] = {
    "a call with too few values": _resume(calls=[[1]]),
    "a call's times": _call(first="x"),
    "a call's status": _call(status=9),
    "a call's id": _call(call_id=5),
    "a call's channel": _call(cname=[]),
    "a call's number of users": _call(users=None),
    "a call twice": _resume(calls=[["app", "call", None, 1, 2, 0.0, 2, 2, None, 0]] * 2),
    "lost rows": _resume(lost=[["app", "calls", "x", "y", 5]]),
    "lost rows of an unknown dataset": _resume(lost=[["app", "x", 1, 1, "gone"]]),
    "skipped rows": _resume(skipped=[["app", "calls", "x", 5]]),
    "a day that is text": _part(day="x"),
    "a day that does not exist": _part(day="2026-02-30"),
    "a day in another format": _part(day="20261124"),
    "a day out of range": _part(day=10**30),
    "a number below 0": _part(number=-3),
    "an App ID that is a number": _part(app_id=5),
    "rows that are text": _part(rows="x"),
    "fewer rows": _part(rows=1),
    "an unknown number of rows": _part(rows=None),
    "a file that was altered and has rows": lambda found: _original(found["parts"][0]["id"])(found),
    "a file that was altered twice": _original(99, 99),
    "rows below 0": _part(rows=-1),
    "a size that is text": _part(bytes="9"),
    "a file without a checksum": _part(sha256=None, bytes=None),
    "a checksum that is a number": _part(sha256=5),
    "a part that is provisional and numbered": _part(provisional=True),
    "a part twice": lambda found: found["parts"].append(found["parts"][0]),
    "a part twice by another id": lambda found: found["parts"].append(found["parts"][0] | {"id": 99}),
    "a part twice, with its day as older manifests have it": lambda found: found["parts"].append(
        found["parts"][0] | {"id": 99, "rows": 0, "day": NOON // DAY}
    ),
    "no spans": lambda found: found.update(spans=[]),
    "a span that is text": _span(start="a", end="b"),
    "a span out of range": _span(start=2**70),
    "a span that ends before it begins": _span(start=5, end=2),
    "a span without a source": _span(source=None),
    "a span with an invalid state": _span(state=["read"]),
    "invalid settings": lambda found: found.update(settings=5),
    "an invalid database": lambda found: found.update(database={"bytes": "x", "sha256": None}),
    "no rows": lambda found: found.pop("rows"),
    "no parts": lambda found: found.update(parts=[]),
}


@pytest.fixture(scope="session")
def exported() -> dict[str, Path]:
    """Return a dictionary in which the first test stores the folder of a valid export under `folder`."""
    return {}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_modified_manifest_is_not_rebuilt_into_a_state(
    tmp_path, tmp_path_factory, simulation, exported, change
):
    remove_rate_limits(simulation)
    if not exported:
        exported["folder"] = tmp_path_factory.mktemp("damaged") / "export"
        await export(simulation, SELECTION, exported["folder"])
    folder = tmp_path / "export"
    shutil.copytree(exported["folder"], folder, ignore=shutil.ignore_patterns(".agora-export"))
    document = manifest_of(folder)
    change(document)
    text = json.dumps(document)
    (folder / "manifest.json").write_text(text)
    before = request_count(simulation)
    with pytest.raises(ExportError, match=r"manifest\.json is not what an export of this version wrote") as error:
        await export(simulation, SELECTION, folder, rebuild=True)
    assert (error.value.kind, request_count(simulation)) == ("state", before)
    assert (folder / "manifest.json").read_text() == text
