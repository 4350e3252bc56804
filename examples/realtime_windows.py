"""The last ten minutes in 20-second windows: users in calls, and their audio freeze rate. Two requests."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agora_analytics import AnalyticsClient
from agora_analytics.catalogue import Product, QualityMetric, RealtimeUsageMetric


async def main() -> None:
    """Query both metrics and join them by window."""
    async with AnalyticsClient.from_env() as client:
        start, end = client.realtime.recent(timedelta(minutes=10))
        users = await client.realtime.usage(RealtimeUsageMetric.USER_COUNT, start, end, product=Product.NATIVE)
        freezes = await client.realtime.quality(QualityMetric.AUDIO_FREEZE_RATE, start, end, product=Product.NATIVE)
        rates = {point.ts: point.value for point in freezes}
        for point in users:
            print(f"{point.started_at:%H:%M:%S}  {point.value:>6} users  {rates.get(point.ts) or 0:.2%} frozen")
        for state in await client.quota.snapshot():
            if state.counter == "realtime":
                print(f"{state.left} of {state.limit} requests left this {state.unit}")


if __name__ == "__main__":
    asyncio.run(main())
