"""A sink in a real PostgreSQL: the rows of each event, and what a refused, repeated or cancelled write leaves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest
from helpers.times import NOON
from psycopg_pool import AsyncConnectionPool

from agora_analytics import (
    Call,
    CallChanged,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Checkpoint,
    CheckpointError,
    Gap,
    Revision,
    Series,
    Session,
    Span,
    Window,
)
from agora_analytics._core.shared_store import StoreFailedError
from agora_analytics.models import Point
from agora_analytics.streams import PostgresCheckpoints, PostgresSink

pytestmark = [pytest.mark.real_time, pytest.mark.process]

USERS = Series("userCount", product="Native")
NETS = Series("userCount", product="Native", dimension="net")
PLACE = Checkpoint(stream="watch 0")


@pytest.fixture
def prefix() -> str:
    return f"sink_{secrets.token_hex(4)}"


@pytest.fixture(params=["postgres", "pgbouncer"])
def new_sink(request: pytest.FixtureRequest, prefix: str) -> Callable[[], PostgresSink]:
    url = request.getfixturevalue(request.param).url
    return lambda: PostgresSink(url, "prod", prefix=prefix)


def users(ts: int, value: float, series: Series = USERS) -> Window:
    return Window(ts=ts, values={series: (Point.of(ts, value, metric="userCount"),)})


def at(ts: int) -> Checkpoint:
    return Checkpoint(stream="watch 0", done=(Span(NOON, ts + 20),))


async def test_the_rows_of_a_window_and_its_checkpoint_are_written_together(new_sink, postgres, prefix):
    async with new_sink() as sink:
        assert sink.checkpoint is None
        await sink.write(users(NOON, 40), at(NOON))
        await sink.write(users(NOON + 20, 41.5), at(NOON + 20))
    rows = postgres.run(
        f"select stream, extract(epoch from ts)::bigint, metric, product, cname, dimension, dimension_value, uid,"
        f" value, missing, final from {prefix}_windows order by ts"
    )
    start = "userCount", "Native", "", "", "", ""
    assert rows == [("prod", NOON, *start, 40.0, None, False), ("prod", NOON + 20, *start, 41.5, None, False)]
    async with new_sink() as sink:
        assert sink.checkpoint == at(NOON + 20)
    async with PostgresCheckpoints(postgres.url, table=f"{prefix}_checkpoints") as store:
        assert await store.load("prod") == at(NOON + 20)


async def test_late_data_replaces_the_values_of_a_window(new_sink, postgres, prefix):
    def point(value, net):
        return Point.of(NOON, value, metric="userCount", dimension="net", dimension_value=net)

    window = Window(ts=NOON, values=users(NOON, 40).values, missing={NETS: "no data"})
    async with new_sink() as sink:
        await sink.write(window, at(NOON))
        found = f"select dimension, dimension_value, value, missing, final from {prefix}_windows order by 1, 2"
        assert postgres.run(found) == [("", "", 40.0, None, False), ("net", "", None, "no data", False)]
        late = Revision(ts=NOON, series=NETS, before=(), after=(point(30, "WiFi"), point(10, "4G")), final=False)
        await sink.write(late, at(NOON))
        later = Revision(
            ts=NOON, series=NETS, before=late.after, after=(point(31, "WiFi"), point(10, "4G")), final=True
        )
        await sink.write(later, at(NOON))
    assert postgres.run(found) == [
        ("", "", 40.0, None, False),
        ("net", "4G", 10.0, None, True),
        ("net", "WiFi", 31.0, None, True),
    ]


async def test_gaps_calls_and_sessions_have_a_row_each_with_the_last_state(new_sink, postgres, prefix):
    call = Call(call_id="c1", cname="a\0b", created_ts=NOON, destroyed_ts=0, finished=False, call_pcu=2**70)
    over = Call(call_id="c1", cname="room", created_ts=NOON, destroyed_ts=NOON + 60, finished=True, call_pcu=3)
    sessions = (
        Session(sid="s1", uid=7, roles=("host", "audience"), join_ts=NOON, leave_ts=10**15, speaker=True),
        Session(sid="s1", uid=8),
        Session(sid="s2", uid="text", user_audio_freeze_rate=0.25),
    )
    async with new_sink() as sink:
        for event in (
            Gap(span=Span(NOON - 60, NOON), reason="outage"),
            CallStarted(call=call),
            CallChanged(call=call, before=call),
            CallLost(call=Call(call_id="c2"), reason="gone"),
        ):
            await sink.write(event, PLACE)
        states = f"select call_id, cname, call_pcu, state, reason from {prefix}_calls order by call_id"
        assert postgres.run(states) == [("c1", "a\ufffdb", None, "open", None), ("c2", None, None, "lost", "gone")]
        await sink.write(CallFinished(call=over, reason="quota"), PLACE)
        assert postgres.run(states)[0] == ("c1", "room", 3, "finished", "quota")
        await sink.write(CallSessions(call=over, sessions=sessions), PLACE)
    assert postgres.run(states)[0] == ("c1", "room", 3, "finished", None)
    found = (
        f"select call_id, sid, uid, roles, join_ts, leave_ts, user_audio_freeze_rate from {prefix}_sessions order by 2"
    )
    assert postgres.run(found) == [
        ("c1", "s1", "8", None, None, None, None),
        ("c1", "s2", "text", None, None, None, 0.25),
    ]
    assert postgres.run(f"select extract(epoch from start_ts)::bigint, reason from {prefix}_gaps") == [
        (NOON - 60, "outage")
    ]


async def test_what_was_taken_over_writes_nothing(new_sink, postgres, prefix):
    async with new_sink() as old:
        await old.write(users(NOON, 40), at(NOON))
        async with new_sink() as new:
            assert new.checkpoint == at(NOON)
            for _ in range(2):
                with pytest.raises(CheckpointError, match="another process took this stream over") as caught:
                    await old.write(users(NOON + 20, 1), at(NOON + 20))
                assert caught.value.kind == "taken_over"
            await new.write(users(NOON + 20, 41), at(NOON + 20))
            with pytest.raises(CheckpointError, match="took this stream over"):
                await old.write(users(NOON + 40, 1), at(NOON + 40))
    assert postgres.run(f"select value from {prefix}_windows order by ts") == [(40.0,), (41.0,)]


async def test_processes_that_create_the_tables_at_once_all_get_them(postgres):
    for _ in range(3):
        prefix = f"sink_{secrets.token_hex(4)}"
        sinks = [PostgresSink(postgres.url, f"app{number}", prefix=prefix) for number in range(8)]
        await asyncio.gather(*(sink.open() for sink in sinks))
        await asyncio.gather(*(sink.write(users(NOON, 1), at(NOON)) for sink in sinks))
        await asyncio.gather(*(sink.close() for sink in sinks))
        assert postgres.run(f"select count(*) from {prefix}_windows") == [(8,)]


async def test_a_write_whose_answer_was_lost_is_repeated_and_counts_once(new_sink, postgres, prefix):
    async with new_sink() as sink:
        rows = sink._rows
        write, calls = rows.write, []

        async def losing(*arguments):
            calls.append(await write(*arguments))
            if len(calls) == 1:
                raise StoreFailedError("the answer was lost")
            return calls[-1]

        rows.write = losing
        await sink.write(users(NOON, 40), at(NOON))
    assert calls == [True, True]
    assert postgres.run(f"select count(*), max(xmax::text) from {prefix}_windows") == [(1, "0")]


async def test_a_pool_that_was_passed_is_used_and_stays_open(postgres, prefix):
    async with AsyncConnectionPool(postgres.url, min_size=1, open=False) as pool:
        for number in range(2):
            async with PostgresSink(pool, "prod", prefix=prefix) as sink:
                await sink.write(users(NOON + 20 * number, 40), at(NOON + 20 * number))
        async with PostgresCheckpoints(pool, table=f"{prefix}_checkpoints") as store:
            assert await store.load("prod") == at(NOON + 20)
        assert not pool.closed
    assert postgres.run(f"select count(*) from {prefix}_windows") == [(2,)]


async def test_the_tables_can_be_in_a_schema(postgres, prefix):
    postgres.run(f"create schema {prefix}")
    async with PostgresSink(postgres.url, "prod", prefix=f"{prefix}.order") as sink:
        await sink.write(users(NOON, 40), at(NOON))
    assert postgres.run(f"select count(*) from {prefix}.order_windows") == [(1,)]


async def test_a_user_who_may_not_create_tables_is_told_so_at_once(postgres, prefix):
    postgres.run(f"create user {prefix} password 'secret-word'")
    async with asyncio.timeout(10):
        with pytest.raises(CheckpointError, match="could not be created: permission denied") as caught:
            await PostgresSink(postgres.url_of(prefix), "prod", prefix=prefix).open()
    assert caught.value.kind == "store"


async def test_a_cancelled_write_is_whole_or_not_there(new_sink, postgres, prefix):
    async with new_sink() as sink:
        await sink.write(users(NOON, 40), at(NOON))
        for number in range(1, 12):
            writing = asyncio.create_task(sink.write(users(NOON + 20 * number, 1), at(NOON + 20 * number)))
            for _ in range(number):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            (end,) = [span.end for span in (await sink._store.load("prod")).done]
            ((last,),) = postgres.run(f"select max(extract(epoch from ts)::bigint) from {prefix}_windows")
            assert last + 20 == end


@pytest.mark.slow
async def test_a_lease_keeps_a_second_process_away_until_it_is_silent(postgres, prefix):
    options = {"prefix": prefix, "lease": 1.5}
    async with PostgresSink(postgres.url, "prod", **options) as first:
        second = PostgresSink(postgres.url, "prod", **options)
        for _ in range(4):
            with pytest.raises(CheckpointError, match="in use by another process") as caught:
                await second.open()
            assert caught.value.kind == "in_use"
            await asyncio.sleep(0.6)  # it is renewed
        await first.write(users(NOON, 1), at(NOON))
    for _ in range(2):  # it can be opened again, and is free at once
        async with asyncio.timeout(1.0), second:
            assert second.checkpoint == at(NOON)


async def test_a_sink_that_stands_by_leaves_no_connection_each_time_that_it_looks(postgres, prefix):
    count = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
    async with PostgresSink(postgres.url, "prod", prefix=prefix, lease=30):
        before = postgres.run(count)
        waiting = [PostgresSink(postgres.url, "prod", prefix=prefix, lease=30) for _ in range(3)]
        for sink in waiting:
            with pytest.raises(CheckpointError, match="in use"):
                await sink.__aenter__()
        async with asyncio.timeout(5):
            while postgres.run(count) != before:  # noqa: ASYNC110 - a server ends them in its own time
                await asyncio.sleep(0.05)


def test_wrong_arguments_raise_without_a_connection(postgres):
    with pytest.raises(ValueError, match=r"^name="):
        PostgresSink(postgres.url, "a/b")
    with pytest.raises(ValueError, match=r"^prefix="):
        PostgresSink(postgres.url, "prod", prefix="x; drop table y")
    with pytest.raises(ValueError, match=r"^lease="):
        PostgresSink(postgres.url, "prod", lease=-1)
    with pytest.raises(TypeError, match=r"^store: allowed is"):
        PostgresSink(5, "prod")


async def test_a_sink_that_is_not_open_or_gets_no_event_raises(new_sink):
    with pytest.raises(RuntimeError, match="not open"):
        await new_sink().write(users(NOON, 1), PLACE)
    async with new_sink() as sink:
        with pytest.raises(TypeError, match=r"^event="):
            await sink.write("text", PLACE)
        with pytest.raises(TypeError, match=r"^checkpoint="):
            await sink.write(users(NOON, 1), None)
