"""Write real-time windows to an SQLite table, each exactly once, however this program ends.

One transaction writes the window and the checkpoint, so after a crash the next run resumes with the next window.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import aclosing, closing
from datetime import timedelta

from agora_analytics import AnalyticsClient, Checkpoint, Series, Window

USERS = Series("userCount", product="Native")


async def main(path: str = ":memory:", windows: str = "20", minutes: str = "10") -> None:
    """Watch this many windows, from this many minutes ago or from where the table ends."""
    remaining = int(windows)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS users (ts INTEGER PRIMARY KEY, count INTEGER)")
        database.execute("CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY CHECK (id = 1), checkpoint TEXT)")
        saved = database.execute("SELECT checkpoint FROM position").fetchone()
        checkpoint = Checkpoint.decode(saved[0]) if saved else None
        async with AnalyticsClient.from_env() as client:
            start = timedelta(minutes=int(minutes))
            watch = client.realtime.watch(USERS, start=start, checkpoint=checkpoint, revisions=False)
            async with aclosing(watch):
                async for event in watch:
                    if isinstance(event, Window):
                        remaining -= 1
                        database.execute("BEGIN")
                        database.execute("INSERT INTO users VALUES (?, ?)", (event.ts, event.value(USERS)))
                        database.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (watch.checkpoint.encode(),))
                        database.execute("COMMIT")
                        print(event.ts, event.value(USERS), flush=True)
                    if not remaining:
                        watch.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
