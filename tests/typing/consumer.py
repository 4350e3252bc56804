"""A program of a user, checked by type checkers against the installed wheel: nox -s wheel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import assert_type

from agora_analytics import AnalyticsClient, Call, CallFinished, Selection, Series, Window


async def busy_calls(client: AnalyticsClient) -> AsyncIterator[Call]:
    async for call in client.calls.search(*client.calls.recent(timedelta(hours=8))):
        assert_type(call, Call)
        assert_type(call.cname, str | None)
        if call.finished and (call.call_video_freeze_rate or 0) > 0.05:
            yield call


async def main() -> None:
    async with AnalyticsClient.from_env() as client:
        assert_type([call.started_at async for call in busy_calls(client)], list[datetime | None])
        async for event in client.realtime.watch(Series("userCount", product="Native")):
            if isinstance(event, Window):
                assert_type(event.ts, int)
                break
        async for change in client.calls.follow(with_sessions=True):
            if isinstance(change, CallFinished):
                assert_type(change.call, Call)
                break
        week = Selection(*client.calls.recent(timedelta(days=7)), datasets=("calls",))
        print(await client.export.estimate(week))


if __name__ == "__main__":
    asyncio.run(main())
