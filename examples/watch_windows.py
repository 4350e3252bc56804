"""Watch real-time windows into a table of SQLite, each exactly once, whatever ends this program.

The window and the checkpoint are written in one transaction: after a crash it goes on with the next window.
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
    """Watch so many windows from so many minutes ago on, or from where the table ends."""
    left = int(windows)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS users (ts INTEGER PRIMARY KEY, count INTEGER)")
        database.execute("CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), checkpoint TEXT)")
        found = database.execute("SELECT checkpoint FROM place").fetchone()
        place = Checkpoint.decode(found[0]) if found else None
        async with AnalyticsClient.from_env() as client:
            start = timedelta(minutes=int(minutes))
            watch = client.realtime.watch(USERS, start=start, checkpoint=place, revisions=False)
            async with aclosing(watch):
                async for event in watch:
                    if isinstance(event, Window):
                        left -= 1
                        database.execute("BEGIN")
                        database.execute("INSERT INTO users VALUES (?, ?)", (event.ts, event.value(USERS)))
                        database.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (watch.checkpoint.encode(),))
                        database.execute("COMMIT")
                        print(event.ts, event.value(USERS), flush=True)
                    if not left:
                        watch.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
