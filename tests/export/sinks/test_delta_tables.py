"""Exports as Delta tables: read by deltalake, each row is there once, whatever interrupts a run or writes beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.export_runs import HOUR, NOON, export, s3_options

from agora_analytics import ExportError, Insight, Selection
from agora_analytics.export.sinks import ReplacedError, local
from agora_analytics.export.sinks.local import LocalSink
from agora_analytics.export.write.delta_log import DataFile, DeltaLog

pq = pytest.importorskip("pyarrow.parquet")
deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: pip install 'deltalake>=1.6'")

DATASETS = ("calls", "sessions", "metrics")


def selected(until: int = NOON - 600, *datasets: str) -> Selection:
    return Selection(NOON - 3 * HOUR, until, datasets=datasets or DATASETS, mids={20001}, finished=True)


def table_rows(folder: Path | str, dataset: str, options: dict[str, str] | None = None) -> list[str]:
    table = deltalake.DeltaTable(f"{folder}/{dataset}", storage_options=options).to_pyarrow_table()
    return sorted(map(repr, table.to_pylist()))


def parquet_rows(folder: Path, dataset: str) -> list[str]:
    files = sorted((folder / dataset).glob("app=*/*/*.parquet"))  # not a checkpoint of the log
    return sorted(repr(row) for file in files for row in pq.ParquetFile(file).read().to_pylist())


class Killed(BaseException):
    """The process dies."""


async def test_a_delta_table_has_the_rows_and_the_types_of_parquet(tmp_path, simulation):
    report = await export(simulation, selected(), tmp_path / "delta", format="delta")
    await export(simulation, selected(), tmp_path / "parquet", format="parquet")
    for dataset in DATASETS:
        assert table_rows(tmp_path / "delta", dataset) == parquet_rows(tmp_path / "parquet", dataset)
        assert len(table_rows(tmp_path / "delta", dataset)) == report.rows[dataset] > 0
    table = deltalake.DeltaTable(tmp_path / "delta" / "calls")
    types = {field.name: field.type.type for field in table.schema().fields}
    assert types["created_ts"] == "timestamp"
    assert (types["finished"], types["call_pcu"], types["call_acu"]) == ("boolean", "long", "double")
    assert table.schema().fields[0].metadata["comment"] == "App ID of the project"


async def test_each_run_commits_its_parts_and_a_run_without_news_commits_nothing(tmp_path, simulation):
    await export(simulation, selected(NOON - 2 * HOUR, "calls"), tmp_path, format="delta")
    assert deltalake.DeltaTable(tmp_path / "calls").version() == 0
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    assert deltalake.DeltaTable(tmp_path / "calls").version() == 1
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    assert deltalake.DeltaTable(tmp_path / "calls").version() == 1
    assert len(deltalake.DeltaTable(tmp_path / "calls", version=0).to_pyarrow_table()) > 0


@pytest.mark.parametrize("moment", ["before the commit", "after the commit", "within the commit"])
async def test_a_killed_run_that_is_resumed_leaves_each_row_once(tmp_path, simulation, monkeypatch, moment):
    create = LocalSink.create

    def killed(self: LocalSink, name: str, content: bytes) -> None:
        if moment == "after the commit" and "sessions/_delta_log" in name:
            create(self, name, content)
        if "sessions/_delta_log" in name:
            raise Killed
        create(self, name, content)

    def killed_halfway(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "within the commit":
            patch.setattr(local, "_link", killed_halfway)
        else:
            patch.setattr(LocalSink, "create", killed)
        with pytest.raises(Killed):
            await export(simulation, selected(), tmp_path, format="delta")
    report = await export(simulation, selected(), tmp_path, format="delta")
    await export(simulation, selected(), tmp_path.with_name("whole"), format="parquet")
    assert report.complete
    for dataset in DATASETS:
        assert table_rows(tmp_path, dataset) == parquet_rows(tmp_path.with_name("whole"), dataset)


async def test_rows_that_the_service_recomputes_are_replaced(tmp_path, simulation):
    daily = Selection(
        NOON - 8 * 24 * HOUR, NOON - 600, datasets=("insights",), insights=[Insight("userCount", granularity="1h")]
    )
    first = await export(simulation, daily, tmp_path, format="delta")
    assert first.provisional > 0
    await export(simulation, daily, tmp_path, format="delta")
    assert len(table_rows(tmp_path, "insights")) == first.rows["insights"]
    assert table_rows(tmp_path, "insights") == parquet_rows(tmp_path, "insights")


async def test_a_vacuum_and_a_checkpoint_between_two_runs_change_nothing(tmp_path, simulation):
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    table = deltalake.DeltaTable(tmp_path / "calls")
    table.create_checkpoint()
    table.cleanup_metadata()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    report = await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta")
    assert len(table_rows(tmp_path, "calls")) == report.rows["calls"]
    assert table_rows(tmp_path, "calls") == parquet_rows(tmp_path, "calls")


async def test_a_lost_file_that_a_run_accepts_leaves_the_table_too(tmp_path, simulation):
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    next((tmp_path / "calls").rglob("part-00001.parquet")).unlink()
    with pytest.raises(ExportError, match="do not match the state"):
        await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta")
    await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta", rebuild=True)
    assert table_rows(tmp_path, "calls") == parquet_rows(tmp_path, "calls") != []


@pytest.mark.parametrize("trouble", ["gone", "altered"])
async def test_a_file_that_is_put_back_is_in_the_table_again(tmp_path, simulation, trouble):
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    before = table_rows(tmp_path, "calls")
    part = next((tmp_path / "calls").rglob("part-00001.parquet"))
    content = part.read_bytes()
    if trouble == "gone":
        part.unlink()
    else:
        pq.write_table(pq.ParquetFile(part).read().slice(1), part)
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta", rebuild=True)
    assert table_rows(tmp_path, "calls") == parquet_rows(tmp_path, "calls") != before
    part.write_bytes(content)
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta", rebuild=True)
    assert table_rows(tmp_path, "calls") == parquet_rows(tmp_path, "calls") == before


@pytest.mark.parametrize("lost", ["last", "all"])
async def test_rows_whose_log_is_lost_come_back_with_the_next_run(tmp_path, simulation, lost):
    for end in (NOON - 2 * HOUR, NOON - HOUR):
        await export(simulation, selected(end, "calls"), tmp_path, format="delta")
    entries = sorted((tmp_path / "calls" / "_delta_log").glob("*.json"))
    assert len(entries) == 2
    for entry in entries if lost == "all" else entries[-1:]:
        entry.unlink()
    report = await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta")
    assert table_rows(tmp_path, "calls") == parquet_rows(tmp_path, "calls")
    assert len(table_rows(tmp_path, "calls")) == report.rows["calls"]


async def test_a_gap_in_the_log_is_named_and_not_filled(tmp_path, simulation):
    for end in (NOON - 2 * HOUR, NOON - HOUR, NOON - HOUR // 2):
        await export(simulation, selected(end, "calls"), tmp_path, format="delta")
    log = tmp_path / "calls" / "_delta_log"
    (log / f"{1:020}.json").unlink()
    requests = simulation.service.counts.total()
    with pytest.raises(ExportError, match=r"_delta_log/0+1\.json is gone") as caught:
        await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta")
    assert caught.value.kind == "state"
    assert not (log / f"{1:020}.json").exists()
    assert simulation.service.counts.total() == requests


async def test_rows_that_another_program_has_compacted_are_not_doubled(tmp_path, simulation):
    for end in (NOON - 2 * HOUR, NOON - HOUR):
        await export(simulation, selected(end, "calls"), tmp_path, format="delta")
    before = table_rows(tmp_path, "calls")
    deltalake.DeltaTable(tmp_path / "calls").optimize.compact()
    assert len(deltalake.DeltaTable(tmp_path / "calls").file_uris()) == 1
    with pytest.raises(ExportError, match="do not match the state"):  # the file of that program
        await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    log = DeltaLog(LocalSink(tmp_path), "calls")
    log.agree({path.relative_to(tmp_path).as_posix(): FILE for path in (tmp_path / "calls").glob("app=*/*/part-*")})
    assert table_rows(tmp_path, "calls") == before


@pytest.mark.parametrize("app", ["a/b", "50%", "é\N{GRINNING FACE}?#"])
async def test_any_app_id_can_be_read(tmp_path, simulation, app):
    simulation.service.app_id = app
    async with simulation.client(app_id=app) as client:
        await client.export.run(selected(NOON - 600, "calls"), tmp_path, format="delta")
    found = deltalake.DeltaTable(tmp_path / "calls").to_pyarrow_table()
    assert set(found.column("app_id").to_pylist()) == {app}


@pytest.mark.slow
async def test_a_table_in_a_bucket_is_read_there(tmp_path, simulation, s3):
    place = f"s3://bucket/{tmp_path.name}"
    options = {"state": tmp_path / "state", "sink_options": s3_options(s3)}
    await export(simulation, selected(NOON - HOUR), place, format="delta", **options)
    report = await export(simulation, selected(), place, format="delta", **options)
    reading = {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "not-to-be-seen",
        "AWS_ENDPOINT_URL": s3,
        "AWS_REGION": "eu-west-1",
        "AWS_ALLOW_HTTP": "true",
    }
    assert {name: len(table_rows(place, name, reading)) for name in DATASETS} == report.rows


# The log


FILE = DataFile(size=10, rows=1, sha256="a" * 64, written_ms=NOON * 1_000)
NAME = "calls/app=a/day=2026-11-24/part-00001.parquet"


def actions(folder: Path) -> list[str]:
    entries = sorted((folder / "calls" / "_delta_log").iterdir())
    return [next(iter(json.loads(line))) for entry in entries for line in entry.read_text().splitlines()]


def test_a_file_that_the_log_has_is_not_committed_again(tmp_path):
    for _ in range(2):
        log = DeltaLog(LocalSink(tmp_path), "calls")
        log.withdraw(NAME, FILE.sha256)
        log.add(NAME, FILE)
    assert actions(tmp_path) == ["commitInfo", "protocol", "metaData", "add"]


def test_a_commit_of_another_program_does_not_get_lost(tmp_path):
    log, other = (DeltaLog(LocalSink(tmp_path), "calls") for _ in range(2))
    log.withdraw(NAME)
    other.withdraw(NAME)
    other.add(NAME.replace("00001", "00002"), FILE)
    log.add(NAME, FILE)
    assert actions(tmp_path).count("add") == 2


def test_a_run_that_was_superseded_replaces_no_file_of_its_successor(tmp_path):
    log, successor = (DeltaLog(LocalSink(tmp_path), "calls") for _ in range(2))
    log.withdraw(NAME)
    successor.withdraw(NAME)
    successor.add(NAME, FILE)
    with pytest.raises(ReplacedError, match="another process has changed"):
        log.add(NAME, DataFile(size=11, rows=2, sha256="b" * 64, written_ms=NOON * 1_000))


def test_a_log_without_its_first_entries_is_not_taken_for_a_new_table(tmp_path):
    log = DeltaLog(LocalSink(tmp_path), "calls")
    log.withdraw(NAME)
    log.add(NAME, FILE)
    folder = tmp_path / "calls" / "_delta_log"
    (folder / f"{0:020}.json").unlink()
    (folder / "_last_checkpoint").write_text("{}")
    with pytest.raises(OSError, match="first entries"):
        DeltaLog(LocalSink(tmp_path), "calls").withdraw(NAME)


async def test_a_damaged_log_is_an_error_that_names_it(tmp_path, simulation):
    await export(simulation, selected(NOON - HOUR, "calls"), tmp_path, format="delta")
    (tmp_path / "calls" / "_delta_log" / f"{0:020}.json").write_text("{")
    with pytest.raises(ExportError, match="_delta_log"):
        await export(simulation, selected(NOON - 600, "calls"), tmp_path, format="delta")
