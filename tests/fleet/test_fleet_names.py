"""Two teams with one Redis: the fleet of one removes no job of the other, even if both have the default name."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from helpers.fleet_service import app, described
from helpers.fleet_workers import BACK, Seen, fleet_of, status_when, until, working
from helpers.redis_server import MISSING, REDIS, RedisServer

from agora_analytics import FleetError, Selection
from agora_analytics.fleet import ExportJob, Fleet

pytestmark = [pytest.mark.real_time, pytest.mark.skipif(REDIS is None, reason=MISSING)]


@pytest.fixture
def store(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server.url
    server.kill()


def other_team(service, **options) -> Fleet:
    (_, account) = described(2, service.url, back=BACK)
    return Fleet(attrs.evolve(account, name="other"), turn=1, **options)


async def test_a_fleet_whose_name_is_taken_by_another_says_so_and_removes_nothing(service, store):
    fleet, seen = fleet_of(service, store=store), Seen()
    async with working(fleet, seen, "one"):
        await until(lambda: len(seen.jobs) == 4)
        with pytest.raises(FleetError, match=r"another fleet of this name works .* its workers: one") as caught:
            await other_team(service, store=store).run_worker(Seen().sink("theirs"), worker="theirs")
        assert "Give one of the two another `name`" in str(caught.value)
        status = await fleet.status()
        assert {job.key for job in status.jobs} == set(fleet.jobs)
        assert [worker.name for worker in status.workers] == ["one"]
        theirs = Seen()
        async with working(other_team(service, store=store, name="other"), theirs, "theirs"):
            await until(lambda: theirs.jobs)


async def test_a_name_may_be_taken_over_once_the_workers_have_ended(service, store):
    async with working(fleet_of(service, store=store), seen := Seen(), "one"):
        await until(lambda: seen.jobs)
    other, theirs = other_team(service, store=store), Seen()
    async with working(other, theirs, "theirs"):
        await until(lambda: theirs.jobs)
        assert [job.key for job in (await other.status()).jobs] == list(other.jobs)


async def test_an_export_that_grows_is_still_the_same_fleet(service, store, tmp_path):
    def fleet_until(end: int) -> Fleet:
        (account,) = described(1, service.url)
        job = ExportJob(name="h", selection=Selection(0, end, apps=[app(0)]), to=str(tmp_path), shard_days=30_000)
        return Fleet(attrs.evolve(account, jobs=[job]), store=store)

    async with working(fleet_until(86_400), Seen(), "one"):
        first = await status_when(fleet_until(86_400), lambda status: status.workers)
        async with working(fleet_until(2 * 86_400), Seen(), "two") as second:
            await asyncio.sleep(1)
            assert not second.done()
            later = await status_when(fleet_until(2 * 86_400), lambda status: len(status.workers) == 2)
    assert {job.key for job in later.jobs} - {job.key for job in first.jobs}, "its shard is another job"
