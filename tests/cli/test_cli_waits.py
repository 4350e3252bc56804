"""A command that waits for its quota tells it; what is short, or waits in a stream, is not told."""

from __future__ import annotations

import asyncio

from agora_analytics import Series
from agora_analytics.cli.status_lines import report_quota_waits

NOON = 1_795_521_600


async def test_a_wait_for_the_quota_is_told_with_its_length_and_those_after_it_are_counted(simulation):
    said = []
    async with simulation.client() as client, report_quota_waits(client.quota, said.append):
        for _ in range(10):  # three a minute
            await client.realtime.usage("userCount", NOON - 1_200, NOON - 600, product="Native")
    first, *more = said
    assert first.startswith("waiting for the quota of realtime: the next request is sent in ")
    assert 30 < int(first.split()[-2]) <= 60
    assert len(more) < 2


async def test_a_short_wait_is_not_told(simulation):
    said = []
    async with simulation.client() as client, report_quota_waits(client.quota, said.append):
        for _ in range(30):  # ten a second
            await client.calls.page(NOON - 7_200, NOON - 3_600)
    assert said == []


async def test_a_stream_tells_its_waits_itself(simulation):
    said = []
    async with simulation.client() as client, report_quota_waits(client.quota, said.append):
        watch = client.realtime.watch(Series("userCount", product="Native"), start=NOON - 1_200, stop=NOON + 600)
        assert [event async for event in watch]
    assert said == []


async def test_it_ends_with_the_command(simulation):
    before = asyncio.all_tasks()
    async with simulation.client() as client, report_quota_waits(client.quota, print):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
