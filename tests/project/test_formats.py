"""The reference of stored formats has every key of real checkpoints and manifests, with its type, and no other."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import aclosing, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.export_files import manifest_of
from helpers.pages import ROOT, rows_below
from helpers.streaming import BUSY, DAY, NETWORKS, NOON, USERS, consuming, simulated
from helpers.written_exports import SELECTION, write_export

from agora_analytics import Checkpoint, FileCheckpoints, Selection
from agora_analytics.models import Call
from agora_analytics.ops import alerts

CHECKPOINTS = "docs/reference/checkpoint-format.md"
MANIFESTS = "docs/reference/manifest-format.md"
TYPES = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}
Objects = Iterable[Mapping[str, Any]]


def documented(page: str, heading: str) -> dict[str, set[str]]:
    """Return the types of each key in the table below a heading."""
    return {row[0]: set(row[1].replace(" or ", ", ").split(", ")) for row in rows_below(page, heading)}


def undocumented(value: object, allowed: set[str]) -> bool:
    kind = "null" if value is None else TYPES[type(value)]
    return kind not in allowed and not (kind == "integer" and "number" in allowed)


def check(page: str, heading: str, objects: Objects) -> None:
    """Check that these objects have all keys of a table between them, and no other, with values of its types."""
    types = documented(page, heading)
    values = [(key, value) for one in objects for key, value in one.items()]
    assert {key for key, _ in values} == types.keys(), heading
    assert [(key, value) for key, value in values if undocumented(value, types[key])] == [], heading


def by_position(page: str, heading: str, rows: Iterable[list[Any]]) -> list[dict[str, Any]]:
    """Return lists of values as objects, by the positions of a table."""
    return [dict(zip(documented(page, heading), row, strict=True)) for row in rows]


async def save_checkpoints(folder: Path) -> None:
    """Let a watch, its alerts and a follow save in files."""
    rules = [alerts.parse("userCount:Native > 1")]
    async with simulated("enterprise", world=BUSY).client(checkpoints=FileCheckpoints(folder)) as client:
        watch = client.realtime.watch(USERS, NETWORKS, checkpoint="watch", gaps=True)
        follow = client.calls.follow(start=timedelta(hours=1), with_sessions=True, checkpoint="follow")
        async with consuming(follow), aclosing(alerts.evaluate(watch, rules)) as found:
            await anext(found)
            await asyncio.sleep(600)


def by_kind(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the checkpoints in a folder, by the first word of `stream`."""
    documents = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    return {document["stream"].split()[0]: document for document in documents}


@pytest.mark.slow
async def test_the_format_of_checkpoints_is_documented(tmp_path):
    await save_checkpoints(tmp_path)
    saved = by_kind(tmp_path)
    assert saved.keys() == {"watch", "follow", "alerts"}
    check(CHECKPOINTS, "## Keys", saved.values())
    check(CHECKPOINTS, "### Span", [span for one in saved.values() for span in one["done"]])
    series = [one for window in saved["watch"]["open"].values() for one in window.values()]
    check(CHECKPOINTS, "### Series in a window", series)
    check(CHECKPOINTS, "### Row", by_position(CHECKPOINTS, "### Row", [row for one in series for row in one["rows"]]))
    calls = saved["follow"]["open"].values()
    check(CHECKPOINTS, "### Call in a follow", calls)
    check(CHECKPOINTS, "### Fields of a call", [one[key] for one in calls for key in ("open", "pending") if key in one])
    check(CHECKPOINTS, "### Alert entries", saved["alerts"]["open"].values())
    assert documented(CHECKPOINTS, "### Fields of a call").keys() == attrs.fields_dict(Call).keys()
    assert documented(CHECKPOINTS, "## Keys").keys() - {"epoch"} == attrs.fields_dict(Checkpoint).keys()


LISTS = ("columns", "spans", "skipped", "parts", "resume.calls", "resume.skipped", "resume.lost", "resume.originals")
"""Tables of what lists have in a manifest."""


def exported(folder: Path) -> list[dict[str, Any]]:
    """Return manifests: one of an export that was cut off, and two of damaged ones, of files and of a database."""
    write_export(folder, format="jsonl", max_requests=40)
    cut_off = manifest_of(folder)
    write_export(folder, format="jsonl")
    removed, altered, *_ = sorted((folder / "calls").rglob("*.jsonl"))
    removed.unlink()
    altered.write_text(altered.read_text() * 2)
    write_export(folder, format="jsonl", rebuild=True)
    older = attrs.evolve(SELECTION, start=NOON - 40 * DAY)
    write_export(folder / "database", older, format="sqlite", max_requests=40)
    with closing(sqlite3.connect(folder / "database/export.sqlite", isolation_level=None)) as database:
        database.execute("DELETE FROM calls")
    write_export(folder / "database", older, format="sqlite", max_requests=1, rebuild=True)
    return [cut_off, manifest_of(folder), manifest_of(folder / "database")]


def of_lists(manifest: Mapping[str, Any], name: str) -> Objects:
    """Return what a list of a manifest has, or the lists of each dataset."""
    found = manifest
    for part in name.split("."):
        found = found[part]
    if isinstance(found, dict):
        return [one for some in found.values() for one in some]
    return by_position(MANIFESTS, f"### {name}", found) if name.startswith("resume.") else found


@pytest.mark.slow
def test_the_format_of_manifests_is_documented(tmp_path):
    manifests = exported(tmp_path)
    check(MANIFESTS, "## Keys", manifests)
    for name in ("settings", "selection", "resume"):
        check(MANIFESTS, f"### {name}", [one[name] for one in manifests])
    check(MANIFESTS, "### database", [one["database"] for one in manifests if one["database"]])
    for name in LISTS:
        check(MANIFESTS, f"### {name}", [entry for one in manifests for entry in of_lists(one, name)])


async def test_the_format_of_the_manifest_of_shards_is_documented(tmp_path):
    shards = Selection(NOON - DAY, NOON).shards(days=1)
    async with simulated().client() as client:
        await client.export.run(shards[0].selection, shards[0].place(tmp_path), format="jsonl", process=False)
        await client.export.merge(shards, tmp_path)
    merged = manifest_of(tmp_path)
    check(MANIFESTS, "### shards", merged["shards"])
    text = (ROOT / MANIFESTS).read_text(encoding="utf-8").partition("\n## The manifest of shards\n")[2]
    named = re.findall(r"`(\w+)`", text.partition("### shards")[0])
    assert set(named) == merged.keys() - {"shards"}
