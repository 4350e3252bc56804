"""A store that is away, or refuses: a worker waits for the one, and the other is reported at once, without secrets."""

from __future__ import annotations

import asyncio

import pytest
from helpers.error_reports import report_of
from helpers.fleet_workers import Seen, fleet_of, until, working
from helpers.redis_server import MISSING, REDIS, RedisServer, free_port

from agora_analytics import FleetError
from agora_analytics.fleet import Fleet, Secret

pytestmark = pytest.mark.real_time
on_redis = pytest.mark.skipif(REDIS is None, reason=MISSING)
PASSWORD = "geheim-word"


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path, free_port())
    yield server
    server.kill()


@pytest.mark.parametrize("work", [Fleet.status, Fleet.drain])
async def test_a_store_that_is_not_there_is_reported_at_once_without_the_password(work):
    fleet = Fleet(store=f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0")
    with pytest.raises(FleetError, match=r"the store of the fleet in 127\.0\.0\.1:\d+/0 cannot be used") as caught:
        await work(fleet)
    assert PASSWORD not in report_of(caught.value)


@on_redis
async def test_a_worker_waits_for_a_store_that_comes_later(service, redis, caplog):
    seen = Seen()
    async with working(fleet_of(service, store=redis.url), seen, "one") as task:
        await until(lambda: "is not there yet, waiting" in caplog.text)
        redis.start()
        await until(lambda: len(seen.jobs) == 4)
        assert not task.done()
    assert caplog.text.count("is not there yet") == 1


@on_redis
async def test_a_worker_that_waits_for_a_store_ends_when_it_is_cancelled(service, redis, caplog):
    async with working(fleet_of(service, store=redis.url), Seen(), "one") as task:
        await until(lambda: "is not there yet, waiting" in caplog.text)
        task.cancel()
        await until(task.done, 2)


@on_redis
async def test_a_wrong_password_ends_a_worker_at_once_and_is_not_shown(service, redis, caplog):
    redis.start("--requirepass", "another-word")
    fleet = fleet_of(service, store=f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0")
    async with asyncio.timeout(5):
        with pytest.raises(FleetError, match="cannot be used: AuthenticationError") as caught:
            await fleet.run_worker(Seen().sink("one"))
    assert PASSWORD not in report_of(caught.value) + caplog.text


@on_redis
async def test_a_store_may_be_a_socket_of_unix(service, redis, tmp_path):
    redis.start("--unixsocket", str(tmp_path / "s"))
    seen = Seen()
    async with working(fleet_of(service, store=f"unix://{tmp_path / 's'}"), seen, "one"):
        await until(lambda: len(seen.jobs) == 4)


@on_redis
async def test_a_store_that_has_something_else_under_a_key_is_reported(redis):
    redis.start()
    redis.command("SET", "agora:agora:jobs", "of another program")
    with pytest.raises(FleetError, match="cannot be used: ResponseError: WRONGTYPE"):
        await Fleet(store=redis.url).status()


WRONG = ("redis://a:ge\u2100heim@host/0", "redis://:geheim/x@host/0", "redis://:[geheim@host", "http://geheim")


@pytest.mark.parametrize("url", WRONG)
async def test_a_wrong_url_is_refused_without_showing_it(url, monkeypatch):
    monkeypatch.setenv("STORE", url)
    for store in (url, Secret(env="STORE")):
        with pytest.raises(ValueError, match="value not shown") as caught:
            await Fleet(store=store).status()
        assert "heim" not in report_of(caught.value)
