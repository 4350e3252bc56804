"""A command reports that it waits for its quota, except for short waits and those of a stream."""

from __future__ import annotations

import asyncio

from agora_analytics import Series
from agora_analytics.cli.status_lines import report_quota_waits

NOON = 1_795_521_600


async def test_a_wait_for_the_quota_is_reported_with_its_length_and_later_ones_are_counted(simulation):
    messages = []
    async with simulation.client() as client, report_quota_waits(client.quota, messages.append):
        for _ in range(10):  # the plan allows three a minute
            await client.realtime.usage("userCount", NOON - 1_200, NOON - 600, product="Native")
    first, *later = messages
    assert first.startswith("waiting for the quota of realtime: the next request is sent in ")
    assert 30 < int(first.split()[-2]) <= 60
    assert len(later) < 2


async def test_a_short_wait_is_not_reported(simulation):
    messages = []
    async with simulation.client() as client, report_quota_waits(client.quota, messages.append):
        for _ in range(30):  # the plan allows ten a second
            await client.calls.page(NOON - 7_200, NOON - 3_600)
    assert messages == []


async def test_waits_of_a_stream_are_not_reported(simulation):
    messages = []
    async with simulation.client() as client, report_quota_waits(client.quota, messages.append):
        watch = client.realtime.watch(Series("userCount", product="Native"), start=NOON - 1_200, stop=NOON + 600)
        assert [event async for event in watch]
    assert messages == []


async def test_the_reporting_task_ends_with_the_command(simulation):
    before = asyncio.all_tasks()
    async with simulation.client() as client, report_quota_waits(client.quota, print):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
