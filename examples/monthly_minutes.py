"""Minutes used per day, as far back as the plan keeps them, and by country."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from agora_analytics import AnalyticsClient
from agora_analytics.catalogue import Dimension, UsageMetric


async def main() -> None:
    """Query usage by day, then by country."""
    async with AnalyticsClient.from_env() as client:
        start, end = client.insights.recent(timedelta(days=29))
        days = await client.insights.usage(UsageMetric.TOTAL_DURATION, start, end, granularity="1d")
        for day in days:
            print(f"{day.started_at:%Y-%m-%d}  {day.value:>12,.0f} min")
        print(f"{'total':10}  {sum(day.value or 0 for day in days):>12,.0f} min")
        by_country = await client.insights.usage_total(
            UsageMetric.TOTAL_DURATION, start, end, dimension=Dimension.COUNTRY
        )
        for total in by_country:
            print(f"{total.dimension_value:20} {total.value:>12,.0f} min")


if __name__ == "__main__":
    asyncio.run(main())
