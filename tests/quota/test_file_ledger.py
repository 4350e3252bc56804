"""A ledger in a file beyond the contract: other programs, reboots, killed processes, locks, unusable files."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from helpers.ledger_changes import BlockedChange, ChangeError, increment, read_count, read_state

from agora_analytics import ENTERPRISE, FileLedger, LedgerError
from agora_analytics.plans import CALL_LISTS
from agora_analytics.quota import LedgerState
from agora_analytics.quota.date_trust import DateSample, DateTrust
from agora_analytics.quota.ledger_state import MAX_PROCESSES
from agora_analytics.quota.limiters import Limiters
from agora_analytics.simulator import Simulation

pytestmark = pytest.mark.real_time


async def test_a_change_that_raises_is_rolled_back(file):
    def fail(state: LedgerState) -> None:
        increment(state)
        raise ChangeError

    await file.change("a", increment)
    for account in ("a", "b"):
        with pytest.raises(ChangeError):
            await file.change(account, fail)
    assert await file.change("a", read_count) == 1
    assert await file.change("b", read_count) == 0


async def test_a_change_that_has_started_is_finished_before_its_caller_is_cancelled(file):
    blocked_change = BlockedChange()
    task = asyncio.create_task(file.change("a", blocked_change))
    await blocked_change.started()
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    blocked_change.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await file.change("a", read_count) == 1


async def test_a_queued_change_is_made_however_often_its_caller_is_cancelled(file):
    blocked_change = BlockedChange()
    first = asyncio.create_task(file.change("a", blocked_change))
    await blocked_change.started()
    second = asyncio.create_task(file.change("a", increment))
    for _ in range(3):
        await asyncio.sleep(0)
        second.cancel()
    await asyncio.sleep(0.05)
    assert not second.done()
    blocked_change.release()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await first == 1
    assert await file.change("a", read_count) == 2


@pytest.mark.parametrize("loop_steps", [1, 3])
async def test_a_permit_issued_to_a_cancelled_caller_is_released(file, loop_steps):
    limiters = Limiters(ENTERPRISE, file, account="a", clock=lambda: 1_795_521_600.0)
    blocked_change = BlockedChange()
    blocked = asyncio.create_task(file.change("b", blocked_change))
    await blocked_change.started()
    task = asyncio.create_task(limiters.permit(CALL_LISTS).__aenter__())
    for _ in range(loop_steps):
        await asyncio.sleep(0)
    task.cancel()
    blocked_change.release()
    await asyncio.wait([blocked, task])
    assert task.cancelled()
    day = next(state for state in await limiters.snapshot() if (state.counter, state.unit) == ("call_lists", "day"))
    assert (day.used, await file.change("a", lambda state: state.issued)) == (0, 1)


async def test_an_error_in_a_change_after_its_caller_was_cancelled_is_not_reported(file):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    blocked_change = BlockedChange(ChangeError())
    task = asyncio.create_task(file.change("a", blocked_change))
    await blocked_change.started()
    task.cancel()
    await asyncio.sleep(0.05)
    blocked_change.release()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    await asyncio.sleep(0)
    assert reported == []


async def test_close_waits_for_the_queued_changes(file):
    changes = [asyncio.create_task(file.change("a", increment)) for _ in range(10)]
    await asyncio.sleep(0)
    await file.close()
    assert await asyncio.gather(*changes) == list(range(1, 11))
    assert [thread for thread in threading.enumerate() if thread.name.startswith("agora_analytics ledger")] == []


async def test_a_change_that_is_queued_during_close_is_made(file):
    blocked_change = BlockedChange()
    first = asyncio.create_task(file.change("a", blocked_change))
    await blocked_change.started()
    closing = asyncio.create_task(file.close())
    await asyncio.sleep(0)
    second = asyncio.create_task(file.change("a", increment))
    await asyncio.sleep(0.05)
    blocked_change.release()
    assert await asyncio.gather(first, closing, second) == [1, None, 2]


async def test_only_the_user_may_read_the_file_and_its_folder(file, path):
    await file.change("a", increment)
    assert repr(file) == f"FileLedger({str(path)!r})"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == {0o600}


async def test_two_ledgers_on_one_file_share_its_counts(file, path):
    other = FileLedger(path)
    try:
        assert [await one.change("a", increment) for one in (file, other, file, other)] == [1, 2, 3, 4]
        results = await asyncio.gather(*(one.change("a", increment) for one in (file, other) for _ in range(25)))
    finally:
        await other.close()
    assert sorted(results) == list(range(5, 55))


def fill(state: LedgerState) -> LedgerState:
    """Fill a state with everything that a program learns."""
    now, wall = time.monotonic(), int(time.time())
    state.trust.learn(state.clock, 0, DateSample(now - 0.2, now - 0.1, wall), wall - now)
    counter = state.counter("lists")
    counter.used_per_day = {wall // 86_400: 17}
    counter.learned_limits.learn("second", 4, 10, wall)
    counter.completed = [now - 0.1]
    counter.rate_limited_at = {"second": now}
    counter.exhausted_day = wall // 86_400
    counter.refusals = 2
    counter.in_flight = {state.next_permit_id(): now + 300}
    return state


async def test_a_reopened_file_has_the_whole_state(file, path):
    before = await file.change("a", fill)
    await file.close()
    other = FileLedger(path)
    after = await other.change("a", read_state)
    await other.close()
    assert after.clock.known
    assert after.trust.confirmed
    assert (after.counters, after.clock, after.issued) == (before.counters, before.clock, before.issued)
    assert after.trust == before.trust


async def test_after_a_reboot_only_days_and_learned_limits_are_kept(file):
    def fill_before_reboot(state: LedgerState) -> LedgerState:
        fill(state)
        counter = state.counter("lists")
        # As if the monotonic clock, which starts at boot, had been an hour ahead.
        state.boot_time -= 3_600
        counter.completed = [at + 3_600 for at in counter.completed]
        counter.in_flight = {number: at + 3_600 for number, at in counter.in_flight.items()}
        counter.rate_limited_at = {unit: at + 3_600 for unit, at in counter.rate_limited_at.items()}
        return state

    before = await file.change("a", fill_before_reboot)
    await file.close()
    after = await file.change("a", read_state)
    new, old = after.counter("lists"), before.counter("lists")
    assert not after.clock.known
    assert after.trust == DateTrust()
    assert (new.completed, new.in_flight, new.rate_limited_at) == ([], {}, {})
    assert (new.used_per_day, new.learned_limits, new.exhausted_day, after.issued) == (
        old.used_per_day,
        old.learned_limits,
        old.exhausted_day,
        before.issued,
    )


def add_request_in_flight(state: LedgerState) -> None:
    """Add a request that has been in flight for two seconds."""
    state.counter("lists").in_flight[state.next_permit_id()] = time.monotonic() + 298


def count_in_flight(state: LedgerState) -> int:
    return len(state.counter("lists").in_flight)


async def test_requests_in_flight_of_a_running_process_are_kept(file, path):
    other = FileLedger(path)
    await other.change("a", add_request_in_flight)
    assert await file.change("a", count_in_flight) == 1
    await other.close()


def _crash_with_a_request_in_flight(path: Path) -> None:
    asyncio.run(FileLedger(path).change("a", add_request_in_flight))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.process
async def test_requests_in_flight_of_a_killed_process_are_completed_within_half_a_second(file, path):
    process = multiprocessing.get_context("spawn").Process(target=_crash_with_a_request_in_flight, args=(path,))
    process.start()
    await asyncio.to_thread(process.join)
    assert process.exitcode == -signal.SIGKILL
    assert await file.change("a", count_in_flight) == 0
    [answered] = (await file.change("a", read_state)).counter("lists").completed
    assert 0 < answered - time.monotonic() <= 0.5
    await file.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_file_whose_process_slots_all_belong_to_crashed_processes_opens(file, path):
    await file.change("a", increment)
    database = sqlite3.connect(path)
    slots = [(slot, f"crashed-{slot}") for slot in range(1, MAX_PROCESSES)]
    database.executemany("INSERT INTO process_slots VALUES (?, ?)", slots)
    database.commit()
    database.close()
    other = FileLedger(path)
    assert await other.change("a", read_count) == 1
    await other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_and_its_parent_share_the_file(file, path):
    await file.change("a", increment)
    child = os.fork()
    if not child:
        asyncio.set_event_loop(None)
        asyncio.events._set_running_loop(None)
        asyncio.run(_count_and_close(file))
        os._exit(0)
    assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
    assert await file.change("a", read_count) == 2
    other = FileLedger(path)
    await file.change("a", add_request_in_flight)
    assert await other.change("a", count_in_flight) == 1
    await other.close()


async def _count_and_close(ledger: FileLedger) -> None:
    await ledger.change("a", increment)
    await ledger.close()


@pytest.fixture(params=["folder", "garbage", "below a file", "another schema", "another state"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "unusable"
    if request.param == "folder":
        path.mkdir()
    elif request.param in {"garbage", "below a file"}:
        path.write_bytes(b"no database at all " * 100)
    else:
        other_schema = request.param == "another schema"
        columns = "cow TEXT" if other_schema else "account TEXT PRIMARY KEY, state BLOB NOT NULL"
        values = "'moo'" if other_schema else """'a', '{"clock":3}'"""
        database = sqlite3.connect(path)
        database.execute(f"CREATE TABLE accounts ({columns})")
        database.execute(f"INSERT INTO accounts VALUES ({values})")
        database.commit()
        database.close()
    return path / "quota.db" if request.param == "below a file" else path


async def test_a_file_of_an_earlier_version_is_rejected_and_keeps_its_counts(file, path):
    path.parent.mkdir(exist_ok=True)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE books (account TEXT PRIMARY KEY, book BLOB NOT NULL)")
    database.execute("CREATE TABLE processes (slot INTEGER PRIMARY KEY, sign TEXT NOT NULL)")
    database.execute("""INSERT INTO books VALUES ('a', '{"given":9,"counters":{"lists":{"underway":{"9":1e9}}}}')""")
    database.execute("INSERT INTO processes VALUES (0, 'gone')")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="an earlier version of the library stored it; delete it"):
        await file.change("a", increment)
    assert path.read_bytes()[100:] == before[100:]  # the header has counters of SQLite


async def test_a_state_in_another_format_is_rejected(file, path):
    await file.change("a", increment)
    await file.close()
    database = sqlite3.connect(path)
    (state,) = database.execute("SELECT state FROM accounts").fetchone()
    assert state.count(b'"format":1') == 1
    database.execute("UPDATE accounts SET state = ?", (state.replace(b'"format":1', b'"format":2'),))
    database.commit()
    database.close()
    with pytest.raises(LedgerError, match="another version of the library stored it, in format 2 instead of 1"):
        await file.change("a", increment)


async def test_an_unusable_file_raises_and_no_request_is_sent(unusable):
    simulation, ledger = Simulation(), FileLedger(unusable)
    async with simulation.client(ledger=ledger) as client:
        for _ in range(2):
            with pytest.raises(LedgerError) as caught:
                await client.calls.page(*client.calls.recent(600))
            assert str(unusable) in str(caught.value)
            assert "No request is sent without it" in str(caught.value)
    await ledger.close()
    assert simulation.service.counts == {}


async def test_a_file_that_is_no_ledger_is_not_changed(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear all, " * 200)
    path.chmod(0o644)
    async with FileLedger(path) as ledger:
        with pytest.raises(LedgerError):
            await ledger.change("a", increment)
    assert path.read_text() == "Dear all, " * 200
    assert path.stat().st_mode & 0o777 == 0o644


async def test_a_ledger_works_once_its_path_is_repaired(file, path):
    path.parent.write_text("in the way")
    with pytest.raises(LedgerError):
        await file.change("a", increment)
    path.parent.unlink()
    assert await file.change("a", increment) == 1


@pytest.fixture
def other_program(path: Path):
    """Another program's connection to the ledger's file."""
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    yield database
    database.close()


@pytest.mark.parametrize("already_open", [True, False])
async def test_a_change_waits_while_another_program_holds_the_lock(other_program, file, fake_time, already_open):
    before = await file.change("a", increment) if already_open else 0
    other_program.execute("BEGIN IMMEDIATE")
    fake_time.call_after(0.9, lambda: other_program.execute("COMMIT"))
    assert await file.change("a", increment) == before + 1
    assert fake_time.slept == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("already_open", [True, False])
async def test_a_lock_that_is_held_for_more_than_a_second_raises(other_program, file, path, fake_time, already_open):
    before = await file.change("a", increment) if already_open else 0
    other_program.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError) as caught:
        await file.change("a", increment)
    assert fake_time.slept == pytest.approx(1, abs=0.01)
    assert str(path) in str(caught.value)
    other_program.execute("ROLLBACK")
    assert await file.change("a", increment) == before + 1


async def test_a_symbolic_link_raises_and_is_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"")
    (tmp_path / "victim").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    file = FileLedger(tmp_path / "link")
    with pytest.raises(LedgerError, match="symbolic link"):
        await file.change("a", increment)
    await file.close()
    assert (tmp_path / "victim").read_bytes() == b""
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o644
