"""The types of streams; see `api.py`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Literal, assert_never, assert_type

from obstore.store import S3Store

from agora_analytics import (
    AnalyticsClient,
    Call,
    CallChanged,
    CallFinished,
    CallLost,
    CallSessions,
    CallStarted,
    Checkpoint,
    CheckpointError,
    Coverage,
    FileCheckpoints,
    Follow,
    Gap,
    Health,
    MemoryCheckpoints,
    Point,
    Revision,
    Series,
    Session,
    Span,
    Watch,
    Window,
    broadcast,
)
from agora_analytics.protocols import CheckpointStore, Lease
from agora_analytics.streams import ObjectCheckpoints, PostgresCheckpoints, PostgresSink, RedisCheckpoints


async def watching(client: AnalyticsClient) -> None:
    users = Series("userCount", product="Native")
    assert_type(client.realtime.coverage(users), Coverage)
    watch = client.realtime.watch(users, checkpoint=Checkpoint.decode("{}"), only_final=True)
    assert_type(watch, Watch)
    assert_type(watch.health, Health)
    assert_type(
        watch.health.state,
        Literal["polling", "waiting for quota", "waiting for consumer", "outage", "refused", "stopped"],
    )
    assert_type(watch.health.until, float | None)
    assert_type((watch.health.skipped, watch.health.first_skipped), tuple[int, str])
    assert_type(watch.checkpoint, Checkpoint)
    assert_type(watch.final_before(users), int | None)
    assert_type(watch.app_id, str)
    assert_type(watch.on_event(print), Callable[[], None])
    async for event in watch:
        match event:
            case Window():
                assert_type(event.value(users), int | float | None)
                assert_type(event.values[users], tuple[Point, ...])
                assert_type(event.points(users), tuple[Point, ...])
                assert_type(event.by_group(users), dict[str | None, int | float | None])
                assert_type(event.missing[users], Literal["no data", "not requested"])
            case Revision():
                assert_type(event.after, tuple[Point, ...])
            case Gap():
                assert_type(event.span, Span)
                assert_type(event.reason, Literal["outage", "quota", "consumer", "asleep", "before_start", "service"])
            case _:
                assert_never(event)
    watch.drain()
    watch.stop()
    await watch.aclose()
    async with client.realtime.watch(users) as windows:
        assert_type(windows, Watch)
    async with broadcast(watch, size=10, on_overflow="drop_oldest", history=5) as hub:
        assert_type(await anext(hub.subscribe()), Window | Revision | Gap)
        assert_type(await anext(hub.subscribe(last=5)), Window | Revision | Gap)
    stores: tuple[CheckpointStore, ...] = (
        MemoryCheckpoints(every=5),
        FileCheckpoints("checkpoints", every=0.5),
        RedisCheckpoints("redis://localhost", prefix="x", every=1, lease=10),
        PostgresCheckpoints("postgresql://localhost", table="t", every=1, lease=10),
        ObjectCheckpoints("s3://bucket", every=60),
        ObjectCheckpoints(S3Store("bucket"), every=60),
    )
    assert_type(await stores[0].load("prod"), Checkpoint | None)
    lease = await stores[1].acquire("prod")
    assert_type(lease, Lease)
    assert_type(lease.checkpoint, Checkpoint | None)
    await stores[1].save("prod", watch.checkpoint, lease.epoch)
    await stores[1].release("prod", lease.epoch)


async def sinking(client: AnalyticsClient) -> None:
    async with PostgresSink("postgresql://localhost", "prod", prefix="reports.agora", lease=10) as sink:
        assert_type(sink, PostgresSink)
        assert_type(sink.checkpoint, Checkpoint | None)
        async with client.calls.follow(checkpoint=sink) as follow:
            async for event in follow:
                await sink.write(event, follow.checkpoint)
    async with RedisCheckpoints("redis://localhost") as store:
        assert_type(store, RedisCheckpoints)
        assert_type(store.every, float)


def failing(error: CheckpointError) -> None:
    assert_type(error.kind, Literal["in_use", "taken_over", "store", "invalid"])


async def following(client: AnalyticsClient) -> None:
    follow = client.calls.follow(start=timedelta(hours=1), with_sessions=True, late_sessions=False)
    assert_type(follow, Follow)
    assert_type(follow.open_calls, int)
    async for event in follow:
        match event:
            case CallStarted():
                assert_type(event.call, Call)
            case CallChanged():
                assert_type(event.before, Call)
            case CallFinished():
                assert_type(event.sessions, tuple[Session, ...] | None)
                assert_type(event.reason, str)
            case CallSessions():
                assert_type(event.sessions, tuple[Session, ...] | None)
            case CallLost():
                assert_type(event.reason, str)
            case Gap():
                assert_type(event.span, Span)
            case _:
                assert_never(event)
