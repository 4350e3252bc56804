"""Counts each row that is written to the windows of a sink, so that one that was written twice shows."""

from __future__ import annotations

import asyncio

import attrs
from helpers.postgres_server import PostgresServer
from helpers.times import NOON

from agora_analytics import Checkpoint, Gap, Span
from agora_analytics.streams import PostgresSink


@attrs.frozen
class SinkAudit:
    """The tables of a sink with this prefix, which notes every write of a window."""

    server: PostgresServer
    prefix: str

    def start(self) -> None:
        """Create the tables, empty, and the trigger."""
        asyncio.run(self._create())
        name = self.prefix
        self.server.run(f"truncate {name}_checkpoints, {name}_gaps")
        self.server.run(f"create table {name}_audit (ts timestamptz)")
        self.server.run(
            f"create function {name}_note() returns trigger language plpgsql as "
            f"$$ begin insert into {name}_audit values (new.ts); return new; end $$"
        )
        self.server.run(
            f"create trigger note before insert or update on {name}_windows for each row execute function {name}_note()"
        )

    def written(self) -> list[int]:
        """Return the windows of all writes, in order."""
        found = self.server.run(f"select extract(epoch from ts)::bigint from {self.prefix}_audit order by 1")
        return [ts for (ts,) in found]

    async def _create(self) -> None:
        async with PostgresSink(self.server.url, "prod", prefix=self.prefix) as sink:
            await sink.write(Gap(span=Span(NOON, NOON + 20)), Checkpoint(stream="watch"))
