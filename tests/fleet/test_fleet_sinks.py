"""A fleet that writes into PostgreSQL: positions without events, and a login that is refused."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import attrs
import pytest
from helpers.error_reports import report_of
from helpers.fleet_service import app, described
from helpers.fleet_workers import Seen, status_when, until, working
from helpers.postgres_server import MISSING_POSTGRES, POSTGRES
from helpers.redis_server import free_port

from agora_analytics import Checkpoint, FleetError
from agora_analytics.fleet import Fleet, FollowJob

pytestmark = [pytest.mark.real_time, pytest.mark.skipif(POSTGRES is None, reason=MISSING_POSTGRES)]
PASSWORD = "geheim-word"


def fleet_of(service, sink: str, *jobs) -> Fleet:
    """Return a fleet of one account; the name of the account is new, and so are those of the positions."""
    (account,) = described(1, service.url, only_final=True)
    account = attrs.evolve(account, name=f"t{uuid4().hex[:12]}", jobs=jobs or account.jobs)
    return Fleet(account, store=f"memory://{account.name}", sink=sink, turn=1)


def stored(postgres, key: str) -> tuple[int, Checkpoint | None]:
    """Return how often a position was taken over, by its epoch, and what is stored."""
    if postgres.run("select to_regclass('agora_checkpoints')") == [(None,)]:
        return 0, None
    found = postgres.run("select epoch, checkpoint from agora_checkpoints where name = %s", key)
    return (found[0][0], Checkpoint.decode(found[0][1]) if found[0][1] else None) if found else (0, None)


@pytest.mark.slow
async def test_the_next_turn_of_a_watch_begins_where_the_first_began(service, postgres):
    fleet = fleet_of(service, postgres.url)
    (key,) = fleet.jobs
    async with working(fleet, Seen(), "one"):
        await status_when(fleet, lambda status: status.jobs[0].running)
        await until(lambda: (stored(postgres, key)[1]) is not None)
        epoch, first = stored(postgres, key)
        await until(lambda: stored(postgres, key)[0] > epoch)
        await asyncio.sleep(2)
    assert first.start is not None
    assert stored(postgres, key)[1].start == first.start


async def test_how_far_a_follow_has_read_is_kept_without_calls(service, postgres):
    quiet = FollowJob(app_id=app(0), name="quiet", every=1)
    fleet = fleet_of(service, postgres.url, quiet)
    (key,) = fleet.jobs
    async with working(fleet, Seen(), "one"):
        await until(lambda: (stored(postgres, key)[1]) is not None)
        _, first = stored(postgres, key)
        await until(lambda: stored(postgres, key)[1].done[-1].end > first.done[-1].end)


async def test_a_refused_login_ends_a_worker_at_once_and_is_not_shown(service, postgres, caplog):
    fleet = fleet_of(service, postgres.url_of("postgres", PASSWORD))
    async with asyncio.timeout(5):
        with pytest.raises(FleetError, match="the sink of the fleet cannot be used: ") as caught:
            await fleet.run_worker(worker="one")
    assert "password authentication failed" in str(caught.value)
    assert PASSWORD not in report_of(caught.value) + caplog.text
    assert not (await fleet.status()).workers


@pytest.mark.slow
async def test_a_worker_whose_sink_is_away_begins_all_the_same(service, caplog):
    fleet = fleet_of(service, f"postgresql://user:{PASSWORD}@127.0.0.1:{free_port()}/x")
    async with working(fleet, Seen(), "one") as task:
        await status_when(fleet, lambda status: status.held.get("one"))
        assert not task.done()
        task.cancel()
        await asyncio.sleep(0.1)  # cancelled twice, it does not wait for turns
    assert PASSWORD not in caplog.text
