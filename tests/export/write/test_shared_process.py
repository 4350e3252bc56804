"""The writer process that all exports of a program share: what one of them does to it harms no other."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers.export_files import rows
from helpers.export_machines import SlowTransport
from helpers.export_runs import HOUR, NOON, export, remove_rate_limits, request_count
from helpers.wrong_dates import Tampering

from agora_analytics import ExportError, Selection
from agora_analytics._core import futures
from agora_analytics.export.write import column_batch, part_writer, writer_process
from agora_analytics.export.write.subprocess_writer import SubprocessWriter
from agora_analytics.simulator import Simulation

pytestmark = [pytest.mark.process, pytest.mark.real_time]

SELECTION = Selection(NOON - 2 * HOUR, NOON - 600, datasets=("calls", "sessions"))
NAMES = SELECTION.datasets

BEFORE_WRITING = """
import os, time
from agora_analytics.export.formats.jsonl import JsonLinesWriter
write = JsonLinesWriter._write
def patched(self, batch):
    path = str(self._scratch)
    {code}
    write(self, batch)
JsonLinesWriter._write = patched
serve()
"""


def before_writing(monkeypatch, code: str) -> None:
    """Make the writer process execute code before it writes rows as JSON Lines."""
    whole = writer_process._CODE.replace("serve()", f"exec({BEFORE_WRITING.format(code=code)!r})")
    monkeypatch.setattr(writer_process, "_CODE", whole)


async def run_all(simulation: Simulation, folders: list[Path], **options) -> list[object]:
    async with simulation.client(quotas=False) as client:
        runs = [client.export.run(SELECTION, folder, format=options.get("format", "jsonl")) for folder in folders]
        return await asyncio.gather(*runs, return_exceptions=True)


@pytest.fixture
async def truth(tmp_path, simulation) -> dict[str, object]:
    remove_rate_limits(simulation)
    await export(simulation, SELECTION, tmp_path / "truth", process=False)
    return {name: rows(tmp_path / "truth", name) for name in NAMES}


def rows_in(folder: Path) -> dict[str, object]:
    return {name: rows(folder, name) for name in NAMES}


@pytest.mark.slow
async def test_twenty_exports_at_once_share_one_process_that_ends_with_the_last(tmp_path, simulation, started, truth):
    folders = [tmp_path / f"{number}" for number in range(20)]
    reports = await run_all(simulation, folders)
    assert all(report.complete for report in reports)
    assert [process.returncode for process in started] == [0]
    assert all(rows_in(folder) == truth for folder in folders)


async def test_an_export_writes_in_a_thread_if_it_is_told_so(tmp_path, simulation, started, truth):
    await export(simulation, SELECTION, tmp_path / "thread", process=False)
    assert rows_in(tmp_path / "thread") == truth
    assert started == []


@pytest.mark.slow_except("jsonl", "sqlite")
@pytest.mark.parametrize("form", ["jsonl", "parquet", "sqlite", "duckdb"])
async def test_all_exports_continue_when_their_process_is_killed(
    tmp_path, simulation, started, truth, monkeypatch, form
):
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 2_000)  # so that parts are open early
    answers = 0

    def kill_halfway(_: object) -> None:
        nonlocal answers
        answers += 1
        if answers in {8, 16}:
            started[-1].kill()

    before = request_count(simulation)
    folders = [tmp_path / "one", tmp_path / "two"]
    transport = Tampering(simulation.transport(), kill_halfway)
    async with simulation.client(quotas=False, transport=transport) as client:
        reports = await asyncio.gather(*(client.export.run(SELECTION, folder, format=form) for folder in folders))
    assert all(report.complete for report in reports)
    assert sum(report.requests for report in reports) == request_count(simulation) - before
    assert [process.returncode for process in started][:2] in ([-9, -9], [-9, 0])
    # Each kill ends one process. Both exports share what follows it, unless one ends before the other is back.
    ends = [process.returncode for process in started]
    assert (ends.count(-9) <= 2, ends.count(0) <= len(folders), ends[-1]) == (True, True, 0)
    assert len(ends) == ends.count(-9) + ends.count(0)
    assert [rows_in(folder) for folder in folders] == [truth, truth]


async def test_an_export_that_crashes_its_process_harms_no_other(tmp_path, simulation, started, truth, monkeypatch):
    before_writing(monkeypatch, "'/crashes/' in path and os.kill(os.getpid(), 9)")
    folders = [tmp_path / name for name in ("one", "crashes", "two")]
    first, crashed, second = await run_all(simulation, folders)
    assert isinstance(crashed, ExportError)
    assert (crashed.kind, "signal 9" in str(crashed)) == ("writer", True)
    assert first.complete
    assert second.complete
    assert [rows_in(folders[0]), rows_in(folders[2])] == [truth, truth]
    assert all(process.returncode is not None for process in started)


async def test_an_export_whose_disk_is_slow_delays_no_other_and_queues_little(
    tmp_path, simulation, started, truth, monkeypatch
):
    monkeypatch.setattr(part_writer, "_FLUSH_SIZE", 2_000)
    released = tmp_path / "released"
    while_slow = f"'/slow/' in path and not os.path.exists({str(released)!r})"
    before_writing(monkeypatch, f"\n    while {while_slow}: time.sleep(0.01)")
    sent: list[int] = []
    send = writer_process.WriterProcess.send

    def count(self, command, lines):
        sent.append(len(lines) if command[0] == 0 else 0)
        return send(self, command, lines)

    monkeypatch.setattr(writer_process.WriterProcess, "send", count)
    slow = asyncio.create_task(export(simulation, SELECTION, tmp_path / "slow"))
    while not any(sent):  # noqa: ASYNC110 - another thread sends
        await asyncio.sleep(0)
    await export(simulation, SELECTION, tmp_path / "quick")
    assert rows_in(tmp_path / "quick") == truth
    assert not slow.done()
    assert sum(map(bool, sent)) <= writer_process._MAX_QUEUED_ADDS
    released.touch()
    assert (await slow).complete
    assert rows_in(tmp_path / "slow") == truth
    assert len(started) == 1


async def test_an_export_that_is_stopped_while_it_waits_leaves_the_process_to_the_others(
    tmp_path, simulation, started, truth, monkeypatch
):
    monkeypatch.setattr(futures, "_GRACE", 0.05)
    await export(simulation, SELECTION, tmp_path / "waits", format="sqlite", max_requests=1)
    other = asyncio.create_task(export(simulation, SELECTION, tmp_path / "other"))
    with closing(sqlite3.connect(tmp_path / "waits" / "export.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(export(simulation, SELECTION, tmp_path / "waits", format="sqlite"))
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (await other).complete
    assert rows_in(tmp_path / "other") == truth
    report = await export(simulation, SELECTION, tmp_path / "waits", format="sqlite")
    assert report.complete
    assert rows_in(tmp_path / "waits") == truth


async def test_the_process_ends_after_its_parent_also_when_a_write_never_ends(tmp_path, started, monkeypatch):
    seen = tmp_path / "seen"
    never = f"open({str(seen)!r}, 'w'); time.sleep(3600)"
    before_writing(monkeypatch, f"import agora_analytics.export.write.writer_main as m; m._EXIT_TIMEOUT = 0.1; {never}")
    for name in ("data", "scratch"):
        (tmp_path / name).mkdir()
    writer = SubprocessWriter("jsonl", tmp_path / "data", tmp_path / "scratch")
    writer.begin("calls", 0)
    writer.add([column_batch.serialize(column_batch.calls("app", []))])
    while not seen.exists():  # noqa: ASYNC110 - in the other process
        await asyncio.sleep(0.01)
    started[-1].stdin.close()
    assert await asyncio.to_thread(started[-1].wait, 20) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_process_holds_no_file_of_an_export_that_has_ended(tmp_path, simulation, started, truth):
    def held(folder: Path) -> list[str]:
        found = [str(link.readlink()) for link in Path(f"/proc/{started[0].pid}/fd").iterdir()]
        return [name for name in found if name.startswith(f"{folder}/")]

    transport = SlowTransport(simulation.transport(), 2)
    async with simulation.client(quotas=False, transport=transport) as client:
        second = asyncio.create_task(client.export.run(SELECTION, tmp_path / "second", format="sqlite"))
        await transport.reached.wait()
        await export(simulation, SELECTION, tmp_path / "first", format="sqlite")
        assert held(tmp_path / "second")
        assert held(tmp_path / "first") == []
        transport.released.set()
        await second
    assert len(started) == 1
