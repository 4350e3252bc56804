"""The types of fleets; see `api.py`."""

from __future__ import annotations

from typing import assert_type

from agora_analytics import CallStarted, Selection, Series, Window
from agora_analytics.fleet import (
    Account,
    AccountCheck,
    ExportJob,
    Fleet,
    FleetCheck,
    FleetStatus,
    FollowJob,
    Job,
    JobStatus,
    Secret,
    WatchJob,
    WorkerStatus,
)
from agora_analytics.streams import CallEvent, Event


async def store(key: str, event: Event | CallEvent) -> None:
    if isinstance(event, Window | CallStarted):
        assert_type(key, str)


def described() -> Fleet:
    users = Series("userCount", product="Native")
    jobs: list[Job] = [
        WatchJob(app_id="0123456789abcdef", series=[users], back=600),
        FollowJob(app_id="0123456789abcdef", with_sessions=True),
        ExportJob(name="history", selection=Selection(0, 60), to="s3://bucket/history", shard_days=1),
    ]
    account = Account(
        name="acme",
        plan="premium",
        customer_id=Secret(env="ACME_ID"),
        customer_secret=Secret(file="acme.secret"),
        jobs=jobs,
    )
    assert_type(account.jobs, tuple[Job, ...])
    assert_type(account.keyed(), list[tuple[str, Job]])
    return Fleet(account, store=Secret(env="FLEET_REDIS_URL"), sink="postgresql://localhost", turn=60)


async def working() -> None:
    fleet = Fleet.from_file("fleet.toml", turn=30)
    assert_type(fleet, Fleet)
    assert_type(fleet.jobs, dict[str, Job])
    assert_type(fleet.check(), FleetCheck)
    assert_type(fleet.check().accounts, tuple[AccountCheck, ...])
    assert_type(fleet.check().accounts[0].unknown, tuple[str, ...])
    await fleet.run_worker(store, worker="host-1", concurrency=10, exports=1)
    assert_type(await fleet.drain("host-1"), tuple[str, ...])
    status = await fleet.status()
    assert_type(status, FleetStatus)
    assert_type(status.workers, tuple[WorkerStatus, ...])
    assert_type(status.unheld, tuple[JobStatus, ...])
    assert_type([job.age(status.at) for job in status.jobs], list[float | None])
