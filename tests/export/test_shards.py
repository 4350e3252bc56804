"""A selection that is divided among workers: disjoint shards, each an ordinary export, and one manifest of all."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import attrs
import pytest
from helpers.export_files import rows
from helpers.export_runs import DAY, HOUR, NOON, export, remove_rate_limits, request_count
from hypothesis import given
from hypothesis import strategies as st

from agora_analytics import ExportError, Insight, Selection, Series
from agora_analytics.export import shards as export_shards
from agora_analytics.export.sinks import ReplacedError
from agora_analytics.export.write.target import write_manifest
from agora_analytics.simulator import APP_ID

OTHERS = tuple(f"{number:032x}" for number in range(3))
MIDNIGHT = NOON - NOON % DAY
LAST_DAY = Selection(MIDNIGHT - 6 * HOUR, NOON - HOUR, datasets=("calls", "sessions"), apps=(APP_ID, *OTHERS))


@given(
    start=st.integers(0, 40 * DAY),
    length=st.integers(1, 40 * DAY),
    apps=st.integers(0, 7),
    at_once=st.integers(1, 4),
    days=st.integers(1, 9),
)
def test_shards_are_disjoint_named_apart_and_together_the_selection(start, length, apps, at_once, days):
    selection = Selection(start, start + length, apps=[f"{number:032x}" for number in range(apps)])
    shards = selection.shards(apps=at_once, days=days)
    assert len({shard.name for shard in shards}) == len(shards)
    assert {attrs.evolve(shard.selection, start=start, end=start + length, apps=()) for shard in shards} == {
        attrs.evolve(selection, apps=())
    }
    for app in selection.apps or ("",):
        spans = [shard.selection.span for shard in shards if app in (shard.selection.apps or ("",))]
        assert (spans[0].start, spans[-1].end) == tuple(selection.span)
        assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]
        assert all(span.end % (days * DAY) == 0 for span in spans[:-1])
    assert shards == selection.shards(apps=at_once, days=days)


def test_shards_keep_their_names_when_the_selection_grows():
    longer = attrs.evolve(LAST_DAY, end=NOON + 2 * DAY, apps=(*LAST_DAY.apps, "f" * 32))
    before, after = (
        {shard.name: shard.selection for shard in one.shards(apps=3, days=1)} for one in (LAST_DAY, longer)
    )
    assert [name for name in before if before[name] == after[name]] == [next(iter(before))]
    assert set(before) < set(after)
    assert all(set(before[name].apps) <= set(after[name].apps) for name in before)


def union(folder: Path, shards, dataset: str) -> list[object]:
    return sorted((row for shard in shards for row in rows(Path(shard.place(folder)), dataset)), key=str)


@pytest.mark.slow
async def test_shards_have_the_rows_of_the_whole_export_and_one_manifest(tmp_path, simulation):
    remove_rate_limits(simulation)
    simulation.service.other_apps = OTHERS
    datasets = ("calls", "sessions", "insights", "realtime")
    options = {
        "insights": [Insight("userCount", granularity="1h"), Insight("userCount", dimension="country")],
        "series": [Series("userCount", product="Native")],
    }
    selection = Selection(MIDNIGHT - 30 * HOUR, NOON - HOUR, datasets=datasets, apps=LAST_DAY.apps, **options)
    await export(simulation, selection, tmp_path / "whole")
    shards = selection.shards(apps=2, days=1)
    assert len(shards) == 6
    async with simulation.client(quotas=False) as client:
        runs = [client.export.run(one.selection, one.place(tmp_path / "shards"), format="jsonl") for one in shards]
        reports = await asyncio.gather(*runs)
        merged = await client.export.merge(shards, tmp_path / "shards")
    incomplete = tuple(shard.name for shard, report in zip(shards, reports, strict=True) if not report.complete)
    assert (merged.complete, merged.missing, merged.incomplete) == (not incomplete, (), incomplete)
    assert merged.parts == sum(one.parts for one in reports)
    for name in datasets:
        expected = sorted(rows(tmp_path / "whole", name), key=str)
        assert union(tmp_path / "shards", shards, name) == expected
        assert merged.rows[name] == len(expected)
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert manifest["complete"] is merged.complete
    assert [one["name"] for one in manifest["shards"]] == [shard.name for shard in shards]
    assert all((tmp_path / "shards" / part["path"]).is_file() for part in manifest["parts"])
    assert not [path for path in (tmp_path / "shards").iterdir() if path.name.startswith(".")]


async def test_another_worker_continues_a_shard_and_nothing_is_complete_before_it_has(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = attrs.evolve(LAST_DAY, apps=())
    shards = selection.shards(days=1)
    to = f"memory://{tmp_path.name}/shards"

    async def run(worker: str, number: int, **options):
        return await export(
            simulation, shards[number].selection, shards[number].place(to), state=tmp_path / worker, **options
        )

    async def merge():
        async with simulation.client() as client:
            return await client.export.merge(shards, to)

    await run("one", 0)
    assert (await merge()).missing == (shards[1].name,)
    first = await run("two", 1, max_requests=5)
    merged = await merge()
    assert (merged.complete, merged.missing, merged.incomplete) == (False, (), (shards[1].name,))
    before = request_count(simulation)
    second = await run("three", 1)
    await export(simulation, shards[1].selection, tmp_path / "alone")
    assert request_count(simulation) - before - second.requests == first.requests + second.requests
    assert (await merge()).complete


async def test_a_shard_that_grew_is_missing_until_it_was_run_again(tmp_path, simulation):
    remove_rate_limits(simulation)
    shorter = attrs.evolve(LAST_DAY, end=NOON - 3 * HOUR, apps=())
    longer = attrs.evolve(shorter, end=NOON - HOUR)
    async with simulation.client(quotas=False) as client:
        for selection, missing in ((shorter, 1), (longer, 0)):
            for shard in selection.shards(days=1):
                await client.export.run(shard.selection, shard.place(tmp_path), format="jsonl")
            merged = await client.export.merge(longer.shards(days=1), tmp_path)
            assert (len(merged.missing), merged.complete) == (missing, not missing)
    await export(simulation, longer, tmp_path / "whole")
    assert union(tmp_path, longer.shards(days=1), "calls") == sorted(rows(tmp_path / "whole", "calls"), key=str)


@pytest.mark.parametrize("refuses", [True, False], ids=["the store refuses", "the store replaces"])
async def test_a_merge_that_another_worker_overtakes_has_its_shard_too(tmp_path, simulation, monkeypatch, refuses):
    remove_rate_limits(simulation)
    shards = attrs.evolve(LAST_DAY, datasets=("calls",), apps=()).shards(days=1)
    to, overtaken = tmp_path / "shards", []
    place, aside = Path(shards[1].place(to)), tmp_path / "aside"

    def write(sink, scratch, document):
        if not overtaken:
            overtaken.append(aside.rename(place))
            if refuses:
                raise ReplacedError("another process has written it")
        write_manifest(sink, scratch, document)

    async with simulation.client(quotas=False) as client:
        for shard in shards:
            await client.export.run(shard.selection, shard.place(to), format="jsonl")
        await asyncio.to_thread(place.rename, aside)
        monkeypatch.setattr(export_shards, "write_manifest", write)
        merged = await client.export.merge(shards, to)
    assert merged.missing == ()
    manifest = json.loads((to / "manifest.json").read_text())
    assert {part["path"].partition("/")[0] for part in manifest["parts"]} == {shard.name for shard in shards}


async def test_what_a_shard_skipped_is_in_the_report_of_all(tmp_path, simulation):
    remove_rate_limits(simulation)
    ancient = Selection(NOON - 90 * DAY, NOON - HOUR, datasets=("calls",), channels=("room-1",))
    shards = ancient.shards(days=60)
    async with simulation.client(quotas=False) as client:
        reports = [await client.export.run(one.selection, one.place(tmp_path), format="jsonl") for one in shards]
        merged = await client.export.merge(shards, tmp_path)
    assert any(report.skipped for report in reports)
    assert merged.skipped == tuple(skipped for report in reports for skipped in report.skipped)
    assert not merged.complete


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"datasets": ("calls",)}, "settings"), ({"apps": (*OTHERS, APP_ID)}, "settings"), (None, "state")],
)
async def test_shards_of_another_selection_are_not_merged(tmp_path, simulation, change, kind):
    remove_rate_limits(simulation)
    simulation.service.other_apps = OTHERS
    shards = LAST_DAY.shards(apps=2)
    await export(simulation, shards[0].selection, Path(shards[0].place(tmp_path)))
    if change is None:
        (tmp_path / shards[0].name / "manifest.json").write_text("[]")
    else:
        shards = attrs.evolve(LAST_DAY, **change).shards(apps=2)
    async with simulation.client() as client:
        with pytest.raises(ExportError, match=shards[0].name) as error:
            await client.export.merge(shards, tmp_path)
    assert error.value.kind == kind
    assert not (tmp_path / "manifest.json").exists()


async def test_shards_that_were_divided_in_another_way_are_not_left_beside_the_new_ones(tmp_path, simulation):
    remove_rate_limits(simulation)
    selection = attrs.evolve(LAST_DAY, datasets=("calls",), apps=())
    before, after = selection.shards(days=1), selection.shards(days=30_000)
    later = attrs.evolve(selection, start=MIDNIGHT).shards(days=1)
    async with simulation.client(quotas=False) as client:
        for shard in (*before, *after):
            await client.export.run(shard.selection, shard.place(tmp_path), format="jsonl")
        await client.export.merge(before, tmp_path)
        with pytest.raises(ExportError, match=f"the shard {before[0].name}, which was merged before") as error:
            await client.export.merge(after, tmp_path)
        assert error.value.kind == "settings"
        assert (await client.export.merge(later, tmp_path)).complete, "one that lies before is in nobody's way"
        for shard in before:
            await asyncio.to_thread(shutil.rmtree, shard.place(tmp_path))
        assert (await client.export.merge(after, tmp_path)).complete


async def test_bad_arguments_of_shards_are_refused(simulation, tmp_path):
    for options in ({"apps": 0}, {"days": 0}, {"days": "7"}):
        with pytest.raises((ValueError, TypeError), match=next(iter(options))):
            LAST_DAY.shards(**options)
    async with simulation.client() as client:
        with pytest.raises(TypeError, match=r"shards\[0\]"):
            await client.export.merge([LAST_DAY], tmp_path)


async def test_shards_that_overlap_are_not_merged(simulation, tmp_path):
    by_day, by_week = LAST_DAY.shards(days=1), LAST_DAY.shards(days=7)
    other = attrs.evolve(LAST_DAY, apps=("e" * 32,)).shards(days=1)
    async with simulation.client() as client:
        with pytest.raises(ValueError, match="overlap, so rows would be counted twice"):
            await client.export.merge([*by_day, *by_week], tmp_path)
        with pytest.raises(ValueError, match=f"two of them are '{by_day[0].name}'"):
            await client.export.merge([*by_day, *other], tmp_path)
        assert len((await client.export.merge([*by_day, *by_day], tmp_path)).missing) == len(by_day)


@pytest.mark.parametrize("content", [None, "{}", "[]", "no JSON"])
async def test_shards_are_not_merged_where_the_manifest_of_something_else_is(tmp_path, simulation, content):
    manifest = tmp_path / "manifest.json"
    if content is None:
        await export(simulation, attrs.evolve(LAST_DAY, datasets=("calls",), apps=()), tmp_path)
    else:
        manifest.write_text(content)
    before = manifest.read_bytes()
    async with simulation.client() as client:
        with pytest.raises(ExportError, match="is of something else") as error:
            await client.export.merge(LAST_DAY.shards(), tmp_path)
    assert error.value.kind == "settings"
    assert manifest.read_bytes() == before
