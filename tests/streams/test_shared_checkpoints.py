"""What all checkpoint stores do that hosts share: a store that is down, frozen or wrong, and leases."""

from __future__ import annotations

import asyncio
import re
import secrets
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import cleandoc

import pytest
from helpers.error_reports import report_of
from helpers.object_server import ACCESS_KEY, SECRET_KEY, ObjectServer
from helpers.postgres_server import MISSING_POSTGRES, PASSWORD, POSTGRES, PostgresServer
from helpers.redis_server import MISSING, REDIS, RedisServer, free_port

from agora_analytics import AnalyticsClient, Checkpoint, CheckpointError, Series, Span
from agora_analytics.simulator import Simulation
from agora_analytics.streams import (
    ObjectCheckpoints,
    PostgresCheckpoints,
    PostgresSink,
    RedisCheckpoints,
    shared_checkpoints,
)
from agora_analytics.streams.shared_checkpoints import SharedCheckpoints

pytestmark = [pytest.mark.real_time, pytest.mark.process]

ONE = Checkpoint(stream="watch 0", done=(Span(20, 60),))
TWO = Checkpoint(stream="watch 0", done=(Span(20, 400),))
Server = RedisServer | PostgresServer | ObjectServer


def store_in(server: Server, **options) -> SharedCheckpoints:
    if isinstance(server, RedisServer):
        return RedisCheckpoints(server.url, **options)
    if isinstance(server, PostgresServer):
        return PostgresCheckpoints(server.url, **options)
    return ObjectCheckpoints(server.store("checkpoints"), **options)


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path) -> Iterator[Server]:
    """A store that a test may kill and start again, and that keeps its data."""
    if (REDIS if request.param == "redis" else POSTGRES) is None:
        pytest.skip(MISSING if request.param == "redis" else MISSING_POSTGRES)
    made = RedisServer(tmp_path) if request.param == "redis" else PostgresServer()
    if isinstance(made, RedisServer):
        made.start("--appendfsync", "always")
    else:
        made.start()
    yield made
    made.kill()
    if isinstance(made, PostgresServer):
        made.remove()


async def test_a_stream_goes_on_when_its_store_is_back_after_a_crash(server, caplog):
    async with store_in(server) as store:
        lease = await store.acquire("prod")
        await store.save("prod", ONE, lease.epoch)
        server.kill()
        saving = asyncio.create_task(store.save("prod", TWO, lease.epoch))
        await asyncio.sleep(0.5)
        assert not saving.done()
        server.start()
        await saving
        assert await store.load("prod") == TWO
    assert "cannot be used, will retry for 30 s" in caplog.text


@pytest.mark.slow_except("redis")
async def test_a_store_that_is_frozen_is_asked_again_and_keeps_the_newest_checkpoint(server, monkeypatch):
    monkeypatch.setattr(shared_checkpoints, "_ATTEMPT", 0.3)
    async with store_in(server) as store:
        lease = await store.acquire("prod")
        await store.save("prod", ONE, lease.epoch)
        server.freeze()
        saving = asyncio.create_task(store.save("prod", TWO, lease.epoch))
        await asyncio.sleep(1.5)
        server.thaw()
        await saving
        assert await store.load("prod") == TWO


async def test_a_save_that_was_given_up_and_arrives_late_changes_nothing(server):
    async with store_in(server) as store:
        lease = await store.acquire("prod")
        await store.save("prod", ONE, lease.epoch)
        await store.save("prod", TWO, lease.epoch)
        assert await store._rows.save("prod", ONE.encode(), lease.epoch, 1, 0.0)
        assert await store.load("prod") == TWO


async def test_a_store_that_stays_down_raises_after_a_while_and_a_cancellation_ends_the_wait(server, monkeypatch):
    async with store_in(server) as store:
        lease = await store.acquire("prod")
        server.kill()
        saving = asyncio.create_task(store.save("prod", TWO, lease.epoch))
        await asyncio.sleep(0.3)
        saving.cancel()
        async with asyncio.timeout(4):
            with pytest.raises(asyncio.CancelledError):
                await saving
        monkeypatch.setattr(shared_checkpoints, "_PATIENCE", 0.5)
        with pytest.raises(CheckpointError, match=r"'prod' in 127\.0\.0\.1:.* cannot be used") as caught:
            await store.save("prod", TWO, lease.epoch)
        assert (caught.value.kind, caught.value.fault) == ("store", "host")


async def test_an_object_store_that_was_emptied_takes_the_next_checkpoint(objects):
    store = ObjectCheckpoints(objects.store(secrets.token_hex(4)))
    lease = await store.acquire("prod")
    await store.save("prod", ONE, lease.epoch)
    store._rows._store.delete("prod.json")
    await store.save("prod", TWO, lease.epoch)
    assert await store.load("prod") == TWO


async def test_a_bucket_that_is_missing_is_refused_at_once(objects):
    store = ObjectCheckpoints(objects.store("x", bucket="nobucket"))
    async with asyncio.timeout(10):
        with pytest.raises(CheckpointError, match=r"cannot be used: .*404") as caught:
            await store.acquire("prod")
    assert caught.value.kind == "store"


@pytest.mark.parametrize("server", ["postgres", "pgbouncer"])
@pytest.mark.parametrize("place", ["postgres:wrong-word@HERE/postgres", "nobody:wrong-word@HERE/postgres"])
async def test_a_refused_login_is_reported_at_once(request, server, place):
    url = f"postgresql://{place}".replace("HERE", f"127.0.0.1:{request.getfixturevalue(server).port}")
    for store in (PostgresCheckpoints(url), PostgresSink(url, "prod")._store):
        async with asyncio.timeout(5):
            with pytest.raises(CheckpointError, match=r"cannot be used: .*failed") as caught:
                await store.acquire("prod")
        await store.close()
        assert (caught.value.kind, "wrong-word" in report_of(caught.value)) == ("store", False)


async def test_a_database_that_is_missing_is_reported_at_once(postgres):
    store = PostgresCheckpoints(f"{postgres.url}-none")
    async with asyncio.timeout(5):
        with pytest.raises(CheckpointError, match='database "postgres-none" does not exist'):
            await store.acquire("prod")


async def test_a_user_of_redis_who_may_not_write_is_reported_at_once(redis):
    redis.command("ACL", "SETUSER", "reader", "on", ">word-of-it", "~*", "+get", "+hello", "+auth", "+client")
    store = RedisCheckpoints(redis.url.replace("//", "//reader:word-of-it@"))
    async with asyncio.timeout(5):
        with pytest.raises(CheckpointError, match="no permissions"):
            await store.acquire("prod")
    await store.close()


# What is stored under a name, and is no checkpoint.


async def write_raw(store: SharedCheckpoints, text: str) -> None:
    assert await store.load("prod") is None  # connects it to this event loop
    await store._rows.save("prod", text, 1, 1, 0.0)


@pytest.fixture(params=["redis", "postgres", "objects"])
def shared(request: pytest.FixtureRequest) -> SharedCheckpoints:
    server, name = request.getfixturevalue(request.param), f"x{secrets.token_hex(4)}"
    if request.param == "redis":
        return RedisCheckpoints(server.url, prefix=name)
    return (
        PostgresCheckpoints(server.url, table=name)
        if request.param == "postgres"
        else ObjectCheckpoints(server.store(name))
    )


@pytest.mark.parametrize("text", ['{"cow": 1}', '{"stream":"x","version":2}', "hello"])
async def test_what_is_no_checkpoint_is_never_replaced_by_a_stream_that_starts(shared, text):
    async with shared as store:
        await write_raw(store, text)
        for use in (store.load, store.acquire):
            with pytest.raises(CheckpointError) as caught:
                await use("prod")
            assert caught.value.kind == "invalid"
            assert "'prod' in" in str(caught.value)


@pytest.mark.slow_except("objects")
async def test_a_checkpoint_that_is_too_large_is_neither_read_nor_written(shared):
    large = "x" * 70_000_000
    async with shared as store:
        await write_raw(store, f'{{"stream":"{large}"}}')
        for use in (store.load, store.acquire):
            with pytest.raises(CheckpointError, match=r"has 70,000,0\d\d bytes; a checkpoint has at most"):
                await use("prod")
        with pytest.raises(CheckpointError, match=r"has 70,000,0\d\d bytes"):
            await store.save("other", Checkpoint(stream=large), 1)


# Leases.


@pytest.fixture(params=["redis", "postgres"])
def leasing(request: pytest.FixtureRequest) -> Callable[[float], SharedCheckpoints]:
    server, name = request.getfixturevalue(request.param), f"x{secrets.token_hex(4)}"
    if request.param == "redis":
        return lambda lease: RedisCheckpoints(server.url, prefix=name, lease=lease)
    return lambda lease: PostgresCheckpoints(server.url, table=name, lease=lease)


@pytest.mark.slow
async def test_a_lease_keeps_others_away_while_its_process_runs_and_not_longer(leasing):
    async with leasing(0.9) as one, leasing(0.9) as other:
        lease = await one.acquire("prod")
        for _ in range(4):
            with pytest.raises(CheckpointError, match="in use by another process, for 1 s unless it is renewed"):
                await other.acquire("prod")
            await asyncio.sleep(0.5)
        one._heartbeat.cancel()  # as if it was killed, or frozen
        await asyncio.sleep(1)
        taken = await other.acquire("prod")
        assert taken.epoch > lease.epoch
        with pytest.raises(CheckpointError, match="took this stream over"):
            await one.save("prod", ONE, lease.epoch)
        await one.release("prod", lease.epoch)
        with pytest.raises(CheckpointError, match="in use"):
            await one.acquire("prod")
        await other.release("prod", taken.epoch)
        await one.acquire("prod")


async def test_a_process_without_a_lease_takes_a_leased_name_over_at_once(leasing):
    async with leasing(30) as one, leasing(0) as other:
        lease = await one.acquire("prod")
        await other.acquire("prod")
        with pytest.raises(CheckpointError, match="took this stream over"):
            await one.save("prod", ONE, lease.epoch)


async def test_a_late_save_of_an_earlier_stream_does_not_end_the_lease_of_the_next(leasing):
    async with leasing(0.9) as one, leasing(0.9) as other:
        first = await one.acquire("prod")
        await one.release("prod", first.epoch)
        await one.acquire("prod")
        with pytest.raises(CheckpointError, match="took this stream over"):
            await one.save("prod", ONE, first.epoch)
        await asyncio.sleep(1.5)
        with pytest.raises(CheckpointError, match="in use"):
            await other.acquire("prod")


@pytest.mark.parametrize("turns", [0, 1, 3, 10])
async def test_a_cancelled_takeover_holds_no_lease(leasing, turns):
    async with leasing(30) as one, leasing(30) as other:
        acquiring = asyncio.create_task(one.acquire("prod"))
        for _ in range(turns):
            await asyncio.sleep(0)
        acquiring.cancel()
        await asyncio.wait([acquiring])
        assert acquiring.cancelled()
        await other.acquire("prod")


async def test_the_heartbeat_ends_with_the_last_lease_and_leaves_no_task(leasing):
    async with leasing(0.3) as store:
        lease = await store.acquire("prod")
        await asyncio.sleep(0.5)
        await store.release("prod", lease.epoch)
        await asyncio.sleep(0.3)
        assert store._heartbeat.done()
        await store.acquire("prod")
    assert len(asyncio.all_tasks()) == 1


# Credentials.


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{}@127.0.0.1:{port}/0",
        "redis://127.0.0.1:{port}/0?password={}",
        "redis://user:{}/x@127.0.0.1:{port}/0",
        "http://user:{}@127.0.0.1/",
        "postgresql://user:{}@127.0.0.1:{port}/x",
        "postgresql://user:{}/x@127.0.0.1:{port}/x",
        "host=127.0.0.1 port={port} password={} user=x",
        "s3://user:{}@bucket/x",
        "foo://{}/x",
        "s3://[{}",
        "s3://bucket:{}/x",
        "{}",
    ],
)
async def test_no_error_shows_the_password_of_the_store(url, monkeypatch, caplog):
    monkeypatch.setattr(shared_checkpoints, "_PATIENCE", 0.2)
    address, texts = url.format(PASSWORD, port=free_port()), []
    kinds = {"redis": RedisCheckpoints, "http": RedisCheckpoints, "postgresql": PostgresCheckpoints}
    kind = kinds.get(address.partition(":")[0], PostgresCheckpoints if "host=" in address else ObjectCheckpoints)

    async def use() -> None:
        async with kind(address) as store:
            texts.append(repr(store))
            await store.acquire("prod")

    with pytest.raises((CheckpointError, ValueError)) as caught:
        await use()
    assert PASSWORD not in report_of(caught.value) + "".join(texts) + caplog.text


def test_the_query_of_a_url_is_not_shown():
    assert PASSWORD not in repr(ObjectCheckpoints(f"s3://bucket/x?key={PASSWORD}"))


@pytest.mark.parametrize("prefix", ["", "a-b", "x" * 70])
def test_no_error_about_another_argument_shows_the_password(prefix):
    for kind in (
        lambda: PostgresSink(f"postgresql://user:{PASSWORD}@127.0.0.1/x", "prod", prefix=prefix),
        lambda: PostgresCheckpoints(f"postgresql://user:{PASSWORD}@127.0.0.1/x", table=prefix),
        lambda: RedisCheckpoints(f"redis://user:{PASSWORD}@127.0.0.1/0", lease=-1, prefix=prefix or "x"),
    ):
        with pytest.raises(ValueError, match=r"^(prefix|table|lease)=") as caught:
            kind()
        assert PASSWORD not in report_of(caught.value)


@pytest.mark.slow
async def test_no_error_shows_the_keys_of_an_object_store(objects, monkeypatch, caplog):
    monkeypatch.setattr(shared_checkpoints, "_PATIENCE", 0.2)
    gone = ObjectServer()
    for made in (objects.store("x", bucket="nobucket"), gone.store("x")):
        store = ObjectCheckpoints(made)
        with pytest.raises(CheckpointError, match="cannot be used") as caught:
            await store.acquire("prod")
        text = report_of(caught.value) + repr(store) + caplog.text
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text


# Examples.


@pytest.mark.slow
@pytest.mark.parametrize("kind", [RedisCheckpoints, PostgresCheckpoints, ObjectCheckpoints, PostgresSink])
async def test_the_example_runs(request, monkeypatch, kind):
    code = re.search(r"```python\n(.*?)```", cleandoc(kind.__doc__ or ""), re.DOTALL)
    assert code is not None
    url = re.search(r'"(\w+)://[^"]*"', code[1])
    assert url is not None
    simulation = Simulation()
    monkeypatch.setattr(AnalyticsClient, "from_env", simulation.client)
    place = {"redis": "redis", "postgresql": "postgres", "s3": "objects"}[url[1]]
    server = request.getfixturevalue(place)
    lines = code[1].replace(url[0], repr(server.url) if place != "objects" else "bucket")
    names = {"AnalyticsClient": AnalyticsClient, kind.__name__: kind}
    if place == "objects":
        names["bucket"] = server.store(secrets.token_hex(4))
    names |= {"Series": Series}
    exec(f"async def main():\n{textwrap.indent(lines, '    ')}", names)  # noqa: S102 - our own docstring
    with suppress(TimeoutError):  # no call may begin for a while
        async with asyncio.timeout(5):
            await names["main"]()
