"""Which country had the worst audio last week, and on which SDK? Exported to Parquet, answered by DuckDB.

Needs `pip install "agora-analytics[duckdb,parquet]"`, and the variables that the README lists. Cells as in a notebook;
run it again and it asks only for what is new.
"""

# %% What to export: freeze rates of the project by country, day by day, and the worst calls by country and SDK.
import asyncio
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from agora_analytics import AnalyticsClient, Breakdown, Insight, Selection
from agora_analytics.catalogue import Dimension, FreezeMetric, Product, QualityMetric

DAYS = float(os.environ.get("DAYS", "7"))
REQUESTS = int(os.environ.get("REQUESTS", "60"))
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


# %% Export, the worst calls first, with a budget: lists are cheap, details are dear.
async def export() -> None:
    """Fetch both selections."""
    async with AnalyticsClient.from_env() as client:
        print(await client.export.run(week, FOLDER / "week"))
        print(await client.export.run(calls, FOLDER / "calls", order="worst", max_requests=REQUESTS))


asyncio.run(export())
if not all(any(FOLDER.glob(f"{name}/**/*.parquet")) for name in ("week/insights", "calls/statistics")):
    raise SystemExit("Nobody was there, or no call could be looked into: see what was left out above.")

# %% The country: the mean of its days, each by the usage that it rests on.
database = duckdb.connect()
insights = database.read_parquet(f"{FOLDER}/week/insights/**/*.parquet")
((country, rate),) = database.sql(
    """
    SELECT dimension_value, sum(value * coalesce(ref_usage, 1)) / sum(coalesce(ref_usage, 1)) AS rate
    FROM insights GROUP BY ALL ORDER BY rate DESC LIMIT 1
    """
).fetchall()
print(f"{country}: {rate:.2%} of the audio froze")

# %% The SDK: of the worst calls in which that country's users froze, by all their users. The API splits a call by one
# dimension at a time, so this is where to look, and no proof.
statistics = database.read_parquet(f"{FOLDER}/calls/statistics/**/*.parquet")
found = database.execute(
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
for sdk, users, froze in found:
    print(f"  {sdk}: {froze:.2%}, {users} users")
