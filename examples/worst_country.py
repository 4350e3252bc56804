"""Which country had the worst audio last week, and on which SDK? Export to Parquet, then query with DuckDB.

Needs `pip install "agora-analytics[duckdb,parquet]"` and the variables that the README lists. The cells run in a
notebook too. Run it again to fetch only what is new.

More variables: DAYS is how far back to look (7), REQUESTS is the most requests of one run for calls (300), FOLDER is
where the files go (a temporary folder).
"""

# %% What to export: daily freeze rates of the project by country, and the worst calls by country and SDK.
import asyncio
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from agora_analytics import AnalyticsClient, Breakdown, Insight, Selection
from agora_analytics.catalogue import Dimension, FreezeMetric, Product, QualityMetric

DAYS = float(os.environ.get("DAYS", "7"))
REQUESTS = int(os.environ.get("REQUESTS", "300"))
FOLDER = Path(os.environ.get("FOLDER") or tempfile.mkdtemp())

end = datetime.now(UTC)
start = end - timedelta(days=DAYS)
by_country = Insight(QualityMetric.AUDIO_FREEZE_RATE, product=Product.NATIVE, dimension=Dimension.COUNTRY)
week = Selection(start, end, datasets=("insights",), insights=[by_country])
calls = Selection(
    start,
    end,
    datasets=("calls", "statistics"),
    statistics=[Breakdown(FreezeMetric.AUDIO, by) for by in (Dimension.COUNTRY, Dimension.SDK)],
)


# %% Export the worst calls first, with a limit on requests: lists are cheap, details are expensive.
async def export() -> None:
    """Export both selections."""
    async with AnalyticsClient.from_env() as client:
        print(await client.export.run(week, FOLDER / "week"))
        print(await client.export.run(calls, FOLDER / "calls", order="worst", max_requests=REQUESTS))


asyncio.run(export())
if not all(any(FOLDER.glob(f"{name}/**/*.parquet")) for name in ("week/insights", "calls/statistics")):
    raise SystemExit(
        "No usage, or no details of calls: see above what was skipped or is pending. If calls are pending, raise"
        " REQUESTS or lower DAYS: the lists of all calls are read before the details of the worst."
    )

# %% The country: the mean over its days, weighted by usage.
database = duckdb.connect()
insights = database.read_parquet(f"{FOLDER}/week/insights/**/*.parquet")
((country, rate),) = database.sql(
    """
    SELECT dimension_value, sum(value * coalesce(ref_usage, 1)) / sum(coalesce(ref_usage, 1)) AS rate
    FROM insights GROUP BY ALL ORDER BY rate DESC LIMIT 1
    """
).fetchall()
print(f"{country}: {rate:.2%} of the audio froze")

# %% The SDK: all users of the worst calls in which users of that country had freezes. The API splits a call by one
# dimension at a time, so this shows where to look and proves nothing.
statistics = database.read_parquet(f"{FOLDER}/calls/statistics/**/*.parquet")
rows = database.execute(
    """
    WITH there AS (
        SELECT call_id FROM statistics WHERE dimension = 'country' AND dimension_value = ? AND value > 0
    )
    SELECT dimension_value, sum(user_count) AS users, sum(value * user_count) / sum(user_count) AS rate
    FROM statistics JOIN there USING (call_id)
    WHERE dimension = 'sdk' AND value IS NOT NULL
    GROUP BY ALL ORDER BY rate DESC LIMIT 3
    """,
    [country],
).fetchall()
for sdk, users, rate in rows:
    print(f"  {sdk}: {rate:.2%}, {users} users")
